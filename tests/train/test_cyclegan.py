"""The CycleGAN: who learns from what, the pool, devices, and a translation that can be learned."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.augment import chain
from medjax.nn.gan import Discriminator
from medjax.train import cyclegan, optim, state, step

PATCH = (1, 8, 8)
KEY = jax.random.key(3)
GENERATORS, JUDGES = ("g", "f"), ("d_source", "d_target")


class Affine(nn.Module):
    """A generator of two numbers: what it makes of an image is a line through (1/2, 1/2 + offset)."""

    @nn.compact
    def __call__(self, x):
        slope = self.param("slope", nn.initializers.zeros, ())
        offset = self.param("offset", nn.initializers.zeros, ())
        return slope * (x[..., :1] - 0.5) + 0.5 + offset


def networks(classes=0):
    return cyclegan.Networks(Affine(), Discriminator(4, 1), 0, 1, classes)


def batch_of(n, patch=PATCH, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "image": jnp.asarray(rng.normal(size=(n, *patch, 2)), jnp.float32),
        "label": jnp.asarray(rng.integers(0, 4, (n, *patch)), jnp.uint8),
        "index": jnp.arange(n, dtype=jnp.int32),
        "case": jnp.zeros(n, jnp.int32),
    }


def start(nets, rule, size=4, patch=PATCH, horizon=100):
    params = jax.jit(lambda key: nets.init(key, patch))(jax.random.key(1))
    made = state.create(params, rule, horizon=horizon, ema=False)
    pool = cyclegan.empty_pool(size, patch, max(nets.classes, 1))
    return made.replace(extra={"pool_source": pool, "pool_target": jax.tree.map(jnp.copy, pool)})


def make_step(nets, rule, weights, rate, schedule="constant"):
    loss = cyclegan.cyclegan(nets, chain(), identity="identity_target" in weights)
    gradients = step.differentiate(loss, weights)
    return step.make_step(gradients, rule, optim.schedule(schedule, peak=rate))


def means_of(nets, params, batch, **options):
    """The pairs of a loss on one replica, as means."""
    loss = cyclegan.cyclegan(nets, chain(), **options)
    extra = start(nets, optim.optimizer("sgd")).extra
    run = jax.vmap(lambda b: loss(params, extra, b, KEY, jnp.float32(0))[0], axis_name=step.AXIS)
    pairs = jax.jit(run)(jax.tree.map(lambda a: a[None], batch))
    return {name: float(total[0] / count[0]) for name, (total, count) in pairs.items()}


@pytest.mark.parametrize("side", ["generators", "discriminators"])
def test_neither_side_moves_the_other(side):
    nets = networks(classes=4)
    full = cyclegan.weights()
    weights = {k: v for k, v in full.items() if k.startswith("d_") == (side == "discriminators")}
    gradients = step.differentiate(cyclegan.cyclegan(nets, chain()), weights)
    now = start(nets, optim.optimizer("sgd"))
    run = jax.vmap(
        lambda b: gradients(now.params, now.extra, b, KEY, jnp.float32(0))[0], axis_name=step.AXIS
    )
    grads = jax.jit(run)(jax.tree.map(lambda a: a[None], batch_of(4)))
    moved = GENERATORS if side == "generators" else JUDGES
    for name, tree in grads.items():
        sizes = [float(jnp.abs(g).max()) for g in jax.tree.leaves(tree)]
        assert (min(sizes) > 0) if name in moved else (max(sizes) == 0), name


@pytest.mark.long
def test_generators_that_undo_each_other_have_no_cycle_loss():
    nets = networks()
    params = start(nets, optim.optimizer("sgd")).params
    params["g"] = {"slope": jnp.float32(2.0), "offset": jnp.float32(1.0)}  # 2 x + 1/2
    params["f"] = {"slope": jnp.float32(0.5), "offset": jnp.float32(-0.5)}
    batch = batch_of(4)
    found = means_of(nets, params, batch)
    assert found["cycle_source"] == pytest.approx(0, abs=1e-6)
    assert found["cycle_target"] == pytest.approx(0, abs=1e-6)
    target = np.asarray(batch["image"])[1::2, ..., 1]  # the odd rows are the target's
    assert found["identity_target"] == pytest.approx(np.abs(target + 0.5).mean(), rel=1e-5)
    assert "identity_target" not in means_of(nets, params, batch, identity=False)


def test_guarded_networks_see_each_class_and_nothing_of_the_unlabelled():
    label = jnp.array([[[[0, 1, 3, 255]]]])
    assert networks(4).masks(label)[0, 0, 0].tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 0],
    ]
    assert networks(0).masks(label).shape == (1, 1, 1, 4, 0)


def images(*values):
    return jnp.asarray(values, jnp.float32).reshape(-1, 1, 1, 1, 1)


def test_the_pool_first_fills_and_then_swaps_what_it_is_told_to():
    pool = cyclegan.empty_pool(3, (1, 1, 1), 1)
    always = jnp.ones(2, bool)
    pool, passed = cyclegan.exchange(pool, images(1, 2), always, jnp.array([0, 0]))
    assert passed.ravel().tolist() == [1, 2]
    pool, passed = cyclegan.exchange(pool, images(3, 4), always, jnp.array([0, 2]))
    assert passed.ravel().tolist() == [3, 3]  # the last place is taken, and given up at once
    assert pool["images"].ravel().tolist() == [1, 2, 4]
    kept, passed = cyclegan.exchange(pool, images(5, 6), ~always, jnp.array([0, 1]))
    assert passed.ravel().tolist() == [5, 6]
    assert kept["images"].ravel().tolist() == [1, 2, 4]
    assert int(kept["count"]) == 3


def test_half_of_the_images_are_swapped_with_every_place():
    n, size = 400, 20
    pool = {"images": images(*range(-size, 0)), "count": jnp.int32(size)}
    new = images(*range(1, n + 1))
    run = jax.vmap(cyclegan.from_pool, in_axes=(None, 0, 0, None), axis_name=step.AXIS)
    after, passed = run(pool, new[None], jnp.arange(n)[None], KEY)
    swapped = (passed[0] != new).ravel()
    assert 0.4 < float(swapped.mean()) < 0.6
    assert set(range(-size, 0)) <= set(passed.ravel().tolist())  # each was shown again
    seen = [*passed.ravel().tolist(), *after["images"].ravel().tolist()]
    assert sorted(seen) == [*range(-size, 0), *range(1, n + 1)]  # nothing is lost or doubled


@pytest.mark.long
def test_devices_share_one_pool_and_take_the_same_step():
    nets, rule = networks(classes=4), optim.optimizer("sgd", momentum=0.0)
    made = make_step(nets, rule, cyclegan.weights(identity=0.0), 0.1)
    found = []
    for devices in (1, 4):
        mesh = step.data_mesh(devices)
        compiled, now = step.map_step(made, mesh), step.replicate(start(nets, rule, size=6), mesh)
        for number in range(3):  # twelve images a side: the pool fills and then swaps
            now, _ = compiled(now, step.shard(batch_of(8, seed=number), mesh), KEY)
        shards = [s.data for s in now.extra["pool_target"]["images"].addressable_shards]
        for other in shards[1:]:
            np.testing.assert_array_equal(shards[0], other)
        found.append(jax.device_get((now.params, now.extra)))
    for a, b in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.long
def test_one_minus_the_image_is_learned_without_pairs():
    nets, rule = networks(), optim.optimizer("adamw", clip=0.0, beta1=0.5)
    patch, steps = (1, 16, 16), 240
    made = make_step(nets, rule, cyclegan.weights(cycle=1.0, identity=0.0), 0.01, "late_linear")
    compiled = step.map_step(made, step.data_mesh(1))
    now = start(nets, rule, size=50, patch=patch, horizon=steps)
    rng = np.random.default_rng(0)
    for number in range(steps):
        bright = (rng.random((8, *patch)) < 0.1).astype(np.float32)  # at one half, x would do too
        batch = {
            "image": np.stack([bright, 1 - bright], axis=-1),
            "label": np.zeros((8, *patch), np.uint8),
            "index": np.arange(8 * number, 8 * number + 8, dtype=np.int32),
        }
        now, _ = compiled(now, batch, KEY)
    for name in GENERATORS:
        assert float(now.params[name]["slope"]) == pytest.approx(-1, abs=0.1)
        assert float(now.params[name]["offset"]) == pytest.approx(0, abs=0.1)
