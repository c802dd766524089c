"""The paradigms that learn from cases without labels too, beside those with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medjax.modes import build
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.modes.paradigm import Paradigm
from medjax.train.bcp import copy_paste
from medjax.train.cps import cross_pseudo_supervision
from medjax.train.mean_teacher import mean_teacher
from medjax.train.step import Loss
from medjax.train.supervised import Segmenter
from medjax.train.tasks import TERMS
from medjax.train.unimatch import unimatch
from medjax.train.validate import validator
from medjax.train.views import Views
from medjax.train.weigh import Terms

# What each learns without labels, and how much it counts beside TERMS. A squared difference of probabilities
# is small: the hippocampus learned from a factor of 10 and hardly from 1 (experiments/claims/labels.py).
METHODS: dict[str, dict[str, float]] = {
    "mean_teacher": {"consistency": 10.0},
    "ua_mt": {"consistency": 10.0},
    "cps": {"cross": 0.1},
    "unimatch": {"strong": 0.5, "features": 0.5},
    "bcp": {"pseudo_dice_loss": 0.5, "pseudo_cross_entropy": 0.5},
}


def training(run: Experiment, folders: Mapping[str, list[Path]], trained: Any) -> Paradigm:
    """The method that `train.paradigm` names, from `trained` weights where they are given."""
    config, plan, chosen = run.config, run.plan, run.config.train
    model = build.model(config, plan)
    segmenter = build.segmenter(config, plan, model)
    strong, motion = build.augmentation(config, plan)
    weak = build.flips(config, plan)
    turn = (True, *(False,) * config.semi.unlabelled)
    views = Views(strong, weak, turn, config.semi.noise)
    loss = body(config, segmenter, views)
    return Paradigm(
        step=build.tasks_step(config, loss, terms(config), ema=True),
        start=build.start(config, plan, model, trained, ema=True),
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
        shown=(*build.shown(config), *METHODS[chosen.paradigm]),
        groups=groups(run, turn),
    )


def body(config: Config, segmenter: Segmenter, views: Views) -> Loss:
    """The loss body of the method."""
    own = config.semi
    if config.train.paradigm == "cps":
        return cross_pseudo_supervision(segmenter, views, ramp=own.ramp)
    if config.train.paradigm == "unimatch":
        torn = replace(segmenter, model=segmenter.model.clone(tearing=own.tearing))
        unit = 2 * own.unlabelled
        return unimatch(segmenter, torn, views, unit=unit, confidence=own.confidence)
    if config.train.paradigm == "bcp":
        return copy_paste(segmenter, views, pretrain=own.pretrain, largest=own.largest_component)
    passes = own.passes if config.train.paradigm == "ua_mt" else 1
    return mean_teacher(segmenter, views, ramp=own.ramp, passes=passes)


def terms(config: Config) -> Terms:
    """What each pair counts in its task; the method's own, times `semi.weight`, belong to segmentation."""
    own = METHODS[config.train.paradigm]
    without = {name: config.semi.weight * weight for name, weight in own.items()}
    return {**TERMS, "segmentation": TERMS["segmentation"] | without}


def differentiated(config: Config) -> float:
    """How often a patch is differentiated in a step, in the mean, which is what its memory grows with.

    Both networks of `cps` see all patches, that of `unimatch` three views of those without labels; 1 for
    every other paradigm.
    """
    bare = config.semi.unlabelled
    more = {"cps": 2.0, "unimatch": (1 + 3 * bare) / (1 + bare)}
    return more.get(config.train.paradigm, 1.0)


def groups(run: Experiment, turn: Sequence[bool]) -> Sequence[Sequence[int]]:
    """Positions of the cases in the rows of a turn; two turns where patches of a kind are mixed."""
    labelled = len(run.split.train)
    with_labels = tuple(range(labelled))
    without = tuple(range(labelled, labelled + len(run.split.unlabelled)))
    turns = 2 if run.config.train.paradigm in ("unimatch", "bcp") else 1
    return tuple(with_labels if known else without for known in turn) * turns
