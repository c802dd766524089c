"""`--mode train`: from the data to a trained model, its scores on the test cases, and a report."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from medjax import progress
from medjax.data import cache
from medjax.data.augment import Augmentation
from medjax.data.patches import iterate, patches
from medjax.errors import UserError
from medjax.modes import experiment
from medjax.modes.defaults import Config
from medjax.modes.eval import evaluate
from medjax.modes.experiment import Experiment
from medjax.nn.unet import UNet
from medjax.train import checkpoint, loop, optim, results, state, step, supervised
from medjax.train.validate import validator
from medjax.train.writers import Writers

console = progress.console
RUNTIME_GB = 2.2  # Python, JAX, compiler and allocator: peaks of 1.7 to 2.7 GB were measured


def main(config: Config, workdir: Path) -> None:
    """Trains, or goes on where a killed run of the same config stopped, then evaluates."""
    experiment.start_jax()
    _check(config)
    stored = experiment.claim(config, workdir)
    run = experiment.prepare_experiment(config, workdir)
    _announce(run)
    parts = ("train", "validation")
    folders = {
        part: cache.build(
            run.cases(getattr(run.split, part)),
            run.plan,
            cache_folder(config),
            spacing=run.spacing,
            progress=progress.bar(f"preparing {part} cases"),
        )
        for part in parts
    }
    fit(run, stored, folders)
    evaluate(run, stored)


def cache_folder(config: Config) -> Path:
    """Where prepared cases are kept."""
    return Path(config.data.cache) if config.data.cache else experiment.user_cache("cases")


def fit(run: Experiment, stored: dict[str, Any], folders: Mapping[str, list[Path]]) -> None:
    """The training itself, up to the last checkpoint."""
    config, plan, chosen = run.config, run.plan, run.config.train
    begin = time.perf_counter()
    mesh = step.data_mesh(experiment.replicas(chosen.devices, plan.batch))
    model = experiment.build_model(config, plan)
    augment, motion = experiment.build_augmentation(config, plan)
    compiled, start = _step(run, model, augment, mesh)
    key = jax.random.key(config.seed)

    def batches(steps: int, first: int) -> Iterator[dict[str, np.ndarray]]:
        drawn = patches(
            folders["train"],
            patch=plan.patch,
            motion=motion,
            batch=plan.batch,
            steps=steps,
            seed=config.seed,
            foreground=chosen.foreground,
        )
        return iterate(drawn, start=first, workers=chosen.workers)

    validate = validator(
        model,
        folders["validation"],
        plan,
        batches=chosen.validation_batches,
        seed=config.seed,
    )
    clock = loop.Clock()
    if chosen.minutes > 0:
        if not stored.get("steps_timed"):
            clock.compile, typical = loop.time_steps(
                compiled, start, batches(loop.TIMED, 0), key, mesh
            )
            seconds = _timed(validate, start) if validate else 0.0
            left = chosen.minutes * 60 - (time.perf_counter() - begin)
            stored["train"]["steps"] = loop.steps_in(
                left, step=typical, validation=seconds, validations=chosen.validations
            )
            stored["steps_timed"] = True
            results.write_json(run.workdir / "config.json", stored)
        console.print(f"{chosen.minutes:g} minutes hold {stored['train']['steps']} steps")
    total = stored["train"]["steps"]
    start = start.replace(horizon=jnp.int32(total))
    names = [folder.name.rsplit("-", 1)[0] for folder in folders["train"]]
    with checkpoint.manager(run.workdir / "checkpoints") as saved:
        watch = loop.Watch(names)
        if saved.latest_step() is not None:
            start, facts = checkpoint.restore(saved, start)
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
                speed = plan.batch / clock.median_step()
                show(
                    number,
                    f"loss {means['loss']:.3f}  dice {means['dice']:.3f}  {speed:.1f} patches/s",
                )

            loop.fit(
                compiled,
                step.replicate(start, mesh),
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


def _step(
    run: Experiment, model: UNet, augment: Augmentation, mesh: Mesh
) -> tuple[loop.Step, state.State]:
    """The compiled step of the supervised paradigm, and the state before it."""
    config, plan, chosen = run.config, run.plan, run.config.train
    if (plan.batch // mesh.size) % chosen.accumulate:
        raise UserError(
            f"train.accumulate: {chosen.accumulate} parts of {plan.batch // mesh.size} patches per device; "
            "give a divisor of them"
        )
    rule = experiment.build_optimizer(config)
    rate = optim.schedule(chosen.schedule, peak=chosen.learning_rate, warmup=chosen.warmup)
    loss = supervised.supervised(
        model, augment, plan.groups, exclusive=plan.exclusive, batch_dice=chosen.batch_dice
    )
    gradients = step.differentiate(loss, supervised.WEIGHTS, accumulate=chosen.accumulate)
    after = step.average if chosen.ema else None
    compiled = step.map_step(step.make_step(gradients, rule, rate, after), mesh)
    params = experiment.init_params(model, plan, config.seed)
    return compiled, state.create(params, rule, horizon=chosen.steps, ema=chosen.ema)


def _timed(validate: Any, start: state.State) -> float:
    """Seconds of a validation once it is compiled."""
    validate(start)
    begin = time.perf_counter()
    validate(start)
    return time.perf_counter() - begin


def _check(config: Config) -> None:
    """What can be wrong in a config before any data is read."""
    train = config.train
    if train.minutes <= 0 and train.steps < 1:
        raise UserError("train.steps: a run needs at least one step, or train.minutes")
    if train.batch_dice and train.accumulate > 1:
        raise UserError(
            "train.batch_dice: pools the whole batch, which train.accumulate splits; use one of them"
        )
    if not 0 <= train.foreground <= 1:
        raise UserError(f"train.foreground: {train.foreground} is no share; give 0 to 1")
    if train.validations < 1:
        raise UserError("train.validations: at least one, for the checkpoint at the end")


def _announce(run: Experiment) -> None:
    """What will be done on what, and the memory and disk that it takes, before it begins."""
    plan, parts = run.plan, run.split
    console.print(
        f"{run.dataset.name}: {len(parts.train)} cases train, {len(parts.validation)} validate, "
        f"{len(parts.test)} test; channels {', '.join(plan.channels)}; "
        f"classes {', '.join(plan.names)}"
    )
    console.print(
        f"plan: spacing {' x '.join(f'{s:.3g}' for s in plan.spacing)} mm, "
        f"patch {' x '.join(map(str, plan.patch))}, batch {plan.batch}, "
        f"{len(plan.widths)} stages of {', '.join(map(str, plan.widths))} channels"
    )
    cached = plan.case_gb * (len(parts.train) + len(parts.validation))
    memory = RUNTIME_GB + plan.step_gb + 3 * plan.largest_gb
    console.print(
        f"needs about {memory:.1f} GB of memory, {cached:.2f} GB of disk in {cache_folder(run.config)}"
    )
