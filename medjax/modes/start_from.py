"""What `train.start_from` names: the weights that a run starts with."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

from medjax import progress
from medjax.data.plan import Plan, read_plan
from medjax.errors import UserError
from medjax.modes import build, experiment
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.modes.trained import load_weights, met
from medjax.train import checkpoint, results

console = progress.console
HEAD = ("outputs", "tasks.detection_level", "model.deep_supervision")  # decide the heads alone


def check_start(config: Config, workdir: Path) -> None:
    """Whether there is a run to start from, before any data are read; a run that goes on needs none."""
    folder = config.train.start_from
    if not folder or (Path(folder) / "config.json").is_file():
        return
    if checkpoint.newest(workdir / "checkpoints") is None:
        raise UserError(
            f"train.start_from: {folder}: holds no trained run; train that first, or name another"
        )


def trained_weights(run: Experiment) -> Any:
    """The trained weights that `train.start_from` names; None where unset, and in a run that goes on.

    Of the checkpoint that `eval.checkpoint` names, the running mean where one is kept. Errors: nothing
    trained there, or another network than this run's.
    """
    config, plan = run.config, run.plan
    if not config.train.start_from or checkpoint.newest(run.workdir / "checkpoints") is not None:
        return None
    folder = Path(config.train.start_from)
    its_config = experiment.stored_config(config, folder)
    its_plan = read_plan(folder / "plan.json")
    before = (
        replace(plan, pruned=its_plan.pruned) if config.prune.ratio else plan
    )  # of what is left
    ours, theirs = _network(config, before), _network(its_config, its_plan)
    paradigms = its_config.train.paradigm, config.train.paradigm
    trunk = paradigms[0] == "masked" and paradigms[1] != "masked"  # the head is made anew
    if trunk and config.prune.ratio:
        raise UserError(f"prune.ratio: {folder} has learned no task yet; train it, then prune that")
    differ = [
        name for name in ours if ours[name] != theirs.get(name) and not (trunk and name in HEAD)
    ]
    if differ:
        first = differ[0]
        raise UserError(
            f"train.start_from: {folder}: is of another network ({', '.join(differ)} differ; {first}: "
            f"{theirs.get(first)} there, {ours[first]} here); make them equal, or start from another run"
        )
    known = met(its_config, folder, run.split.test)
    if known:
        warnings.warn(
            f"train.start_from: {folder} was trained with cases of the same names as {len(known)} test cases "
            "of this run; if they are the same scans, its scores mean nothing",
            stacklevel=2,
        )
    _, params, facts = load_weights(its_config, its_plan, folder)
    console.print(f"starting from {folder} at its step {facts['step']}")
    if trunk:
        new = build.params(build.model(config, plan), plan, config.seed)
        kept = {name for name in params if not name.startswith("seg")}
        params = {name: (params if name in kept else new)[name] for name in new}
    return params


def _network(config: Config, plan: Plan) -> dict[str, Any]:
    """What decides the shape and the meaning of a network's weights."""
    paradigm = config.train.paradigm
    return {
        "train.paradigm": paradigm if paradigm in ("cyclegan", "cps") else "one segmenter",
        "channels": plan.channels,
        "outputs": build.heads(config, plan),
        "tasks.detection_level": config.tasks.detection_level,
        "widths": plan.widths,
        "kernels": plan.kernels,
        "strides": plan.strides,
        "pruned": _lost(plan),
        **{f"model.{name}": v for name, v in config.model.items() if name != "dropout"},
    }


def _lost(plan: Plan) -> str:
    """What was pruned of a network, in short; other channels have another number."""
    if not plan.pruned:
        return "nothing"
    return f"channels of {len(plan.pruned)} parameters, number {results.sha256(plan.pruned)[:8]}"
