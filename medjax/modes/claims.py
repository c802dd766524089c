"""`--mode claims`: runs a claim arm by arm and seed by seed, and rewrites CLAIMS.md from the records."""

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medjax import progress
from medjax.data import recipe as recipes
from medjax.errors import UserError
from medjax.modes import experiment, export, train
from medjax.modes.defaults import Config, defaults
from medjax.modes.trained import learned_from
from medjax.train import checkpoint, claims, results
from medjax.train.claims_page import write_page
from medjax.train.evaluate import read_rows

console = progress.console
KEPT = ("dice", "hd95", "accuracy", "brier")  # scores that a record holds, of those there are
FIGURES = {  # of all test cases at once
    "classification": ("accuracy", "auc", "brier", "calibration_error"),
    "detection": ("cpm", "average_precision"),
}
BEFORE = "claim.before"  # in a stage: the key that gets the work folder of the stage before


@dataclass(frozen=True)
class Run:
    """One arm with one seed and one fold: ordinary trainings in turn, each in its own work folder."""

    arm: str
    seed: int
    fold: int
    stages: tuple[tuple[Config, Path], ...]

    def __str__(self) -> str:
        return f"{self.arm}-seed{self.seed}-fold{self.fold}"


def main(config: Config, workdir: Path) -> None:
    """Runs what has no record yet, or goes on with it, then judges all records of all claims.

    Errors before any training: arms of unequal steps, an arm that the claim does not name, a record
    of another recipe.
    """
    if "claim" not in config:
        raise UserError("config.claim: is missing; give an experiment of experiments/claims")
    chosen = config.claim
    rules = claims.read_claims(Path(chosen.rules))
    if chosen.name not in rules:
        raise UserError(f"claim.name: {chosen.name!r} is not in {chosen.rules}; add it there first")
    runs = list_runs(config, workdir, _arms(config, claims.arms_together(rules, chosen.name)))
    _check(runs)
    records = Path(chosen.results, chosen.name)
    waiting = [run for run in runs if not _recorded(config, run, records)]
    experiment.start_jax()  # a look at a checkpoint already fixes the devices
    for number, run in enumerate(waiting, start=1):
        for stage, (its_config, folder) in enumerate(run.stages, start=1):
            last = stage == len(run.stages)
            if not _finished(its_config, folder, judged=last):
                console.print(
                    f"run {number} of {len(waiting)}: {run}, stage {stage} of {len(run.stages)}"
                )
                _do(its_config, folder, judged=last)
        made = record(config, run, workdir)
        results.write_json(records / made.file, asdict(made))
    write_page(Path(chosen.page), rules, Path(chosen.results))
    console.print(f"made {records} and {chosen.page}")


def _do(config: Config, folder: Path, *, judged: bool) -> None:
    """Runs a stage. Test cases are opened for what is judged alone."""
    if not judged:
        train.train(config, folder)
        return
    if config.mode == "train" or not (folder / "results.json").is_file():
        train.main(config, folder)
    if config.mode == "export":
        export.main(config, folder)


def _arms(config: Config, known: Collection[str]) -> list[str]:
    """The arms to run in the order of the rules: the baseline comes first, a ConfigDict sorts."""
    for arm in config.claim.arms:
        if arm not in known:
            raise UserError(f"claim.arms.{arm}: is no arm in {config.claim.rules}; add it there")
    return [arm for arm in known if arm in config.claim.arms]


def list_runs(config: Config, workdir: Path, arms: Sequence[str]) -> list[Run]:
    """All runs in their order: seed by seed, fold by fold, the arms side by side.

    A stage that an earlier arm trains with the very same config has that arm's folder: it is trained once. A
    last stage of the mode `export` is judged by its file.
    """
    chosen = config.claim
    folders: dict[str, Path] = {}
    runs = []
    for seed in chosen.seeds:
        for fold in chosen.folds:
            for arm in arms:
                stages: list[tuple[Config, Path]] = []
                for number, changes in enumerate(chosen.arms[arm], start=1):
                    given = {"seed": seed, "data.fold": fold, **changes}
                    key = given.pop(BEFORE, "train.start_from")
                    if stages:
                        given.setdefault(key, str(stages[-1][1]))
                    made = _stage(config, arm, given)
                    own = workdir / arm / f"seed-{seed}" / f"fold-{fold}" / f"stage-{number}"
                    stages.append((made, folders.setdefault(_trained(made), own)))
                runs.append(Run(arm, seed, fold, tuple(stages)))
    return runs


def _trained(config: Config) -> str:
    """What decides the weights of a stage."""
    plain = json.loads(config.to_json_best_effort())
    return json.dumps({k: v for k, v in plain.items() if k not in ("mode", "export")})


def _stage(config: Config, arm: str, changes: dict[str, Any]) -> Config:
    """The ordinary config of one training. Errors name the arm and the key."""
    made = config.copy_and_resolve_references()
    with made.unlocked():
        del made.claim
    made.mode = "train"
    return experiment.changed(made, changes, f"claim.arms.{arm}")


