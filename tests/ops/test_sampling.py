import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.ops import sampling

linear = jax.jit(sampling.linear, static_argnames="planar")
nearest = jax.jit(sampling.nearest)
affine = jax.jit(sampling.affine)


def volume(shape=(9, 10, 11), channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(*shape, channels)).astype(np.float32)


def coordinates(matrix, offset, shape):
    grid = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    return affine(tuple(grid), np.float32(matrix), np.float32(offset))


def test_linear_agrees_with_scipy():
    image = volume()
    matrix = np.array([[0.9, -0.3, 0.1], [0.2, 1.1, 0.1], [-0.1, 0.2, 0.8]])
    offset = np.array([0.7, -2.3, 1.4])
    there = coordinates(matrix, offset, (8, 9, 12))
    for sample in range(2):
        batch = jnp.stack([jnp.asarray(image), jnp.asarray(-image)])
        result = linear(batch, sample, there)
        for c in range(2):
            expected = ndimage.affine_transform(
                np.asarray(batch[sample, ..., c]),
                matrix,
                offset,
                output_shape=(8, 9, 12),
                order=1,
                mode="grid-constant",
            )
            np.testing.assert_allclose(result[..., c], expected, atol=1e-4)


def test_whole_coordinates_return_voxels_bit_for_bit_and_zero_outside():
    image = volume()
    there = coordinates(np.eye(3), (2, -3, 1), image.shape[:3])
    expected = np.zeros_like(image)
    expected[:-2, 3:, :-1] = image[2:, :-3, 1:]
    np.testing.assert_array_equal(linear(jnp.asarray(image)[None], 0, there), expected)
    labels = (image[..., 0] > 0).astype(np.int32) + 1
    moved = nearest(jnp.asarray(labels)[None], 0, there)
    np.testing.assert_array_equal(moved[:-2, 3:, :-1], labels[2:, :-3, 1:])
    assert int(moved[-2:].max()) == 0


def test_quarter_turn_is_numpys():
    image = volume((6, 7, 7))
    turn = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # (h, w) of the output reads (w, 6 - h)
    there = coordinates(turn, (0, 0, 6), (6, 7, 7))
    expected = np.rot90(image, 1, axes=(1, 2))
    np.testing.assert_array_equal(linear(jnp.asarray(image)[None], 0, there), expected)


def test_planar_equals_full_on_whole_slices():
    image = jnp.asarray(volume())[None]
    there = coordinates([[1, 0, 0], [0, 0.9, 0.2], [0, -0.1, 1.1]], (1, 0.3, -0.4), (7, 8, 9))
    np.testing.assert_allclose(
        linear(image, 0, there, planar=True), linear(image, 0, there), atol=1e-6
    )


def test_nearest_agrees_with_scipy():
    labels = np.random.default_rng(1).integers(0, 5, (9, 10, 11))
    matrix = np.array([[0.9, -0.3, 0.1], [0.2, 1.1, 0.1], [-0.1, 0.2, 0.8]])
    offset = (0.71, -1.13, 1.37)
    result = nearest(
        jnp.asarray(labels, jnp.uint8)[None], 0, coordinates(matrix, offset, (9, 10, 11))
    )
    expected = ndimage.affine_transform(labels, matrix, offset, order=0, mode="grid-constant")
    assert result.dtype == jnp.uint8
    np.testing.assert_array_equal(result, expected)


def test_linear_is_differentiable_to_its_transpose():
    image = jnp.asarray(volume((4, 5, 4), 1))[None]
    there = coordinates([[0.9, 0.1, 0], [0, 1, 0.2], [0, 0, 1.1]], (0.2, 0, -0.3), (4, 5, 4))

    def move(image):
        return linear(image, 0, there)

    weights = jnp.asarray(volume((4, 5, 4), 1, seed=2))
    gradient = jax.jit(jax.grad(lambda image: (move(image) * weights).sum()))(image)
    direction = jnp.asarray(volume((4, 5, 4), 1, seed=3))[None]
    assert float((gradient * direction).sum()) == pytest.approx(
        float((move(direction) * weights).sum()), rel=1e-4
    )


@pytest.mark.parametrize(("size", "step"), [(1, 4.0), (17, 3.7), (32, 8.0)])
def test_bspline_rows_are_weights_and_reproduce_lines(size, step):
    matrix = sampling.bspline_matrix(size, step)
    assert matrix.min() >= 0
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    knots = (np.arange(matrix.shape[1]) - matrix.shape[1] // 2) * step
    np.testing.assert_allclose(matrix @ knots, np.arange(size) - (size - 1) / 2, atol=1e-4)


def test_smooth_field_keeps_constants_and_bounds():
    matrices = [sampling.bspline_matrix(n, 5.0) for n in (8, 9, 10)]
    knots = tuple(m.shape[1] for m in matrices)
    ones = sampling.smooth_field(jnp.ones((2, *knots)), matrices)
    assert ones.shape == (2, 8, 9, 10)
    np.testing.assert_allclose(ones, 1, atol=1e-6)
    control = np.random.default_rng(0).uniform(-1, 1, (1, *knots)).astype(np.float32)
    field = np.asarray(sampling.smooth_field(jnp.asarray(control), matrices))
    assert np.abs(field).max() < 1
    assert field.std() > 0.05
