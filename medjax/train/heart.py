"""Judges a segmenter of hearts by what its masks say of their function, and by the diagnosis that follows."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.data.cases import Case
from medjax.data.convention import Convention
from medjax.data.objects import members
from medjax.data.prepare import load
from medjax.metrics.heart import PARTS, Function, agreement, function
from medjax.metrics.statistics import aggregate
from medjax.train.evaluate import Row, write_rows


class Heart(NamedTuple):
    """A patient's function: of the prediction and of the reference; `target` is the class, where known."""

    patient: str
    target: int | None
    found: Function
    true: Function


def hearts(rows: Sequence[Row], cases: Sequence[Case]) -> list[Heart]:
    """The patients of whom two scans or more were judged in all `PARTS`, from the rows of metrics.csv."""
    volumes: dict[str, dict[str, Row]] = {}
    for row in rows:
        if row["class"] in PARTS:
            volumes.setdefault(row["case"], {})[row["class"]] = row
    patients: dict[str, list[Case]] = {}
    for case in cases:
        if set(volumes.get(case.id, ())) == set(PARTS):
            patients.setdefault(case.patient, []).append(case)
    found = []
    for patient, scans in sorted(patients.items()):
        if len(scans) < 2:
            continue
        ours, theirs = (
            function([{p: volumes[scan.id][p][key] for p in PARTS} for scan in scans])
            for key in ("volume_ml", "reference_ml")
        )
        found.append(Heart(patient, scans[0].target, ours, theirs))
    return found


def known_hearts(
    cases: Iterable[Case], convention: Convention, channels: int, spacing: Sequence[float] = ()
) -> list[Heart]:
    """Patients as their references show them, in place of predictions too; of whom a class is known."""
    rows, known = [], []
    for case in cases:
        if case.label is None or case.target is None or case.drawn is not None:
            continue
        scan = load(case, convention, channels, spacing=spacing)
        assert scan.label is not None
        ml = float(np.prod(scan.spacing)) / 1000
        for part in PARTS:
            size = float(members(scan.label, convention, part).sum()) * ml
            rows.append({"case": case.id, "class": part, "volume_ml": size, "reference_ml": size})
        known.append(case)
    return hearts(rows, known)


def content(
    judged: Sequence[Heart], known: Sequence[Heart], names: Sequence[str]
) -> dict[str, Any]:
    """What results.json says: the agreement of each figure, and the `diagnosis` where it can be learned."""
    figures = {
        name: agreement(
            *(np.array([getattr(h, side)[i] for h in judged], float) for side in ("found", "true"))
        )
        for i, name in enumerate(Function._fields)
    }
    told = diagnosis(judged, known, names)
    return {"patients": len(judged), **figures, **({"diagnosis": told} if told else {})}


def diagnosis(
    judged: Sequence[Heart], known: Sequence[Heart], names: Sequence[str]
) -> dict[str, Any]:
    """How often the class follows from the figures of `Function`, of predictions and of references.

    By a linear discriminant with shrinkage (Ledoit and Wolf 2004) that the references of `known` patients
    taught. Empty where these are of one class, or no class of the judged is known.
    """
    told = [h for h in judged if h.target is not None]
    classes = [h.target for h in known]
    if not told or len(set(classes)) < 2:
        return {}
    # Here, as it takes a second that nobody else should wait for.
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    discriminant = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    rule = make_pipeline(StandardScaler(), discriminant)
    rule.fit(_figures([h.true for h in known]), classes)
    target = np.array([h.target for h in told])

    def accuracy(hearts: Sequence[Function]) -> dict[str, float]:
        right = rule.predict(_figures(hearts)) == target
        return aggregate([{"accuracy": float(r)} for r in right])["accuracy"]

    return {
        "classes": list(names),
        "learned_from": len(known),
        "predictions": accuracy([h.found for h in told]),
        "references": accuracy([h.true for h in told]),
    }


def _figures(all_of_them: Sequence[Function]) -> Float[np.ndarray, "n 5"]:
    """What the rule sees; what could not be measured counts as 0: nothing was found."""
    return np.nan_to_num(np.array(all_of_them, float))


def write_hearts(path: Path, judged: Sequence[Heart], names: Sequence[str]) -> str:
    """heart.csv, a line for each patient; returns its name."""
    lines = []
    for heart in judged:
        target = "" if heart.target is None else names[heart.target]
        theirs = {f"{name}_reference": value for name, value in heart.true._asdict().items()}
        patient = {"patient": heart.patient, "target": target}
        lines.append({**patient, **heart.found._asdict(), **theirs})
    write_rows(path, lines)
    return path.name


def applies(names: Sequence[str]) -> bool:
    """Whether a model of these classes sees the parts of a heart."""
    return set(PARTS) <= set(names)
