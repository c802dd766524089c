"""The page of the report: how values are written, and the pieces that it is put together from."""
# ruff: noqa: RUF001 (the signs of print are wanted on the page)

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from medjax.train.report.template import PAGE

# key: (label, unit, decimals, which is better)
METRICS = {
    "dice": ("Dice", "", 3, "↑"),
    "iou": ("IoU", "", 3, "↑"),
    "sensitivity": ("Sensitivity", "", 3, "↑"),
    "precision": ("Precision", "", 3, "↑"),
    "hd95": ("HD95", "mm", 2, "↓"),
    "hd100": ("HD100", "mm", 2, "↓"),
    "assd": ("ASSD", "mm", 2, "↓"),
    "nsd": ("NSD", "", 3, "↑"),
    "volume_ml": ("Volume", "ml", 2, ""),
    "reference_ml": ("Reference", "ml", 2, ""),
    "volume_error_ml": ("Volume error", "ml", 2, "↓"),
    "volume_bias_ml": ("Volume bias", "ml", 2, ""),
    "volume_error_relative": ("Relative volume error", "", 2, "↓"),
    "lesion_dice": ("Lesion Dice", "", 3, "↑"),
    "lesion_f1": ("Lesion F1", "", 3, "↑"),
    "lesions_found": ("Lesions found", "", 1, "↑"),
    "lesions_missed": ("Lesions missed", "", 1, "↓"),
    "lesions_false": ("False lesions", "", 1, "↓"),
    "mae": ("MAE", "SD of the brain", 4, "↓"),
    "mae_source": ("MAE of the source", "SD of the brain", 4, ""),
    "mae_lesion": ("MAE in lesions", "SD of the brain", 4, "↓"),
    "mae_cycle": ("MAE there and back", "SD of the brain", 4, "↓"),
    "mae_hidden": ("MAE of what was hidden", "units of the plan", 4, "↓"),
    "mae_mean": ("MAE of the mean in its place", "units of the plan", 4, ""),
    "ssim": ("SSIM", "", 3, "↑"),
    "contrast": ("Contrast to noise", "", 2, ""),
    "contrast_true": ("True contrast to noise", "", 2, ""),
    "contrast_error": ("Contrast error", "", 2, "↓"),
    "dice_made": ("Dice on the made image", "", 3, "↑"),
    "dice_true": ("Dice on the true image", "", 3, ""),
    "accuracy": ("Accuracy", "", 3, "↑"),
    "brier": ("Brier score", "", 3, "↓"),
    "auc": ("AUC", "", 3, "↑"),
    "calibration_error": ("Calibration error", "", 3, "↓"),
    "cpm": ("CPM", "", 3, "↑"),
    "average_precision": ("Average precision", "", 3, "↑"),
    "missed": ("Missed", "", 3, "↓"),
    "false_alarm": ("False alarm", "", 3, "↓"),
}
UNIT_INTERVAL = frozenset(key for key, (_, _, decimals, _) in METRICS.items() if decimals == 3)
UNDEFINED = (
    "– means undefined: there is nothing to measure, such as any overlap where reference and "
    "prediction are both empty. Such values are counted and left out of the means; where only one "
    "of the two is empty, the worst value counts (for distances the image's diagonal)."
)
TIMINGS = {
    "compile_seconds": "Compilation",
    "train_seconds": "Training",
    "evaluate_seconds": "Evaluation",
    "step_seconds_median": "One step (median)",
    "nonfinite": "Non-finite steps",
}
DASH = "–"
TIMES = " × "


# ---------------------------------------------------------------- values as text


