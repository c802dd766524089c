"""Distillation (Hinton 2015): a smaller network learns what the whole one says, beside the labels."""

from typing import Any

import jax
from jaxtyping import Array

from medjax.data.augment import Augmentation
from medjax.losses.consistency import imitation
from medjax.train.step import Batch, Loss, Pairs
from medjax.train.supervised import Segmenter

TEACHER = "teacher"  # its weights in `State.extra`, which no step changes
TEMPERATURE = 2.0
TERMS = {  # what each pair counts in its task
    "segmentation": {"distillation": 1.0},
    "classification": {"class_distillation": 1.0},
}


def distilled(segmenter: Segmenter, augment: Augmentation, teacher: Any) -> Loss:
    """The loss body: what labels teach, and what the model `teacher` says of voxels and of whole samples.

    Both see the same augmented patches; the teacher as in use, without dropout. Detection is learned from
    labels alone.
    """

    def loss(params, extra: dict, batch: Batch, key: Array, progress: Array) -> tuple[Pairs, dict]:
        augmentation_key, dropout_key = jax.random.split(key)
        augmented = dict(batch)
        augmented = augment.apply(augment.sample(augmentation_key, augmented), augmented)
        image, present = augmented["image"], augmented.get("present")
        outputs, aux = segmenter.outputs(params, image, dropout_key, present)
        pairs = segmenter.pairs(outputs, aux, augmented)
        weights = {"params": jax.lax.stop_gradient(extra[TEACHER])}
        theirs = teacher.apply(weights, image, False, present=present)[0]
        for head, name in (("seg", "distillation"), ("cls", "class_distillation")):
            if head in outputs:
                exclusive = segmenter.exclusive or head == "cls"
                pairs[name] = imitation(
                    outputs[head], theirs[head], exclusive=exclusive, temperature=TEMPERATURE
                )
        return pairs, extra

    return loss
