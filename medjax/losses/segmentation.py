"""Segmentation losses as (sum, count) pairs; the division happens once, after the sum over replicas."""

import functools
import operator
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

Pair: TypeAlias = tuple[Float[Array, ""], Float[Array, ""]]
IGNORE = 255  # the class index of voxels that nobody labelled


def targets(
    label: Integer[Array, "b d h w"], groups: Sequence[Sequence[int]]
) -> Float[Array, "b d h w k"]:
    """One channel per group of class indices: 1 where the voxel's class is in the group.

    Exclusive classes are the groups ((0,), (1,), ...); overlapping regions list several classes
    each. Comparisons, not `jax.nn.one_hot`: XLA fuses them into the loss and stores nothing.
    """
    members = [functools.reduce(operator.or_, [label == c for c in group]) for group in groups]
    return jnp.stack(members, axis=-1).astype(jnp.float32)


def probabilities(
    logits: Float[Array, "b d h w k"], *, exclusive: bool
) -> Float[Array, "b d h w k"]:
    """Softmax over exclusive classes, sigmoid over overlapping regions."""
    return jax.nn.softmax(logits) if exclusive else jax.nn.sigmoid(logits)


def dice_loss(
    logits: Float[Array, "b d h w k"],
    target: Float[Array, "b d h w k"],
    valid: Bool[Array, "b d h w"],
    *,
    exclusive: bool,
    batch: bool = False,
    axis: str | None = None,
    smooth: float = 1e-5,
) -> Pair:
    """1 - soft Dice per sample and foreground channel (Milletari 2016; the form of nnU-Net, Isensee 2021).

    Exclusive classes leave channel 0, the background, out. A channel that is absent from the sample
    and not predicted has loss 0; absent and predicted, close to 1. A sample without any valid voxel
    does not count. `batch` pools the samples before the ratio, over the replicas of `axis` too, so
    that it does not depend on how the batch is spread.
    """
    weight = valid[..., None]
    p = probabilities(logits, exclusive=exclusive) * weight
    t = target * weight
    if exclusive:
        p, t = p[..., 1:], t[..., 1:]
    space = (1, 2, 3)
    overlap, total = jnp.sum(p * t, space), jnp.sum(p, space) + jnp.sum(t, space)
    if batch:
        overlap, total = jnp.sum(overlap, 0, keepdims=True), jnp.sum(total, 0, keepdims=True)
        if axis is not None:
            overlap, total = jax.lax.psum((overlap, total), axis)
    loss = 1 - (2 * overlap + smooth) / (total + smooth)
    if batch:
        return jnp.sum(loss), jnp.float32(loss.size)
    counted = jnp.any(valid, space)  # the loss of the others is 0
    return jnp.sum(loss), jnp.sum(counted, dtype=jnp.float32) * loss.shape[1]


def cross_entropy(
    logits: Float[Array, "b d h w k"],
    target: Float[Array, "b d h w k"],
    valid: Bool[Array, "b d h w"],
    *,
    exclusive: bool,
) -> Pair:
    """Cross-entropy per labelled voxel: softmax over classes, or the mean of binary ones over regions."""
    if exclusive:
        loss = -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)
    else:
        # log(1 + e^x) - t x, which never overflows
        loss = jnp.mean(jax.nn.softplus(logits) - target * logits, axis=-1)
    return jnp.sum(loss * valid), jnp.sum(valid, dtype=jnp.float32)


def hard_dice(
    logits: Float[Array, "b d h w k"],
    target: Float[Array, "b d h w k"],
    valid: Bool[Array, "b d h w"],
    *,
    exclusive: bool,
) -> Pair:
    """Dice of the decided mask, over the foreground channels that the sample holds or predicts.

    A channel neither present nor predicted in a sample is not counted, so the score is no gift.
    """
    if exclusive:
        decided = logits >= jnp.max(logits, axis=-1, keepdims=True)
        decided, target = decided[..., 1:], target[..., 1:]
    else:
        decided = logits > 0
    p, t = decided * valid[..., None], target * valid[..., None]
    space = (1, 2, 3)
    overlap, total = jnp.sum(p * t, space), jnp.sum(p, space) + jnp.sum(t, space)
    counted = total > 0
    return jnp.sum(jnp.where(counted, 2 * overlap / jnp.maximum(total, 1), 0)), jnp.sum(
        counted, dtype=jnp.float32
    )


def merge(pairs: Sequence[Pair], weights: Sequence[float]) -> Pair:
    """One pair whose ratio is the weighted mean of the ratios when the counts are alike (deep supervision).

    The sums are scaled to the first pair's count, so coarse levels weigh what `weights` says.
    """
    total = sum(weights)
    count = pairs[0][1]
    mean = sum(
        weight / total * value / jnp.maximum(n, 1)
        for (value, n), weight in zip(pairs, weights, strict=True)
    )
    return jnp.asarray(mean) * count, count
