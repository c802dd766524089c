"""What another prediction can teach: agreement, imitation, and labels that a network gives."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.losses.segmentation import Pair

Probabilities = Float[Array, "b d h w k"]


def ramp(progress: Float[Array, ""], share: float) -> Float[Array, ""]:
    """exp(-5 (1 - t)^2), t = progress / share up to 1: from 0.007 to 1 (Tarvainen and Valpola 2017).

    It rises over the first `share` of a run; 0 is 1 at once. A consistency that counted from the first
    step would make all networks agree on nothing.
    """
    t = jnp.clip(progress / share, 0, 1) if share > 0 else jnp.float32(1)
    return jnp.exp(-5 * (1 - t) ** 2)


def squared_error(ours: Probabilities, theirs: Probabilities, seen: Bool[Array, "b d h w"]) -> Pair:
    """Squared difference of probabilities, the mean of the channels, per voxel `seen` by both.

    Of the two, the teacher's is to be held constant by the caller (`jax.lax.stop_gradient`).
    """
    error = jnp.square(ours - theirs).mean(axis=-1)
    return jnp.sum(error * seen), jnp.sum(seen, dtype=jnp.float32)


def imitation(
    ours: Float[Array, "*b k"],
    theirs: Float[Array, "*b k"],
    *,
    exclusive: bool,
    temperature: float,
) -> Pair:
    """T^2 KL(p || q) of logits at temperature T, p of `theirs` and q of `ours` (Hinton 2015).

    Per voxel, or per sample of a classification. Of regions, the mean of the binary ones. It is 0 where both
    say the same, and its gradient does not hang on T while both are flat.
    """
    a, b = theirs / temperature, ours / temperature
    if exclusive:
        log_p, log_q = jax.nn.log_softmax(a), jax.nn.log_softmax(b)
        apart = (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    else:
        p = jax.nn.sigmoid(a)
        apart = (p * (a - b) + jax.nn.softplus(b) - jax.nn.softplus(a)).mean(axis=-1)
    return temperature**2 * jnp.sum(apart), jnp.float32(apart.size)


def decided(probabilities: Probabilities, *, exclusive: bool) -> Probabilities:
    """Probabilities as a target: 1 for the likeliest class (of equals the first), or regions above 1/2."""
    if not exclusive:
        return (probabilities > 0.5).astype(jnp.float32)
    first = jnp.argmax(probabilities, axis=-1)[..., None]
    channels = jnp.arange(probabilities.shape[-1]).reshape(1, 1, 1, 1, -1)
    return (channels == first).astype(jnp.float32)


def confidence(probabilities: Probabilities, *, exclusive: bool) -> Float[Array, "b d h w"]:
    """The probability of what `decided` says, of regions that of the least sure one: 0 to 1."""
    if exclusive:
        return probabilities.max(axis=-1)
    return jnp.maximum(probabilities, 1 - probabilities).min(axis=-1)


def entropy(probabilities: Probabilities, *, exclusive: bool) -> Float[Array, "b d h w"]:
    """The entropy of the classes, or the mean of the regions', over the largest there is: 0 to 1."""

    def term(p: Probabilities) -> Probabilities:
        return -p * jnp.log(jnp.maximum(p, 1e-12))

    if exclusive:
        return term(probabilities).sum(axis=-1) / math.log(probabilities.shape[-1])
    return (term(probabilities) + term(1 - probabilities)).mean(axis=-1) / math.log(2)
