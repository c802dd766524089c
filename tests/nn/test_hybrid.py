from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.errors import UserError
from medjax.nn.hybrid import HybridConv
from medjax.ops.conv import implementation

# compiling is most of the time of these tests
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def no_norm():
    """Statistics over space would couple the slices."""
    return lambda x: x


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def drawn(block, x):
    """Random parameters (compiling an initialiser takes longer)."""
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x))
    return jax.tree.map(lambda a: normal(a.shape, a.size), shapes)


@pytest.mark.parametrize(
    ("flags", "reached"),
    [
        ({"vol3d": False, "depth_ctx": False}, {3}),
        ({"slice2d": False, "depth_ctx": False}, {2, 3, 4}),
        ({"depth_ctx": False}, {2, 3, 4}),
        ({"vol3d": False}, {0, 1, 2, 3, 4, 5, 6}),
    ],
)
def test_how_far_each_branch_sees_along_depth(flags, reached):
    block = HybridConv(8, (3, 3, 3), norm=no_norm, **flags)
    x = normal((1, 7, 4, 5, 3))
    apply, variables = jit(block.apply), drawn(block, x)
    with implementation("native"):  # in tiles of slices, a slice changes its neighbours' rounding
        y, moved = (
            apply(variables, x),
            apply(variables, x + (jnp.arange(7) == 3).reshape(1, 7, 1, 1, 1)),
        )
    assert set(np.flatnonzero(np.any(np.asarray(moved != y), axis=(0, 2, 3, 4)))) == reached


@pytest.mark.parametrize("vol3d", [False, True])
def test_slices_and_context_know_no_depth_order_and_the_volume_does(vol3d):
    x = normal((1, 6, 4, 5, 8))
    order = np.array([3, 1, 0, 5, 4, 2])
    block = HybridConv(8, (3, 3, 3), norm=no_norm, vol3d=vol3d)
    apply, variables = jit(block.apply), drawn(block, x)
    y, shuffled = apply(variables, x), apply(variables, x[:, order])
    assert bool(np.allclose(shuffled, y[:, order], rtol=1e-3, atol=1e-3)) is not vol3d


def test_ratio_shares_the_features_between_slices_and_volume():
    x = normal((1, 2, 4, 4, 4))
    block = HybridConv(8, (3, 3, 3), ratio=0.25)
    params = jax.eval_shape(lambda: block.init(jax.random.key(0), x))["params"]
    widths = {k: v["kernel"].shape for k, v in params.items() if "kernel" in v}
    assert widths == {
        "slice": (1, 3, 3, 4, 2),
        "volume": (3, 3, 3, 4, 6),
        "context": (1, 3, 3, 4, 2),
        "mixer": (1, 1, 1, 10, 8),
        "skip": (1, 1, 1, 4, 8),
    }


def test_strides_and_odd_sizes():
    block = HybridConv(8, (3, 3, 3), (2, 2, 1))
    x = normal((2, 5, 7, 4, 8))
    y = jit(block.apply)(drawn(block, x), x)
    assert y.shape == (2, 3, 4, 4, 8)


@pytest.mark.parametrize("flags", [{"slice2d": False, "vol3d": False}, {"ratio": 1.0}])
def test_an_empty_branch_is_refused(flags):
    with pytest.raises(UserError, match=r"config\.model\.block: HybridConv"):
        HybridConv(8, (3, 3, 3), **flags).init(jax.random.key(0), normal((1, 2, 3, 3, 4)))
