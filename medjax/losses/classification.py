"""Losses of whole samples, as (sum, count) pairs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from medjax.losses.segmentation import Pair

UNKNOWN = -1  # the class of a sample that nobody classified


def class_entropy(logits: Float[Array, "b k"], target: Int[Array, " b"]) -> Pair:
    """Cross-entropy of the softmax, per sample whose class is known."""
    known, right = target != UNKNOWN, jnp.maximum(target, 0)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), right[:, None], axis=1)[:, 0]
    return -jnp.sum(log_p * known), jnp.sum(known, dtype=jnp.float32)


def accuracy(logits: Float[Array, "b k"], target: Int[Array, " b"]) -> Pair:
    """The share of the known classes that are the likeliest ones."""
    known = target != UNKNOWN
    right = (jnp.argmax(logits, axis=1) == target) & known
    return jnp.sum(right, dtype=jnp.float32), jnp.sum(known, dtype=jnp.float32)
