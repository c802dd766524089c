"""The losses of a CenterNet in 3-D (Zhou 2019) as (sum, count) pairs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.losses.segmentation import Pair
from medjax.ops.boxes import Boxes


def heatmap_loss(
    logits: Float[Array, "b d h w"],
    target: Float[Array, "b d h w"],
    valid: Bool[Array, "b d h w"],
    *,
    focus: float = 2.0,
    relief: float = 4.0,
) -> Pair:
    """Focal loss with less penalty near a centre; the count is that of the centres (Law and Deng 2018).

        -(1 - p)^focus log p                     where the target is 1
        -(1 - target)^relief p^focus log(1 - p)  elsewhere

    Voxels that nobody searched for objects (not `valid`) have no part in it.
    """
    p = jax.nn.sigmoid(logits)
    centre = target == 1
    found = -((1 - p) ** focus) * jax.nn.log_sigmoid(logits)
    false = -((1 - target) ** relief) * p**focus * jax.nn.log_sigmoid(-logits)
    loss = jnp.where(centre, found, false) * valid
    return jnp.sum(loss), jnp.sum(centre & valid, dtype=jnp.float32)


def box_loss(
    offset: Float[Array, "d h w 3"],
    log_extent: Float[Array, "d h w 3"],
    boxes: Boxes,
) -> tuple[Pair, Pair]:
    """L1 of offset (voxels) and of log extent, each the mean of three axes, where centres are; of one sample.

    `boxes` on the grid of the features; a score of 0 is no box.
    """
    shape = offset.shape[:3]
    voxel = boxes.voxel((shape[0], shape[1], shape[2]))
    place = (voxel[:, 0], voxel[:, 1], voxel[:, 2])
    there = boxes.score > 0
    wanted = boxes.centre - voxel, jnp.log(jnp.maximum(boxes.extent, 1e-3))
    pairs = []
    for predicted, right in zip((offset, log_extent), wanted, strict=True):
        error = jnp.abs(predicted[place] - right).mean(axis=1)
        pairs.append((jnp.sum(error * there), jnp.sum(there, dtype=jnp.float32)))
    return pairs[0], pairs[1]
