"""Several tasks in one step: the same on any number of devices, and each rule told what it asks for."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.losses import weighting
from medjax.losses.weighting import Rule
from medjax.train import optim, state, step, weigh

KEY = jax.random.key(3)
TERMS = {"left": {"near": 1.0, "far": 0.5}, "right": {"off": 2.0}, "rare": {"seldom": 1.0}}
RULES = {
    "static": lambda: weighting.static([1.0, 0.5, 2.0]),
    "uncertainty": lambda: weighting.uncertainty([1.0] * 3),
    "famo": lambda: weighting.famo(3),
    "dwa": lambda: weighting.dwa(3, period=2),
    "gradnorm": lambda: weighting.gradnorm(3),
}


class Net(nn.Module):
    """A trunk and a head each."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(6, name="encoder0")(x))
        return {name: nn.Dense(1, name=name)(x)[:, 0] for name in ("a", "b", "c")}


def loss(params, extra, batch, key, progress):
    """Losses that are not alike in size; `seldom` is known of few samples, or of none."""
    found = Net().apply({"params": params}, batch["x"])
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i)))(batch["index"])
    count = jnp.float32(len(noise))
    known = batch["known"].astype(jnp.float32)
    return {
        "near": (jnp.sum((found["a"] - batch["y"] - 0.01 * noise) ** 2), count),
        "far": (jnp.sum(jnp.abs(found["a"])), count),
        "off": (100 * jnp.sum((found["b"] + batch["y"]) ** 2), count),
        "seldom": (jnp.sum((found["c"] - 1) ** 2 * known), known.sum()),
        "told": (jnp.sum(noise), count),
    }, extra


def batch_of(known=(0, 5), n=8):
    rng = np.random.default_rng(1)
    return {
        "x": jnp.asarray(rng.normal(size=(n, 3)), jnp.float32),
        "y": jnp.asarray(rng.normal(size=n), jnp.float32),
        "index": jnp.arange(n, dtype=jnp.int32),
        "known": jnp.isin(jnp.arange(n), jnp.array(known, jnp.int32)),
    }


def start_of(rule):
    params = Net().init(jax.random.key(1), jnp.zeros((1, 3)))["params"]
    sgd = optim.optimizer("sgd", momentum=0.0, clip=0.0)
    made = state.create(params, sgd, horizon=10)
    return made.replace(extra={**made.extra, "tasks": weigh.start(rule, 3)}), sgd


def run(name, devices=1, steps=3, known=(0, 5), rule=None):
    """State after the steps, and what each step said."""
    rule = rule or RULES[name]()
    now, sgd = start_of(rule)
    gradients, after = weigh.weigh(loss, TERMS, rule)
    made = step.make_step(
        gradients, sgd, optim.schedule("constant", peak=1e-4), step.average, after
    )
    mesh = step.data_mesh(devices)
    compiled, now, said = step.map_step(made, mesh), step.replicate(now, mesh), []
    for _ in range(steps):
        now, means = compiled(now, step.shard(batch_of(known), mesh), KEY)
        said.append({name: float(value) for name, value in means.items()})
    return jax.device_get(now), said


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("static", "gradnorm") else pytest.mark.long)
        for name in RULES
    ],
)
def test_any_number_of_devices_takes_the_same_steps(name):
    one, said = run(name)
    many, others = run(name, devices=4)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)
    for a, b in zip(said, others, strict=True):
        assert a == pytest.approx(b, rel=2e-5, abs=1e-6)


def test_weights_that_stay_are_those_of_the_plain_step():
    """One rule, two ways to the same parameters."""
    now, sgd = start_of(RULES["static"]())
    flat = {"near": 1.0, "far": 0.5, "off": 1.0, "seldom": 2.0}
    plain = step.make_step(
        step.differentiate(loss, flat), sgd, optim.schedule("constant", peak=1e-4), step.average
    )
    compiled = step.map_step(plain, step.data_mesh(1))
    for _ in range(3):
        now, means = compiled(now, batch_of(), KEY)
    weighed, said = run("static")
    for a, b in zip(jax.tree.leaves(now.params), jax.tree.leaves(weighed.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert said[-1]["loss"] == pytest.approx(float(means["loss"]), rel=1e-6)


def test_what_a_step_says_of_its_tasks():
    _, (first, *_) = run("uncertainty")
    assert first["task/left"] == pytest.approx(first["near"] + 0.5 * first["far"], rel=1e-6)
    assert first["task/right"] == pytest.approx(2 * first["off"], rel=1e-6)
    assert [first[f"weight/{name}"] for name in TERMS] == [1, 1, 1]
    total = sum(first[f"weight/{name}"] * first[f"task/{name}"] for name in TERMS)
    assert first["loss"] == pytest.approx(total, rel=1e-6)


def looked(asks, known=(0, 5)):
    """The last look of a rule that does nothing but ask, and the state around it."""
    fixed = weighting.static([1.0, 2.0, 3.0])
    now, _ = run("static", steps=1, known=known, rule=Rule((), fixed.weights, fixed.update, asks))
    return now, now.extra["tasks"]["look"]


def task_losses(params, known=(0, 5)):
    key = jax.random.fold_in(KEY, 0)
    pairs, _ = loss(params, {}, batch_of(known), key, jnp.float32(0))
    means = {name: total / jnp.maximum(count, 1) for name, (total, count) in pairs.items()}
    return jnp.stack([sum(w * means[n] for n, w in own.items()) for own in TERMS.values()])


def test_later_losses_are_of_the_same_batch_and_draw_after_the_step():
    now, look = looked("later")
    np.testing.assert_allclose(look.later, task_losses(now.params), rtol=1e-5)
    begin = start_of(RULES["static"]())[0].params
    np.testing.assert_allclose(look.losses, task_losses(begin), rtol=1e-5)


def test_norms_are_of_each_gradient_for_the_trunk():
    _, look = looked("norms")
    slopes = jax.jacobian(task_losses)(start_of(RULES["static"]())[0].params)["encoder0"]
    squares = sum(jnp.sum(s**2, axis=tuple(range(1, s.ndim))) for s in slopes.values())
    np.testing.assert_allclose(look.norms, jnp.sqrt(squares), rtol=1e-5)


@pytest.mark.parametrize("name", ["uncertainty", "famo"])
def test_a_task_without_a_label_in_the_batch_keeps_its_weight(name):
    _, look = looked("", known=())
    np.testing.assert_array_equal(look.seen, [True, True, False])
    now, _ = run(name, known=())
    own = now.extra["tasks"]["state"]
    values = np.asarray(own if name == "uncertainty" else own["logits"])
    assert values[2] == 0
    assert (values[:2] != 0).all()


def test_a_step_that_is_not_finite_leaves_the_weights_alone():
    rule = RULES["uncertainty"]()
    now, sgd = start_of(rule)
    gradients, after = weigh.weigh(loss, TERMS, rule)
    made = step.make_step(gradients, sgd, optim.schedule("constant", peak=1e-4), after)
    compiled = step.map_step(made, step.data_mesh(1))
    before = jax.device_get(now)
    bad = batch_of()
    bad["x"] = bad["x"].at[0, 0].set(jnp.nan)
    new, means = compiled(now, bad, KEY)
    assert means["finite"] == 0
    for a, b in zip(jax.tree.leaves(before.extra), jax.tree.leaves(new.extra), strict=True):
        np.testing.assert_array_equal(a, b)
