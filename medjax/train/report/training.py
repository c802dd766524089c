"""`report.html`: one self-contained page that says what ran on what data, and how good it is."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medjax.io.atomic import atomic
from medjax.train.report import figures, page
from medjax.train.report.baseline import against_section, baseline_section
from medjax.train.report.curves import curves_section
from medjax.train.report.findings import findings_section
from medjax.train.report.heart import heart_section
from medjax.train.report.page import as_float, score, text
from medjax.train.report.runs import runs_section
from medjax.train.report.sheets import Sheet, sheets_section
from medjax.train.report.slices import ReportCase, object_pictures, pictures

FEW_CASES = 10
MOST_ROWS = 1500


def write_report(
    path: str | Path,
    *,
    results: Mapping[str, Any],
    config: Mapping[str, Any],
    plan: Mapping[str, Any],
    curves: Sequence[Mapping[str, Any]],
    rows: Sequence[Mapping[str, Any]],
    cases: Sequence[ReportCase],
    classes: Sequence[str],
    sheets: Sequence[Sheet] = (),
    objects: Sequence[ReportCase] = (),
) -> None:
    """Write the page, whole or not at all; the same input gives the same bytes.

    results: `results.json`; curves: the rows of `metrics.jsonl`; rows: those of `metrics.csv`, one
    a case and class; classes: the names of the class indices, background first; objects: those that a
    detector found or should have. What is absent
    from them is left out of the page; None, NaN and infinite scores are shown as a dash.
    """
    metrics = results.get("metrics") or {}
    named = [name for name in classes if name in metrics]
    metrics = {name: metrics[name] for name in [*named, *(n for n in metrics if n not in named)]}
    sections = [
        _header(results),
        _warnings(results),
        _headline(metrics),
        runs_section(results),
        _data(results.get("data") or {}, plan),
        curves_section(curves),
        _scores({name: own for name, own in metrics.items() if name not in results}),
        findings_section(results),
        heart_section(results),
        baseline_section(results.get("baseline") or {}),
        against_section(results.get("against") or {}),
        _every_case(rows),
        pictures(cases, classes),
        object_pictures(objects),
        sheets_section(sheets, classes),
        _timing(results),
        _settings(config, plan, results),
    ]
    content = page.fill(
        f"{text(results.get('experiment'))} · medjax report", "\n".join(filter(None, sections))
    )
    with atomic(path) as temporary:
        Path(temporary).write_text(content, encoding="utf-8")


def _header(results: Mapping[str, Any]) -> str:
    timing, training = results.get("timing") or {}, results.get("training") or {}
    data = results.get("data") or {}
    versions = (results.get("versions") or {}).items()
    facts = {
        "Date": results.get("date"),
        "Device": results.get("device"),
        "Training time": page.duration(timing.get("train_seconds")),
        "Steps": training.get("steps", timing.get("steps")),
        "Seed": results.get("seed"),
        "Commit": str(results.get("commit") or "")[:12],
        "Config (SHA-256)": str(results.get("config_sha256") or "")[:12],
        "Versions": ", ".join(f"{key} {value}" for key, value in versions),
    }
    lead = f'<p class="lead">Data: {text(data["name"])}</p>' if data.get("name") else ""
    return (
        '<header><p class="brand">medjax report</p>'
        f"<h1>{text(results.get('experiment'))}</h1>{lead}{page.facts(facts)}</header>"
    )


def _warnings(results: Mapping[str, Any]) -> str:
    data, found = results.get("data") or {}, []
    for key, value in (data.get("assumed") or {}).items():
        unit = " mm" if key == "spacing" else ""
        found.append(
            f"<b>Assumed: {page.label(key).lower()} = {text(value)}{unit}.</b> It is not in the "
            "files: every figure here that depends on it is only as good as this assumption."
        )
    test = page.count(data.get("test"))
    if test is not None and test < FEW_CASES:
        found.append(
            f"<b>Few test cases (n = {test}).</b> Means and intervals over fewer than {FEW_CASES} "
            "cases say little about new patients; small differences between runs are mostly chance."
        )
    summaries = [
        summary
        for scores in (results.get("metrics") or {}).values()
        for key, summary in scores.items()
        if key != "false_alarm"  # undefined wherever there is something to find: no news
    ]
    undefined = sum(int(as_float(s.get("undefined")) or 0) for s in summaries)
    if undefined:
        few = "score is" if undefined == 1 else "scores are"
        found.append(f"<b>{undefined} {few} undefined.</b> {page.UNDEFINED}")
    undone = int(as_float((results.get("training") or {}).get("nonfinite")) or 0)
    if undone:
        found.append(
            f"<b>Training steps that gave NaN or infinity: {undone}.</b> They were undone."
        )
    items = "".join(f"<li>{line}</li>" for line in found)
    return f'<aside class="warning"><ul>{items}</ul></aside>' if found else ""


def _headline(metrics: Mapping[str, Any]) -> str:
    cards = []
    for name, summaries in metrics.items():
        if not summaries:
            continue
        key = "dice" if "dice" in summaries else next(iter(summaries))
        summary = summaries[key]
        mean, low, high = (as_float(summary.get(field)) for field in ("mean", "low", "high"))
        bar = ""
        if key in page.UNIT_INTERVAL and mean is not None and low is not None and high is not None:
            bar = figures.interval_bar(mean, low, high)
        cards.append(
            f'<div class="card"><h3>{text(name)}</h3><p class="big">{score(mean, key)}</p>{bar}'
            f'<p class="note">{page.metric(key)}, {page.interval(summary, key)}, '
            f"n = {text(summary.get('n'))}{page.undefined(summary)}</p></div>"
        )
    if not cards:
        return "<section><h2>Result</h2><p>No case was judged.</p></section>"
    return (
        f'<section><h2>Result</h2><div class="cards">{"".join(cards)}</div><p class="note">Mean '
        "over the test cases with its 95 % bootstrap interval; n counts the cases with a defined "
        "value.</p></section>"
    )


def _data(data: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    listed = page.facts(
        {
            "Data set": data.get("name"),
            "Layout": data.get("layout"),
            "Cases": page.count(data.get("cases")),
            "Training cases": page.count(data.get("train")),
            "Of which some classes were drawn": page.count(data.get("partly_drawn")) or None,
            "Without labels": page.count(data.get("unlabelled")) or None,
            "Validation cases": page.count(data.get("validation")),
            "Test cases": page.count(data.get("test")),
            "Working spacing (mm)": plan.get("spacing"),
            "Patch (voxels)": plan.get("patch"),
            "Batch": plan.get("batch"),
            "Split (SHA-256)": str(data.get("split_sha256") or "")[:12],
        }
    )
    return f"<section><h2>Data</h2>{listed}</section>" if listed else ""


def _scores(metrics: Mapping[str, Any]) -> str:
    keys = list(dict.fromkeys(key for summaries in metrics.values() for key in summaries))
    if not keys:
        return ""
    head = "".join(f'<th scope="col">{page.metric(key, arrow=True)}</th>' for key in keys)
    body = []
    for name, summaries in metrics.items():
        cells = []
        for key in keys:
            summary = summaries.get(key, {})
            cells.append(
                f"<td><b>{score(summary.get('mean'), key)}</b><small>{page.interval(summary, key)}"
                f"<br>SD {score(summary.get('sd'), key)}<br>n = {text(summary.get('n'))}"
                f"{page.undefined(summary)}</small></td>"
            )
        body.append(f'<tr><th scope="row">{text(name)}</th>{"".join(cells)}</tr>')
    table = (
        f'<thead><tr><th scope="col">Class</th>{head}</tr></thead><tbody>{"".join(body)}</tbody>'
    )
    return (
        f'<section><h2>Scores</h2><div class="scroll"><table class="scores">{table}</table></div>'
        '<p class="note">Mean over cases, its 95 % bootstrap interval, and the standard deviation. '
        f"↑ more is better, ↓ less is better.{_explained(table)}</p></section>"
    )


def _every_case(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    written = {key: [row[key] for row in rows if row.get(key) not in (None, "")] for key in keys}
    names = [
        key
        for key in keys
        if key in ("case", "class") or any(not _number_like(value) for value in written[key])
    ]
    scores = [key for key in keys if key not in names]
    if not rows or not scores:
        return ""
    first = "dice" if "dice" in scores else scores[0]
    best = page.METRICS.get(first, ("", "", 0, "↑"))[3]

    def badness(row: Mapping[str, Any]) -> tuple[bool, float]:
        value = as_float(row.get(first))
        return value is None, 0.0 if value is None else (-value if best == "↓" else value)

    order = "descending" if best == "↓" else "ascending"
    head = "".join(
        f'<th scope="col"{" class=name" if key in names else ""}'
        f"{f' aria-sort={order}' if key == first else ''}>"
        f'<button type="button">{page.metric(key, arrow=True)}</button></th>'
        for key in names + scores
    )
    body = []
    for row in sorted(rows, key=badness)[:MOST_ROWS]:
        cells = "".join(f'<td class="name">{text(row.get(key))}</td>' for key in names)
        for key in scores:
            value = as_float(row.get(key))
            known = "" if value is None else f' data-v="{value:.6g}"'
            cells += f"<td{known}>{score(value, key)}</td>"
        body.append(f"<tr>{cells}</tr>")
    strips = [_strip(rows, key) for key in ("dice", "hd95") if key in scores] or [
        _strip(rows, first)
    ]
    table = f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody>"
    cut = f" The first {MOST_ROWS} of {len(rows)} rows; all are in metrics.csv."
    return (
        f'<section><h2>Every case</h2><div class="grid">{"".join(strips)}</div><p class="note">'
        "Each dot is a case, named when pointed at; the box spans the quartiles, its line is the "
        f'median.</p><div class="scroll tall"><table class="sortable">{table}</table></div>'
        '<p class="note">Worst first; a heading sorts by its column.'
        f"{cut if len(rows) > MOST_ROWS else ''}{_explained(table)}</p></section>"
    )


def _explained(table: str) -> str:
    """What a dash means, where there is one."""
    return f" {page.UNDEFINED}" if page.DASH in table else ""


def _number_like(value: Any) -> bool:
    """Whether a value of metrics.csv is a number, NaN and infinity included."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _strip(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    groups: dict[str, list[tuple[str, float]]] = {}
    for row in rows:
        value = as_float(row.get(key))
        if value is not None:
            group = groups.setdefault(str(row.get("class", "all")), [])
            group.append((str(row.get("case", "")), value))
    top = 1.0 if key in page.UNIT_INTERVAL else None
    return figures.strip_chart(groups, page.metric(key), top=top) if groups else ""


def _timing(results: Mapping[str, Any]) -> str:
    lines = {**(results.get("timing") or {}), **(results.get("training") or {})}
    rows = [page.quantity(key, value) for key, value in lines.items()]
    body = "".join(f'<tr><th scope="row">{key}</th><td>{value}</td></tr>' for key, value in rows)
    if not body:
        return ""
    return (
        "<section><h2>Time and memory</h2><table class=plain><tbody>"
        f"{body}</tbody></table></section>"
    )


def _settings(config: Mapping, plan: Mapping, results: Mapping) -> str:
    blocks = ""
    for title, value in (("Configuration", config), ("Plan", plan), ("results.json", results)):
        written = json.dumps(value, indent=2, default=_jsonable, ensure_ascii=False)
        blocks += f"<details><summary>{title}</summary><pre>{page.escape(written)}</pre></details>"
    return (
        f"<section><h2>Settings</h2>{blocks}</section><footer>Made by medjax from results.json, "
        "metrics.jsonl and metrics.csv in this folder. For research, not for diagnosis.</footer>"
    )


def _jsonable(value: Any) -> Any:
    """Values that json does not know: arrays as lists, mappings of any kind, the rest as text."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return dict(value.items()) if hasattr(value, "items") else str(value)
