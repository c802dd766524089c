from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.sim.mass import push

SHAPE, SPACING, RADIUS = (40, 44, 48), 2.0, 10.0
run = jax.jit(partial(push, spacing=SPACING))
GRID = np.stack(
    np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * SPACING for n in SHAPE], indexing="ij"), axis=-1
)
DISTANCE = np.linalg.norm(GRID, axis=-1)


def swelling(centre=(0, 0, 0)):
    """A soft ball of about `RADIUS` mm."""
    distance = np.linalg.norm(GRID - np.array(centre), axis=-1)
    return jnp.asarray(1 / (1 + np.exp((distance - RADIUS) / 1.5)), jnp.float32)


def test_it_moves_outward_and_at_most_so_far():
    moved = np.asarray(run(swelling(), most=5.0))
    length = np.linalg.norm(moved, axis=-1)
    assert length.max() == pytest.approx(5, rel=1e-5)
    assert abs(DISTANCE.flat[length.argmax()] - RADIUS) < 3
    near = (DISTANCE > 2) & (DISTANCE < 25)
    outward = (moved * GRID).sum(axis=-1) / DISTANCE
    np.testing.assert_allclose(outward[near], length[near], rtol=0.02)
    np.testing.assert_allclose(run(swelling(), most=2.0), 0.4 * moved, atol=1e-5)
    np.testing.assert_allclose(run(3 * swelling(), most=5.0), moved, atol=1e-4)


@pytest.mark.parametrize("centre", [(0, 0, 0), (8, -10, 12)])
def test_it_swells_as_its_density(centre):
    """div u is the density less its mean, as a periodic medium must keep its volume."""
    density = swelling(centre)
    moved = np.asarray(run(density, most=5.0), np.float64)
    swell = sum(np.gradient(moved[..., a], SPACING, axis=a) for a in range(3))
    expected = np.asarray(density - density.mean())
    inner = np.s_[2:-2, 2:-2, 2:-2]
    strength = (swell * expected)[inner].sum() / (expected**2)[inner].sum()
    assert strength > 0
    left = swell - strength * expected
    assert np.abs(left[inner]).max() < 0.05 * strength


def test_it_turns_nothing():
    moved = np.asarray(run(swelling((8, -10, 12)), most=5.0))
    inner = np.s_[2:-2, 2:-2, 2:-2]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        curl = np.gradient(moved[..., a], SPACING, axis=b)
        curl -= np.gradient(moved[..., b], SPACING, axis=a)
        assert np.abs(curl[inner]).max() < 0.01


def test_outside_it_falls_with_the_square_of_the_distance():
    shape = (96, 96, 96)  # the images of the periodic medium are far
    grid = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    distance = np.sqrt(sum(g**2 for g in grid))
    density = jnp.asarray(distance < 5, jnp.float32)
    length = np.linalg.norm(push(density, spacing=1.0, most=1.0), axis=-1)
    far = (distance > 7) & (distance < 18)
    slope = np.polyfit(np.log(distance[far]), np.log(length[far]), 1)[0]
    assert slope == pytest.approx(-2, abs=0.1)
    near = (distance > 1) & (distance < 4)  # and inside it grows with it
    slope = np.polyfit(np.log(distance[near]), np.log(length[near]), 1)[0]
    assert slope == pytest.approx(1, abs=0.1)


def test_nothing_pushes_nothing():
    moved = run(jnp.zeros(SHAPE), most=5.0)
    assert moved.shape == (*SHAPE, 3)
    assert not moved.any()
    assert not run(swelling(), most=0.0).any()
