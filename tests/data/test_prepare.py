"""Files to network arrays and back: every orientation, crop and spacing returns to its own grid."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from medjax.data import cache
from medjax.data.cases import Case, Dataset
from medjax.data.convention import IGNORE, Convention, Region
from medjax.data.fingerprint import fingerprint
from medjax.data.patches import crop_labels
from medjax.data.plan import make_plan
from medjax.data.prepare import Geometry, load, nonzero_box, prepare
from medjax.errors import UserError
from medjax.infer import restore
from medjax.infer.restore import channel_masks, restore_channel, restore_labels
from medjax.space.resample import resample_image

THREE = Convention("three", {0: "background", 1: "one", 4: "two"})


def saved(path, array, affine, codes="RAS"):
    """Writes an array given in RAS order under another orientation, voxels staying where they are."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    turned = nib.orientations.apply_orientation(array, turn)
    nib.save(nib.Nifti1Image(turned, affine @ inv_ornt_aff(turn, array.shape[:3])), path)
    return str(path)


def case_of(folder, shape=(14, 12, 10), spacing=(1.0, 1.0, 1.0), codes="RAS", border=2):
    rng = np.random.default_rng(0)
    label = np.zeros(shape, np.uint8)
    label[4:9, 3:8, 3:7], label[5:7, 4:6, 4:6] = 1, 4
    image = (rng.normal(10, 1, shape) + 5 * label).astype(np.float32)
    mask = np.zeros(shape, bool)
    mask[border : shape[0] - border, border:, :-border] = True
    image[~mask] = 0
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = (-20, 7, 3)
    folder.mkdir(exist_ok=True)
    return Case(
        "case",
        "case",
        (saved(folder / "image.nii.gz", image, affine, codes),),
        saved(folder / "label.nii.gz", label, affine, codes),
    )


def planned(case):
    dataset = Dataset("d", "plain", (case,), ("mr",), THREE)
    return make_plan(fingerprint([case], dataset), dataset, memory_gb=0.1, width=4, stages=2)


def few_drawn(case):
    """The case without class two, which is said not to be drawn."""
    image = nib.load(case.label)
    array = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.where(array == 4, 0, array), image.affine), case.label)
    return replace(case, drawn=("one",))


def prepared(scan, spacing, axes=(2, 1, 0), coarse_axis=None, scheme="none"):
    return prepare(
        scan,
        spacing=spacing,
        axes=axes,
        coarse_axis=coarse_axis,
        normalisation=({"scheme": scheme},),
        name="case",
    )


@pytest.mark.parametrize("codes", ["RAS", "LPS", "LIA", "PSR"])
def test_orientation_on_disk_does_not_matter(tmp_path, codes):
    reference = load(case_of(tmp_path / "ras"), THREE, 1)
    scan = load(case_of(tmp_path / "other", codes=codes), THREE, 1)
    np.testing.assert_array_equal(scan.image, reference.image)
    np.testing.assert_array_equal(scan.label, reference.label)
    np.testing.assert_allclose(scan.affine, reference.affine, atol=1e-6)


def test_without_resampling_only_crop_and_axes_change(tmp_path):
    scan = load(case_of(tmp_path), THREE, 1)
    image, label, geometry = prepared(scan, (1.0, 1.0, 1.0))
    box = geometry.box
    np.testing.assert_array_equal(image, scan.image[box].transpose(2, 1, 0, 3))
    np.testing.assert_array_equal(label, scan.label[box].transpose(2, 1, 0))
    assert (scan.image[..., 0] != 0).sum() == (image != 0).sum()


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1), (1, 2, 0)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.7, 0.5, 1.0)])
def test_labels_go_to_the_network_grid_and_back(tmp_path, axes, spacing):
    scan = load(case_of(tmp_path), THREE, 1)
    _, label, geometry = prepared(scan, spacing, axes)
    once = np.stack([label == k for k in range(3)], -1).astype(np.float32)
    back = restore_labels(once, geometry, THREE)
    assert back.shape == scan.label.shape
    if spacing == (1.0, 1.0, 1.0):
        np.testing.assert_array_equal(back, scan.label)
    a, b = back > 0, scan.label > 0
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.8


def test_a_point_stays_at_its_place_in_the_world(tmp_path):
    """A blob's centre of mass survives resampling and the way back to a tenth of a voxel."""
    shape = (30, 24, 20)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    blob = np.exp(-((grid - (13, 11, 9)) ** 2).sum(-1) / 18).astype(np.float32) + 0.001
    affine = np.diag([0.8, 1.1, 2.5, 1.0])
    path = saved(tmp_path / "blob.nii.gz", blob, affine, "LPS")
    scan = load(Case("b", "b", (path,), None), THREE, 1)
    image, _, geometry = prepared(scan, (1.3, 1.3, 1.3))
    back = restore_channel(image[..., 0], geometry)
    peak = [(grid[..., axis] * back).sum() / back.sum() for axis in range(3)]
    start = [(grid[..., axis] * blob).sum() / blob.sum() for axis in range(3)]
    np.testing.assert_allclose(peak, start, atol=0.1)


