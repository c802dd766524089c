import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from medjax.ops import winograd


def plain(x, kernel):
    """The sum of depth taps with a 1 x 1 kernel in the plane."""
    depth = x.shape[1] - 2
    return sum(x[:, k : k + depth] @ kernel[k, 0, 0] for k in range(3))


def by_points(x, kernel):
    return lax.dot_general(x, kernel[0, 0], (((3,), (0,)), ((), ())), precision="highest")


@pytest.mark.parametrize("outputs", winograd.POINTS)
def test_the_transforms_give_the_sum_of_three_taps(outputs):
    source, taps, result = (m.astype(np.float64) for m in winograd.transform(outputs))
    draw = np.random.default_rng(0)
    slices, kernel = draw.normal(size=outputs + 2), draw.normal(size=3)
    wanted = np.correlate(slices, kernel, "valid")
    np.testing.assert_allclose(result @ ((taps @ kernel) * (source @ slices)), wanted, atol=1e-5)


@pytest.mark.parametrize("run", [winograd.whole, winograd.looped])
@pytest.mark.parametrize("depth", [2, 3, 4, 6, 7, 9])
def test_equals_the_plain_sum_at_every_depth(run, depth):
    draw = np.random.default_rng(depth)
    x = jnp.asarray(draw.normal(size=(2, depth + 2, 3, 4, 5)), jnp.float32)
    kernel = jnp.asarray(draw.normal(size=(3, 1, 1, 5, 6)), jnp.float32)
    np.testing.assert_allclose(run(x, kernel, depth, by_points), plain(x, kernel), atol=2e-5)


def test_the_tile_needs_the_fewest_convolutions():
    assert [winograd.tile(depth) for depth in (1, 2, 3, 4, 5, 6, 8, 64)] == [1, 2, 4, 4, 4, 4, 4, 4]
    for depth in range(2, 65):
        m = winograd.tile(depth)
        assert (m + 2) * -(-depth // m) < 3 * depth


def test_rounding_stays_near_that_of_the_plain_sum():
    """In float32 against float64, over as many channels as a wide layer has."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(1, 34, 4, 4, 128)).astype(np.float32)
    kernel = draw.normal(size=(3, 1, 1, 128, 8)).astype(np.float32)
    exact = plain(x.astype(np.float64), kernel.astype(np.float64))
    found = winograd.whole(jnp.asarray(x), jnp.asarray(kernel), 32, by_points)
    assert np.abs(np.asarray(found, np.float64) - exact).max() < 3e-6 * exact.std()
