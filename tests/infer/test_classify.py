"""The class of a scan without JAX is the one with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.infer.classify import classify
from medjax.infer.findings import find

PATCH = (4, 6, 6)


def forward(batch):
    """Probabilities that hang on where things are in a window."""
    place = np.arange(PATCH[0] * PATCH[1] * PATCH[2], dtype=np.float32).reshape(1, *PATCH)
    heavy = (batch[..., 0] * np.cos(place)).sum((1, 2, 3))
    return np.stack([1 / (1 + np.exp(-heavy)), 1 / (1 + np.exp(heavy))], -1)


def look(batch):
    found = jax.pure_callback(
        forward, jax.ShapeDtypeStruct((batch.shape[0], 2), jnp.float32), batch
    )
    return {"classes": found}


@pytest.mark.parametrize("mirror", [(), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(3, 5, 6), (9, 11, 17)])
def test_it_is_that_of_windows_and_flips(mirror, shape):
    image = np.random.default_rng(0).normal(size=(*shape, 2)).astype(np.float32)
    image[5:, 6:] = 0  # windows of nothing are not asked
    given = {"overlap": 0.25, "tiles": 2, "mirror_axes": mirror}
    found = classify(forward, image, PATCH, **given)
    np.testing.assert_allclose(found, find(look, image, PATCH, **given).classes, rtol=1e-5)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_nothing_has_a_class_and_what_is_no_number_has_none():
    nothing = np.zeros((8, 8, 8, 1), np.float32)
    np.testing.assert_allclose(classify(forward, nothing, PATCH), [0.5, 0.5])
    with pytest.raises(FloatingPointError, match="not finite"):
        classify(lambda x: np.full((len(x), 2), np.nan, np.float32), nothing, PATCH)
