"""Judges a model on whole scans, on their own grid: predictions saved, one row of scores per class."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from medjax.data.cases import Case
from medjax.data.convention import IGNORE, Convention
from medjax.data.plan import Plan
from medjax.data.prepare import Scan, load
from medjax.infer.predictor import Predictor, native, suffix
from medjax.infer.restore import channel_masks
from medjax.io.atomic import atomic
from medjax.io.files import write
from medjax.metrics.case import score
from medjax.metrics.overlap import count, dice
from medjax.metrics.statistics import aggregate
from medjax.space.components import largest_component

Row = dict[str, Any]
ENOUGH = 3  # validation cases, to decide on post-processing


@runtime_checkable
class Labeller(Protocol):
    """What a scan is labelled by: a predictor, or a model file."""

    @property
    def plan(self) -> Plan:
        """How scans are prepared, and the classes."""
        ...

    def labels(self, scan: Scan, name: str) -> Any:
        """Class indices on the RAS+ grid of the scan. Errors name the case."""
        ...


def judge(
    cases: Sequence[Case],
    predictor: Labeller,
    folder: Path,
    *,
    spacing: Sequence[float] = (),
    tolerance: float = 1.0,
    convention: Convention | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Row]:
    """Predicts, saves and scores each case on its own grid: one row per case and class or region.

    `convention` of the references, where it is not the plan's: classes or regions of one name are
    compared. Cases without a label are predicted and not scored, nor are classes that nobody drew in a case.
    One case is in memory at a time.
    """
    plan = predictor.plan
    theirs = convention or plan.labels
    rows: list[Row] = []
    for case in progress(cases):
        scan = load(case, theirs, len(plan.channels), spacing=spacing)
        labels = predictor.labels(scan, case.id)
        write(native(labels, scan, plan), folder / f"{case.id}{suffix(case, scan)}")
        if scan.label is None:
            continue
        found, wanted = channel_masks(labels, plan.labels), channel_masks(scan.label, theirs)
        counted = scan.label != IGNORE
        told = theirs.decided(case.drawn)
        for name in (n for n in plan.names if n in told):
            scores = score(found[name] & counted, wanted[name], scan.spacing, tolerance=tolerance)
            rows.append({"case": case.id, "class": name, **scores})
    return rows


def choose_largest(
    cases: Sequence[Case],
    predictor: Predictor,
    *,
    spacing: Sequence[float] = (),
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[int, ...]:
    """The output channels that lose nothing and gain on average when only their largest part stays.

    Decided by the Dice of the validation cases, of which at least `ENOUGH` must hold the structure:
    from one or two, a stray part in the one says nothing about two tumours in the next. Never the
    background.
    """
    plan = predictor.plan
    gains: dict[int, list[float]] = {}
    first = 1 if plan.exclusive else 0
    for case in progress(cases) if cases else ():
        scan = load(case, plan.labels, len(plan.channels), spacing=spacing)
        if scan.label is None:
            continue
        found = channel_masks(predictor.labels(scan, case.id), plan.labels)
        wanted = channel_masks(scan.label, plan.labels)
        told = plan.labels.decided(case.drawn)
        for channel, name in enumerate(plan.names, start=first):
            if name in told and wanted[name].any():
                before = dice(count(found[name], wanted[name]))
                after = dice(count(largest_component(found[name]), wanted[name]))
                gains.setdefault(channel, []).append(after - before)
    return tuple(
        channel
        for channel, gain in gains.items()
        if len(gain) >= ENOUGH and min(gain) >= 0 and np.mean(gain) > 1e-4
    )


def summary(rows: Sequence[Row], names: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean, spread and bootstrap interval of each score, per class; `mean` pools the classes per case."""
    table = {name: aggregate([row for row in rows if row["class"] == name]) for name in names}
    by_case: dict[str, list[Row]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    pooled = []
    for group in by_case.values():
        means = {}
        for key in [k for k in group[0] if k not in ("case", "class")]:
            values = np.array([row[key] for row in group], float)
            means[key] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
        pooled.append(means)
    return {"mean": aggregate(pooled), **table}


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """metrics.csv: a line per case and class."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        names = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(file, names or ["case", "class"])
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[Row]:
    """The rows of a metrics.csv, numbers as numbers; a score that a class does not have is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: v if k in ("case", "class") else float(v) for k, v in row.items() if v}
            for row in csv.DictReader(file)
        ]
