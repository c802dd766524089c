"""The supervised paradigm: augment, predict, Dice and cross-entropy, with deep supervision."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Integer

from medjax.data.augment import Augmentation
from medjax.losses import segmentation
from medjax.train.step import AXIS, Batch, Loss, Pairs


def coarser(
    label: Integer[Array, "b d h w"], like: Float[Array, "b d2 h2 w2 k"]
) -> Integer[Array, "b d2 h2 w2"]:
    """The labels at a coarser level's grid: every n-th voxel, the sites of the strided convolutions."""
    strides = [n // m for n, m in zip(label.shape[1:], like.shape[1:4], strict=True)]
    return label[:, :: strides[0], :: strides[1], :: strides[2]]


def supervised(
    model: Any,
    augment: Augmentation,
    groups: Sequence[Sequence[int]],
    *,
    exclusive: bool,
    batch_dice: bool = False,
) -> Loss:
    """The loss body of supervised segmentation: pairs `dice_loss`, `cross_entropy` and, reported, `dice`.

    `groups` lists the class indices of each output channel (`losses.segmentation.targets`).
    Deep-supervision logits, where the model gives them, weigh 1/2 per level down (nnU-Net's rule).
    """
    levels = tuple(tuple(group) for group in groups)

    def terms(logits, label):
        valid = label != segmentation.IGNORE
        target = segmentation.targets(label, levels)
        dice = segmentation.dice_loss(
            logits, target, valid, exclusive=exclusive, batch=batch_dice, axis=AXIS
        )
        return dice, segmentation.cross_entropy(logits, target, valid, exclusive=exclusive)

    def loss(params, extra: dict, batch: Batch, key: Array, step: Array) -> tuple[Pairs, dict]:
        augmentation_key, dropout_key = jax.random.split(key)
        augmented = dict(batch)
        augmented = augment.apply(augment.sample(augmentation_key, augmented), augmented)
        outputs, aux = model.apply(
            {"params": params},
            augmented["image"],
            True,
            present=augmented.get("present"),
            rngs={"dropout": dropout_key},
        )
        logits, label = outputs["seg"].astype(jnp.float32), augmented["label"]
        coarse = [aux[name] for name in sorted(aux) if name.startswith("logits/")]
        scales = [logits, *coarse]
        found = [terms(s.astype(jnp.float32), coarser(label, s)) for s in scales]
        weights = [0.5**i for i in range(len(scales))]
        pairs = {
            "dice_loss": segmentation.merge([f[0] for f in found], weights),
            "cross_entropy": segmentation.merge([f[1] for f in found], weights),
        }
        valid = label != segmentation.IGNORE
        pairs["dice"] = jax.lax.stop_gradient(
            segmentation.hard_dice(
                logits, segmentation.targets(label, levels), valid, exclusive=exclusive
            )
        )
        return pairs, extra

    return loss


WEIGHTS = {"dice_loss": 1.0, "cross_entropy": 1.0}
