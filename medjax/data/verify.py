"""Every fault of a data set at once, before anyone trains on it."""

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medjax.data.cases import Case, Dataset, Finding
from medjax.data.convention import IGNORE, Convention
from medjax.data.prepare import undrawn
from medjax.errors import UserError
from medjax.io.files import read
from medjax.space.volume import Volume, displacement

AFFINE_TOLERANCE = 1e-3  # mm, at the corner where two grids lie furthest apart
SPACING_RATIO = 3.0  # how far a spacing may be from the median of the set, along each axis
_SPACING_CASES = 3  # fewer cases have no median to speak of
_SAID_LOST = (np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0]))  # in RAS+, and as ITK writes it (LPS)


@dataclass(frozen=True, eq=False)
class _Facts:
    """What is kept of a file once its voxels are gone."""

    path: str
    shape: tuple[int, ...]
    affine: np.ndarray
    spacing: tuple[float, float, float]  # along right, anterior, superior
    digest: str
    faults: tuple[tuple[str, str], ...]  # (kind, message) of this file alone


def verify(
    dataset: Dataset, *, progress: Callable[[Iterable[Case]], Iterable[Case]] = iter
) -> list[Finding]:
    """Opens every file and lists all faults, sorted by case; [] for a clean data set.

    The findings of `open_dataset` ("missing label", "orphan label", "missing image", "missing
    channel", "extra file", ...) and, of the files themselves:

    | kind | rule |
    |---|---|
    | unreadable file | truncated, damaged, unknown; no other check is made of it |
    | shape mismatch | a file unlike the first channel of its case, or other channels than the set |
    | affine mismatch | grids of equal shape whose corners lie more than 1e-3 mm apart |
    | header conflict | sform and qform of one file disagree |
    | identity affine | the affine is exactly the identity: the spacing is lost (not of pictures) |
    | spacing outlier | along one of R, A, S over 3 times more or less than the median of the set |
    | NaN, Inf | in an image |
    | label outside the convention | with the values and their voxel counts |
    | undrawn class | in a label map in which drawn.csv says that nobody drew it |
    | empty mask | every voxel is background or ignored |
    | duplicate case | the first channel has the voxels of another case's, whatever their type |

    A case is in memory at a time, and of it as many files as there are cores.
    """
    findings = list(dataset.findings)
    firsts: dict[str, _Facts] = {}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for case in progress(dataset.cases):
            facts = _inspect(case, dataset, pool, findings)
            if facts and facts[0].path == case.images[0]:
                firsts[case.id] = facts[0]
                findings += _disagreements(case, facts, dataset)
    findings += _spacing_outliers(firsts) + _duplicates(firsts)
    return sorted(findings, key=lambda finding: finding.case)


def _inspect(
    case: Case, dataset: Dataset, pool: ThreadPoolExecutor, findings: list[Finding]
) -> list[_Facts]:
    """The facts of the readable files, label last; what is wrong with each alone is a finding."""

    def one(path: str) -> _Facts | Finding:
        try:
            if path == case.label:
                return _label_facts(path, read(path), dataset.convention, case.drawn)
            return _image_facts(path, read(path))
        except UserError as error:
            message = str(error).removeprefix(f"{path}: ")
            return Finding(case.id, "unreadable file", path, message)

    paths = [*case.images, *([case.label] if case.label else [])]
    with warnings.catch_warnings(record=True) as caught:  # of all threads: the list is global
        warnings.simplefilter("always")
        results = list(pool.map(one, paths))
    for warning in caught:
        message = str(warning.message)
        path = next((path for path in paths if message.startswith(path)), case.images[0])
        message = message.removeprefix(f"{path}: ")
        findings.append(Finding(case.id, "header conflict", path, message + "; correct its header"))
    facts = [result for result in results if isinstance(result, _Facts)]
    findings += [result for result in results if isinstance(result, Finding)]
    findings += [Finding(case.id, kind, f.path, text) for f in facts for kind, text in f.faults]
    return facts


def _facts(path: str, volume: Volume) -> _Facts:
    view, _ = volume.canonical()
    return _Facts(path, volume.array.shape, volume.affine, view.spacing, "", ())


