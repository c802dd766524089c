"""A run beside the one that it must beat: the same cases, scored by both."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medjax.metrics.statistics import paired_difference
from medjax.train import page
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


def baseline_section(compared: Mapping[str, Any]) -> str:
    """The table of the report; nothing where there was no such run."""
    if not compared:
        return ""
    head = "".join(
        f'<th scope="col">{page.metric(metric, arrow=True)}, here</th>'
        '<th scope="col">labelled cases alone</th><th scope="col">difference</th>'
        for metric in METRICS
    )
    body = []
    for name, metrics in compared.items():
        cells = ""
        for metric in METRICS:
            one = metrics[metric]
            cells += (
                f"<td><b>{page.score(one['ours'], metric)}</b></td>"
                f"<td>{page.score(one['baseline'], metric)}</td>"
                f"<td>{page.score(one['gain'], metric)}<small>{page.interval(one, metric)}"
                f"<br>n = {page.text(one['n'])}</small></td>"
            )
        body.append(f'<tr><th scope="row">{page.text(name)}</th>{cells}</tr>')
    return (
        "<section><h2>Against the labelled cases alone</h2>"
        f'<div class="scroll"><table class="scores"><thead><tr><th scope="col">Class</th>{head}</tr></thead>'
        f'<tbody>{"".join(body)}</tbody></table></div><p class="note">The same network, steps and '
        "batch without the cases that have no labels (folder baseline): means over the cases that both "
        "scored, and the mean difference with its 95 % bootstrap interval over cases.</p></section>"
    )
