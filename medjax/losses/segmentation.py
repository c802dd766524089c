"""Segmentation losses as (sum, count) pairs; the division happens once, after the sum over replicas.

`valid` marks the voxels that decide a channel, in one channel for all where each labelled voxel decides them
all. A voxel that may be of several classes, as nobody drew them, has the target 1 in each and decides none of
these: it teaches their sum (Shi 2021).
"""

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
    none = jnp.zeros_like(label, bool)
    members = [
        functools.reduce(operator.or_, [label == c for c in group], none) for group in groups
    ]
    return jnp.stack(members, axis=-1).astype(jnp.float32)


def known(
    label: Integer[Array, "b d h w"],
    groups: Sequence[Sequence[int]],
    undecided: Sequence[Sequence[int]] = (),
) -> tuple[Float[Array, "b d h w k"], Bool[Array, "b d h w v"]]:
    """Target and `valid`; `undecided` lists per channel the indices of voxels that may be of its group."""
    target, valid = targets(label, groups), (label != IGNORE)[..., None]
    if not any(undecided):
        return target, valid
    may = targets(label, undecided)
    return target + may, valid & (may == 0)


def probabilities(
    logits: Float[Array, "b d h w k"], *, exclusive: bool
) -> Float[Array, "b d h w k"]:
    """Softmax over exclusive classes, sigmoid over overlapping regions."""
    return jax.nn.softmax(logits) if exclusive else jax.nn.sigmoid(logits)


def dice_loss(
    logits: Float[Array, "b d h w k"],
    target: Float[Array, "b d h w k"],
    valid: Bool[Array, "b d h w v"],
    *,
    exclusive: bool,
    batch: bool = False,
    axis: str | None = None,
    smooth: float = 1e-5,
) -> Pair:
    """1 - soft Dice per sample and foreground channel (Milletari 2016; the form of nnU-Net, Isensee 2021).

    Exclusive classes leave channel 0, the background, out. A channel that is absent from the sample
    and not predicted has loss 0; absent and predicted, close to 1. A sample without any valid voxel
    does not count (`counted`). `batch` pools the samples before the ratio, over the replicas of `axis` too,
    so that it does not depend on how the batch is spread.
    """
    p, t = probabilities(logits, exclusive=exclusive) * valid, target * valid
    whole = counted(valid, t.shape[-1])
    if exclusive:
        p, t, whole = p[..., 1:], t[..., 1:], whole[..., 1:]
    space = (1, 2, 3)
    overlap, total = jnp.sum(p * t, space), jnp.sum(p, space) + jnp.sum(t, space)
    if batch:
        sums = [
            jnp.sum(x * whole, 0, keepdims=True) for x in (overlap, total, jnp.ones_like(total))
        ]
        overlap, total, samples = sums if axis is None else jax.lax.psum(sums, axis)
        whole = samples > 0
    loss = 1 - (2 * overlap + smooth) / (total + smooth)
    return jnp.sum(loss * whole), jnp.sum(whole, dtype=jnp.float32)


def counted(valid: Bool[Array, "b d h w v"], channels: int) -> Bool[Array, "b k"]:
    """Of which channels a sample has a Dice: those that all of its labelled voxels decide, if it has any."""
    labelled = jnp.any(valid, axis=-1, keepdims=True)
    whole = jnp.all(valid | ~labelled, (1, 2, 3)) & jnp.any(valid, (1, 2, 3))
    return jnp.broadcast_to(whole, (len(valid), channels))


def cross_entropy(
    logits: Float[Array, "b d h w k"],
    target: Float[Array, "b d h w k"],
    valid: Bool[Array, "b d h w v"],
    *,
    exclusive: bool,
) -> Pair:
    """Cross-entropy per labelled voxel: softmax over classes, or the mean of binary ones over regions.

    Of a voxel that may be of several classes it is that of their sum.
    """
    channels = valid.shape[-1]
    if not exclusive:
        # log(1 + e^x) - t x, which never overflows
        loss = jax.nn.softplus(logits) - target * logits
        total = jnp.sum(jnp.mean(loss * valid, axis=-1))
        return total, jnp.sum(valid, dtype=jnp.float32) / channels
    labelled, found = jnp.any(valid, axis=-1), jax.nn.log_softmax(logits)
    if channels == 1:
        loss = -jnp.sum(target * found, axis=-1)
    else:  # the sum over all classes where nothing is known, whose logarithm has no gradient
        loss = -jax.nn.logsumexp(found, axis=-1, b=jnp.where(labelled[..., None], target, 1))
    return jnp.sum(loss * labelled), jnp.sum(labelled, dtype=jnp.float32)


def hard_dice(
    logits: Float[Array, "b d h w k"],
    target: Float[Array, "b d h w k"],
    valid: Bool[Array, "b d h w v"],
    *,
    exclusive: bool,
) -> Pair:
    """Dice of the decided mask, over the foreground channels that the sample holds or predicts.

    A channel neither present nor predicted in a sample is not counted, so the score is no gift.
    """
    overlap, total = overlaps(logits, target, valid, exclusive=exclusive)
    score = jnp.where(total > 0, 2 * overlap / jnp.maximum(total, 1), 0)
    return jnp.sum(score), jnp.sum(total > 0, dtype=jnp.float32)


def overlaps(
    logits: Float[Array, "b d h w k"],
    target: Float[Array, "b d h w k"],
    valid: Bool[Array, "b d h w v"],
    *,
    exclusive: bool,
) -> tuple[Float[Array, "b n"], Float[Array, "b n"]]:
    """Per sample and foreground channel the voxels rightly decided, and those decided plus those labelled.

    0 where the sample cannot have a Dice of the channel (`counted`).
    """
    first, decided = 0, logits > 0
    if exclusive:
        first, decided = 1, logits >= jnp.max(logits, axis=-1, keepdims=True)
    p, t = (decided * valid)[..., first:], (target * valid)[..., first:]
    whole, space = counted(valid, logits.shape[-1])[..., first:], (1, 2, 3)
    return jnp.sum(p * t, space) * whole, (jnp.sum(p, space) + jnp.sum(t, space)) * whole


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
