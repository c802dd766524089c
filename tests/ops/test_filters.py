import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, special

from medjax.ops import filters


def volume(shape=(12, 10, 11), channels=3, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, channels)).astype(np.float32)


def test_blur_agrees_with_scipy_per_axis_and_channel():
    image = volume()
    sigma = np.array([[0.5, 0.9, 1.0], [0.6, 0.8, 0.7], [1.0, 0.55, 0.5]], np.float32)
    blurred = jax.jit(lambda i, s: filters.gaussian_blur(i, s, radius=3))(image, sigma)
    for c in range(3):
        expected = ndimage.gaussian_filter(image[..., c], sigma[:, c], radius=3, mode="nearest")
        np.testing.assert_allclose(blurred[..., c], expected, atol=1e-5)


def test_blur_of_sigma_zero_and_of_one_slice_are_identities():
    image = volume((1, 10, 11))
    still = filters.gaussian_blur(jnp.asarray(image), jnp.zeros((3, 3)), radius=3)
    np.testing.assert_array_equal(still, image)
    only_depth = jnp.zeros((3, 3)).at[0].set(1.0)
    np.testing.assert_array_equal(
        filters.gaussian_blur(jnp.asarray(image), only_depth, radius=3), image
    )


def reduced(line, zoom):
    """The same with the small volume made for real."""
    n = line.shape[-1]
    m = max(1, round(n * zoom))
    small = line[..., np.floor((np.arange(m) + 0.5) * n / m).astype(int)]
    position = np.clip((np.arange(n) + 0.5) * m / n - 0.5, 0, m - 1)
    return np.apply_along_axis(lambda row: np.interp(position, np.arange(m), row), -1, small)


@pytest.mark.parametrize(("variance", "passes"), [(0.02, 1), (0.5, 1), (0.3, 2), (1.44, 3)])
def test_spread_has_the_variance_along_each_axis(variance, passes):
    point = np.zeros((11, 13, 15), np.float32)
    point[5, 6, 7] = 1
    found = np.asarray(
        jax.jit(filters.spread, static_argnames="passes")(point, variance, passes=passes)
    )
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, rel=1e-5)
    for axis, middle in enumerate((5, 6, 7)):
        profile = found.sum(axis=tuple(a for a in range(3) if a != axis))
        offset = np.arange(profile.size) - middle
        assert profile @ offset == pytest.approx(0, abs=1e-6)
        assert profile @ offset**2 == pytest.approx(variance, rel=1e-5)


def test_spread_limits():
    """Without variance nothing changes, constants are kept, many passes come near to a Gaussian."""
    image = volume()[..., 0]
    np.testing.assert_array_equal(filters.spread(jnp.asarray(image), 0.0, passes=1), image)
    flat = filters.spread(jnp.full((4, 1, 5), 3.0), 0.4, passes=1)
    np.testing.assert_allclose(flat, 3, rtol=1e-6)
    most = filters.spread(jnp.asarray(image), 9.0, passes=2)
    np.testing.assert_array_equal(most, filters.spread(jnp.asarray(image), 1.0, passes=2))
    point = np.zeros((25, 25, 25), np.float32)
    point[12, 12, 12] = 1
    many = filters.spread(jnp.asarray(point), 2.25, passes=60)
    taps = special.ive(np.arange(-12, 13), 2.25)
    gaussian = taps[:, None, None] * taps[:, None] * taps  # the discrete one
    np.testing.assert_allclose(many, gaussian, atol=0.03 * gaussian.max())


@pytest.mark.parametrize("zoom", [(0.5, 1.0, 1.0), (1.0, 0.63, 0.8), (0.7, 0.55, 0.05)])
def test_low_resolution_agrees_with_the_two_steps(zoom):
    image = volume(channels=1)[..., 0]
    expected = image
    for axis in range(3):
        expected = np.moveaxis(reduced(np.moveaxis(expected, axis, -1), zoom[axis]), -1, axis)
    result = jax.jit(filters.low_resolution)(image, jnp.asarray(zoom))
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_low_resolution_of_zoom_one_is_the_identity():
    image = volume((1, 7, 8), 1)[..., 0]
    np.testing.assert_array_equal(filters.low_resolution(jnp.asarray(image), jnp.ones(3)), image)
