"""Boxes: of the size and place that was asked, and partners within their unit."""

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops import mixing

SHAPE = (6, 9, 12)


@pytest.mark.parametrize("place", [(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.2, 0.7)])
def test_a_box_has_its_size_and_stays_inside(place):
    found = np.asarray(mixing.box(SHAPE, jnp.array([2.0, 3.4, 12.0]), jnp.array(place)))
    corners = np.argwhere(found)
    extent = corners.max(0) - corners.min(0) + 1
    assert tuple(extent) == (2, 3, 12)
    assert found.sum() == extent.prod()
    expected = [round(p * (n - e)) for p, n, e in zip(place, SHAPE, extent, strict=True)]
    assert corners.min(0).tolist() == expected


def test_no_box_is_empty_or_larger_than_the_patch():
    assert mixing.box(SHAPE, jnp.zeros(3), jnp.ones(3)).sum() == 1
    assert mixing.box(SHAPE, jnp.full(3, 99.0), jnp.ones(3)).all()


def test_partners_stay_in_their_unit():
    assert mixing.partners(jnp.arange(6), 2).tolist() == [1, 0, 3, 2, 5, 4]
    assert mixing.partners(jnp.arange(6), 3).tolist() == [1, 2, 0, 4, 5, 3]
