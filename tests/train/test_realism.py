import numpy as np
import pytest

from medjax.train.realism import assign, tell_apart

SHAPE = (24, 32, 1)
QUICK = {"steps": 40, "batch": 16, "repeats": 1}


def patients(count, seed, *, own=1.0, mark=0.0):
    """Each with a pattern of its `own` in all its slices, which a network can learn by heart."""
    generator = np.random.default_rng(seed)
    own = own * generator.normal(size=(count, 1, *SHAPE))
    slices = own + 0.3 * generator.normal(size=(count, 6, *SHAPE))
    slices[:, :, 4:8, 4:8] += mark
    return list(slices.astype(np.float32))


@pytest.mark.parametrize(("real", "made", "folds"), [(6, 24, 3), (7, 5, 2), (3, 3, 3), (2, 9, 2)])
def test_folds_hold_both_kinds_and_every_patient_once(real, made, folds):
    fold = assign(real, made, folds=folds, seed=0)
    for part in (fold[:real], fold[real:]):
        sizes = np.bincount(part, minlength=folds)
        assert sizes.min() >= 1
        assert np.ptp(sizes) <= 1
    others = [assign(real, made, folds=folds, seed=seed) for seed in range(9)]
    assert any((other != fold).any() for other in others)


def test_sets_of_one_distribution_cannot_be_told_apart():
    found = tell_apart(patients(9, 0), patients(9, 1), **QUICK)
    for interval in (found.patients, found.slices):
        assert interval.low < 0.5 < interval.high


def test_a_patient_in_both_parts_would_be_found_out():
    """The twin of the test above: with a second self in the other folds, they can."""
    real, made = patients(9, 0) * 3, patients(9, 1) * 3
    assert tell_apart(real, made, **QUICK).patients.mean > 0.9


def test_faint_texture_is_found():
    """Noise of 0.1 on one set, below a pattern of 1 that all have."""
    pattern = np.random.default_rng(9).normal(size=SHAPE).astype(np.float32)
    smooth = [np.repeat(pattern[None], 6, axis=0) for _ in range(6)]
    generator = np.random.default_rng(3)
    rough = [s + 0.1 * generator.normal(size=s.shape).astype(np.float32) for s in smooth]
    assert tell_apart(smooth, rough, **QUICK).patients.mean > 0.95


def test_a_mark_on_all_synthetic_slices_is_found():
    real, made = patients(5, 0, own=0.0), patients(7, 1, own=0.0, mark=2.0)
    calls = []
    found = tell_apart(real, made, **QUICK, progress=lambda *call: calls.append(call))
    assert found.patients.mean > 0.95
    assert found.slices.mean > 0.95
    assert found.patients.n == found.slices.n == 12
    assert found.real.mean() < 0 < found.made.mean()
    assert (found.real.size, found.made.size) == (5, 7)
    assert calls == [(i, 120) for i in range(1, 121)]
    assert found.settings == {"folds": 3, "repeats": 1, "steps": 40, "batch": 16}


@pytest.mark.long
def test_the_seed_decides_everything():
    real, made = patients(3, 0), patients(4, 1)
    quick = {"steps": 2, "batch": 4, "folds": 2}
    one, again, other = (tell_apart(real, made, **quick, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.made, again.made)
    assert one.patients == again.patients
    assert (one.made != other.made).any()


@pytest.mark.parametrize(("real", "made"), [(1, 5), (5, 1), (0, 0)])
def test_one_patient_is_too_few(real, made):
    with pytest.raises(ValueError, match="two patients"):
        tell_apart(patients(real, 0), patients(made, 1))


def test_a_patient_without_slices_is_refused():
    real = patients(2, 0)
    with pytest.raises(ValueError, match="slice"):
        tell_apart([real[0], real[1][:0]], patients(2, 1))
