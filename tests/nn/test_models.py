"""One table of U-Nets, one test for all of them; then what each option means."""

from functools import partial
from itertools import product

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.errors import UserError
from medjax.nn.heads import HEATMAP_BIAS
from medjax.nn.unet import UNet, divisor
from medjax.ops.conv import implementation

GEOMETRIES = {  # patch, kernels, strides
    "2-D": ((1, 8, 12), ((1, 3, 3), (1, 3, 3)), ((1, 1, 1), (1, 2, 2))),
    "3-D": ((4, 6, 8), ((3, 3, 3), (3, 3, 3)), ((1, 1, 1), (2, 2, 2))),
    "anisotropic": ((3, 8, 6), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2))),
}
BLOCKS = ("plain", "residual", "hybrid")
# every block on every geometry (once each if in haste), the attention on every second of these pairs
TABLE = [
    pytest.param(
        b, ("none", "sca")[(i + j) % 2], g, marks=[] if j == (i + 1) % 3 else [pytest.mark.long]
    )
    for (i, b), (j, g) in product(enumerate(BLOCKS), enumerate(GEOMETRIES))
]
# compiling is most of the time of these tests
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def small(geometry="3-D", **changes):
    _, kernels, strides = GEOMETRIES[geometry]
    options = {"heads": {"seg": 3}, "widths": (4, 8), "depths": (1, 1), "decoder_depth": 1}
    return UNet(**{**options, "kernels": kernels, "strides": strides, **changes})


def image(geometry="3-D", channels=2, batch=2):
    shape = (batch, *GEOMETRIES[geometry][0], channels)
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def shapes_of(model, x):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), x, True))["params"]


def random_params(model, x, seed=1):
    """He-sized values everywhere: what starts at zero or one too."""
    draw = np.random.default_rng(seed)

    def fill(a):
        fan_in = max(np.prod(a.shape[:-1]), 2)
        return jnp.asarray(draw.normal(scale=(2 / fan_in) ** 0.5, size=a.shape), a.dtype)

    return jax.tree.map(fill, shapes_of(model, x))


def assert_close(got, wanted, tolerance=1e-4):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for (path, a), b in zip(jax.tree.leaves_with_path(got), jax.tree.leaves(wanted), strict=True):
        a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
        assert a.shape == b.shape, path
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), path


@pytest.mark.parametrize(("block", "attention", "geometry"), TABLE)
def test_every_model(block, attention, geometry):
    """Shapes, a gradient for every parameter, one compilation, and native equal to fast."""
    heads = {"seg": 3, "cls": 2, "det": 1}
    model = small(geometry, heads=heads, block=block, attention=attention)
    x = image(geometry)
    params = random_params(model, x)
    traces = []

    def run(params, x):
        traces.append(1)

        def loss(params):
            outputs, aux = model.apply({"params": params}, x, True)
            terms = [
                jnp.mean(a * jnp.cos(jnp.arange(a.size, dtype=jnp.float32)).reshape(a.shape))
                for a in jax.tree.leaves(outputs)
            ]
            return sum(terms), (outputs, aux)

        gradients, results = jax.grad(loss, has_aux=True)(params)
        return gradients, *results

    with implementation("fast"):
        compiled = jit(run)
        gradients, outputs, aux = compiled(params, x)
        compiled(params, x + 1)
        assert len(traces) == 1
    with implementation("native"):
        native = jit(lambda p, x: model.apply({"params": p}, x, True))(params, x)
    assert_close((outputs, aux), native)

    for path, g in jax.tree.leaves_with_path(gradients):
        assert np.all(np.isfinite(g)), path
        assert np.abs(g).max() > 0, path
    b, *patch, _ = x.shape
    coarse = (b, *(n // s for n, s in zip(patch, GEOMETRIES[geometry][2][1], strict=True)))
    assert outputs["seg"].shape == (b, *patch, 3)
    assert outputs["cls"].shape == (b, 2)
    parts = {"heatmap": (*coarse, 1), "offset": (*coarse, 3), "size": (*coarse, 3)}
    assert {k: v.shape for k, v in outputs["det"].items()} == parts
    wanted = {"features": (*coarse, 8)}
    if attention == "sca":
        wanted |= {"attention/0": (b, *patch, 1), "attention/1": (*coarse, 1)}
    assert {k: v.shape for k, v in aux.items()} == wanted


THREE = {
    "widths": (4, 6, 8),
    "kernels": ((3, 3, 3),) * 3,
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "depths": (1, 1, 1),
}


def test_deep_supervision_and_detection_level():
    model = small(**THREE, deep_supervision=True, heads={"seg": 3, "det": 2}, detection_level=2)
    x = jnp.ones((1, 2, 8, 4, 1))
    outputs, aux = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), x, True))[0]
    assert {k: v.shape for k, v in aux.items() if k[:6] == "logits"} == {
        "logits/1": (1, 2, 4, 2, 3)
    }
    assert outputs["det"]["heatmap"].shape == (1, 1, 2, 1, 2)


