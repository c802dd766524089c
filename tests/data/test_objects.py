"""Objects of a scan: parts of a class or ellipsoids of a list, the same place in voxels and in the world."""

from dataclasses import replace

import numpy as np
import pytest

from medjax.data.cases import Case, Object
from medjax.data.convention import IGNORE, Convention, Region
from medjax.data.objects import boxes, instances, looked_at, paint, prepare_instances
from medjax.data.prepare import Geometry, Scan, prepare_labels
from medjax.errors import UserError
from medjax.metrics.detection import objects
from medjax.space.volume import Reorientation

WHOLE = Region("whole", ("core", "rim"), "rim")
CONVENTION = Convention("two", {0: "background", 1: "core", 2: "rim"}, (WHOLE,))
MM = (1.0, 2.0, 3.0)
AFFINE = np.array([[0, -2.0, 0, 5], [1.0, 0, 0, -7], [0, 0, 3.0, 11], [0, 0, 0, 1]])
CASE = Case("a", "a", ("a.nii.gz",), "a_label.nii.gz")


def scan_of(label=None, shape=(9, 8, 7)):
    image = np.ones((*shape, 1), np.float32)
    return Scan(image, label, AFFINE, MM, Reorientation((0, 1, 2), (False,) * 3, AFFINE))


def labelled():
    label = np.zeros((9, 8, 7), np.uint8)
    label[1:3, 1:4, 1:3] = 2
    label[2, 2, 2] = 1
    label[5, 5, 5] = label[6, 6, 6] = 2  # parts that touch at a corner are one
    label[8] = IGNORE
    return label


def listed(*objects):
    return Case("a", "a", ("a.nii.gz",), None, objects=tuple(Object(*o) for o in objects))


def test_parts_of_a_class_and_of_a_region_are_objects():
    scan = scan_of(labelled())
    whole = instances(CASE, scan, CONVENTION, "whole")
    assert set(np.unique(whole)) == {0, 1, 2, IGNORE}
    assert (whole[1:3, 1:4, 1:3] == whole[1, 1, 1]).all()
    assert whole[5, 5, 5] == whole[6, 6, 6] != whole[1, 1, 1]
    assert (whole[8] == IGNORE).all()
    assert np.count_nonzero(instances(CASE, scan, CONVENTION, "core") == 1) == 1
    found = boxes(CASE, scan, CONVENTION, "whole")
    order = np.argsort(found.centre[:, 0])
    np.testing.assert_allclose(found.centre[order], [[1.5, 4, 4.5], [5.5, 11, 16.5]])
    np.testing.assert_allclose(found.size[order], [[2, 6, 6], [2, 4, 6]])


def test_what_nobody_searched_is_unknown_and_what_holds_nothing_is_not():
    bare = Case("a", "a", ("a.nii.gz",), None)
    assert (instances(bare, scan_of(), CONVENTION, "core") == IGNORE).all()
    assert boxes(bare, scan_of(), CONVENTION, "core") is None
    empty = scan_of(np.zeros((9, 8, 7), np.uint8))
    for case in (CASE, listed()):
        assert (instances(case, empty, CONVENTION, "core") == 0).all()
        assert len(boxes(case, empty, CONVENTION, "core").centre) == 0


def test_a_part_that_may_go_on_where_nobody_looked_has_no_box():
    """A scribble over an object teaches no box of the scribble; what was found there is not judged."""
    label = np.full((9, 8, 7), IGNORE, np.uint8)
    label[:4] = 0
    label[1, 1, 1] = 1  # looked at all around
    label[3, 5:7, 5] = 1  # touches what nobody labelled
    label[7, 3, 3] = 1  # lies in it
    scan = scan_of(label)
    numbers = instances(CASE, scan, CONVENTION, "core")
    assert numbers[1, 1, 1] not in (0, IGNORE)
    assert (numbers[label == 1] == IGNORE).tolist() == [False, True, True, True]
    assert (numbers[label == 0] == 0).all()
    found = boxes(CASE, scan, CONVENTION, "core")
    assert found.ignored.tolist() == [False, True, True]
    np.testing.assert_allclose(found.centre[:2], [[1, 2, 3], [3, 11, 15]])
    said = objects(np.array([[3.0, 0, 0], [3.6, 0, 0], [99, 99, 99]]), np.ones((3, 3)))
    assert looked_at(said, CASE, scan).tolist() == [True, False, False]
    assert looked_at(said, listed(), scan).all()


