"""Runs of several folds or seeds: each an ordinary run in a folder of its own, and what they say together."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medjax import progress
from medjax.data.plan import Plan, read_plan
from medjax.data.splits import count_folds
from medjax.errors import UserError
from medjax.modes import experiment
from medjax.modes.defaults import Config
from medjax.train import processes, results
from medjax.train.baseline import against, scores_of
from medjax.train.evaluate import read_rows, write_rows
from medjax.train.report.training import write_report
from medjax.train.together import mean_rows, scored, spread_of_means

console = progress.console
ALL = -1  # as data.fold
Member = tuple[Config, Path]


def members(config: Config, workdir: Path) -> list[Member]:
    """Config and folder of each run that a config asks for, fold by fold; of one run its own.

    Errors: no seed.
    """
    if config.seeds < 1:
        raise UserError(f"seeds: {config.seeds}; give the number of seeds, 1 or more")
    folds = range(_folds(config)) if config.data.fold == ALL else [config.data.fold]
    if len(folds) == config.seeds == 1:
        return [(config, workdir)]
    found = []
    for fold in folds:
        for seed in range(config.seed, config.seed + config.seeds):
            parts = [
                *([f"fold-{fold}"] if len(folds) > 1 else []),
                *([f"seed-{seed}"] if config.seeds > 1 else []),
            ]
            own = config.copy_and_resolve_references()
            with own.unlocked():
                own.update(seed=seed, seeds=1)
                own.data.fold = fold
                own.eval.against = None  # they are compared together
            found.append((own, workdir / "-".join(parts)))
    return found


def _folds(config: Config) -> int:
    own = config.data.split
    if not (own or config.data.root) and config.phantom.train:
        return 1  # phantoms have a split of their own
    return count_folds(Path(own)) if own else config.data.folds


def alone(config: Config, workdir: Path, what: str) -> None:
    """Errors: a folder of several runs, of which one must be named."""
    runs = members(config, workdir)
    if len(runs) > 1:
        raise UserError(
            f"{workdir}: holds {len(runs)} runs; {what} one of them, --workdir {runs[0][1]}"
        )


def each(config: Config, workdir: Path, do: Callable[[Config, Path], None]) -> None:
    """Does something with each run in turn, then writes what they say together, where there are several.

    Later seeds of a fold train, validate and test the patients of its first; all folds have the grid
    (spacing, patch, batch) of the first plan, so that they can predict together, and each its own
    normalisation. Errors: the folder holds one run where several are asked for, or the other way round.
    """
    runs = members(config, workdir)
    _check_folder(workdir, several=len(runs) > 1)
    if len(runs) == 1:
        do(*runs[0])
        return
    if config.eval.against:
        scores_of(Path(config.eval.against))  # a wrong path is told before the trainings
    content = json.loads(config.to_json_best_effort())
    processes.told(lambda: results.write_json(workdir / "config.json", content))
    first: dict[int, Path] = {}
    for number, (own, folder) in enumerate(runs, start=1):
        console.print(f"run {number} of {len(runs)}: {folder.name}")
        like = _like(own, first.setdefault(own.data.fold, folder), folder, runs[0][1])
        do(like, folder)
    processes.told(lambda: write_together(config, workdir, [folder for _, folder in runs]))


def _check_folder(workdir: Path, *, several: bool) -> None:
    path = workdir / "config.json"
    if not path.is_file():
        return
    stored = experiment.in_full(results.read_json(path))
    before = stored["seeds"] > 1 or stored["data"]["fold"] == ALL
    if before != several and (before or (workdir / "plan.json").is_file()):
        held = "several runs" if before else "one run"
        raise UserError(
            f"{workdir}: holds {held} of other seeds or folds; use another --workdir or remove it"
        )


def _like(config: Config, same_fold: Path, folder: Path, first: Path) -> Config:
    """The config of a run beside those before it."""
    if folder == first:
        return config
    made = config.copy_and_resolve_references()
    plan = read_plan(first / "plan.json")
    with made.unlocked():
        made.plan.update(spacing=plan.spacing, patch=plan.patch, batch=plan.batch)
        if folder != same_fold and config.data.root:
            made.data.split = str(same_fold / "split.json")
    return made


def write_together(config: Config, workdir: Path, folders: Sequence[Path]) -> None:
    """metrics.csv, results.json and report.html of all runs: a row a case, its mean over seeds.

    With all folds every case is tested by a run that has not seen its patient.
    """
    told = {folder.name: results.read_json(folder / "results.json") for folder in folders}
    tables = {folder.name: read_rows(folder / "metrics.csv") for folder in folders}
    plan = read_plan(folders[0] / "plan.json")
    rows = mean_rows([row for table in tables.values() for row in table])
    write_rows(workdir / "metrics.csv", rows)
    first = next(iter(told.values()))
    patients = {k: v for own in told.values() for k, v in own["data"]["patients"].items()}
    content: dict[str, Any] = {
        **{key: first[key] for key in ("experiment", "commit", "device", "versions")},
        "data": {
            **{key: first["data"][key] for key in ("name", "layout", "cases", "assumed")},
            "test": len(patients),
            "patients": patients,
        },
        "metrics": scored(rows),
        "runs": {name: own["metrics"] for name, own in told.items()},
        "training": {"nonfinite": sum(own["training"]["nonfinite"] for own in told.values())},
        "timing": {"train_seconds": sum(own["timing"]["train_seconds"] for own in told.values())},
    }
    if config.seeds > 1:
        by_seed: dict[int, list[Any]] = {}
        for own, folder in members(config, workdir):
            by_seed.setdefault(own.seed, []).extend(tables[folder.name])
        content["seeds"] = spread_of_means([scored(own) for own in by_seed.values()])
    content |= against(rows, config.eval.against or "")
    results.write_json(workdir / "results.json", content)
    write_report(
        workdir / "report.html",
        results=content,
        config=results.read_json(workdir / "config.json"),
        plan=json.loads((folders[0] / "plan.json").read_text("utf-8")),
        curves=[],
        rows=rows,
        cases=[],
        classes=plan.labels.classes,
    )
    for name in ("metrics.csv", "results.json", "report.html"):
        console.print(f"made {workdir / name}")


def same_grid(plans: Sequence[Plan]) -> None:
    """Errors: networks that see scans on other grids, or say other things, cannot predict together."""
    keys = (
        "spacing",
        "axes",
        "coarse_axis",
        "channels",
        "convention",
        "patch",
        "targets",
        "objects",
    )
    differ = [k for k in keys if any(getattr(p, k) != getattr(plans[0], k) for p in plans)]
    if differ:
        raise UserError(
            f"plan.json of the runs differ in {', '.join(differ)}; predict with each alone"
        )
