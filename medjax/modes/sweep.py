"""`--mode sweep`: trainings of one experiment with other settings, by Ray Tune, and what they say."""

import importlib.util
import json
import logging
import os
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from medjax import progress
from medjax.errors import UserError
from medjax.modes import trials
from medjax.modes.defaults import Config
from medjax.modes.experiment import changed
from medjax.modes.space import (
    Axis,
    Point,
    code,
    decode,
    distributions,
    draws,
    grid,
    read_space,
)
from medjax.modes.trials import Trial
from medjax.train import results
from medjax.train.report.sweep import write_sweep_page

console = progress.console
SEARCHES, SCHEDULERS = ("tpe", "random", "grid"), ("asha", "none")
LATER = ("trials", "cpus", "gpus")  # of `sweep`: what may change when it goes on
SECONDS = 10  # for a cluster to answer in
RAY = ".ray"  # the folder of Ray's own records, which go with it


def main(config: Config, workdir: Path, *, experiment: str, address: str = "") -> None:
    """Runs the trials of `experiment`'s `get_sweep()`, or goes on with them; then tells of them.

    A trial is a run of its own in WORKDIR/trial-...: it trains and validates, and opens no test case; the
    `best.py` that is left does. Ray runs on this machine, or on the cluster at `address`, whose machines
    share the work folder. Errors: no Ray, no cluster, no space, settings that do not fit.
    """
    check(config)
    _answers(address)
    axes = read_space(_space(experiment))
    changed(config, _points(config, axes)[0], "get_sweep")  # keys and types, before Ray starts
    _claim(config, workdir, axes)
    own = config.copy_and_resolve_references()
    own.mode, own.eval.test = "train", False
    trials.write_config(
        workdir / trials.BASE, own, f"What all trials of the sweep of {config.name} share."
    )
    _tune(config, workdir.resolve(), axes, address)
    write(config, workdir, axes)


def check(config: Config) -> None:
    """What can be wrong with the settings of a sweep. Errors name the key."""
    own = config.sweep
    if find_spec("ray") is None:
        raise UserError("--mode sweep: needs Ray; install medjax[sweep]")
    for key, known in (("search", SEARCHES), ("scheduler", SCHEDULERS)):
        if own[key] not in known:
            raise UserError(f"sweep.{key}: {own[key]!r} is unknown; choose {', '.join(known)}")
    if own.search == "tpe" and find_spec("optuna") is None:
        raise UserError("sweep.search: tpe needs Optuna; install medjax[sweep], or choose random")
    if own.trials < 1 or own.cpus <= 0 or own.gpus < 0:
        raise UserError(
            "sweep.trials, sweep.cpus, sweep.gpus: give at least 1, more than 0, and 0 or more"
        )
    if config.seeds != 1 or config.data.fold < 0:
        raise UserError("seeds, data.fold: a trial is one run; give one seed and one fold")


def _space(experiment: str) -> Mapping[str, Sequence[Any]]:
    """What the experiment's `get_sweep()` returns."""
    path = Path(experiment.split(":")[0])
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_sweep"):
        raise UserError(
            f"{path}: has no get_sweep(); it returns the keys that vary, such as "
            "{'train.learning_rate': ('log', 1e-4, 1e-2)}"
        )
    return module.get_sweep()


def _points(config: Config, axes: Sequence[Axis]) -> list[Point]:
    """The points of a grid, or as many at random as there are trials."""
    if config.sweep.search == "grid":
        return grid(axes)
    return draws(axes, config.sweep.trials, np.random.default_rng(config.seed))


def _claim(config: Config, workdir: Path, axes: Sequence[Axis]) -> None:
    """Takes a folder that holds nothing, or this very sweep, if with other `LATER` settings."""
    path = workdir / "config.json"
    plain = json.loads(config.to_json_best_effort())
    wanted = json.loads(json.dumps({**plain, "space": [*map(asdict, axes)]}))
    if path.is_file() and _lasting(results.read_json(path)) != _lasting(wanted):
        raise UserError(
            f"{workdir}: holds a run or a sweep of another config; use another --workdir or remove it"
        )
    results.write_json(path, wanted)


def _lasting(stored: dict[str, Any]) -> dict[str, Any]:
    """What a sweep keeps as long as it is."""
    own = {key: value for key, value in stored.get("sweep", {}).items() if key not in LATER}
    return {**stored, "sweep": own}


