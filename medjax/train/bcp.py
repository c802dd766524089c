"""Bidirectional copy-paste (Bai 2023): boxes of labelled patches in unlabelled ones, and back."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.data.augment.chain import random_words, uniform
from medjax.losses import consistency
from medjax.ops import components, mixing
from medjax.train.step import Batch, Loss, Pairs
from medjax.train.supervised import Segmenter
from medjax.train.views import Views, answer, moved, take

SIDE = 2 / 3  # of the pasted box, in sides of the patch


def boxes(batch: dict[str, Array], key: Array) -> Bool[Array, "b d h w"]:
    """For each sample the voxels of a box of two thirds of the patch a side, anywhere in it."""
    depth, height, width = batch["image"].shape[1:4]
    shape = depth, height, width
    size = jnp.array([SIDE * n if n > 1 else n for n in shape])
    words = random_words(key, batch, (3,))
    return jax.vmap(lambda own: mixing.box(shape, size, uniform(own)))(words)


def tidy(target: Float[Array, "b d h w k"], *, exclusive: bool) -> Float[Array, "b d h w k"]:
    """Only the largest part of each class or region of a decision; the rest is background."""
    channels = jnp.moveaxis(target > 0.5, -1, 1)
    kept = jax.vmap(jax.vmap(components.largest_component))(channels[:, int(exclusive) :])
    found = jnp.moveaxis(kept, 1, -1).astype(jnp.float32)
    if not exclusive:
        return found
    return jnp.concatenate([1 - found.sum(axis=-1, keepdims=True), found], axis=-1)


class Material(NamedTuple):
    """Patches, their targets, where these are valid (`losses.segmentation`), and where somebody drew them."""

    image: Float[Array, "b d h w c"]
    target: Float[Array, "b d h w k"]
    valid: Bool[Array, "b d h w v"]
    drawn: Bool[Array, "b d h w 1"]


def choose(where: Bool[Array, "..."], one: Material, other: Material) -> Material:
    """One where it is said so, the other elsewhere; `where` is of voxels, or a single answer."""

    def pick(a: Array, b: Array) -> Array:
        wide = where[..., None] if where.ndim and a.ndim > where.ndim else where
        return jnp.where(wide, a, b)

    return Material(*map(pick, one, other))


def copy_paste(segmenter: Segmenter, views: Views, *, pretrain: float, largest: bool) -> Loss:
    """The loss body: `dice_loss` and `cross_entropy` of voxels with a label, both also `pseudo_` without.

    A patch is the outside of a box that its partner fills, for two patches at a time and both ways:
    every voxel of both is seen. At first, for the share `pretrain` of the run, both have labels; then
    one has none, and its label is what the teacher (`extra["ema"]`) decides, of each class the `largest`
    part. A turn of `views` is a row with a label and one without.
    """

    def loss(params, extra: dict, batch: Batch, key: Array, progress: Array) -> tuple[Pairs, dict]:
        augmentation_key, dropout_key, teacher_key, box_key = jax.random.split(key, 4)
        batch = dict(batch)
        drawn = views.strong.sample(augmentation_key, batch)
        augmented = views.strong.apply(drawn, batch)
        count = augmented["image"].shape[0]
        rows, free = (views.rows(count, labelled=labelled) for labelled in (True, False))

        found = answer(views, segmenter, extra["ema"], take(batch, free), teacher_key)
        found, seen = moved(views.strong, take(drawn, free), found)
        guess = consistency.decided(found, exclusive=segmenter.exclusive)
        guess = tidy(guess, exclusive=segmenter.exclusive) if largest else guess
        target, valid = segmenter.known(augmented["label"][rows])
        somewhere = seen[..., None]
        one = Material(augmented["image"][rows], target, valid, jnp.ones_like(somewhere))
        other = Material(augmented["image"][free], guess, somewhere, jnp.zeros_like(somewhere))
        labelled = Material(*(mixing.partners(array, 2) for array in one))
        other = choose(progress < pretrain, labelled, other)

        inside = boxes(take(augmented, rows), box_key)
        both = zip(choose(inside, other, one), choose(inside, one, other), strict=True)
        shown = Material(*map(jnp.concatenate, both))
        logits = segmenter.predict(params, shown.image, dropout_key)
        pairs = segmenter.terms(logits, shown.target, shown.valid & shown.drawn)
        guessed = segmenter.terms(logits, shown.target, shown.valid & ~shown.drawn)
        score = segmenter.score(logits, shown.target, shown.valid & shown.drawn)
        pairs |= {f"pseudo_{name}": pair for name, pair in guessed.items()}
        return {**pairs, "dice": score}, extra

    return loss
