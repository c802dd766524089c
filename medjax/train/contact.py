"""A contact sheet: one axial slice of many cases in all contrasts, set beside another set of cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy import ndimage

from medjax.train.appearance import Brain
from medjax.train.report.slices import greys

PANEL = (184, 224)  # mm and pixels, left to right and back to front
WINDOW = (0.5, 99.5)  # percentiles of the brain in the whole scan
COLOURS = ("#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#009e73", "#d55e00", "#0072b2")
GAP, HEAD, LINE = 4, 44, 20
PAPER, INK, SOFT = "#12171e", "#e4e9ef", "#9aa7b6"


@dataclass(frozen=True, eq=False)
class Row:
    """A case on the sheet: a panel a contrast, as the screen shows it."""

    id: str
    panels: tuple[UInt8[np.ndarray, "rows columns 3"], ...]


def row(found: Brain, name: str) -> Row:
    """The slice with the largest cross-section of the lesion (of the brain, without one), 1 mm a pixel.

    Patient's right is on the left; the outline of a structure lies within it, in its colour.
    """
    lesion = found.mask if found.label is None or not found.label.any() else found.label > 0
    z = int(np.argmax(lesion.sum(axis=(0, 1))))
    label = np.zeros(found.mask.shape[:2], np.uint8) if found.label is None else found.label[..., z]
    shown = _framed(label, found, Image.Resampling.NEAREST)
    panels = []
    for channel in np.moveaxis(found.image, -1, 0):
        low, high = np.percentile(channel[found.mask], WINDOW)
        grey = greys(channel[..., z], float(low), max(float(high), float(low) + 1e-6))
        grey[~found.mask[..., z]] = 0
        picture = _framed(grey, found, Image.Resampling.BILINEAR)
        panel = np.repeat(picture[..., None], 3, axis=-1)
        for index in range(1, int(shown.max()) + 1):
            inside = shown == index
            edge = inside & ~np.asarray(ndimage.binary_erosion(inside), bool)
            panel[edge] = ImageColor.getrgb(COLOURS[(index - 1) % len(COLOURS)])
        panels.append(panel)
    return Row(name, tuple(panels))


def _framed(
    plane: Shaped[np.ndarray, "x y"], found: Brain, how: Image.Resampling
) -> UInt8[np.ndarray, "rows columns"]:
    """A slice in true proportions, its middle in the middle of a panel, turned as radiologists look."""
    picture = Image.fromarray(np.ascontiguousarray(plane.T[::-1, ::-1]).astype(np.uint8))
    columns, rows = (max(1, round(n * s)) for n, s in zip(plane.shape, found.spacing, strict=False))
    picture = picture.resize((columns, rows), how)
    frame = Image.new("L", PANEL)
    frame.paste(picture, ((PANEL[0] - columns) // 2, (PANEL[1] - rows) // 2))
    return np.asarray(frame)


def sheet(
    blocks: Sequence[tuple[str, Sequence[Row]]], contrasts: Sequence[str], names: Sequence[str]
) -> Image.Image:
    """The blocks (title, cases) side by side, a case a line; names: the structures, background first."""
    block = len(contrasts) * PANEL[0]
    lines = max(len(rows) for _, rows in blocks)
    size = (len(blocks) * (block + 3 * GAP) + GAP, HEAD + lines * (PANEL[1] + GAP) + LINE + GAP)
    page = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(14)
    for b, (title, rows) in enumerate(blocks):
        left = 2 * GAP + b * (block + 3 * GAP)
        draw.text((left, 5), title, INK, font)
        for c, contrast in enumerate(contrasts):
            draw.text((left + c * PANEL[0] + GAP, 5 + LINE), contrast, SOFT, font)
        for line, case in enumerate(rows):
            top = HEAD + line * (PANEL[1] + GAP)
            for c, panel in enumerate(case.panels):
                page.paste(Image.fromarray(panel), (left + c * PANEL[0], top))
            draw.text((left + GAP, top + 2), case.id, SOFT, ImageFont.load_default(10))
    left = 2 * GAP
    for index, name in enumerate(names[1:]):
        draw.text((left, size[1] - LINE), name, COLOURS[index % len(COLOURS)], font)
        left += int(draw.textlength(name, font)) + 4 * GAP
    return page
