"""The paradigm `cyclegan`: one MR contrast made from another, learned from other patients of each."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from medjax import progress
from medjax.data.plan import Plan, read_plan
from medjax.errors import UserError
from medjax.infer.predictor import Predictor
from medjax.modes import build, experiment, trained
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.modes.images import publish
from medjax.modes.paradigm import Paradigm
from medjax.nn.blocks import Conv
from medjax.nn.gan import Discriminator, Generator
from medjax.train import state
from medjax.train.cyclegan import Networks, cyclegan, empty_pool, weights
from medjax.train.fidelity import audit, validator

console = progress.console
DIVISOR = 4  # of a generator that halves twice


def training(run: Experiment, folders: Mapping[str, list[Path]], _trained: Any) -> Paradigm:
    """Generators and discriminators in one step.

    `_trained` is None: no other run's weights fit. What would stop the audit stops the run here.
    """
    config, plan, chosen = run.config, run.plan, run.config.train
    judge_of(run)
    nets = build_networks(config, plan)
    augment, motion = build.augmentation(config, plan)
    own = config.cyclegan
    loss = cyclegan(nets, augment, identity=own.identity > 0)
    terms = weights(cycle=own.cycle, identity=own.identity)
    return Paradigm(
        step=build.train_step(config, loss, terms, ema=chosen.ema),
        start=start_state(config, plan, nets),
        validate=validator(
            nets,
            folders["validation"],
            plan,
            batches=chosen.validation_batches,
            seed=config.seed,
        ),
        motion=motion,
        shown=("cycle_source", "cycle_target", "gan_g"),
        groups=groups(run),
    )


def groups(run: Experiment) -> Sequence[Sequence[int]]:
    """Whose images are the source's, whose the target's: half of the training patients each.

    With `cyclegan.simulated` new synthetic patients (the empty group), and all training cases.
    """
    cases = run.cases(run.split.train)
    if run.config.cyclegan.simulated:
        return (), tuple(range(len(cases)))
    return halves([case.patient for case in cases])


def halves(patients: Sequence[str]) -> tuple[list[int], list[int]]:
    """Positions of the cases of the first half of the patients, and of the others: no patient is in both."""
    order = list(dict.fromkeys(patients))
    first = set(order[: len(order) // 2])
    if not first:
        raise UserError("data.root: one training patient; unpaired contrasts need two or more")
    there = [i for i, patient in enumerate(patients) if patient in first]
    return there, [i for i, patient in enumerate(patients) if patient not in first]


def build_networks(config: Config, plan: Plan) -> Networks:
    """The networks of the config for the plan's channels. Errors name the key."""
    own = config.cyclegan
    for key in ("source", "target"):
        if own[key] not in plan.channels:
            raise UserError(
                f"cyclegan.{key}: {own[key]!r} is no channel of the data; "
                f"choose from {', '.join(plan.channels)}"
            )
    if any(n % DIVISOR for n in plan.patch if n > 1):
        raise UserError(f"plan.patch: {plan.patch}; a CycleGAN needs 1 or multiples of {DIVISOR}")
    if own.pool < 1:
        raise UserError(f"cyclegan.pool: {own.pool} images; give 1 or more")
    conv = partial(Conv, dtype=build.dtype(config))
    return Networks(
        generator=Generator(width=own.width, blocks=own.blocks, conv=conv),
        discriminator=Discriminator(width=own.width, layers=own.layers, conv=conv),
        source=plan.channels.index(own.source),
        target=plan.channels.index(own.target),
        classes=len(plan.labels.classes) if own.guard else 0,
    )


def start_state(config: Config, plan: Plan, nets: Networks) -> state.State:
    """New weights, and pools that are still empty."""
    params = build.drawn(lambda key: nets.init(key, plan.patch), config.seed)
    chosen, rule = config.train, build.optimizer(config)
    made = state.create(params, rule, horizon=chosen.steps, ema=chosen.ema)
    seen = max(nets.classes, 1)
    pools = {
        name: empty_pool(config.cyclegan.pool, plan.patch, seen)
        for name in ("pool_source", "pool_target")
    }
    return made.replace(extra={**made.extra, **pools})


def evaluate(run: Experiment, stored: dict[str, Any]) -> None:
    """The made contrast of the test cases, metrics.csv, results.json and report.html."""
    config, plan, workdir = run.config, run.plan, run.workdir
    begin = time.perf_counter()
    nets = build_networks(config, plan)
    found, facts = trained.restored(config, workdir, start_state(config, plan, nets))
    rows, sheets = audit(
        run.cases(run.split.test),
        nets,
        state.weights(found),
        plan,
        workdir / "predictions",
        judge=_predictor(judge_of(run)),
        spacing=run.spacing,
        progress=progress.bar("making test cases"),
    )
    how = {"checkpoint": config.eval.checkpoint, "segmenter": config.eval.segmenter}
    publish(run, stored, facts, rows, sheets, how, time.perf_counter() - begin)
    console.print(f"made {workdir / 'predictions'}")


def judge_of(run: Experiment) -> tuple[Path, Config, Plan] | None:
    """Folder, config and plan of `eval.segmenter`, or None.

    Errors: it segments other channels or classes, or was trained with a test case of this run.
    """
    if not run.config.eval.segmenter:
        return None
    folder = Path(run.config.eval.segmenter)
    config = experiment.stored_config(run.config, folder)
    plan = read_plan(folder / "plan.json")
    wanted = run.config.cyclegan.target
    if plan.channels != (wanted,) or plan.names != run.plan.names:
        raise UserError(
            f"eval.segmenter: {folder} segments {', '.join(plan.names)} from {', '.join(plan.channels)}; "
            f"give one of {', '.join(run.plan.names)} from {wanted}"
        )
    known = trained.met(config, folder, run.split.test)
    if known:
        raise UserError(
            f"eval.segmenter: {folder} was trained with {known[0]}, a test case of this run; "
            "train it with the same data and seed"
        )
    return folder, config, plan


def _predictor(judge: tuple[Path, Config, Plan] | None) -> Predictor | None:
    if judge is None:
        return None
    folder, config, plan = judge
    model, params, _ = trained.load_weights(config, plan, folder)
    return trained.build_predictor(config, plan, model, params)