def test_without_a_head_that_reads_it_there_is_no_decoder():
    stages = {"encoder0", "encoder1", "encoder2"}
    x = jnp.ones((1, 2, 4, 4, 1))
    assert set(shapes_of(small(**THREE, heads={"cls": 2}), x)) == {*stages, "cls"}
    detector = shapes_of(small(**THREE, heads={"det": 2}), x)
    assert set(detector) == {*stages, "up1", "decoder1", "det"}


def test_depths_are_blocks_per_stage():
    model = small(block="residual", depths=(1, 3), decoder_depth=2)
    params = shapes_of(model, image())
    stages = ("encoder0", "encoder1", "decoder0")
    assert [len(params[k]) for k in stages] == [1, 3, 2]
    assert set(params["decoder0"]) == {"Plain_0", "Plain_1"}


def test_settings_may_be_the_lists_of_a_json_plan():
    _, kernels, strides = GEOMETRIES["3-D"]
    lists = {"widths": [4, 8], "kernels": [*map(list, kernels)], "strides": [*map(list, strides)]}
    model = small(**lists, depths=[1, 1], dtype="float32")
    assert shapes_of(model, image()) == shapes_of(small(), image())


def test_bfloat16_computes_near_float32_and_gives_float32():
    x, heads = image(), {"seg": 3, "cls": 2, "det": 1}
    models = [small(heads=heads, attention="sca", dtype=t) for t in ("bfloat16", jnp.float32)]
    params = random_params(models[0], x)
    half, full = (jit(lambda p, m=m: m.apply({"params": p}, x, True))(params) for m in models)
    assert half[1]["features"].dtype == jnp.bfloat16
    assert {a.dtype for a in jax.tree.leaves(half[0])} == {jnp.dtype(jnp.float32)}
    assert_close(half[0], full[0], 0.1)


@pytest.mark.long
def test_remat_changes_neither_parameters_nor_gradients():
    x = image()
    params = random_params(small(), x)

    def gradients(remat):
        def loss(params):
            outputs, _ = small(remat=remat).apply({"params": params}, x, True)
            return jnp.sum(outputs["seg"] ** 2)

        return jit(jax.grad(loss))(params)

    assert_close(gradients(True), gradients(False))


def test_perturbations_give_the_gradient_of_the_features_and_may_be_absent():
    model, x = small(heads={"cls": 2}), image()
    params = random_params(model, x)
    outputs, aux = jit(lambda p: model.apply({"params": p}, x, False))(params)

    def score(perturbations):
        given = {"params": params, "perturbations": perturbations}
        return jnp.sum(model.apply(given, x, False)[0]["cls"][:, 0])

    zeros = {"features": jnp.zeros_like(aux["features"])}
    value, got = jit(jax.value_and_grad(score))(zeros)
    kernel = params["cls"]["Dense_0"]["kernel"][:, 0].reshape(1, 1, 1, 1, -1)
    voxels = np.prod(aux["features"].shape[1:4])
    wanted = jnp.broadcast_to(kernel / voxels, aux["features"].shape)
    np.testing.assert_allclose(got["features"], wanted, rtol=1e-5)
    np.testing.assert_allclose(value, outputs["cls"][:, 0].sum(), rtol=1e-5)


