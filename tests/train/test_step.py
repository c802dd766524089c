"""The step: one device, several, `vmap`, `jax.pmap`, in parts, with bad numbers; EMA and schedules."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.augment import Augmentation
from medjax.errors import UserError
from medjax.train import optim, state, step, supervised

GROUPS = ((0,), (1,), (2,))
KEY = jax.random.key(7)
still = Augmentation(
    sample=lambda key, batch: jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(key, i)))(
        batch["index"]
    ),
    apply=lambda drawn, batch: {
        **batch,
        "image": batch["image"] + 0.1 * drawn[:, None, None, None, None],
    },
    move=lambda drawn, array: array,
    invert=lambda drawn, array: array,
)


class Tiny(nn.Module):
    """Two convolutions with the interface of a model."""

    @nn.compact
    def __call__(self, image, train, present=None):
        x = nn.tanh(nn.Conv(4, (3, 3, 3))(image))
        return {"seg": nn.Conv(3, (1, 1, 1))(x)}, {}


def batch_of(n=8):
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, (n, 4, 4, 4))
    label[1, :2] = 255  # replicas count different numbers of voxels
    return {
        "image": jnp.asarray(rng.normal(size=(n, 4, 4, 4, 1)), jnp.float32),
        "label": jnp.asarray(label, jnp.int32),
        "index": jnp.arange(n, dtype=jnp.int32),
        "case": jnp.zeros(n, jnp.int32),
    }


def parts(*, accumulate=1, batch_dice=False, ema=True, name="sgd", horizon=20):
    model, rule = Tiny(), optim.optimizer(name, momentum=0.9, clip=0.0)
    segmenter = supervised.Segmenter(model, GROUPS, exclusive=True, batch_dice=batch_dice)
    loss = supervised.supervised(segmenter, still)
    gradients = step.differentiate(loss, supervised.WEIGHTS, accumulate=accumulate)
    rate = optim.schedule("poly", peak=0.1)
    made = step.make_step(gradients, rule, rate, step.average if ema else None)
    params = model.init(jax.random.key(1), jnp.zeros((1, 4, 4, 4, 1)), False)["params"]
    return made, state.create(params, rule, horizon=horizon, ema=ema)


def run(devices, *, steps=3, **options):
    made, start = parts(**options)
    mesh = step.data_mesh(devices)
    compiled, now = step.map_step(made, mesh), step.replicate(start, mesh)
    losses = []
    for _ in range(steps):
        now, means = compiled(now, step.shard(batch_of(), mesh), KEY)
        losses.append(float(means["loss"]))
    return losses, jax.device_get(now)


def close(a, b, tolerance=1e-6):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_1_2_and_4_devices_agree(batch_dice):
    losses, one = run(1, batch_dice=batch_dice)
    for devices in (2, 4):
        others, many = run(devices, batch_dice=batch_dice)
        np.testing.assert_allclose(losses, others, rtol=1e-6)
        close(one.params, many.params)


@pytest.mark.long
def test_pmap_and_vmap_of_the_same_body_agree():
    _, one = run(1, steps=1)
    made, start = parts()
    split = jax.tree.map(lambda a: a.reshape(4, 2, *a.shape[1:]), batch_of())
    mapped = jax.pmap(made, axis_name=step.AXIS, in_axes=(None, 0, None), out_axes=None)
    close(one.params, jax.device_get(mapped(start, split, KEY)[0].params))
    rows, _ = jax.vmap(made, axis_name=step.AXIS, in_axes=(None, 0, None))(start, split, KEY)
    close(one.params, jax.tree.map(lambda a: a[0], rows.params))


@pytest.mark.parametrize("devices", [1, 2])
def test_accumulation_equals_the_whole_batch(devices):
    losses, whole = run(devices)
    in_parts, split = run(devices, accumulate=4)
    np.testing.assert_allclose(losses, in_parts, rtol=1e-5)
    close(whole.params, split.params)


def test_the_step_number_changes_what_is_drawn_and_the_seed_fixes_it():
    assert run(1)[0] == run(1)[0]
    made, start = parts()
    mesh = step.data_mesh(1)
    compiled = step.map_step(made, mesh)
    first = compiled(step.replicate(start, mesh), batch_of(), KEY)[1]["loss"]
    _, start = parts()  # the first was given away
    later = compiled(step.replicate(start.replace(step=jnp.int32(5)), mesh), batch_of(), KEY)[1][
        "loss"
    ]
    assert float(first) != float(later)


def test_a_step_that_is_not_finite_changes_nothing_but_the_number():
    made, start = parts()
    mesh = step.data_mesh(1)
    bad = batch_of()
    bad["image"] = bad["image"].at[0, 0, 0, 0, 0].set(jnp.nan)
    after, means = step.map_step(made, mesh)(step.replicate(start, mesh), bad, KEY)
    assert float(means["finite"]) == 0
    assert int(after.step) == 1
    _, fresh = parts()
    close((fresh.params, fresh.opt, fresh.extra), (after.params, after.opt, after.extra), 0)


def test_the_running_mean_is_free_of_its_start():
    made, start = parts(horizon=1000)
    mesh = step.data_mesh(1)
    compiled, now = step.map_step(made, mesh), step.replicate(start, mesh)
    seen = []
    for _ in range(4):
        now, _ = compiled(now, batch_of(), KEY)
        seen.append(jax.device_get(now.params))
    mean = jax.tree.map(lambda *p: np.mean(p, axis=0), *seen)
    close(mean, now.extra["ema"])


def test_the_step_is_compiled_once_whatever_the_horizon():
    made, start = parts()
    mesh, traces = step.data_mesh(1), []

    def counted(*arguments):
        traces.append(1)
        return made(*arguments)

    compiled = step.map_step(counted, mesh)
    for horizon in (10, 20):
        compiled(step.replicate(start.replace(horizon=jnp.int32(horizon)), mesh), batch_of(), KEY)
        _, start = parts()
    assert len(traces) == 1


def test_late_linear_stays_for_half_the_way():
    rate = optim.schedule("late_linear", peak=2.0)
    found = [float(rate(jnp.int32(i), jnp.int32(100))) for i in (0, 25, 50, 75, 90, 100)]
    np.testing.assert_allclose(found, [2.0, 2.0, 2.0, 1.0, 0.4, 0.0], atol=1e-6)


@pytest.mark.parametrize("name", ["poly", "cosine", "constant", "late_linear"])
def test_schedules_rise_to_the_peak_and_end(name):
    rate = optim.schedule(name, peak=2.0, warmup=4)
    values = [float(rate(jnp.int32(i), jnp.int32(100))) for i in range(101)]
    assert values[0] == pytest.approx(2 / 5)
    assert max(values) == pytest.approx(2.0)
    assert values[100] == pytest.approx(2.0 if name == "constant" else 0.0, abs=1e-6)
    assert all(v > 0 for v in values[:100])


def test_unknown_names_are_the_users_fault():
    with pytest.raises(UserError, match=r"train\.schedule"):
        optim.schedule("linear", peak=1.0)
    with pytest.raises(UserError, match=r"train\.optimizer"):
        optim.optimizer("lamb")


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_optimizers_go_downhill_as_optax_does(name):
    import optax

    rate, decay = 0.1, 0.01
    ours = optim.optimizer(name, weight_decay=decay, clip=0.0, momentum=0.9, beta1=0.5)
    theirs = {
        "sgd": optax.chain(
            optax.add_decayed_weights(decay), optax.sgd(rate, momentum=0.9, nesterov=True)
        ),
        "adamw": optax.adamw(rate, b1=0.5, weight_decay=decay),
    }[name]
    p = q = jnp.array([1.0, -2.0])
    a, b = ours.init(p), theirs.init(q)
    for _ in range(3):
        u, a = ours.update(2 * p, a, p)
        v, b = theirs.update(2 * q, b, q)
        p, q = p + rate * u, optax.apply_updates(q, v)
    np.testing.assert_allclose(p, q, rtol=1e-6)