def _tune(config: Config, workdir: Path, axes: Sequence[Axis], address: str) -> None:
    """Runs what is left of the trials: those that were interrupted first, from where they were.

    What Ray itself stores is not used: after a kill, its search and its trials may be of different moments.
    """
    known = [t for t in _gathered(config, workdir) if t.ended and not t.failed]
    points = _left(config, workdir, axes, known)
    if not points:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray
    from ray import tune

    from medjax.modes.proposals import Halving, Proposals, Teller

    own = config.sweep
    if known:
        console.print(f"{len(known)} trials have ended, {len(points)} are left")
    shutil.rmtree(workdir / RAY, ignore_errors=True)
    here = {} if address else {"num_cpus": results.cores(), "include_dashboard": False}
    try:
        ray.init(
            address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **here
        )
    except (ConnectionError, ValueError) as error:
        raise UserError(
            f"--ray_address: {address}: {str(error).splitlines()[0]}; where the cluster asks for a token, "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH for `ray start` and here"
        ) from error
    try:
        run = tune.with_parameters(
            trials.run, folder=str(workdir), metric=own.metric, cores=int(own.cpus)
        )
        tpe, validations = own.search == "tpe", config.train.validations
        halves = own.scheduler == "asha" and validations > 1
        grace = max(1, round(own.grace * validations))
        waiting = [point for point in points if point]
        tune.Tuner(
            tune.with_resources(run, {"cpu": own.cpus, "gpu": own.gpus}),
            param_space={} if tpe else {"point": tune.grid_search(points)},
            tune_config=tune.TuneConfig(
                metric="score",
                mode="max",
                num_samples=len(points) if tpe else 1,
                search_alg=Proposals(axes, known, waiting, config.seed) if tpe else None,
                scheduler=Halving(known, validations, grace) if halves else None,
            ),
            run_config=tune.RunConfig(
                name=RAY, storage_path=str(workdir), verbose=0, callbacks=[Teller(str(workdir))]
            ),
        ).fit()
    finally:
        ray.shutdown()
        shutil.rmtree(workdir / RAY, ignore_errors=True)


def _answers(address: str) -> None:
    """Errors: nobody listens at HOST:PORT, where Ray would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        if address:
            socket.create_connection((host, int(port)), timeout=SECONDS).close()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--ray_address: nobody answers at {address} ({error}); start a cluster with `ray start "
            "--head`, and give the HOST:PORT that it prints"
        ) from error


def _gathered(config: Config, workdir: Path) -> list[Trial]:
    return trials.gathered(workdir, config.sweep.metric, config.train.steps)


def _left(
    config: Config, workdir: Path, axes: Sequence[Axis], known: Sequence[Trial]
) -> list[Point]:
    """The points that are to be run; an empty one is still to be proposed."""
    names = {trial.name for trial in known}
    if config.sweep.search != "tpe":
        return [p for p in _points(config, axes) if trials.place(workdir, p).name not in names]
    begun = [decode(axes, code(axes, t.values)) for t in _gathered(config, workdir)]
    waiting = [p for p in begun if trials.place(workdir, p).name not in names]
    return [*waiting, *[{}] * (config.sweep.trials - len(known) - len(waiting))]


def write(config: Config, workdir: Path, axes: Sequence[Axis]) -> None:
    """sweep.json, best.py and report.html of the trials that there are. Errors: none has a score."""
    found = _gathered(config, workdir)
    content = {
        "experiment": config.name,
        "metric": config.sweep.metric,
        "search": config.sweep.search,
        "axes": [asdict(axis) for axis in axes],
        "importances": importances(axes, found),
        "device": results.device(),
        "trials": [{**asdict(t), "best": t.best, "state": t.state} for t in found],
    }
    results.write_json(workdir / "sweep.json", content)
    write_sweep_page(workdir / "report.html", content)
    best = found[0] if found and not found[0].failed else None
    if best is None:
        raise UserError(
            f"{workdir / 'sweep.json'}: no trial has a score; it says why each one failed"
        )
    title = f"{best.name} of {len(found)}: {config.sweep.metric} {best.best:.4f}."
    trials.write_config(workdir / "best.py", changed(config, best.values, "get_sweep"), title)
    for trial in found[:5]:
        score = "" if trial.best is None else f"{trial.best:.4f}"
        console.print(f"{trial.name}  {score}  {trial.state}  {trial.values}")
    for name in ("sweep.json", "report.html", "best.py"):
        console.print(f"made {workdir / name}")


def importances(axes: Sequence[Axis], found: Sequence[Trial]) -> dict[str, float]:
    """The share of the scores' variance that each key explains (fANOVA, Hutter 2014).

    Of keys that always count. Empty without Optuna, and with fewer than four trials that have a score.
    """
    done = [trial for trial in found if trial.best is not None]
    always = [
        axis for axis in axes if not axis.only and len({str(t.values[axis.key]) for t in done}) > 1
    ]
    if find_spec("optuna") is None or len(done) < 4 or not always:
        return {}
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize")
    for trial in done:
        study.add_trial(
            optuna.trial.create_trial(
                params=code(always, trial.values),
                distributions=distributions(always, trial.values),
                value=trial.best,
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