def _check(runs: Sequence[Run]) -> None:
    """What can be wrong in the arms before anything runs."""
    for run in runs:
        if not run.stages:
            raise UserError(f"claim.arms.{run.arm}: has no stage; give at least one, ({{}},)")
        if any(its_config.train.minutes > 0 for its_config, _ in run.stages):
            raise UserError("train.minutes: the arms are compared at equal steps; give train.steps")
    claims.check_steps({run.arm: steps(run) for run in runs})


def steps(run: Run) -> int:
    """The optimiser steps behind the judged weights: a stage that starts anew forgets those before it."""
    total = 0
    for config, _ in run.stages:
        total = config.train.steps + (total if config.train.start_from else 0)
    return total


def recipe(config: Config, arm: str) -> dict[str, Any]:
    """What an arm does, key by key: the same on every machine, for every seed and fold.

    Of folders it holds no path: records say which data set was judged.
    """
    made = _plain(config)
    stages = config.claim.arms[arm]
    for number, changes in enumerate(stages, start=1):
        plain = json.loads(json.dumps(changes))  # lists for tuples, as in a file
        made |= {f"stage {number}: {key}": value for key, value in plain.items()}
    configs = [_stage(config, arm, {k: v for k, v in s.items() if k != BEFORE}) for s in stages]
    if any(c.synth.share or c.cyclegan.simulated or not c.data.root for c in configs):
        made["synth.version"] = recipes.VERSION
    return made


def _plain(config: Config) -> dict[str, Any]:
    """The keys of a config that decide what is learnt, `section.key`."""
    made = experiment.leaves(json.loads(config.to_json_best_effort()))
    made["synth.label_maps"] = bool(made["synth.label_maps"])
    left_out = ("mode", "seed", "data.root", "data.cache", "data.fold")
    return {k: v for k, v in made.items() if k not in left_out and not k.startswith("claim.")}


def _recorded(config: Config, run: Run, folder: Path) -> bool:
    """Whether the run has its record. Errors: one of another recipe.

    A key that the record does not know, as it is newer, had what is its default now.
    """
    path = folder / f"{run}.json"
    if not path.is_file():
        return False
    asked = _telling(recipe(config, run.arm))
    made = _telling({**_plain(defaults(config.name)), **claims.read_record(path).recipe})
    differ = [key for key in asked | made if made.get(key) != asked.get(key)]
    if differ:
        raise UserError(
            f"{path}: was made by another recipe ({', '.join(differ)} differs); remove it, or give "
            "--config.claim.results=DIR"
        )
    return True


def _telling(made: dict[str, Any]) -> dict[str, Any]:
    """A recipe without how it would prune if it did."""
    if any(key.endswith("prune.ratio") and value for key, value in made.items()):
        return made
    return {key: value for key, value in made.items() if not key.startswith("prune.")}


def _finished(config: Config, folder: Path, *, judged: bool) -> bool:
    """Whether a stage is trained, and `judged`, as its config says. Errors: a run of another config."""
    if checkpoint.newest(folder / "checkpoints") != config.train.steps:
        return False
    stored = experiment.claim(config, folder)
    if not judged:
        return True
    if config.mode == "export":
        path = folder / "export" / "export.json"
        asked = json.loads(config.export.to_json_best_effort())
        return path.is_file() and results.read_json(path)["export"] == asked
    as_asked = stored["eval"] == json.loads(config.eval.to_json_best_effort())
    return (folder / "results.json").is_file() and as_asked


def record(config: Config, run: Run, workdir: Path) -> claims.Record:
    """What is kept of a finished run."""
    its_config, folder = run.stages[-1]
    last = results.read_json(folder / "results.json")
    figures = {
        f"{part}: {name}": value
        for part, names in FIGURES.items()
        for name, value in _figures(last.get(part, {}), names).items()
    }
    if its_config.mode == "export":
        folder = folder / "export"
        figures = _exported(results.read_json(folder / "export.json"))
    scores: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in read_rows(folder / "metrics.csv"):
        for metric in (key for key in KEPT if key in row):
            by_case = scores.setdefault(row["class"], {}).setdefault(metric, {})
            by_case[row["case"]] = row[metric]
    stages = [
        {
            "run": folder.relative_to(workdir).as_posix(),
            "cases": len(learned_from(stage, folder)),
            "steps": stage.train.steps,
            "seconds": checkpoint.facts(folder / "checkpoints")["train_seconds"],
        }
        for stage, folder in run.stages
    ]
    return claims.Record(
        claim=config.claim.name,
        arm=run.arm,
        seed=run.seed,
        fold=run.fold,
        recipe=recipe(config, run.arm),
        commit=last["commit"],
        device=last["device"],
        versions=last["versions"],
        data={key: last["data"][key] for key in ("name", "cases", "split_sha256")},
        steps=steps(run),
        stages=stages,
        patients=last["data"]["patients"],
        scores=scores,
        figures=figures,
    )


def _exported(told: dict[str, Any]) -> dict[str, float | None]:
    """What an export says of speed and size: of each file in the runtime to be fast in."""
    rows = [row for row in told["table"] if row["runtime"] == told["runtime"]]
    return {f"{row['file']}: {name}": row[name] for row in rows for name in ("p50_ms", "megabytes")}


def _figures(found: dict[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    """Those of one part of results.json; of an interval its mean."""
    own = {name: found[name] for name in names if name in found}
    return {name: v["mean"] if isinstance(v, dict) else v for name, v in own.items()}
