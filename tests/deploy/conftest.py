"""What tests of exports share."""

import jax
import jax.numpy as jnp
import pytest


@pytest.fixture(scope="session")
def random_params():
    """`random_params(model, image)`: parameters of a linen model, none of them zero or alike."""

    def draw(model, image, scale=0.3):
        image = jnp.asarray(image)
        shapes = jax.eval_shape(lambda k: model.init(k, image, False), jax.random.key(0))["params"]
        leaves, tree = jax.tree.flatten(shapes)
        keys = jax.random.split(jax.random.key(1), len(leaves))
        made = [scale * jax.random.normal(k, s.shape) for k, s in zip(keys, leaves, strict=True)]
        return jax.tree.unflatten(tree, made)

    return draw
