"""From cases to statements: bootstrap intervals, paired tests, the table of means.

The unit of resampling is the patient: give one value a patient, averaged over its scans, never one
a slice. All intervals are percentile bootstraps (Efron 1979) of a mean, reproducible from `seed`;
with fewer than about 20 patients they are known to be too narrow.
"""

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Int

RESAMPLES = 10_000
_BLOCK = 1_000_000  # draws at a time: bounds the memory, and is a part of what the seed means


class Interval(NamedTuple):
    """A mean with its interval; `n` values went into it and `undefined` (nan) were left out."""

    mean: float
    low: float
    high: float
    n: int
    undefined: int


def bootstrap_mean(
    values: Float[np.ndarray, " n"],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean over cases with its bootstrap interval.

    nan values are left out and counted. Without a value all is nan; with one there is a mean and no
    interval (nan). An infinite value makes the mean, and what it reaches of the interval, infinite.
    """
    defined = values[~np.isnan(values)]
    undefined = values.size - defined.size
    if defined.size < 2:
        mean = float(defined[0]) if defined.size else math.nan
        return Interval(mean, math.nan, math.nan, defined.size, undefined)
    generator = np.random.default_rng(seed)
    means = np.concatenate(
        [
            defined[generator.integers(0, defined.size, (rows, defined.size))].mean(axis=1)
            for rows in _blocks(resamples, defined.size)
        ]
    )
    return Interval(float(defined.mean()), *_ends(means, level), defined.size, undefined)


def paired_difference(
    ours: Float[np.ndarray, " n"],
    theirs: Float[np.ndarray, " n"],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `ours - theirs` over the same cases, with its bootstrap interval.

    A pair with a nan on either side is left out and counted. Where a nan is a right answer (both
    masks empty) and the other side's false alarm should weigh, replace it before, in both.
    """
    return bootstrap_mean(ours - theirs, level=level, resamples=resamples, seed=seed)


def two_level_bootstrap(
    values: Float[np.ndarray, "seeds patients"],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean over training seeds and patients, both resampled; for paired differences mostly.

    Seeds are drawn, then patients, one draw of patients for all seeds (the pigeonhole bootstrap,
    Owen 2007): every seed is judged on the same patients, and drawing them anew for each seed would
    shrink their share of the spread by the number of seeds. A nan (a patient that a seed did not
    judge) has no weight, in the mean and in every resample. One seed, or one patient, has no spread
    on that level; with both single, or with less than two values, the interval is nan.

    Raises ValueError for infinite values.
    """
    if np.isinf(values).any():
        raise ValueError("two_level_bootstrap: infinite values have no mean")
    defined = ~np.isnan(values)
    n, undefined = int(defined.sum()), int((~defined).sum())
    filled = np.where(defined, values, 0.0)
    mean = float(filled.sum() / n) if n else math.nan
    if n < 2:
        return Interval(mean, math.nan, math.nan, n, undefined)
    totals, weights = _resampled([filled, defined.astype(float)], resamples, seed)
    drawn = weights > 0
    return Interval(mean, *_ends(totals[drawn] / weights[drawn], level), n, undefined)


def two_level_ratio(
    above: Float[np.ndarray, "seeds patients"],
    below: Float[np.ndarray, "seeds patients"],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The mean of `above` over the mean of `below`, seeds and patients resampled as in `two_level_bootstrap`.

    Both means are of the same draws, so what they share cancels. A pair with a nan on either side has no
    weight. Where the mean below is not positive, in the data or in a resample, the ratio means nothing and
    is nan or left out; an interval of which more than one resample in twenty is left out is nan.
    """
    defined = ~(np.isnan(above) | np.isnan(below))
    n, undefined = int(defined.sum()), int((~defined).sum())
    parts = [np.where(defined, values, 0.0) for values in (above, below)]
    ratio = float(parts[0].sum() / parts[1].sum()) if parts[1].sum() > 0 else math.nan
    if n < 2:
        return Interval(ratio, math.nan, math.nan, n, undefined)
    totals, bases = _resampled(parts, resamples, seed)
    kept = bases > 0
    if kept.mean() < 0.95 or math.isnan(ratio):
        return Interval(ratio, math.nan, math.nan, n, undefined)
    return Interval(ratio, *_ends(totals[kept] / bases[kept], level), n, undefined)


def _resampled(
    parts: Sequence[Float[np.ndarray, "seeds patients"]], resamples: int, seed: int
) -> list[Float[np.ndarray, " r"]]:
    """The sum of each matrix over the same draws of seeds and patients."""
    generator = np.random.default_rng(seed)
    sums: list[list[np.ndarray]] = [[] for _ in parts]
    for rows in _blocks(resamples, sum(parts[0].shape)):
        # How often each seed and each patient was drawn: a sum is a weighted one.
        seeds, patients = (_drawn(generator, rows, size) for size in parts[0].shape)
        for own, values in zip(sums, parts, strict=True):
            own.append(np.sum((seeds @ values) * patients, axis=1))
    return [np.concatenate(own) for own in sums]


def wilcoxon(ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " n"]) -> float:
    """Two-sided p value of Wilcoxon's signed-rank test over paired cases (1945; by scipy).

    Pairs with a nan are left out, pairs without a difference carry no rank. No difference anywhere:
    1. No pair at all: nan.
    """
    paired = ~(np.isnan(ours) | np.isnan(theirs))
    if not paired.any():
        return math.nan
    difference = ours[paired] - theirs[paired]
    difference = difference[difference != 0]
    if not difference.size:
        return 1.0
    return float(scipy.stats.wilcoxon(difference).pvalue)  # pyright: ignore[reportAttributeAccessIssue]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): reject where the adjusted p is below the level.

    Adjusted values keep the order given. Raises ValueError for a value outside [0, 1] or nan.
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"holm: p values in [0, 1] are needed, got {list(p_values)}")
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(running, 1.0)
    return adjusted


