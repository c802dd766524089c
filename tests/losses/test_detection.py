"""The losses of the detection head: against the formula, and what they must push to where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.losses.detection import box_loss, heatmap_loss
from medjax.ops.boxes import Boxes, heatmap

SHAPE = (4, 6, 5)
BOXES = Boxes(
    jnp.array([[1.0, 2.3, 3.0], [3.0, 4.0, 0.0], [0.0, 0.0, 0.0]]),
    jnp.array([[3.0, 4.0, 2.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]),
    jnp.array([1.0, 1.0, 0.0]),
)
EVERYWHERE = jnp.ones((1, *SHAPE), bool)


def target():
    return heatmap(BOXES, SHAPE)[None]


def test_the_heatmap_loss_is_its_formula():
    logits = jax.random.normal(jax.random.key(0), (1, *SHAPE))
    y, p = np.asarray(target(), np.float64), 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    expected = np.where(
        y == 1, -((1 - p) ** 2) * np.log(p), -((1 - y) ** 4) * p**2 * np.log(1 - p)
    ).sum()
    total, count = heatmap_loss(logits, target(), EVERYWHERE)
    assert total == pytest.approx(expected, rel=1e-5)
    assert count == 2


def test_certainty_is_finite_and_what_is_right_costs_nothing():
    for sign, low, high in ((1, 0.0, 1e-6), (-1, 100.0, 1e6)):
        logits = jnp.where(target() == 1, 60.0, -60.0) * sign
        (total, _), slope = jax.value_and_grad(
            lambda x: heatmap_loss(x, target(), EVERYWHERE), has_aux=True
        )(logits)
        assert low <= total <= high
        assert jnp.isfinite(slope).all()


def test_a_centre_is_pulled_up_and_its_neighbours_are_pushed_less_than_what_is_far():
    slope = jax.grad(lambda x: heatmap_loss(x, target(), EVERYWHERE)[0])(
        jnp.full((1, *SHAPE), -2.19)
    )[0]
    assert slope[1, 2, 3] < 0
    assert 0 < slope[1, 3, 3] < slope[0, 5, 4]


def test_what_nobody_searched_has_no_part():
    logits = jax.random.normal(jax.random.key(1), (2, *SHAPE))
    both = jnp.concatenate([target(), target()])
    first = jnp.arange(2).reshape(2, 1, 1, 1) < jnp.ones((2, *SHAPE))
    some = heatmap_loss(logits, both, first)
    np.testing.assert_allclose(some, heatmap_loss(logits[:1], target(), EVERYWHERE), rtol=1e-6)


def test_boxes_are_judged_where_their_centres_are():
    """The offset of the first box is (0, 0.3, 0); everything else of it is 0 or a logarithm."""
    zero = jnp.zeros((*SHAPE, 3))
    offset, size = box_loss(zero, zero, BOXES)
    assert offset == pytest.approx((0.1, 2))
    assert size[0] == pytest.approx((np.log(3) + np.log(4) + np.log(2)) / 3 + np.log(2))
    slope = jax.grad(lambda x: box_loss(zero, x, BOXES)[1][0])(zero)
    assert {tuple(p[:3]) for p in np.argwhere(slope)} == {(1, 2, 3), (3, 4, 0)}
