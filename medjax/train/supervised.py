"""The supervised paradigm: augment, predict, Dice and cross-entropy, with deep supervision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from medjax.data.augment import Augmentation
from medjax.losses import segmentation
from medjax.train.state import Params
from medjax.train.step import AXIS, Batch, Loss, Pairs

WEIGHTS = {"dice_loss": 1.0, "cross_entropy": 1.0}


def coarser(
    label: Integer[Array, "b d h w"], like: Float[Array, "b d2 h2 w2 k"]
) -> Integer[Array, "b d2 h2 w2"]:
    """The labels at a coarser level's grid: every n-th voxel, the sites of the strided convolutions."""
    strides = [n // m for n, m in zip(label.shape[1:], like.shape[1:4], strict=True)]
    return label[:, :: strides[0], :: strides[1], :: strides[2]]


@dataclass(frozen=True)
class Segmenter:
    """A network that segments, and what its losses must know of the classes.

    `groups` lists the class indices of each output channel (`losses.segmentation.targets`), which are
    `exclusive` or overlap; `batch_dice` pools the samples of a batch.
    """

    model: Any
    groups: Sequence[Sequence[int]]
    exclusive: bool
    batch_dice: bool = False

    def predict(
        self, params: Params, image: Array, key: Array, present: Array | None = None
    ) -> tuple[Float[Array, "b d h w k"], dict[str, Any]]:
        """Logits as in training, with the model's intermediates; `key` is for dropout."""
        outputs, aux = self.model.apply(
            {"params": params}, image, True, present=present, rngs={"dropout": key}
        )
        return outputs["seg"].astype(jnp.float32), aux

    def probabilities(self, logits: Float[Array, "b d h w k"]) -> Float[Array, "b d h w k"]:
        """Of the classes, or of each region."""
        return segmentation.probabilities(logits, exclusive=self.exclusive)

    def known(
        self, label: Integer[Array, "b d h w"]
    ) -> tuple[Float[Array, "b d h w k"], Bool[Array, "b d h w"]]:
        """The target of each output channel, and which voxels have a label."""
        return segmentation.targets(label, self.groups), label != segmentation.IGNORE

    def terms(self, logits: Array, target: Array, valid: Array) -> Pairs:
        """`dice_loss` and `cross_entropy` of the valid voxels."""
        dice = segmentation.dice_loss(
            logits, target, valid, exclusive=self.exclusive, batch=self.batch_dice, axis=AXIS
        )
        entropy = segmentation.cross_entropy(logits, target, valid, exclusive=self.exclusive)
        return {"dice_loss": dice, "cross_entropy": entropy}

    def pairs(self, logits: Array, aux: dict[str, Any], label: Array) -> Pairs:
        """What labels teach, and for the report `dice`.

        Deep-supervision logits, where the model gives them, weigh 1/2 per level down (nnU-Net's rule).
        """
        coarse = [aux[name] for name in sorted(aux) if name.startswith("logits/")]
        scales = [logits, *(logit.astype(jnp.float32) for logit in coarse)]
        found = [self.terms(scale, *self.known(coarser(label, scale))) for scale in scales]
        weights = [0.5**i for i in range(len(scales))]
        pairs = {
            name: segmentation.merge([terms[name] for terms in found], weights) for name in WEIGHTS
        }
        return {**pairs, "dice": self.score(logits, *self.known(label))}

    def score(self, logits: Array, target: Array, valid: Array) -> segmentation.Pair:
        """The Dice of what is decided, which teaches nothing."""
        found = segmentation.hard_dice(logits, target, valid, exclusive=self.exclusive)
        return jax.lax.stop_gradient(found)


def supervised(segmenter: Segmenter, augment: Augmentation) -> Loss:
    """The loss body of supervised segmentation."""

    def loss(params, extra: dict, batch: Batch, key: Array, progress: Array) -> tuple[Pairs, dict]:
        augmentation_key, dropout_key = jax.random.split(key)
        augmented = dict(batch)
        augmented = augment.apply(augment.sample(augmentation_key, augmented), augmented)
        present = augmented.get("present")
        logits, aux = segmenter.predict(params, augmented["image"], dropout_key, present)
        return segmenter.pairs(logits, aux, augmented["label"]), extra

    return loss
