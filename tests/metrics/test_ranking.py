import math

import numpy as np
import pytest

from medjax.metrics.ranking import auc, clustered_auc, wins


def scores(sizes, seed=0, step=0.5):
    """Groups of scores with ties among them."""
    generator = np.random.default_rng(seed)
    return [np.round(generator.normal(0.7, 1, size) / step) * step for size in sizes]


@pytest.mark.parametrize("seed", range(3))
def test_wins_are_counted_as_a_person_would(seed):
    ours, theirs = scores((7, 11), seed)
    counted = sum((a > b) + 0.5 * (a == b) for a in ours for b in theirs)
    assert wins(ours, theirs) == counted
    assert auc(ours, theirs) == counted / 77


def test_auc_is_that_of_sklearn():
    metrics = pytest.importorskip("sklearn.metrics")
    ours, theirs = scores((40, 25))
    truth = np.repeat([1, 0], [40, 25])
    expected = metrics.roc_auc_score(truth, np.concatenate([ours, theirs]))
    assert auc(ours, theirs) == pytest.approx(expected, abs=1e-12)


def test_auc_knows_nothing_but_ranks():
    ours, theirs = scores((9, 8))
    assert auc(theirs, ours) == pytest.approx(1 - auc(ours, theirs))
    assert auc(np.exp(ours), np.exp(theirs)) == auc(ours, theirs)
    assert auc(ours + 100, theirs) == 1
    assert auc(np.zeros(3), np.zeros(4)) == 0.5
    assert math.isnan(auc(np.zeros(0), theirs))
    with pytest.raises(ValueError, match="nan"):
        auc(np.array([math.nan]), theirs)


def table(ours, theirs):
    won = np.array([[wins(a, b) for b in theirs] for a in ours])
    pairs = np.array([[float(a.size * b.size) for b in theirs] for a in ours])
    return won, pairs


def test_over_patients_with_all_pairs_it_is_the_plain_area():
    ours, theirs = scores((3, 5, 2, 4)), scores((6, 1, 3), seed=1)
    found = clustered_auc(*table(ours, theirs), resamples=200)
    assert found.mean == pytest.approx(auc(np.concatenate(ours), np.concatenate(theirs)))
    assert found.low <= found.mean <= found.high
    assert found.n == 7


def test_pairs_that_were_not_compared_do_not_count():
    won, pairs = np.array([[1.0, 0], [0, 0]]), np.array([[1.0, 0], [0, 1]])
    assert clustered_auc(won, pairs, resamples=50).mean == 0.5


def test_the_interval_is_that_of_drawing_patients_again():
    ours, theirs = scores([1] * 20), scores([1] * 15, seed=1)
    found = clustered_auc(*table(ours, theirs), resamples=4000)
    generator = np.random.default_rng(7)
    drawn = [
        auc(
            generator.choice(np.concatenate(ours), 20), generator.choice(np.concatenate(theirs), 15)
        )
        for _ in range(4000)
    ]
    np.testing.assert_allclose(
        [found.low, found.high], np.quantile(drawn, [0.025, 0.975]), atol=0.02
    )


def test_scores_of_one_patient_are_drawn_together():
    ours, theirs = scores([1] * 12), scores([1] * 12, seed=1)
    one = clustered_auc(*table(ours, theirs))
    often = clustered_auc(*table([np.repeat(a, 9) for a in ours], theirs))
    assert often == pytest.approx(one)
    more = clustered_auc(*table(ours * 9, theirs * 9))
    assert more.high - more.low < 0.5 * (one.high - one.low)


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (0, 3)])
def test_a_group_of_one_patient_has_no_interval(shape):
    found = clustered_auc(np.full(shape, 0.25), np.ones(shape))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert math.isnan(found.mean) == (0 in shape)
