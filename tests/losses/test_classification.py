"""Losses of whole samples: against the formula, and what has no part in them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.losses.classification import UNKNOWN, accuracy, class_entropy

LOGITS = jnp.array([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0], [80.0, -80.0, 0.0]])
TARGET = jnp.array([0, UNKNOWN, 2])


def test_the_entropy_is_its_formula_for_samples_of_known_class():
    x = np.asarray(LOGITS, np.float64)
    log_p = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    total, count = class_entropy(LOGITS, TARGET)
    assert total == pytest.approx(-(log_p[0, 0] + log_p[2, 2]))
    assert count == 2


def test_what_nobody_classified_teaches_nothing():
    slope = jax.grad(lambda x: class_entropy(x, TARGET)[0])(LOGITS)
    np.testing.assert_array_equal(slope[1], 0)
    assert jnp.isfinite(slope).all()
    assert class_entropy(LOGITS, jnp.full(3, UNKNOWN)) == (0, 0)


def test_accuracy_counts_known_classes():
    assert accuracy(LOGITS, TARGET) == (1, 2)
    assert accuracy(LOGITS, jnp.full(3, UNKNOWN)) == (0, 0)
