from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.sim import receiver

KEY = jax.random.key(7)
thick = jax.jit(receiver.thick_slices, static_argnames=("axis", "spacing", "profile"))


def volume(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(1, 2, shape), jnp.float32)


def slow_slices(line, ratio):
    """Slices of `ratio` voxels centred on a line of voxels: mean by fine sampling, then numpy's interp."""
    size = len(line)
    count = int(np.ceil(size / ratio - 1e-9))
    start = (size - count * ratio) / 2
    fine = np.linspace(0, ratio, 4001)[:-1] + ratio / 8000
    means = []
    for j in range(count):
        place = start + j * ratio + fine
        means.append(line[np.floor(place[(place >= 0) & (place < size)]).astype(int)].mean())
    centres = start + (np.arange(count) + 0.5) * ratio - 0.5
    return np.interp(np.arange(size), centres, means)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_slices_are_means_of_voxels(axis, k):
    shape = [4, 5, 6]
    shape[axis] = 15
    clean = volume(shape)
    result = np.moveaxis(thick(clean, axis=axis, thickness=0.8 * k, spacing=0.8), axis, 0)
    blocks = np.moveaxis(np.asarray(clean), axis, 0).reshape(15 // k, k, *result.shape[1:])
    np.testing.assert_allclose(result[k // 2 :: k], blocks.mean(1), atol=1e-5)
    for i in range(1, k):  # straight lines between the centres
        straight = ((k - i) * blocks.mean(1)[:-1] + i * blocks.mean(1)[1:]) / k
        np.testing.assert_allclose(result[k // 2 + i :: k][: len(straight)], straight, atol=1e-5)
    for edge, block in ((result[0], blocks[0]), (result[-1], blocks[-1])):
        np.testing.assert_allclose(edge, block.mean(0), atol=1e-5)


@pytest.mark.parametrize("ratio", [1.0, 1.3, 2.0, 2.5, 4.0, 7.7, 30.0])
@pytest.mark.parametrize("size", [16, 17])
def test_any_thickness_agrees_with_a_slow_integral(ratio, size):
    clean = volume((size, 1, 1))
    result = thick(clean, axis=0, thickness=2 * ratio, spacing=2.0)[:, 0, 0]
    np.testing.assert_allclose(result, slow_slices(np.asarray(clean)[:, 0, 0], ratio), atol=2e-3)


@pytest.mark.parametrize("profile", ["box", "gaussian"])
@pytest.mark.parametrize("shape", [(12, 9, 7), (1, 10, 3)])
def test_thick_slices_keep_constants_and_range_and_leave_voxels_that_thick(profile, shape):
    clean = volume(shape)
    for axis in range(3):
        for thickness in (0.0, 1.0, 2.5):  # mm
            run = partial(thick, axis=axis, thickness=thickness, spacing=1.0, profile=profile)
            np.testing.assert_allclose(run(jnp.full(shape, 3.0)), 3.0, rtol=1e-5)
            assert not run(jnp.zeros(shape)).any()
            result = run(clean)
            if thickness <= 1 or shape[axis] == 1:
                np.testing.assert_allclose(result, clean, atol=1e-5)
            else:
                assert float(result.std()) < float(clean.std())
                assert float(clean.min()) <= result.min() <= result.max() <= float(clean.max())


def test_a_gaussian_slice_has_its_width():
    """A thin sheet at the centre of a slice; slices and voxels add in quadrature."""
    sheet = jnp.zeros((135, 1, 1)).at[67].set(1.0)
    result = np.asarray(thick(sheet, axis=0, thickness=9.0, spacing=1.0, profile="gaussian"))[
        :, 0, 0
    ]
    weights = result[4::9]
    place = np.arange(4, 135, 9) - 67
    assert weights.argmax() == 7
    sigma = np.sqrt(80) / 2.3548
    expected = np.exp(-0.5 * (place / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(weights, expected, atol=4e-4)  # a voxel is no point


def test_one_compiled_function_for_all_thicknesses():
    run = jax.jit(partial(receiver.thick_slices, axis=1, spacing=1.0))
    results = [run(volume((4, 12, 5)), thickness=t) for t in (1.0, 2.0, 5.0)]
    assert run._cache_size() == 1
    assert float(results[0].std()) > float(results[1].std()) > float(results[2].std())
    many = jax.vmap(run)(jnp.stack([volume((4, 12, 5))] * 3), thickness=jnp.array([1.0, 2.0, 5.0]))
    np.testing.assert_allclose(many, jnp.stack(results), atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 24, 15), (1, 24, 15)])
def test_bias_is_smooth_with_mean_one(shape):
    run = jax.jit(partial(receiver.bias_field, spacing=(2.0, 2.0, 3.0), length=30.0))
    gain = run(KEY, jnp.ones(shape), strength=0.2)
    assert float(gain.mean()) == pytest.approx(1, abs=1e-5)
    assert float(jnp.log(gain.max() / gain.min())) == pytest.approx(0.4, abs=1e-4)
    for axis in range(1, 3):
        assert float(jnp.abs(jnp.diff(gain, axis=axis)).max()) < 0.1
    clean = volume(shape).at[:, :3].set(0)
    np.testing.assert_allclose(run(KEY, clean, strength=0.2), clean * gain, rtol=1e-5)
    np.testing.assert_array_equal(run(KEY, clean, strength=0.0), clean)
    np.testing.assert_array_equal(run(KEY, clean, strength=0.2), run(KEY, clean, strength=0.2))
    assert (run(jax.random.key(8), clean, strength=0.2) != run(KEY, clean, strength=0.2)).any()


def test_bias_varies_over_its_length():
    rough = []
    for length in (20.0, 40.0, 80.0):
        field = partial(receiver.bias_field, strength=0.2, spacing=(4.0,) * 3, length=length)
        many = jax.jit(jax.vmap(field, in_axes=(0, None)))
        gains = many(jax.random.split(KEY, 20), jnp.ones((24, 24, 24)))
        rough.append(float(jnp.abs(jnp.diff(gains, axis=1)).mean()))
    assert rough[0] > 1.3 * rough[1] > 1.5 * rough[2]


def test_rician_moments():
    """Rice (1944): without signal sigma sqrt(pi / 2) and 0.655 sigma; bright, a bias of sigma^2 / 2 S."""
    run, sigma = jax.jit(receiver.rician), 3.0
    dark = np.asarray(run(KEY, jnp.zeros((50, 51, 52)), sigma), np.float64)
    assert dark.mean() == pytest.approx(np.sqrt(np.pi / 2) * sigma, rel=0.005)
    assert dark.std() == pytest.approx(np.sqrt(2 - np.pi / 2) * sigma, rel=0.01)
    bright = np.asarray(run(KEY, jnp.full((50, 51, 52), 30.0), sigma), np.float64)
    assert bright.mean() - 30 == pytest.approx(sigma**2 / 60, abs=0.03)
    assert bright.std() == pytest.approx(sigma, rel=0.01)
    assert dark.min() >= 0


def test_rician_without_noise_is_the_volume():
    clean = volume((5, 6, 7))
    np.testing.assert_allclose(receiver.rician(KEY, clean, 0.0), clean, rtol=1e-6)
    np.testing.assert_array_equal(
        receiver.rician(KEY, clean, 0.1), receiver.rician(KEY, clean, 0.1)
    )
