"""Task weights: where each rule rests, what it does not depend on, and why the naive one has no rest."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.losses import weighting
from medjax.losses.weighting import Look

ALL = jnp.array([True, True, True])
NONE = jnp.zeros(3)
LOSSES = jnp.array([0.05, 0.7, 40.0])
RULES = {
    "static": lambda: weighting.static([1.0, 2.0, 0.5]),
    "uncertainty": lambda: weighting.uncertainty([1.0, 1.0, 0.5]),
    "famo": lambda: weighting.famo(3),
    "dwa": lambda: weighting.dwa(3, period=2),
    "gradnorm": lambda: weighting.gradnorm(3),
}


def run(rule, looks):
    """The state after these steps, compiled as one."""

    def step(state, look):
        return rule.update(state, look), None

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *looks)
    return jax.jit(lambda s, x: jax.lax.scan(step, s, x)[0])(rule.start, stacked)


def look(losses=LOSSES, seen=ALL, later=NONE, norms=NONE):
    return Look(*(jnp.asarray(a) for a in (losses, seen, later, norms)))


def weights(rule, state, losses=LOSSES, seen=ALL):
    return np.asarray(rule.weights(state, jnp.asarray(losses), jnp.asarray(seen)))


def test_a_weight_learned_by_descent_on_the_sum_turns_negative_and_its_task_is_maximised():
    """The weight of the article: nothing holds it up. Below 0 after w / (rate L) steps, here 15."""
    w, loss, signs = 1.0, 0.7, []
    for _ in range(60):
        w -= 0.1 * loss
        signs.append(w < 0)
    assert signs.index(True) + 1 == 15

    def joint(params):
        w, x = params
        return w * (0.3 + jnp.log1p(x**2))  # least at x = 0

    params = (jnp.float32(1.0), jnp.float32(1.0))
    values = []
    for _ in range(400):
        values.append(float(jnp.log1p(params[1] ** 2)))
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(joint)(params))
    assert min(values[:40]) < values[0] < values[-1]
    assert params[0] < 0


@pytest.mark.parametrize("name", RULES)
def test_weights_are_finite_and_positive_at_any_scale(name):
    rule = RULES[name]()
    rng = np.random.default_rng(0)
    looks = [
        look(
            s * rng.uniform(0.5, 1.5, 3) * LOSSES, later=s * LOSSES, norms=s * rng.uniform(0, 2, 3)
        )
        for s in 10.0 ** rng.uniform(-6, 4, 50)
    ]
    looks[7] = look(np.zeros(3))
    found = weights(rule, run(rule, looks))
    assert np.isfinite(found).all()
    assert (found > 0).all()


@pytest.mark.parametrize("name", RULES)
def test_a_task_that_is_not_seen_keeps_its_state(name):
    """The others learn as if it were not there, and its weight waits for it."""
    rule = RULES[name]()
    seen = jnp.array([True, True, False])
    first, others = look(norms=jnp.ones(3), later=0.9 * LOSSES), []
    for hidden in (0.0, 123.0):
        losses, later = LOSSES.at[2].set(hidden), jnp.array([0.04, 0.7, hidden])
        norms = jnp.array([1.0, 2.0, hidden])
        state = run(rule, [first] + 3 * [look(losses, seen, later, norms)])
        others.append(jax.tree.leaves(state))
    for a, b in zip(*others, strict=True):
        np.testing.assert_array_equal(a, b)
    before = jax.tree.leaves(run(rule, [first]))
    kept = [np.array_equal(a[2], b[2]) for a, b in zip(before, others[0], strict=True) if a.ndim]
    if name in ("uncertainty", "famo"):
        assert all(kept)


def test_uncertainty_rests_at_one_over_twice_the_loss():
    rule = weighting.uncertainty([1.0, 1.0, 0.5])
    losses = jnp.array([0.05, 0.7, 20.0])
    state = run(rule, 600 * [look(losses)])
    np.testing.assert_allclose(weights(rule, state, losses), 1 / (2 * losses), rtol=0.02)
    gradient = jax.grad(
        lambda s: jnp.sum(jnp.array([1.0, 1.0, 0.5]) * jnp.exp(-s) * losses + s / 2)
    )(state)
    np.testing.assert_allclose(gradient, 0, atol=0.01)


def test_uncertainty_has_bounds_where_a_loss_has_no_resting_place():
    rule = weighting.uncertainty([1.0, 1.0, 1.0], bound=2.0)
    state = run(rule, 300 * [look([-0.5, 0.0, 1e4])])
    np.testing.assert_allclose(state, [-2, -2, 2])


def test_famo_is_its_algorithm():
    """Plain loops after Liu and others (2023), algorithm 1 with Adam as in their experiments."""
    rng = np.random.default_rng(2)
    rule, logits, m, v = weighting.famo(3), np.zeros(3), np.zeros(3), np.zeros(3)
    looks = []
    for t in range(1, 30):
        losses = rng.uniform(0.1, 3, 3)
        later = losses * rng.uniform(0.8, 1.1, 3)
        looks.append(look(losses, later=later))
        z = np.exp(logits) / np.exp(logits).sum()
        jacobian = np.diag(z) - np.outer(z, z)
        slope = jacobian @ (np.log(losses) - np.log(later)) + 1e-3 * logits
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        logits = logits - 0.025 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    state = run(rule, looks)
    np.testing.assert_allclose(state["logits"], logits, atol=1e-4)
    z = np.exp(logits) / np.exp(logits).sum()
    expected = z / np.asarray(LOSSES) / np.sum(z / np.asarray(LOSSES))
    np.testing.assert_allclose(weights(rule, state), 3 * expected, rtol=1e-3)


def descend(rule, scales, steps=300):
    """Two quadratic tasks at odds, of these scales, under a rule; how far each loss is from its first."""
    goals, scales = jnp.array([[1.0, 0.0], [0.0, 1.0]]), jnp.array(scales)

    def losses(x):
        return scales * (1 + jnp.sum((x[None] - goals) ** 2, axis=1))

    def step(carry, _):
        x, state = carry
        seen = jnp.array([True, True])
        slopes = jax.jacobian(losses)(x)
        w = rule.weights(state, losses(x), seen)
        direction = w @ slopes
        moved = x - 0.01 * direction / jnp.maximum(jnp.linalg.norm(direction), 1e-6)
        norms = jnp.linalg.norm(slopes, axis=1)
        state = rule.update(state, Look(losses(x), seen, losses(moved), norms))
        return (moved, state), None

    (x, _), _ = jax.lax.scan(step, (jnp.array([-1.0, -0.5]), rule.start), None, length=steps)
    return np.asarray(losses(x) / scales)


@pytest.mark.parametrize(
    "make",
    [
        lambda: weighting.uncertainty([1.0, 1.0]),
        lambda: weighting.famo(2),
        lambda: weighting.gradnorm(2),
    ],
    ids=["uncertainty", "famo", "gradnorm"],
)
def test_badly_scaled_tasks_are_both_learned(make):
    """Equal weights forget the small one, whose loss is a hundredth."""
    forgotten = descend(weighting.static([1.0, 1.0]), [1.0, 0.01])
    ours = descend(make(), [1.0, 0.01])
    assert forgotten[1] > 2.9
    assert ours[1] < 0.8 * forgotten[1]
    assert ours.max() < forgotten.max()


def test_famo_does_not_see_the_scale_of_a_loss():
    same, other = (descend(weighting.famo(2), scales, 100) for scales in ([1.0, 1.0], [30.0, 0.01]))
    np.testing.assert_allclose(other, same, rtol=0.02)


def test_dwa_gives_more_to_the_task_that_stands_still():
    rule = weighting.dwa(3, period=2)
    falling = [
        look([1.0, 1.0, 1.0]),
        look([3.0, 1.0, 5.0]),
        look([1.0, 1.0, 3.0]),
        look([0.0, 1.0, 6.0]),
    ]
    np.testing.assert_allclose(weights(rule, run(rule, falling[:3])), 1)
    ratio = np.array([0.5 / 2, 1.0, 4.5 / 3])
    expected = 3 * np.exp(ratio / 2) / np.exp(ratio / 2).sum()
    np.testing.assert_allclose(weights(rule, run(rule, falling)), expected, rtol=1e-5)


def test_gradnorm_rests_where_all_gradients_are_equal():
    """With losses that stay: norms 1, 2 and 4 want weights in the ratio 4 : 2 : 1."""
    rule = weighting.gradnorm(3)
    norms = jnp.array([1.0, 2.0, 4.0])
    found = weights(rule, run(rule, 2000 * [look(norms=norms)]))
    np.testing.assert_allclose(found, 3 * np.array([4, 2, 1]) / 7, rtol=0.08)
    assert found.sum() == pytest.approx(3)


def test_gradnorm_gives_more_to_the_task_that_lags_behind():
    rule = weighting.gradnorm(3)
    later = [look([0.05, 0.35, 40.0], norms=jnp.ones(3))] * 200
    found = weights(rule, run(rule, [look(norms=jnp.ones(3)), *later]))
    assert found[1] < 0.7 * found[0]
    assert found[0] == pytest.approx(found[2], rel=0.1)
