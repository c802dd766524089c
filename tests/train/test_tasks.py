"""What classes and objects teach: everything that is known, nothing that is not, and enough to learn by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.losses.segmentation import IGNORE
from medjax.nn.unet import UNet
from medjax.ops.boxes import decode
from medjax.train import tasks

SHAPE = (8, 16, 16)


def batch_of(seed=0, n=4):
    """One ball each; its class is whether it is bright."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    instances, image = np.zeros((n, *SHAPE), np.uint8), np.zeros((n, *SHAPE, 1), np.float32)
    bright = np.arange(n) % 2
    for i in range(n):
        centre = rng.uniform([2, 3, 3], [6, 13, 13])
        ball = ((grid - centre) ** 2).sum(-1) < 3.0**2
        instances[i], image[i, ..., 0] = ball * (i + 7), ball * (1 + bright[i])
    return {
        "image": jnp.asarray(image),
        "instances": jnp.asarray(instances),
        "target": jnp.asarray(bright, jnp.int32),
    }


def outputs_of(n=4, seed=0):
    keys = jax.random.split(jax.random.key(seed), 4)
    grid = (n, *(m // 2 for m in SHAPE))
    return {
        "cls": jax.random.normal(keys[0], (n, 2)),
        "det": {
            "heatmap": jax.random.normal(keys[1], (*grid, 1)),
            "offset": jax.random.normal(keys[2], (*grid, 3)),
            "size": jax.random.normal(keys[3], (*grid, 3)),
        },
    }


def test_what_is_not_known_of_a_sample_has_no_part():
    """A sample without class and objects leaves every sum and count as they are without it."""
    batch, outputs = batch_of(), outputs_of()
    batch["target"] = batch["target"].at[3].set(-1)
    batch["instances"] = batch["instances"].at[3].set(IGNORE)
    found = tasks.pairs(outputs, batch)
    first = jax.tree.map(lambda a: a[:3], (outputs, batch))
    for name, pair in tasks.pairs(*first).items():
        np.testing.assert_allclose(found[name], pair, rtol=1e-6)


def test_a_part_of_a_patch_that_nobody_searched_teaches_nothing_but_its_objects():
    """An unknown half has no part in the heatmap, but for the centres that are known to be in it."""
    batch, outputs = batch_of(), outputs_of()
    half, numbers = np.arange(SHAPE[2]) < SHAPE[2] // 2, np.asarray(batch["instances"])
    batch["instances"] = jnp.asarray(np.where(half & (numbers == 0), IGNORE, numbers), jnp.uint8)

    def loss(heatmap):
        made = {"det": outputs["det"] | {"heatmap": heatmap}}
        return tasks.pairs(made, batch)["heatmap_loss"][0]

    slope = np.asarray(jax.grad(loss)(outputs["det"]["heatmap"]))[..., 0]
    searched = ~half[::2]
    assert (slope[..., searched] != 0).all()
    unknown = slope[..., ~searched]
    count = tasks.pairs(outputs, batch)["heatmap_loss"][1]
    assert count == 4
    assert 0 < (unknown != 0).mean() < 0.2


def test_a_sample_without_objects_teaches_that_there_are_none():
    batch, outputs = batch_of(n=1), outputs_of(n=1)
    batch["instances"] = jnp.zeros_like(batch["instances"])
    total, count = tasks.pairs(outputs, batch)["heatmap_loss"]
    assert total > 0
    assert count == 0
    assert tasks.pairs(outputs, batch)["offset_loss"] == (0, 0)


def test_heads_that_are_not_there_are_not_asked():
    assert tasks.pairs({"seg": jnp.zeros(3)}, {}) == {}
    assert set(tasks.pairs({"cls": outputs_of()["cls"]}, batch_of())) == {
        "class_entropy",
        "accuracy",
    }


@pytest.mark.long
def test_objects_and_classes_can_be_learned():
    """After 60 steps on four balls the surest peak of each lies in its ball, and its box fits."""
    import optax

    model = UNet(
        {"cls": 2, "det": 1},
        (8, 16),
        ((3, 3, 3),) * 2,
        ((1, 1, 1), (2, 2, 2)),
    )
    batch, rule = batch_of(), optax.adam(0.02)
    params = model.init(jax.random.key(0), batch["image"], False)["params"]
    terms = {**tasks.TERMS["classification"], **tasks.TERMS["detection"]}

    def objective(params):
        outputs, _ = model.apply({"params": params}, batch["image"], True)
        found = tasks.pairs(outputs, batch)
        return sum(w * found[n][0] / jnp.maximum(found[n][1], 1) for n, w in terms.items()), found

    @jax.jit
    def step(carry, _):
        params, memory = carry
        slope, found = jax.grad(objective, has_aux=True)(params)
        updates, memory = rule.update(slope, memory)
        return (optax.apply_updates(params, updates), memory), found["accuracy"]

    (params, _), accuracy = jax.lax.scan(step, (params, rule.init(params)), length=60)
    assert accuracy[0][-1] == 4
    outputs, _ = model.apply({"params": params}, batch["image"], False)
    stride = 2
    for i in range(4):
        maps = {name: value[i] for name, value in outputs["det"].items()}
        found = decode(maps["heatmap"][..., 0], maps["offset"], maps["size"], most=1)
        inside = np.argwhere(np.asarray(batch["instances"][i]))
        centre = (np.asarray(found.centre[0]) + 0.5) * stride - 0.5
        np.testing.assert_allclose(centre, (inside.min(0) + inside.max(0)) / 2, atol=1.0)
        np.testing.assert_allclose(found.extent[0] * stride, np.ptp(inside, 0) + 1, rtol=0.35)
