import json

import numpy as np
import pytest

from medjax.errors import UserError
from medjax.sim.anatomy import sample_deformation, subject_tissue
from medjax.sim.phantom import bias_field, jitter_tissues, phantom, rician
from medjax.sim.signal import CONTRASTS, tissues

SPACING = 3.0


@pytest.fixture(scope="module", params=[1.5, 3.0])
def family(request):
    """Four subjects at one field strength, and their healthy tissue."""
    made = []
    for index in range(4):
        stream = np.random.SeedSequence(7, spawn_key=(index,)).spawn(4)[0]
        tissue = subject_tissue(sample_deformation(np.random.default_rng(stream)), SPACING)
        made.append((tissue, phantom(7, index, spacing=SPACING, field=request.param)))
    return made


def test_background_is_zero_and_the_brain_is_not(family):
    for tissue, subject in family:
        assert subject.image.dtype == np.int16
        brain = tissue.sum(axis=-1) > 0
        for c in range(4):
            assert np.array_equal(subject.image[..., c] > 0, brain)
        assert set(np.unique(subject.labels)) == {0, 1, 2, 3}


def test_images_rank_the_tissues(family):
    """Over subjects, as each has its own tissue values: the order of the median subject."""
    rows = []
    for tissue, subject in family:
        healthy = subject.labels == 0
        zones = {
            name: (tissue[..., c] > 0.9) & healthy for c, name in enumerate(("csf", "gm", "wm"))
        } | {"necrosis": subject.labels == 1, "oedema": subject.labels == 2}
        zones["enhancing"] = subject.labels == 3
        medians = {name: np.median(subject.image[zone], axis=0) for name, zone in zones.items()}
        rows.append({name: value / medians["wm"] for name, value in medians.items()})
    t1, gd, t2, flair = (
        {name: np.median([row[name][c] for row in rows]) for name in rows[0]} for c in range(4)
    )
    assert t1["wm"] > t1["gm"] > t1["csf"]
    assert t1["oedema"] < t1["wm"]
    assert gd["enhancing"] > gd["wm"] > gd["gm"] > gd["necrosis"]
    assert t2["csf"] > t2["necrosis"] > t2["oedema"] > t2["gm"] > t2["wm"]
    assert t2["csf"] > t2["enhancing"] > t2["gm"]
    assert flair["oedema"] > flair["gm"] > flair["wm"] > flair["csf"]
    assert flair["csf"] < 0.35


def test_flair_alone_does_not_tell_oedema_from_grey_matter(family):
    overlap = []  # oedema that is no brighter than the brightest grey matter
    for tissue, subject in family:
        flair = subject.image[..., CONTRASTS.index("FLAIR")]
        grey = flair[(tissue[..., 1] > 0.8) & (subject.labels == 0)]
        oedema = flair[subject.labels == 2]
        overlap.append(np.mean(oedema < np.percentile(grey, 99)))
    assert 0.002 < np.mean(overlap) < 0.4  # 0.12 to 0.41 in six real cases, all tissue


def test_the_same_arguments_give_the_same_bits():
    first, again = (phantom(3, 5, spacing=4.0) for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert first.parameters == again.parameters


def test_every_index_and_seed_is_another_subject():
    subjects = [phantom(seed, index, spacing=4.0) for seed in (0, 1) for index in (0, 1)]
    for i, one in enumerate(subjects):
        for other in subjects[:i]:
            assert one.parameters["tumour"]["centre_mm"] != other.parameters["tumour"]["centre_mm"]
            assert np.mean(one.image != other.image) > 0.2
            scales = [
                {name: part.parameters["channels"][name]["scale"] for name in CONTRASTS}
                for part in (one, other)
            ]
            assert not set(scales[0].values()) & set(scales[1].values())


def test_field_strength_changes_the_signal_and_not_the_subject():
    weak, strong = (phantom(0, 0, spacing=4.0, field=field) for field in (1.5, 3.0))
    assert np.array_equal(weak.labels, strong.labels)
    assert not np.array_equal(weak.image, strong.image)


def test_parameters_are_plain():
    parameters = phantom(0, 0, spacing=4.0).parameters
    assert json.loads(json.dumps(parameters)) == parameters


def test_bad_arguments():
    with pytest.raises(UserError, match="field=2"):
        phantom(0, 0, spacing=4.0, field=2.0)
    with pytest.raises(UserError, match="spacing=20"):
        phantom(0, 0, spacing=20.0)


def test_tissue_values_stay_in_their_range():
    table = tissues(3.0)
    for seed in range(50):
        drawn = jitter_tissues(np.random.default_rng(seed), table)
        for name, tissue in table.items():
            width = 0.05 if name in ("csf", "gm", "wm") else 0.15
            factors = np.array(drawn[name]) / np.array(tissue)
            assert (np.abs(np.log(factors)) <= width + 1e-9).all()
            assert factors.std() > 0
            assert (drawn[name].t1 == drawn[name].t1_gd) == (tissue.t1 == tissue.t1_gd)


def test_bias_field_fills_its_range():
    rng = np.random.default_rng(0)
    brain = np.zeros((40, 40, 40), bool)
    brain[5:-5, 8:-8, 5:-5] = True
    bias = bias_field(rng, brain, 4.0, 0.1)
    assert bias[brain].min() == pytest.approx(0.9, abs=1e-5)
    assert bias[brain].max() == pytest.approx(1.1, abs=1e-5)
    assert max(np.abs(np.diff(bias, axis=axis)).max() for axis in range(3)) < 0.03


def test_noise_is_rician():
    rng = np.random.default_rng(0)
    background = rician(rng, np.zeros((60, 60, 60), np.float32), 0.1)
    assert background.mean() == pytest.approx(0.1253, rel=0.01)
    assert background.std() == pytest.approx(0.0655, rel=0.01)
    bright = rician(rng, np.ones((60, 60, 60), np.float32), 0.1)
    assert bright.mean() - 1 == pytest.approx(0.1**2 / 2, rel=0.2)
    assert bright.std() == pytest.approx(0.1, rel=0.02)
    signal = np.linspace(0, 1, 8, dtype=np.float32)
    np.testing.assert_allclose(rician(rng, signal, 0.0), signal)
