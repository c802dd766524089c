"""A run beside the one that it must beat, or any other: the same cases, scored by both."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medjax.errors import UserError
from medjax.metrics.statistics import paired_difference, wilcoxon
from medjax.train.evaluate import Row, read_rows

METRICS = ("dice", "hd95")


def scores_of(folder: Path) -> list[Row]:
    """The metrics.csv of a run that was judged. Errors: there is none."""
    path = folder / "metrics.csv"
    if not path.is_file():
        raise UserError(f"eval.against: {folder}: holds no metrics.csv; judge that run first")
    return read_rows(path)


def against(rows: Sequence[Row], other: str) -> dict[str, Any]:
    """The part of results.json that compares with the run in the folder `other`; nothing where that is unset.

    Dice and HD95 of what is segmented, or accuracy and Brier score of a classifier. Errors: no run was judged
    there, or on none of the cases that were judged here.
    """
    if not other:
        return {}
    theirs = scores_of(Path(other))
    if not {row["case"] for row in rows} & {row["case"] for row in theirs}:
        raise UserError(f"eval.against: {other}: was judged on none of the cases of this run")
    metrics = METRICS if any("dice" in row for row in rows) else ("accuracy", "brier")
    names = list(dict.fromkeys(row["class"] for row in rows if metrics[0] in row))
    return {"against": {"run": other, "classes": compare(rows, theirs, names, metrics)}}


def compare(
    rows: Sequence[Row],
    baseline: Sequence[Row],
    names: Sequence[str],
    metrics: Sequence[str] = METRICS,
) -> dict[str, dict[str, dict[str, float]]]:
    """Per class and metric the mean of both and the `gain` over the cases that both scored.

    {class: {metric: {ours, baseline, gain, low, high, p, n}}}, the interval a bootstrap over cases, p that of
    Wilcoxon's signed-rank test.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        ours, theirs = (
            {row["case"]: row for row in table if row["class"] == name}
            for table in (rows, baseline)
        )
        cases = [case for case in ours if case in theirs]
        for metric in metrics:
            pairs = np.array(
                [(ours[c].get(metric, math.nan), theirs[c].get(metric, math.nan)) for c in cases],
                float,
            ).reshape(-1, 2)
            defined = pairs[~np.isnan(pairs).any(axis=1)]
            gain = paired_difference(pairs[:, 0], pairs[:, 1])
            both = defined.mean(axis=0) if len(defined) else np.full(2, math.nan)
            found.setdefault(name, {})[metric] = {
                "ours": float(both[0]),
                "baseline": float(both[1]),
                "gain": gain.mean,
                "low": gain.low,
                "high": gain.high,
                "p": wilcoxon(pairs[:, 0], pairs[:, 1]),
                "n": gain.n,
            }
    return found
