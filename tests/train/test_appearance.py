import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from medjax.data.convention import IGNORE
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.data.prepare import Scan
from medjax.errors import UserError
from medjax.space.volume import Volume
from medjax.train import appearance

BRATS = CONVENTIONS["brats2018"]
GRID = (60, 80, 50)
NAMES = ("background", "oedema", "necrosis", "enhancing")


def ball(centre, radius, shape=GRID):
    far = np.sqrt(sum((g - c) ** 2 for g, c in zip(np.indices(shape), centre, strict=True)))
    return far < radius


def head(*, seed=0, channels=1, label=True, spacing=1.0, oedema=2.0):
    """A ball of noise with a brighter ball of oedema around a core in it."""
    generator = np.random.default_rng(seed)
    brain, halo, core = ball((30, 40, 25), 22), ball((36, 44, 25), 9), ball((36, 44, 25), 4)
    image = generator.normal(100, 10, (*GRID, channels)) + 10 * oedema * halo[..., None]
    image = (image * brain[..., None]).astype(np.float32)
    classes = halo.astype(np.uint8) * 2  # class indices: 2 is oedema, 1 necrosis
    classes[core] = 1
    affine = np.diag([spacing, spacing, spacing, 1.0])
    _, way = Volume(image[..., 0], affine).canonical()
    return Scan(image, classes if label else None, affine, (spacing,) * 3, way)


def looked(scan):
    own = appearance.brain(scan, BRATS, "one")
    channels = [f"c{i}" for i in range(scan.image.shape[-1])]
    return appearance.figures(own, appearance.regrid(own), channels, NAMES)


def test_conventions_agree_on_what_the_same_regions_hold():
    """The non-enhancing core of 2015 is a part of what later sets call necrosis."""
    old, new = CONVENTIONS["brats2015"], CONVENTIONS["brats2023"]
    files = np.array([0, 1, 2, 3, 4], np.uint8).reshape(5, 1, 1)
    as_new = np.array([0, 1, 2, 1, 3], np.uint8).reshape(5, 1, 1)
    first, names = appearance.painted(old.encode(files), old)
    second, other = appearance.painted(new.encode(as_new), new)
    assert names == other == NAMES
    np.testing.assert_array_equal(first, second)


def test_classes_stay_and_ignored_voxels_are_background():
    label = np.array([0, 1, 2, 3, IGNORE], np.uint8).reshape(5, 1, 1)
    found, names = appearance.painted(label, CONVENTIONS["acdc"])
    assert found.ravel().tolist() == [0, 1, 2, 3, 0]
    assert names == CONVENTIONS["acdc"].classes


def test_a_brain_is_cropped_and_has_mean_0_and_deviation_1():
    found = appearance.brain(head(channels=2), BRATS, "one")
    assert found.mask.shape == (43, 43, 43)
    for channel in np.moveaxis(found.image, -1, 0):
        assert channel[found.mask].mean() == pytest.approx(0, abs=1e-4)
        assert channel[found.mask].std() == pytest.approx(1, abs=1e-4)
        assert not channel[~found.mask].any()


@pytest.mark.parametrize(("value", "said"), [(0.0, "remove the case"), (math.nan, "case one")])
def test_what_cannot_be_looked_at_is_named(value, said):
    scan = head()
    scan.image[...] = value
    with pytest.raises(UserError, match=said):
        appearance.brain(scan, BRATS, "one")


def test_halving_the_resolution_is_the_mean_of_eight_voxels():
    image = np.random.default_rng(0).normal(size=(8, 6, 4, 1)).astype(np.float32)
    mask = np.ones(image.shape[:3], bool)
    found = appearance.regrid(appearance.Brain(image, mask, None, (1.0, 1.0, 1.0)))
    expected = image.reshape(4, 2, 3, 2, 2, 2, 1).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(found.image, expected, atol=1e-5)
    assert found.spacing == (2.0, 2.0, 2.0)


@pytest.mark.parametrize("shape", [(20, 24), (43, 43), (64, 70)])
def test_slices_show_the_middle_of_the_brain(shape):
    found = appearance.brain(head(), BRATS, "one")
    slices = appearance.slices(found, most=10, shape=shape)
    assert slices.shape == (10, *shape, 1)
    area = (slices != 0).sum(axis=(1, 2, 3))
    if shape[0] > 43:
        assert area.min() >= 0.2 * area.max()
    largest = slices[area.argmax(), ..., 0] != 0
    for axis in (0, 1):
        places = np.flatnonzero(largest.any(axis=axis))
        assert abs(places.mean() - (largest.shape[1 - axis] - 1) / 2) <= 0.5


