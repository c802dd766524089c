"""Pruning is exact: the smaller program gives what the whole one gives whose removed entries are zero."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from medjax.deploy.prune.smaller import smaller
from medjax.deploy.prune.structure import analyse, cut, grow, mask, operations
from medjax.errors import UserError
from medjax.nn.gan import Discriminator, Generator
from medjax.nn.twin import Twin
from medjax.nn.unet import UNet


def drawn(shapes):
    """Random parameters of these shapes."""
    leaves, tree = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    made = [0.3 * jax.random.normal(k, s.shape) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, made)


def initial(model, *args):
    """Random variables of a module, without those that only gradients are asked of."""
    shapes = jax.eval_shape(lambda k: model.init(k, *args), jax.random.key(0))
    return drawn({name: tree for name, tree in shapes.items() if name != "perturbations"})


def some(structure, rng):
    """Units of each family at random, never all of it."""
    chosen = [
        rng.choice(f.units, rng.integers(1, len(f.units)), replace=False)
        for f in structure.families
        if len(f.units) > 1
    ]
    return frozenset(np.concatenate(chosen).tolist())


def check(fn, params, *args, families=1):
    """Compares both programs for units at random; gives the structure."""
    structure = analyse(fn, params, *args)
    assert len(structure.families) >= families
    removed = some(structure, np.random.default_rng(1))
    assert structure.removed(structure.entries(removed)) == removed
    small = cut(structure, params, removed)
    assert jax.tree.map(jnp.shape, small) != jax.tree.map(jnp.shape, params)
    masked = mask(structure, params, removed)
    jax.tree.map(np.testing.assert_array_equal, grow(structure, small, removed), masked)
    assert operations(structure, removed) <= operations(structure)
    whole, less = jax.jit(
        lambda p, q, *a: (fn(p, *a), smaller(structure, removed)(q, *a)),
    )(masked, small, *args)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(less), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1.0, float(jnp.abs(a).max())))
    return structure


def check_model(model, image, *args, families=1):
    """The same for what a linen module gives, without its intermediates."""
    params = initial(model, image, *args)

    def fn(p, x):
        found = model.apply(p, x, *args)
        return found[0] if isinstance(found, tuple) else found

    return check(fn, params, image, families=families)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


IMAGE = jax.random.normal(jax.random.key(1), (1, 4, 8, 8, 2))


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("block", "norm", "attention", "act", "families"),
    [
        pytest.param("plain", "instance", "none", "leaky_relu", 7, marks=LONG),
        pytest.param("residual", "group", "sca", "silu", 5, marks=LONG),
        ("hybrid", "instance", "sca", "leaky_relu", 17),
    ],
)
def test_unets_are_pruned_exactly(block, norm, attention, act, families):
    model = UNet(
        heads={"seg": 3} if block == "hybrid" else {"seg": 3, "cls": 2, "det": 1},
        widths=(16, 32) if norm == "group" else (8, 16),  # a group is 8 channels; one must stay
        kernels=((1, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (2, 2, 2)),
        block=block,
        norm=norm,
        attention=attention,
        act=act,
        remat=block == "hybrid",
    )
    found = check_model(model, IMAGE, False, families=families)
    assert not found.coupling.unknown
    kernels = {path for (path, axis) in found.stays if path.endswith("kernel") and axis == 4}
    assert {path.split("/")[1] for path in kernels} <= {"det", "seg"}, kernels


@pytest.mark.long
def test_a_generator_is_pruned_exactly():
    assert not check_model(Generator(width=4, blocks=1), IMAGE, families=3).coupling.unknown


def test_discriminators_and_twins_are_pruned_exactly():
    assert not check_model(Discriminator(width=4, layers=1), IMAGE, families=2).coupling.unknown
    one = {"heads": {"seg": 2}, "widths": (4,), "kernels": ((1, 3, 3),), "strides": ((1, 1, 1),)}
    found = check_model(Twin(lambda name: UNet(**one, name=name)), IMAGE, False)
    assert all("first" in path for family in found.families for path, _ in family.where)


class Attention(nn.Module):
    """Windows, heads, layer norm and what follows, with a residual stream."""

    @nn.compact
    def __call__(self, x):
        h = nn.Conv(8, (2, 2, 2), strides=(2, 2, 2))(x).reshape(x.shape[0], -1, 8)
        h = h + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(h))
        q, k, v = jnp.split(nn.Dense(12)(nn.LayerNorm()(h)), 3, -1)
        h = h + nn.Dense(8)(nn.softmax(q @ k.swapaxes(-1, -2) / 2) @ v)
        h = h + nn.Dense(8)(nn.gelu(nn.Dense(16)(nn.LayerNorm(use_fast_variance=False)(h))))
        return nn.Dense(3)(h.mean(1))


class Gates(nn.Module):
    """Squeeze and excitation, depthwise and grouped convolutions, transposed ones, pooling, resizing."""

    @nn.compact
    def __call__(self, x):
        y = nn.relu(nn.GroupNorm(group_size=4, num_groups=None)(nn.Conv(8, (3, 3, 3))(x)))
        y = (
            y
            * nn.sigmoid(nn.Dense(8)(nn.relu(nn.Dense(4)(y.mean((1, 2, 3))))))[:, None, None, None]
        )
        z = nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3, 3), feature_group_count=8)(y))
        z = nn.Conv(12, (1, 1, 1), feature_group_count=2)(nn.silu(z))
        z = nn.max_pool(nn.relu(nn.Conv(8, (1, 1, 1))(z)), (2, 2, 2), (2, 2, 2))
        up = nn.ConvTranspose(8, (2, 2, 2), strides=(2, 2, 2))(z)
        far = jax.image.resize(z, (*y.shape[:4], z.shape[-1]), "trilinear")
        return nn.Conv(3, (1, 1, 1))(jnp.concatenate([y, up, y, far], -1))


class Standardised(nn.Module):
    """Weights that are standardised before they are used."""

    @nn.compact
    def __call__(self, x):
        for i in range(2):
            shape = (3, 3, 3, x.shape[-1], 8)
            k = self.param(f"k{i}", nn.initializers.he_normal(), shape)
            k = (k - k.mean((0, 1, 2, 3), keepdims=True)) * lax.rsqrt(
                k.var((0, 1, 2, 3), keepdims=True) + 1e-5
            )
            numbers = ("NDHWC", "DHWIO", "NDHWC")
            x = nn.relu(
                lax.conv_general_dilated(x, k, (1, 1, 1), "SAME", dimension_numbers=numbers)
            )
        return nn.Dense(2)(x)


@pytest.mark.parametrize(
    ("module", "families"), [(Attention(), 6), (Gates(), 4), (Standardised(), 1)]
)
def test_other_networks_are_pruned_exactly(module, families):
    assert not check_model(module, IMAGE, families=families).coupling.unknown


def dense(rng, *shape):
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def test_loops_and_branches_are_looked_into(rng):
    params = {"in": dense(rng, 2, 6), "turns": dense(rng, 4, 6, 6), "out": dense(rng, 6, 2)}
    params["gain"] = dense(rng, 4, 6)
    x = dense(rng, 5, 2)

    def fn(p, x):
        def turn(h, own):
            weight, gain = own
            return jnp.tanh(h @ weight) * gain[None], h.sum(-1)

        h, sums = lax.scan(turn, jnp.tanh(x @ p["in"]), (p["turns"], p["gain"]))
        h = lax.cond(x[0, 0] > 0, lambda h: h * 2, lambda h: -h, h)
        return h @ p["out"], sums

    found = check(fn, params, x)
    (family,) = found.families
    assert ("turns", 0) in found.stays
    assert len(family.units) == 6
    # a carry that is zero before the first turn alone must not be taken for zero
    check_frozen = analyse(
        lambda p, x: lax.scan(
            lambda h, w: (jnp.exp(h * w[None]), h.sum(-1)), x @ p["in"], p["gain"]
        )[1],
        {k: params[k] for k in ("in", "gain")},
        x,
    )
    assert not check_frozen.families


def test_maxima_positions_and_constants_are_kept_right(rng):
    weights, x = {"a": dense(rng, 3, 7), "b": dense(rng, 7, 2)}, dense(rng, 5, 3)
    fixed = np.arange(1.0, 8.0, dtype=np.float32)

    def fn(p, x):
        h = x @ p["a"]
        low, high = h.min(-1), -1 - jnp.max(h - 0 * h, -1)
        places = h * (lax.iota(jnp.float32, 7) * fixed)[None]
        return places[:, ::-1] @ p["b"][::-1], low, high

    check(fn, weights, x)


@pytest.mark.parametrize("act", [jax.nn.relu, jax.nn.sigmoid])
def test_what_may_not_be_zero_is_not_summed_over(act, rng):
    """The product of two activations, which sigmoids do not make zero."""
    params = {"q": dense(rng, 3, 8), "k": dense(rng, 3, 8)}

    def fn(p, x):
        return act(x @ p["q"]) @ act(x @ p["k"]).T

    x = dense(rng, 4, 3)
    if act is jax.nn.relu:
        check(fn, params, x)
    else:
        assert "may not be zero" in analyse(fn, params, x).stays["q", 1]


def test_what_is_spread_over_an_axis_is_not_zero_along_it(rng):
    """A bias of rows beside columns that can be removed."""
    params = {"rows": dense(rng, 4), "w": dense(rng, 3, 6), "out": dense(rng, 6, 2)}

    def fn(p, x):
        grid = jnp.exp(x @ p["w"]) * jnp.broadcast_to(p["rows"][:, None], (4, 6))
        return grid.sum(-1), grid @ p["out"]

    found = analyse(fn, params, dense(rng, 4, 3))
    assert "mixes it" in found.stays["w", 1]


def test_an_unknown_primitive_freezes_what_it_touches_and_is_named(rng):
    params = {"a": dense(rng, 3, 6), "b": dense(rng, 6, 6), "c": dense(rng, 6, 2)}
    found = check(lambda p, x: jnp.sort(x @ p["a"], -1) @ p["b"] @ p["c"], params, dense(rng, 4, 3))
    assert found.coupling.unknown == ["sort"]
    assert found.stays["a", 1] == "sort is unknown"
    assert [family.where[0] for family in found.families] == [("b", 1)]


def test_what_is_left_can_be_trained_at_any_size(rng):
    model = UNet(
        heads={"seg": 2},
        widths=(4, 8),
        kernels=((3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (2, 2, 2)),
        dropout=0.2,
    )
    params = initial(model, IMAGE, False)
    found = analyse(lambda p, x: model.apply(p, x, False)[0], params, IMAGE)
    entries = found.entries(some(found, rng))

    def trained(p, x, key):
        return model.apply(p, x, True, rngs={"dropout": key})

    larger = jnp.zeros((2, 6, 8, 10, 2))
    other = analyse(trained, params, larger, jax.random.key(1), shrinks=("1/features",))
    removed = other.removed(entries)
    small = cut(other, params, removed)
    slopes = jax.eval_shape(
        jax.grad(lambda p: smaller(other, removed)(p, larger, jax.random.key(1))[0]["seg"].sum()),
        small,
    )
    assert jax.tree.map(jnp.shape, slopes) == jax.tree.map(jnp.shape, small)


def test_entries_that_are_no_units_are_refused(rng):
    params = {"a": dense(rng, 3, 6), "b": dense(rng, 6, 2)}
    found = analyse(lambda p, x: x @ p["a"] @ p["b"], params, dense(rng, 4, 3))
    assert found.removed({"a": {"1": [2]}, "b": {"0": [2]}})
    for wrong in ({"a": {"1": [2]}}, {"a": {"0": [1]}}, {"c": {"0": [1]}}):
        with pytest.raises(UserError, match="no units of this network"):
            found.removed(wrong)
