"""ResNet-50: the one of the article by its numbers, and what is ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.deploy.prune.pruned import structure_of
from medjax.deploy.prune.structure import operations
from medjax.errors import UserError
from medjax.nn.resnet import ResNet

HALVES = ((2, 2, 2),) * 5
IN_PLANE = ((1, 2, 2),) * 5


def shapes(model, shape):
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x, False), jax.random.key(0), image)["params"]


def test_pictures_of_224_have_the_parameters_and_operations_of_the_article():
    model, shape = ResNet({"cls": 1000}, IN_PLANE), (1, 1, 224, 224, 3)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes(model, shape)))
    assert count == 25_557_032  # torchvision's resnet50
    structure = structure_of(model, jax.ShapeDtypeStruct(shape, jnp.float32))
    assert operations(structure) == pytest.approx(4.09e9, rel=1e-3)
    assert not structure.coupling.unknown


@pytest.mark.long
def test_volumes_and_slices_have_logits_and_every_parameter_a_gradient():
    for shape, strides in (((2, 4, 32, 32, 2), HALVES[:3]), ((2, 1, 32, 32, 2), IN_PLANE[:3])):
        model = ResNet({"cls": 3}, strides, width=8, norm="instance", act="gelu")
        x = jax.random.normal(jax.random.key(0), shape)
        tree = shapes(model, shape)
        leaves, form = jax.tree.flatten(tree)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        made = [0.2 * jax.random.normal(k, s.shape) for k, s in zip(keys, leaves, strict=True)]
        params = jax.tree.unflatten(form, made)

        def loss(p, x=x, model=model):
            outputs, aux = model.apply({"params": p}, x, True, rngs={})
            assert outputs["cls"].shape == (2, 3)
            assert aux["features"].shape[-1] == 256
            return jnp.square(outputs["cls"]).sum()

        slopes = jax.jit(jax.grad(loss))(params)
        assert all(np.abs(g).max() > 0 for g in jax.tree.leaves(slopes))


def test_only_a_class_comes_out():
    with pytest.raises(UserError, match="a ResNet has the head cls alone"):
        shapes(ResNet({"cls": 2, "seg": 3}, HALVES), (1, 8, 8, 8, 1))
