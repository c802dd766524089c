"""The step over meshes of replicas and of neighbours that share a patch: the same losses as on one device."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.augment.chain import chain
from medjax.data.augment.intensity import gamma, intensity, low_resolution
from medjax.data.augment.spatial import spatial
from medjax.nn.unet import UNet
from medjax.train import optim, state, step, supervised

PATCH, CASES, CLASSES = (8, 16, 16), 8, 3
KEY = jax.random.key(7)


def batch_of():
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(CASES, *PATCH, 2)).astype(np.float32),
        "label": rng.integers(0, CLASSES, (CASES, *PATCH)).astype(np.uint8),
        "index": np.arange(CASES, dtype=np.int32),
    }


def losses(devices, space, *, steps):
    """Losses of SGD, and the mean weights at the end, of a U-Net with augmentation of both kinds."""
    model = UNet({"seg": CLASSES}, (4, 8), [(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)], norm="group")
    rule, rate = optim.optimizer("sgd", momentum=0.9, clip=0.0), optim.schedule("poly", peak=0.1)
    moves = spatial(PATCH, (1.0,) * 3, probability_rotation=0.5)
    augment = chain(moves, intensity(low_resolution(0.5), gamma(0.5)))
    segmenter = supervised.Segmenter(model, [[k] for k in range(CLASSES)], exclusive=True)
    gradients = step.differentiate(supervised.supervised(segmenter, augment), supervised.WEIGHTS)
    made = step.make_step(gradients, rule, rate, step.average)
    params = model.init(jax.random.key(1), jnp.zeros((1, *PATCH, 2)), False)["params"]
    mesh = step.data_mesh(devices, space)
    now = step.replicate(state.create(params, rule, horizon=steps), mesh)
    compiled, found = step.map_step(made, mesh), []
    for _ in range(steps):
        now, means = compiled(now, step.shard(batch_of(), mesh), KEY)
        found.append(float(means["loss"]))
    leaves = jax.tree.leaves(jax.device_get(now.extra["ema"]))
    return found, np.concatenate([leaf.ravel() for leaf in leaves]).tolist()


def test_two_replicas_of_two_neighbours_agree_with_one_device():
    one, weights = losses(1, 1, steps=3)
    shared, same = losses(4, 2, steps=3)
    np.testing.assert_allclose(shared, one, atol=1e-5)
    np.testing.assert_allclose(same, weights, atol=1e-5)
    assert abs(one[-1] - one[0]) > 1e-3  # it does learn


def test_neighbours_hold_a_part_of_what_the_network_computes():
    def largest(space):
        mesh = step.data_mesh(4, space)

        def stages(state, batch, key):
            model = UNet({"seg": CLASSES}, (4, 8), [(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)])
            logits = model.apply(state, batch["image"], False)[0]["seg"]
            return jax.lax.pmean(jnp.mean(logits**2), step.AXIS)

        model = UNet({"seg": CLASSES}, (4, 8), [(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)])
        params = model.init(KEY, jnp.zeros((1, *PATCH, 2)), False)
        compiled = step.map_step(stages, mesh)
        batch = step.shard({"image": batch_of()["image"][: 4 // space]}, mesh)
        made = compiled.lower(step.replicate(params, mesh), batch, KEY).compile()
        return made.memory_analysis().temp_size_in_bytes

    assert largest(4) < 0.5 * largest(1)


@pytest.mark.long
def test_eight_devices_in_every_mesh_agree_over_twenty_steps():
    script = (
        "import jax, json, sys; jax.config.update('jax_num_cpu_devices', 8);"
        "sys.path.insert(0, 'tests/train'); from test_meshes import losses;"
        "print(json.dumps([losses(*mesh, steps=20)[0] for mesh in json.loads(sys.argv[1])]))"
    )
    meshes = [(1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 4)]
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(meshes)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    one, *others = json.loads(done.stdout.splitlines()[-1])
    for found in others:
        np.testing.assert_allclose(found, one, atol=1e-5)
