"""UniMatch (Yang 2023) in 3-D: the network's own sure answers, under two strong views and torn features."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from medjax.data.augment.chain import random_words, uniform
from medjax.losses import consistency, segmentation
from medjax.losses.segmentation import Pair
from medjax.ops import mixing
from medjax.train.step import Batch, Loss, Pairs
from medjax.train.supervised import Segmenter
from medjax.train.views import Views, answer, moved, take, weak_view

MIXED = 0.5  # share of strong views into which a box of another patch is pasted
VOLUME = (0.02, 0.4)  # of the patch, of that box
STRETCH = 0.5  # its sides differ from a cube's by up to a factor of about e^STRETCH


def paste_boxes(batch: dict[str, Array], key: Array) -> Bool[Array, "b d h w"]:
    """For each sample the voxels that come from its partner; none where nothing is pasted."""
    depth, height, width = batch["image"].shape[1:4]
    shape = depth, height, width
    extended = np.array(shape) > 1  # a slice has no depth to cut

    def one(words: Array) -> Array:
        chance, volume, *rest = uniform(words)
        share = (VOLUME[0] + (VOLUME[1] - VOLUME[0]) * volume) ** (1 / extended.sum())
        stretch = jnp.where(extended, STRETCH * (2 * jnp.stack(rest[:3]) - 1), 0)
        sides = share * jnp.exp(stretch - stretch.sum() / extended.sum())
        found = mixing.box(shape, sides * jnp.array(shape), jnp.stack(rest[3:]))
        return found & (chance < MIXED)

    return jax.vmap(one)(random_words(key, batch, (8,)))


def unimatch(
    segmenter: Segmenter, torn: Segmenter, views: Views, *, unit: int, confidence: float
) -> Loss:
    """The loss body: what labels teach, `strong` and `features` where there are none.

    The network's own answer for the flipped patch is the target wherever its probability is at least
    `confidence`: `strong` is the Dice loss of two strong views, each with boxes of the next patch of a
    `unit` of unlabelled rows pasted into half of them; `features` that of the flipped patch where `torn`,
    the same network, loses whole channels of its features. `sure` is the share of voxels that teach.
    """

    def dice(logits: Array, target: Array, valid: Array) -> Pair:
        seen = valid[..., None]
        return segmentation.dice_loss(logits, target, seen, exclusive=segmenter.exclusive)

    def decided(found: Float[Array, "b d h w k"]) -> tuple[Array, Array]:
        sure = consistency.confidence(found, exclusive=segmenter.exclusive) >= confidence
        return consistency.decided(found, exclusive=segmenter.exclusive), sure

    def strong(params: Any, batch: dict[str, Array], found: Array, key: Array) -> Pair:
        augmentation_key, paste_key, dropout_key = jax.random.split(key, 3)
        drawn = views.strong.sample(augmentation_key, batch)
        image = views.strong.apply(drawn, batch)["image"]
        there, seen = moved(views.strong, drawn, found)
        target, sure = decided(there)
        theirs = [mixing.partners(array, unit) for array in (image, target, sure & seen)]
        pasted = paste_boxes({**batch, "image": image}, paste_key)
        image = jnp.where(pasted[..., None], theirs[0], image)
        target = jnp.where(pasted[..., None], theirs[1], target)
        valid = jnp.where(pasted, theirs[2], sure & seen)
        logits = segmenter.predict(params, image, dropout_key)
        return dice(logits, target, valid)

    def loss(params, extra: dict, batch: Batch, key: Array, progress: Array) -> tuple[Pairs, dict]:
        augmentation_key, *keys = jax.random.split(key, 7)
        known = take(dict(batch), views.rows(len(batch["index"]), labelled=True))
        augmented = views.strong.apply(views.strong.sample(augmentation_key, known), known)
        outputs, aux = segmenter.outputs(params, augmented["image"], keys[0])
        pairs = segmenter.pairs(outputs, aux, augmented)

        free = take(dict(batch), views.rows(len(batch["index"]), labelled=False))
        found = answer(views, segmenter, params, free, keys[1])
        target, sure = decided(found)
        pairs["sure"] = jnp.sum(sure, dtype=jnp.float32), jnp.float32(sure.size)
        one, two = (strong(params, free, found, own) for own in keys[2:4])
        pairs["strong"] = one[0] + two[0], one[1] + two[1]
        image, flipped = weak_view(views, free, keys[4])
        logits = torn.predict(params, image, keys[5])
        there = views.weak.move(flipped, jnp.concatenate([target, sure[..., None]], axis=-1))
        pairs["features"] = dice(logits, there[..., :-1], there[..., -1] > 0.5)
        return pairs, extra

    return loss