def test_outside_the_crop_lies_background(tmp_path):
    scan = load(case_of(tmp_path), THREE, 1)
    image, _, geometry = prepared(scan, (1.0, 1.0, 1.0))
    certain = np.zeros((*image.shape[:3], 3), np.float32)
    certain[..., 1] = 1
    labels = restore_labels(certain, geometry, THREE)
    assert (labels == 1).sum() == image[..., 0].size
    assert set(np.unique(labels)) == {0, 1}


@pytest.mark.parametrize("axes", [(2, 1, 0), (0, 2, 1), (1, 2, 0)])
@pytest.mark.parametrize("coarse", [None, 0, 2])
@pytest.mark.parametrize("regions", [False, True])
def test_slab_after_slab_is_the_whole_resampled_at_once(
    tmp_path, axes, coarse, regions, monkeypatch
):
    """The plain way back: each channel whole, then the decision."""
    turn = load(case_of(tmp_path), THREE, 1).orientation
    rng, shape, box = np.random.default_rng(0), (15, 13, 11), np.s_[2:14, 0:13, 1:10]
    geometry = Geometry(shape, box, axes, coarse, turn)
    found = rng.random((7, 9, 5, 3)).astype(np.float32)
    size = [(12, 13, 9)[axis] for axis in axes]
    inner = resample_image(found, tuple(size), order=1, coarse_axis=coarse)
    whole = np.zeros((*shape, 3), np.float32)
    whole[box] = inner.transpose(*np.argsort(axes), 3)
    areas = [Region(name, (name,), name) for name in ("one", "two", "three")]
    names = {0: "background", 1: "one", 4: "two", 5: "three"}
    convention = Convention("r", names, tuple(areas)) if regions else THREE
    expected = convention.paint(whole > 0.5) if regions else whole.argmax(-1)
    for slab in (1, 3 * size[1] * size[2], 10**6):
        monkeypatch.setattr(restore, "SLAB", slab)
        np.testing.assert_array_equal(restore_labels(found, geometry, convention), expected)
        np.testing.assert_allclose(
            restore_channel(found[..., 1], geometry), whole[..., 1], atol=1e-6
        )


def test_regions_are_painted_in_order_and_read_back():
    names = ("background", "core", "oedema")
    convention = Convention(
        "r",
        dict(enumerate(names)),
        (Region("whole", ("core", "oedema"), "oedema"), Region("core", ("core",), "core")),
    )
    labels = convention.paint(np.array([[[[0, 0], [1, 0], [1, 1]]]], bool))
    assert labels.ravel().tolist() == [0, 2, 1]
    masks = channel_masks(labels, convention)
    assert masks["whole"].ravel().tolist() == [False, True, True]
    assert masks["core"].ravel().tolist() == [False, False, True]


def test_the_box_of_an_empty_image_is_everything():
    box = nonzero_box(np.zeros((3, 4, 5, 1), np.float32))
    assert [s.stop - s.start for s in box] == [3, 4, 5]


def test_a_lost_spacing_is_given_and_a_stated_one_is_not_overruled(tmp_path):
    lost = case_of(tmp_path / "lost")
    assert load(lost, THREE, 1, spacing=(1.5, 1.5, 10.0)).spacing == (1.5, 1.5, 10.0)
    stated = case_of(tmp_path / "stated", spacing=(0.7, 0.7, 3.0))
    assert load(stated, THREE, 1).spacing == pytest.approx((0.7, 0.7, 3.0))
    with pytest.raises(UserError, match=r"image\.nii\.gz.*data\.spacing"):
        load(stated, THREE, 1, spacing=(1.5, 1.5, 10.0))


