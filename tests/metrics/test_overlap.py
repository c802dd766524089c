import math

import numpy as np
import pytest

from medjax.metrics import overlap


def masks(prediction: list[int], reference: list[int]):
    return [np.array(m, bool).reshape(-1, 1, 1) for m in (prediction, reference)]


def test_hand_worked_case():
    counts = overlap.count(*masks([1, 1, 1, 0, 0], [0, 1, 1, 1, 1]))
    assert counts == (2, 3, 4)
    assert overlap.dice(counts) == 4 / 7
    assert overlap.iou(counts) == 2 / 5
    assert overlap.sensitivity(counts) == 2 / 4
    assert overlap.precision(counts) == 2 / 3


def test_dice_is_the_harmonic_mean_and_a_function_of_iou():
    generator = np.random.default_rng(0)
    for share in (0.1, 0.5, 0.9):
        counts = overlap.count(*(generator.random((2, 5, 6, 7)) < share))
        p, s, j = (f(counts) for f in (overlap.precision, overlap.sensitivity, overlap.iou))
        assert overlap.dice(counts) == pytest.approx(2 * p * s / (p + s))
        assert overlap.dice(counts) == pytest.approx(2 * j / (1 + j))


@pytest.mark.parametrize(
    ("prediction", "reference", "dice", "iou", "sensitivity", "precision"),
    [
        ([0, 0], [0, 0], math.nan, math.nan, math.nan, math.nan),
        ([0, 0], [0, 1], 0, 0, 0, 0),
        ([1, 0], [0, 0], 0, 0, math.nan, 0),
        ([1, 0], [0, 1], 0, 0, 0, 0),
        ([1, 0], [1, 0], 1, 1, 1, 1),
    ],
)
def test_edge_cases(prediction, reference, dice, iou, sensitivity, precision):
    counts = overlap.count(*masks(prediction, reference))
    scores = [
        f(counts) for f in (overlap.dice, overlap.iou, overlap.sensitivity, overlap.precision)
    ]
    np.testing.assert_array_equal(scores, [dice, iou, sensitivity, precision])


def test_grids_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 4, 1\).*\(4, 4, 4\)"):
        overlap.count(np.ones((4, 4, 1), bool), np.ones((4, 4, 4), bool))
