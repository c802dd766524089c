"""Scores of several runs as those of one: means over seeds, and how far seeds lie apart."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medjax.metrics.statistics import aggregate
from medjax.train.evaluate import Row, summary
from medjax.train.findings import CLASSIFICATION

Table = Mapping[str, Mapping[str, Mapping[str, float]]]  # by class, score and statistic


def mean_rows(rows: Sequence[Row]) -> list[Row]:
    """A row for each case and class: the mean of those that there are, score by score.

    A score that is undefined (nan, or lacking) in some of them is the mean of the others.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["class"]), []).append(row)
    found = []
    for (case, name), group in groups.items():
        scores = dict.fromkeys(key for row in group for key in row if key not in ("case", "class"))
        means = {key: _mean([row.get(key, math.nan) for row in group]) for key in scores}
        found.append({"case": case, "class": name, **means})
    return found


def _mean(values: Sequence[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def scored(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """The summary of a metrics.csv, as results.json has it."""
    classes = [row for row in rows if row["class"] == CLASSIFICATION]
    others = [row for row in rows if row["class"] != CLASSIFICATION]
    found = summary(others, list(dict.fromkeys(row["class"] for row in others))) if others else {}
    return found | ({CLASSIFICATION: aggregate(classes)} if classes else {})


def spread_of_means(tables: Sequence[Table]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean and standard deviation (n - 1) over seeds of each seed's mean: {class: {score: {mean, sd, n}}}."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, scores in tables[0].items():
        for score in scores:
            means = [table[name][score]["mean"] for table in tables]
            defined = [mean for mean in means if not math.isnan(mean)]
            sd = float(np.std(defined, ddof=1)) if len(defined) > 1 else math.nan
            found.setdefault(name, {})[score] = {"mean": _mean(means), "sd": sd, "n": len(defined)}
    return found
