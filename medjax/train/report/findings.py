"""What the report says of the classes of scans and of the objects in them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from medjax.train.report import figures, page


def findings_section(results: Mapping[str, Any]) -> str:
    """The section of the page; nothing where no class and no object was judged."""
    parts = [
        _classified(results.get("classification") or {}),
        _detected(results.get("detection") or {}),
    ]
    body = "".join(filter(None, parts))
    return f"<section><h2>Classes and objects</h2>{body}</section>" if body else ""


def _classified(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    listed = page.facts(
        {
            "Cases": found["accuracy"]["n"],
            "Accuracy": _with_interval(found["accuracy"], "accuracy"),
            "Balanced accuracy": page.score(found["balanced_accuracy"], "accuracy"),
            "AUC": page.score(found["auc"], "auc"),
            "Brier score": _with_interval(found["brier"], "brier"),
            "Calibration error": page.score(found["calibration_error"], "calibration_error"),
        }
    )
    names = found["classes"]
    head = "".join(f'<th scope="col">{page.text(name)}</th>' for name in names)
    body = "".join(
        f'<tr><th scope="row">{page.text(name)}</th>{"".join(f"<td>{n}</td>" for n in row)}</tr>'
        for name, row in zip(names, found["confusion"], strict=True)
    )
    return (
        f'<h3>Classification</h3>{listed}<div class="scroll"><table class="scores"><thead><tr>'
        f'<th scope="col">Is, called</th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        '<p class="note">Intervals: 95 % bootstrap over cases. The AUC is the mean of each class against '
        "the rest. The calibration error is well above 0 with few cases, however right the "
        "probabilities.</p>"
    )


def _detected(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    listed = page.facts(
        {
            "Scans": found["scans"],
            "Objects": found["objects"],
            "CPM": _with_interval(found["cpm"], "cpm"),
            f"Average precision at an overlap of {found['overlap']:g}": page.score(
                found["average_precision"], "average_precision"
            ),
        }
    )
    pairs = [
        (x, y) for x, y in zip(found["rates"], found["sensitivity"], strict=True) if y is not None
    ]
    x, y = np.array(pairs, float).reshape(-1, 2).T
    chart = (
        figures.line_chart(
            [figures.Line("test cases", x, y, "dots", 1)],
            "Sensitivity",
            along="false positives a scan",
        )
        if len(x)
        else ""
    )
    return (
        f'<h3>Detection</h3>{listed}<div class="grid">{chart}</div><p class="note">A finding hits the '
        "object in which its centre lies; CPM is the mean sensitivity at 1/8 to 8 false positives a scan "
        "(LUNA16), its interval a 95 % bootstrap over scans.</p>"
    )


def _with_interval(summary: Mapping[str, Any], key: str) -> str:
    return f"{page.score(summary['mean'], key)} [{page.interval(summary, key)}]"
