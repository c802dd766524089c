"""The paradigm `supervised`: a U-Net that segments, learned from labels."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medjax.modes import experiment
from medjax.modes.experiment import Experiment
from medjax.modes.paradigm import Paradigm
from medjax.train import optim, state, step
from medjax.train.supervised import WEIGHTS, Segmenter, supervised
from medjax.train.validate import validator


def training(run: Experiment, folders: Mapping[str, list[Path]], trained: Any) -> Paradigm:
    """Augment, predict, Dice and cross-entropy, from `trained` weights where they are given."""
    config, plan, chosen = run.config, run.plan, run.config.train
    model = experiment.build_model(config, plan)
    augment, motion = experiment.build_augmentation(config, plan)
    segmenter = Segmenter(model, plan.groups, plan.exclusive, chosen.batch_dice)
    loss = supervised(segmenter, augment)
    gradients = step.differentiate(loss, WEIGHTS, accumulate=chosen.accumulate)
    rule = experiment.build_optimizer(config)
    rate = optim.schedule(chosen.schedule, peak=chosen.learning_rate, warmup=chosen.warmup)
    params = trained if trained is not None else experiment.init_params(model, plan, config.seed)
    return Paradigm(
        step=step.make_step(gradients, rule, rate, step.average if chosen.ema else None),
        start=state.create(params, rule, horizon=chosen.steps, ema=chosen.ema),
        validate=validator(
            model,
            folders["validation"],
            plan,
            batches=chosen.validation_batches,
            seed=config.seed,
        ),
        motion=motion,
        shown=("dice",),
    )
