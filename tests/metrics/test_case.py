import math

import numpy as np
import pytest

from medjax.metrics.case import score

SHAPE, SPACING = (10, 20, 5), (1.0, 0.5, 4.0)
DIAGONAL = math.sqrt(10**2 + 10**2 + 20**2)
VOXEL_ML = 2 / 1000
NAN = math.nan
EMPTY = np.zeros(SHAPE, bool)
OURS, THEIRS = EMPTY.copy(), EMPTY.copy()
OURS[2:4, 3:8, 1:3] = True  # 20 voxels
THEIRS[6:9, 3:8, 1:3] = True  # 30 voxels

# score: (both empty, prediction empty, reference empty), as the module's docstring has it
TABLE = {
    "dice": (NAN, 0, 0),
    "iou": (NAN, 0, 0),
    "sensitivity": (NAN, 0, NAN),
    "precision": (NAN, 0, 0),
    "hd95": (NAN, DIAGONAL, DIAGONAL),
    "hd100": (NAN, DIAGONAL, DIAGONAL),
    "assd": (NAN, DIAGONAL, DIAGONAL),
    "nsd": (NAN, 0, 0),
    "volume_ml": (0, 0, 20 * VOXEL_ML),
    "reference_ml": (0, 30 * VOXEL_ML, 0),
    "volume_error_ml": (0, 30 * VOXEL_ML, 20 * VOXEL_ML),
    "volume_bias_ml": (0, -30 * VOXEL_ML, 20 * VOXEL_ML),
    "volume_error_relative": (NAN, 1, NAN),
    "lesion_dice": (NAN, 0, 0),
    "lesion_f1": (NAN, 0, 0),
    "lesions_found": (0, 0, 0),
    "lesions_missed": (0, 1, 0),
    "lesions_false": (0, 0, 1),
    "missed": (NAN, 1, NAN),
    "false_alarm": (0, NAN, 1),
}


@pytest.mark.parametrize("name", TABLE)
def test_edge_case_table(name):
    pairs = [(EMPTY, EMPTY), (EMPTY, THEIRS), (OURS, EMPTY)]
    found = [score(*pair, SPACING)[name] for pair in pairs]
    np.testing.assert_allclose(found, TABLE[name])


def test_the_table_has_every_score_and_all_are_floats():
    result = score(OURS, THEIRS, SPACING)
    assert list(result) == list(TABLE)
    assert all(type(value) is float for value in result.values())
    assert [name for name, value in result.items() if math.isnan(value)] == ["false_alarm"]


def test_hand_worked_case():
    """The reference is the prediction moved by one voxel of 1 mm along x, in a slice of z."""
    ours, theirs = EMPTY.copy(), EMPTY.copy()
    ours[2:6, 5, 2] = theirs[3:7, 5, 2] = True
    result = score(ours, theirs, SPACING, tolerance=0.5)
    expected = {
        "dice": 3 / 4,
        "iou": 3 / 5,
        "sensitivity": 3 / 4,
        "precision": 3 / 4,
        "hd100": 1,
        "hd95": 0.85,  # of 0, 0, 0, 1: rank 2.85
        "assd": 1 / 4,
        "nsd": 3 / 4,
        "volume_ml": 4 * VOXEL_ML,
        "volume_bias_ml": 0,
        "lesion_dice": 3 / 4,
        "lesion_f1": 1,
        "missed": 0,
    }
    for name, value in expected.items():
        assert result[name] == pytest.approx(value), name
    assert math.isnan(result["false_alarm"])
    assert score(ours, theirs, SPACING)["nsd"] == 1


def test_a_perfect_prediction():
    result = score(THEIRS, THEIRS, SPACING)
    ones = ("dice", "iou", "sensitivity", "precision", "nsd", "lesion_dice", "lesion_f1")
    assert all(result[name] == 1 for name in ones)
    zeros = ("hd95", "hd100", "assd", "volume_error_ml", "volume_error_relative", "missed")
    assert all(result[name] == 0 for name in zeros)


def test_no_distance_reaches_the_penalty():
    ours, theirs = EMPTY.copy(), EMPTY.copy()
    ours[0, 0, 0] = theirs[-1, -1, -1] = True
    assert score(ours, theirs, SPACING)["hd100"] < DIAGONAL


def test_the_volume_bias_is_signed_and_the_error_is_not():
    result = score(OURS, THEIRS, SPACING)
    assert result["volume_bias_ml"] == pytest.approx(-10 * VOXEL_ML)
    assert result["volume_error_ml"] == pytest.approx(10 * VOXEL_ML)
    assert result["volume_error_relative"] == pytest.approx(1 / 3)


def test_lesions_below_the_minimum_may_leave_nothing_to_judge():
    result = score(THEIRS, THEIRS, SPACING, minimum_lesion_mm3=1000.0)
    assert math.isnan(result["lesion_dice"])
    assert result["dice"] == 1


def test_grids_must_agree():
    with pytest.raises(ValueError, match="different grids"):
        score(OURS[:, :, :1], THEIRS, SPACING)
