"""Two views of a patch without a label: that of the network that answers, and that of the one that learns.

The answer is given for the patch itself, at most flipped. It is then moved as the learner's image was, so
that both speak of the same voxels, and nothing is differentiated through a resampling.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from medjax.data.augment import Augmentation
from medjax.data.augment.chain import Parameters, random_words
from medjax.ops.noise import normal
from medjax.train.state import Params
from medjax.train.supervised import Segmenter

LARGEST_NOISE = 2.0  # deviations (that of Yu and others 2019)
SEEN = 1 - 1e-3  # share of an interpolated voxel that lay within the patch


class Views(NamedTuple):
    """How a learner's view of a patch is made, and that of a network that answers for it.

    `strong` augments as for labelled patches; `weak` flips alone; `noise` is the deviation of what is
    added to the weak view. `turn` says which of the rows that belong together have labels.
    """

    strong: Augmentation
    weak: Augmentation
    turn: tuple[bool, ...]
    noise: float = 0.0

    def rows(self, count: int, *, labelled: bool) -> Int[np.ndarray, " n"]:
        """The rows of a batch of `count` patches that have labels, or those that have none."""
        return np.flatnonzero(np.resize(self.turn, count) == labelled)


def take(tree: Any, rows: Sequence[int] | Int[np.ndarray, " n"]) -> Any:
    """Those rows of every array."""
    return jax.tree.map(lambda array: jnp.asarray(array)[np.asarray(rows)], tree)


def patch_of(batch: dict[str, Array]) -> dict[str, Array]:
    """The batch without what only a moving augmentation reads."""
    return {name: value for name, value in batch.items() if name not in ("wide", "moves")}


def weak_view(
    views: Views, batch: dict[str, Array], key: Array
) -> tuple[Float[Array, "b d h w c"], Parameters]:
    """The image as a network that answers sees it, and how it was flipped."""
    flip_key, noise_key = jax.random.split(key)
    patch = patch_of(batch)
    flipped = views.weak.sample(flip_key, patch)
    image = views.weak.apply(flipped, patch)["image"]
    if views.noise:
        words = random_words(noise_key, patch, (2,))
        drawn = jax.vmap(lambda seed: normal(seed, image.shape[1:]))(words)
        image = image + views.noise * jnp.clip(drawn, -LARGEST_NOISE, LARGEST_NOISE)
    return image, flipped


def answer(
    views: Views, segmenter: Segmenter, params: Params, batch: dict[str, Array], key: Array
) -> Float[Array, "b d h w k"]:
    """Probabilities for each voxel of the patch; held constant."""
    view_key, dropout_key = jax.random.split(key)
    image, flipped = weak_view(views, batch, view_key)
    logits = segmenter.predict(params, image, dropout_key)
    found = views.weak.invert(flipped, segmenter.probabilities(logits))
    return jax.lax.stop_gradient(found)


def moved(
    augmentation: Augmentation, parameters: Parameters, found: Float[Array, "b d h w k"]
) -> tuple[Float[Array, "b d h w k"], Bool[Array, "b d h w"]]:
    """What was found for a patch, on the grid of its augmented image, and where that lay within the patch."""
    inside = jnp.ones_like(found[..., :1])
    result = augmentation.move(parameters, jnp.concatenate([found, inside], axis=-1))
    return result[..., :-1], result[..., -1] > SEEN
