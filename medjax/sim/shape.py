"""Random shapes of heads: affine maps and smooth deformations that never fold."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from medjax.errors import UserError
from medjax.ops.sampling import Coordinates, affine, centred_grid, linear
from medjax.sim.draws import normal
from medjax.sim.fields import smooth_noise

NODE = 8.0  # mm between the nodes of the velocity field
SQUARINGS = 6
FADE = 28.0  # mm from the border within which the velocity falls to 0


class Deformation(NamedTuple):
    """Subject -> parent in mm from the centre of the view: x -> exp(velocity)(matrix x).

    A stationary velocity field, integrated: the inverse is exp(-velocity) and then the inverse
    matrix. `velocity` (x, y, z, 3) in mm, on nodes `NODE` mm apart in the view.
    """

    matrix: Float[Array, "3 3"]
    velocity: Float[Array, "x y z 3"]


def grid_shape(extent: Sequence[float], spacing: float) -> tuple[int, int, int]:
    """Voxels of a field of view (mm) at an isotropic `spacing` in mm, between 0.5 and 4."""
    if not 0.5 <= spacing <= 4.0:
        raise UserError(f"synth.spacing: {spacing:g} mm; cases are made at 0.5 to 4 mm")
    x, y, z = (int(np.ceil(length / spacing - 1e-6)) for length in extent)
    return x, y, z


def grid_affine(shape: Sequence[int], spacing: float) -> Float[np.ndarray, "4 4"]:
    """Voxel index -> mm from the centre of the view, RAS."""
    matrix = np.diag([spacing, spacing, spacing, 1.0])
    matrix[:3, 3] = [-(n - 1) / 2 * spacing for n in shape]
    return matrix


def draw_deformation(
    key: Array, extent: Sequence[float], *, size: float | Float[Array, ""] = 1.0
) -> Deformation:
    """A head `size` times as small as its parent, give or take, turned by up to 5 degrees, and bent.

    Give or take 3 % in all and 2 % along each axis, at most 1.5 times that. Bent by about 4 mm over
    48 mm and 1.2 mm over 20 mm. All four are standard deviations.
    """
    scale_key, turn_key, coarse_key, fine_key = jax.random.split(key, 4)
    scale = jnp.clip(normal(scale_key, (4,)), -1.5, 1.5)
    matrix = jnp.diag(size * jnp.exp(0.03 * scale[:1] + 0.02 * scale[1:]))
    angles = jnp.deg2rad(jax.random.uniform(turn_key, (3,), minval=-5, maxval=5))
    for axis in range(3):
        matrix = matrix @ _turn(axis, angles[axis])
    nodes = [round(length / NODE) for length in extent]
    bend = 4.0 * smooth_noise(coarse_key, nodes, NODE, 48.0, 3)
    bend = bend + 1.2 * smooth_noise(fine_key, nodes, NODE, 20.0, 3)
    velocity = jnp.moveaxis(bend, 0, -1)
    for axis, count in enumerate(nodes):  # no head leaves the view
        edge = (np.minimum(np.arange(count), np.arange(count)[::-1]) + 0.5) * NODE
        fade = np.sin(np.pi / 2 * np.clip(edge / FADE, 0, 1)).astype(np.float32)
        velocity = velocity * fade.reshape([-1 if a == axis else 1 for a in range(4)])
    return Deformation(matrix, velocity)


def _turn(axis: int, angle: Array) -> Float[Array, "3 3"]:
    still, plane, across = (np.zeros((3, 3), np.float32) for _ in range(3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    still[axis, axis] = plane[i, i] = plane[j, j] = 1
    across[i, j], across[j, i] = -1, 1
    return jnp.cos(angle) * plane + jnp.sin(angle) * across + still


def read_field(
    field: Float[Array, "x y z c"], points: Coordinates, spacing: float
) -> Float[Array, "p q r c"]:
    """A field on nodes `spacing` mm apart, at points in mm from its centre; 0 beyond its border."""
    index = [p / spacing + (n - 1) / 2 for p, n in zip(points, field.shape, strict=False)]
    return linear(field[None], 0, (index[0], index[1], index[2]))


def read_apart(
    field: Float[Array, "x y z c"], points: Sequence[Array], spacing: float
) -> Float[Array, "p q r c"]:
    """`read_field` in a branch of its own, for points of one shape: one pass over them.

    Fused with what follows it can become eight on CPU, one a tap, and take five times as long; an
    optimisation barrier does not prevent that. Where it was measured not to happen, `read_field` serves.
    """
    z, y, x = points
    zeros = jnp.zeros((*x.shape, field.shape[-1]))
    return lax.cond(
        jnp.any(field != 0), lambda: read_field(field, (z, y, x), spacing), lambda: zeros
    )


def integrate(velocity: Float[Array, "x y z 3"]) -> Float[Array, "x y z 3"]:
    """Displacement exp(velocity) - identity in mm on the nodes (scaling and squaring)."""
    grid = [NODE * axis for axis in centred_grid(velocity.shape[:3])]

    def square(_: Array, moved: Array) -> Array:
        points = tuple(grid[axis] + moved[..., axis] for axis in range(3))
        return moved + read_field(moved, (points[0], points[1], points[2]), NODE)

    return lax.fori_loop(0, SQUARINGS, square, velocity / 2**SQUARINGS)


def parent_points(deformation: Deformation, points: Coordinates) -> Coordinates:
    """Where points of the subject lie in the parent, both in mm from the centre of the view."""
    z, y, x = affine(points, deformation.matrix, jnp.zeros(3))
    moved = read_apart(integrate(deformation.velocity), (z, y, x), NODE)
    return z + moved[..., 0], y + moved[..., 1], x + moved[..., 2]