def aggregate(
    rows: Sequence[Mapping[str, object]],
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Summarise one row of scores a case: {metric: {mean, sd, median, low, high, n, undefined}}.

    nan, and a metric that a row lacks, is undefined: outside mean, sd, median and interval, and
    counted, so `n + undefined` is always the number of rows. What `case.score` gives for a missed
    structure (Dice 0, the image diagonal) is a value and counts. sd has n - 1 below it and is nan
    for one value; low and high are the bootstrap interval of the mean; all is nan with n = 0.
    Infinite values count as they are. Columns of text (the case's name) are passed over.
    """
    names = dict.fromkeys(
        name for row in rows for name, value in row.items() if isinstance(value, Real)
    )
    table = {}
    for name in names:
        values = np.array([_number(row.get(name)) for row in rows])
        defined = values[~np.isnan(values)]
        interval = bootstrap_mean(values, level=level, resamples=resamples, seed=seed)
        with np.errstate(invalid="ignore"):  # an infinite value has no spread: nan
            sd = float(np.std(defined, ddof=1)) if defined.size > 1 else math.nan
        table[name] = {
            "mean": interval.mean,
            "sd": sd,
            "median": float(np.median(defined)) if defined.size else math.nan,
            "low": interval.low,
            "high": interval.high,
            "n": interval.n,
            "undefined": interval.undefined,
        }
    return table


def _number(value: object) -> float:
    return float(value) if isinstance(value, Real) else math.nan


def _blocks(resamples: int, width: int) -> list[int]:
    rows = max(1, _BLOCK // width)
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]


def _drawn(generator: np.random.Generator, rows: int, size: int) -> Float[np.ndarray, "rows size"]:
    draws: Int[np.ndarray, "rows size"] = generator.integers(0, size, (rows, size))
    flat = (draws + size * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * size).reshape(rows, size).astype(float)


def _ends(means: Float[np.ndarray, " r"], level: float) -> tuple[float, float]:
    # Order statistics, rounded outwards: no interpolation, so infinite means stay what they are.
    ordered = np.sort(means)
    tail = (1 - level) / 2 * (ordered.size - 1)
    return float(ordered[math.floor(tail)]), float(ordered[math.ceil(ordered.size - 1 - tail)])
