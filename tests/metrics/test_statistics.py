import itertools
import math

import numpy as np
import pytest
import scipy.stats

from medjax.metrics.case import score
from medjax.metrics.statistics import (
    aggregate,
    bootstrap_mean,
    holm,
    paired_difference,
    two_level_bootstrap,
    two_level_ratio,
    wilcoxon,
)

NAN = math.nan


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_bootstrap_is_that_of_all_resamples():
    """Three values have 27 resamples: the interval's ends are ends of that exact distribution."""
    values = np.array([0.0, 1.0, 5.0])
    exact = np.sort([np.mean(c) for c in itertools.product(values, repeat=3)])
    interval = bootstrap_mean(values, level=0.8)
    assert interval.mean == 2.0
    low, high = np.quantile(exact, [0.1, 0.9], method="inverted_cdf")
    assert interval[1:3] == pytest.approx((low, high))
    assert interval[3:] == (3, 0)


def test_bootstrap_agrees_with_the_normal_law_and_scipy():
    values = 3 + normal(0, 200)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / math.sqrt(200)
    np.testing.assert_allclose(interval[:3], values.mean() + np.array([0, -half, half]), atol=0.01)
    peer = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=5000, rng=1)
    np.testing.assert_allclose(interval[1:3], peer.confidence_interval, atol=0.01)


def test_bootstrap_covers_the_truth():
    hits = [
        i.low <= 0 <= i.high
        for i in (bootstrap_mean(normal(s, 40), seed=s, resamples=500) for s in range(300))
    ]
    assert 0.90 < np.mean(hits) < 0.98


def test_bootstrap_reproduces_by_its_seed():
    values = normal(0, 30)
    assert bootstrap_mean(values, seed=4) == bootstrap_mean(values, seed=4)
    assert bootstrap_mean(values, seed=4) != bootstrap_mean(values, seed=5)


