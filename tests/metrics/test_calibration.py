"""Calibration: worked by hand, its limits, and what it must not depend on."""

import numpy as np
import pytest

from medjax.metrics.calibration import brier, calibration_error

P = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.35, 0.65]])
TARGET = np.array([0, 1, 1, 1])


def test_the_brier_score_is_the_squared_distance_from_the_truth():
    np.testing.assert_allclose(brier(P, TARGET), [0.02, 0.72, 0.08, 0.245])
    assert brier(np.eye(3), np.arange(3)).max() == 0
    assert brier(np.eye(3)[[1]], np.array([0])) == 2


def test_the_calibration_error_of_a_case_worked_by_hand():
    """Five bins: 0.6 and 0.8 end theirs. Gaps 1 - 0.9, 0 - 0.6, 1 - 0.65 with 1 - 0.8 in one."""
    expected = (0.1 + 0.6 + 0.35 + 0.2) / 4
    assert calibration_error(P, TARGET, bins=5) == pytest.approx(expected)
    assert calibration_error(P, TARGET, bins=1) == pytest.approx(abs(3 / 4 - 2.95 / 4))


def test_probabilities_that_are_right_have_an_error_that_goes_to_zero():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 100_000)
    target = (rng.random(len(p))[:, None] > np.cumsum(p, axis=1)).sum(axis=1)
    assert calibration_error(p, target) < 0.01
    assert calibration_error(p**4 / (p**4).sum(axis=1, keepdims=True), target) > 0.1
    assert np.isnan(calibration_error(p[:0], target[:0]))
