from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxprs_in_params
from jax.sharding import PartitionSpec as P

from medjax.ops import gradients, planes
from medjax.ops.conv import conv, implementation
from medjax.ops.depth import depth_to_space

# compiling is most of the time of these tests
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

# input (b, d, h, w, c), output channels, kernel, strides, dilation
CASES = {
    "few channels": ((2, 5, 6, 7, 1), 3, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    "few channels, strided": ((1, 5, 6, 7, 4), 3, (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    "small plane": ((2, 4, 5, 6, 16), 8, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    "large plane": ((1, 3, 33, 32, 16), 8, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    "large odd plane, strided": ((1, 4, 65, 67, 16), 4, (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    "large plane, blocks uneven": ((1, 2, 37, 41, 40), 16, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    "strided in depth": ((1, 5, 4, 6, 4), 4, (3, 1, 1), (2, 1, 1), (1, 1, 1)),
    "plane kernel": ((2, 3, 8, 7, 4), 5, (1, 3, 3), (1, 1, 1), (1, 1, 1)),
    "large plane kernel": ((1, 2, 40, 33, 16), 16, (1, 3, 3), (1, 1, 1), (1, 1, 1)),
    "depth kernel": ((2, 5, 3, 4, 4), 5, (3, 1, 1), (1, 1, 1), (1, 1, 1)),
    "one voxel": ((2, 3, 4, 5, 6), 7, (1, 1, 1), (1, 1, 1), (1, 1, 1)),
    "one voxel, strided": ((2, 3, 4, 5, 6), 7, (1, 1, 1), (2, 2, 2), (1, 1, 1)),
    "two dimensions": ((2, 1, 9, 8, 3), 4, (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    "two dimensions, large": ((2, 1, 40, 40, 16), 16, (1, 7, 7), (1, 1, 1), (1, 1, 1)),
    "kernel above size": ((1, 2, 3, 4, 3), 4, (7, 5, 7), (1, 1, 1), (1, 1, 1)),
    "even kernel": ((1, 4, 5, 6, 3), 4, (2, 2, 4), (1, 1, 1), (1, 1, 1)),
    "even kernel, few outputs": ((1, 3, 5, 6, 70), 16, (2, 2, 4), (1, 1, 1), (1, 1, 1)),
    "few outputs": ((1, 3, 5, 6, 70), 16, (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    "strided, many channels": ((1, 4, 5, 6, 16), 70, (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    "patches": ((1, 4, 6, 8, 3), 4, (2, 2, 2), (2, 2, 2), (1, 1, 1)),
    "dilated": ((1, 6, 7, 8, 16), 4, (3, 3, 3), (1, 1, 1), (2, 2, 3)),
    "dilated, large plane": ((1, 3, 32, 33, 16), 4, (3, 3, 3), (1, 1, 1), (1, 2, 2)),
    "dilated, strided": ((1, 6, 7, 8, 4), 4, (3, 3, 3), (2, 2, 1), (2, 1, 2)),
}


@pytest.fixture(autouse=True)
def none_is_small(monkeypatch):
    """The arrays of these tests take the forms of real ones."""
    monkeypatch.setattr(planes, "SMALL", 0)


def arrays(shape, out, kernel, seed=0):
    draw = np.random.default_rng(seed)
    shapes = shape, (*kernel, shape[-1], out)
    return tuple(jnp.asarray(draw.normal(size=s), jnp.float32) for s in shapes)


def all_three(impl, x, kernel, strides, dilation):
    """The values and both gradients, under one compilation."""

    def run(x, kernel):
        y, pull = jax.vjp(lambda x, k: conv(x, k, strides, dilation, impl), x, kernel)
        weights = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return y, *pull(weights.astype(y.dtype))

    return jit(run)(x, kernel)


def assert_same(got, wanted, tolerance=1e-4):
    for a, b in zip(got, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize("case", CASES)
def test_fast_equals_native(case):
    shape, out, size, strides, dilation = CASES[case]
    x, kernel = arrays(shape, out, size)
    native = all_three("native", x, kernel, strides, dilation)
    assert_same(all_three("fast", x, kernel, strides, dilation), native)
    assert native[0].shape[1:4] == tuple(
        -(-n // s) for n, s in zip(shape[1:4], strides, strict=True)
    )


def test_random_geometries_equal_native(monkeypatch):
    """Thresholds drawn too, so that small arrays go through every form."""
    draw = np.random.default_rng(7)
    for seed in range(12):
        few = int(draw.integers(1, 6))
        monkeypatch.setattr(planes, "FEW_CHANNELS", few)
        monkeypatch.setattr(planes, "SMALL", int(draw.choice([0, 1000, 100_000])))
        monkeypatch.setattr(gradients, "TOTAL_BYTES", int(draw.choice([0, 1 << 21])))
        monkeypatch.setattr(planes, "LARGE_PLANE", int(draw.choice([1, 1000])))
        monkeypatch.setattr(gradients, "BLOCK_BYTES", int(draw.choice([256, 4096])))
        shape = (
            int(draw.integers(1, 3)),
            *draw.integers(1, 8, 3).tolist(),
            int(draw.integers(1, 6)),
        )
        size, strides = (
            tuple(draw.choice([1, 2, 3, 5], 3).tolist()),
            tuple(draw.integers(1, 3, 3).tolist()),
        )
        dilation = tuple(draw.integers(1, 3, 3).tolist()) if seed % 3 == 0 else (1, 1, 1)
        x, kernel = arrays(shape, 3, size, seed)
        native = all_three("native", x, kernel, strides, dilation)
        assert_same(all_three("fast", x, kernel, strides, dilation), native)


def test_native_is_xla_same_padding():
    x, kernel = arrays((1, 5, 6, 7, 2), 3, (3, 4, 3))
    layout = ("NDHWC", "DHWIO", "NDHWC")
    wanted = lax.conv_general_dilated(x, kernel, (2, 1, 2), "SAME", dimension_numbers=layout)
    np.testing.assert_array_equal(conv(x, kernel, (2, 1, 2), impl="native"), wanted)


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for inner in jaxprs_in_params(equation.params):
            yield from primitives(inner)


def ranks(function, *arguments):
    """The number of spatial axes of every convolution in the graph."""
    found = primitives(jax.make_jaxpr(function)(*arguments).jaxpr)
    return [e.outvars[0].aval.ndim - 2 for e in found if e.primitive.name == "conv_general_dilated"]


def test_the_switch_is_read_at_trace_time():
    x, kernel = arrays((1, 4, 5, 6, 2), 3, (3, 3, 3))
    with implementation("native"):
        assert ranks(lambda x, k: conv(x, k), x, kernel) == [3]
        assert set(ranks(lambda x, k: conv(x, k, impl="fast"), x, kernel)) == {2}
        with implementation("fast"):
            assert set(ranks(lambda x, k: conv(x, k), x, kernel)) == {2}
        assert ranks(lambda x, k: conv(x, k), x, kernel) == [3]
    auto = {2} if jax.default_backend() == "cpu" else {3}
    assert set(ranks(lambda x, k: conv(x, k), x, kernel)) == auto


def test_bfloat16_stays_bfloat16_and_sums_in_float32():
    x, kernel = arrays((1, 3, 32, 32, 16), 4, (3, 3, 3))
    wide = all_three("fast", x, kernel, (1, 1, 1), (1, 1, 1))
    half = all_three(
        "fast", x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16), (1, 1, 1), (1, 1, 1)
    )
    assert {a.dtype for a in half} == {jnp.dtype(jnp.bfloat16)}
    assert_same([a.astype(jnp.float32) for a in half], wide, 0.01)


@pytest.mark.parametrize("case", ["few channels", "small plane", "large plane"])
def test_vmap_equals_a_loop(case):
    """Per-example gradients too: each example sees its own batch of one."""
    shape, out, size, strides, dilation = CASES[case]
    x, kernel = arrays((3, *shape), out, size)

    def run(x):
        return all_three("fast", x, kernel, strides, dilation)

    looped = [jnp.stack(a) for a in zip(*[run(v) for v in x], strict=True)]
    assert_same(jax.vmap(run)(x), looped)


def test_remat_and_shard_map_change_nothing():
    x, kernel = arrays((4, 3, 32, 32, 16), 4, (3, 3, 3))

    def gradients(x, kernel, wrap=lambda f: f):
        return jax.grad(
            lambda *a: jnp.sum(wrap(lambda x, k: conv(x, k, impl="fast"))(*a) ** 2), (0, 1)
        )(x, kernel)

    wanted = jit(gradients)(x, kernel)
    assert_same(jit(lambda *a: gradients(*a, wrap=jax.checkpoint))(x, kernel), wanted)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def local(x, kernel):
        dx, dkernel = gradients(x, kernel)
        return dx, lax.psum(dkernel, "data")

    spread = jax.shard_map(
        local, mesh=mesh, in_specs=(P("data"), P()), out_specs=(P("data"), P()), check_vma=False
    )
    assert_same(jit(spread)(x, kernel), wanted)


def test_depth_to_space_is_the_transposed_convolution_of_kernel_equal_to_stride():
    x, kernel = arrays((2, 2, 3, 4, 5), 6, (2, 3, 1))
    # lax.conv_transpose correlates: with the flip each input voxel paints the kernel as it stands
    layout = ("NDHWC", "DHWIO", "NDHWC")
    flipped = np.flip(kernel, (0, 1, 2))
    wanted = lax.conv_transpose(x, flipped, (2, 3, 1), "VALID", dimension_numbers=layout)
    dense = np.einsum("bdhwc,xyzco->bdhwxyzo", x, kernel).reshape(2, 2, 3, 4, -1)
    np.testing.assert_allclose(depth_to_space(jnp.asarray(dense), (2, 3, 1)), wanted, atol=1e-5)


def test_depth_to_space_has_no_transpose_above_six_axes():
    found = primitives(
        jax.make_jaxpr(lambda x: depth_to_space(x, (2, 2, 2)))(jnp.ones((1, 2, 2, 2, 16))).jaxpr
    )
    axes = [e.outvars[0].aval.ndim for e in found if e.primitive.name == "transpose"]
    assert 4 < max(axes) <= 6
