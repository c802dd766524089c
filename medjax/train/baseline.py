"""A run beside the one that it must beat: the same cases, scored by both."""

import math
from collections.abc import Sequence

import numpy as np

from medjax.metrics.statistics import paired_difference
from medjax.train.evaluate import Row

METRICS = ("dice", "hd95")


def compare(
    rows: Sequence[Row], baseline: Sequence[Row], names: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Per class and metric the mean of both and the `gain` over the cases that both scored.

    {class: {metric: {ours, baseline, gain, low, high, n}}}, the interval a bootstrap over cases.
    """
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        ours, theirs = (
            {row["case"]: row for row in table if row["class"] == name}
            for table in (rows, baseline)
        )
        cases = [case for case in ours if case in theirs]
        for metric in METRICS:
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
                "n": gain.n,
            }
    return found
