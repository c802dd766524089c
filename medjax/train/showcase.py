"""Which cases a report shows, and what it shows of them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from medjax.data.cases import Case
from medjax.data.convention import IGNORE, Convention
from medjax.data.prepare import load
from medjax.infer.predictor import Forward, Predictor, attention_map, suffix
from medjax.io.files import read
from medjax.train.evaluate import Row
from medjax.train.report.slices import ReportCase


def best_median_worst(rows: Sequence[Row]) -> dict[str, str]:
    """Which case to show in which role, by its mean Dice over classes; fewer than three cases give fewer."""
    scores: dict[str, list[float]] = {}
    for row in rows:
        scores.setdefault(row["case"], []).append(row["dice"])
    means = {k: float(np.nanmean(v)) for k, v in scores.items() if np.isfinite(v).any()}
    order = sorted(means, key=lambda case: (means[case], case))
    if not order:
        return {}
    chosen = {"best": order[-1]}
    if len(order) > 2:
        chosen["median"] = order[(len(order) - 1) // 2]
    if len(order) > 1:
        chosen["worst"] = order[0]
    return chosen


def clearest_channel(
    image: Float32[np.ndarray, "x y z c"], label: UInt8[np.ndarray, "x y z"]
) -> int:
    """The channel in which the labelled voxels differ most from the rest, in standard deviations of it.

    Both within the nonzero mask; the first channel where nothing, or everything, is labelled.
    """
    inside = np.any(image != 0, axis=-1)
    marked, rest = inside & (label > 0) & (label != IGNORE), inside & (label == 0)
    if not marked.any() or not rest.any():
        return 0
    spread = np.maximum(image[rest].std(axis=0), 1e-8)
    return int(np.argmax(np.abs(image[marked].mean(axis=0) - image[rest].mean(axis=0)) / spread))


def shown_channel(
    image: Float32[np.ndarray, "x y z c"],
    label: UInt8[np.ndarray, "x y z"],
    channels: Sequence[str],
) -> tuple[Float32[np.ndarray, "x y z"], str]:
    """The clearest channel and its name; "" where there is no other."""
    index = clearest_channel(image, label)
    return image[..., index], channels[index] if len(channels) > 1 else ""


def showcase(
    cases: Mapping[str, Case],
    rows: Sequence[Row],
    predictor: Predictor,
    look: Forward | None,
    folder: Path,
    *,
    spacing: Sequence[float] = (),
    convention: Convention | None = None,
) -> Iterator[ReportCase]:
    """What the report shows of the best, median and worst case: image, reference, saved prediction.

    `convention` of the references, where it is not the plan's; their classes go by the plan's names.
    """
    plan = predictor.plan
    theirs = convention or plan.labels
    for role, name in best_median_worst(rows).items():
        case = cases[name]
        scan = load(case, theirs, len(plan.channels), spacing=spacing)
        saved, _ = read(folder / f"{name}{suffix(case, scan)}").canonical()
        assert scan.label is not None  # it was scored
        image, channel = shown_channel(scan.image, scan.label, plan.channels)
        yield ReportCase(
            id=name,
            role=role,
            image=image,
            reference=renamed(scan.label, theirs, plan.labels),
            prediction=plan.labels.encode(saved.array),
            spacing=scan.spacing,
            scores={f"{r['class']} dice": r["dice"] for r in rows if r["case"] == name},
            attention=attention_map(look, predictor, scan, name),
            channel=channel,
        )


def renamed(
    label: UInt8[np.ndarray, "x y z"], theirs: Convention, ours: Convention
) -> UInt8[np.ndarray, "x y z"]:
    """Class indices of one convention as those of another, by name; a class it lacks: `paint` of a region.

    Of the regions that hold the class the smallest decides; without one it is background.
    """
    if theirs.classes == ours.classes:
        return label
    table = np.full(256, 0, np.uint8)
    table[IGNORE] = IGNORE
    for index, name in enumerate(theirs.classes):
        holding = [r for r in theirs.regions if name in r.classes]
        smallest = min(holding, key=lambda r: len(r.classes), default=None)
        paint = {r.name: r.paint for r in ours.regions}.get(smallest.name) if smallest else None
        known = name if name in ours.classes else paint
        table[index] = ours.classes.index(known) if known else 0
    return table[label]
