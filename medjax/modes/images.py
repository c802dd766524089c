"""What a judged run leaves whose networks make images, not labels."""

import json
from collections.abc import Sequence
from typing import Any

from medjax import progress
from medjax.metrics.statistics import aggregate
from medjax.modes import trained
from medjax.modes.experiment import Experiment
from medjax.train import results
from medjax.train.evaluate import Row, write_rows
from medjax.train.report.sheets import Sheet
from medjax.train.report.training import write_report
from medjax.train.writers import read_rows

console = progress.console


def publish(
    run: Experiment,
    stored: dict[str, Any],
    facts: dict[str, Any],
    rows: Sequence[Row],
    sheets: Sequence[Sheet],
    prediction: dict[str, Any],
    seconds: float,
) -> None:
    """metrics.csv, results.json and report.html from the rows and sheets of the test cases."""
    workdir = run.workdir
    write_rows(workdir / "metrics.csv", rows)
    names = dict.fromkeys(row["class"] for row in rows)
    metrics = {name: aggregate([row for row in rows if row["class"] == name]) for name in names}
    content = trained.frame(run, stored, facts, metrics, seconds)
    content["prediction"] = prediction
    results.write_json(workdir / "results.json", content)
    write_report(
        workdir / "report.html",
        results=content,
        config=stored,
        plan=json.loads((workdir / "plan.json").read_text("utf-8")),
        curves=read_rows(workdir / "metrics.jsonl"),
        rows=rows,
        cases=(),
        classes=run.plan.labels.classes,
        sheets=sheets,
    )
    for name, scores in metrics.items():
        line = ", ".join(f"{key} {value['mean']:.3f}" for key, value in scores.items())
        console.print(f"{name}: {line}")
    for made in ("metrics.csv", "results.json", "report.html", "checkpoints"):
        console.print(f"made {workdir / made}")
