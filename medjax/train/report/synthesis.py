"""`synthesis.html`: one self-contained page that shows synthetic cases, and real ones beside them."""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medjax.io.atomic import atomic
from medjax.train.report import figures, page
from medjax.train.report.page import as_float, score, text

FEW = 20  # patients: with fewer an interval is known to be too narrow


def write_page(
    path: Path,
    *,
    content: Mapping[str, Any],
    recipe: Mapping[str, Any],
    sheet: Path,
    made: Mapping[str, Mapping[str, float]],
    real: Mapping[str, Mapping[str, float]],
    structures: Sequence[str],
) -> None:
    """Write the page, whole or not at all.

    content: realism.json, without `patients` and `statistics` where there is no real set; `sheet` the
    picture to embed; made, real: the figures of each case by name, which the volumes are taken from.
    """
    sections = [
        _header(content),
        _result(content),
        _sheet(sheet, bool(real)),
        _volumes(made, real, structures),
        _statistics(content.get("statistics") or ()),
        f"<section><h2>Recipe</h2>{page.facts({page.label(k): v for k, v in recipe.items()})}</section>",
        _settings(content),
    ]
    whole = page.fill("synthetic cases · medjax", "\n".join(filter(None, sections)))
    with atomic(path) as temporary:
        Path(temporary).write_text(whole, encoding="utf-8")


def _header(content: Mapping[str, Any]) -> str:
    versions = (content.get("versions") or {}).items()
    facts = {
        "Cases": content.get("cases"),
        "Seed": content.get("seed"),
        "Device": content.get("device"),
        "Commit": str(content.get("commit") or "")[:12],
        "Versions": ", ".join(f"{key} {value}" for key, value in versions),
    }
    lead = '<p class="lead">Synthetic cases: no patient is shown, unless marked as real.</p>'
    return (
        '<header><p class="brand">medjax synthesis</p>'
        f"<h1>{text(content.get('experiment'))}</h1>{lead}{page.facts(facts)}</header>"
    )


def _result(content: Mapping[str, Any]) -> str:
    if "auc" not in content:
        return ""
    cards = ""
    for unit, found in content["auc"].items():
        area, low, high = (as_float(found[key]) for key in ("auc", "low", "high"))
        bar = ""
        if area is not None and low is not None and high is not None:
            bar = figures.interval_bar(area, low, high)
        cards += (
            f'<div class="card"><h3>AUC over {unit}</h3><p class="big">{score(area, "auc")}</p>{bar}'
            f'<p class="note">95 % interval {score(low, "auc")} to {score(high, "auc")}</p></div>'
        )
    real, made = content["patients"]["real"], content["patients"]["synthetic"]
    warning = ""
    if min(real, made) < FEW:
        warning = (
            f'<aside class="warning"><b>{real} real and {made} synthetic patients.</b> With fewer than '
            f"{FEW} of a kind the interval is too narrow, and an AUC of 1 says little about others."
            "</aside>"
        )
    judge = content["judge"]
    return (
        f'<section><h2>Can they be told apart?</h2>{warning}<div class="cards">{cards}</div>'
        '<p class="note">A small network learns to tell real slices from synthetic ones and is asked '
        f"about patients that it has not met ({judge['folds']} folds, {judge['repeats']} times, "
        f"{judge['steps']} steps each). 0.5 is guessing, 1 is always right. Intervals: bootstrap over "
        f"patients. Seen: {text(content['contrasts'])}, {judge['spacing_mm']:g} mm.</p></section>"
    )


def _sheet(path: Path, both: bool) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    note = "The axial slice through the lesion's largest cross-section, outlined by its label; "
    note += "grey levels span the central 99 % of the brain. "
    note += "Synthetic cases on the left, real ones on the right." if both else ""
    return (
        f'<section><h2>Contact sheet</h2><p class="note">{note}</p><img alt="contact sheet" '
        f'style="max-width:100%" src="data:image/png;base64,{data}"></section>'
    )


def _volumes(
    made: Mapping[str, Mapping[str, float]],
    real: Mapping[str, Mapping[str, float]],
    structures: Sequence[str],
) -> str:
    charts, body = "", ""
    for name in ("lesion", *structures[1:]):
        key, groups = f"volume of {name}", {}
        for kind, cases in (("synthetic", made), ("real", real)):
            known = [(case, v) for case, row in cases.items() if (v := as_float(row.get(key)))]
            present = [value for _, value in known]
            if not cases or not any(key in row for row in cases.values()):
                continue
            groups |= {kind: known} if known else {}
            span = f"{min(present):.3g} to {max(present):.3g}" if present else page.DASH
            mean = sum(present) / len(present) if present else None
            body += (
                f'<tr><th scope="row">{text(name)}, {kind}</th><td>{len(present)} of {len(cases)}</td>'
                f"<td>{score(mean, 'ml')}</td><td>{span}</td></tr>"
            )
        charts += figures.strip_chart(groups, f"{name} (ml)") if groups else ""
    head = "".join(
        f'<th scope="col">{h}</th>' for h in ("Structure", "Present in", "Mean (ml)", "Range (ml)")
    )
    return (
        f'<section><h2>Volumes</h2><div class="grid">{charts}</div><div class="scroll"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="note">Each dot is a case, named when pointed at. Means are over the cases that have '
        "the structure.</p></section>"
    )


def _statistics(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    titles = ("Figure", "Real", "SD", "Synthetic", "SD", "Difference (SD)", "AUC alone")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = ""
    for row in rows:
        real, made = row["real"], row["made"]
        values = (real["mean"], real["sd"], made["mean"], made["sd"], row["difference"], row["auc"])
        cells = "".join(f"<td>{score(value, '')}</td>" for value in values)
        body += f'<tr><th scope="row">{text(row["figure"])}</th>{cells}</tr>'
    return (
        '<section><h2>What differs</h2><div class="scroll tall"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="note">One value a patient; images in z-scores of the brain, volumes in ml. Detail is '
        "the mean absolute Laplacian at 2 mm, and the mean absolute second difference along each axis of "
        "the scan's own grid; bright and dark are shares beyond 2 SD, the rim is the outermost 4 mm, and "
        "inside is without the lesion; contrast is a structure's mean above the rest of the brain. The "
        "largest differences come first: they are what a network may go by.</p></section>"
    )


def _settings(content: Mapping[str, Any]) -> str:
    written = page.escape(json.dumps(content, indent=1, ensure_ascii=False, default=str))
    return (
        "<section><h2>Settings</h2><details><summary>All figures of this page</summary>"
        f"<pre>{written}</pre></details></section><footer>Made by medjax. Each case holds the numbers "
        "it was made with in provenance.json. For research, not for diagnosis.</footer>"
    )
