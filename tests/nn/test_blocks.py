from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.errors import UserError
from medjax.nn.blocks import ChannelDropout, Conv, Norm, Residual, Stage, Upsample, make_norm

# compiling is most of the time of these tests
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def reference(groups, x, params):
    """One sample in float64: groups of neighbouring channels normalised together over space."""
    v = np.asarray(x, np.float64).reshape(-1, groups, x.shape[-1] // groups)
    v = (v - v.mean((0, 2), keepdims=True)) / np.sqrt(v.var((0, 2), keepdims=True) + 1e-5)
    return v.reshape(x.shape) * np.asarray(params["scale"]) + np.asarray(params["bias"])


@pytest.mark.parametrize(("kind", "groups"), [("instance", 16), ("group", 2)])
def test_norm_equals_its_definition(kind, groups):
    x = 3 * normal((2, 3, 4, 5, 16)) + 2
    params = {"scale": normal((16,), 1), "bias": normal((16,), 2)}
    got = make_norm(kind)().apply({"params": params}, x)
    np.testing.assert_allclose(got, [reference(groups, v, params) for v in x], atol=1e-4)


def test_norm_of_channels_that_8_does_not_divide():
    x = normal((1, 2, 3, 4, 12))  # groups of 4
    got, variables = jit(Norm(8).init_with_output)(jax.random.key(0), x)
    wanted = reference(3, x[0], variables["params"])
    np.testing.assert_allclose(got[0], wanted, atol=1e-4)


def test_norm_of_a_constant_channel_is_its_bias():
    params = {"scale": jnp.ones(3), "bias": jnp.arange(3.0)}
    got = Norm().apply({"params": params}, jnp.full((1, 2, 2, 2, 3), 7.0))
    np.testing.assert_allclose(got, np.broadcast_to(np.arange(3.0), got.shape), atol=1e-2)


def test_norm_statistics_are_float32():
    x = (normal((1, 8, 16, 16, 2)) + 4).astype(jnp.bfloat16)
    got, _ = jit(Norm().init_with_output)(jax.random.key(0), x)
    wanted, _ = jit(Norm().init_with_output)(jax.random.key(0), x.astype(jnp.float32))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(got, wanted.astype(jnp.bfloat16))


def test_unknown_norm_names_the_key():
    with pytest.raises(UserError, match=r"config\.model\.norm: unknown norm 'batch'"):
        make_norm("batch")


def test_he_initialisation_keeps_the_size_of_rectified_features():
    x = nn.relu(normal((1, 12, 12, 12, 32)))
    y, _ = jit(Conv(64, (3, 3, 3)).init_with_output)(jax.random.key(1), x)
    inner = y[:, 1:-1, 1:-1, 1:-1]  # the border sees padding
    assert 0.8 < float(jnp.mean(inner**2)) < 1.2  # 2 / fan_in * fan_in * E[x^2] = 2 * 1/2


def test_residual_without_its_branch_is_the_identity_of_positive_features():
    block = Residual(4, (3, 3, 3))
    x = jnp.abs(normal((1, 3, 4, 5, 4)))
    params = jit(block.init)(jax.random.key(0), x)["params"]
    assert set(params) == {"Conv_0", "Conv_1", "Norm_0", "Norm_1"}  # no projection needed
    params["Norm_1"] = jax.tree.map(jnp.zeros_like, params["Norm_1"])
    np.testing.assert_array_equal(block.apply({"params": params}, x), x)


@pytest.mark.parametrize("features", [4, 6])
def test_only_the_first_block_of_a_stage_strides_and_projects(features):
    stage = Stage(Residual, features, (3, 3, 3), (1, 2, 2), depth=3)
    y, variables = jax.eval_shape(
        lambda: stage.init_with_output(jax.random.key(0), normal((1, 3, 4, 5, 4)))
    )
    assert y.shape == (1, 3, 2, 3, features)
    skips = ["skip" in variables["params"][f"Residual_{i}"] for i in range(3)]
    assert skips == [True, False, False]


def test_upsample_paints_each_voxel_on_its_own_block():
    up = Upsample(3, (1, 2, 2))
    x = normal((1, 2, 3, 4, 5))
    y, variables = jit(up.init_with_output)(jax.random.key(0), x)
    assert y.shape == (1, 2, 6, 8, 3)
    moved = jit(up.apply)(variables, x.at[0, 1, 2, 0].add(1.0))
    changed = np.argwhere(np.any(np.asarray(moved != y), axis=(0, 4)))
    np.testing.assert_array_equal(changed, [[1, 4, 0], [1, 4, 1], [1, 5, 0], [1, 5, 1]])


def test_bfloat16_convolution_keeps_float32_parameters():
    conv = partial(Conv, dtype=jnp.bfloat16)(4, use_bias=True)
    y, variables = jit(conv.init_with_output)(jax.random.key(0), normal((1, 2, 3, 4, 2)))
    assert y.dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}


def test_dropped_channels_do_not_hang_on_the_number_of_replicas():
    x = jnp.ones((8, 2, 2, 2, 64))

    def dropped(part):
        return ChannelDropout(0.25, "data").apply(
            {}, part, True, rngs={"dropout": jax.random.key(0)}
        )

    found = [
        np.asarray(jax.vmap(dropped, axis_name="data")(x.reshape(n, 8 // n, *x.shape[1:])))
        for n in (1, 2, 4)
    ]
    for other in found[1:]:
        np.testing.assert_array_equal(other.reshape(x.shape), found[0].reshape(x.shape))
    kept = found[0][0] > 0
    np.testing.assert_array_equal(found[0][0][kept], np.float32(1 / 0.75))
    assert (kept == kept[:, :1, :1, :1]).all()
    assert kept.mean() == pytest.approx(0.75, abs=0.08)
    assert len({row.tobytes() for row in kept[:, 0, 0, 0]}) == 8  # each sample has its own
    still = ChannelDropout(0.25, "data").apply({}, x, False)
    assert still is x
