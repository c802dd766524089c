import numpy as np
import pytest
from scipy import ndimage

from medjax.space import components
from medjax.space.components import bounding_box, joint_box, largest_component


def test_bounding_box_holds_every_voxel_and_no_more():
    mask = np.zeros((5, 6, 7), bool)
    mask[1, 2, 3] = mask[3, 2, 6] = True
    for view in (mask, np.asfortranarray(mask), np.moveaxis(np.moveaxis(mask, 1, 0).copy(), 0, 1)):
        assert bounding_box(view) == (slice(1, 4), slice(2, 3), slice(3, 7))
    assert bounding_box(np.zeros((2, 3, 4), bool)) == (slice(0, 0),) * 3


def test_the_joint_box_is_the_box_of_the_union():
    generator = np.random.default_rng(0)
    for share in (0.0, 0.003, 0.01, 0.2):
        a, b = generator.random((2, 9, 10, 11)) < share
        empty = np.zeros_like(a)
        assert joint_box(a, np.asfortranarray(b)) == bounding_box(a | b)
        assert joint_box(a, empty) == joint_box(empty, a) == bounding_box(a)


def test_the_largest_component_of_each_class_stays():
    labels = np.zeros((8, 8, 3), np.uint8)
    labels[0, 0, 0] = 1  # one voxel, and a component of two that touch by a corner
    labels[3, 3, 0] = labels[4, 4, 1] = 1
    labels[6:8, 6, 2] = 2  # two against one, class 2
    labels[0, 7, 2] = 2
    before = labels.copy()
    kept = largest_component(labels)
    expected = labels.copy()
    expected[0, 0, 0] = expected[0, 7, 2] = 0
    assert kept.dtype == np.uint8
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(labels, before)


def test_classes_that_touch_are_not_one_component():
    labels = np.zeros((6, 1, 1), np.int32)
    labels[:, 0, 0] = [1, 2, 2, 1, 1, 2]
    np.testing.assert_array_equal(largest_component(labels)[:, 0, 0], [0, 2, 2, 1, 1, 0])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64])
def test_dtypes_and_memory_orders(dtype, order):
    labels = np.zeros((4, 5, 6), dtype, order=order)
    labels[0, 0, 0] = 1
    labels[2:, 2:, 2:] = 1
    kept = largest_component(labels)
    assert kept.dtype == dtype
    assert kept.sum() == 2 * 3 * 4
    assert not kept[0, 0, 0]


def test_empty_and_single_components_come_back_unchanged():
    labels = np.zeros((4, 4, 4), np.uint8)
    np.testing.assert_array_equal(largest_component(labels), labels)
    labels[1:3, 1:3, 1:3] = 3
    np.testing.assert_array_equal(largest_component(labels), labels)


def test_a_device_without_cc3d_finds_the_same(monkeypatch):
    rng = np.random.default_rng(1)
    maps = [
        rng.integers(0, 3, (9, 8, 7)) * (rng.random((9, 8, 7)) < 0.3),
        rng.random((6, 7, 1)) < 0.4,
    ]
    fast = [components.largest_component(labels) for labels in maps]
    monkeypatch.setattr(components, "cc3d", None)
    for labels, wanted in zip(maps, fast, strict=True):
        np.testing.assert_array_equal(components.largest_component(labels), wanted)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_components_are_those_of_scipy_in_thin_volumes_too(dtype):
    rng = np.random.default_rng(2)
    for shape in [(3, 1, 1), (1, 9, 1), (1, 1, 8), (1, 7, 6), (5, 4, 3)]:
        for _ in range(50):
            mask = rng.random(shape) < rng.choice([0.3, 0.6])
            wanted, count = ndimage.label(mask, np.ones((3, 3, 3)))
            found = components.connected_components(mask.astype(dtype))
            assert found.max() == count
            np.testing.assert_array_equal(found > 0, mask)
            assert len(np.unique(found * (count + 1) + wanted)) == len(np.unique(wanted))