def test_ellipsoids_are_painted_where_the_world_says():
    """Against a look at every voxel; the second lies within the first and is smaller."""
    objects = (
        Object((-3.0, -3.0, 17.0), (5.2, 9.1, 10.1)),
        Object((-3.0, -3.0, 17.0), (2.2, 2.2, 2.2)),
        Object((-11.0, 1.0, 29.0), (0.01, 0.01, 0.01)),
    )
    scan = scan_of()
    grid = np.stack(np.meshgrid(*map(np.arange, (9, 8, 7)), indexing="ij"), -1)
    centres = [np.linalg.solve(AFFINE, [*o.centre, 1])[:3] for o in objects]
    expected = np.zeros((9, 8, 7), np.uint8)
    for number in (0, 1):
        away = (grid - centres[number]) * MM / (np.array(objects[number].size) / 2)
        expected[(away**2).sum(-1) <= 1] = number + 1
    painted = paint(objects, scan)
    np.testing.assert_array_equal(np.where(painted == 3, 0, painted), expected)
    tiny = np.argwhere(painted == 3)
    np.testing.assert_array_equal(tiny, [np.clip(np.rint(centres[2]), 0, [8, 7, 6])])
    found = boxes(listed(*objects), scan, CONVENTION, "core")
    np.testing.assert_allclose(found.centre, np.array(centres) * MM)
    np.testing.assert_allclose(found.size, [o.size for o in objects])


def test_too_many_objects_and_an_unknown_name_end_in_one_line():
    label = np.zeros((20, 20, 20), np.uint8)
    label[::2, ::2, ::2] = 1
    with pytest.raises(
        UserError, match="case a: 1000 objects of core, and a scan has room for 254"
    ):
        instances(CASE, scan_of(label, (20, 20, 20)), CONVENTION, "core")
    with pytest.raises(UserError, match="'rind' is no class or region; choose one of whole, core"):
        instances(CASE, scan_of(labelled()), CONVENTION, "rind")


def test_a_class_that_nobody_drew_was_not_searched():
    """`core` alone is drawn: `whole` holds `rim` too, so nobody knows how many of it there are."""
    case = replace(CASE, drawn=("core",))
    label = np.where(labelled() == 2, 0, labelled())
    convention = replace(CONVENTION, partial=(("core",),))
    assert (instances(case, scan_of(label), convention, "whole") == IGNORE).all()
    assert boxes(case, scan_of(label), convention, "whole") is None
    assert set(np.unique(instances(case, scan_of(label), convention, "core"))) == {0, 1, IGNORE}


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_an_object_smaller_than_a_voxel_of_the_plan_is_not_lost(axes):
    numbers = np.zeros((12, 16, 20), np.uint8)
    numbers[2:10, 4:12, 8:16] = 1
    numbers[1, 13, 2] = 2
    numbers[5, 6, 10:12] = 3  # within the first
    numbers[9:] = IGNORE
    box = (slice(0, 12), slice(0, 16), slice(0, 20))
    scan = scan_of(shape=numbers.shape)
    geometry = Geometry(numbers.shape, box, axes, None, scan.orientation)
    shape = tuple(numbers.shape[axis] // 4 for axis in axes)
    plain = prepare_labels(numbers, geometry, shape)
    assert set(np.unique(plain)) == {0, 1, IGNORE}
    kept = prepare_instances(numbers, geometry, shape).transpose(np.argsort(axes))
    np.testing.assert_array_equal(np.argwhere(kept == 2), [[0, 3, 0]])
    np.testing.assert_array_equal(np.argwhere(kept == 3), [[1, 1, 2]])
    rest = kept < 2
    np.testing.assert_array_equal(kept[rest], plain.transpose(np.argsort(axes))[rest])


def test_an_object_outside_of_the_kept_part_is_not_brought_in():
    numbers = np.zeros((8, 8, 8), np.uint8)
    numbers[0, 0, 0] = 1
    geometry = Geometry((8, 8, 8), (slice(2, 8),) * 3, (0, 1, 2), None, scan_of().orientation)
    assert not prepare_instances(numbers, geometry, (3, 3, 3)).any()
