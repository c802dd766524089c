"""The paradigm `masked`: hidden parts of images are made from the rest; no label is read."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medjax import progress
from medjax.modes import build, trained
from medjax.modes.experiment import Experiment
from medjax.modes.images import publish
from medjax.modes.paradigm import Paradigm
from medjax.train.masked import WEIGHTS, masked
from medjax.train.reconstruction import audit, validator


def training(run: Experiment, folders: Mapping[str, list[Path]], trained: Any) -> Paradigm:
    """All training cases alike, with and without labels, from `trained` weights where they are given."""
    config, plan, chosen, own = run.config, run.plan, run.config.train, run.config.masked
    model = build.model(config, plan)
    augment, motion = build.augmentation(config, plan)
    loss = masked(model, augment, block=own.block, share=own.share)
    return Paradigm(
        step=build.train_step(config, loss, WEIGHTS, ema=chosen.ema),
        start=build.start(config, plan, model, trained, ema=chosen.ema),
        validate=validator(
            model,
            folders["validation"],
            plan,
            block=own.block,
            share=own.share,
            batches=chosen.validation_batches,
            seed=config.seed,
        ),
        motion=motion,
        shown=("reconstruction",),
    )


def evaluate(run: Experiment, stored: dict[str, Any]) -> None:
    """What is hidden of the test cases, made and compared: metrics.csv, results.json and report.html."""
    config, plan = run.config, run.plan
    begin = time.perf_counter()
    model, params, facts = trained.load_weights(config, plan, run.workdir)
    rows, sheets = audit(
        run.cases(run.split.test),
        model,
        params,
        plan,
        block=config.masked.block,
        share=config.masked.share,
        spacing=run.spacing,
        progress=progress.bar("judging test cases"),
    )
    how = {"checkpoint": config.eval.checkpoint}
    publish(run, stored, facts, rows, sheets, how, time.perf_counter() - begin)
