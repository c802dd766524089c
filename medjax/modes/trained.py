"""What judging a trained run needs: its state, its network as a function of scans, its results.json."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax

from medjax.data.plan import Plan
from medjax.errors import UserError
from medjax.infer.findings import Finder, looker
from medjax.infer.predictor import Predictor, forward
from medjax.modes import build, experiment
from medjax.modes.build import Network
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.nn.unet import divisor
from medjax.train import checkpoint, results, state


def restored(
    config: Config, workdir: Path, like: state.State
) -> tuple[state.State, dict[str, Any]]:
    """State and facts of the checkpoint that `eval.checkpoint` names. Errors: none, or of another model."""
    which = config.eval.checkpoint
    if which not in ("last", "best"):
        raise UserError(f"eval.checkpoint: {which!r} is unknown; choose last or best")
    with checkpoint.manager(workdir / "checkpoints") as saved:
        at = saved.best_step() if which == "best" else None
        found, facts = checkpoint.restore(saved, like, at)
    return found, {**facts, "step": int(found.step)}


def learned_from(config: Config, workdir: Path) -> list[str]:
    """The cases that a run's patches came from: none where all were of synthetic patients."""
    if config.synth.share == 1:
        return []
    split = results.read_json(workdir / "split.json")
    return [*split["train"], *learned_without_labels(config, split.get("unlabelled", ()))]


def learned_without_labels(config: Config, unlabelled: Sequence[str]) -> Sequence[str]:
    """Those cases where the paradigm uses them."""
    return unlabelled if config.train.paradigm in experiment.UNLABELLED else ()


def met(config: Config, workdir: Path, cases: Iterable[str]) -> list[str]:
    """Those of `cases` that a run was trained with or chosen by: it must not be judged on them."""
    validation = results.read_json(workdir / "split.json")["validation"]
    return sorted({*learned_from(config, workdir), *validation} & {*cases})


def load_weights(config: Config, plan: Plan, workdir: Path) -> tuple[Network, Any, dict[str, Any]]:
    """Model, weights and facts of a segmenter's checkpoint. Errors: none there, or of another model."""
    model = build.model(config, plan)
    like = build.start(config, plan, model, ema=config.train.ema)
    found, facts = restored(config, workdir, like)
    return model, state.weights(found), facts


def mirror_axes(config: Config, plan: Plan) -> tuple[int, ...]:
    """Axes to mirror at prediction: those that training flipped."""
    if not (config.eval.mirror and config.augment.flips):
        return ()
    return tuple(axis for axis in range(3) if plan.patch[axis] > 1)


def kept_largest(plan: Plan, workdir: Path) -> tuple[int, ...]:
    """The output channels of which the run's results.json keeps the largest component."""
    judged = workdir / "results.json"
    names = (
        results.read_json(judged)["prediction"].get("keep_largest", ()) if judged.is_file() else ()
    )
    return tuple(plan.names.index(name) + plan.exclusive for name in names)


def build_predictor(config: Config, plan: Plan, model: Network, params: Any) -> Predictor:
    """The trained model as a function of scans."""
    space, whole = config.eval.space, config.eval.whole
    tiles = config.eval.tiles or max(2, jax.local_device_count() // max(space, 1))
    tiles = 1 if whole else tiles
    return Predictor(
        forward=forward(model, params, exclusive=plan.exclusive, tiles=tiles, space=space),
        plan=plan,
        overlap=config.eval.overlap,
        tiles=tiles,
        mirror_axes=mirror_axes(config, plan),
        divisor=divisor(plan.strides) if whole else None,
    )


def finds(config: Config) -> bool:
    """Whether a model tells classes or finds objects, beside or instead of segmenting."""
    return any(task != "segmentation" for task in config.tasks.learn)


def build_finder(config: Config, plan: Plan, model: Network, params: Any) -> Finder:
    """The trained model as a function from scans to classes and objects. Errors: of whole scans."""
    if config.eval.whole and finds(config):
        raise UserError("eval.whole: classes and objects are read from windows; unset it")
    tiles = config.eval.tiles or 2
    return Finder(
        look=looker(model, params, tiles=tiles, space=config.eval.space),
        plan=plan,
        overlap=config.eval.overlap,
        tiles=tiles,
        mirror_axes=mirror_axes(config, plan),
    )


def frame(
    run: Experiment,
    stored: dict[str, Any],
    facts: dict[str, Any],
    metrics: dict[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """The content of results.json that every paradigm has; `seconds` is what judging took."""
    plan, parts = run.plan, run.split
    step = facts.get("step_seconds")
    return {
        "experiment": run.config.name,
        "commit": results.commit(),
        "config_sha256": results.sha256(stored),
        "seed": run.config.seed,
        "device": results.device(),
        "versions": results.versions(),
        "data": {
            "name": run.dataset.name,
            "layout": run.dataset.layout,
            "cases": len(run.dataset.cases),
            "train": len(parts.train),
            "validation": len(parts.validation),
            "test": len(parts.test),
            "partly_drawn": sum(case.drawn is not None for case in run.cases(parts.train)),
            "unlabelled": len(learned_without_labels(run.config, parts.unlabelled)),
            "patients": {case.id: case.patient for case in run.cases(parts.test)},
            "split_sha256": parts.sha256(),
            "assumed": plan.assumed,
        },
        "metrics": metrics,
        "training": {"steps": facts["step"], "nonfinite": len(facts["nonfinite"])},
        "timing": {
            "compile_seconds": facts["compile_seconds"],
            "train_seconds": facts["train_seconds"],
            "steps": facts["step"],
            "step_seconds_median": step,
            "patches_per_second": plan.batch / step if step else None,
            "evaluate_seconds": seconds,
            "peak_memory_gb": results.peak_memory_gb(),
        },
    }
