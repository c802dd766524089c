import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import resize

from medjax.space.resample import resample, resample_image, resample_labels, resampled_shape

SIZES = st.tuples(*[st.integers(1, 11)] * 3)
RESIZE = {"mode": "edge", "anti_aliasing": False, "clip": False, "preserve_range": True}


@given(SIZES, SIZES, st.sampled_from([0, 1, 3]), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_equals_skimage(shape, new, order, seed):
    array = np.random.default_rng(seed).normal(size=shape)
    expected = resize(array, new, order=order, **RESIZE)
    result = resample(array, new, order)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_channels_are_resampled_one_by_one_and_integers_are_taken():
    array = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7, 3)).astype(np.int16)
    result = resample(array, (4, 9, 7), 3)
    for c in range(3):
        np.testing.assert_array_equal(result[..., c], resample(array[..., c], (4, 9, 7), 3))


@pytest.mark.parametrize("order", [0, 1, 3])
def test_identity_is_exact_and_a_copy(order):
    array = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    result = resample(array, (5, 6, 7), order)
    np.testing.assert_array_equal(result, array)
    assert not np.shares_memory(result, array)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_a_constant_stays_and_a_flip_commutes(order):
    constant = np.full((4, 7, 5), 3.5, np.float32)
    np.testing.assert_allclose(resample(constant, (9, 3, 11), order), 3.5, rtol=1e-6)
    array = np.random.default_rng(0).normal(size=(4, 7, 5)).astype(np.float32)
    if order:  # at order 0 the middle between two voxels goes to one side
        flipped = resample(array[::-1, ::-1, ::-1], (9, 3, 11), order)[::-1, ::-1, ::-1]
        np.testing.assert_allclose(resample(array, (9, 3, 11), order), flipped, atol=1e-5)


def test_linear_is_exact_on_a_ramp_away_from_the_edge():
    ramp = np.arange(8, dtype=np.float32)[:, None, None] * np.ones((1, 3, 2), np.float32)
    places = (np.arange(20) + 0.5) * 8 / 20 - 0.5
    expected = np.clip(places, 0, 7)[:, None, None] * np.ones((1, 3, 2))
    np.testing.assert_allclose(resample(ramp, (20, 3, 2), 1), expected, atol=1e-6)


@given(SIZES, SIZES, st.sampled_from([0, 1, 3]), st.sampled_from([None, 0, 1]), st.data())
@settings(deadline=None, max_examples=60)
def test_rows_are_those_of_the_whole(shape, new, order, coarse, data):
    first = data.draw(st.integers(0, new[0] - 1))
    rows = slice(first, data.draw(st.integers(first + 1, new[0] + 3)))  # a last slab may end beyond
    array = np.random.default_rng(0).normal(size=(*shape, 2))
    whole = resample_image(array, new, order=order, coarse_axis=coarse)
    part = resample_image(array, new, order=order, coarse_axis=coarse, rows=rows)
    assert part.shape == whole[rows].shape
    np.testing.assert_allclose(part, whole[rows], atol=1e-5)


@given(SIZES, SIZES, st.integers(0, 2), st.sampled_from([1, 3]))
@settings(deadline=None, max_examples=40)
def test_coarse_axis_is_nearest_and_the_others_are_not(shape, new, axis, order):
    array = np.random.default_rng(1).normal(size=shape)
    result = resample_image(array, new, order=order, coarse_axis=axis)
    inplane = tuple(shape[a] if a == axis else new[a] for a in range(3))
    expected = resample(resample(array, inplane, order), new, 0)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    np.testing.assert_array_equal(
        resample_image(array, new, order=order), resample(array, new, order)
    )


@given(
    SIZES,
    SIZES,
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([(0, 1, 2), (0, 4, 255), (-3, 0, 90000), (7,)]),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None, max_examples=80)
def test_labels_equal_the_plain_one_hot(shape, new, axis, classes, seed):
    dtype = np.uint8 if min(classes) >= 0 and max(classes) < 256 else np.int64
    labels = np.random.default_rng(seed).choice(classes, shape).astype(dtype)
    result = resample_labels(labels, new, coarse_axis=axis)
    one_hot = [
        resample_image((labels == c).astype(np.float32), new, order=1, coarse_axis=axis)
        for c in classes
    ]
    shares = np.stack(one_hot)
    expected = np.array(classes, dtype)[shares.argmax(0)]
    assert result.dtype == dtype
    assert result.shape == new
    if len(classes) > 1:  # a tie on paper may go either way in the last bit
        clear = np.diff(np.sort(shares, axis=0)[-2:], axis=0)[0] > 1e-6
        np.testing.assert_array_equal(result[clear], expected[clear])
    else:
        np.testing.assert_array_equal(result, expected)


def test_a_class_between_the_voxels_that_are_read_is_lost():
    """Three slices become one, the middle one; another axis grows."""
    labels = np.array([1, 2, 3], np.uint8).reshape(1, 1, 3)
    np.testing.assert_array_equal(resample_labels(labels, (2, 1, 1)), np.full((2, 1, 1), 2))


def test_an_exact_tie_goes_to_the_smaller_class():
    labels = np.array([2, 1], np.uint8).reshape(2, 1, 1)
    np.testing.assert_array_equal(resample_labels(labels, (1, 1, 1)), [[[1]]])


def test_labels_keep_their_volume():
    grid = np.indices((24, 24, 12))
    ball = (((grid - np.array([12, 11, 6])[:, None, None, None]) ** 2).sum(0) < 25).astype(
        np.uint16
    )
    fine = resample_labels(ball * 41, (48, 48, 24))
    assert set(np.unique(fine)) == {0, 41}
    assert (fine > 0).mean() == pytest.approx(ball.mean(), rel=0.05)
    np.testing.assert_array_equal(resample_labels(fine, ball.shape) > 0, ball > 0)


def test_labels_of_the_same_shape_are_a_copy():
    labels = np.arange(8, dtype=np.int32).reshape(2, 2, 2)
    result = resample_labels(labels, (2, 2, 2))
    np.testing.assert_array_equal(result, labels)
    assert not np.shares_memory(result, labels)


@given(SIZES, st.tuples(*[st.floats(0.1, 10)] * 3))
@settings(deadline=None)
def test_resampled_shape(shape, spacing):
    assert resampled_shape(shape, spacing, spacing) == shape
    half = tuple(s / 2 for s in spacing)
    assert resampled_shape(shape, spacing, half) == tuple(2 * n for n in shape)
    assert resampled_shape(shape, spacing, (1e6,) * 3) == (1, 1, 1)
