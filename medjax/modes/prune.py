"""Channels that go before a run trains: which ones, and the run without them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from medjax import progress
from medjax.data.plan import read_plan
from medjax.deploy.prune import choice
from medjax.deploy.prune.pruned import structure_of
from medjax.deploy.prune.structure import Structure, cut, operations
from medjax.errors import UserError
from medjax.modes import build
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment

console = progress.console


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
    for key, known in (("scope", ("family", "global")), ("score", ("magnitude", "random"))):
        if own[key] not in known:
            raise UserError(f"prune.{key}: {own[key]!r} is unknown; choose {' or '.join(known)}")


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

    What goes is chosen once and stands in plan.json.
    """
    own = run.config.prune
    if not own.ratio:
        return run, trained
    image = jnp.zeros((1, *run.plan.patch, len(run.plan.channels)))
    structure = structure_of(build.whole(run.config, run.plan), image)
    if not run.plan.pruned:
        if own.score == "random":
            scores = choice.random(structure, run.config.seed)
        else:
            scores = choice.magnitude(structure, trained)
        removed = choice.choose(
            structure,
            scores,
            own.ratio,
            scope=own.scope,
            multiple=own.multiple,
            exclude=tuple(own.exclude),
        )
        if not removed:
            raise UserError(
                f"prune.ratio: {own.ratio} in multiples of {own.multiple} channels takes none away; give "
                "more, or a smaller prune.multiple"
            )
        run = _with(run, structure.entries(removed))
        _say(structure, removed, trained)
    if trained is not None:
        trained = cut(structure, trained, structure.removed(run.plan.pruned))
    return run, trained


def _with(run: Experiment, entries: Any) -> Experiment:
    """The run with another network, in its plan.json too."""
    plan = replace(run.plan, pruned=entries)
    plan.write(run.workdir / "plan.json")
    return replace(run, plan=plan)


def _say(structure: Structure, removed: frozenset[int], trained: Any) -> None:
    """What is left, in one line."""
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(tree))
        for tree in (trained, cut(structure, trained, removed))
    ]
    counts = operations(structure), operations(structure, removed)
    console.print(
        f"pruned {len(removed)} of {len(structure.units)} channels: {sizes[0]:,} to {sizes[1]:,} parameters, "
        f"{counts[0] / 1e9:.2f} to {counts[1] / 1e9:.2f} G multiplications a patch"
    )
