"""Detection scores over scans: FROC at the rates of LUNA16, and average precision at an overlap."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from medjax.metrics.statistics import Interval

RATES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)  # false positives a scan (LUNA16)
RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision


class Objects(NamedTuple):
    """What is in a scan, or was found in it: boxes along the axes of the world, centre and size in mm.

    Sizes are whole lengths; a sphere has its diameter three times. `score` ranks what was found, more
    is surer. `ignored` marks what is in a scan but no lesion to be found: finding it is neither right
    nor wrong.
    """

    centre: Float[np.ndarray, "n 3"]
    size: Float[np.ndarray, "n 3"]
    score: Float[np.ndarray, " n"]
    ignored: Bool[np.ndarray, " n"]


Overlap = Callable[[Objects, Objects], Float[np.ndarray, "n m"]]


def objects(
    centre: Float[np.ndarray, "n 3"],
    size: Float[np.ndarray, "n 3"],
    score: Float[np.ndarray, " n"] | None = None,
    ignored: Bool[np.ndarray, " n"] | None = None,
) -> Objects:
    """Objects with a score of 1, none of them ignored, where that is not given.

    Raises ValueError for a size that is negative, or a number that is not finite.
    """
    score = np.ones(len(centre)) if score is None else score
    ignored = np.zeros(len(centre), bool) if ignored is None else ignored
    if not all(np.isfinite(a).all() for a in (centre, size, score)) or (size < 0).any():
        raise ValueError("objects: centres, sizes >= 0 and scores must be finite")
    return Objects(centre, size, score, ignored)


class Froc(NamedTuple):
    """`sensitivity` at each of `rates`, nan where no scan has a lesion, and their mean `cpm`."""

    rates: tuple[float, ...]
    sensitivity: tuple[float, ...]
    cpm: Interval
    lesions: int


def box_iou(ours: Objects, theirs: Objects) -> Float[np.ndarray, "n m"]:
    """Intersection over union of each box of ours with each of theirs; 0 for two without volume."""
    low, high = ([o.centre + side * o.size for o in (ours, theirs)] for side in (-0.5, 0.5))
    sides = np.minimum(high[0][:, None], high[1]) - np.maximum(low[0][:, None], low[1])
    shared = np.prod(np.clip(sides, 0, None), axis=-1)
    return _over_union(shared, ours.size.prod(axis=1), theirs.size.prod(axis=1))


def sphere_iou(ours: Objects, theirs: Objects) -> Float[np.ndarray, "n m"]:
    """The same of spheres, whose diameters are the means of the three sizes."""
    r, s = ours.size.mean(axis=1)[:, None] / 2, theirs.size.mean(axis=1)[None] / 2
    d = np.linalg.norm(ours.centre[:, None] - theirs.centre[None], axis=-1)
    inner = 4 / 3 * np.pi * np.minimum(r, s) ** 3
    lens = (r + s - d) ** 2 * (d**2 + 2 * d * (r + s) - 3 * (r - s) ** 2)
    lens *= np.pi / 12 / np.maximum(d, 1e-9)
    shared = np.where(d >= r + s, 0.0, np.where(d <= np.abs(r - s), inner, lens))
    return _over_union(shared, 4 / 3 * np.pi * r[:, 0] ** 3, 4 / 3 * np.pi * s[0] ** 3)


def _over_union(
    shared: Float[np.ndarray, "n m"], ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "n m"]:
    union = ours[:, None] + theirs[None] - shared
    return np.where(union > 0, shared / np.where(union > 0, union, 1), 0.0)


def hits(ours: Objects, theirs: Objects) -> Bool[np.ndarray, "n m"]:
    """Whether the centre of each of ours lies within each of theirs, the ellipsoid inscribed in its box."""
    away = ours.centre[:, None] - theirs.centre[None]
    radius = np.maximum(theirs.size / 2, 1e-9)[None]
    return np.sum((away / radius) ** 2, axis=-1) < 1


def froc(
    found: Sequence[Objects],
    reference: Sequence[Objects],
    *,
    rates: Sequence[float] = RATES,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Froc:
    """Sensitivity against false positives a scan (LUNA16: Setio and others 2017); both scan by scan.

    A finding hits a lesion when its centre lies within it: in the ellipsoid inscribed in its box, for a
    sphere nearer than its radius. A lesion counts with the surest finding that hits it; a finding that
    hits nothing, nor anything ignored, is false. Sensitivity is linear between two thresholds, 0 above
    all scores, and stays what it is beyond the last. The interval of the CPM resamples scans.
    """
    events = [_events(ours, theirs) for ours, theirs in zip(found, reference, strict=True)]
    lesions = np.array([np.sum(~theirs.ignored) for theirs in reference], float)
    scan = np.repeat(np.arange(len(events)), [len(score) for score, _ in events])
    score, right = (np.concatenate([e[part] for e in events] or [np.zeros(0)]) for part in (0, 1))
    order = np.argsort(-score, kind="stable")
    scan, right, ends = scan[order], right[order], _ends_of_ties(score[order])

    def sensitivity(drawn: Float[np.ndarray, " scans"]) -> Float[np.ndarray, " rates"]:
        """Where each scan counts as often as it was drawn."""
        total, weight = drawn @ lesions, drawn[scan]
        if not total:
            return np.full(len(rates), np.nan)
        hit, false = (np.append(0, np.cumsum(weight * e)[ends]) for e in (right, 1 - right))
        return np.interp(rates, false / drawn.sum(), hit / total)

    size = len(events)
    here = sensitivity(np.ones(size))
    low = high = math.nan
    if size > 1 and lesions.any():
        draws = np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), resamples)
        means = np.array([sensitivity(draw.astype(float)).mean() for draw in draws])
        low, high = np.nanquantile(means, [(1 - level) / 2, (1 + level) / 2])
    cpm = Interval(float(here.mean()), float(low), float(high), size, 0)
    return Froc(tuple(rates), tuple(here.tolist()), cpm, int(lesions.sum()))


def _events(
    ours: Objects, theirs: Objects
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """Score and rightness (1, 0) of what counts in one scan: lesions that are hit, false findings."""
    inside = hits(ours, theirs)
    scores = np.where(inside, ours.score[:, None], -np.inf)[:, ~theirs.ignored]
    surest = scores.max(axis=0, initial=-np.inf)
    hit, false = surest[surest > -np.inf], ours.score[~inside.any(axis=1)]
    return np.concatenate([hit, false]), np.repeat([1.0, 0.0], [len(hit), len(false)])


def average_precision(
    found: Sequence[Objects],
    reference: Sequence[Objects],
    *,
    overlap: float = 0.1,
    iou: Overlap = box_iou,
) -> float:
    """The best precision at a recall or a higher one, averaged over 101 recalls (COCO); scan by scan.

    From the surest down, a finding takes the free lesion that it overlaps most, by at least `overlap`
    (nnDetection's default is 0.1). Without one it is false, or left out where it overlaps something
    ignored as much. Equal scores are one threshold. nan where no scan has a lesion.
    """
    matches = [
        _matches(ours, theirs, iou(ours, theirs), overlap)
        for ours, theirs in zip(found, reference, strict=True)
    ]
    lesions = sum(int(np.sum(~theirs.ignored)) for theirs in reference)
    if not lesions:
        return math.nan
    score, right = (np.concatenate([m[part] for m in matches]) for part in (0, 1))
    order = np.argsort(-score, kind="stable")
    ends = _ends_of_ties(score[order])
    hit = np.cumsum(right[order])[ends]
    precision = np.append(hit / (ends + 1), 0.0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[np.searchsorted(hit / lesions + 1e-9, RECALLS)].mean())


def _matches(
    ours: Objects, theirs: Objects, shared: Float[np.ndarray, "n m"], overlap: float
) -> tuple[Float[np.ndarray, " e"], Float[np.ndarray, " e"]]:
    """Score and rightness (1, 0) of the findings of one scan, without those left out."""
    score, right = [], []
    free, fits = ~theirs.ignored, shared >= overlap
    for row in np.argsort(-ours.score, kind="stable"):
        open_ = fits[row] & free
        if open_.any():
            free[np.argmax(np.where(open_, shared[row], -1))] = False
        elif (fits[row] & theirs.ignored).any():
            continue
        score.append(ours.score[row])
        right.append(float(open_.any()))
    return np.array(score, float), np.array(right, float)


def _ends_of_ties(ordered: Float[np.ndarray, " e"]) -> Int[np.ndarray, " t"]:
    """The last place of each run of equal scores."""
    return np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: ordered.size])
