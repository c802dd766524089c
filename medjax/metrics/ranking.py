"""How well scores rank one group above another: the area under the ROC curve, and over patients."""

import math

import numpy as np
from jaxtyping import Float

from medjax.metrics.statistics import RESAMPLES, Interval


def wins(positives: Float[np.ndarray, " p"], negatives: Float[np.ndarray, " n"]) -> float:
    """In how many of the p x n pairs the positive has the higher score; a tie counts one half.

    Raises ValueError for a score that is nan.
    """
    if np.isnan(positives).any() or np.isnan(negatives).any():
        raise ValueError("wins: a score is nan and has no rank")
    ordered = np.sort(negatives)
    below, upto = (np.searchsorted(ordered, positives, side) for side in ("left", "right"))
    return float(below.sum() + upto.sum()) / 2


def auc(positives: Float[np.ndarray, " p"], negatives: Float[np.ndarray, " n"]) -> float:
    """The area under the ROC curve: the share of pairs that the positive wins (Mann, Whitney 1947).

    0.5 is guessing. nan where a group is empty.
    """
    pairs = positives.size * negatives.size
    return wins(positives, negatives) / pairs if pairs else math.nan


def clustered_auc(
    won: Float[np.ndarray, "p n"],
    pairs: Float[np.ndarray, "p n"],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The AUC (`mean`) and its percentile bootstrap over patients, both groups resampled.

    Of each pair of patients, one of each group: how many pairs of their scores were compared, and how
    many of these the positive won. Pairs that must not be compared, such as those judged by different
    networks, have 0 in both. A patient is drawn with all its scores (Obuchowski 1997). `n` counts the
    patients; the interval is nan where a group has fewer than two. Where all patients are told apart
    it has no width, which says nothing about the patients that were not met.
    """
    total, n = float(pairs.sum()), sum(pairs.shape)
    area = float(won.sum()) / total if total else math.nan
    if min(pairs.shape) < 2 or not total:
        return Interval(area, math.nan, math.nan, n, 0)
    generator = np.random.default_rng(seed)
    p, n_ = (
        generator.multinomial(size, np.full(size, 1 / size), resamples).astype(float)
        for size in pairs.shape
    )
    found, weight = (np.sum((p @ matrix) * n_, axis=1) for matrix in (won, pairs))
    drawn = found[weight > 0] / weight[weight > 0]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(area, float(low), float(high), n, 0)