def as_float(value: Any) -> float | None:
    """A finite number (a string of one too, as csv gives), else None."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        result = float(value)
    except (TypeError, ValueError):
        return None
    return result if math.isfinite(result) else None


def text(value: Any) -> str:
    """Any value, escaped: lists with ×, mappings as "key value" pairs, nothing as a dash."""
    if value is None or value == "":
        return DASH
    if isinstance(value, Mapping):
        return ", ".join(f"{label(key)} {text(item)}" for key, item in value.items()) or DASH
    if isinstance(value, list | tuple):
        sign = ", " if any(as_float(item) is None for item in value) else TIMES
        return sign.join(map(text, value))
    number = as_float(value)
    if number is None:
        return DASH if isinstance(value, float) else escape(str(value))
    return escape(value) if isinstance(value, str) else f"{number:.6g}"


def label(key: Any) -> str:
    """A key of a mapping as words, escaped."""
    words = str(key).replace("_", " ")
    return escape(words[:1].upper() + words[1:])


def metric(key: str, *, arrow: bool = False) -> str:
    """The name of a metric with its unit, and on request an arrow to its better end."""
    if key not in METRICS:
        return label(key)
    name, unit, _, better = METRICS[key]
    return name + (f" ({unit})" if unit else "") + (f" {better}" if arrow and better else "")


def score(value: Any, key: str) -> str:
    """The value of a metric; a dash where it is undefined."""
    number = as_float(value)
    if number is None:
        return DASH
    decimals = METRICS[key][2] if key in METRICS else None
    written = f"{number:.4g}" if decimals is None else f"{number:.{decimals}f}"
    return written.replace("-", "−")


def interval(summary: Mapping[str, Any], key: str) -> str:
    """The interval of a summary {mean, low, high, ...}; a dash where there is none."""
    low, high = score(summary.get("low"), key), score(summary.get("high"), key)
    return DASH if DASH in (low, high) else f"{low} to {high}"


def undefined(summary: Mapping[str, Any]) -> str:
    """How many cases of a summary had no defined value, where there are any."""
    count = int(as_float(summary.get("undefined")) or 0)
    return f" <em>({count} undefined)</em>" if count else ""


def duration(seconds: Any) -> str | None:
    """Seconds in the unit a person would choose; None where there is no number."""
    number = as_float(seconds)
    if number is None:
        return None
    for limit, scale, unit in ((0.1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min")):
        if abs(number) < limit:
            return f"{number / scale:.3g} {unit}"
    return f"{number / 3600:.3g} h"


def quantity(key: str, value: Any) -> tuple[str, str]:
    """Label and value of a timing; the unit is read from the key (seconds, gb, per_second)."""
    number = as_float(value)
    name = escape(TIMINGS[key]) if key in TIMINGS else label(key)
    if number is None:
        return name, text(value)
    if "seconds" in key and "per_second" not in key:
        return name.replace(" seconds", ""), duration(number) or DASH
    if key.endswith("_gb"):
        return label(key.removesuffix("_gb")), f"{number:.3g} GB"
    return name, f"{number:.6g}"


def count(value: Any) -> int | None:
    """A number of cases, or the length of a list of them."""
    if isinstance(value, list | tuple):
        return len(value)
    number = as_float(value)
    return None if number is None else int(number)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are escaped already."""
    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
        for first, *others in rows
    )
    return (
        '<div class="scroll"><table class="scores"><thead><tr>'
        f"{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def facts(pairs: Mapping[str, Any]) -> str:
    """A list of names and values; those without a value are left out."""
    kept = [(name, value) for name, value in pairs.items() if value not in (None, "", [], ())]
    rows = ""
    for name, value in kept:
        written = text(value)
        wide = ' class="half"' if 16 < len(written) <= 40 else ""
        wide = ' class="wide"' if len(written) > 40 else wide
        rows += f"<div{wide}><dt>{escape(name)}</dt><dd>{written}</dd></div>"
    return f"<dl>{rows}</dl>" if rows else ""


def fill(title: str, body: str) -> str:
    """The complete page; `title` and `body` are escaped already."""
    return PAGE.replace("{{title}}", title, 1).replace("{{body}}", body, 1)
