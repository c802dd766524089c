"""Resampling of channels-last volumes at arbitrary coordinates: affine maps and smooth fields."""

import math
from collections.abc import Sequence
from itertools import product

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

Coordinates = tuple[
    Float[Array, "#p #q #r"],
    Float[Array, "#p #q #r"],
    Float[Array, "#p #q #r"],
]
"""Voxel coordinates along d, h, w (voxel centres at whole numbers), broadcast to one shape."""


def centred_grid(shape: Sequence[int]) -> Coordinates:
    """Voxel offsets from the centre of a grid, one broadcastable array an axis: exact halves."""
    axes = [jnp.arange(n, dtype=jnp.float32) - (n - 1) / 2 for n in shape]
    return axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]


def affine(
    coordinates: Coordinates, matrix: Float[Array, "3 3"], offset: Float[Array, "3"]
) -> Coordinates:
    """Return `matrix @ coordinates + offset`.

    Written as sums, not as a matrix product, so that a GPU cannot run it in TF32 and whole numbers
    stay whole numbers.
    """
    z, y, x = coordinates
    rows = [matrix[i, 0] * z + matrix[i, 1] * y + matrix[i, 2] * x + offset[i] for i in range(3)]
    return rows[0], rows[1], rows[2]


def linear(
    array: Float[Array, "n d h w c"],
    sample: int | Int[Array, ""],
    coordinates: Coordinates,
    *,
    planar: bool = False,
) -> Float[Array, "p q r c"]:
    """Trilinear interpolation in volume `sample` of a batch; everything outside it counts as 0.

    The volume is read in place: a slice of the batch, taken first, would be copied whole.

    The border is that of `scipy.ndimage` mode "grid-constant": between the last voxel and one voxel
    beyond it the value fades to 0. Whole coordinates return the voxels bit for bit.
    The taps are gathers from the flattened array that fetch all channels of a voxel at once: eight,
    or with `planar` four within slices, the first coordinate being rounded to the nearest slice.
    """
    # Without the barrier XLA computes coordinates and weights anew for every tap and channel.
    z, y, x = lax.optimization_barrier(coordinates)
    depth, height, width, channels = array.shape[1:]
    taps = product(
        _nearest_tap(z, depth) if planar else _linear_taps(z, depth),
        _linear_taps(y, height),
        _linear_taps(x, width),
    )
    flat, start = array.reshape(-1, channels), jnp.int32(sample) * depth
    total = jnp.zeros((), array.dtype)
    for (i, weight_i), (j, weight_j), (k, weight_k) in taps:
        weight = (weight_i * weight_j * weight_k)[..., None]
        total = total + weight * flat[((start + i) * height + j) * width + k]
    return total.astype(array.dtype)


def nearest(
    array: Shaped[Array, "n d h w"],
    sample: int | Int[Array, ""],
    coordinates: Coordinates,
    *,
    outside: int | Shaped[Array, ""] = 0,
) -> Shaped[Array, "p q r"]:
    """The nearest voxel (halves go up) in volume `sample` of a batch; `outside` beyond it."""
    index, inside = jnp.int32(sample).reshape(1, 1, 1), jnp.ones((1, 1, 1), bool)
    for coordinate, size in zip(coordinates, array.shape[1:], strict=True):
        ((i, weight),) = _nearest_tap(coordinate, size)
        index, inside = index * size + i, inside & (weight > 0)
    return jnp.where(inside, array.reshape(-1)[index], jnp.asarray(outside, array.dtype))


def bspline_matrix(size: int, step: float) -> Float[np.ndarray, "n k"]:
    """Uniform cubic B-spline: the weights of k control points at each of `size` voxels.

    `step` is the distance of control points in voxels; the points are centred on the grid and reach
    beyond it, so that each row sums to 1 and a field stays within the bound of its control values.
    Grids of one length with voxels of any size have the same control points.
    """
    reach = math.ceil(size / 2 / step) + 1
    control = np.arange(-reach, reach + 1)
    distance = np.abs((np.arange(size)[:, None] - (size - 1) / 2) / step - control)
    inner = 2 / 3 - distance**2 + distance**3 / 2
    outer = np.maximum(2 - distance, 0) ** 3 / 6
    return np.where(distance < 1, inner, outer).astype(np.float32)


def smooth_field(
    control: Float[Array, "n kd kh kw"], matrices: Sequence[Float[np.ndarray, "_ _"]]
) -> Float[Array, "n d h w"]:
    """Bring a coarse field to the voxels by one matrix an axis (see `bspline_matrix`)."""
    field = control
    products = ("di,nijk->ndjk", "hj,ndjk->ndhk", "wk,ndhk->ndhw")
    for matrix, subscripts in zip(matrices, products, strict=True):
        field = jnp.einsum(subscripts, matrix, field, precision=lax.Precision.HIGHEST)
    return field


def _linear_taps(coordinate: Array, size: int) -> list[tuple[Array, Array]]:
    low = jnp.floor(coordinate)
    fraction = coordinate - low
    low = low.astype(jnp.int32)
    return [_inside(low, 1 - fraction, size), _inside(low + 1, fraction, size)]


def _nearest_tap(coordinate: Array, size: int) -> list[tuple[Array, Array]]:
    return [_inside(jnp.floor(coordinate + 0.5).astype(jnp.int32), jnp.float32(1), size)]


def _inside(index: Array, weight: Array, size: int) -> tuple[Array, Array]:
    kept = jnp.where((index >= 0) & (index < size), weight, 0)
    return jnp.clip(index, 0, size - 1), kept
