"""The cases of the report as pictures: three planes under the contours, and the attention maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Num, Shaped, UInt8

from medjax.train.report.page import TIMES, metric, score, text
from medjax.train.report.svg import COLOURS, attention_svg, detail_svg, slice_svg


@dataclass(frozen=True)
class ReportCase:
    """One case to look at: `role` is "best", "median" or "worst"; arrays are canonical (RAS+).

    `image` is one channel on the native grid in any unit, `channel` its name where there are several,
    `reference` and `prediction` are class indices (0 is background, indices without a name such as 255
    are ignored), `spacing` is in mm, `attention` is in [0, 1]. Slices run through the middle of `focus`;
    None: of the reference. `picture` says that x runs to the right, y down and that the patient's
    directions are unknown, as in PNG files; None takes it from the shape (z = 1).
    """

    id: str
    role: str
    image: Num[np.ndarray, "x y z"]
    reference: UInt8[np.ndarray, "x y z"]
    prediction: UInt8[np.ndarray, "x y z"]
    spacing: tuple[float, float, float]
    scores: Mapping[str, Any]
    attention: Float[np.ndarray, "x y z"] | None = None
    focus: Bool[np.ndarray, "x y z"] | None = None
    picture: bool | None = None
    channel: str = ""


@dataclass(frozen=True)
class Plane:
    """A slice as the screen shows it; `axis` is the one it is perpendicular to."""

    name: str
    axis: int
    index: int
    spacing: tuple[float, float]  # mm along the screen's rows and columns
    letters: str  # left, right, top, bottom; "" for a picture

    def cut(self, volume: Shaped[np.ndarray, "x y z"]) -> Shaped[np.ndarray, "rows columns"]:
        """As radiologists look: right is left, anterior and superior are up. A picture as it is."""
        shown = np.take(volume, self.index, self.axis).T
        return shown[::-1, ::-1] if self.letters else shown


def planes(case: ReportCase, found: Bool[np.ndarray, "x y z"]) -> list[Plane]:
    """Axial, coronal and sagittal through the centre of mass of what is found; one if it is 2-D.

    Where such a plane meets nothing (a ring, several lesions) it is the nearest that does; where
    nothing is found at all, the middle of the volume.
    """
    flat = [axis for axis, size in enumerate(found.shape) if size == 1]
    picture = found.shape[2] == 1 if case.picture is None else case.picture
    result = []
    for name, axis, letters in (
        ("axial", 2, "RLAP"),
        ("coronal", 1, "RLSI"),
        ("sagittal", 0, "APSI"),
    ):
        columns, rows = (other for other in range(3) if other != axis)
        counts = found.sum(axis=(columns, rows))
        index = found.shape[axis] // 2
        if counts.any():
            held = np.flatnonzero(counts)
            centre = np.average(held, weights=counts[held])
            index = int(held[np.argmin(np.abs(held - centre))])
        spacing = (case.spacing[rows], case.spacing[columns])
        result.append(Plane("picture" if picture else name, axis, index, spacing, letters))
    if picture:
        return [replace(result[0], letters="")]
    return [plane for plane in result if plane.axis in flat] or result


def pictures(cases: Sequence[ReportCase], classes: Sequence[str]) -> str:
    """The section of the page with the cases; classes: names of the indices, background first."""
    if not cases:
        return ""
    blocks = "".join(_case(f"case{i}", case, classes) for i, case in enumerate(cases))
    single = len(classes) == 2
    colours = "".join(
        f'<span><i class="swatch k{(index - 1) % COLOURS}"></i>{text(name)}</span>'
        for index, name in enumerate(classes)
        if index and not single
    )
    switches = "".join(
        f'<label><input type="checkbox" id="show-{source}" checked>'
        f'<i class="stroke {source}-key{f" k{colour}" if single else ""}"></i>{source}</label>'
        for colour, source in enumerate(("reference", "prediction"))
    )
    note = "Solid lines are the reference, dashed lines the prediction."
    if not single:
        note += " Colour is the class."
    if 'class="left"' in blocks:
        note += (
            " Slices run through the centre of mass of the reference; those cropped around it show "
            "the whole slice on a click. Radiological convention: the patient's right (R) is on "
            "the left of axial and coronal slices, sagittal slices face left."
        )
    return (
        f'<section><h2>Best, median and worst case</h2><p class="note">{note}</p>'
        f'<p class="legend">{colours}{switches}</p>{blocks}</section>'
    )


def object_pictures(cases: Sequence[ReportCase]) -> str:
    """The section of the page with boxes where an object is and where one was found."""
    if not cases:
        return ""
    blocks = "".join(
        _case(f"object{i}", case, ("background", "object")) for i, case in enumerate(cases)
    )
    return (
        '<section><h2>Objects</h2><p class="note">Solid lines are the boxes of what is there, dashed lines '
        "the box that was found. Slices run through its middle, or that of the object that was hardest to "
        f"find.</p>{blocks}</section>"
    )


def _case(key: str, case: ReportCase, classes: Sequence[str]) -> str:
    known = range(1, len(classes))
    truth, guess = ((a > 0) & (a < len(classes)) for a in (case.reference, case.prediction))
    levels = window(case.image, truth | guess)
    middle = truth if truth.any() else guess
    shown = planes(case, middle if case.focus is None else case.focus)
    top = "".join(_figure(f"{key}-{plane.name}", plane, case, known, levels) for plane in shown)
    scores = " · ".join(f"{metric(key)} {score(value, key)}" for key, value in case.scores.items())
    channel = f"Shown: {text(case.channel)}. " if case.channel else ""
    voxels = f"Voxels of {TIMES.join(f'{s:.3g}' for s in case.spacing)} mm. "
    return (
        f'<article class="case"><h3><span class="role {text(case.role)}">{text(case.role)}</span> '
        f'{text(case.id)}</h3><p class="note">{scores}</p><div class="planes">{top}</div>'
        f'<p class="note">{channel}{voxels if shown[0].letters else ""}Grey levels from {levels[0]:.4g} to '
        f"{levels[1]:.4g}.</p>{_attention(key, case, shown)}</article>"
    )


def _figure(
    key: str, plane: Plane, case: ReportCase, known: range, levels: tuple[float, float]
) -> str:
    fine = "" if plane.letters else " fine"  # vessels in a picture: thin lines, no dashes
    masks = []
    for source, labels in (("reference", case.reference), ("prediction", case.prediction)):
        for index in known:
            if (mask := plane.cut(labels) == index).any():
                single_prediction = len(known) == 1 and source == "prediction"
                masks.append((source + fine, 1 if single_prediction else index - 1, mask))
    differing = case.reference != case.prediction
    grey = greys(plane.cut(case.image), *levels)
    size = [n * s for n, s in zip(grey.shape, plane.spacing, strict=True)]
    caption = f"Picture, {grey.shape[1]}{TIMES}{grey.shape[0]} pixels"
    if plane.letters:
        place = f"slice {plane.index + 1} of {case.image.shape[plane.axis]}"
        extent = f"whole slice {size[1]:.0f}{TIMES}{size[0]:.0f} mm"
        caption = f"{plane.name.capitalize()}, {place}, {extent}"
    detail = "" if plane.letters else detail_svg(key, plane.cut(differing), plane.spacing)
    picture = slice_svg(key, grey, masks, plane.spacing, f"{plane.name} slice of {case.id}")
    return (
        f'<figure><div class="view">{picture}{_letters(plane)}</div>'
        f"<figcaption>{caption}</figcaption></figure>{detail}"
    )


def _attention(key: str, case: ReportCase, shown: Sequence[Plane]) -> str:
    if case.attention is None:
        return ""
    heat = np.nan_to_num(case.attention)
    low, high = float(heat.min()), float(heat.max())
    views = ""
    for plane in shown:
        name = f"attention, {plane.name} slice of {case.id}"
        scaled = (plane.cut(heat) - low) / max(high - low, 1e-6)
        svg = attention_svg(f"{key}-{plane.name}", scaled, plane.spacing, name)
        views += f'<figure><div class="view">{svg}{_letters(plane)}</div></figure>'
    return (
        f'<div class="planes">{views}</div><p class="note">Spatial attention over the whole slice: '
        f'{low:.3f} <i class="ramp"></i> {high:.3f}, the range of this case.</p>'
    )


def _letters(plane: Plane) -> str:
    sides = zip(("left", "right", "top", "bottom"), plane.letters, strict=False)
    return "".join(f'<b class="{side}">{letter}</b>' for side, letter in sides)


def window(
    image: Num[np.ndarray, "x y z"], found: Bool[np.ndarray, "x y z"]
) -> tuple[float, float]:
    """Grey levels shown: the central 99 % of the finite voxels in and around what was segmented."""
    if found.any():
        box = []
        for others in ((1, 2), (0, 2), (0, 1)):
            first, last = np.flatnonzero(found.any(axis=others))[[0, -1]]
            box.append(slice(max(2 * first - last - 1, 0), 2 * last - first + 2))
        image = image[tuple(box)]
    values = image[np.isfinite(image)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [0.5, 99.5])
    return (float(low), float(high)) if high > low else (float(low), float(low) + 1.0)


def greys(
    plane: Num[np.ndarray, "rows columns"], low: float, high: float
) -> UInt8[np.ndarray, "rows columns"]:
    """Grey levels 0 to 255 of the window; NaN is black."""
    scaled = np.nan_to_num(
        (plane.astype(np.float64) - low) / (high - low), nan=0, posinf=1, neginf=0
    )
    return np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
