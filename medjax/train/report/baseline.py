"""The sections of the report on the run that this one must beat, and on any other beside it."""

from collections.abc import Mapping
from typing import Any

from medjax.train.report import page

NOTE = "means over the cases that both scored, and the mean difference with its 95 % bootstrap interval"


def baseline_section(compared: Mapping[str, Any]) -> str:
    """The table of the report; nothing where there was no such run."""
    how = (
        "The same network, steps and batch without the cases that have no labels (folder baseline)"
    )
    return _section(compared, "the labelled cases alone", how)


def against_section(compared: Mapping[str, Any]) -> str:
    """The same for the run that was named to compare with (`eval.against`)."""
    return _section(compared.get("classes") or {}, str(compared.get("run")), "Two runs")


def _section(compared: Mapping[str, Any], other: str, how: str) -> str:
    if not compared:
        return ""
    metrics = next(iter(compared.values()))
    head = "".join(
        f'<th scope="col">{page.metric(metric, arrow=True)}, here</th>'
        '<th scope="col">there</th><th scope="col">difference</th>'
        for metric in metrics
    )
    body = []
    for name, own in compared.items():
        cells = ""
        for metric in metrics:
            one = own[metric]
            cells += (
                f"<td><b>{page.score(one['ours'], metric)}</b></td>"
                f"<td>{page.score(one['baseline'], metric)}</td>"
                f"<td>{page.score(one['gain'], metric)}<small>{page.interval(one, metric)}"
                f"<br>p = {page.text(one['p'])}, n = {page.text(one['n'])}</small></td>"
            )
        body.append(f'<tr><th scope="row">{page.text(name)}</th>{cells}</tr>')
    return (
        f"<section><h2>Against {page.text(other)}</h2>"
        f'<div class="scroll"><table class="scores"><thead><tr><th scope="col">Class</th>{head}</tr></thead>'
        f'<tbody>{"".join(body)}</tbody></table></div><p class="note">{how}: {NOTE} over cases; p is that of '
        "Wilcoxon's signed-rank test.</p></section>"
    )
