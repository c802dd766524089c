"""The largest connected part of a mask, compiled: `space.components` within a step."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool


def largest_component(mask: Bool[Array, "d h w"]) -> Bool[Array, "d h w"]:
    """The largest 26-connected part; of equal ones the first in scan order, nothing of nothing.

    Each voxel takes the largest number among its neighbours until none changes: as many rounds as
    the longest way through a part has voxels.
    """
    count = mask.size
    numbers = jnp.where(mask, count - jnp.arange(count).reshape(mask.shape), 0)

    def spread(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        before, _ = carry
        most = before
        for axis, n in enumerate(mask.shape):  # one axis after the other reaches the corners too
            wide = jnp.pad(most, [(int(a == axis),) * 2 for a in range(3)])
            sides = [jax.lax.slice_in_dim(wide, at, at + n, axis=axis) for at in range(3)]
            most = jnp.maximum(jnp.maximum(sides[0], sides[1]), sides[2])
        most = jnp.where(mask, most, 0)
        return most, jnp.any(most != before)

    parts, _ = jax.lax.while_loop(lambda carry: carry[1], spread, (numbers, jnp.any(mask)))
    sizes = jnp.zeros(count + 1, jnp.int32).at[parts.ravel()].add(1).at[0].set(0)
    return mask & (parts == count - jnp.argmax(sizes[::-1]))
