"""What an augmentation is, and how several become one."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt32

from medjax.ops.sharing import whole

Batch = dict[str, Any]
Parameters = Any


class Augmentation(NamedTuple):
    """Four pure, jittable functions that augment a batch of network arrays (b, d, h, w, c).

    sample(key, batch) -> parameters: what is drawn for each sample, a pytree with the axis b first.
        The draw depends on the key and on `batch["index"]` alone, so a sample is augmented alike
        in whatever position, batch or replica it stands. The caller folds the step into the key.
    apply(parameters, batch) -> batch: augments `image` and, where space is moved, `label` and
        `instances`; all other keys pass.
    move(parameters, array) -> array: brings an array (b, d, h, w, c) on the grid of the patch
        (probabilities) to the augmented grid, as `apply` does the image; 0 comes in from outside.
    invert(parameters, array) -> array: brings an array (b, d, h, w, c) on the augmented grid
        (features, probabilities) back to the centre crop of the original; differentiable.
    Intensities are neither moved nor undone.
    """

    sample: Callable[[PRNGKeyArray, Batch], Parameters]
    apply: Callable[[Parameters, Batch], Batch]
    move: Callable[[Parameters, Float[Array, "b d h w c"]], Float[Array, "b d h w c"]]
    invert: Callable[[Parameters, Float[Array, "b d h w c"]], Float[Array, "b d h w c"]]


def chain(*augmentations: Augmentation) -> Augmentation:
    """Apply augmentations one after the other, each with a random stream of its own.

    Without any, the identity.
    """

    def sample(key: PRNGKeyArray, batch: Batch) -> Parameters:
        if not augmentations:
            return ()
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.arange(len(augmentations)))
        return tuple(
            augmentation.sample(own, batch)
            for augmentation, own in zip(augmentations, keys, strict=True)
        )

    def apply(parameters: Parameters, batch: Batch) -> Batch:
        for augmentation, own in zip(augmentations, parameters, strict=True):
            batch = augmentation.apply(own, batch)
        return batch

    def move(parameters: Parameters, array: Array) -> Array:
        for augmentation, own in zip(augmentations, parameters, strict=True):
            array = augmentation.move(own, array)
        return array

    def invert(parameters: Parameters, array: Array) -> Array:
        for augmentation, own in zip(reversed(augmentations), reversed(parameters), strict=True):
            array = augmentation.invert(own, array)
        return array

    return Augmentation(sample, whole(apply), whole(move), whole(invert))


def unmoved(_: Parameters, array: Array) -> Array:
    """`move` and `invert` of an augmentation of intensities."""
    return array


def random_words(key: PRNGKeyArray, batch: Batch, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Random words (b, *shape), each sample's own by its global index.

    All that one augmentation draws comes from one table: each further call of `jax.random` would
    add a quarter of a second to the compilation.
    """

    def own(index: Array) -> Array:
        words = jax.random.bits(jax.random.fold_in(key, index), (math.prod(shape),))
        return words.reshape(shape)  # drawn flat: a shaped draw compiles three times as long

    return jax.vmap(own)(batch["index"])


def uniform(words: UInt32[Array, "*s"], low: float = 0.0, high: float = 1.0) -> Float[Array, "*s"]:
    """Words as numbers from `low` on and below `high`, on a grid of 2^-24."""
    return low + (high - low) * ((words >> 8).astype(jnp.float32) * 2.0**-24)


def chosen(words: UInt32[Array, "*s"], probability: float) -> Bool[Array, "*s"]:
    """True with `probability`; never for 0, always for 1."""
    return uniform(words) < probability


def around_one(words: UInt32[Array, "2 *s"], bounds: tuple[float, float]) -> Float[Array, "*s"]:
    """Factors below and above 1 equally often (nnU-Net's draw), uniform on each side.

    Uniform in `bounds` where 1 does not lie inside.
    """
    low, high = bounds
    if not low < 1 < high:
        return uniform(words[1], low, high)
    below, above = uniform(words[1], low, 1.0), uniform(words[1], 1.0, high)
    return jnp.where(chosen(words[0], 0.5), below, above)