def test_a_wider_level_is_a_wider_interval():
    narrow, wide = (bootstrap_mean(normal(0, 30), level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_bootstrap_edge_cases():
    np.testing.assert_equal(bootstrap_mean(np.array([])), (NAN, NAN, NAN, 0, 0))
    np.testing.assert_equal(bootstrap_mean(np.array([NAN])), (NAN, NAN, NAN, 0, 1))
    np.testing.assert_equal(bootstrap_mean(np.array([2.0, NAN])), (2, NAN, NAN, 1, 1))
    assert bootstrap_mean(np.full(5, 0.25)) == (0.25, 0.25, 0.25, 5, 0)
    with_nan = np.insert(normal(1, 9), 3, NAN)
    assert bootstrap_mean(with_nan)[:3] == bootstrap_mean(normal(1, 9))[:3]


def test_pairing_removes_what_the_cases_share():
    ours = 10 * normal(0, 25)
    theirs = ours - 0.5 + 0.1 * normal(1, 25)
    paired = paired_difference(ours, theirs)
    assert 0.4 < paired.low < paired.mean < paired.high < 0.6
    flipped = paired_difference(theirs, ours)
    assert flipped.mean == pytest.approx(-paired.mean)
    assert paired_difference(np.array([1, 2, NAN]), np.array([NAN, 1.0, 0]))[3:] == (1, 2)


def test_two_levels_with_one_of_each_are_one_level():
    values = normal(0, 50)
    one = bootstrap_mean(values)
    for shape in ((1, 50), (50, 1)):
        two = two_level_bootstrap(values.reshape(shape))
        assert two.mean == pytest.approx(one.mean)
        np.testing.assert_allclose(two[1:3], one[1:3], atol=0.02)


def test_two_levels_keep_the_spread_of_each():
    """Seeds that differ, and patients that differ, each give their own standard error."""
    seeds, patients = normal(0, 6), normal(1, 30)
    for effect, spread in (
        (np.repeat(seeds[:, None], 30, 1), seeds.std() / math.sqrt(6)),
        (np.repeat(patients[None], 6, 0), patients.std() / math.sqrt(30)),
    ):
        two = two_level_bootstrap(effect, level=0.6827)
        # 68 % lie within one standard error; a new draw of patients for each seed would give
        # 1 / sqrt(6) of it in the second case.
        assert (two.high - two.low) / 2 == pytest.approx(spread, rel=0.05)


def test_two_levels_leave_nan_without_weight():
    values = normal(2, 4, 12)
    values[1, 3:] = NAN
    values[:, 7] = NAN
    two = two_level_bootstrap(values)
    assert two.mean == pytest.approx(np.nanmean(values))
    assert two.low < two.mean < two.high
    assert two[3:] == (np.isfinite(values).sum(), np.isnan(values).sum())
    np.testing.assert_equal(two_level_bootstrap(np.full((2, 3), NAN)), (NAN, NAN, NAN, 0, 6))
    # Only two of forty values: a resample with neither has no mean and is not counted as one.
    lonely = np.full((4, 10), NAN)
    lonely[0, 0], lonely[3, 9] = 1.0, 2.0
    assert two_level_bootstrap(lonely)[:3] == (1.5, 1.0, 2.0)
    with pytest.raises(ValueError, match="infinite"):
        two_level_bootstrap(np.array([[1.0, math.inf]]))


def test_wilcoxon_by_hand_and_edge_cases():
    # Six differences of one sign: p = 2 / 2^6.
    theirs = normal(0, 6)
    assert wilcoxon(theirs + np.arange(1, 7), theirs) == pytest.approx(2 / 64)
    with_gaps = np.append(theirs, [NAN, 5.0])
    shifted = np.append(theirs + np.arange(1, 7), [1.0, 5.0])
    assert wilcoxon(shifted, with_gaps) == pytest.approx(2 / 64)
    assert wilcoxon(theirs, theirs) == 1
    assert math.isnan(wilcoxon(np.array([NAN]), np.array([1.0])))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
    for bad in ([0.1, 1.2], [NAN]):
        with pytest.raises(ValueError, match="holm"):
            holm(bad)


def test_aggregate_counts_what_is_undefined():
    rows = [
        {"case": "a", "dice": 0.5, "hd95": 3.0},
        {"case": "b", "dice": NAN, "hd95": 5.0},
        {"case": "c", "dice": 0.9},
        {"case": "d", "dice": 0.0, "hd95": 100.0},
    ]
    table = aggregate(rows)
    assert list(table) == ["dice", "hd95"]
    dice = table["dice"]
    assert list(dice) == ["mean", "sd", "median", "low", "high", "n", "undefined"]
    defined = [0.5, 0.9, 0.0]
    assert dice["mean"] == pytest.approx(np.mean(defined))
    assert dice["sd"] == pytest.approx(np.std(defined, ddof=1))
    assert dice["median"] == 0.5
    assert (dice["n"], dice["undefined"]) == (3, 1)
    assert (dice["low"], dice["high"]) == bootstrap_mean(np.array(defined))[1:3]
    assert table["hd95"]["mean"] == 36
    assert (table["hd95"]["n"], table["hd95"]["undefined"]) == (3, 1)


def test_aggregate_edge_cases():
    assert aggregate([]) == {}
    nothing = aggregate([{"dice": NAN}])["dice"]
    assert nothing.pop("undefined") == 1
    assert nothing.pop("n") == 0
    assert all(math.isnan(v) for v in nothing.values())
    endless = aggregate([{"hd95": math.inf}, {"hd95": 1.0}, {"hd95": 2.0}])["hd95"]
    assert (endless["mean"], endless["median"], endless["high"]) == (math.inf, 2, math.inf)
    assert endless["low"] < math.inf
    assert math.isnan(endless["sd"])


def test_a_model_that_predicts_nothing_is_not_flattered():
    """Of four cases two are healthy: the mean Dice is 0, not a half, and the misses are stated."""
    nothing = np.zeros((6, 6, 6), bool)
    something = nothing.copy()
    something[2:4, 2:4, 2:4] = True
    references = [nothing, something, nothing, something]
    table = aggregate([score(nothing, r, (1.0, 1.0, 1.0)) for r in references])
    assert (table["dice"]["mean"], table["dice"]["n"], table["dice"]["undefined"]) == (0, 2, 2)
    assert table["missed"]["mean"] == 1
    assert table["false_alarm"]["mean"] == 0
    assert table["hd95"]["mean"] == pytest.approx(math.sqrt(3) * 6)


def test_a_ratio_of_what_is_proportional_has_no_spread():
    below = np.random.default_rng(0).uniform(0.5, 1, (3, 9))
    below[1, 4] = NAN
    found = two_level_ratio(0.9 * below, below)
    np.testing.assert_allclose(found[:3], 0.9)
    assert found[3:] == (26, 1)


def test_a_ratio_over_a_constant_is_the_mean_and_its_interval():
    above = np.random.default_rng(1).normal(0.5, 0.1, (4, 7))
    above[2, :3] = NAN
    plain = two_level_bootstrap(above)
    np.testing.assert_allclose(
        two_level_ratio(above, np.full((4, 7), 2.0))[:3], np.array(plain[:3]) / 2
    )


def test_a_gap_that_may_be_none_has_no_ratio_or_no_interval():
    ours = np.ones((2, 4))
    assert math.isnan(two_level_ratio(ours, -ours).mean)
    torn = np.array([[-1.0, -1.0, 1.0, 1.2], [-1.0, -1.0, 1.0, 1.2]])
    found = two_level_ratio(ours, torn)
    assert found.mean == pytest.approx(20)
    assert math.isnan(found.low)
    assert math.isnan(two_level_ratio(ours[:1, :1], ours[:1, :1]).low)
