import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medjax.space.tiling import gaussian_importance, window_starts


@st.composite
def cases(draw):
    patch = draw(st.tuples(*[st.integers(1, 8)] * 3))
    shape = tuple(p + draw(st.integers(0, 20)) for p in patch)
    return shape, patch, draw(st.floats(0, 0.95))


@given(cases())
def test_every_voxel_is_covered_and_the_last_window_is_flush(case):
    shape, patch, overlap = case
    starts = window_starts(shape, patch, overlap)
    assert len(set(starts)) == len(starts)
    assert starts[0] == (0, 0, 0)
    assert starts[-1] == tuple(n - p for n, p in zip(shape, patch, strict=True))
    covered = np.zeros(shape, bool)
    for x, y, z in starts:
        assert all(i + p <= n for i, p, n in zip((x, y, z), patch, shape, strict=True))
        covered[x : x + patch[0], y : y + patch[1], z : z + patch[2]] = True
    assert covered.all()


@given(st.integers(1, 8), st.integers(0, 60), st.sampled_from([0.0, 0.25, 0.5, 0.75]))
def test_steps_follow_the_rule_of_nnunet(patch, extra, overlap):
    n = patch + extra
    starts = [x for x, _, _ in window_starts((n, 1, 1), (patch, 1, 1), overlap)]
    target = max(patch * (1 - overlap), 1)
    assert len(starts) == math.ceil(extra / target) + 1
    steps = np.diff(starts)
    assert (steps <= math.ceil(target)).all()
    assert len(steps) == 0 or steps.max() - steps.min() <= 1  # evenly spaced


def test_order_and_known_example():
    assert window_starts((10, 4, 6), (4, 4, 4), 0.5) == [
        (x, 0, z) for x in (0, 2, 4, 6) for z in (0, 2)
    ]


@pytest.mark.parametrize(
    ("shape", "overlap"), [((4, 4, 3), 0.5), ((4, 4, 4), 1.0), ((4, 4, 4), -0.1)]
)
def test_impossible_windows_are_refused(shape, overlap):
    with pytest.raises(ValueError, match=r"does not fit|outside"):
        window_starts(shape, (4, 4, 4), overlap)


@given(st.tuples(*[st.integers(1, 12)] * 3), st.floats(0.005, 2))
def test_importance_is_symmetric_positive_and_1_at_most(patch, scale):
    weight = gaussian_importance(patch, scale)
    assert weight.dtype == np.float32
    assert weight.shape == patch
    assert weight.max() == 1
    assert weight.min() > 0
    np.testing.assert_allclose(weight, weight[::-1, ::-1, ::-1], rtol=1e-5)
    assert weight[tuple(n // 2 for n in patch)] == 1


def test_importance_has_the_given_width():
    weight = gaussian_importance((65, 1, 1), 1 / 8)[:, 0, 0]
    np.testing.assert_allclose(weight[32 + 8], np.exp(-0.5 * (8 / (65 / 8)) ** 2), rtol=1e-6)


def test_importance_that_vanishes_is_floored():
    weight = gaussian_importance((16, 16, 16), 0.01)
    assert weight[0, 0, 0] == weight.min() >= np.finfo(np.float32).tiny
