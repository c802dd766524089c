"""FROC and average precision: worked by hand, against plain loops, and what must not matter."""

import math

import numpy as np
import pytest

from medjax.metrics.detection import (
    RATES,
    average_precision,
    box_iou,
    froc,
    objects,
    sphere_iou,
)

NOTHING = objects(np.zeros((0, 3)), np.zeros((0, 3)))


def balls(*rows):
    """Spheres of (x, y, z, diameter, score)."""
    table = np.array(rows, float).reshape(-1, 5)
    return objects(table[:, :3], np.repeat(table[:, 3:4], 3, axis=1), table[:, 4])


def by_hand():
    """Three scans: a lesion found twice and one missed, a scan without any, and an irrelevant finding."""
    first = balls((0, 0, 0, 10, 1), (50, 0, 0, 6, 1))
    third = balls((0, 0, 0, 8, 1), (30, 0, 0, 10, 1))._replace(ignored=np.array([False, True]))
    found = [
        balls((1, 0, 0, 5, 0.9), (2, 0, 0, 5, 0.8), (99, 0, 0, 5, 0.7), (53.5, 0, 0, 5, 0.3)),
        balls((0, 0, 0, 5, 0.6)),
        balls((30, 1, 0, 5, 0.95), (0, 0, 3.9, 5, 0.5)),
    ]
    return found, [first, NOTHING, third]


def test_froc_of_a_case_worked_by_hand():
    """In order: 0.9 hits, 0.7 and 0.6 are false, 0.5 hits, 0.3 is false; 0.8 and 0.95 do not count."""
    result = froc(*by_hand())
    assert result.rates == RATES
    assert result.sensitivity == pytest.approx([1 / 3] * 3 + [2 / 3] * 4)
    assert result.cpm.mean == pytest.approx(11 / 21)
    assert (result.lesions, result.cpm.n) == (3, 3)


def test_between_two_thresholds_the_curve_is_linear():
    """Equal scores are one threshold: a hit and a false finding come together."""
    found = [balls((0, 0, 0, 4, 0.5), (50, 0, 0, 4, 0.5))]
    result = froc(found, [balls((0, 0, 0, 4, 1))], rates=(0.25, 1.0))
    assert result.sensitivity == pytest.approx((0.25, 1.0))


