"""Made against true images: by hand, at the limits, and SSIM against scikit-image."""

import math

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from medjax.metrics import synthesis

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(14, 15, 16)).cumsum(0)
MADE = TRUE + RNG.normal(0, 0.4, TRUE.shape)
MASK = np.zeros(TRUE.shape, bool)
MASK[6:8, 6:9, 6:10] = True  # farther from the edges than the window reaches


def test_ssim_is_scikit_images():
    whole = np.ones_like(MASK)
    _, theirs = structural_similarity(
        MADE,
        TRUE,
        data_range=float(np.ptp(TRUE)),
        gaussian_weights=True,
        use_sample_covariance=False,
        full=True,
    )
    assert synthesis.ssim(MADE, TRUE, whole) == pytest.approx(theirs.mean(), rel=1e-6)


def test_an_image_is_most_like_itself():
    assert synthesis.ssim(TRUE, TRUE, MASK) == pytest.approx(1)
    assert synthesis.ssim(MADE, TRUE, MASK) < 1
    assert synthesis.ssim(-TRUE, TRUE, MASK) < synthesis.ssim(MADE, TRUE, MASK)
    assert synthesis.mae(TRUE, TRUE, MASK) == 0
    assert synthesis.mae(TRUE + 2, TRUE, MASK) == pytest.approx(2)


def test_nothing_to_measure_is_undefined():
    none = np.zeros_like(MASK)
    assert math.isnan(synthesis.mae(MADE, TRUE, none))
    assert math.isnan(synthesis.ssim(MADE, TRUE, none))
    assert math.isnan(synthesis.contrast(TRUE, none, MASK))
    assert math.isnan(synthesis.contrast(TRUE, MASK, none))
    assert math.isnan(synthesis.contrast(np.ones_like(TRUE), MASK, ~MASK))
    assert not synthesis.surroundings(none, ~none, (1, 1, 1)).any()


def test_contrast_by_hand_and_under_rescaling():
    image = np.array([[[1.0, 3.0, 8.0]]])
    structure, around = np.array([[[0, 0, 1]]], bool), np.array([[[1, 1, 0]]], bool)
    assert synthesis.contrast(image, structure, around) == pytest.approx((8 - 2) / 1)
    assert synthesis.contrast(5 * image + 3, structure, around) == pytest.approx(6)
    assert synthesis.contrast(-image, structure, around) == pytest.approx(-6)


def test_surroundings_reach_as_many_mm_along_every_axis():
    structure = np.zeros((21, 21, 9), bool)
    structure[10, 10, 4] = True
    within = np.ones_like(structure)
    within[:10] = False
    found = synthesis.surroundings(structure, within, (1.0, 2.0, 5.0), reach=10.0)
    assert not found[10, 10, 4]
    assert not found[:10].any()
    assert np.flatnonzero(found[:, 10, 4]).tolist() == list(range(11, 21))
    assert np.flatnonzero(found[10, :, 4]).tolist() == [5, 6, 7, 8, 9, 11, 12, 13, 14, 15]
    assert np.flatnonzero(found[10, 10]).tolist() == [2, 3, 5, 6]
