"""The paradigm `supervised`: a U-Net that segments, learned from labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medjax.modes import build, prune, quantise
from medjax.modes.experiment import Experiment
from medjax.modes.paradigm import Paradigm
from medjax.train import distill
from medjax.train.distill import distilled
from medjax.train.supervised import supervised
from medjax.train.tasks import TERMS
from medjax.train.validate import validator


def training(run: Experiment, folders: Mapping[str, list[Path]], trained: Any) -> Paradigm:
    """Augment, predict, Dice and cross-entropy, from `trained` weights where they are given."""
    config, plan, chosen = run.config, run.plan, run.config.train
    model = build.model(config, plan)
    augment, motion = build.augmentation(config, plan)
    segmenter = build.segmenter(config, plan, quantise.learner(run, model, trained))
    loss, terms, teacher = supervised(segmenter, augment), TERMS, None
    if build.distils(config):
        loss = distilled(segmenter, augment, build.whole(config, plan))
        terms = {
            task: own
            | {n: config.prune.distill * w for n, w in distill.TERMS.get(task, {}).items()}
            for task, own in TERMS.items()
        }
        teacher = None if trained is None else prune.teacher(config)
    return Paradigm(
        step=build.tasks_step(config, loss, terms, ema=chosen.ema),
        start=build.start(config, plan, model, trained, ema=chosen.ema, teacher=teacher),
        validate=validator(
            model,
            folders["validation"],
            plan,
            batches=chosen.validation_batches,
            seed=config.seed,
            targets=run.targets(run.cases(run.split.validation)),
            space=chosen.space,
        ),
        motion=motion,
        shown=build.shown(config),
    )
