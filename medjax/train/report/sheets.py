"""Sample sheets of made images: the panels of a case side by side, under the outline of its lesions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from medjax.train.report.page import metric, score, text
from medjax.train.report.slices import ReportCase, greys, planes, window
from medjax.train.report.svg import COLOURS, slice_svg


@dataclass(frozen=True)
class Sheet:
    """One case, canonical (RAS+): images by name, and which of them share their grey levels.

    `levels` maps each panel to the panel whose window it is shown in; `label` holds class indices.
    """

    id: str
    panels: Mapping[str, Float[np.ndarray, "x y z"]]
    levels: Mapping[str, str]
    label: UInt8[np.ndarray, "x y z"]
    spacing: tuple[float, float, float]
    scores: Mapping[str, Any]


def sheets_section(sheets: Sequence[Sheet], classes: Sequence[str]) -> str:
    """The section of the page; classes: names of the indices, background first."""
    if not sheets:
        return ""
    colours = "".join(
        f'<span><i class="swatch k{(index - 1) % COLOURS}"></i>{text(name)}</span>'
        for index, name in enumerate(classes)
        if index
    )
    blocks = "".join(_sheet(f"sheet{i}", sheet, classes) for i, sheet in enumerate(sheets))
    return (
        '<section><h2>Sample sheets</h2><p class="note">The first test cases, not chosen ones: the '
        "axial slice through the middle of the lesions, outlined by the reference. Images of one "
        "kind share their grey levels; a click shows the whole slice.</p>"
        f'<p class="legend">{colours}</p>{blocks}</section>'
    )


def _sheet(key: str, sheet: Sheet, classes: Sequence[str]) -> str:
    found = (sheet.label > 0) & (sheet.label < len(classes))
    image = next(iter(sheet.panels.values()))
    case = ReportCase(sheet.id, "", image, sheet.label, sheet.label, sheet.spacing, {})
    plane = planes(case, found)[0]
    shown = plane.cut(sheet.label)
    masks = [
        ("reference", index - 1, shown == index)
        for index in range(1, len(classes))
        if (shown == index).any()
    ]
    windows = {name: window(sheet.panels[name], found) for name in set(sheet.levels.values())}
    figures = ""
    for number, (name, volume) in enumerate(sheet.panels.items()):
        grey = greys(plane.cut(volume), *windows[sheet.levels[name]])
        title = f"{name}, {plane.name} slice of {sheet.id}"
        svg = slice_svg(f"{key}-{number}", grey, masks, plane.spacing, title)
        figures += (
            f'<figure><div class="view">{svg}</div><figcaption>{text(name)}</figcaption></figure>'
        )
    scores = " · ".join(f"{metric(k)} {score(value, k)}" for k, value in sheet.scores.items())
    return (
        f'<article class="case"><h3>{text(sheet.id)}</h3><p class="note">{scores}</p>'
        f'<div class="planes">{figures}</div></article>'
    )
