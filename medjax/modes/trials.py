"""A trial of a sweep: an ordinary run in a folder of its own, started by Ray and watched from outside."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

import medjax
from medjax.io.atomic import atomic
from medjax.modes.defaults import Config, defaults
from medjax.modes.experiment import leaves
from medjax.modes.space import Point
from medjax.train.results import read_json, sha256, write_json
from medjax.train.writers import read_rows

BASE, VALUES, OUTPUT = "base.py", "trial.json", "output.txt"
EVERY = 0.5  # seconds between two looks at a trial
DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux


@dataclass(frozen=True)
class Trial:
    """What became of a trial: `curve` has a (step, score) for each validation."""

    name: str
    values: Point
    curve: tuple[tuple[int, float], ...]
    steps: int
    failed: str  # why, in a line
    ended: bool  # finished, or stopped early: not to be gone on with

    @property
    def best(self) -> float | None:
        """Its best score, or None."""
        return max((score for _, score in self.curve), default=None)

    @property
    def state(self) -> str:
        """finished, stopped early, interrupted or failed."""
        if self.failed:
            return "failed"
        if self.curve and self.curve[-1][0] >= self.steps:
            return "finished"
        return "stopped early" if self.ended else "interrupted"


def write_config(path: Path, config: Config, title: str) -> None:
    """An experiment's file of what differs from the defaults: it runs as any other."""
    plain, usual = leaves(config.to_dict()), leaves(defaults("").to_dict())
    own = {key: value for key, value in plain.items() if usual[key] != value and key != "name"}
    lines = pformat(own, width=96, sort_dicts=True)
    text = (
        f'"""{title}"""\n\nfrom medjax.modes.defaults import Config, defaults\n\nVALUES = {lines}\n\n\n'
        'def get_config() -> Config:\n    """What differs from the defaults."""\n'
        f"    config = defaults({config.name!r})\n"
        "    config.update_from_flattened_dict(VALUES)\n    return config\n"
    )
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


def run(given: Mapping[str, Any], *, folder: str, metric: str, cores: int) -> None:
    """What Ray calls: starts the trial, or goes on with it, and reports its validations as they come.

    The trial is a process of its own, in the environment that Ray prepared (its GPUs), and ends with this.
    Errors: what the trial said last, where it failed; no validation with that metric.
    """
    from ray import tune

    point = given["point"]
    workdir = place(Path(folder), point)
    write_json(workdir / VALUES, {"values": point, "failed": "", "ended": False})
    with (workdir / OUTPUT).open("a", encoding="utf-8") as output:
        process = subprocess.Popen(
            command(Path(folder), workdir, point),
            env=_environment(cores),
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    told = 0
    while True:
        ended = process.poll()
        curve = read_curve(workdir, metric)
        for step, score in curve[told:]:
            tune.report({"score": score, "step": step})
        told = len(curve)
        if ended is not None:
            break
        time.sleep(EVERY)
    if not ended and told:
        return
    why = why_failed(workdir) if ended else f"sweep.metric: {metric} was never written"
    write_json(workdir / VALUES, {"values": point, "failed": why, "ended": False})
    raise RuntimeError(why)


def place(folder: Path, point: Mapping[str, Any]) -> Path:
    """The work folder of a point: the same whenever the sweep is run again."""
    return folder / f"trial-{sha256(dict(point))[:8]}"


def close(folder: Path, point: Mapping[str, Any]) -> str:
    """Notes that a trial has ended, finished or stopped early, and returns its name."""
    workdir = place(folder, point)
    path = workdir / VALUES
    if path.is_file():
        write_json(path, {**read_json(path), "ended": True})
    return workdir.name


def command(folder: Path, workdir: Path, point: Point) -> list[str]:
    """The command of a trial: the sweep's own config with the values of the point."""
    start = "from medjax.cli import run; run()"
    values = [f"--config.{key}={value}" for key, value in point.items()]
    return [
        sys.executable,
        "-c",
        start,
        "--config",
        str(folder / BASE),
        "--workdir",
        str(workdir),
        *values,
    ]


def _environment(cores: int) -> dict[str, str]:
    root = str(Path(medjax.__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {"JAX_NUM_CPU_DEVICES": str(max(1, cores)), **os.environ, "PYTHONPATH": path}


def _die_with_parent() -> None:
    """Asks the system for SIGTERM, at which a run saves itself, when the process above is gone."""
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGTERM)


def read_curve(workdir: Path, metric: str) -> list[tuple[int, float]]:
    """The (step, score) of each validation so far."""
    rows = read_rows(workdir / "metrics.jsonl")
    return [(row["step"], row[metric]) for row in rows if row.get(metric) is not None]


def why_failed(workdir: Path) -> str:
    """The last line that a trial said."""
    lines = (workdir / OUTPUT).read_text("utf-8", "replace").splitlines()
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")


def gathered(folder: Path, metric: str, steps: int) -> list[Trial]:
    """All trials of a sweep's folder, the best one first, those that failed last."""
    found = []
    for path in sorted(folder.glob(f"trial-*/{VALUES}")):
        workdir, told = path.parent, read_json(path)
        stored = workdir / "config.json"
        total = read_json(stored)["train"]["steps"] if stored.is_file() else steps
        curve = tuple(read_curve(workdir, metric))
        failed, ended = told["failed"], told["ended"]
        found.append(Trial(workdir.name, told["values"], curve, total, failed, ended))
    return sorted(found, key=lambda trial: (bool(trial.failed), -(trial.best or 0.0)))