def test_what_does_not_fit_together_is_named(tmp_path):
    case = case_of(tmp_path)
    other = case_of(tmp_path / "other", shape=(14, 12, 11))
    with pytest.raises(UserError, match=r"other.*shape"):
        load(Case("c", "c", case.images, other.label), THREE, 1)
    shifted = nib.load(case.label)
    affine = shifted.affine.copy()
    affine[0, 3] += 0.5
    moved = str(tmp_path / "moved.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(shifted.dataobj), affine), moved)
    with pytest.raises(UserError, match=r"moved.*0\.5 mm"):
        load(Case("c", "c", case.images, moved), THREE, 1)
    with pytest.raises(UserError, match="1 channels where the data set has 2"):
        load(case, THREE, 2)
    strict = Convention("strict", {0: "background", 1: "one"})
    with pytest.raises(UserError, match=r"label\.nii\.gz.*4"):
        load(case, strict, 1)


def test_voxels_that_are_not_finite_name_case_and_channel(tmp_path):
    case = case_of(tmp_path)
    image = nib.load(case.images[0])
    bad = image.get_fdata()
    bad[7, 6, 4] = np.nan
    nib.save(nib.Nifti1Image(bad, image.affine), case.images[0])
    with pytest.raises(UserError, match="case case, channel 0"):
        prepared(load(case, THREE, 1), (1.0, 1.0, 1.0), scheme="zscore")


def test_the_cache_holds_what_prepare_gives_and_is_built_once(tmp_path):
    case = case_of(tmp_path / "data")
    plan = planned(case)
    (folder,) = cache.build([case], plan, tmp_path / "cache")
    stamp = (folder / "image.npy").stat().st_mtime_ns
    found = cache.open_cached(folder)
    image, label, _ = prepare(
        load(case, THREE, 1),
        spacing=plan.spacing,
        axes=plan.axes,
        coarse_axis=plan.coarse_axis,
        normalisation=plan.normalisation,
        name="case",
    )
    np.testing.assert_array_equal(found.image, image)
    np.testing.assert_array_equal(found.label, label)
    assert set(found.places) == {1, 2}
    assert isinstance(found.image, np.memmap)
    assert cache.build([case], plan, tmp_path / "cache") == [folder]
    assert (folder / "image.npy").stat().st_mtime_ns == stamp
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [folder.name]
    whole = (folder / "image.npy").read_bytes()
    (folder / "image.npy").write_bytes(whole[:-1])
    with pytest.warns(UserWarning, match="it is prepared anew"):
        assert cache.build([case], plan, tmp_path / "cache") == [folder]
    assert (folder / "image.npy").read_bytes() == whole
    case_of(tmp_path / "data", border=3)  # other voxels under the same name
    assert cache.build([case], plan, tmp_path / "cache") != [folder]


def test_without_a_label_every_voxel_is_ignored(tmp_path):
    case = case_of(tmp_path / "data")
    plan = planned(case)
    labelled, bare = cache.build([case, replace(case, label=None)], plan, tmp_path / "cache")
    assert labelled != bare
    found, known = cache.open_cached(bare), cache.open_cached(labelled)
    assert found.label.shape == known.label.shape
    assert (found.label == IGNORE).all()
    assert not found.places
    np.testing.assert_array_equal(found.image, known.image)


def test_the_background_where_few_classes_were_drawn_is_marked_and_padding_is_not(tmp_path):
    case = few_drawn(case_of(tmp_path / "data"))
    plan = planned(case)
    told = replace(plan.labels, partial=(("one",),))
    plan = replace(plan, convention=told.to_dict())
    folders = cache.build([replace(case, drawn=None), case], plan, tmp_path / "cache")
    whole, some = map(cache.open_cached, folders)
    np.testing.assert_array_equal(some.label, np.where(whole.label == 0, 3, whole.label))
    assert set(some.places) == {1}
    window = np.zeros((4, 4, 4), np.uint8)
    crop_labels(some.label, (-2, 0, 0), window.shape, window)
    assert (window[:2] == 0).all()
    assert (window[2:] == 3).all()


def test_a_class_in_a_label_map_in_which_it_is_said_not_to_be_drawn_is_refused(tmp_path):
    case = replace(case_of(tmp_path), drawn=("one",))
    with pytest.raises(
        UserError, match=r"label\.nii\.gz: holds two, not drawn by drawn\.csv; correct"
    ):
        load(case, THREE, 1)


def test_the_fingerprint_reads_what_is_under_the_label(tmp_path):
    case = case_of(tmp_path, spacing=(0.7, 0.7, 3.0))
    dataset = Dataset("d", "plain", (case,), ("mr",), THREE)
    found = fingerprint([case], dataset)
    scan = load(case, THREE, 1)
    under = scan.image[..., 0][scan.label > 0]
    assert found.intensities[0]["mean"] == pytest.approx(float(under.mean()), rel=1e-5)
    assert found.intensities[0]["std"] == pytest.approx(float(under.std()), rel=1e-4)
    assert found.spacings[0] == pytest.approx((0.7, 0.7, 3.0))
    assert found.shapes[0] == (10, 10, 8)
    assert found.kept == pytest.approx(800 / 1680)


def test_ct_is_planned_in_hu(shared):
    folder = shared / "spleen_crop"
    image, label = folder / "spleen_2_ct.nii.gz", folder / "spleen_2_seg.nii.gz"
    binary = Convention("binary", {0: "background", 1: "spleen"})
    case = Case("spleen_2", "spleen_2", (str(image),), str(label))
    dataset = Dataset("spleen", "plain", (case,), ("image",), binary)
    plan = make_plan(fingerprint([case], dataset), dataset, memory_gb=0.5, width=4, stages=3)
    scheme = plan.normalisation[0]
    assert scheme["scheme"] == "ct"
    assert -200 < scheme["clip"][0] < scheme["mean"] < scheme["clip"][1] < 400
