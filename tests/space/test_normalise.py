import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medjax.errors import UserError
from medjax.space.normalise import normalise

CT = {"scheme": "ct", "clip": [-100, 300], "mean": 50.0, "std": 80.0}


def picture(seed=0, shape=(4, 5, 6)):
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


@given(st.floats(0.01, 1e4), st.floats(-1e4, 1e4))
@settings(deadline=None, max_examples=30)
def test_zscore_forgets_scale_and_offset(scale, offset):
    image = picture()
    result = normalise(image, {"scheme": "zscore"})
    assert result.dtype == np.float32
    assert result.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
    assert result.std(dtype=np.float64) == pytest.approx(1, abs=1e-5)
    again = normalise(image * np.float32(scale) + np.float32(offset), {"scheme": "zscore"})
    rounding = 1e-6 * (1 + abs(offset) / (20 * scale)) * 10
    np.testing.assert_allclose(again, result, atol=rounding)


def test_zscore_holds_at_large_values():
    image = picture(shape=(40, 40, 40)) * 1e4 + 1e6
    result = normalise(image, {"scheme": "zscore"})
    expected = (image.astype(float) - image.mean(dtype=float)) / image.std(dtype=float)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_zscore_mask_looks_under_the_mask_alone():
    image, mask = picture(), np.random.default_rng(1).random((4, 5, 6)) < 0.3
    result = normalise(image, {"scheme": "zscore_mask"}, mask)
    np.testing.assert_allclose(
        result[mask], (image[mask] - image[mask].mean()) / image[mask].std(), atol=1e-5
    )
    assert (result[~mask] == 0).all()
    elsewhere = np.where(mask, image, -1e6).astype(np.float32)
    np.testing.assert_array_equal(normalise(elsewhere, {"scheme": "zscore_mask"}, mask), result)
    empty = normalise(image, {"scheme": "zscore_mask"}, np.zeros_like(mask))
    assert (empty == 0).all()


def test_ct_clips_and_takes_the_given_numbers():
    image = np.array([-2000.0, -100, 50, 130, 300, 3000], np.float32)
    expected = (np.array([-100, -100, 50, 130, 300, 300]) - 50) / 80
    np.testing.assert_allclose(normalise(image, CT), expected, rtol=1e-6)


def test_rescale_maps_the_range_or_the_window_to_0_and_1():
    image = picture()
    result = normalise(image, {"scheme": "rescale"})
    assert (result.min(), result.max()) == (0, 1)
    window = normalise(image, {"scheme": "rescale", "clip": (0, 400)})
    np.testing.assert_allclose(window, image / 400, rtol=1e-6)
    assert normalise(image, {"scheme": "rescale", "clip": (90, 110)}).max() == 1


def test_none_and_the_input_stay_as_they_are():
    image = picture()
    before = image.copy()
    for scheme in ({"scheme": "none"}, {"scheme": "zscore", "clip": (0, 1)}, CT):
        result = normalise(image, scheme)
        assert not np.shares_memory(result, image)
        np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(normalise(image, {"scheme": "none", "mean": None}), image)


@pytest.mark.parametrize("scheme", ["zscore", "zscore_mask", "rescale"])
def test_a_constant_image_becomes_0(scheme):
    image = np.full((3, 3, 3), 7, np.float32)
    assert (normalise(image, {"scheme": scheme}, np.ones_like(image, bool)) == 0).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("scheme", [{"scheme": "zscore"}, {"scheme": "none"}, CT])
def test_non_finite_voxels_are_refused(value, scheme):
    image = picture()
    image[1, 2, 3] = value
    with pytest.raises(UserError, match="nan or infinite"):
        normalise(image, scheme)


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        ({}, "scheme: None"),
        ({"scheme": "z"}, "use one of zscore"),
        ({"scheme": "zscore", "mean": 1.0}, "mean: does nothing"),
        ({"scheme": "zscore", "clips": [0, 1]}, "clips: does nothing"),
        ({"scheme": "ct", "clip": [0, 1], "mean": 0}, "std: missing"),
        ({"scheme": "rescale", "clip": [1, 1]}, "low < high"),
        ({"scheme": "rescale", "clip": [1]}, "no number"),
        ({"scheme": "rescale", "clip": [0, float("inf")]}, "finite"),
        (CT | {"std": "x"}, "no number"),
        (CT | {"mean": float("nan")}, "finite"),
        ({"scheme": "zscore_mask"}, "needs a mask"),
    ],
)
def test_a_wrong_scheme_is_named(scheme, message):
    with pytest.raises(UserError, match=message):
        normalise(picture(), scheme)
