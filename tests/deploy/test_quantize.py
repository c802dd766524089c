"""Eight bits: the same in JAX as in a graph, layer by layer; scales that hold what was seen."""

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

from medjax.deploy.export.emit import emit
from medjax.deploy.program import trace
from medjax.deploy.providers import PROVIDERS
from medjax.deploy.quantize.calibrate import calibrate
from medjax.deploy.quantize.fake import Quantised, quantised
from medjax.deploy.quantize.points import points
from medjax.deploy.quantize.scales import FLAVOURS, Scale, fake, fake_weights, scale, weight_steps
from medjax.errors import UserError
from medjax.nn.unet import UNet
from medjax.ops.conv import conv
from medjax.ops.depth import depth_to_space

IMAGES = [jax.random.normal(jax.random.key(i), (1, 4, 8, 8, 4)) for i in range(3)]


def weights(*shape, seed=0):
    return 0.3 * jax.random.normal(jax.random.key(seed), shape)


def first(x):
    """Channels behind the batch."""
    return np.moveaxis(np.asarray(x), -1, 1) if x.ndim > 2 else np.asarray(x)


def both(fn, params, target):
    """What the graph gives and what JAX plays, for the first image; and the graph."""
    program, shapes = trace(fn, params, IMAGES[0])
    scales = calibrate(program, params, IMAGES, FLAVOURS[target], "minmax")
    graph = emit(fn, params, IMAGES[0], scales)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    played = jax.jit(quantised(program, scales, jax.tree.structure(shapes)))(params, IMAGES[0])
    return session.run(None, {"image": first(IMAGES[0])}), jax.tree.leaves(played), graph


LAYERS = {
    "convolution": lambda p, x: conv(x, p["k"], (1, 2, 2)) + p["b"].reshape(1, 1, 1, 1, -1),
    "flat": lambda p, x: conv(x, p["k"][:1], impl="native"),
    "dense": lambda p, x: x @ p["m"],
    "pooled": lambda p, x: x.mean((1, 2, 3)) @ p["m"],
    "up": lambda p, x: depth_to_space(conv(x, p["u"]), (1, 2, 2)),
    "joined": lambda p, x: conv(jnp.concatenate([x, 3 * jnp.abs(x)], -1), p["j"]),
    "residual": lambda p, x: x + conv(x, p["r"]),
}


@pytest.mark.parametrize("target", FLAVOURS)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_is_the_same_in_a_graph_as_in_jax(layer, target):
    params = {
        **{
            "k": weights(3, 3, 3, 4, 6),
            "b": weights(6),
            "m": weights(4, 5),
            "r": weights(1, 1, 1, 4, 4),
        },
        **{"u": weights(1, 1, 1, 4, 12), "j": weights(3, 3, 3, 8, 2)},
    }
    fn = LAYERS[layer]
    (given,), (played,), graph = both(fn, params, target)
    np.testing.assert_allclose(
        given, first(played), rtol=0, atol=1e-5 * float(jnp.abs(played).max())
    )
    exact = np.asarray(fn(params, IMAGES[0]))
    off = np.linalg.norm(played - exact) / np.linalg.norm(exact)
    assert 1e-4 < off < 0.02
    assert any(node.op_type == "QuantizeLinear" for node in graph.graph.node)


