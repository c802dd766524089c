import numpy as np
import pytest
from scipy import ndimage

from medjax.errors import UserError
from medjax.sim.anatomy import (
    CENTRE,
    EXTENT,
    LOWEST,
    NODE,
    Deformation,
    grid_affine,
    grid_shape,
    integrate,
    sample_deformation,
    subject_tissue,
    template_points,
)

SPACING = 4.0
NODES = tuple(round(length / NODE) for length in EXTENT)
IDENTITY = Deformation(np.eye(3), np.zeros((*NODES, 3), np.float32))


@pytest.fixture(scope="module")
def subjects():
    return [
        subject_tissue(sample_deformation(np.random.default_rng(seed)), SPACING)
        for seed in range(4)
    ]


def test_the_grid_covers_the_view():
    assert grid_shape(2.0) == (80, 96, 80)
    affine = grid_affine(2.0)
    np.testing.assert_allclose(affine[:3, 3], LOWEST + 1)
    np.testing.assert_allclose(affine @ [79.5, 95.5, 79.5, 1], [*(LOWEST + EXTENT), 1])


@pytest.mark.parametrize("spacing", [0.0, -1.0, 0.1, 9.0, float("nan")])
def test_impossible_spacing(spacing):
    with pytest.raises(UserError, match="spacing="):
        grid_shape(spacing)


def test_shares_sum_to_one_in_the_brain(subjects):
    for tissue in subjects:
        total = tissue.sum(axis=-1)
        brain = total > 0
        np.testing.assert_allclose(total[brain], 1, atol=1e-5)
        assert tissue.min() >= 0
        assert ndimage.label(brain)[1] == 1
        assert 1000 < brain.sum() * SPACING**3 / 1000 < 2200  # ml, a human brain
        for face in (brain[0], brain[-1], brain[:, 0], brain[:, -1], brain[..., -1]):
            assert not face.any()  # room on every side but the spine, which is cut
        csf, gm, wm = tissue.sum(axis=(0, 1, 2)) / total.sum()
        assert gm > wm > csf > 0.05


def test_without_deformation_it_is_the_template():
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    tissue, affine = subject_tissue(IDENTITY, SPACING), grid_affine(SPACING)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in grid_shape(SPACING)], indexing="ij"))
    world = grid * SPACING + affine[:3, 3].reshape(3, 1, 1, 1)
    for c, load in ((1, load_mni152_gm_template), (2, load_mni152_wm_template)):
        image = load(resolution=1)
        at = world + np.linalg.inv(image.affine)[:3, 3].reshape(3, 1, 1, 1)
        smooth = ndimage.uniform_filter(np.asarray(image.dataobj, np.float32), SPACING)
        expected = ndimage.map_coordinates(smooth, at, order=1)
        brain = tissue.sum(axis=-1) > 0
        assert np.corrcoef(tissue[brain][:, c], expected[brain])[0, 1] > 0.95


def test_subjects_differ_and_repeat(subjects):
    again = subject_tissue(sample_deformation(np.random.default_rng(0)), SPACING)
    assert np.array_equal(again, subjects[0])
    for other in subjects[1:]:
        assert np.mean(np.abs(other - subjects[0])[subjects[0].sum(-1) > 0]) > 0.05


def test_one_subject_at_two_spacings(subjects):
    fine = subject_tissue(sample_deformation(np.random.default_rng(0)), SPACING / 2)
    x, y, z, _ = subjects[0].shape
    block = fine.reshape(x, 2, y, 2, z, 2, 3).mean(axis=(1, 3, 5))
    assert np.corrcoef(block.ravel(), subjects[0].ravel())[0, 1] > 0.97


@pytest.mark.parametrize("seed", range(4))
def test_deformation_never_folds(seed):
    deformation = sample_deformation(np.random.default_rng(seed))
    step = 4.0
    axes = [np.arange(low, low + length, step) for low, length in zip(LOWEST, EXTENT, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"))
    moved = template_points(deformation, points)
    jacobian = np.stack(np.gradient(moved, step, axis=(1, 2, 3)), axis=1)
    determinant = np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))
    assert determinant.min() > 0.1
    assert determinant.std() > 0.05  # it bends, it does not only scale
    bend = np.abs(moved - np.tensordot(deformation.matrix, points - CENTRE.reshape(3, 1, 1, 1), 1))
    assert bend.max() > 2


@pytest.mark.parametrize("seed", range(3))
def test_deformation_is_undone_by_the_opposite_velocity(seed):
    velocity = sample_deformation(np.random.default_rng(seed)).velocity
    there, back = integrate(velocity), integrate(-velocity)
    nodes = np.stack(np.meshgrid(*[np.arange(n) for n in NODES], indexing="ij"))
    at = nodes + np.moveaxis(there, -1, 0) / NODE
    undone = np.stack(
        [ndimage.map_coordinates(back[..., c], at, order=1, mode="nearest") for c in range(3)], -1
    )
    inner = (slice(3, -3),) * 3
    assert np.abs(there[inner]).max() > 2
    assert np.abs((there + undone)[inner]).max() < 0.25 * np.abs(there[inner]).max()
    assert np.abs((there + undone)[inner]).mean() < 0.2  # mm: what linear reading on 8 mm leaves
