"""Who trains, who validates, who is tested: by patient, never by volume."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from medjax.data.cases import Case
from medjax.errors import UserError


@dataclass(frozen=True)
class Split:
    """Case ids by part; no patient stands in two parts."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def sha256(self) -> str:
        """The hash of the lists, so that two results can be known to stand on the same cases."""
        lists = [sorted(self.train), sorted(self.validation), sorted(self.test)]
        return hashlib.sha256(json.dumps(lists).encode()).hexdigest()


def split(
    cases: Sequence[Case],
    *,
    folds: int,
    fold: int,
    validation: float = 0.0,
    seed: int = 0,
    train_cases: int = 0,
) -> Split:
    """The fold's patients are the test set; of the others a fraction validates and the rest train.

    Patients are sorted by name, shuffled by `seed` and dealt to the folds in turn, so the folds of
    one seed are disjoint, cover everyone and differ by one patient at most. `validation` in [0, 1)
    is a share of the patients outside the fold, at least one where it is positive; it never takes
    the last of them. With `train_cases` no more than so many train, of as many patients as can be.

    Errors: fewer patients than folds, a fold that does not exist, an impossible fraction or number.
    """
    if not 0 <= fold < folds:
        raise UserError(f"data.fold: {fold} is not one of the {folds} folds; give 0 to {folds - 1}")
    if not 0 <= validation < 1:
        raise UserError(f"data.validation: {validation} is no fraction; give at least 0, below 1")
    if train_cases < 0:
        raise UserError(f"data.train_cases: {train_cases}: give a number of cases, or 0 for all")
    patients = sorted({case.patient for case in cases})
    if folds < 2 or len(patients) < folds:
        raise UserError(
            f"data.folds: {folds} folds of {len(patients)} patients; give 2 to {len(patients)}"
        )
    order = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]
    test = set(order[fold::folds])
    others = [patient for patient in order if patient not in test]
    count = min(max(1, round(validation * len(others))), len(others) - 1) if validation else 0
    held = set(others[:count])

    def ids(chosen: set[str]) -> tuple[str, ...]:
        return tuple(sorted(case.id for case in cases if case.patient in chosen))

    train = ids(set(others) - held)
    if train_cases:
        of = {patient: [c.id for c in cases if c.patient == patient] for patient in others[count:]}
        rounds = zip_longest(*(sorted(own) for own in of.values()))
        train = tuple(sorted([i for turn in rounds for i in turn if i is not None][:train_cases]))
    return Split(train, ids(held), ids(test))