def test_fewer_slices_than_allowed_are_all_there_once():
    found = appearance.brain(head(), BRATS, "one")
    assert len(appearance.slices(found, most=500)) < found.mask.shape[2]


def test_figures_know_nothing_of_the_scanners_units():
    scan = head()
    one, other = looked(scan), looked(replace(scan, image=scan.image * 7))
    assert one.keys() == other.keys()
    np.testing.assert_allclose(list(one.values()), list(other.values()), atol=1e-4)


def test_volumes_are_in_ml():
    one, large = looked(head()), looked(head(spacing=2.0))
    assert one["volume of brain"] == pytest.approx(ball((30, 40, 25), 22).sum() / 1000)
    assert one["volume of lesion"] == pytest.approx(ball((36, 44, 25), 9).sum() / 1000)
    assert one["volume of oedema"] + one["volume of necrosis"] == one["volume of lesion"]
    assert one["volume of enhancing"] == 0
    for name in ("brain", "lesion", "oedema"):
        assert large[f"volume of {name}"] == pytest.approx(8 * one[f"volume of {name}"])


def test_contrasts_follow_the_lesion():
    faint, strong = looked(head(oedema=1.0)), looked(head(oedema=4.0))
    assert 0 < faint["c0: contrast of oedema"] < strong["c0: contrast of oedema"]
    assert math.isnan(faint["c0: contrast of enhancing"])
    assert abs(looked(head(oedema=0.0))["c0: contrast of oedema"]) < 0.1


@pytest.mark.parametrize("axis", range(3))
def test_thick_slices_are_seen_along_their_axis(axis):
    scan = head(oedema=0.0)
    brain = scan.image != 0
    smooth = ndimage.gaussian_filter1d(scan.image, 2.0, axis)
    before, after = looked(scan), looked(replace(scan, image=np.where(brain, smooth, 0)))
    names = [f"c0: detail along {name}, 1 mm" for name in appearance.AXES]
    kept = np.array([after[name] / before[name] for name in names])
    assert kept.argmin() == axis
    assert kept[axis] < 0.5 * np.delete(kept, axis).min()


def test_bright_and_dark_spots_are_seen_where_they_are():
    scan = head(oedema=0.0)
    brain = scan.image[..., 0] != 0
    rim = brain & ~ndimage.binary_erosion(brain, iterations=3)
    image = scan.image.copy()
    image[rim & (np.indices(GRID)[0] > 45)] = 180
    bright = looked(replace(scan, image=image))
    assert bright["c0: bright rim"] > 0.1 > 10 * bright["c0: bright inside"]
    image = scan.image.copy()
    image[ball((24, 30, 25), 5)] = 20
    dark = looked(replace(scan, image=image))
    assert dark["c0: dark inside"] > 5 * looked(scan)["c0: dark inside"]


def test_without_a_label_there_is_no_lesion():
    found = looked(head(label=False))
    assert not [name for name in found if "lesion" in name or "oedema" in name]
    assert "c0: skewness" in found


def test_what_differs_most_comes_first():
    values = np.linspace(-1, 1, 9)
    real = [{"same": v, "far": v, "gone": math.nan, "own": 1.0} for v in values[:-1]]
    made = [{"same": v, "far": v - 5, "gone": 1.0} for v in values]
    rows = appearance.differences(real, made)
    assert [row["figure"] for row in rows] == ["far", "same"]
    assert rows[0]["auc"] == 0
    assert rows[0]["difference"] < -3
    assert abs(rows[1]["difference"]) < 1.5
    assert (rows[0]["real"]["n"], rows[0]["made"]["n"]) == (8, 9)
    assert rows[1]["real"]["sd"] == pytest.approx(np.std([r["same"] for r in real], ddof=1))


def test_one_patient_or_no_spread_has_no_difference():
    (row,) = appearance.differences([{"a": 1.0}], [{"a": 2.0}, {"a": 2.0}])
    assert math.isnan(row["difference"])
    assert row["auc"] == 1
    (row,) = appearance.differences([{"a": 1.0}] * 2, [{"a": 2.0}] * 2)
    assert math.isnan(row["difference"])


def test_a_patient_is_the_mean_of_its_scans():
    found = appearance.average([{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": 4.0}, {"a": 2.0}])
    assert found == {"a": 2.0, "b": 4.0}
