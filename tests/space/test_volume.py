import itertools

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medjax.space.volume import Volume, affine_orientation, affine_spacing, displacement

AXES = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)


def signed_permutation(axes, signs, spacing=(0.5, 2.0, 3.0), origin=(-7.0, 11.0, 13.0)):
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3)[:, list(axes)] * signs) * spacing
    affine[:3, 3] = origin
    return affine


@st.composite
def affines(draw):
    number = st.floats(-1, 1)
    rotation = Rotation.from_rotvec(4 * np.array(draw(st.tuples(number, number, number))))
    spacing = np.array(draw(st.tuples(*[st.floats(0.1, 9)] * 3)))
    shear = np.eye(3) + 0.2 * np.triu(draw(number) * np.ones((3, 3)), 1)
    affine = np.eye(4)
    affine[:3, :3] = rotation.as_matrix() @ shear * spacing
    if draw(st.booleans()):
        affine[:, 0] *= -1
    affine[:3, 3] = 100 * np.array(draw(st.tuples(number, number, number)))
    return affine


@pytest.mark.parametrize(("axes", "signs"), AXES)
def test_all_48_orientations_agree_with_nibabel(axes, signs):
    affine = signed_permutation(axes, signs)
    array = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2)
    volume = Volume(array, affine)
    assert volume.orientation == "".join(nib.aff2axcodes(affine))
    canonical, _ = volume.canonical()
    expected = nib.as_closest_canonical(nib.Nifti1Image(array.astype(np.int32), affine))
    np.testing.assert_array_equal(canonical.array, expected.dataobj)
    np.testing.assert_array_equal(canonical.affine, expected.affine)
    assert canonical.orientation == "RAS"


@given(affines(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_canonical_keeps_every_voxel_in_its_place_and_undo_is_exact(affine, channels):
    shape = (3, 4, 5, 2) if channels else (3, 4, 5)
    volume = Volume(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), affine)
    canonical, reorientation = volume.canonical()
    assert canonical.orientation == "RAS"
    for index in np.ndindex(canonical.array.shape[:3]):
        world = canonical.affine @ (*index, 1)
        old = np.rint(np.linalg.solve(affine, world))[:3].astype(int)
        np.testing.assert_allclose(affine @ (*old, 1), world, atol=1e-9)
        np.testing.assert_array_equal(volume.array[tuple(old)], canonical.array[index])
    back = reorientation.undo(canonical)
    assert back.array.dtype == volume.array.dtype
    assert back.affine.tobytes() == affine.tobytes()
    np.testing.assert_array_equal(back.array, volume.array)
    mask = volume.array[..., None] % 3 == 0  # another array on the same grid
    there = reorientation.apply_array(mask)
    np.testing.assert_array_equal(there[..., 0], canonical.array % 3 == 0)
    np.testing.assert_array_equal(reorientation.undo_array(there), mask)


@given(affines())
@settings(deadline=None, max_examples=60)
def test_canonical_axes_are_the_closest(affine):
    u, _, vt = np.linalg.svd(affine[:3, :3] / affine_spacing(affine))
    rotation = u @ vt
    canonical, reorientation = Volume(np.zeros((2, 2, 2)), affine).canonical()
    chosen = np.abs(rotation[range(3), reorientation.axes]).sum()
    others = [np.abs(rotation[range(3), p]).sum() for p in itertools.permutations(range(3))]
    assert chosen >= max(others) - 1e-8
    again, _ = canonical.canonical()
    np.testing.assert_array_equal(again.affine, canonical.affine)  # idempotent


def test_a_tie_of_45_degrees_permutes_nothing():
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", 45, degrees=True).as_matrix()
    assert affine_orientation(affine) == "RAS"


@given(affines())
@settings(deadline=None, max_examples=30)
def test_spacing_is_the_distance_of_neighbours(affine):
    volume = Volume(np.zeros((2, 2, 2)), affine)
    for axis in range(3):
        step = affine @ np.eye(4)[axis]
        assert volume.spacing[axis] == pytest.approx(np.linalg.norm(step))
    np.testing.assert_allclose(affine_spacing(affine * 2), 2 * np.array(volume.spacing))


@given(affines(), affines(), st.tuples(*[st.integers(1, 4)] * 3))
@settings(deadline=None, max_examples=40)
def test_displacement_is_the_largest_over_all_voxels(first, second, shape):
    everywhere = [np.linalg.norm((first - second) @ (*index, 1)) for index in np.ndindex(shape)]
    assert displacement(first, second, (*shape, 7)) == pytest.approx(max(everywhere), abs=1e-9)
    assert displacement(first, first, shape) == 0
