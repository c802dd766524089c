"""Channels to voxels: the last step of an up-sampling by whole factors."""

from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.ops.whole import whole

Triple = tuple[int, int, int]


def depth_to_space(x: Float[Array, "b d h w c"], factors: Triple) -> Float[Array, "b d2 h2 w2 o"]:
    """Spread the channels, ordered (fd, fh, fw, o), over factors voxels along each axis.

    One axis at a time: no transpose above 6 axes, which edge runtimes refuse.
    """
    return whole("depth_to_space", partial(_spread, factors=factors), factors=_text(factors))(x)


def _text(factors: Triple) -> str:
    return "x".join(map(str, factors))


def _spread(x: Array, factors: Triple) -> Array:
    for axis, factor in zip((1, 2, 3), factors, strict=True):
        if factor > 1:
            *space, channels = x.shape
            x = x.reshape(*space, factor, channels // factor)
            x = jnp.moveaxis(x, 4, axis + 1)
            space[axis] *= factor
            x = x.reshape(*space, channels // factor)
    return x
