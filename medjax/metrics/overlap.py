"""Voxel overlap of two masks: Dice, IoU, sensitivity, precision.

A ratio 0 / 0 is nan (Metrics Reloaded, Maier-Hein and others 2024), with one exception, precision.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from medjax.space.components import joint_box

# Two masks must share one shape; `require_one_grid` says so by name where numpy would broadcast.
Mask = Bool[np.ndarray, "_ _ _"]


class Counts(NamedTuple):
    """Voxels in both masks, in the prediction and in the reference."""

    both: int
    prediction: int
    reference: int


def require_one_grid(prediction: Mask, reference: Mask) -> None:
    """Raise ValueError unless both masks have the same shape."""
    if prediction.shape != reference.shape:
        raise ValueError(
            f"prediction {prediction.shape} and reference {reference.shape} lie on different grids"
        )


def count(prediction: Mask, reference: Mask) -> Counts:
    """Count the voxels of two masks (x, y, z) on one grid."""
    require_one_grid(prediction, reference)
    box = joint_box(prediction, reference)
    prediction, reference = prediction[box], reference[box]
    return Counts(
        int(np.count_nonzero(prediction & reference)),
        int(np.count_nonzero(prediction)),
        int(np.count_nonzero(reference)),
    )


def dice(counts: Counts) -> float:
    """2 |A and B| / (|A| + |B|) in [0, 1]; nan when both masks are empty (Dice 1945)."""
    return _ratio(2 * counts.both, counts.prediction + counts.reference)


def iou(counts: Counts) -> float:
    """|A and B| / |A or B| in [0, 1]; nan when both masks are empty (Jaccard 1912)."""
    return _ratio(counts.both, counts.prediction + counts.reference - counts.both)


def sensitivity(counts: Counts) -> float:
    """The part of the reference that was found, in [0, 1]; nan when there is nothing to find."""
    return _ratio(counts.both, counts.reference)


def precision(counts: Counts) -> float:
    """The part of the prediction that is right, in [0, 1]; nan when both masks are empty.

    An empty prediction of something that is there scores 0, not nan: nan would take exactly the
    missed cases out of a mean.
    """
    if counts.reference and not counts.prediction:
        return 0.0
    return _ratio(counts.both, counts.prediction)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
