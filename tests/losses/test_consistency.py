"""Agreement without labels: limits and hand-worked values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.losses import consistency
from medjax.losses.segmentation import probabilities

SHAPE = (2, 3, 4, 5, 3)


def drawn(seed, *, exclusive):
    return probabilities(3 * jax.random.normal(jax.random.key(seed), SHAPE), exclusive=exclusive)


def test_the_ramp_rises_from_almost_nothing_to_one_and_stays():
    values = np.array([consistency.ramp(jnp.float32(s / 100), 0.4) for s in range(60)])
    assert values[0] == pytest.approx(np.exp(-5))
    assert values[20] == pytest.approx(np.exp(-1.25))
    assert (np.diff(values[:41]) > 0).all()
    assert (values[40:] == 1).all()
    assert consistency.ramp(jnp.float32(0), 0.0) == 1


def test_the_squared_error_is_that_of_numpy_over_what_is_seen():
    ours, theirs = drawn(0, exclusive=True), drawn(1, exclusive=True)
    seen = jax.random.bernoulli(jax.random.key(2), 0.5, SHAPE[:-1])
    total, count = consistency.squared_error(ours, theirs, seen)
    picked = (np.asarray(ours) - np.asarray(theirs))[np.asarray(seen)]
    assert total / count == pytest.approx((picked**2).mean(), rel=1e-5)
    assert consistency.squared_error(ours, ours, seen)[0] == 0


@pytest.mark.parametrize("exclusive", [True, False])
def test_imitation_is_the_divergence_of_what_both_say(exclusive):
    ours, theirs = (3 * jax.random.normal(jax.random.key(k), SHAPE) for k in range(2))
    say = {"exclusive": exclusive, "temperature": 2.0}
    q, p = (np.asarray(probabilities(x / 2, exclusive=exclusive), float) for x in (ours, theirs))
    if exclusive:
        wanted = 4 * (p * np.log(p / q)).sum(-1).mean()
    else:
        wanted = 4 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    total, count = consistency.imitation(ours, theirs, **say)
    assert total / count == pytest.approx(wanted, rel=1e-4)
    assert consistency.imitation(ours, ours, **say)[0] == pytest.approx(0, abs=1e-3)
    slope = jax.grad(lambda x: consistency.imitation(x, theirs, **say)[0])(theirs)
    np.testing.assert_allclose(slope, 0, atol=1e-5)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_decision_is_certain_of_itself(exclusive):
    p = drawn(3, exclusive=exclusive)
    target = consistency.decided(p, exclusive=exclusive)
    assert set(np.unique(target)) == {0, 1}
    if exclusive:
        np.testing.assert_array_equal(target.sum(axis=-1), 1)
        np.testing.assert_array_equal(np.argmax(target, -1), np.argmax(p, -1))
    else:
        np.testing.assert_array_equal(target, p > 0.5)
    chosen = np.where(target == 1, p, 1 - p)
    expected = p.max(axis=-1) if exclusive else chosen.min(axis=-1)
    np.testing.assert_allclose(consistency.confidence(p, exclusive=exclusive), expected, rtol=1e-6)
    np.testing.assert_array_equal(consistency.confidence(target, exclusive=exclusive), 1)
    np.testing.assert_array_equal(consistency.entropy(target, exclusive=exclusive), 0)


def test_of_equal_classes_one_is_decided_on():
    target = consistency.decided(jnp.full(SHAPE, 1 / 3), exclusive=True)
    np.testing.assert_array_equal(target.sum(axis=-1), 1)


@pytest.mark.parametrize(("exclusive", "even"), [(True, 1 / 3), (False, 0.5)])
def test_entropy_is_one_where_nothing_is_known(exclusive, even):
    found = consistency.entropy(jnp.full(SHAPE, even), exclusive=exclusive)
    np.testing.assert_allclose(found, 1, rtol=1e-6)
    between = consistency.entropy(drawn(4, exclusive=exclusive), exclusive=exclusive)
    assert ((between > 0) & (between < 1)).all()
    slope = jax.grad(lambda p: consistency.entropy(p, exclusive=exclusive).sum())(jnp.zeros(SHAPE))
    assert jnp.isfinite(slope).all()
