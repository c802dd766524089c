import json

import numpy as np
import pytest
from scipy import ndimage

from medjax.sim.anatomy import grid_affine, sample_deformation, subject_tissue
from medjax.sim.signal import TISSUES
from medjax.sim.tumour import REACH, paint

SPACING = 3.0
ML = SPACING**3 / 1000


@pytest.fixture(scope="module")
def brains():
    """Brains, and each with a tumour."""
    pairs = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        tissue = subject_tissue(sample_deformation(rng), SPACING)
        pairs.append((tissue, paint(rng, tissue, grid_affine(SPACING))))
    return pairs


def test_shares_replace_tissue(brains):
    for tissue, painted in brains:
        assert painted.fractions.min() >= 0
        np.testing.assert_allclose(painted.fractions.sum(-1), tissue.sum(-1), atol=1e-4)
        untouched = painted.fractions[..., 3:].sum(axis=-1) < 1e-6
        np.testing.assert_allclose(
            painted.fractions[untouched][:, :3], tissue[untouched], atol=1e-5
        )


def test_no_tumour_in_csf_or_outside(brains):
    for tissue, painted in brains:
        assert not painted.labels[tissue.sum(-1) == 0].any()
        assert not painted.labels[tissue[..., 0] >= 0.5].any()
        lesion = painted.fractions[..., 3:].sum(axis=-1)
        assert not lesion[tissue[..., 0] > 0.999].any()
        oedema = painted.fractions[..., TISSUES.index("oedema")]
        assert (oedema <= 1 - tissue[..., 0] + 1e-5).all()


def test_volumes_and_all_three_zones(brains):
    for _, painted in brains:
        volumes = np.bincount(painted.labels.ravel(), minlength=4)[1:] * ML
        assert volumes.sum() == pytest.approx(painted.parameters["whole_ml"], rel=0.15)
        assert 9 < volumes.sum() < 125
        assert (volumes > 0.3).all()
        core = (volumes[0] + volumes[2]) / volumes.sum()
        assert core == pytest.approx(painted.parameters["core_share"], abs=0.08)


def test_labels_follow_the_shares(brains):
    of = {name: c for c, name in enumerate(TISSUES)}
    for _, painted in brains:
        shares, labels = painted.fractions, painted.labels
        dead = shares[..., of["necrosis"]] + shares[..., of["nonenhancing"]]
        for label, zone in (
            (1, dead),
            (2, shares[..., of["oedema"]]),
            (3, shares[..., of["enhancing"]]),
        ):
            here, elsewhere = zone[labels == label].mean(), zone[labels != label].mean()
            assert here > 0.3 > 10 * elsewhere
        assert shares[..., 3:].sum(axis=-1)[labels == 0].max() < 0.75  # borders are soft


def test_zones_are_nested(brains):
    for _, painted in brains:
        labels = painted.labels
        core = (labels == 1) | (labels == 3)
        to_border = ndimage.distance_transform_edt(core)
        assert to_border[labels == 1].mean() > to_border[labels == 3].mean()
        # The core lies within the oedema: it touches healthy tissue less than a ball in the open.
        around = ndimage.binary_dilation(core) & ~core
        assert np.mean(labels[around] == 2) > 0.4


def test_oedema_follows_the_white_matter(brains):
    for tissue, painted in brains:
        oedema = painted.labels == 2
        tumour = painted.labels > 0
        near = ndimage.binary_dilation(tumour, iterations=3) & ~tumour & (tissue.sum(-1) > 0)
        assert tissue[oedema][:, 2].mean() > tissue[near][:, 2].mean() + 0.2


def test_border_is_irregular(brains):
    def faces(mask):
        return sum(np.abs(np.diff(mask.astype(np.int8), axis=axis)).sum() for axis in range(3))

    found = []
    grid = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 3, indexing="ij"))
    for _, painted in brains:
        tumour = painted.labels > 0
        radius = (tumour.sum() * 0.75 / np.pi) ** (1 / 3)
        ball = (grid**2).sum(axis=0) <= radius**2
        found.append(faces(tumour) / tumour.sum() ** (2 / 3) / faces(ball) * ball.sum() ** (2 / 3))
    assert min(found) > 1.05  # faces relative to a ball of that volume
    assert np.mean(found) > 1.25


def test_tumours_stay_within_reach_of_their_centre(brains):
    affine = grid_affine(SPACING)
    for _, painted in brains:
        world = np.argwhere(painted.labels) * SPACING + affine[:3, 3]
        far = np.abs(world - painted.parameters["centre_mm"]).max(axis=0)
        assert far.max() < REACH - SPACING  # the box that is painted never cuts one off


def test_tumours_start_in_white_matter_at_many_places(brains):
    centres = np.array([painted.parameters["centre_mm"] for _, painted in brains])
    for (tissue, _), centre in zip(brains, centres, strict=True):
        at = np.rint((centre - grid_affine(SPACING)[:3, 3]) / SPACING).astype(int)
        assert tissue[(*at, 2)] > 0.8
    assert (centres.std(axis=0) > 5).all()


def test_parameters_are_plain(brains):
    for _, painted in brains:
        assert json.loads(json.dumps(painted.parameters)) == painted.parameters
