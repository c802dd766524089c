"""Findings of whole scans: an oracle is heard through windows, flips, padding and other grids."""

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.prepare import Geometry
from medjax.infer.findings import find
from medjax.infer.restore import restore_boxes
from medjax.space.volume import Reorientation

PATCH = (8, 12, 12)
GRID = (2, 2, 2)  # patch voxels in a voxel of the head


def oracle(batch):
    """Calls each bright voxel of channel 0 an object, of the extent that the other channels say there."""
    b, d, h, w, _ = batch.shape
    cells = batch.reshape(b, d // 2, 2, h // 2, 2, w // 2, 2, -1)
    bright = cells[..., 0].max((2, 4, 6))
    where = jnp.moveaxis(cells[..., 0], (2, 4, 6), (4, 5, 6)).reshape(*bright.shape, 8).argmax(-1)
    offset = jnp.stack([where // 4, where // 2 % 2, where % 2], -1) * 0.5 - 0.25
    size = jnp.log(jnp.maximum(cells[..., 1:4].max((2, 4, 6)), 1e-3) / 2)
    return {
        "heatmap": jnp.clip(bright, 0, 1)[..., None],
        "offset": offset,
        "size": size,
        "classes": jnp.stack([1 - batch[:, 0, 0, 0, 4], batch[:, 0, 0, 0, 4]], -1),
    }


def scene(shape, objects):
    """An image with (place, extent, score); channel 4 is 1/4 everywhere."""
    image = np.zeros((*shape, 5), np.float32)
    image[..., 4] = 0.25
    for place, extent, score in objects:
        image[(*place, slice(0, 4))] = (score, *extent)
    return image


OBJECTS = [
    ((3, 4, 20), (3, 4, 5), 0.9),
    ((14, 21, 2), (2, 2, 2), 0.8),
    ((15, 20, 29), (4, 3, 2), 0.5),
    ((9, 12, 15), (5, 5, 5), 0.3),
]


@pytest.mark.parametrize("mirror", [(), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("shape", [(17, 23, 31), (16, 24, 32)])
@pytest.mark.parametrize("overlap", [0.25, 0.5])
def test_every_object_is_found_once_where_it_is(mirror, shape, overlap):
    found = find(oracle, scene(shape, OBJECTS), PATCH, overlap=overlap, mirror_axes=mirror)
    place, extent, score = zip(*OBJECTS, strict=True)
    np.testing.assert_allclose(found.objects.score, score, rtol=1e-6)
    np.testing.assert_allclose(found.objects.centre, place, atol=1e-4)
    np.testing.assert_allclose(found.objects.size, extent, rtol=1e-5)
    np.testing.assert_allclose(found.classes, [0.75, 0.25], rtol=1e-6)


def test_a_scan_smaller_than_the_patch_is_found_in_its_own_voxels():
    small = [((2, 1, 3), (2, 2, 2), 0.7)]
    found = find(oracle, scene((5, 6, 7), small), PATCH)
    np.testing.assert_allclose(found.objects.centre, [[2, 1, 3]], atol=1e-5)


def test_of_two_that_overlap_the_surer_stays_and_the_improbable_is_nothing():
    pair = [
        ((8, 8, 8), (6, 6, 6), 0.6),
        ((8, 10, 8), (6, 6, 6), 0.9),
        ((2, 2, 2), (1, 1, 1), 0.005),
    ]
    found = find(oracle, scene((16, 24, 24), pair), PATCH)
    np.testing.assert_allclose(found.objects.centre, [[8, 10, 8]], atol=1e-4)


def test_an_empty_scan_holds_nothing_and_still_has_a_class():
    found = find(oracle, np.zeros((16, 24, 24, 5), np.float32), PATCH)
    assert len(found.objects.centre) == 0
    np.testing.assert_array_equal(found.classes, [1, 0])


def test_what_is_not_finite_is_refused():
    image = scene((16, 24, 32), OBJECTS)
    image[..., 4] = np.nan
    with pytest.raises(FloatingPointError):
        find(oracle, image, PATCH)


def test_boxes_come_back_to_the_grid_of_the_scan():
    """Through the crop, the order of axes and the spacing: edges of voxels stay edges."""
    geometry = Geometry(
        (40, 50, 60),
        (slice(4, 34), slice(10, 50), slice(0, 60)),
        (2, 0, 1),
        None,
        Reorientation((0, 1, 2), (False,) * 3, np.eye(4)),
    )
    shape = (20, 15, 80)  # 60 of z, 30 of x, 40 of y
    low, high = np.array([[0.0, 0, 0], [4, 5, 6]]), np.array([[20.0, 15, 80], [9, 6, 16]])
    centre, extent = restore_boxes((low + high - 1) / 2, high - low, shape, geometry)
    edges = [(centre + 0.5) - extent / 2, (centre + 0.5) + extent / 2]
    np.testing.assert_allclose(edges[0], [[4, 10, 0], [4 + 5 * 2, 10 + 6 / 2, 4 * 3]])
    np.testing.assert_allclose(edges[1], [[34, 50, 60], [4 + 6 * 2, 10 + 16 / 2, 9 * 3]])
