"""A slice and what lies over it as SVG: pixels of one plane in, text for a page out."""

import base64
import io
from collections.abc import Sequence
from html import escape

import contourpy
import matplotlib
import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

COLOURS = 7  # of the page's palette (Okabe & Ito 2008), told apart with any colour vision
ATTENTION = matplotlib.colormaps["inferno"]
MOST_PIXELS = 1024


def slice_svg(
    key: str,
    grey: UInt8[np.ndarray, "rows columns"],
    masks: Sequence[tuple[str, int, Bool[np.ndarray, "rows columns"]]],
    spacing: tuple[float, float],
    name: str,
) -> str:
    """The slice in its true proportions (mm) under vector contours, cropped to what was found.

    masks: (class of the line in the page's style, colour, mask). A click shows the whole slice.
    """
    rows, columns = grey.shape
    high, wide = rows * spacing[0], columns * spacing[1]
    picture = Image.fromarray(grey)
    if max(grey.shape) > MOST_PIXELS:
        shrink = MOST_PIXELS / max(grey.shape)
        smaller = (max(round(columns * shrink), 1), max(round(rows * shrink), 1))
        picture = picture.resize(smaller, Image.Resampling.BOX)
    found = np.zeros(grey.shape, bool)
    paths = ""
    for line, colour, mask in masks:
        found |= mask
        paths += f'<path class="{line} k{colour % COLOURS}" d="{contour(mask)}"/>'
    view, whole = _view(found, spacing), f"0 0 {wide:.6g} {high:.6g}"
    other = "" if view == whole else f' data-other="{whole}"'
    return (
        f'<svg viewBox="{view}"{other} role="img" aria-label="{escape(name)}"><g id="{key}">'
        f'<image id="{key}-image" width="{wide:.6g}" height="{high:.6g}" '
        f'preserveAspectRatio="none" href="{_uri(picture)}"/>'
        f'<g transform="scale({spacing[1] / 2:.6g} {spacing[0] / 2:.6g})">{paths}</g></g></svg>'
    )


def detail_svg(
    key: str, differing: Bool[np.ndarray, "rows columns"], spacing: tuple[float, float]
) -> str:
    """A quarter of the sides of `slice_svg(key, ...)`, where most pixels differ, enlarged."""
    size = [max(n // 4, min(n, 32)) for n in differing.shape]
    total = np.pad(differing, ((1, 0), (1, 0))).cumsum(0).cumsum(1)  # integral image
    (h, w), (rows, columns) = size, differing.shape
    inside = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    row, column = np.unravel_index(inside.argmax(), (rows - h + 1, columns - w + 1))
    box = (column * spacing[1], row * spacing[0], w * spacing[1], h * spacing[0])
    view = " ".join(f"{value:.6g}" for value in box)
    return (
        f'<figure><div class="view"><svg class="detail" viewBox="{view}" role="img" '
        f'aria-label="detail"><use href="#{key}"/></svg></div><figcaption>Detail, where reference '
        "and prediction differ most</figcaption></figure>"
    )


def attention_svg(
    key: str, attention: Float[np.ndarray, "rows columns"], spacing: tuple[float, float], name: str
) -> str:
    """The whole slice of `slice_svg(key, ...)` under a map in [0, 1]; where it is 0 it is clear."""
    high, wide = (n * s for n, s in zip(attention.shape, spacing, strict=True))
    step = -(-max(attention.shape) // 256)
    levels = np.round(np.clip(attention[::step, ::step], 0, 1) * 63).astype(np.uint8)
    picture = Image.frombytes("P", levels.shape[::-1], levels.tobytes())
    shades = np.linspace(0, 1, 64)
    picture.putpalette((ATTENTION(shades)[:, :3] * 255).astype(np.uint8).tobytes())
    href = _uri(picture, transparency=(200 * shades**0.7).astype(np.uint8).tobytes())
    return (
        f'<svg viewBox="0 0 {wide:.6g} {high:.6g}" role="img" aria-label="{escape(name)}">'
        f'<use href="#{key}-image"/><image width="{wide:.6g}" height="{high:.6g}" '
        f'preserveAspectRatio="none" href="{href}"/></svg>'
    )


def contour(mask: Bool[np.ndarray, "rows columns"]) -> str:
    """The outline as an SVG path in half pixels, midway between the pixels inside and outside."""
    parts = []
    padded = np.pad(mask, 1).astype(np.float64)
    for line in contourpy.contour_generator(z=padded).lines(0.5):
        points = np.rint(2 * np.asarray(line) - 1).astype(int)
        moves = np.diff(points, axis=0)
        turn = np.any(moves[1:] != moves[:-1], axis=1)
        points = points[np.concatenate([[True], turn, [True]])]
        moves = np.diff(points, axis=0)[:-1]
        parts.append(
            f"M{points[0][0]} {points[0][1]}l" + " ".join(f"{x} {y}" for x, y in moves) + "z"
        )
    return "".join(parts)


def _view(found: Bool[np.ndarray, "rows columns"], spacing: tuple[float, float]) -> str:
    """The square, 50 mm or more, around what was found; the whole slice if that is much of it."""
    sizes = [n * s for n, s in zip(found.shape, spacing, strict=True)]
    corner, shown = [0.0, 0.0], sizes
    if found.any():
        boxes = [np.flatnonzero(found.any(axis=1 - axis))[[0, -1]] + [0, 1] for axis in (0, 1)]
        edges = [box * s for box, s in zip(boxes, spacing, strict=True)]
        side = max(50.0, 1.8 * max(high - low for low, high in edges))
        if side < 0.75 * max(sizes):
            shown = [min(side, size) for size in sizes]
            corner = [
                float(np.clip((low + high - seen) / 2, 0, size - seen))
                for (low, high), seen, size in zip(edges, shown, sizes, strict=True)
            ]
    return " ".join(f"{value:.6g}" for value in (*corner[::-1], *shown[::-1]))


def _uri(picture: Image.Image, **options: bytes) -> str:
    """The smaller of PNG and, for grey pictures above 64 kB, JPEG, as a data URI."""
    memory = io.BytesIO()
    picture.save(memory, "PNG", optimize=True, **options)
    data, kind = memory.getvalue(), "png"
    if picture.mode == "L" and len(data) > 64_000:
        memory = io.BytesIO()
        picture.save(memory, "JPEG", quality=85)
        data, kind = min((data, "png"), (memory.getvalue(), "jpeg"), key=lambda pair: len(pair[0]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
