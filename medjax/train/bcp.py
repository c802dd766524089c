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
    """Patches, their targets, and where these are valid (`losses.segmentation`)."""

    image: Float[Array, "b d h w c"]
    target: Float[Array, "b d h w k"]
    valid: Bool[Array, "b d h w v"]


def exchange(
    inside: Bool[Array, "b d h w"], one: Float[Array, "b d h w c"], other: Float[Array, "b d h w c"]
) -> tuple[Float[Array, "b d h w c"], Float[Array, "b d h w c"]]:
    """Both with the other's voxels `inside`, from elsewhere their own; twice is neither."""
    where = inside[..., None]
    return jnp.where(where, other, one), jnp.where(where, one, other)


def copy_paste(segmenter: Segmenter, views: Views, *, pretrain: float, largest: bool) -> Loss:
    """The loss body: `dice_loss` and `cross_entropy` of patches with a label, both also `pseudo_` without.

    Two patches exchange a box, the network sees both mixtures, and what it says of the box goes back: each
    patch is judged as a whole, as its Dice would say little of a part. At first, for the share `pretrain` of
    the run, both have labels; then one has none, and its label is what the teacher (`extra["ema"]`)
    decides, of each class the `largest` part. A turn of `views` is a row with a label and one without.
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
        one = Material(augmented["image"][rows], *segmenter.known(augmented["label"][rows]))
        labelled = Material(*(mixing.partners(array, 2) for array in one))
        guessed = Material(augmented["image"][free], guess, seen[..., None])
        early = progress < pretrain
        other = Material(*(jnp.where(early, *pair) for pair in zip(labelled, guessed, strict=True)))

        inside = boxes(take(augmented, rows), box_key)
        shown = jnp.concatenate(exchange(inside, one.image, other.image))
        logits = jnp.split(segmenter.predict(params, shown, dropout_key), 2)
        ours, theirs = exchange(inside, *logits)
        pairs = segmenter.terms(ours, one.target, one.valid)
        more = segmenter.terms(theirs, other.target, other.valid)
        pairs = jax.tree.map(lambda a, b: a + early * b, pairs, more)
        pairs |= {f"pseudo_{name}": (a * ~early, n * ~early) for name, (a, n) in more.items()}
        return {**pairs, "dice": segmenter.score(ours, one.target, one.valid)}, extra

    return loss
