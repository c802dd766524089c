"""The page of a sweep: its trials in their order, their curves, what mattered."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medjax.io.atomic import atomic
from medjax.train.report import figures, page
from medjax.train.report.page import text

MOST_ROWS = 50


def write_sweep_page(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the page of a sweep.json, whole or not at all."""
    trials = content["trials"]
    scored = [trial for trial in trials if trial["best"] is not None and not trial["failed"]]
    sections = [
        _header(content, scored),
        _leaderboard(content, trials),
        _curves(content["metric"], scored),
        _importances(content["importances"]),
        _coordinates(content, scored),
    ]
    whole = page.fill("sweep · medjax", "\n".join(filter(None, sections)))
    with atomic(path) as temporary:
        Path(temporary).write_text(whole, encoding="utf-8")


def _header(content: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]) -> str:
    states = [trial["state"] for trial in content["trials"]]
    lead = "No trial has a score."
    if scored:
        lead = (
            f"{scored[0]['name']} is the best with {content['metric'].replace('_', ' ')} "
            f"{scored[0]['best']:.3f}. Its score chose it; only test cases, which no trial saw, judge it."
        )
    facts = {
        "Trials": len(states),
        "Finished": states.count("finished"),
        "Stopped early": states.count("stopped early"),
        "Failed": states.count("failed"),
        "Search": content["search"],
        "Device": content["device"],
    }
    return (
        '<header><p class="brand">medjax sweep</p>'
        f"<h1>{text(content['experiment'])}</h1>"
        f'<p class="lead">{text(lead)}</p>{page.facts(facts)}</header>'
    )


def _leaderboard(content: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> str:
    keys = [axis["key"] for axis in content["axes"]]
    rows = [
        [
            text(trial["name"]),
            page.DASH if trial["best"] is None else f"{trial['best']:.4f}",
            *[_value(trial["values"].get(key)) for key in keys],
            text(trial["curve"][-1][0] if trial["curve"] else None),
            text(trial["state"]),
        ]
        for trial in trials[:MOST_ROWS]
    ]
    head = ["Trial", page.label(content["metric"]), *map(text, keys), "Steps", "State"]
    failed = [f"{trial['name']}: {trial['failed']}" for trial in trials if trial["failed"]]
    notes = "".join(f'<p class="note">{text(line)}</p>' for line in failed[:MOST_ROWS])
    return f"<section><h2>Leaderboard</h2>{page.table(head, rows)}{notes}</section>"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else text(value)


def _curves(metric: str, scored: Sequence[Mapping[str, Any]]) -> str:
    if not scored:
        return ""
    lines = []
    for place, trial in reversed(list(enumerate(scored))):
        points = np.array(trial["curve"], np.float64).reshape(-1, 2)
        style, colour = ("bold", 2) if place == 0 else ("faint", 1)
        name = trial["name"] if place == 0 else "others" if place == 1 else ""
        lines.append(figures.Line(name, points[:, 0], points[:, 1], style, colour))
    chart = figures.line_chart(lines, page.label(metric))
    return f'<section><h2>Learning curves</h2><div class="grid">{chart}</div></section>'


def _importances(shares: Mapping[str, float]) -> str:
    if not shares:
        return ""
    rows = [[text(key), figures.interval_bar(share, 0.0, share)] for key, share in shares.items()]
    note = (
        "Share of the differences in score that a key explains, alone or with others (fANOVA, Hutter 2014), "
        "of keys that count in every trial. With few trials it is a guess."
    )
    return (
        f"<section><h2>What mattered</h2>{page.table(('Key', 'Share'), rows)}"
        f'<p class="note">{note}</p></section>'
    )


def _coordinates(content: Mapping[str, Any], scored: Sequence[Mapping[str, Any]]) -> str:
    if len(scored) < 2:
        return ""
    axes: dict[str, tuple[str, str]] = {}
    heights: list[list[float | None]] = [[] for _ in scored]
    for axis in content["axes"]:
        ends, place = _scale(axis)
        axes[axis["key"].rpartition(".")[-1]] = ends
        for own, trial in zip(heights, scored, strict=True):
            value = trial["values"].get(axis["key"])
            own.append(None if value is None else place(value))
    scores = [trial["best"] for trial in scored]
    low, high = min(scores), max(scores)
    axes["score"] = (f"{low:.3g}", f"{high:.3g}")
    for own, score in zip(heights, scores, strict=True):
        own.append((score - low) / (high - low) if high > low else 0.5)
    lines = [(own, place == 0) for place, own in enumerate(heights)]
    chart = figures.parallel_chart(axes, lines, "Each trial a line; the best one bold")
    return f'<section><h2>Settings and score</h2><div class="grid">{chart}</div></section>'


def _scale(axis: Mapping[str, Any]) -> tuple[tuple[str, str], Any]:
    """The words at the ends of an axis, and the map from a value to its height, 0 to 1."""
    values = list(axis["values"])
    if axis["kind"] == "choice":
        plain = [list(v) if isinstance(v, tuple) else v for v in values]

        def place(value: Any) -> float:
            own = list(value) if isinstance(value, tuple) else value
            return plain.index(own) / max(len(plain) - 1, 1)

        return (str(values[0]), str(values[-1])), place
    scale = math.log if axis["kind"] == "log" else float
    low, high = map(scale, values)
    return (f"{values[0]:g}", f"{values[1]:g}"), lambda v: (scale(v) - low) / (high - low)
