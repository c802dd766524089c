"""The curve of a claim: what its arms reach, over what they were given, as an SVG file of its own."""

import io
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.figure import Figure

from medjax.metrics.statistics import Interval
from medjax.train.claims import Claim, Outcome
from medjax.train.contact import COLOURS

WIDE = 10.0  # a range that spans more than so many times is shown in logarithms


def curve_svg(claim: Claim, outcomes: Sequence[Outcome]) -> str:
    """The means of the arms with their intervals, a line each for the claim's `curve`; "" before any run.

    The same outcomes give the same text.
    """
    means = {outcome.arm: outcome.mean for outcome in outcomes}
    lines: dict[str, dict[float, Interval]] = {}
    for name, places in claim.curve.items():
        found = {float(x): mean for x, arm in places.items() if (mean := means[arm]) is not None}
        if found:
            lines[name] = dict(sorted(found.items()))
    return _drawn(claim, lines) if lines else ""


def _drawn(claim: Claim, lines: Mapping[str, Mapping[float, Interval]]) -> str:
    places = sorted({x for points in lines.values() for x in points})
    low, high = places[0], places[-1]
    logarithmic = low > 0 and high > WIDE * low
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, points) in enumerate(lines.items()):
        aside = 0.008 * number  # of the axis, so that no interval hides another
        axes.errorbar(
            [
                x * (high / low) ** aside if logarithmic else x + (high - low) * aside
                for x in points
            ],
            [point.mean for point in points.values()],
            yerr=[
                [point.mean - point.low for point in points.values()],
                [point.high - point.mean for point in points.values()],
            ],
            color=COLOURS[-1 - number % len(COLOURS)],  # the darkest first
            marker="o",
            capsize=3,
            label=name,
        )
    if logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    axes.set_xticks(places, [f"{x:g}" for x in places])
    axes.set(xlabel=claim.along, ylabel=f"{claim.metric}, {', '.join(claim.structures)}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "claims", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
