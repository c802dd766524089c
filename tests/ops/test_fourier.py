import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops import fourier

SHAPES = [(8, 10, 12), (7, 9, 11), (1, 6, 5)]
to_kspace = jax.jit(fourier.to_kspace, static_argnames="axes")
to_volume = jax.jit(fourier.to_volume, static_argnames="axes")
weight_lines = jax.jit(fourier.weight_lines, static_argnames="axis")


def volume(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2), (0,)])
def test_the_pair_is_orthonormal(shape, axes):
    image = volume(shape)
    kspace = to_kspace(image, axes)
    assert jnp.square(jnp.abs(kspace)).sum() == pytest.approx(np.square(image).sum(), rel=1e-5)
    back = to_volume(kspace, axes)
    np.testing.assert_allclose(back, image, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_kspace_is_the_sum_of_waves_about_the_middle(shape):
    """Against the definition, written out."""
    image = volume(shape)
    expected = image.astype(complex)
    for axis, n in enumerate(shape):
        number = fourier.line_numbers(n)
        waves = np.exp(-2j * np.pi * np.outer(number, number) / n) / np.sqrt(n)
        expected = np.moveaxis(np.tensordot(waves, expected, (1, axis)), 0, axis)
    np.testing.assert_allclose(to_kspace(image), expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_line_zero_is_the_mean(size):
    assert fourier.line_numbers(size)[size // 2] == 0
    constant = to_kspace(jnp.ones((size, 3, 4)))
    assert complex(constant[size // 2, 1, 2]) == pytest.approx(np.sqrt(size * 12), rel=1e-5)
    assert float(jnp.abs(constant).sum()) == pytest.approx(np.sqrt(size * 12), rel=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_weighting_lines_is_multiplying_kspace(shape, axis):
    image, rng = volume(shape), np.random.default_rng(1)
    weights = (rng.normal(size=shape[axis]) + 1j * rng.normal(size=shape[axis])).astype("complex64")
    along = [-1 if a == axis else 1 for a in range(3)]
    expected = to_volume(to_kspace(image) * weights.reshape(along))
    np.testing.assert_allclose(weight_lines(image, weights, axis), expected, atol=1e-5)
    np.testing.assert_allclose(weight_lines(image, jnp.ones(shape[axis]), axis), image, atol=1e-5)
