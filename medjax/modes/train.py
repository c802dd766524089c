"""`--mode train`: from the data to a trained model, its scores on the test cases, and a report."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medjax import progress
from medjax.data import cache
from medjax.data.patches import iterate, patches
from medjax.errors import UserError
from medjax.modes import (
    cyclegan,
    devices,
    experiment,
    masked,
    members,
    prune,
    semi,
    supervised,
    synthetic,
)
from medjax.modes.checks import check
from medjax.modes.defaults import Config
from medjax.modes.eval import BASELINE, evaluate
from medjax.modes.experiment import Experiment
from medjax.modes.folders import case_cache
from medjax.modes.restyle import restyle
from medjax.modes.start_from import check_start, trained_weights
from medjax.modes.trained import learned_without_labels
from medjax.train import checkpoint, loop, processes, results, state, step
from medjax.train.writers import Writers

console = progress.console
PARADIGMS = {
    "supervised": supervised.training,
    **dict.fromkeys(experiment.SEMI, semi.training),
    "masked": masked.training,
    "cyclegan": cyclegan.training,
}
RUNTIME_GB = 2.2  # Python, JAX, compiler and allocator: peaks of 1.7 to 2.7 GB were measured


def main(config: Config, workdir: Path) -> None:
    """Trains and evaluates each run that the config asks for, of several folds or seeds or one alone."""
    experiment.start_jax()
    members.each(config, workdir, train_and_judge)


def train_and_judge(config: Config, workdir: Path) -> None:
    """Trains, or goes on where a killed run of the same config stopped, then evaluates.

    A paradigm that learns without labels too is compared with the labelled cases alone, trained as long in
    WORKDIR/baseline.
    """
    run, stored = train(config, workdir)
    if not config.eval.test:
        return
    if config.train.paradigm in experiment.SEMI and config.semi.baseline:
        alone = config.copy_and_resolve_references()
        with alone.unlocked():
            alone.train.update(paradigm="supervised", steps=stored["train"]["steps"], minutes=0.0)
        console.print("to compare with: the labelled cases alone")
        judge(*train(alone, workdir / BASELINE))
    judge(run, stored)


def judge(run: Experiment, stored: dict[str, Any]) -> None:
    """Scores of the test cases and the report, by the first process."""
    processes.told(lambda: evaluate(run, stored))


def train(config: Config, workdir: Path) -> tuple[Experiment, dict[str, Any]]:
    """All of `main` but the evaluation: no test case is read."""
    experiment.start_jax()
    check(config, tuple(PARADIGMS))
    *before, last = prune.rounds(config, workdir)
    for own, folder in before:
        _train(own, folder)
    return _train(*last)


def _train(config: Config, workdir: Path) -> tuple[Experiment, dict[str, Any]]:
    """One run."""
    run, stored, folders, trained = processes.in_turn(lambda: _prepare(config, workdir))
    fit(run, stored, folders, trained)
    return run, stored


def _prepare(
    config: Config, workdir: Path
) -> tuple[Experiment, dict[str, Any], dict[str, list[Path]], Any]:
    """The run, its stored config, where its cases are cached, and the trained weights it starts with."""
    if not (processes.first() or (workdir / "config.json").is_file()):
        raise UserError(
            f"{workdir}: process {jax.process_index()} does not see what the first one wrote there; give a "
            "--workdir that all machines share"
        )
    check_start(config, workdir)
    stored = experiment.claim(config, workdir)
    run = experiment.prepare_experiment(config, workdir)
    _announce(run)
    run = prune.inherited(run)
    run, trained = prune.pruned(run, trained_weights(run))
    bare = config.train.paradigm in experiment.UNLABELLED
    labels = config.train.paradigm != "masked"
    parts = ("train", "validation", *(("unlabelled",) if bare else ()))
    folders = {
        part: cache.build(
            run.cases(getattr(run.split, part), labels=labels and part != "unlabelled"),
            run.plan,
            case_cache(config),
            spacing=run.spacing,
            progress=progress.bar(f"preparing {part} cases"),
        )
        for part in parts
    }
    return run, stored, folders, trained


def fit(
    run: Experiment,
    stored: dict[str, Any],
    folders: Mapping[str, list[Path]],
    trained: Any = None,
) -> None:
    """The training itself, up to the last checkpoint, from `trained` weights where they are given."""
    config, plan, chosen = run.config, run.plan, run.config.train
    begin = time.perf_counter()
    paradigm = PARADIGMS[chosen.paradigm](run, folders, trained)
    start, validate = paradigm.start, paradigm.validate
    mesh = devices.mesh(chosen.devices, chosen.space, plan.batch, paradigm.rows)
    _check_parts(chosen.accumulate, plan.batch // mesh.shape[step.AXIS], paradigm.rows)
    compiled = step.map_step(paradigm.step, mesh)
    key = jax.random.key(config.seed)
    patients = None
    if config.synth.share or not all(paradigm.groups):
        patients = synthetic.beside(config, plan, run.split.train, restyle(run))

    seen = [*folders["train"], *folders.get("unlabelled", [])]
    bare = run.cases(run.split.unlabelled, labels=False) if "unlabelled" in folders else []
    learned = [*run.cases(run.split.train), *bare]

    def batches(steps: int, first: int) -> Iterator[dict[str, np.ndarray]]:
        drawn = patches(
            seen,
            patch=plan.patch,
            motion=paradigm.motion,
            batch=plan.batch,
            steps=steps,
            seed=config.seed,
            foreground=chosen.foreground,
            groups=paradigm.groups,
            synthetic=patients,
            share=config.synth.share,
            targets=run.targets(learned),
            part=(jax.process_index(), jax.process_count()),
        )
        return iterate(drawn, start=first, workers=chosen.workers)

    clock = loop.Clock()
    if chosen.minutes > 0:
        if not stored.get("steps_timed"):
            clock.compile, typical = loop.time_steps(
                compiled, start, batches(loop.TIMED, 0), key, mesh
            )

            def decide() -> int:
                seconds = _timed(validate, start) if validate else 0.0
                left = chosen.minutes * 60 - (time.perf_counter() - begin)
                steps = loop.steps_in(
                    left, step=typical, validation=seconds, validations=chosen.validations
                )
                stored["train"]["steps"], stored["steps_timed"] = steps, True
                results.write_json(run.workdir / "config.json", stored)
                return steps

            stored["train"]["steps"] = processes.told(decide)
        console.print(f"{chosen.minutes:g} minutes hold {stored['train']['steps']} steps")
    total = stored["train"]["steps"]
    start = step.replicate(start.replace(horizon=jnp.int32(total)), mesh)
    names = [folder.name.rsplit("-", 1)[0] for folder in seen] + ["synthetic"]
    if processes.first():
        checkpoint.clear(run.workdir / "checkpoints")
    with checkpoint.manager(run.workdir / "checkpoints", shared=True) as saved:
        watch = loop.Watch(names)
        if saved.latest_step() is not None:
            start, facts = checkpoint.resume(saved, start)
            clock = loop.Clock(train=facts["train_seconds"])
            watch.seen.extend(facts["nonfinite"])
            console.print(f"resuming at step {int(start.step)} of {total}")
        first = int(start.step)
        if first >= total:
            return
        with (
            Writers(run.workdir, step=first, tensorboard=chosen.tensorboard) as writers,
            progress.steps(total, first) as show,
        ):

            def report(number: int, means: Mapping[str, float]) -> None:
                said = "  ".join(f"{name} {means[name]:.3f}" for name in ("loss", *paradigm.shown))
                show(number, f"{said}  {plan.batch / clock.median_step():.1f} patches/s")

            loop.fit(
                compiled,
                start,
                batches(total, first),
                key=key,
                mesh=mesh,
                checkpoints=saved,
                writers=writers,
                watch=watch,
                clock=clock,
                validate=validate,
                validations=chosen.validations,
                report=report,
                log_every=chosen.log_every,
            )


def _timed(validate: Any, start: state.State) -> float:
    """Seconds of a validation once it is compiled."""
    validate(start)
    begin = time.perf_counter()
    validate(start)
    return time.perf_counter() - begin


def _check_parts(accumulate: int, patches: int, rows: int) -> None:
    """Whether a device's share of the batch can be split so that rows of one turn stay together."""
    if patches % (accumulate * rows):
        raise UserError(
            f"train.accumulate: {accumulate} parts of {patches} patches per device, {rows} at a time; "
            "give a divisor of them"
        )