def test_dropout_drops_whole_channels_in_training_alone():
    model, x = small(dropout=0.5, heads={"cls": 2}), image()
    params = random_params(model, x)

    @partial(jit, static_argnums=0)
    def features(train):
        rngs = {"dropout": jax.random.key(1)}
        return model.apply({"params": params}, x, train, rngs=rngs)[1]["features"]

    plain, dropped = features(False), features(True)
    kept = np.any(np.asarray(dropped) != 0, axis=(1, 2, 3))
    assert 0 < kept.sum() < kept.size
    scale = np.where(kept, 2.0, 0.0).reshape(2, 1, 1, 1, -1)
    np.testing.assert_allclose(dropped, plain * scale, rtol=1e-5)


def test_torn_skips_change_the_segmentation_and_not_the_bottleneck_of_a_prediction():
    model, x = small(), image()
    params = random_params(model, x)
    torn = model.clone(tearing=0.5)
    rngs = {"dropout": jax.random.key(1)}
    whole, _ = jit(lambda p: model.apply({"params": p}, x, True))(params)
    broken, aux = jit(lambda p: torn.apply({"params": p}, x, True, rngs=rngs))(params)
    still, _ = jit(lambda p: torn.apply({"params": p}, x, False))(params)
    np.testing.assert_array_equal(still["seg"], whole["seg"])
    assert (np.asarray(broken["seg"]) != np.asarray(whole["seg"])).mean() > 0.9
    assert (np.asarray(aux["features"]) == 0).all((1, 2, 3)).any()


def test_detection_starts_at_one_in_ten():
    model = small(heads={"det": 1})
    params = jit(lambda x: model.init(jax.random.key(0), x, True))(image())["params"]
    np.testing.assert_allclose(nn.sigmoid(params["det"]["heatmap"]["bias"]), 0.1, rtol=1e-5)
    assert pytest.approx(-2.197, abs=1e-3) == HEATMAP_BIAS


def test_absent_channels_are_not_read():
    model, x = small(heads={"cls": 2}), image()
    present = jnp.array([[True, True], [True, False]])

    @jit
    def logits(params, x, present=None):
        return model.apply({"params": params}, x, False, present=present)[0]["cls"]

    params = random_params(model, x)
    other = logits(params, x.at[1, ..., 1].set(jnp.nan), present)
    np.testing.assert_array_equal(other, logits(params, x.at[1, ..., 1].set(0)))
    np.testing.assert_array_equal(other[0], logits(params, x)[0])
    assert jnp.any(other[1] != logits(params, x)[1])


def test_divisor():
    assert divisor(THREE["strides"]) == (2, 4, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernels": ((3, 3, 3),)}, r"kernels: 1 entries for 2 widths"),
        ({"kernels": ((3, 3), (3, 3))}, r"kernels: an entry is not \(d, h, w\)"),
        ({"strides": ((1, 1, 1),) * 3}, r"strides: 3 entries for 2 widths"),
        ({"strides": ((2, 2, 2),) * 2}, r"strides: the first"),
        ({"strides": ((1, 1, 1), (3, 2, 2))}, r"strides: patch \(4, 6, 8\) is not divisible by"),
        ({"widths": (), "kernels": (), "strides": ()}, r"widths: no stage"),
        ({"depths": (1,)}, r"depths: 1 entries for 2 widths"),
        ({"depths": (1, 0)}, r"depths: a stage has no block"),
        ({"decoder_depth": 0}, r"decoder_depth: no block"),
        ({"block": "dense"}, r"block: unknown value 'dense'; choose from plain"),
        ({"attention": "cbam"}, r"attention: unknown value 'cbam'"),
        ({"norm": "batch"}, r"norm: unknown norm 'batch'"),
        ({"act": "tanh"}, r"act: unknown value 'tanh'"),
        ({"heads": {}}, r"heads: no head"),
        ({"heads": {"mask": 2}}, r"heads: unknown 'mask'; choose from seg"),
        ({"heads": {"det": 1}, "detection_level": 2}, r"detection_level: 2 of 2"),
    ],
)
def test_a_wrong_setting_names_its_key(changes, message):
    with pytest.raises(UserError, match=r"^config\.model\." + message):
        shapes_of(small(**changes), image())
