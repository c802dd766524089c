"""Plaques of multiple sclerosis: where they lie, how much there is of them, and what they replace."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.sim.plaques import CSF, GM, WM, Plaques, draw_plaques, paint_plaques
from medjax.sim.tissue import HEAD, TISSUES

SPACING = 2.0
MIDDLE = Plaques(*map(jnp.float32, (6.0, 0.5, 2.0, 0.1, 0.6)))


@pytest.fixture(scope="module")
def brain(egg):
    return jnp.asarray(egg.shares[::2, ::2, ::2]), jnp.asarray(egg.depth[::2, ::2, ::2])


@pytest.fixture(scope="module")
def paint(brain):
    """`paint(key, changes)`: shares and labels."""
    compiled = jax.jit(lambda key, drawn: paint_plaques(key, drawn, *brain, SPACING))
    return lambda seed, **changes: jax.device_get(
        compiled(
            jax.random.key(seed),
            MIDDLE._replace(**{k: jnp.float32(v) for k, v in changes.items()}),
        )
    )


@pytest.mark.parametrize("load", [1.0, 6.0, 20.0])
def test_labels_fill_the_drawn_load(paint, load):
    _, label = paint(0, load=load)
    assert label.sum() * SPACING**3 / 1000 == pytest.approx(load, abs=0.05)


def test_plaques_take_the_place_of_matter_and_of_nothing_else(paint, brain):
    shares, label = paint(1, load=20.0)
    before = np.asarray(brain[0])
    np.testing.assert_allclose(shares.sum(-1), before.sum(-1), atol=1e-5)
    for name in HEAD:
        if name not in ("gm", "wm"):
            place = HEAD.index(name)
            np.testing.assert_array_equal(shares[..., place], before[..., place])
    plaque = shares[..., TISSUES.index("plaque")]
    others = [TISSUES.index(n) for n in TISSUES if n not in HEAD and n != "plaque"]
    assert shares[..., others].max() == 0
    matter = before[..., GM] + before[..., WM]
    assert np.all(plaque <= 0.6 * matter + 1e-6)  # the density
    assert set(np.unique(label)) == {0, 1}
    assert np.all(matter[label == 1] > 0.5)
    assert plaque[label == 1].min() > plaque[label == 0].mean()


def test_more_of_them_lie_by_the_ventricles_where_that_is_preferred(paint, brain):
    """The ventricle of the egg is a ball in its middle."""
    fluid = np.argwhere(np.asarray(brain[0][..., CSF]) > 0.5)
    middle = fluid.mean(axis=0)
    far = []
    for inner in (0.0, 4.0):
        places = np.concatenate([np.argwhere(paint(seed, inner=inner)[1]) for seed in range(4)])
        far.append(np.linalg.norm(places - middle, axis=1).mean())
    assert far[1] < 0.8 * far[0]


def test_the_key_decides(paint):
    first, again, other = (paint(seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_what_is_drawn_lies_in_its_ranges():
    drawn = jax.vmap(draw_plaques)(jax.random.split(jax.random.key(0), 200))
    assert 1 <= drawn.load.min() < 2
    assert 30 < drawn.load.max() <= 40
    for values, low, high in ((drawn.coarse, 0, 1), (drawn.density, 0.35, 0.9)):
        assert low <= values.min() < values.max() <= high
