"""The report's charts as inline SVG that follows the page's colours: curves, strips, intervals."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 430.0, 48.0, 12.0, 10.0, 36.0
MOST_POINTS = 600
SPANS = 50  # a curve is smoothed over this fraction of its points


@dataclass(frozen=True)
class Line:
    """One series of a chart: `style` is "faint", "bold" or "dots"; colours are 1 to 3."""

    name: str
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    style: str
    colour: int


def smooth(line: Line, name: str) -> Line:
    """Its exponential moving average over 1/SPANS of the points, free of the bias of its start."""
    decay = 1 - 2 / (max(len(line.y) // SPANS, 1) + 1)
    total, weight = 0.0, 0.0
    values = np.empty(len(line.y))
    for i, value in enumerate(line.y):
        total = decay * total + (1 - decay) * value
        weight = decay * weight + (1 - decay)
        values[i] = total / weight
    return Line(name, line.x, values, "bold", line.colour)


def line_chart(lines: Sequence[Line], label: str, *, along: str = "training step") -> str:
    """Finite series over the training step, say, with a legend of those that have a name.

    The faintest outliers are cut off.
    """
    ends = np.concatenate(
        [np.percentile(line.y, [1, 99] if line.style == "faint" else [0, 100]) for line in lines]
    )
    steps = np.concatenate([line.x for line in lines])
    height = 230.0
    wide, high = WIDTH - LEFT - RIGHT, height - TOP - BOTTOM
    x_ticks, x_at = _axis(min(0.0, steps.min()), steps.max(), 0.0, wide, snap=False)
    y_ticks, y_at = _axis(ends.min(), ends.max(), high, 0.0)
    parts = [_x_axis(x_ticks, x_at, high, along)]
    for tick in y_ticks:
        parts.append(
            f'<path class="grid" d="M0 {y_at(tick):.1f}h{wide:.0f}"/>'
            f'<text x="-6" y="{y_at(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>'
        )
    parts.append(f'<svg width="{wide:.0f}" height="{high:.0f}">')  # a nested svg clips
    for line in lines:
        keep = np.unique(np.linspace(0, len(line.x) - 1, MOST_POINTS).astype(int))
        at = [(x_at(x), y_at(y)) for x, y in zip(line.x[keep], line.y[keep], strict=True)]
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline class="{line.style} c{line.colour}" points="{points}"/>')
        if line.style == "dots" or len(at) == 1:  # a line of one point is not seen
            parts += [
                f'<circle class="c{line.colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in at
            ]
    parts.append("</svg>")
    keys = "".join(
        f'<span><i class="key {line.style} c{line.colour}"></i>{escape(line.name)}</span>'
        for line in lines
        if line.name
    )
    chart = _chart("".join(parts), height, f"{label} over {along}")
    return (
        f'<figure class="curve"><figcaption><b>{escape(label)}</b><span class="keys">{keys}</span>'
        f"</figcaption>{chart}</figure>"
    )


def strip_chart(
    groups: Mapping[str, Sequence[tuple[str, float]]], label: str, *, top: float | None = None
) -> str:
    """One row a group: every case a dot (its name on hovering), over the quartiles and median.

    `groups` holds (case, finite value); `top` is the highest value possible (1 for Dice).
    """
    pitch, band = 56.0, 22.0
    wide, high = WIDTH - 2 * RIGHT, pitch * len(groups)
    values = [value for group in groups.values() for _, value in group]
    high_end = max(values) if top is None else top
    low_end = min(0.0, *values) if top is None else min(top - 0.1, *values)
    ticks, at = _axis(low_end, high_end, 0.0, wide)
    parts = [_x_axis(ticks, at, high, label)]
    for row, (name, group) in enumerate(groups.items()):
        middle = row * pitch + pitch - band / 2 - 6
        low, median, upper = (at(q) for q in np.percentile([v for _, v in group], [25, 50, 75]))
        y = f'y="{middle - band / 2:.1f}" height="{band:.0f}"'
        parts.append(
            f'<text class="name" x="0" y="{row * pitch + 18:.0f}">{escape(name)}</text>'
            f'<rect class="box" x="{low:.1f}" width="{max(upper - low, 1):.1f}" {y}/>'
            f'<rect class="median" x="{median - 1:.1f}" width="2" {y}/>'
        )
        ranked = sorted(group, key=lambda pair: pair[1])
        for i in np.unique(np.linspace(0, len(ranked) - 1, MOST_POINTS // 2).astype(int)):
            case, value = ranked[i]
            spread = (i * 0.618034 % 1 - 0.5) * (band - 8)  # golden ratio: even and repeatable
            parts.append(
                f'<circle class="case-dot" cx="{at(value):.1f}" cy="{middle + spread:.1f}" r="3.2">'
                f"<title>{escape(case)}: {value:.3g}</title></circle>"
            )
    chart = _chart("".join(parts), high + TOP + BOTTOM, f"{label} of every case", left=RIGHT)
    return f'<figure class="curve">{chart}</figure>'


def parallel_chart(
    axes: Mapping[str, tuple[str, str]],
    lines: Sequence[tuple[Sequence[float | None], bool]],
    label: str,
) -> str:
    """A line for each trial over upright axes; `axes` names each with the words at its lower and upper end.

    A line has a height from 0 to 1 on each axis, None where it misses it, and is bold or faint.
    """
    height, names = 250.0, list(axes)
    wide, high = WIDTH - 2 * LEFT, height - TOP - 2 * BOTTOM
    at = [LEFT / 2 + wide * i / max(len(names) - 1, 1) for i in range(len(names))]
    parts = []
    for x, (name, (low, top)) in zip(at, axes.items(), strict=True):
        parts.append(
            f'<path class="grid" d="M{x:.1f} 12v{high:.0f}"/>'
            f'<text x="{x:.1f}" y="6" text-anchor="middle">{escape(top)}</text>'
            f'<text x="{x:.1f}" y="{high + 28:.0f}" text-anchor="middle">{escape(low)}</text>'
            f'<text x="{x:.1f}" y="{high + 44:.0f}" text-anchor="middle">{escape(name)}</text>'
        )
    for heights, bold in sorted(lines, key=lambda line: line[1]):
        for i in range(len(names) - 1):
            a, b = heights[i], heights[i + 1]
            if a is not None and b is not None:
                ends = f"{at[i]:.1f},{12 + high * (1 - a):.1f} {at[i + 1]:.1f},{12 + high * (1 - b):.1f}"
                style = "bold c2" if bold else "faint c1"
                parts.append(f'<polyline class="{style}" points="{ends}"/>')
    chart = _chart("".join(parts), height, label, left=LEFT / 2)
    return f'<figure class="curve"><figcaption><b>{escape(label)}</b></figcaption>{chart}</figure>'


def interval_bar(mean: float, low: float, high: float) -> str:
    """A mean and its interval on the scale from 0 to 1."""
    return (
        '<svg class="interval" viewBox="0 0 240 20" role="img" aria-label="mean and interval, from '
        '0 to 1"><text x="0" y="14">0</text><text x="232" y="14">1</text>'
        '<line class="grid" x1="14" x2="224" y1="10" y2="10"/>'
        f'<rect class="range" x="{14 + 210 * low:.1f}" y="6.5" height="7" '
        f'width="{max(210 * (high - low), 1):.1f}" rx="3.5"/>'
        f'<circle class="c1" cx="{14 + 210 * mean:.1f}" cy="10" r="5"/></svg>'
    )


def _axis(
    low: float, high: float, start: float, end: float, *, snap: bool = True
) -> tuple[list[float], Callable[[float], float]]:
    """Round ticks between the values, and the map from value to place; `snap` ends on ticks."""
    if not high > low:
        low, high = low - max(abs(low), 1) * 0.05, high + max(abs(high), 1) * 0.05
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    if snap:
        low, high = min(ticks[0], low), max(ticks[-1], high)
    ticks = [round(float(tick), 10) for tick in ticks if low <= tick <= high]
    return ticks, lambda value: start + (value - low) / (high - low) * (end - start)


def _x_axis(ticks: Sequence[float], at: Callable[[float], float], high: float, label: str) -> str:
    lines = "".join(
        f'<path class="grid" d="M{at(tick):.1f} 0v{high:.0f}"/>'
        f'<text x="{at(tick):.1f}" y="{high + 16:.0f}" text-anchor="middle">{tick:g}</text>'
        for tick in ticks
    )
    middle, below = (at(ticks[0]) + at(ticks[-1])) / 2, high + 31
    name = f'<text x="{middle:.0f}" y="{below:.0f}" text-anchor="middle">{escape(label)}</text>'
    return lines + name


def _chart(content: str, height: float, name: str, left: float = LEFT) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label='
        f'"{escape(name)}"><g transform="translate({left:.0f} {TOP:.0f})">{content}</g></svg>'
    )
