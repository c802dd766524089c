import math

import numpy as np
import pytest
from scipy import ndimage

from medjax.metrics.lesion import lesion_scores

UNIT = (1.0, 1.0, 1.0)


def line(text: str):
    """A row of voxels: '#' is a lesion's."""
    return np.array([c == "#" for c in text]).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    ("prediction", "reference", "dice", "f1", "counts"),
    [
        # one of two lesions found whole, the other missed
        ("##......", "##...###", 1 / 2, 2 / 3, (1, 1, 0)),
        # found in part (2 of 3), and one false component
        ("##....#.", "###.....", (4 / 5 + 0) / 2, 2 / 3, (1, 0, 1)),
        # two components in one lesion count together: 3 of 4 voxels
        ("#.##....", "####....", 6 / 7, 1, (1, 0, 0)),
        # a bridge over two lesions is found twice and costs in both: 2*2/(5+2), twice
        ("#####...", "##.##...", 4 / 7, 1, (2, 0, 0)),
        # no overlap at all
        ("##......", "....##..", 0, 0, (0, 1, 1)),
        ("........", "##...#..", 0, 0, (0, 2, 0)),
        ("##...#..", "........", 0, 0, (0, 0, 2)),
        ("........", "........", math.nan, math.nan, (0, 0, 0)),
        ("##..#..#", "##..#..#", 1, 1, (3, 0, 0)),
    ],
)
def test_hand_worked_cases(prediction, reference, dice, f1, counts):
    result = lesion_scores(line(prediction), line(reference), UNIT)
    np.testing.assert_allclose(result[:2], (dice, f1))
    assert result[2:] == counts


def test_small_reference_lesions_are_left_out_by_volume():
    reference = line("#...##...####")
    prediction = line("#........##..")
    spacing = (1.0, 2.0, 0.5)  # 1 mm3
    assert lesion_scores(prediction, reference, spacing)[2:] == (2, 1, 0)
    # The lesion of 1 mm3 is out, and what found it is not false; 2 mm3 is not below 2 mm3.
    result = lesion_scores(prediction, reference, spacing, minimum_mm3=2.0)
    np.testing.assert_allclose(result, (4 / 6 / 2, 2 / 3, 1, 1, 0))
    assert lesion_scores(prediction, reference, (2.0, 2.0, 2.0), minimum_mm3=2.0)[2:] == (2, 1, 0)
    everything_small = lesion_scores(prediction, reference, spacing, minimum_mm3=100.0)
    assert np.isnan(everything_small[:2]).all()


def test_every_lesion_weighs_the_same():
    """A large lesion found and a small one missed: Dice is high, the lesion-wise one is a half."""
    reference = np.zeros((20, 20, 20), bool)
    reference[:12, :12, :12] = reference[15, 15, 15] = True
    prediction = reference.copy()
    prediction[15, 15, 15] = False
    assert lesion_scores(prediction, reference, UNIT).dice == 0.5


def test_corners_connect():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert lesion_scores(mask, mask, UNIT).found == 1


def test_equals_one_lesion_at_a_time():
    """A slow form: scipy's labels, a loop over lesions."""
    corners = np.ones((3, 3, 3))
    seen = np.zeros(3, int)
    for seed in range(5):
        a, b = (
            ndimage.gaussian_filter(noise, 1.0) > 0.12
            for noise in np.random.default_rng(seed).normal(size=(2, 14, 13, 12))
        )
        ours, theirs = (np.asarray(ndimage.label(m, corners)[0]) for m in (a, b))  # pyright: ignore
        parts, touched = [], set()
        for lesion in range(1, theirs.max() + 1):
            here = theirs == lesion
            hits = set(ours[here & a].tolist())
            touched |= hits
            union = np.isin(ours, sorted(hits)) & a
            parts.append(2 * (union & here).sum() / (union.sum() + here.sum()))
        false = ours.max() - len(touched)
        found = sum(p > 0 for p in parts)
        missed = len(parts) - found
        seen += (found, missed, false)
        result = lesion_scores(a, b, UNIT)
        f1 = 2 * found / (2 * found + missed + false)
        np.testing.assert_allclose(
            result, (sum(parts) / (len(parts) + false), f1, found, missed, false)
        )
    assert (seen > 5).all()


def test_grids_must_agree():
    with pytest.raises(ValueError, match="different grids"):
        lesion_scores(np.ones((3, 3, 1), bool), np.ones((3, 3, 3), bool), UNIT)
