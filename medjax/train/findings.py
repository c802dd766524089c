"""Judges what a model says of whole scans: their classes, and the objects found in them."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from medjax.data.cases import Case, Convention
from medjax.data.objects import boxes
from medjax.data.prepare import load
from medjax.infer.findings import Finder
from medjax.io.atomic import atomic
from medjax.metrics.calibration import brier, calibration_error
from medjax.metrics.detection import Objects, average_precision, froc
from medjax.metrics.ranking import auc
from medjax.metrics.statistics import aggregate

CLASSIFICATION = "classification"  # its name among the classes of metrics.csv
OVERLAP = 0.1  # of boxes, from which a finding hits in the average precision (nnDetection's)


@dataclass
class Judged:
    """What was said of the test cases, and what is so: of each list the cases that somebody judged before."""

    classified: list[str] = field(default_factory=list)
    probabilities: list[Float[np.ndarray, " k"]] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    searched: list[str] = field(default_factory=list)
    found: list[Objects] = field(default_factory=list)
    there: list[Objects] = field(default_factory=list)
    origins: list[np.ndarray] = field(default_factory=list)  # mm along the axes -> mm of the world


def judge_findings(
    cases: Sequence[Case],
    finder: Finder,
    names: Sequence[str],
    *,
    spacing: Sequence[float] = (),
    convention: Convention | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Judged:
    """What the model says of each case whose class or objects are known; one case is in memory at a time.

    `names` are those of the cases' targets, matched with the plan's by name; a class that the plan does
    not know is left out. `convention` of the references, where it is not the plan's.
    """
    plan, judged = finder.plan, Judged()
    theirs = convention or plan.labels
    for case in progress(cases):
        scan = load(case, theirs, len(plan.channels), spacing=spacing)
        found = finder(scan, case.id)
        name = None if case.target is None else names[case.target]
        if found.classes is not None and name in plan.targets:
            judged.classified.append(case.id)
            judged.probabilities.append(found.classes)
            judged.targets.append(plan.targets.index(name))
        if found.objects is None:
            continue
        reference = boxes(case, scan, theirs, plan.objects)
        if reference is not None:
            judged.searched.append(case.id)
            judged.found.append(found.objects)
            judged.there.append(reference)
            judged.origins.append(scan.affine @ np.diag([*(1 / s for s in scan.spacing), 1]))
    return judged


def rows(judged: Judged) -> list[dict[str, Any]]:
    """A line of metrics.csv for each case of known class: whether it was right, and its Brier score."""
    if not judged.classified:
        return []
    p, target = np.array(judged.probabilities), np.array(judged.targets)
    right = (p.argmax(axis=1) == target).astype(float)
    return [
        {"case": case, "class": CLASSIFICATION, "accuracy": float(one), "brier": float(score)}
        for case, one, score in zip(judged.classified, right, brier(p, target), strict=True)
    ]


def classification(judged: Judged, names: Sequence[str]) -> dict[str, Any]:
    """Accuracy and Brier score with intervals over cases, AUC (mean of one against the rest), calibration."""
    p, target = np.array(judged.probabilities), np.array(judged.targets)
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (target, p.argmax(axis=1)), 1)
    present = confusion.sum(axis=1) > 0
    recall = np.diag(confusion)[present] / confusion.sum(axis=1)[present]
    return {
        **aggregate([{k: row[k] for k in ("accuracy", "brier")} for row in rows(judged)]),
        "balanced_accuracy": float(recall.mean()),
        "auc": area(p, target),
        "calibration_error": calibration_error(p, target),
        "classes": list(names),
        "confusion": confusion.tolist(),
    }


def area(p: Float[np.ndarray, "n k"], target: Int[np.ndarray, " n"]) -> float:
    """The area under the ROC curve, the mean of each class against the rest; nan where there is one alone."""
    areas = [auc(p[target == k, k], p[target != k, k]) for k in range(p.shape[1])]
    known = [a for a in areas if not np.isnan(a)]
    return float(np.mean(known)) if known else float("nan")


def detection(judged: Judged) -> dict[str, Any]:
    """FROC with its mean sensitivity (CPM) and interval over scans, and average precision."""
    curve = froc(judged.found, judged.there)
    return {
        "cpm": curve.cpm._asdict(),
        "rates": curve.rates,
        "sensitivity": curve.sensitivity,
        "average_precision": average_precision(judged.found, judged.there, overlap=OVERLAP),
        "overlap": OVERLAP,
        "objects": curve.lesions,
        "scans": len(judged.searched),
    }


def write_findings(folder: Path, judged: Judged, names: Sequence[str]) -> list[str]:
    """classification.csv and detection.csv, of what there is; returns their names.

    Places are in mm of the world (RAS+), sizes in mm along the axes of the scan.
    """
    made = []
    if judged.classified:
        header = ["case", "target", "predicted", *names]
        lines = [
            [case, names[target], names[int(p.argmax())], *(f"{v:.6g}" for v in p)]
            for case, target, p in zip(
                judged.classified, judged.targets, judged.probabilities, strict=True
            )
        ]
        made.append(_write(folder / "classification.csv", header, lines))
    if judged.searched:
        header = ["case", "score", "x", "y", "z", "size_x", "size_y", "size_z"]
        lines = [
            [case, *(f"{v:.6g}" for v in (score, *origin[:3, :3] @ centre + origin[:3, 3], *size))]
            for case, own, origin in zip(judged.searched, judged.found, judged.origins, strict=True)
            for centre, size, score in zip(own.centre, own.size, own.score, strict=True)
        ]
        made.append(_write(folder / "detection.csv", header, lines))
    return made


def _write(path: Path, header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])
    return path.name


def content(judged: Judged, names: Sequence[str]) -> Mapping[str, Any]:
    """What results.json says of them, of what there is."""
    found = {}
    if judged.classified:
        found["classification"] = classification(judged, names)
    if judged.searched:
        found["detection"] = detection(judged)
    return found