def _image_facts(path: str, volume: Volume) -> _Facts:
    faults, array = [], volume.array
    for kind, test in (("NaN", np.isnan), ("Inf", np.isinf)):
        count = int(np.count_nonzero(test(array))) if array.dtype.kind == "f" else 0
        if count:
            text = (
                f"{count} voxels are {kind}; replace them (by 0 outside the body) or drop the case"
            )
            faults.append((kind, text))
    view, _ = volume.canonical()
    first = view.array if view.array.ndim == 3 else view.array[..., 0]
    content = hashlib.blake2b(repr(first.shape).encode(), digest_size=16)
    for position in range(first.shape[2]):  # a slice at a time: no second copy of the volume
        content.update(np.ascontiguousarray(first[:, :, position], dtype=np.float32).data)
    return replace(_facts(path, volume), digest=content.hexdigest(), faults=tuple(faults))


def _label_facts(
    path: str, volume: Volume, convention: Convention, drawn: Sequence[str] | None
) -> _Facts:
    faults = []
    try:
        indices = convention.encode(volume.array)
        if not ((indices > 0) & (indices != IGNORE)).any():
            text = "every voxel is background; check the drawing, or drop the case"
            faults.append(("empty mask", text))
        if unsaid := undrawn(indices, convention, drawn):
            faults.append(("undrawn class", unsaid))
    except UserError as error:
        faults.append(("label outside the convention", str(error)))
    return replace(_facts(path, volume), faults=tuple(faults))


def _disagreements(case: Case, facts: Sequence[_Facts], dataset: Dataset) -> list[Finding]:
    """The files of a case against its first channel."""
    first = facts[0]
    findings = []
    expected = len(dataset.channels) if len(case.images) == 1 else 1
    for other in facts:
        channels = other.shape[3] if len(other.shape) == 4 else 1
        wanted = 1 if other.path == case.label else expected
        if channels != wanted:
            text = f"{channels} channels in the file where {wanted} are due; split or merge them"
            findings.append(Finding(case.id, "shape mismatch", other.path, text))
        elif other.shape[:3] != first.shape[:3]:
            text = (
                f"shape {other.shape[:3]} where {Path(first.path).name} has {first.shape[:3]}; "
                "resample one onto the other"
            )
            findings.append(Finding(case.id, "shape mismatch", other.path, text))
        elif (apart := displacement(first.affine, other.affine, first.shape)) > AFFINE_TOLERANCE:
            text = (
                f"lies up to {apart:.3g} mm off {Path(first.path).name}; "
                "resample one onto the other, or correct its header"
            )
            findings.append(Finding(case.id, "affine mismatch", other.path, text))
    if dataset.dimensions == 3 and _lost(first):
        text = (
            "the affine is the identity, so the spacing is lost; restore the header, or give "
            "config.data.spacing in mm"
        )
        findings.append(Finding(case.id, "identity affine", first.path, text))
    return findings


def _lost(facts: _Facts) -> bool:
    return any(np.array_equal(facts.affine, identity) for identity in _SAID_LOST)


def _spacing_outliers(firsts: dict[str, _Facts]) -> list[Finding]:
    """Cases far from the median of those that know their spacing."""
    known = {case: facts for case, facts in firsts.items() if not _lost(facts)}
    if len(known) < _SPACING_CASES:
        return []
    median = np.median([facts.spacing for facts in known.values()], axis=0)
    findings = []
    for case, facts in known.items():
        ratio = np.array(facts.spacing) / median
        if (np.maximum(ratio, 1 / ratio) > SPACING_RATIO).any():
            text = (
                f"spacing {_mm(facts.spacing)} (right, anterior, superior) where the set's median "
                f"is {_mm(median)}; correct the header, or drop the case"
            )
            findings.append(Finding(case, "spacing outlier", facts.path, text))
    return findings


def _duplicates(firsts: dict[str, _Facts]) -> list[Finding]:
    seen: dict[str, str] = {}
    findings = []
    for case, facts in firsts.items():
        twin = seen.setdefault(facts.digest, case)
        if twin != case:
            text = f"has the voxels of case {twin} ({firsts[twin].path}); remove one of the two"
            findings.append(Finding(case, "duplicate case", facts.path, text))
    return findings


def _mm(spacing: Iterable[float]) -> str:
    return " x ".join(f"{length:.4g}" for length in spacing) + " mm"
