"""Channels that go before a run trains: which ones, and the run without them."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medjax import progress
from medjax.data.plan import read_plan
from medjax.deploy.prune import choice
from medjax.deploy.prune.pruned import structure_of
from medjax.deploy.prune.structure import Removed, Structure, cut, grow, operations
from medjax.deploy.windows import spread, windows
from medjax.errors import UserError
from medjax.losses.classification import UNKNOWN
from medjax.modes import build, experiment
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.modes.trained import load_weights
from medjax.train.step import AXIS
from medjax.train.tasks import TERMS

console = progress.console
SCOPES, SCORES = ("family", "global"), ("magnitude", "taylor", "random")
LOOKED_AT = 32  # training cases whose gradients are asked


def check(config: Config) -> None:
    """What pruning asks of the rest of a config. Errors name the key."""
    own, train = config.prune, config.train
    if not 0 <= own.ratio < 1:
        raise UserError(f"prune.ratio: {own.ratio} is no share; give 0 up to less than 1")
    if not own.ratio:
        return
    if not train.start_from:
        raise UserError("prune.ratio: prunes a trained network; name its run in train.start_from")
    if train.paradigm != "supervised":
        raise UserError(f"prune.ratio: is not for {train.paradigm}; set train.paradigm=supervised")
    if own.rounds < 1 or train.steps < own.rounds:
        raise UserError(
            f"prune.rounds: {own.rounds} of {train.steps} steps; give 1 up to the steps"
        )
    if own.distill < 0:
        raise UserError(f"prune.distill: {own.distill} is no weight; give 0 or more")
    if own.distill and tuple(config.tasks.learn) == ("detection",):
        raise UserError("prune.distill: is not for detection alone; set it to 0")
    check_choice(config)


def check_choice(config: Config) -> None:
    """The words and patterns among the settings. Errors name the key."""
    for key, known in (("scope", SCOPES), ("score", SCORES)):
        if config.prune[key] not in known:
            raise UserError(
                f"prune.{key}: {config.prune[key]!r} is unknown; choose {', '.join(known)}"
            )
    for pattern in config.prune.exclude:
        _check_pattern("exclude", pattern)
    for pair in config.prune.shares:
        match pair:
            case (str(pattern), int() | float() as share) if 0 <= share < 1:
                _check_pattern("shares", pattern)
            case _:
                raise UserError(
                    f"prune.shares: {pair!r} is no pattern and share; give (('encoder0', 0.5),), each "
                    "share 0 up to less than 1"
                )


def _check_pattern(key: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise UserError(f"prune.{key}: {pattern!r} is no regular expression: {error}") from error


def inherited(run: Experiment) -> Experiment:
    """The run with what the run that it starts from has lost already."""
    folder = run.config.train.start_from
    if not folder or run.config.prune.ratio or run.plan.pruned:
        return run
    path = Path(folder) / "plan.json"
    pruned = read_plan(path).pruned if path.is_file() else {}
    return _with(run, pruned) if pruned else run


def pruned(run: Experiment, trained: Any) -> tuple[Experiment, Any]:
    """The run without the channels of `prune`, and the trained weights that are left (None stays).

    What goes is chosen once and stands in plan.json; what the trained network has lost before stays away.
    """
    own = run.config.prune
    if not own.ratio or trained is None:
        return run, trained
    structure = structure_of(build.whole(run.config, run.plan), build.window(run.plan))
    before = structure.removed(read_plan(Path(run.config.train.start_from) / "plan.json").pruned)
    trained = grow(structure, trained, before)
    if not run.plan.pruned:
        removed = chosen(run, structure, trained, before, own)
        if removed == before:
            raise UserError(
                f"prune.ratio: {own.ratio} in multiples of {own.multiple} channels takes none away; give "
                "more, or a smaller prune.multiple"
            )
        run = _with(run, structure.entries(removed))
        say(structure, before, removed, trained)
    return run, cut(structure, trained, structure.removed(run.plan.pruned))


def chosen(
    run: Experiment, structure: Structure, trained: Any, gone: Removed, own: Config
) -> Removed:
    """The units that the settings `own` (`config.prune`) take away of trained weights, `gone` among them."""
    scores = {
        "magnitude": lambda: choice.magnitude(structure, trained),
        "taylor": lambda: choice.taylor(structure, trained, slopes(run, trained)),
        "random": lambda: choice.random(structure, run.config.seed),
    }
    return choice.choose(
        structure,
        scores[own.score](),
        own.ratio,
        scope=own.scope,
        multiple=own.multiple,
        exclude=tuple(own.exclude),
        shares=tuple(own.shares),
        gone=gone,
    )


def slopes(run: Experiment, params: Any) -> Iterator[Any]:
    """The gradient of the loss of the whole network in each of some windows of training cases.

    Detection is left out: its objects are learned from whole batches.
    """
    config, plan = run.config, run.plan
    segmenter = build.segmenter(config, plan, build.whole(config, plan))
    cases = spread(run.cases(run.split.train), LOOKED_AT)
    bar = progress.bar("looking at training cases")
    samples = windows(cases, plan, spacing=run.spacing, progress=bar)
    weights = {
        pair: w for task in ("segmentation", "classification") for pair, w in TERMS[task].items()
    }

    def loss(params: Any, batch: Any) -> Any:
        outputs, aux = segmenter.model.apply({"params": params}, batch["image"], False)
        heads = {head: outputs[head] for head in ("seg", "cls") if head in outputs}
        pairs = segmenter.pairs(heads, aux, batch)
        return sum(
            w * pairs[name][0] / jnp.maximum(pairs[name][1], 1)
            for name, w in weights.items()
            if name in pairs
        )

    @jax.jit
    def slope(params: Any, batch: Any) -> Any:
        mapped = jax.vmap(lambda own: jax.grad(loss)(params, own), axis_name=AXIS)
        return jax.tree.map(lambda g: g[0], mapped(batch))

    for sample in samples:
        target = np.array(run.targets([sample.case]) or [UNKNOWN], np.int32)
        batch = {"image": sample.image, "label": sample.label, "target": target}
        yield slope(params, jax.tree.map(lambda a: jnp.asarray(a)[None], batch))


def rounds(config: Config, workdir: Path) -> list[tuple[Config, Path]]:
    """The runs over which the share rises, each from the one before; the last is the run itself.

    Round k of n takes k / n of the share away and has an n-th of the steps or minutes.
    """
    count, found = config.prune.rounds, []
    if not config.prune.ratio or count == 1:
        return [(config, workdir)]
    start = config.train.start_from
    for k in range(1, count + 1):
        own = config.copy_and_resolve_references()
        with own.unlocked():
            own.prune.ratio = config.prune.ratio * k / count
            own.train.start_from = start
            own.train.steps = config.train.steps // count
            own.train.minutes = config.train.minutes / count
        folder = workdir if k == count else workdir / f"round-{k}"
        found.append((own, folder))
        start = str(folder)
    return found


def teacher(config: Config) -> Any:
    """The trained weights of the whole network that a pruned one was made of."""
    folder = Path(config.train.start_from)
    while (plan := read_plan(folder / "plan.json")).pruned:
        folder = Path(experiment.stored_config(config, folder).train.start_from)
    return load_weights(experiment.stored_config(config, folder), plan, folder)[1]


def _with(run: Experiment, entries: Any) -> Experiment:
    """The run with another network, in its plan.json too."""
    plan = replace(run.plan, pruned=entries)
    plan.write(run.workdir / "plan.json")
    return replace(run, plan=plan)


def say(structure: Structure, before: Removed, removed: Removed, trained: Any) -> None:
    """What is left, in one line."""
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(cut(structure, trained, gone)))
        for gone in (before, removed)
    ]
    counts = operations(structure, before), operations(structure, removed)
    console.print(
        f"pruned {len(removed)} of {len(structure.units)} channels: {sizes[0]:,} to {sizes[1]:,} parameters, "
        f"{counts[0] / 1e9:.2f} to {counts[1] / 1e9:.2f} G multiplications a patch"
    )