def random_scans(seed, scans=6):
    """Lesions and findings in a small volume, so that several overlap; scores without ties."""
    rng = np.random.default_rng(seed)
    scores = iter(rng.permutation(1000) / 1000)

    def draw(most):
        n = rng.integers(0, most)
        size = rng.uniform(4, 14, (n, 3))
        score = np.array([next(scores) for _ in range(n)])
        return objects(rng.uniform(0, 40, (n, 3)), size, score, rng.random(n) < 0.2)

    pairs = [(draw(8), draw(5)) for _ in range(scans)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def plain_froc(found, reference, rate):
    """Threshold by threshold, lesion by lesion."""
    thresholds = sorted((float(s) for f in found for s in f.score), reverse=True)
    points = [(0.0, 0.0)]
    lesions = sum(int((~r.ignored).sum()) for r in reference)
    for threshold in thresholds:
        hits = false = 0
        for ours, theirs in zip(found, reference, strict=True):
            touched = set()
            for c, s in zip(ours.centre, ours.score, strict=True):
                if s < threshold:
                    continue
                inside = [
                    j
                    for j in range(len(theirs.centre))
                    if sum(((c - theirs.centre[j]) / (theirs.size[j] / 2)) ** 2) < 1
                ]
                touched |= {j for j in inside if not theirs.ignored[j]}
                false += not inside
            hits += len(touched)
        points.append((false / len(found), hits / lesions))
    before = max(p for p in points if p[0] <= rate)
    after = min((p for p in points if p[0] > rate), default=None)
    if after is None:
        return before[1]
    return before[1] + (after[1] - before[1]) * (rate - before[0]) / (after[0] - before[0])


@pytest.mark.parametrize("seed", range(8))
def test_froc_is_that_of_plain_loops(seed):
    found, reference = random_scans(seed)
    result = froc(found, reference, resamples=10)
    assert result.sensitivity == pytest.approx([plain_froc(found, reference, r) for r in RATES])


def plain_precision(found, reference, least):
    """COCO's: all findings from the surest down, each lesion given away once."""
    taken = [set() for _ in reference]
    events = sorted(
        ((float(s), n, i) for n, f in enumerate(found) for i, s in enumerate(f.score)), reverse=True
    )
    outcomes = []
    for _, n, i in events:
        theirs = reference[n]
        overlaps = box_iou(found[n], theirs)[i]
        fitting = [j for j in np.argsort(-overlaps) if overlaps[j] >= least]
        free = [j for j in fitting if j not in taken[n] and not theirs.ignored[j]]
        if free:
            taken[n].add(free[0])
        elif any(theirs.ignored[j] for j in fitting):
            continue
        outcomes.append(bool(free))
    lesions = sum(int((~r.ignored).sum()) for r in reference)
    total = 0.0
    for percent in range(101):
        best = 0.0
        for k in range(1, len(outcomes) + 1):
            if 100 * sum(outcomes[:k]) >= percent * lesions:
                best = max(best, sum(outcomes[:k]) / k)
        total += best / 101
    return total


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_that_of_plain_loops(seed):
    found, reference = random_scans(seed)
    for least in (0.05, 0.1, 0.3):
        ours = average_precision(found, reference, overlap=least)
        assert ours == pytest.approx(plain_precision(found, reference, least))


def test_average_precision_of_a_case_worked_by_hand():
    """Two lesions; the findings in order are right, false, right: precision 1 to recall 0.5, then 2/3."""
    reference = [balls((0, 0, 0, 4, 1)), balls((0, 0, 0, 4, 1))]
    found = [balls((0, 0, 0, 4, 0.9), (1, 0, 0, 4, 0.8)), balls((0.5, 0, 0, 4, 0.7))]
    expected = (51 + 50 * 2 / 3) / 101
    assert average_precision(found, reference) == pytest.approx(expected)


def test_perfect_findings_score_one_and_none_score_nothing():
    reference = [balls((0, 0, 0, 9, 1), (20, 0, 0, 5, 1)), balls((3, 3, 3, 6, 1))]
    assert froc(reference, reference).sensitivity == (1.0,) * 7
    assert average_precision(reference, reference, overlap=0.99) == pytest.approx(1)
    assert froc([NOTHING, NOTHING], reference).sensitivity == (0.0,) * 7
    assert average_precision([NOTHING, NOTHING], reference) == 0


def test_without_a_lesion_nothing_is_defined():
    for found, reference in (([], []), ([balls((0, 0, 0, 4, 0.5))], [NOTHING])):
        result = froc(found, reference)
        assert all(map(math.isnan, (*result.sensitivity, result.cpm.mean, result.cpm.low)))
        assert math.isnan(average_precision(found, reference))


def test_neither_order_nor_the_scale_of_scores_matters():
    found, reference = random_scans(3)
    before = froc(found, reference).sensitivity, average_precision(found, reference)
    rng = np.random.default_rng(0)
    turns = [rng.permutation(len(f.score)) for f in found]
    mixed = [type(f)(*(a[t] for a in f)) for f, t in zip(found, turns, strict=True)]
    mixed = [f._replace(score=np.exp(5 * f.score)) for f in mixed]
    after = froc(mixed[::-1], reference[::-1]).sensitivity
    assert after == pytest.approx(before[0])
    assert average_precision(mixed[::-1], reference[::-1]) == pytest.approx(before[1])


def test_the_interval_resamples_scans():
    """Half of the scans are found whole, the others not at all: a CPM of 1/2, spread as a coin's."""
    lesion = balls((0, 0, 0, 6, 1))
    result = froc([lesion] * 50 + [NOTHING] * 50, [lesion] * 100, resamples=4000)
    width = 1.96 * math.sqrt(0.25 / 100)
    assert result.cpm.mean == pytest.approx(0.5)
    assert (result.cpm.low, result.cpm.high) == pytest.approx((0.5 - width, 0.5 + width), abs=0.015)
    assert froc([lesion], [lesion]).cpm.mean == 1
    assert math.isnan(froc([lesion], [lesion]).cpm.low)


def test_overlaps_are_those_of_counted_points():
    rng = np.random.default_rng(1)
    a = objects(rng.uniform(-2, 2, (4, 3)), rng.uniform(3, 9, (4, 3)))
    b = objects(rng.uniform(-2, 2, (5, 3)), rng.uniform(3, 9, (5, 3)))
    step = 0.1
    grid = np.stack(np.meshgrid(*[np.arange(-7, 7, step)] * 3, indexing="ij"), axis=-1)

    def box(o, i):
        return (np.abs(grid - o.centre[i]) < o.size[i] / 2).all(axis=-1)

    def ball(o, i):
        return np.linalg.norm(grid - o.centre[i], axis=-1) < o.size[i].mean() / 2

    for overlap, shape in ((box_iou, box), (sphere_iou, ball)):
        ours, theirs = ([shape(o, i) for i in range(len(o.centre))] for o in (a, b))
        counted = [[(x & y).sum() / (x | y).sum() for y in theirs] for x in ours]
        np.testing.assert_allclose(overlap(a, b), counted, atol=0.02)


def test_limits_of_an_overlap():
    here = balls((0, 0, 0, 4, 1))
    for overlap, apart in ((box_iou, 4), (sphere_iou, 4)):
        assert overlap(here, here) == pytest.approx(1)
        assert overlap(here, balls((apart, 0, 0, 4, 1))) == 0
        assert overlap(here, NOTHING).shape == (1, 0)
        points = balls((0, 0, 0, 0, 1))
        assert overlap(points, points) == 0
    assert sphere_iou(here, balls((0.5, 0, 0, 2, 1))) == pytest.approx(1 / 8)


@pytest.mark.parametrize(
    "wrong", [(0, 0, 0, -1, 1), (math.nan, 0, 0, 1, 1), (0, 0, 0, 1, math.inf)]
)
def test_objects_that_have_no_place_are_refused(wrong):
    with pytest.raises(ValueError, match="must be finite"):
        balls(wrong)
