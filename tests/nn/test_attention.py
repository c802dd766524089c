from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.nn.attention import SCA

# compiling is most of the time of these tests
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def normal(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def perturbed(block, x):
    """Parameters off their zero start."""
    shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), x))
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(0.5 * draw.normal(size=a.shape), a.dtype), shapes)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(2, 1, 9, 8, 3), (2, 4, 5, 6, 16)])
def test_exactly_the_identity_at_initialisation(shape, dtype):
    x = normal(shape).astype(dtype)
    (y, s), _ = jit(SCA().init_with_output)(jax.random.key(0), x)
    assert (y.dtype, s.dtype, s.shape) == (x.dtype, jnp.float32, (*shape[:-1], 1))
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(s, jnp.full_like(s, 0.5))


def test_hidden_width_and_kernel():
    kernels = {}
    for shape in [(1, 1, 9, 8, 8), (1, 4, 5, 6, 128)]:
        x = jnp.ones(shape)
        params = jax.eval_shape(lambda x: SCA().init(jax.random.key(0), x), x)["params"]
        kernels[shape[-1]] = [params[k]["kernel"].shape for k in ("squeeze", "excite", "spatial")]
    assert kernels == {
        8: [(8, 4), (4, 8), (1, 7, 7, 2, 1)],
        128: [(128, 8), (8, 128), (3, 3, 3, 2, 1)],
    }


@pytest.mark.parametrize("shape", [(2, 1, 9, 8, 6), (2, 4, 5, 6, 6)])
def test_the_map_is_spatial(shape):
    """Pooled before its convolution it would be one number per image, blind to any permutation."""
    x, block = normal(shape), SCA()
    variables = perturbed(block, x)
    y, s = jit(block.apply)(variables, x)
    assert np.all(np.std(s, axis=(1, 2, 3)) > 0.01)
    assert 0 < s.min() < s.max() < 1
    order = np.random.default_rng(3).permutation(shape[2])
    moved, _ = jit(block.apply)(variables, x[:, :, order])
    assert not np.allclose(moved, y[:, :, order], atol=1e-3)


def test_each_sample_is_gated_by_itself():
    x, block = normal((3, 2, 4, 5, 6)), SCA()
    variables = perturbed(block, x)
    apply = jit(block.apply)
    alone = [apply(variables, v[None])[0][0] for v in x]
    np.testing.assert_allclose(apply(variables, x)[0], alone, atol=1e-5)


def test_the_formula():
    x, block = normal((1, 2, 4, 5, 6)), SCA()
    variables = perturbed(block, x)
    y, s = jit(block.apply)(variables, x)
    p = jax.tree.map(np.asarray, variables["params"])
    x, s = np.asarray(x), np.asarray(s)
    hidden = x.mean((1, 2, 3)) @ p["squeeze"]["kernel"] + p["squeeze"]["bias"]
    logits = np.where(hidden > 0, hidden, 0.01 * hidden) @ p["excite"]["kernel"]
    c = 1 / (1 + np.exp(-(logits + p["excite"]["bias"]))).reshape(1, 1, 1, 1, -1)
    np.testing.assert_allclose(y, x + x * (2 * c * s - 0.5), atol=1e-5)
