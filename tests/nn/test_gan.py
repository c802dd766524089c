"""Generator and discriminator: shapes, what a score sees, and slices against flax's own 2-D layers."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.nn.gan import LEAKY, Discriminator, EdgeConv, Generator
from medjax.ops.conv import implementation

PATCHES = {"2-D": (1, 16, 20), "3-D": (8, 12, 16)}
MODELS = {
    "generator": partial(Generator, width=4, blocks=1),
    "discriminator": partial(Discriminator, width=4, layers=2),
}


def image(patch, channels=2, batch=2):
    shape = (batch, *patch, channels)
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def start(model, x):
    return jax.jit(model.init)(jax.random.key(0), x)["params"]


@pytest.mark.parametrize(
    "patch", [pytest.param(p, marks=pytest.mark.long if p == "3-D" else []) for p in PATCHES]
)
@pytest.mark.parametrize("name", MODELS)
def test_shapes_gradients_and_both_convolutions(name, patch):
    model, x = MODELS[name](), image(PATCHES[patch])
    params = start(model, x)

    def loss(params):
        y = model.apply({"params": params}, x)
        weight = jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)
        return jnp.mean(jnp.square(y) * weight), y

    with implementation("native"):
        grads, y = jax.jit(jax.grad(loss, has_aux=True))(params)
    with implementation("fast"):
        z = jax.jit(model.apply)({"params": params}, x)
    d, h, w = PATCHES[patch]
    halved = (max(d // 4, 1), h // 4, w // 4)
    assert y.shape == (2, *((d, h, w) if name == "generator" else halved), 1)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(grads))
    np.testing.assert_allclose(y, z, atol=1e-4)


@pytest.mark.parametrize(("layers", "seen"), [(1, 16), (2, 34), (3, 70)])
def test_a_score_sees_the_patch_that_it_is_named_for(layers, seen):
    size = 32 * 2 ** (layers - 1)
    x = image((1, size, size), channels=1, batch=1)
    model = Discriminator(width=2, layers=layers)
    params = start(model, x)
    middle = size // 2**layers // 2

    def score(x):
        return model.apply({"params": params}, x)[0, 0, middle, middle, 0]

    support = np.asarray(jax.jit(jax.grad(score))(x))[0, 0, :, :, 0] != 0
    for axis in (0, 1):
        (touched,) = np.nonzero(support.any(axis))
        assert touched[-1] - touched[0] + 1 == seen


def plain_norm(x):
    mean, var = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
    return (x - mean) / np.sqrt(var + 1e-5)


def plain_conv(x, params, strides=1, padding="SAME"):
    kernel = params["kernel"][0]
    layer = nn.Conv(kernel.shape[-1], kernel.shape[:2], strides, padding, use_bias=False)
    y = layer.apply({"params": {"kernel": kernel}}, jnp.asarray(x))
    return np.asarray(y) + np.asarray(params.get("bias", 0))


def edge_conv(x, params):
    wide = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], mode="edge")
    return plain_conv(wide, params["Conv_0"], padding="VALID")


def plain_generator(params, x):
    """The generator of slices with flax's 2-D convolutions; norms at their start (scale 1, bias 0)."""
    relu = partial(np.maximum, 0)
    y = relu(plain_norm(edge_conv(x, params["first"])))
    levels = []
    for name in ("down1", "down2"):
        levels.append(y)
        y = relu(plain_norm(plain_conv(y, params[name]["Conv_0"], strides=2)))
    block = params["block0"]
    z = relu(plain_norm(edge_conv(y, block["EdgeConv_0"])))
    y = y + plain_norm(edge_conv(z, block["EdgeConv_1"]))
    for name, level in (("up1", levels[1]), ("up0", levels[0])):
        y = y.repeat(2, 1).repeat(2, 2)
        y = level + relu(plain_norm(plain_conv(y, params[name]["Conv_0"])))
    return x[..., :1] + edge_conv(y, params["last"])


def plain_discriminator(params, x):
    for name, strides in (("layer0", 2), ("layer1", 2), ("layer2", 1)):
        x = np.asarray(LEAKY(plain_conv(x, params[name], strides)))
    return plain_conv(x, params["last"])


@pytest.mark.parametrize("name", MODELS)
def test_a_slice_is_what_2d_layers_make_of_it(name):
    model, x = MODELS[name](), image(PATCHES["2-D"])
    params = start(model, x)
    found = jax.jit(model.apply)({"params": params}, x)[:, 0]
    plain = {"generator": plain_generator, "discriminator": plain_discriminator}[name]
    np.testing.assert_allclose(found, plain(params, np.asarray(x)[:, 0]), atol=1e-4)


def test_beyond_the_edge_the_image_goes_on():
    x = jnp.full((1, 3, 5, 6, 2), 2.0)
    layer = EdgeConv(3, (3, 3, 3))
    y = layer.apply(layer.init(jax.random.key(0), x), x)
    np.testing.assert_allclose(y, jnp.broadcast_to(y[:, :1, :1, :1], y.shape), atol=1e-5)
