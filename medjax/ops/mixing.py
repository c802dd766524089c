"""Boxes by which two patches become one (CutMix, Yun 2019; copy-paste, Bai 2023)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Triple = tuple[int, int, int]


def box(shape: Triple, size: Float[Array, "3"], place: Float[Array, "3"]) -> Bool[Array, "d h w"]:
    """The voxels of a box of `size` voxels (rounded, 1 at least), at `place`.

    place: 0 at the first voxels, 1 at the last, along each axis.
    """
    inside = jnp.ones(shape, bool)
    for axis, voxels in enumerate(shape):
        extent = jnp.clip(jnp.round(size[axis]), 1, voxels)
        start = jnp.round(place[axis] * (voxels - extent))
        at = jnp.arange(voxels)
        line = (at >= start) & (at < start + extent)
        inside &= line.reshape([-1 if a == axis else 1 for a in range(3)])
    return inside


def partners(array: Array, unit: int) -> Array:
    """Rows whose partner is the next one, of every `unit` rows the last one's the first.

    Rows of a unit stay on one device, so that who is mixed with whom does not hang on their number.
    """
    groups = array.reshape(-1, unit, *array.shape[1:])
    return jnp.roll(groups, -1, axis=1).reshape(array.shape)
