"""The learning curves of the report: what a run wrote into metrics.jsonl, chart by chart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medjax.train.report import figures
from medjax.train.report.page import as_float

UNLABELLED = {  # what the paradigms of modes/semi.py learn from cases without labels: two at most
    "consistency": "squared difference from the teacher",
    "cross": "cross-entropy against the other's decision",
    "strong": "Dice loss of strong views",
    "features": "Dice loss of torn features",
    "pseudo_dice_loss": "Dice loss of guessed labels",
    "pseudo_cross_entropy": "cross-entropy of guessed labels",
}


def curves_section(curves: Sequence[Mapping[str, Any]]) -> str:
    """The section of the page; a chart that has no values is left out, and so is a section of none."""

    def series(key: str, name: str, style: str, colour: int) -> list[figures.Line]:
        pairs = [(as_float(row.get("step")), as_float(row.get(key))) for row in curves]
        kept = np.array([pair for pair in pairs if None not in pair], np.float64).reshape(-1, 2)
        return [figures.Line(name, kept[:, 0], kept[:, 1], style, colour)] if len(kept) else []

    def smoothed(key: str, name: str) -> list[figures.Line]:
        return [
            curve
            for raw in series(key, name, "faint", 1)
            for curve in (raw, figures.smooth(raw, "smoothed"))
        ]

    learned = [entry for entry in UNLABELLED.items() if any(entry[0] in row for row in curves)]
    named = [key for row in curves for key in row if key.startswith("weight/")]
    tasks = list(dict.fromkeys(key.removeprefix("weight/") for key in named))
    charts = {
        "Loss": smoothed("loss", "training"),
        "Dice": smoothed("dice", "training patches")
        + series("validation_dice", "validation", "dots", 2),
        "Accuracy": smoothed("accuracy", "training patches")
        + series("validation_accuracy", "validation", "dots", 2),
        "Heatmap loss": smoothed("heatmap_loss", "training")
        + series("validation_heatmap_loss", "validation", "dots", 2),
        **{
            title: [
                line
                for number, task in enumerate(tasks)
                for line in series(f"{kind}/{task}", task, "bold", 1 + number)
            ]
            for title, kind in (("Weights of the tasks", "weight"), ("Losses of the tasks", "task"))
        },
        "Without labels": [
            figures.smooth(raw, name)
            for number, (key, name) in enumerate(learned)
            for raw in series(key, name, "faint", 1 + number)
        ],
        "Voxels that teach": smoothed("sure", "share of those without a label"),
        "Reconstruction": smoothed("reconstruction", "training")
        + series("validation_reconstruction", "validation", "dots", 2),
        "Cycle, L1": smoothed("cycle_target", "target, there and back"),
        "Error of made images": series("validation_mae", "validation", "dots", 2),
        "Discriminator": smoothed("d_target", "of the target; 0.25 is guessing"),
        "Learning rate": series("learning_rate", "learning rate", "bold", 1),
        "Patches per second": smoothed("patches_per_second", "training"),
    }
    drawn = "".join(figures.line_chart(lines, name) for name, lines in charts.items() if lines)
    if not drawn:
        return ""
    return (
        f'<section><h2>Learning curves</h2><div class="grid">{drawn}</div><p class="note">'
        f"Smoothed: exponential moving average, span 1/{figures.SPANS} of the curve.</p></section>"
    )
