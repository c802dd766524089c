"""The losses of a CycleGAN (Zhu 2017) as (sum, count) pairs; the division happens once, over all replicas."""

from typing import TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float

Pair: TypeAlias = tuple[Float[Array, ""], Float[Array, ""]]


def generator(made: Float[Array, "*s"]) -> Pair:
    """How far the scores of made images are from 1, squared (least squares, Mao 2017)."""
    return jnp.sum(jnp.square(made - 1)), jnp.float32(made.size)


def discriminator(real: Float[Array, "*s"], made: Float[Array, "*s"]) -> Pair:
    """Half of: real scores from 1, squared, plus made scores from 0, squared.

    The half slows the discriminator down against the generator (Zhu 2017). One that answers 1/2 to
    everything has a loss of 1/4.
    """
    return jnp.sum(jnp.square(real - 1) + jnp.square(made)) / 2, jnp.float32(real.size)


def l1(made: Float[Array, "*s"], wanted: Float[Array, "*s"]) -> Pair:
    """Absolute difference per voxel: of an image and its way there and back, or to its own kind."""
    return jnp.sum(jnp.abs(made - wanted)), jnp.float32(made.size)
