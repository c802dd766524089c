from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.sim.vessels import SHEET, vessels

SPACING, SHAPE = 1.0, (56, 60, 52)
run = jax.jit(partial(vessels, spacing=SPACING))
KEYS = list(jax.random.split(jax.random.key(0), 8))


def depth():
    """A ball of 24 mm, below its surface."""
    grid = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij")
    return jnp.asarray(np.clip(24 - np.sqrt(sum(g**2 for g in grid)), -12, 12), jnp.float32)


DEEP = np.asarray(depth() >= 12)


def test_blood_is_a_share_of_few_voxels():
    found = np.array([run(key, depth(), jnp.zeros(SHAPE)) for key in KEYS])
    assert found.min() >= 0
    assert found.max() <= 1
    inside = found[:, np.asarray(depth()) > 0]
    assert 0.001 < (inside > 0.5).mean() < 0.1
    assert found.reshape(8, -1).mean(axis=1).std() > 0
    np.testing.assert_array_equal(run(KEYS[0], depth(), jnp.zeros(SHAPE)), found[0])


def test_vessels_are_thin_and_long():
    """Few voxels deep in the fluid survive an erosion, and pieces are longer than wide."""
    for key in KEYS[:4]:
        blood = np.asarray(run(key, jnp.full(SHAPE, 12.0), jnp.ones(SHAPE))) > 0.5
        assert blood.any()
        assert ndimage.binary_erosion(blood, iterations=3).sum() < 0.02 * blood.sum()
        pieces, count = ndimage.label(blood, np.ones((3, 3, 3)))
        longest = max(
            max(s.stop - s.start for s in piece) for piece in ndimage.find_objects(pieces)
        )
        assert longest > 12
        assert count < 60


@pytest.mark.parametrize("key", KEYS[:3])
def test_they_are_thicker_in_fluid_than_in_tissue(key):
    tissue, fluid = (np.asarray(run(key, depth(), jnp.full(SHAPE, f))) for f in (0.0, 1.0))
    assert (fluid >= tissue - 1e-6).all()
    assert tissue[DEEP].max() < 0.35  # so that no label there is lost
    assert fluid[DEEP].mean() > 2 * tissue[DEEP].mean()


def test_meninges_lie_within_the_sheet():
    dark = [run(key, depth(), jnp.zeros(SHAPE)) > 0.5 for key in KEYS]
    share = np.mean(dark, axis=0)
    shells = [
        share[(np.asarray(depth()) > low) & (np.asarray(depth()) <= low + SHEET)].mean()
        for low in (-6.0, 0.0, 6.0)
    ]
    assert shells[1] > 1.2 * shells[0]
    assert shells[1] > 3 * shells[2]
