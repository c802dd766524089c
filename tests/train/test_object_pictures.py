import nibabel as nib
import numpy as np
import pytest

from medjax.data.cases import Case
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.metrics.detection import objects
from medjax.train.findings import Said
from medjax.train.object_pictures import choose, object_cases, painted

SIZE = (10.0, 10.0, 10.0)


def said(case, found, there, scores=None, ignored=None):
    def boxes(centres, **options):
        centres = np.array(centres, float).reshape(-1, 3)
        return objects(centres, np.full((len(centres), 3), 10.0), **options)

    scores = None if scores is None else np.array(scores)
    ignored = None if ignored is None else np.array(ignored)
    ours, theirs = boxes(found, score=scores), boxes(there, ignored=ignored)
    return Said(case, None, ours, np.eye(4), None, theirs)


def test_the_surest_and_the_hardest_are_shown():
    shown = choose(
        [
            said(
                "a",
                [(20, 20, 20), (51, 50, 50), (90, 9, 9)],
                [(20, 21, 20), (50, 50, 50)],
                [0.9, 0.3, 0.6],
            ),
            said("b", [(20, 20, 20), (60, 60, 60)], [(60, 60, 60)], [0.8, 0.7]),
        ]
    )
    assert [(s.role, s.case, s.scores) for s in shown] == [
        ("surest hit", "a", {"score": 0.9}),
        ("surest false alarm", "b", {"score": 0.8}),
        ("least sure hit", "a", {"score": 0.3}),
    ]
    assert shown[2].centre.tolist() == [50, 50, 50]  # the object's, and the box of what was found
    assert shown[2].found.centre.tolist() == [[51, 50, 50]]


def test_the_largest_missed_is_harder_than_any_hit():
    small = said("a", [(20, 20, 20)], [(20, 20, 20), (70, 70, 70)], [0.1])
    large = said("b", [], [(40, 40, 40)])
    large = large._replace(there=large.there._replace(size=np.full((1, 3), 30.0)))
    shown = choose([small, large])
    assert [(s.role, s.case) for s in shown] == [("surest hit", "a"), ("missed", "b")]
    assert shown[1].found is None


def test_nothing_is_shown_twice_nor_without_a_reference():
    assert [s.role for s in choose([said("a", [(20, 20, 20)], [(20, 20, 20)])])] == ["surest hit"]
    unknown = said("a", [(20, 20, 20)], [])._replace(there=None)
    silent = said("a", [], [(20, 20, 20)])._replace(objects=None)
    assert choose([unknown, silent]) == []
    beyond = said("a", [(20, 20, 20)], [])._replace(seen=np.array([False]))
    assert choose([beyond]) == []
    ignored = said("a", [(20, 20, 20)], [(20, 20, 20)], ignored=[True])
    assert choose([ignored]) == []


def test_boxes_are_painted_in_mm():
    mask = painted(
        objects(np.array([[4.0, 6.0, 9.0]]), np.array([[4.0, 4.0, 6.0]])), (6, 8, 5), (2, 2, 3)
    )
    assert np.argwhere(mask).min(axis=0).tolist() == [1, 2, 2]
    assert np.argwhere(mask).max(axis=0).tolist() == [3, 4, 4]
    assert mask.sum() == 27


@pytest.mark.parametrize("centre", [(4.4, 6.1, 9.2), (-3.0, 50.0, 9.0)])
def test_the_smallest_and_the_farthest_box_is_one_voxel(centre):
    mask = painted(objects(np.array([centre]), np.full((1, 3), 0.1)), (6, 8, 5), (2.0, 2.0, 3.0))
    assert mask.sum() == 1


def test_a_picture_runs_through_what_it_shows(tmp_path):
    """The box of the finding, all objects of the scan, and the place where the slices are cut."""
    image = np.random.default_rng(0).normal(size=(40, 40, 20)).astype(np.float32) + 5
    paths = tuple(str(tmp_path / f"a{channel}.nii.gz") for channel in (0, 1))
    nib.Nifti1Image(image, np.diag([2.0, 2.0, 4.0, 1.0])).to_filename(paths[0])
    image[8:13, 8:13, 4:7] += 9  # the missed object shows in the second channel alone
    image[28:33, 28:33, 14:17] += 9
    nib.Nifti1Image(image, np.diag([2.0, 2.0, 4.0, 1.0])).to_filename(paths[1])
    one = said("a", [(60, 30, 40)], [(20, 20, 20), (60, 60, 60)], [0.9])
    (alarm, missed) = object_cases(
        {"a": Case("a", "a", paths, None)},
        choose([one]),
        ("T1", "FLAIR"),
        convention=CONVENTIONS["binary"],
    )
    assert (alarm.role, missed.role) == ("surest false alarm", "missed")
    assert np.argwhere(alarm.focus).tolist() == [[30, 15, 10]]
    assert alarm.prediction[30, 15, 10] == 1
    assert alarm.prediction.sum() == 5**2 * 3
    assert missed.prediction.sum() == 0
    for shown in (alarm, missed):
        assert shown.channel == "FLAIR"
        assert shown.reference[10, 10, 5] == shown.reference[30, 30, 15] == 1
        assert shown.reference.sum() == 2 * 5**2 * 3
