"""Which units are chosen, and a pruned model in the place of the whole one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.deploy.prune import choice
from medjax.deploy.prune.pruned import Pruned
from medjax.deploy.prune.structure import analyse, cut, mask
from medjax.nn.unet import UNet

MODEL = UNet(
    heads={"seg": 2},
    widths=(8, 16),
    kernels=((3, 3, 3), (3, 3, 3)),
    strides=((1, 1, 1), (2, 2, 2)),
    norm="group",
    dropout=0.2,
    axis="replicas",
)
IMAGE = jax.random.normal(jax.random.key(1), (1, 4, 4, 4, 1))


@pytest.fixture(scope="module")
def params():
    shapes = jax.eval_shape(lambda k: MODEL.init(k, IMAGE, False), jax.random.key(0))["params"]
    leaves, tree = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    made = [0.3 * jax.random.normal(k, s.shape) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, made)


def give(params, image):
    return MODEL.apply({"params": params}, image, False)[0]


@pytest.fixture(scope="module")
def structure(params):
    return analyse(give, params, IMAGE)


def test_the_smallest_units_of_each_family_go(structure, params):
    scores = choice.magnitude(structure, params)
    removed = choice.choose(structure, scores, 0.5, multiple=1)
    for family in structure.families:
        left = [scores[u] for u in family.units if u not in removed]
        gone = [scores[u] for u in family.units if u in removed]
        assert len(gone) == round(len(family.units) / 2)
        assert not gone or max(gone) <= min(left)


def test_the_loss_feels_a_unit_as_much_as_it_changes_with_what_reads_it(structure, params):
    """Against a finite difference, in which the weights that read a unit shrink a little."""
    images = [IMAGE, IMAGE[:, ::-1] + 1]

    def loss(own, image):
        return jnp.square(give(own, image)["seg"]).mean()

    gradients = (jax.grad(loss)(params, image) for image in images)
    scores = choice.taylor(structure, params, gradients)
    assert scores.keys() == structure.units.keys()
    leaves, tree = jax.tree.flatten(params)
    step = 1e-3
    for unit in list(structure.units)[::5]:
        made = [np.array(leaf) for leaf in leaves]
        for member in structure.units[unit]:
            leaf, axis = made[member.leaf], member.axis
            if axis < leaf.ndim - 1:
                np.moveaxis(leaf, axis, 0)[list(member.entries)] *= 1 - step
        less = jax.tree.unflatten(tree, map(jnp.asarray, made))
        changes = [float(loss(params, i) - loss(less, i)) / step for i in images]
        assert scores[unit] == pytest.approx(np.mean(np.square(changes)), rel=0.1, abs=1e-6)


def test_what_is_left_is_a_multiple_and_never_nothing(structure, params):
    scores = choice.random(structure, seed=0)
    assert scores != choice.random(structure, seed=1)
    for row in choice.table(structure, choice.choose(structure, scores, 0.4)):
        assert row["left"] * row["channels"] % 8 == 0 or row["left"] == row["units"]
    for scope in ("family", "global"):
        removed = choice.choose(structure, scores, 0.99, multiple=1, scope=scope)
        assert all(row["left"] >= 1 for row in choice.table(structure, removed))
    assert not choice.choose(structure, scores, 0.0)
    kept = choice.choose(structure, scores, 0.5, multiple=1, exclude=("encoder0",))
    assert not any("encoder0" in path for path in structure.entries(kept))
    with pytest.raises(ValueError, match=r"ratio 1\.0"):
        choice.choose(structure, scores, 1.0)


@pytest.mark.parametrize("scope", ["family", "global"])
def test_families_lose_the_shares_of_their_own(structure, params, scope):
    scores = choice.magnitude(structure, params)
    shares = (("encoder0", 0.75), ("encoder", 0.0))  # the first that fits
    removed = choice.choose(structure, scores, 0.5, multiple=1, scope=scope, shares=shares)
    others = 0
    for row in choice.table(structure, removed):
        members = " ".join(row["members"])
        gone = row["units"] - row["left"]
        if "encoder0" in members:
            assert gone == round(row["units"] * 0.75)
        elif "encoder" in members:
            assert not gone
        else:
            others += gone
    assert others
    with pytest.raises(ValueError, match=r"ratio -0\.5"):
        choice.choose(structure, scores, 0.5, shares=(("encoder", -0.5),))


def test_a_row_tells_what_goes_with_its_family_alone(structure, params):
    removed = choice.choose(structure, choice.magnitude(structure, params), 0.5, multiple=1)
    rows = choice.table(structure, removed)
    whole = sum(leaf.size for leaf in jax.tree.leaves(params))
    for row, family in zip(rows, structure.families, strict=True):
        alone = removed & {*family.units}
        left = sum(leaf.size for leaf in jax.tree.leaves(cut(structure, params, alone)))
        assert row["parameters"] == pytest.approx(1 - left / whole)
        assert row["multiplications"] >= 0
        assert row["family"] in row["members"]
    assert any(row["family"].endswith("kernel[4]") for row in rows)


@pytest.mark.parametrize("scope", ["family", "global"])
def test_what_was_removed_before_counts_and_stays_away(structure, scope):
    scores = choice.random(structure, seed=0)
    first = choice.choose(structure, scores, 0.25, multiple=1, scope=scope)
    other = choice.random(structure, seed=1)
    second = choice.choose(structure, other, 0.5, multiple=1, scope=scope, gone=first)
    assert first < second
    assert len(second) == len(choice.choose(structure, other, 0.5, multiple=1, scope=scope))
    assert choice.choose(structure, other, 0.1, multiple=1, scope=scope, gone=first) == first


def test_a_global_choice_compares_units_with_their_own_family(structure):
    """One unit far above the others makes these small, in this family alone."""
    family = max(structure.families, key=lambda f: len(f.units))
    scores = dict.fromkeys(structure.units, 1.0)
    scores |= {unit: 100.0 if unit == family.units[0] else 1.0 for unit in family.units}
    ratio = (len(family.units) - 1) / len(structure.units)
    removed = choice.choose(structure, scores, ratio, multiple=1, scope="global")
    assert removed == set(family.units[1:])


@pytest.mark.parametrize("train", [False, True])
def test_a_pruned_model_stands_in_the_place_of_the_whole_one(structure, params, train):
    removed = choice.choose(structure, choice.magnitude(structure, params), 0.5, multiple=1)
    model = Pruned(MODEL, structure.entries(removed))
    made = jax.eval_shape(lambda key: model.init(key, IMAGE, False), jax.random.key(0))["params"]
    given = cut(structure, params, removed), mask(structure, params, removed)
    assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, given[0])
    mesh = jax.make_mesh((1,), ("replicas",))
    spec = jax.sharding.PartitionSpec()

    def compare(small, zeroed, image, key):
        outputs, aux = model.apply({"params": small}, image, train, rngs={"dropout": key})
        whole = MODEL.apply({"params": zeroed}, image, train, rngs={"dropout": key})
        return outputs["seg"], whole[0]["seg"], aux["features"]

    both = jax.shard_map(compare, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    seg, whole, features = jax.jit(both)(*given, IMAGE, jax.random.key(3))
    assert features.shape[-1] < MODEL.widths[-1]
    if train:  # dropout draws otherwise for fewer channels
        assert seg.shape == whole.shape
    else:
        np.testing.assert_allclose(seg, whole, rtol=0, atol=1e-5 * float(jnp.abs(whole).max()))


def test_a_pruned_model_is_not_bound_to_the_devices_that_it_first_met(structure, params):
    removed = choice.choose(structure, choice.random(structure, 0), 0.5, multiple=1)
    model, small = Pruned(MODEL, structure.entries(removed)), cut(structure, params, removed)
    axis, found = jax.sharding.PartitionSpec("replicas"), []
    for devices in (4, 2):
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("replicas",))

        def apply(image):
            return model.apply({"params": small}, image, False)[0]["seg"]

        spread = jax.shard_map(apply, mesh=mesh, in_specs=axis, out_specs=axis, check_vma=False)
        found.append(jax.jit(spread)(jnp.concatenate([IMAGE] * devices))[:2])
    np.testing.assert_allclose(*found, atol=1e-5)
