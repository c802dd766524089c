"""Judges what a model says of whole scans: their classes, and the objects found in them."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.data.cases import Case
from medjax.data.convention import Convention
from medjax.data.objects import boxes, looked_at
from medjax.data.plan import Plan
from medjax.data.prepare import Scan, load
from medjax.infer.findings import Findings
from medjax.io.atomic import atomic
from medjax.metrics.calibration import brier, calibration_error
from medjax.metrics.detection import Objects, average_precision, froc
from medjax.metrics.ranking import auc
from medjax.metrics.statistics import aggregate

CLASSIFICATION = "classification"  # its name among the classes of metrics.csv
OVERLAP = 0.1  # of boxes, from which a finding hits in the average precision (nnDetection's)


@runtime_checkable
class Teller(Protocol):
    """What tells of a whole scan: a `Finder`, or a model file."""

    @property
    def plan(self) -> Plan:
        """How scans are prepared, and the classes."""
        ...

    def __call__(self, scan: Scan, name: str) -> Findings:
        """Classes and objects. Errors name the case."""
        ...


class Said(NamedTuple):
    """What a model says of a case, and what is so, where somebody knows: None where not.

    `classes`: probabilities; `target`: the class. `objects` and `there` in mm along the RAS+ axes of the scan
    from its first voxel on; `world` brings them to mm of the world. `seen`: which of `objects` lie where
    somebody looked.
    """

    case: str
    classes: Float[np.ndarray, " k"] | None
    objects: Objects | None
    world: Float[np.ndarray, "4 4"]
    target: int | None = None
    there: Objects | None = None
    seen: Bool[np.ndarray, " n"] | None = None


def say(
    case: Case,
    finder: Teller,
    names: Sequence[str] = (),
    *,
    spacing: Sequence[float] = (),
    convention: Convention | None = None,
) -> Said:
    """What the model says of one case. Errors name the file.

    `names` are those of the cases' targets, matched with the plan's by name: a class that the plan does not
    know is none. `convention` of the label map, where it is not the plan's.
    """
    plan = finder.plan
    theirs = convention or plan.labels
    scan = load(case, theirs, len(plan.channels), spacing=spacing)
    found = finder(scan, case.id)
    name = None if case.target is None else names[case.target]
    target = plan.targets.index(name) if name in plan.targets else None
    there = seen = None
    if found.objects is not None:
        there = boxes(case, scan, theirs, plan.objects)
        seen = looked_at(found.objects, case, scan)
    world = scan.affine @ np.diag([*(1 / s for s in scan.spacing), 1])
    return Said(case.id, found.classes, found.objects, world, target, there, seen)


def say_all(
    cases: Sequence[Case],
    finder: Teller,
    names: Sequence[str],
    *,
    spacing: Sequence[float] = (),
    convention: Convention | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Said]:
    """The same of several; one case is in memory at a time."""
    return [
        say(case, finder, names, spacing=spacing, convention=convention) for case in progress(cases)
    ]


def classified(said: Sequence[Said]) -> tuple[Float[np.ndarray, "n k"], Int[np.ndarray, " n"]]:
    """Probabilities and classes of the cases whose class is known."""
    known = [(s.classes, s.target) for s in said if s.classes is not None and s.target is not None]
    if not known:
        return np.zeros((0, 0)), np.zeros(0, int)
    p, target = zip(*known, strict=True)
    return np.array(p, float), np.array(target, int)


def rows(said: Sequence[Said]) -> list[dict[str, Any]]:
    """A line of metrics.csv for each case of known class: whether it was right, and its Brier score."""
    p, target = classified(said)
    if not len(p):
        return []
    cases = [s.case for s in said if s.classes is not None and s.target is not None]
    right = (p.argmax(axis=1) == target).astype(float)
    return [
        {"case": case, "class": CLASSIFICATION, "accuracy": float(one), "brier": float(score)}
        for case, one, score in zip(cases, right, brier(p, target), strict=True)
    ]


def classification(said: Sequence[Said], names: Sequence[str]) -> dict[str, Any]:
    """Accuracy and Brier score with intervals over cases, AUC (mean of one against the rest), calibration."""
    p, target = classified(said)
    confusion = np.zeros((len(names), len(names)), int)
    np.add.at(confusion, (target, p.argmax(axis=1)), 1)
    present = confusion.sum(axis=1) > 0
    recall = np.diag(confusion)[present] / confusion.sum(axis=1)[present]
    return {
        **aggregate([{k: row[k] for k in ("accuracy", "brier")} for row in rows(said)]),
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


def judged(one: Said) -> tuple[Objects, Objects] | None:
    """What was found where somebody looked, and what is there; None where nobody knows."""
    if one.objects is None or one.there is None:
        return None
    seen = slice(None) if one.seen is None else one.seen
    return Objects(*(part[seen] for part in one.objects)), one.there


def detection(said: Sequence[Said]) -> dict[str, Any]:
    """FROC with its mean sensitivity (CPM) and interval over scans, and average precision."""
    known = [pair for pair in map(judged, said) if pair is not None]
    found, there = [pair[0] for pair in known], [pair[1] for pair in known]
    curve = froc(found, there)
    return {
        "cpm": curve.cpm._asdict(),
        "rates": curve.rates,
        "sensitivity": curve.sensitivity,
        "average_precision": average_precision(found, there, overlap=OVERLAP),
        "overlap": OVERLAP,
        "objects": curve.lesions,
        "scans": len(known),
    }


def content(said: Sequence[Said], names: Sequence[str]) -> Mapping[str, Any]:
    """What results.json says of them, of what is known."""
    found = {}
    if len(classified(said)[0]):
        found["classification"] = classification(said, names)
    if any(judged(s) is not None for s in said):
        found["detection"] = detection(said)
    return found


def write_findings(folder: Path, said: Sequence[Said], names: Sequence[str]) -> list[str]:
    """classification.csv and detection.csv, of what the model says; returns their names.

    Places are in mm of the world (RAS+), sizes in mm along the axes of the scan, the surest object first; the
    target is empty where nobody knows it.
    """
    made = []
    classes = [s for s in said if s.classes is not None]
    if classes:
        lines = [["case", "target", "predicted", *names]]
        for one in classes:
            p = np.asarray(one.classes)
            target = "" if one.target is None else names[one.target]
            lines.append([one.case, target, names[int(p.argmax())], *(f"{v:.6g}" for v in p)])
        made.append(_write(folder / "classification.csv", lines))
    if any(s.objects is not None for s in said):
        lines = [["case", "score", "x", "y", "z", "size_x", "size_y", "size_z"]]
        for one in said:
            if one.objects is None:
                continue
            for centre, size, score in zip(*one.objects[:3], strict=True):
                place = one.world[:3, :3] @ centre + one.world[:3, 3]
                lines.append([one.case, *(f"{v:.6g}" for v in (score, *place, *size))])
        made.append(_write(folder / "detection.csv", lines))
    return made


def _write(path: Path, lines: Sequence[Sequence[str]]) -> str:
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(lines)
    return path.name
