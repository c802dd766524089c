"""Cross pseudo supervision (Chen 2021): two networks, each learning what the other decides."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from medjax.losses import consistency, segmentation
from medjax.losses.segmentation import Pair
from medjax.train.step import Batch, Loss, Pairs
from medjax.train.supervised import Segmenter
from medjax.train.views import Views, take


def cross_pseudo_supervision(segmenter: Segmenter, views: Views, *, ramp: float) -> Loss:
    """The loss body of a `nn.twin.Twin`: what labels teach both, and `cross` where there are none.

    Both see the same augmented patches, so that only their weights differ. `cross` is the cross-entropy of
    each against the other's decision, times a ramp over the share `ramp` of the run.
    """

    def follow(logits: Array, other: Array) -> Pair:
        theirs = jax.lax.stop_gradient(segmenter.probabilities(other))
        target = consistency.decided(theirs, exclusive=segmenter.exclusive)
        everywhere = jnp.ones((*logits.shape[:-1], 1), bool)
        return segmentation.cross_entropy(logits, target, everywhere, exclusive=segmenter.exclusive)

    def loss(params, extra: dict, batch: Batch, key: Array, progress: Array) -> tuple[Pairs, dict]:
        augmentation_key, dropout_key = jax.random.split(key)
        batch = dict(batch)
        augmented = views.strong.apply(views.strong.sample(augmentation_key, batch), batch)
        first, aux = segmenter.outputs(params, augmented["image"], dropout_key)
        second = aux.pop("twin")
        pairs = segmenter.pairs(first, aux, augmented)
        others = segmenter.pairs(second, {}, augmented)
        for name in ("dice_loss", "cross_entropy"):
            (total, count), (more, _) = pairs[name], others[name]
            pairs[name] = total + more, count

        free = views.rows(augmented["label"].shape[0], labelled=False)
        one, other = take((first["seg"], second["seg"]), free)
        (total, count), (more, _) = follow(one, other), follow(other, one)
        pairs["cross"] = consistency.ramp(progress, ramp) * (total + more), count
        return pairs, extra

    return loss
