"""Mean Teacher (Tarvainen and Valpola 2017), and with several passes its uncertainty-aware form (Yu 2019)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from medjax.losses import consistency
from medjax.train.step import Batch, Loss, Pairs
from medjax.train.supervised import Segmenter
from medjax.train.views import Views, answer, moved, take


def mean_teacher(segmenter: Segmenter, views: Views, *, ramp: float, passes: int = 1) -> Loss:
    """The loss body: what labels teach, and `consistency` with the teacher where there are none.

    The teacher is the running mean of the weights, `extra["ema"]`. Its answer for patches without a label,
    seen with noise and other flips, is moved to the student's grid; the pair is the squared difference of
    probabilities times a ramp over the share `ramp` of the run. With `passes` > 1 the teacher answers so
    often, each time with other noise (and other dropout, where the model has any), and only voxels count
    at which the mean of its answers is sure: an entropy below 3/4 of the largest there is, rising to all
    of it. The first of the answers is what the student learns.
    """

    def loss(params, extra: dict, batch: Batch, key: Array, progress: Array) -> tuple[Pairs, dict]:
        augmentation_key, dropout_key, teacher_key = jax.random.split(key, 3)
        batch = dict(batch)
        drawn = views.strong.sample(augmentation_key, batch)
        augmented = views.strong.apply(drawn, batch)
        outputs, aux = segmenter.outputs(params, augmented["image"], dropout_key)
        pairs = segmenter.pairs(outputs, aux, augmented)
        logits = outputs["seg"]

        free = views.rows(logits.shape[0], labelled=False)
        patch = take(batch, free)
        answers = jax.lax.map(
            lambda own: answer(views, segmenter, extra["ema"], patch, own),
            jax.random.split(teacher_key, passes),
        )
        target, seen = moved(views.strong, take(drawn, free), answers[0])
        rise = consistency.ramp(progress, ramp)
        if passes > 1:
            mean, _ = moved(views.strong, take(drawn, free), answers.mean(axis=0))
            doubt = consistency.entropy(mean, exclusive=segmenter.exclusive)
            seen = seen & (doubt < 0.75 + 0.25 * rise)
        ours = take(segmenter.probabilities(logits), free)
        total, count = consistency.squared_error(ours, target, seen)
        pairs["consistency"] = rise * total, count
        if passes > 1:
            pairs["sure"] = jnp.sum(seen, dtype=jnp.float32), jnp.float32(seen.size)
        return pairs, extra

    return loss
