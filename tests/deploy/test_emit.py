"""ONNX graphs give what JAX gives, with and without the optimisations of the runtime, at other sizes too."""

from collections import Counter

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax import lax

from medjax.deploy.export.emit import emit
from medjax.deploy.prune import choice
from medjax.deploy.prune.pruned import Pruned, structure_of
from medjax.deploy.prune.smaller import smaller
from medjax.deploy.prune.structure import analyse, cut, mask
from medjax.errors import UserError
from medjax.nn.unet import UNet

LEVELS = onnxruntime.GraphOptimizationLevel
IMAGE = jax.random.normal(jax.random.key(1), (1, 4, 8, 8, 2))


def drawn(shapes):
    """Random parameters of these shapes."""
    leaves, tree = jax.tree.flatten(shapes)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    made = [0.3 * jax.random.normal(k, s.shape) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, made)


def first(x):
    """Channels behind the batch."""
    return np.moveaxis(np.asarray(x), -1, 1) if x.ndim > 2 else np.asarray(x)


def check(fn, params, *, pruned=None, sizes=(), tolerance=1e-5):
    """Compares the graph with the function; gives how many nodes of each kind it has.

    pruned: a smaller function and its parameters, whose graph is compared instead.
    """
    model, image = emit(*(pruned or (fn, params)), IMAGE), IMAGE
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level, options.log_severity_level = level, 3
        session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        for size in ((image.shape[:-1]), *sizes):
            x = jax.random.normal(jax.random.key(2), (*size, image.shape[-1]))
            wanted = jax.tree.leaves(jax.jit(fn)(params, x))
            given = session.run(None, {"image": first(x)})
            for a, b in zip(wanted, given, strict=True):
                scale = max(1.0, float(jnp.abs(a).max()))
                np.testing.assert_allclose(b, first(a), rtol=0, atol=tolerance * scale)
    return Counter(node.op_type for node in model.graph.node)


def outputs(model):
    return lambda p, x: model.apply({"params": p}, x, False)[0]


def unet(**settings):
    model = UNet(
        widths=(8, 16),
        kernels=((1, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (2, 2, 2)),
        **settings,
    )
    shapes = jax.eval_shape(lambda k: model.init(k, IMAGE, False), jax.random.key(0))["params"]
    return outputs(model), drawn(shapes)


def test_a_unet_is_a_graph_as_one_would_draw_it_at_any_size():
    fn, params = unet(heads={"seg": 3, "cls": 2, "det": 1})
    kinds = check(fn, params, sizes=[(2, 6, 8, 10)])
    assert kinds["Conv"] == 11
    assert kinds["InstanceNormalization"] == kinds["LeakyRelu"] == 7
    assert kinds["ConvTranspose"] == kinds["Concat"] == 1
    assert not kinds["Transpose"]
    assert not kinds["Reshape"]


LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("block", "norm", "act"),
    [
        ("plain", "group", "relu"),
        pytest.param("residual", "group", "silu", marks=LONG),
        pytest.param("hybrid", "instance", "relu", marks=LONG),
    ],
)
def test_attention_and_every_block_at_any_size_and_pruned(block, norm, act):
    fn, params = unet(heads={"seg": 3}, block=block, norm=norm, act=act, attention="sca")
    assert not check(fn, params, sizes=[(2, 6, 8, 10)])["Transpose"]
    structure = analyse(fn, params, IMAGE)
    removed = choice.choose(structure, choice.magnitude(structure, params), 0.5, multiple=1)
    pruned = smaller(structure, removed), cut(structure, params, removed)
    check(fn, mask(structure, params, removed), pruned=pruned, sizes=[(1, 6, 8, 10)])


class Layers(nn.Module):
    """Layers of others: a transposed and a grouped convolution, pools, a resize, windows of attention."""

    @nn.compact
    def __call__(self, x):
        y = nn.gelu(nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3, 3))(x)))
        z = nn.max_pool(
            nn.elu(nn.Conv(8, (3, 3, 3), feature_group_count=4)(y)), (2, 2, 2), (2, 2, 2)
        )
        up = nn.ConvTranspose(4, (2, 2, 2), strides=(2, 2, 2))(nn.silu(z))
        far = jax.image.resize(nn.avg_pool(y, (2, 2, 2), (2, 2, 2)), y.shape, "trilinear")
        y = jnp.concatenate([jnp.pad(up, ((0, 0),) * 4 + ((1, 0),)), far[..., 1:5], y], -1)
        h = nn.LayerNorm()(y).reshape(y.shape[0], -1, 4, y.shape[-1])
        q, k = jnp.split(nn.Dense(8)(h), 2, -1)
        h = nn.softmax(jnp.einsum("bnwc,bnvc->bnwv", q, k), -1) @ jnp.exp(-jnp.abs(h))
        return nn.Dense(3)(h.reshape(y.shape)), nn.softplus(jnp.min(y, (1, 2, 3)))


def test_layers_of_others_are_right_at_the_size_they_were_traced_at():
    module = Layers()
    params = drawn(jax.eval_shape(module.init, jax.random.key(0), IMAGE))
    params["batch_stats"] = jax.tree.map(jnp.abs, params["batch_stats"])
    kinds = check(module.apply, params)
    assert kinds["ConvTranspose"] == 1


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda p, x: jnp.sort(x, -1) * p, "sort has no rule"),
        (lambda p, x: lax.rev(x, (4,)) * p, "rev has no rule"),
    ],
)
def test_a_primitive_without_a_rule_is_named(fn, said):
    with pytest.raises(UserError, match=said):
        emit(fn, jnp.float32(1), IMAGE)


def test_a_sum_over_space_holds_for_one_size_and_a_mean_for_all():
    for fn, free in ((jnp.sum, False), (jnp.mean, True)):
        model = emit(
            lambda p, x, fn=fn: x * p - fn(x, (1, 2, 3), keepdims=True), jnp.ones(()), IMAGE
        )
        size = model.graph.input[0].type.tensor_type.shape.dim[2]
        assert (size.dim_param == "D") == free


def test_a_pruned_network_is_a_graph_at_a_size_it_has_not_met(random_params):
    model = UNet({"seg": 2}, (4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)))
    structure = structure_of(model, IMAGE)
    params = random_params(model, IMAGE)
    removed = choice.choose(structure, choice.magnitude(structure, params), 0.5, multiple=1)
    pruned = Pruned(model, structure.entries(removed))
    small = cut(structure, params, removed)
    for image in (IMAGE, IMAGE[:, :2, :4]):
        graph = emit(outputs(pruned), small, image)
        assert not {node.op_type for node in graph.graph.node} & {"Transpose", "Reshape"}
