"""The supervised paradigm: augment, predict, Dice and cross-entropy, with deep supervision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Bool, Float, Integer

from medjax.data.augment import Augmentation
from medjax.losses import segmentation
from medjax.train import tasks
from medjax.train.state import Params
from medjax.train.step import AXIS, Batch, Loss, Pairs

WEIGHTS = tasks.TERMS["segmentation"]


def coarser(
    label: Integer[Array, "b d h w"], like: Float[Array, "b d2 h2 w2 k"]
) -> Integer[Array, "b d2 h2 w2"]:
    """The labels at a coarser level's grid: every n-th voxel, the sites of the strided convolutions."""
    strides = [n // m for n, m in zip(label.shape[1:], like.shape[1:4], strict=True)]
    return label[:, :: strides[0], :: strides[1], :: strides[2]]


@dataclass(frozen=True)
class Segmenter:
    """A network that segments, maybe with other heads, and what its losses must know of the classes.

    `groups` lists the class indices of each output channel (`losses.segmentation.targets`), which are
    `exclusive` or overlap; `batch_dice` pools the samples of a batch. `undecided` lists for each channel the
    indices of voxels that may be of it (`Plan.undecided`).
    """

    model: Any
    groups: Sequence[Sequence[int]]
    exclusive: bool
    batch_dice: bool = False
    undecided: Sequence[Sequence[int]] = ()

    def outputs(
        self, params: Params, image: Array, key: Array, present: Array | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the heads give as in training, with the model's intermediates; `key` is for dropout."""
        return self.model.apply(
            {"params": params}, image, True, present=present, rngs={"dropout": key}
        )

    def predict(self, params: Params, image: Array, key: Array) -> Float[Array, "b d h w k"]:
        """The logits of the segmentation alone."""
        return self.outputs(params, image, key)[0]["seg"]

    def probabilities(self, logits: Float[Array, "b d h w k"]) -> Float[Array, "b d h w k"]:
        """Of the classes, or of each region."""
        return segmentation.probabilities(logits, exclusive=self.exclusive)

    def known(
        self, label: Integer[Array, "b d h w"]
    ) -> tuple[Float[Array, "b d h w k"], Bool[Array, "b d h w v"]]:
        """The target of each output channel, and which voxels decide it (`losses.segmentation`)."""
        return segmentation.known(label, self.groups, self.undecided)

    def terms(self, logits: Array, target: Array, valid: Array) -> Pairs:
        """`dice_loss` and `cross_entropy` of the valid voxels."""
        dice = segmentation.dice_loss(
            logits, target, valid, exclusive=self.exclusive, batch=self.batch_dice, axis=AXIS
        )
        entropy = segmentation.cross_entropy(logits, target, valid, exclusive=self.exclusive)
        return {"dice_loss": dice, "cross_entropy": entropy}

    def pairs(self, outputs: Mapping[str, Any], aux: Mapping[str, Any], batch: Batch) -> Pairs:
        """What `label`, `target` and `instances` of a batch teach the heads, and for the report `dice`.

        Deep-supervision logits, where the model gives them, weigh 1/2 per level down (nnU-Net's rule).
        """
        found = tasks.pairs(outputs, batch)
        if "seg" not in outputs:
            return found
        coarse = [aux[name] for name in sorted(aux) if name.startswith("logits/")]
        return found | self._segmented([outputs["seg"], *coarse], batch["label"])

    def _segmented(self, scales: Sequence[Array], label: Array) -> Pairs:
        found = [self.terms(scale, *self.known(coarser(label, scale))) for scale in scales]
        weights = [0.5**i for i in range(len(scales))]
        pairs = {
            name: segmentation.merge([terms[name] for terms in found], weights) for name in WEIGHTS
        }
        return {**pairs, "dice": self.score(scales[0], *self.known(label))}

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
        outputs, aux = segmenter.outputs(params, augmented["image"], dropout_key, present)
        return segmenter.pairs(outputs, aux, augmented), extra

    return loss
