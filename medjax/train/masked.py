"""Masked reconstruction (He 2022): a network that makes what is hidden of an image from the rest of it."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, UInt32

from medjax.data.augment import Augmentation
from medjax.data.augment.chain import random_words, uniform
from medjax.train.step import Batch, Loss, Pairs

WEIGHTS = {"reconstruction": 1.0}
Triple = tuple[int, int, int]


def cells(shape: Triple, block: int) -> Triple:
    """How many blocks lie along each axis; the last ones may be cut."""
    d, h, w = (math.ceil(n / block) for n in shape)
    return d, h, w


def hide(chosen: Bool[Array, "p q r"], shape: Triple, block: int) -> Bool[Array, "d h w"]:
    """The voxels of the chosen blocks."""
    for axis, n in enumerate(shape):
        chosen = jnp.repeat(chosen, block, axis=axis)
        chosen = jax.lax.slice_in_dim(chosen, 0, n, axis=axis)
    return chosen


def masked(model: Any, augment: Augmentation, *, block: int, share: float) -> Loss:
    """The loss body: `reconstruction`, the squared error of hidden voxels in the plan's units.

    A `share` of the blocks of `block` voxels a side is hidden in all channels (0, the mean of a
    normalised image, stands there). No label is read.
    """

    def loss(params, extra: dict, batch: Batch, key: Array, progress: Array) -> tuple[Pairs, dict]:
        augmentation_key, dropout_key, mask_key = jax.random.split(key, 3)
        augmented = dict(batch)
        augmented = augment.apply(augment.sample(augmentation_key, augmented), augmented)
        image = augmented["image"]
        depth, height, width = image.shape[1:4]
        shape = depth, height, width
        count = cells(shape, block)

        def drawn(words: UInt32[Array, " n"]) -> Bool[Array, "d h w"]:
            return hide(uniform(words.reshape(count)) < share, shape, block)

        hidden = jax.vmap(drawn)(random_words(mask_key, augmented, (math.prod(count),)))
        given = jnp.where(hidden[..., None], 0, image)
        outputs, _ = model.apply({"params": params}, given, True, rngs={"dropout": dropout_key})
        error = jnp.square(outputs["seg"] - image).mean(axis=-1)
        return {
            "reconstruction": (jnp.sum(error * hidden), jnp.sum(hidden, dtype=jnp.float32))
        }, extra

    return loss
