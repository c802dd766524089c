from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.errors import UserError
from medjax.ops.sampling import centred_grid
from medjax.sim.anatomy import EXTENT, VIEW
from medjax.sim.shape import (
    NODE,
    Deformation,
    draw_deformation,
    grid_affine,
    grid_shape,
    integrate,
    parent_points,
    read_field,
)

SPACING = 4.0
SHAPE = grid_shape(EXTENT, SPACING)
NODES = tuple(round(length / NODE) for length in EXTENT)
GRID = tuple(SPACING * axis for axis in centred_grid(SHAPE))
STILL = Deformation(jnp.eye(3), jnp.zeros((*NODES, 3)))
draw = jax.jit(partial(draw_deformation, extent=EXTENT))
place_of = jax.jit(lambda deformation: parent_points(deformation, GRID))
read = jax.jit(partial(read_field, spacing=1.0))
exponential = jax.jit(integrate)
KEYS = [jax.random.key(seed) for seed in range(8)]


@jax.jit
def jacobian(deformation):
    """Determinant of the derivative of `parent_points` in each voxel, by differentiation."""
    points = jnp.broadcast_arrays(*GRID)
    zero, one = jnp.zeros(SHAPE), jnp.ones(SHAPE)
    columns = [
        jax.jvp(
            lambda *p: parent_points(deformation, p),
            points,
            [one if a == axis else zero for a in range(3)],
        )[1]
        for axis in range(3)
    ]
    x, y, z = (jnp.stack(column, -1) for column in columns)
    return (x * jnp.cross(y, z)).sum(-1)


@pytest.mark.parametrize("extent", [EXTENT, VIEW])
@pytest.mark.parametrize("spacing", [0.5, 1.0, 1.3, 2.0, 3.0, 4.0])
def test_the_grid_covers_the_view(extent, spacing):
    shape, affine = grid_shape(extent, spacing), grid_affine(grid_shape(extent, spacing), spacing)
    for n, length in zip(shape, extent, strict=True):
        assert length <= n * spacing + 1e-3 < length + spacing + 1e-3
    middle = (np.array(shape) - 1) / 2
    np.testing.assert_allclose(affine @ [*middle, 1], [0, 0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(affine @ [*middle + 1, 1], [*[spacing] * 3, 1], atol=1e-9)


@pytest.mark.parametrize("spacing", [0.0, -1.0, 0.1, 4.1, float("nan"), float("inf")])
def test_impossible_spacing(spacing):
    with pytest.raises(UserError, match=r"synth\.spacing: .* 0\.5 to 4 mm"):
        grid_shape(EXTENT, spacing)


@pytest.mark.parametrize("key", KEYS)
def test_no_deformation_folds(key):
    determinant = jacobian(draw(key, size=1.0))
    assert determinant.min() > 0.1
    assert determinant.std() > 0.1  # it bends, it does not only scale


def test_no_velocity_and_no_matrix_move_nothing():
    for found, expected in zip(place_of(STILL), GRID, strict=True):
        np.testing.assert_array_equal(found, jnp.broadcast_to(expected, SHAPE))
    np.testing.assert_allclose(jacobian(STILL), 1, rtol=1e-6)
    matrix = draw(KEYS[0], size=1.0).matrix
    moved = place_of(STILL._replace(matrix=matrix))
    straight = np.einsum("ij,j...->i...", matrix, np.stack(np.broadcast_arrays(*GRID)))
    np.testing.assert_allclose(jnp.stack(moved), straight, atol=1e-3)


@pytest.mark.parametrize("key", KEYS[:3])
def test_the_opposite_velocity_is_the_way_back(key):
    velocity = draw(key, size=1.0).velocity
    there, back = exponential(velocity), exponential(-velocity)
    at = [NODE * axis + there[..., a] for a, axis in enumerate(centred_grid(NODES))]
    undone = there + read_field(back, (at[0], at[1], at[2]), NODE)
    inner = (slice(2, -2),) * 3
    assert jnp.abs(there[inner]).max() > 4
    assert jnp.abs(undone[inner]).max() < 0.25 * jnp.abs(there[inner]).max()
    assert jnp.abs(undone[inner]).mean() < 0.25  # mm: what linear reading on 8 mm leaves


def test_a_uniform_velocity_is_a_shift():
    velocity = jnp.zeros((*NODES, 3)).at[..., 1].set(3.0)
    moved = exponential(velocity)[3:-3, 3:-3, 3:-3]
    np.testing.assert_allclose(moved, velocity[3:-3, 3:-3, 3:-3], atol=1e-5)


def test_a_field_is_read_linearly_and_fades_beyond_its_border():
    grid = np.stack(np.broadcast_arrays(*[NODE * axis for axis in centred_grid((6, 7, 8))]), -1)
    points = np.array([[0, 0, 0], [3.3, -7.1, 9.9], [-20, 24, -28], [0, 0, 32], [0, 36, 0]])
    axes = [jnp.asarray(points[:, a], jnp.float32).reshape(-1, 1, 1) for a in range(3)]
    read = read_field(jnp.asarray(grid, jnp.float32), tuple(axes), NODE)[:, 0, 0]
    np.testing.assert_allclose(read[:3], points[:3], atol=1e-4)
    np.testing.assert_allclose(read[3], [0, 0, 14], atol=1e-4)  # half way to nothing
    assert not read[4].any()


def test_heads_differ_within_what_is_said():
    heads = [draw(key, size=1.1) for key in jax.random.split(jax.random.key(0), 150)]
    matrices = np.array([head.matrix for head in heads]) / 1.1
    scales = np.linalg.svd(matrices, compute_uv=False)
    assert np.abs(np.log(scales)).max() <= 1.5 * 0.05 + 1e-4
    assert np.log(np.linalg.det(matrices)).std() == pytest.approx(0.08, rel=0.2)
    turns = matrices / np.linalg.norm(matrices, axis=1, keepdims=True)
    assert (np.rad2deg(np.arccos(np.einsum("nii->ni", turns))) < 5 * np.sqrt(2) + 0.1).all()
    velocities = np.array([head.velocity[6:-6, 6:-6, 6:-6] for head in heads[:40]])
    assert velocities.std() == pytest.approx(np.hypot(4.0, 1.2), rel=0.1)
    np.testing.assert_array_equal(
        draw(KEYS[1], size=1.0).velocity, draw(KEYS[1], size=1.0).velocity
    )


@pytest.mark.parametrize("key", KEYS)
def test_heads_stay_in_the_view_and_have_a_human_volume(template, key):
    """The template, 1.9 l, made as small as `make_body` makes it."""
    place = place_of(draw(key, size=1.08))
    depth = read(jnp.asarray(template.depth)[..., None] + 12, place)[..., 0] - 12
    for face in (depth[0], depth[-1], depth[:, 0], depth[:, -1], depth[..., -1]):
        assert face.max() < 0
    assert (depth[..., 0] > 0).sum() * SPACING**2 < 200  # mm^2: a part of the brain stem at most
    assert 1100 < (depth > 0).sum() * SPACING**3 / 1000 < 1900  # ml, within the skull
