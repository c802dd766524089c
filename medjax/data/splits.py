"""Who trains, who validates, who is tested: by patient, never by volume."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from medjax.data.cases import Case
from medjax.errors import UserError

PARTS = ("train", "validation", "test", "unlabelled")
SEGMENTATION = ("segmentation",)


@dataclass(frozen=True)
class Split:
    """Case ids by part; no patient who trains, with labels or without, validates or is tested.

    unlabelled: what else may train, by its images alone.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()

    def sha256(self) -> str:
        """The hash of the lists, so that two results can be known to stand on the same cases."""
        lists = [sorted(self.train), sorted(self.validation), sorted(self.test)]
        if self.unlabelled:  # splits were hashed before there were any
            lists.append(sorted(self.unlabelled))
        return hashlib.sha256(json.dumps(lists).encode()).hexdigest()


def split(
    cases: Sequence[Case],
    *,
    folds: int,
    fold: int,
    validation: float = 0.0,
    seed: int = 0,
    train_cases: int = 0,
    tasks: Sequence[str] = SEGMENTATION,
) -> Split:
    """The fold's patients are the test set; of the others a fraction validates and the rest train.

    Patients with a label (of one of `tasks`) are sorted by name, shuffled by `seed` and dealt to the folds
    in turn, so the folds of one seed are disjoint, cover them all and differ by one patient at most.
    `validation` in [0, 1) is a share of the patients outside the fold, at least one where it is positive;
    it never takes the last of them. With `train_cases` no more than so many train with their labels, of as
    many patients as can be. The others and all cases without a label are `unlabelled`, but for those of
    patients who validate or are tested.

    Errors: fewer patients than folds, a fold that does not exist, an impossible fraction or number.
    """
    _check_fold(fold, folds)
    _check_validation(validation)
    if train_cases < 0:
        raise UserError(f"data.train_cases: {train_cases}: give a number of cases, or 0 for all")
    labelled = [case for case in cases if case.tells(tasks)]
    patients = sorted({case.patient for case in labelled})
    if folds < 2 or len(patients) < folds:
        raise UserError(
            f"data.folds: {folds} folds of {len(patients)} labelled patients; give 2 to {len(patients)}"
        )
    order = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]
    test = set(order[fold::folds])
    others = [patient for patient in order if patient not in test]
    held = set(_first(others, validation))

    def ids(chosen: set[str]) -> tuple[str, ...]:
        return tuple(sorted(case.id for case in labelled if case.patient in chosen))

    train = ids(set(others) - held)
    if train_cases:
        of = {
            patient: [c.id for c in labelled if c.patient == patient]
            for patient in others[len(held) :]
        }
        rounds = zip_longest(*(sorted(own) for own in of.values()))
        train = tuple(sorted([i for turn in rounds for i in turn if i is not None][:train_cases]))
    free = {case.id for case in cases if case.patient not in test | held}
    return Split(train, ids(held), ids(test), tuple(sorted(free - set(train))))


def _check_fold(fold: int, folds: int) -> None:
    if not 0 <= fold < folds:
        raise UserError(
            f"data.fold: {fold} is not one of the {folds} folds; give 0 to {folds - 1}, or -1 for all"
        )


def _check_validation(share: float) -> None:
    if not 0 <= share < 1:
        raise UserError(f"data.validation: {share} is no fraction; give at least 0, below 1")


def _first(patients: Sequence[str], share: float) -> Sequence[str]:
    """That share of them, at least one where it is positive and never all."""
    count = min(max(1, round(share * len(patients))), len(patients) - 1) if share else 0
    return patients[:count]


def count_folds(path: Path) -> int:
    """The folds of a file that `read_split` reads: 1, or those of nnU-Net's list. Errors name the file."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no split ({error}); give JSON, see data.split") from None
    return len(content) if isinstance(content, list) else 1


def _of_fold(folds: Sequence[Any], fold: int) -> dict[str, Any]:
    """What nnU-Net names of a fold."""
    if not folds:
        raise ValueError("an empty list")
    _check_fold(fold, len(folds))
    return {"train": folds[fold]["train"], "test": folds[fold]["val"]}


def read_split(
    path: Path,
    cases: Sequence[Case],
    tasks: Sequence[str] = SEGMENTATION,
    *,
    fold: int = 0,
    validation: float = 0.0,
    seed: int = 0,
) -> Split:
    """The split that a file names: JSON with lists of case ids by part; the split.json of a run is one.

    Lists other than `train` and `test` may be left out; cases in none of them are not used. nnU-Net's
    splits_final.json, a list of folds with `train` and `val`, is one too: `val` of the fold is tested, as it
    is judged there, and a share `validation` of the patients who would train validates, chosen by `seed`.

    Errors name the file: not such a file, an unknown or twice-named case, a patient on two sides, a case
    without a label outside `unlabelled`, nobody who trains or is tested; or the fold or the share.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        folded = isinstance(content, list)
        named = _of_fold(content, fold) if folded else content
        lists = {part: tuple(sorted(named.get(part, ()))) for part in PARTS}
    except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: no split ({error}); give JSON as {{"train": ["CASE", ...], "validation": ..., '
            '"test": ..., "unlabelled": ...}, or a splits_final.json of nnU-Net'
        ) from None
    by_id = {case.id: case for case in cases}
    named = [name for part in PARTS for name in lists[part]]
    strange = sorted({str(name) for name in named if name not in by_id})
    if strange:
        raise UserError(
            f"{path}: {', '.join(strange[:5])} is no case of the data set; correct the name"
        )
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise UserError(f"{path}: names {', '.join(twice[:5])} twice; keep each once")
    bare = [n for part in PARTS[:3] for n in lists[part] if not by_id[n].tells(tasks)]
    if bare:
        raise UserError(f"{path}: {', '.join(bare[:5])} has no label; move it to unlabelled")
    if not lists["train"]:
        raise UserError(f"{path}: no case trains; name some as train")
    sides = [
        {by_id[name].patient for part in side for name in lists[part]}
        for side in (("train", "unlabelled"), ("validation",), ("test",))
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        shared = sorted(sides[one] & sides[other])
        if shared:
            raise UserError(
                f"{path}: patient {shared[0]} is on two sides; keep all cases of a patient together"
            )
    if not lists["test"]:
        raise UserError(f"{path}: no case is tested; name some as test")
    if folded:
        _check_validation(validation)
        patients = sorted(sides[0])
        order = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]
        held = set(_first(order, validation))
        train = lists["train"]
        lists["validation"] = tuple(name for name in train if by_id[name].patient in held)
        lists["train"] = tuple(name for name in train if by_id[name].patient not in held)
    return Split(**lists)
