"""The section of the report on the runs that it stands for: folds, seeds or both."""

from collections.abc import Mapping
from typing import Any

from medjax.train.report import page

SHOWN = ("dice", "hd95", "accuracy")


def runs_section(results: Mapping[str, Any]) -> str:
    """A row a run with a link to its own report, and the spread over seeds; nothing for one run alone."""
    runs, seeds = results.get("runs") or {}, results.get("seeds") or {}
    if not runs:
        return ""
    columns = [
        (name, key)
        for name, scores in next(iter(runs.values())).items()
        for key in SHOWN
        if key in scores
    ]
    head = "".join(
        f'<th scope="col">{page.text(name)}: {page.metric(key, arrow=True)}</th>'
        for name, key in columns
    )
    body = ""
    for run, metrics in runs.items():
        means = [metrics.get(name, {}).get(key, {}).get("mean") for name, key in columns]
        cells = "".join(
            f"<td>{page.score(mean, key)}</td>"
            for mean, (_, key) in zip(means, columns, strict=True)
        )
        link = f'<a href="{page.text(run)}/report.html">{page.text(run)}</a>'
        body += f'<tr><th scope="row">{link}</th>{cells}</tr>'
    if seeds:
        cells = ""
        for name, key in columns:
            own = seeds.get(name, {}).get(key, {})
            cells += (
                f"<td><b>{page.score(own.get('mean'), key)}</b><small>SD {page.score(own.get('sd'), key)}"
                f"<br>n = {page.text(own.get('n'))}</small></td>"
            )
        body += f'<tr><th scope="row">Over seeds</th>{cells}</tr>'
    note = "Means over the test cases of each run. " + (
        "Over seeds: mean and standard deviation of each seed's mean over all of its test cases. "
        if seeds
        else ""
    )
    return (
        '<section><h2>Runs</h2><div class="scroll"><table class="scores"><thead><tr>'
        f'<th scope="col">Run</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<p class="note">{note}Everywhere else here a case counts once, with its mean over seeds.</p>'
        "</section>"
    )
