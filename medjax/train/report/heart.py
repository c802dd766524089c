"""What the report says of the function of hearts."""

from collections.abc import Mapping
from typing import Any

from medjax.train.report import page

FIGURES = {
    "lv_ef": "Ejection fraction, left (%)",
    "rv_ef": "Ejection fraction, right (%)",
    "lv_ml": "Largest volume, left (ml)",
    "rv_ml": "Largest volume, right (ml)",
    "wall": "Myocardium over left ventricle",
}


def heart_section(results: Mapping[str, Any]) -> str:
    """The section of the page; nothing where no heart was judged in two scans."""
    found = results.get("heart") or {}
    if not found:
        return ""
    head = ("Figure", "Patients", "Bias", "Limits of agreement", "Mean error", "Correlation")
    body = "".join(
        f'<tr><th scope="row">{page.text(name)}</th>{_row(found[key])}</tr>'
        for key, name in FIGURES.items()
    )
    columns = "".join(f'<th scope="col">{page.text(name)}</th>' for name in head)
    return (
        '<section><h2>Function of the heart</h2><div class="scroll"><table class="scores"><thead><tr>'
        f"{columns}</tr></thead><tbody>{body}</tbody></table></div>"
        '<p class="note">From the volumes of the masks: predictions less references. Limits of agreement: '
        "1.96 standard deviations around the bias (Bland and Altman).</p>"
        f"{_diagnosis(found.get('diagnosis') or {})}</section>"
    )


def _row(figure: Mapping[str, Any]) -> str:
    def number(key: str, decimals: int = 1, sign: str = "+") -> str:
        value = page.as_float(figure.get(key))
        return page.DASH if value is None else f"{value:{sign}.{decimals}f}"

    cells = (
        str(figure["n"]),
        number("bias"),
        f"{number('low')} to {number('high')}",
        number("mae", sign=""),
        number("correlation", 3, ""),
    )
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _diagnosis(told: Mapping[str, Any]) -> str:
    if not told:
        return ""
    right = {side: told[side] for side in ("predictions", "references")}
    listed = page.facts(
        {
            f"Right, from {side}": f"{page.score(score['mean'], 'accuracy')} of {score['n']}"
            for side, score in right.items()
        }
    )
    return (
        f"<h3>Diagnosis from these figures</h3>{listed}"
        f'<p class="note">A linear discriminant, learned from the references of {told["learned_from"]} '
        f"patients who trained: {page.text(', '.join(told['classes']))}.</p>"
    )
