"""`export.html`: one self-contained page about an exported model, what it is worth and what was checked."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medjax.io.atomic import atomic
from medjax.train.report import page
from medjax.train.report.page import text

COLUMNS = {  # of the table: heading and form
    "file": ("File", "{}"),
    "runtime": ("Runtime", "{}"),
    "p50_ms": ("Median (ms)", "{:.1f}"),
    "p95_ms": ("95 % (ms)", "{:.1f}"),
    "megabytes": ("Size (MB)", "{:.2f}"),
    "dice": ("Dice", "{:.3f}"),
    "hd95": ("HD95 (mm)", "{:.2f}"),
    "accuracy": ("Accuracy", "{:.3f}"),
    "brier": ("Brier score", "{:.3f}"),
    "seconds_a_scan": ("File to file (s)", "{:.2f}"),
}


def write_export_page(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the page of an export.json, whole or not at all."""
    sections = [
        _header(content),
        _table(content["table"]),
        _checks("Checks of the file", content["gates"]),
        *(
            _checks(f"Route {route}", gates)
            for route, gates in content["routes"].items()
            if gates and route != content["facts"]["provenance"]["route"]
        ),
        _facts(content["facts"]),
    ]
    whole = page.fill("export · medjax", "\n".join(filter(None, sections)))
    with atomic(path) as temporary:
        Path(temporary).write_text(whole, encoding="utf-8")


def _header(content: Mapping[str, Any]) -> str:
    failed = [gate["name"] for gate in content["gates"] if not gate["passes"]]
    lead = "Every check is passed." if not failed else f"Not for use: {'; '.join(failed)}."
    made = content["facts"]["provenance"]
    facts = {
        "File": content["model"],
        "Route": made["route"],
        "Precision": content["export"]["precision"],
        "Device": content["device"],
        "Commit": str(made.get("commit") or "")[:12],
        "Trained steps": made.get("step"),
    }
    return (
        '<header><p class="brand">medjax export</p>'
        f"<h1>{text(made.get('experiment'))}</h1>"
        f'<p class="lead">{text(lead)}</p>{page.facts(facts)}</header>'
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """What each file is worth; nothing where a check failed before."""
    if not rows:
        return ""
    shown = {key: pair for key, pair in COLUMNS.items() if any(key in row for row in rows)}
    cells = [
        [
            text(form.format(row[key])) if row.get(key) is not None else page.DASH
            for key, (_, form) in shown.items()
        ]
        for row in rows
    ]
    note = (
        "Time of one window, all files in turn, a batch of one. Scores are of the test cases, by the file "
        "alone; file to file is one scan, the model opened before."
    )
    heads = [text(name) for name, _ in shown.values()]
    return f'<section><h2>What it is worth</h2>{page.table(heads, cells)}<p class="note">{note}</p></section>'


def _checks(title: str, gates: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            text(gate["name"]),
            page.DASH if gate["figure"] is None else f"{gate['figure']:.3g}",
            f"at {gate['kind']} {gate['bound']:g}",
            "ok" if gate["passes"] else "<strong>fails</strong>",
        ]
        for gate in gates
    ]
    return f"<section><h2>{text(title)}</h2>{page.table(('Check', 'Found', 'Bound', ''), rows)}</section>"


def _facts(facts: Mapping[str, Any]) -> str:
    """What stands in the file for its runtime and its reader."""
    left_out = ("parity", "metrics", "provenance", "convention")
    pairs = {page.label(key): value for key, value in facts.items() if key not in left_out}
    return f"<section><h2>What the file says of itself</h2>{page.facts(pairs)}</section>"