def _announce(run: Experiment) -> None:
    """What will be done on what, and the memory and disk that it takes, before it begins."""
    plan, parts = run.plan, run.split
    bare = len(learned_without_labels(run.config, parts.unlabelled))
    without = f", {bare} more without labels" if bare else ""
    partly = sum(case.drawn is not None for case in run.cases(parts.train))
    some = f" ({partly} with some classes drawn)" if partly else ""
    console.print(
        f"{run.dataset.name}: {len(parts.train)} cases train{some}{without}, "
        f"{len(parts.validation)} validate, "
        f"{len(parts.test)} test; channels {', '.join(plan.channels)}; "
        f"classes {', '.join(plan.names)}"
    )
    console.print(
        f"plan: spacing {' x '.join(f'{s:.3g}' for s in plan.spacing)} mm, "
        f"patch {' x '.join(map(str, plan.patch))}, batch {plan.batch}, "
        f"{len(plan.widths)} stages of {', '.join(map(str, plan.widths))} channels"
    )
    cached = plan.case_gb * (len(parts.train) + bare + len(parts.validation))
    memory = RUNTIME_GB + semi.differentiated(run.config) * plan.step_gb + 3 * plan.largest_gb
    console.print(
        f"needs about {memory:.1f} GB of memory, {cached:.2f} GB of disk in {case_cache(run.config)}"
    )
