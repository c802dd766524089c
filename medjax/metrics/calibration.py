"""Whether probabilities of classes mean what they say."""

import math

import numpy as np
from jaxtyping import Float, Int

BINS = 15


def brier(p: Float[np.ndarray, "n k"], target: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The squared distance of each case's probabilities from the truth: 0 to 2 (Brier 1950)."""
    truth = np.arange(p.shape[1])[None] == target[:, None]
    return np.sum((p - truth) ** 2, axis=1)


def calibration_error(
    p: Float[np.ndarray, "n k"], target: Int[np.ndarray, " n"], *, bins: int = BINS
) -> float:
    """The expected calibration error of the likeliest class (Guo and others 2017); nan without a case.

    | accuracy - mean confidence | in `bins` bins of equal width, weighted by their cases. With few cases it
    is far above 0 even for probabilities that are right: compare it between models of the same cases.
    """
    if not len(p):
        return math.nan
    sure = p.max(axis=1)
    gap = (p.argmax(axis=1) == target) - sure
    # Bins are open below: 1/bins is in the first.
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    return float(np.abs(np.bincount(place, gap, bins)).sum() / len(p))
