"""Boxes of instances, their heatmaps, and the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.metrics.detection import box_iou, objects
from medjax.ops.boxes import NARROWEST, Boxes, decode, heatmap, instance_boxes, suppress


def rows(*boxes):
    """Boxes of (centre, extent, score)."""
    centre, extent, score = zip(*boxes, strict=True)
    return Boxes(*(jnp.array(part, jnp.float32) for part in (centre, extent, score)))


def random_instances(seed, shape=(14, 18, 22), most=5):
    rng = np.random.default_rng(seed)
    instances = np.zeros(shape, np.int32)
    for number in rng.permutation(most)[: rng.integers(1, most + 1)] + 1:
        low = rng.integers(0, np.array(shape) - 4)
        high = low + rng.integers(1, 5, 3)
        instances[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = number
    return instances


@pytest.mark.parametrize("seed", range(4))
def test_boxes_of_instances_are_those_of_scipy(seed):
    instances = random_instances(seed)
    boxes = jax.jit(instance_boxes, static_argnums=1)(jnp.array(instances), 6)
    there = [n for n in range(1, 6) if (instances == n).any()]
    there.sort(key=lambda n: -(instances == n).sum())  # the largest first
    np.testing.assert_array_equal(boxes.score, np.arange(6) < len(there))
    np.testing.assert_array_equal(boxes.extent[len(there) :], 0)
    found = ndimage.find_objects(instances)
    for i, slices in enumerate(found[n - 1] for n in there):
        np.testing.assert_array_equal(boxes.extent[i], [s.stop - s.start for s in slices])
        np.testing.assert_array_equal(boxes.centre[i], [(s.start + s.stop - 1) / 2 for s in slices])


def test_numbers_may_be_any_and_the_largest_have_room_first():
    """A scan counts its objects to 254; a patch sees a few of them, and knows nothing where it is 255."""
    instances = np.zeros((6, 6, 6), np.uint8)
    instances[0, 0, :2], instances[2, :3, :3], instances[5] = 200, 31, 255
    boxes = instance_boxes(jnp.array(instances), 1)
    np.testing.assert_array_equal(boxes.centre, [[2, 1, 1]])
    np.testing.assert_array_equal(boxes.extent, [[1, 3, 3]])


def test_a_coarser_grid_sees_the_same_place():
    """Voxels 0 to 3 are the first block of 4: its middle is 1.5 here and 0 there."""
    fine = rows(((1.5, 5.5, 2.0), (4, 8, 3), 1))
    coarse = fine.on((4, 4, 1))
    np.testing.assert_allclose(coarse.centre, [[0, 1, 2]])
    np.testing.assert_allclose(coarse.extent, [[1, 2, 3]])
    np.testing.assert_array_equal(fine.on((1, 1, 1)).centre, fine.centre)


def test_a_heatmap_is_the_highest_gaussian():
    boxes = rows(
        ((3.2, 4, 5), (6, 12, 3), 1), ((5, 8.4, 9), (3, 9, 9), 0.5), ((1, 1, 1), (3, 3, 3), 0)
    )
    shape = (8, 12, 14)
    expected = np.zeros(shape)
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    for centre, extent in (((3, 4, 5), (6, 12, 3)), ((5, 8, 9), (3, 9, 9))):
        sigma = np.maximum(np.array(extent) / 6, NARROWEST)
        square = (((grid - np.array(centre)) / sigma) ** 2).sum(axis=-1)
        expected = np.maximum(expected, np.exp(-square / 2))
    made = np.asarray(heatmap(boxes, shape))
    np.testing.assert_allclose(made, expected, atol=1e-6)
    assert sorted(map(tuple, np.argwhere(made == 1))) == [(3, 4, 5), (5, 8, 9)]


def test_nothing_has_no_heat():
    nothing = instance_boxes(jnp.zeros((4, 5, 6), jnp.int32), 3)
    assert not heatmap(nothing, (4, 5, 6)).any()


def test_a_heatmap_gives_its_boxes_back():
    boxes = rows(((3.2, 4, 5), (4, 4, 4), 1), ((9, 8.4, 10), (3, 5, 2), 1))
    shape = (14, 12, 16)
    heat = 0.9 * heatmap(boxes, shape)
    offset = jnp.zeros((*shape, 3))
    size = jnp.zeros((*shape, 3))
    for voxel, centre, extent in zip(boxes.voxel(shape), boxes.centre, boxes.extent, strict=True):
        offset = offset.at[tuple(voxel)].set(centre - voxel)
        size = size.at[tuple(voxel)].set(jnp.log(extent))
    found = suppress(decode(heat, offset, size, most=6))
    order = np.argsort(np.asarray(found.centre[:2, 0]))
    np.testing.assert_allclose(found.centre[:2][order], boxes.centre, atol=1e-5)
    np.testing.assert_allclose(found.extent[:2][order], boxes.extent, rtol=1e-5)
    np.testing.assert_allclose(found.score, [0.9, 0.9, 0, 0, 0, 0], atol=1e-6)


def test_a_voxel_beside_a_higher_one_is_no_centre():
    heat = jnp.zeros((3, 5, 5)).at[1, 2, 2].set(0.8).at[0, 1, 1].set(0.7).at[2, 4, 4].set(0.1)
    none = jnp.zeros((3, 5, 5, 3))
    found = decode(heat, none, none, most=100)
    assert found.score.shape == (75,)
    np.testing.assert_allclose(found.score[:3], [0.8, 0.1, 0])
    np.testing.assert_array_equal(found.centre[:2], [[1, 2, 2], [2, 4, 4]])


@pytest.mark.parametrize("seed", range(4))
def test_suppression_is_that_of_plain_loops(seed):
    rng = np.random.default_rng(seed)
    n = 24
    score = np.sort(rng.uniform(0.1, 1, n))[::-1].copy()
    score[-3:] = 0
    boxes = Boxes(
        *(jnp.float32(a) for a in (rng.uniform(0, 16, (n, 3)), rng.uniform(3, 9, (n, 3)), score))
    )
    all_of_them = objects(np.float64(boxes.centre), np.float64(boxes.extent))
    overlaps, kept = box_iou(all_of_them, all_of_them), []
    for i in range(n):
        if score[i] > 0 and all(overlaps[i, j] <= 0.1 for j in kept):
            kept.append(i)
    found = jax.jit(suppress)(boxes)
    assert 3 < len(kept) < n - 3
    np.testing.assert_array_equal(np.flatnonzero(found.score), kept)
    np.testing.assert_array_equal(found.score[np.array(kept)], boxes.score[np.array(kept)])
