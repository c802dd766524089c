"""Lesion-wise scores: every 26-connected component counts the same, however small.

The matching is that of BraTS 2023 (Saluja and others) without its dilation of the reference: a
predicted component belongs to every reference lesion with which it shares a voxel.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from medjax.metrics.overlap import Mask, require_one_grid
from medjax.space.components import connected_components, joint_box


class LesionScores(NamedTuple):
    """Lesion-wise Dice and F1 in [0, 1] (nan: no lesion anywhere) and the counts behind them."""

    dice: float
    f1: float
    found: int
    missed: int
    false: int


def lesion_scores(
    prediction: Mask, reference: Mask, spacing: Sequence[float], *, minimum_mm3: float = 0.0
) -> LesionScores:
    """Score two masks (x, y, z) lesion by lesion; spacing in mm.

    A reference lesion is found when any predicted voxel lies in it. Its Dice is that of the lesion
    and all predicted components that touch it, whole: what bridges two lesions costs in both. A
    predicted component that touches no lesion is false and adds a Dice of 0:

        dice = sum of the lesions' Dice / (found + missed + false)
        f1   = 2 found / (2 found + missed + false)

    Reference lesions under `minimum_mm3` are left out: not found, not missed, and what touches them
    is not false. Predicted components are never left out: dropping small ones is the model's task.
    """
    require_one_grid(prediction, reference)
    box = joint_box(prediction, reference)
    prediction, reference = prediction[box], reference[box]
    if not prediction.size:
        return LesionScores(float("nan"), float("nan"), 0, 0, 0)
    ours, theirs = (connected_components(np.ascontiguousarray(m)) for m in (prediction, reference))
    our_size, their_size = np.bincount(ours.ravel()), np.bincount(theirs.ravel())

    # Every pair (reference lesion, predicted component) that shares voxels, and how many.
    shared = prediction & reference
    pairs, voxels = np.unique(
        theirs[shared].astype(np.int64) * our_size.size + ours[shared], return_counts=True
    )
    lesion, component = np.divmod(pairs, our_size.size)
    overlap = np.bincount(lesion, voxels, their_size.size)
    touching = np.bincount(lesion, our_size[component], their_size.size)

    judged = their_size * np.prod(spacing) >= minimum_mm3 * (1 - 1e-9)
    judged[0] = False  # the background
    found = int(np.count_nonzero(judged & (overlap > 0)))
    missed = int(np.count_nonzero(judged)) - found
    false = our_size.size - 1 - np.unique(component).size
    total = found + missed + false
    if not total:
        return LesionScores(float("nan"), float("nan"), 0, 0, 0)
    summed = float(np.sum(2 * overlap[judged] / (touching + their_size)[judged]))
    return LesionScores(summed / total, 2 * found / (total + found), found, missed, false)
