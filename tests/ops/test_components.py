"""The compiled largest component against the one of numpy."""

import jax
import numpy as np
import pytest

from medjax.ops.components import largest_component
from medjax.space import components

compiled = jax.jit(largest_component)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.12, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_part_as_in_numpy(seed, share):
    mask = np.random.default_rng(seed).random((9, 10, 11)) < share
    np.testing.assert_array_equal(compiled(mask), components.largest_component(mask))


def test_a_winding_part_is_one():
    mask = np.zeros((9, 10, 11), bool)
    mask[0, ::2] = True  # rows, joined at alternating ends
    mask[0, 1::4, -1] = mask[0, 3::4, 0] = True
    mask[4:8, 3:6, 3:6] = True  # a compact one of fewer voxels
    assert mask[0].sum() > mask[4:8].sum()
    found = np.asarray(compiled(mask))
    np.testing.assert_array_equal(found[0], mask[0])
    assert not found[1:].any()