@pytest.fixture(scope="module")
def unet(random_params):
    model = UNet(
        heads={"seg": 3},
        widths=(8, 16),
        kernels=((3, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (2, 2, 2)),
        block="residual",
    )
    params = random_params(model, IMAGES[0])
    return lambda p, x: model.apply({"params": p}, x, False)[0], params


@pytest.mark.long
def test_a_network_is_nearly_itself_and_four_times_smaller(unet):
    fn, params = unet
    (given,), (played,), graph = both(fn, params, "cpu")
    exact = fn(params, IMAGES[0])["seg"]
    off = jnp.linalg.norm(played - exact) / jnp.linalg.norm(exact)
    assert off < 0.1
    same = given.argmax(1) == np.asarray(played).argmax(-1)
    assert same.mean() > 0.99  # a number that is rounded the other way is not the end of the world
    assert len(graph.SerializeToString()) < 0.4 * len(
        emit(fn, params, IMAGES[0]).SerializeToString()
    )


def test_what_is_joined_shares_a_scale_and_one_branch_of_a_sum_has_one(unet):
    fn, params = unet
    program, _ = trace(fn, params, IMAGES[0])
    found = points(program)
    joins = [p for p in found.points if program.ops[p.op].name == "concatenate"]
    assert len(joins) == 2
    assert joins[0].group == joins[1].group
    after = program.ops[joins[0].op].outputs[0]
    assert {p.group for p in found.points if p.value == after} == {joins[0].group}
    sums = [p for p in found.points if program.ops[p.op].name == "add"]
    assert len(sums) == len({p.op for p in sums}) > 0


@pytest.mark.parametrize("target", FLAVOURS)
def test_numbers_of_eight_bits(target):
    how = scale(-1.0, 3.0, FLAVOURS[target])
    x = np.linspace(-5, 7, 997, dtype=np.float32)
    q = np.clip(np.rint(x / np.float32(how.step)) + how.zero, how.low, how.high)
    np.testing.assert_array_equal(fake(jnp.asarray(x), how), (q - how.zero) * np.float32(how.step))
    low, high = how.bounds
    assert low <= -1 + how.step
    assert high >= 3 - how.step
    assert float(fake(jnp.float32(0), how)) == 0
    slopes = jax.vmap(jax.grad(lambda v: fake(v, how)))(jnp.asarray(x))
    np.testing.assert_array_equal(slopes, ((x >= low) & (x <= high)).astype(np.float32))


def test_halves_are_rounded_as_runtimes_round_them():
    how = scale(0.0, 6.787, FLAVOURS["cpu"])
    step = np.float32(how.step)
    halves = (np.arange(255, dtype=np.float32) + np.float32(0.5)) * step
    x = np.stack([halves, np.nextafter(halves, 0), np.nextafter(halves, 9)]).astype(np.float32)
    wanted = np.clip(np.rint(x / step), 0, 255) * step
    for played in (fake(jnp.asarray(x), how), jax.jit(lambda x: fake(x, how))(x)):
        np.testing.assert_array_equal(played, wanted)


@pytest.mark.parametrize("most", [63, 127])
def test_weights_use_all_of_their_integers_in_every_channel(most):
    kernel = weights(3, 3, 3, 4, 6).at[..., 2].set(0)
    steps = weight_steps(kernel, most, 4)
    q = fake_weights(kernel, steps) / steps
    np.testing.assert_allclose(
        jnp.abs(q).max((0, 1, 2, 3)), [most, most, 0, most, most, most], rtol=1e-6
    )
    assert (
        float(jnp.abs(fake_weights(kernel, steps) - kernel).max())
        <= float(steps.max()) / 2 * 1.0001
    )
    slope = jax.grad(lambda k: (fake_weights(k, steps) * 2).sum())(kernel)
    np.testing.assert_array_equal(slope, jnp.full_like(kernel, 2))
    shared = weight_steps(weights(1, 1, 1, 4, 6), most, 4, spread=2).reshape(2, 3)
    np.testing.assert_array_equal(shared[0], shared[1])


@pytest.mark.parametrize("method", ["percentile", "mse"])
def test_an_outlier_does_not_cost_the_others_their_bits(method):
    params, fn = {"m": weights(4, 5)}, LAYERS["dense"]
    images = [jax.random.normal(jax.random.key(i), (1, 16, 32, 32, 4)) for i in range(2)]
    program, _ = trace(fn, params, images[0])
    spiked = [images[0].at[0, 0, 0, 0, 0].set(40.0), images[1]]
    (widest,) = calibrate(program, params, spiked, FLAVOURS["cpu"], "minmax")
    (chosen,) = calibrate(program, params, spiked, FLAVOURS["cpu"], method)
    assert chosen.step < 0.9 * widest.step
    assert chosen.bounds[1] > 3.5


def test_what_has_no_scale_is_refused():
    params, fn = {"m": weights(4, 5)}, LAYERS["dense"]
    program, _ = trace(fn, params, IMAGES[0])
    for images, said in (
        (IMAGES[:1], "calibration: 1 images; give 2"),
        ([IMAGES[0], IMAGES[1].at[0, 0, 0, 0, 0].set(jnp.nan)], "no scale"),
        ([jnp.zeros_like(IMAGES[0])] * 2, "got 0 to 0"),
    ):
        with pytest.raises(UserError, match=said):
            calibrate(program, params, images, FLAVOURS["cpu"])
    assert scale(0.0, 1.0, FLAVOURS["cpu"]) == Scale(float(np.float32(1 / 255)), 0, 0, 255)


@pytest.fixture(scope="module")
def net():
    """A U-Net as it trains, with weights and with the scales of its use."""
    model = UNet(
        heads={"seg": 2},
        widths=(8, 16),
        kernels=((3, 3, 3),) * 2,
        strides=((1, 1, 1), (1, 2, 2)),
        deep_supervision=True,
        dropout=0.5,
    )
    params = model.init(jax.random.key(0), IMAGES[0], False)["params"]

    def fn(params, image):
        return model.apply({"params": params}, image, False)

    program, shapes = trace(fn, params, IMAGES[0])
    scales = calibrate(program, params, IMAGES, FLAVOURS["cpu"], "minmax")
    played = quantised(program, scales, jax.tree.structure(shapes))
    return model, params, Quantised(model, scales), played


def test_what_trains_in_eight_bits_is_what_is_exported(net):
    _, params, learner, played = net
    images = jnp.concatenate(IMAGES)
    apply = jax.jit(lambda p, x: learner.apply({"params": p}, x, True)[0]["seg"])
    found, alone = apply(params, images), jax.jit(played)
    for image, own in zip(IMAGES, found, strict=True):
        np.testing.assert_allclose(alone(params, image)[0]["seg"][0], own, atol=1e-5)
    present = jnp.array([[True, True, False, True]] * 3)
    without = jax.jit(lambda x: learner.apply({"params": params}, x, True, present=present))(images)
    np.testing.assert_allclose(
        without[0]["seg"], apply(params, images.at[..., 2].set(0)), atol=1e-5
    )


def test_eight_bits_are_trained_down_the_slope_of_their_own(net):
    model, params, learner, _ = net
    images = jnp.concatenate(IMAGES)
    wanted = model.apply({"params": params}, images, False)[0]["seg"]
    worn = jax.tree.map(lambda p: p + 0.02 * jax.random.normal(jax.random.key(1), p.shape), params)

    @jax.jit
    def loss(p):
        return jnp.square(learner.apply({"params": p}, images, True)[0]["seg"] - wanted).mean()

    descend = jax.jit(lambda p: jax.tree.map(lambda a, g: a - 0.05 * g, p, jax.grad(loss)(p)))
    before, now = loss(worn), worn
    for _ in range(20):
        now = descend(now)
    assert loss(now) < 0.7 * before


def test_two_products_of_unsigned_numbers_fit_in_sixteen_bits(tmp_path):
    """Without VNNI a processor adds two before it widens, and OpenVINO gave 49 for this layer's 96."""
    params, image = {"m": jnp.full((64, 4), 0.5)}, jnp.full((1, 64), 3.0)
    fn = LAYERS["dense"]
    program, _ = trace(fn, params, image)
    scales = calibrate(program, params, [image, 0 * image], FLAVOURS["cpu"], "minmax")
    (scale,) = scales
    assert 2 * scale.high * scale.weights < 2**15
    (tmp_path / "model.onnx").write_bytes(emit(fn, params, image, scales).SerializeToString())
    run, *_ = PROVIDERS["openvino"](str(tmp_path / "model.onnx"), 0)
    (found,) = run(np.asarray(image)).values()
    np.testing.assert_allclose(found, 96.0, rtol=1e-5)
