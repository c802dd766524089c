import math

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial import KDTree

from medjax.metrics.surface import SurfaceDistances, assd, hausdorff, nsd, surface
from medjax.metrics.surface import surface_distances as distances
from medjax.space.components import bounding_box


def slow_surface(mask):
    """Voxel by voxel: a surface voxel misses a neighbour across one of its faces."""
    points = []
    for voxel in np.argwhere(mask):
        for axis in range(3):
            for step in (-1, 1):
                near = voxel.copy()
                near[axis] += step
                outside = not 0 <= near[axis] < mask.shape[axis]
                if mask.shape[axis] > 1 and (outside or not mask[tuple(near)]):
                    points.append(tuple(voxel))
    return np.array(sorted(set(points)), float).reshape(-1, 3)


def slow(prediction, reference, spacing):
    """All pairs of surface points."""
    a, b = slow_surface(prediction) * spacing, slow_surface(reference) * spacing
    table = np.sqrt(((a[:, None] - b[None]) ** 2).sum(-1))
    return table.min(1), table.min(0)


def slow_scores(forth, back, tolerance):
    pooled = [*forth, *back]
    return (
        max(np.percentile(forth, 95), np.percentile(back, 95)),
        max(*forth, *back),
        sum(pooled) / len(pooled),
        sum(d <= tolerance for d in pooled) / len(pooled),
    )


def scores(d, tolerance):
    return hausdorff(d), hausdorff(d, 100.0), assd(d), nsd(d, tolerance)


def blob(seed, shape=(9, 8, 7), share=0.4):
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 5.0)])
@pytest.mark.parametrize("shape", [(9, 8, 7), (12, 13, 1), (1, 9, 9), (2, 3, 4)])
def test_equals_all_pairs(shape, spacing):
    for seed in range(3):
        prediction, reference = blob(seed, shape, 0.6), blob(seed + 10, shape, 0.1)
        reference[0, 0, 0] = True
        assert np.argwhere(surface(prediction)).tolist() == slow_surface(prediction).tolist()
        d = distances(prediction, reference, spacing)
        forth, back = slow(prediction, reference, spacing)
        np.testing.assert_allclose(d.to_reference, forth, rtol=1e-6)
        np.testing.assert_allclose(d.to_prediction, back, rtol=1e-6)
        np.testing.assert_allclose(scores(d, 0.9), slow_scores(forth, back, 0.9), rtol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_order_and_views_do_not_matter(order):
    spacing = (1.0, 2.0, 3.5)
    plain = distances(blob(0), blob(1), spacing)
    other = distances(np.array(blob(0), order=order), np.array(blob(1), order=order), spacing)
    turned = distances(blob(0)[::-1], blob(1)[::-1], spacing)
    for a, b, c in zip(plain, other, turned, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.sort(a), np.sort(c))


@pytest.mark.parametrize(("axis", "k"), [(0, 3), (1, 4), (2, 2)])
def test_parallel_plates(axis, k):
    """Two plates of one voxel, k voxels apart: every distance is k times the spacing."""
    spacing = (0.5, 1.5, 4.0)
    a, b = np.zeros((2, 8, 8, 8), bool)
    np.moveaxis(a, axis, 0)[1] = np.moveaxis(b, axis, 0)[1 + k] = True
    d = distances(a, b, spacing)
    gap = k * spacing[axis]
    np.testing.assert_allclose(scores(d, gap), (gap, gap, gap, 1.0))
    assert nsd(d, gap - 0.01) == 0


def test_shift_by_n_voxels():
    """A cube of 4^3 moved by 2 voxels, counted by hand."""
    a, b = np.zeros((2, 10, 10, 10), bool)
    a[2:6, 2:6, 2:6] = b[4:8, 2:6, 2:6] = True
    d = distances(a, b, (1.0, 1.0, 1.0))
    assert hausdorff(d, 100.0) == 2
    # From a: its slices x = 2 (all 16 voxels, at 2 mm: the faces are 2 apart), x = 3 (rim of 12 at
    # 1 mm), x = 4 (rim of 12 on b's face) and x = 5 (rim of 12 on b's rim, and 4 inner at 1 mm).
    assert sorted(d.to_reference.tolist()) == [0.0] * 24 + [1.0] * 16 + [2.0] * 16
    assert assd(d) == pytest.approx((16 + 32) / 56)
    assert nsd(d, 1.0) == pytest.approx(40 / 56)


def test_an_outlier_of_one_direction_counts():
    """HD95 is the greater of the directed percentiles: pooled, one far island would be diluted."""
    a, b = np.zeros((2, 40, 12, 1), bool)
    a[:12, :12] = b[:12, :12] = True
    b[30:32, :4] = True  # 8 of b's 52 contour voxels, 15 %
    assert hausdorff(distances(a, b, (1.0, 1.0, 1.0)), 95.0) >= 19
    d = SurfaceDistances(np.zeros(95, np.float32), np.array([0, 0, 0, 7], np.float32))
    assert hausdorff(d, 100.0) == 7
    assert hausdorff(d, 50.0) == 0
    assert hausdorff(d, 95.0) == pytest.approx(0.85 * 7)  # rank 2.85 of 0..3


def test_spacing_times_two_is_distance_times_two():
    one, two = (0.8, 1.1, 3.0), (1.6, 2.2, 6.0)
    for seed in range(3):
        small = distances(blob(seed), blob(seed + 5), one)
        large = distances(blob(seed), blob(seed + 5), two)
        np.testing.assert_allclose(scores(large, 2.2)[:3], np.multiply(2, scores(small, 1.1)[:3]))
        assert nsd(large, 2.2) == nsd(small, 1.1)


def test_symmetry_and_identity():
    spacing = (1.0, 1.2, 2.0)
    there, back = distances(blob(0), blob(1), spacing), distances(blob(1), blob(0), spacing)
    np.testing.assert_array_equal(there.to_reference, back.to_prediction)
    np.testing.assert_allclose(scores(there, 1.0), scores(back, 1.0))
    assert scores(distances(blob(0), blob(0), spacing), 0.0) == (0, 0, 0, 1.0)


def test_what_lies_around_the_box_does_not_matter():
    a, b = (np.pad(blob(seed), 1) for seed in (0, 1))
    wide_a, wide_b = (np.pad(m, ((3, 9), (0, 5), (7, 0))) for m in (a, b))
    spacing = (1.0, 2.0, 3.0)
    small, large = distances(a, b, spacing), distances(wide_a, wide_b, spacing)
    np.testing.assert_array_equal(small.to_reference, large.to_reference)
    np.testing.assert_array_equal(small.to_prediction, large.to_prediction)


def test_a_slice_is_a_picture_but_a_flat_lesion_is_not():
    """Alone, a disc has a contour; in a volume all voxels of a flat disc are surface."""
    disc = np.zeros((9, 9, 1), bool)
    disc[2:7, 2:7] = True
    flat = np.pad(disc, ((0, 0), (0, 0), (2, 2)))
    assert distances(disc, disc, (1.0, 1.0, 1.0)).to_reference.size == 16
    assert distances(flat, flat, (1.0, 1.0, 1.0)).to_reference.size == 25


def test_a_tolerance_of_whole_voxels_holds_despite_rounding():
    for side in (0.1, 0.3, 0.7, 1.1, 1.37):
        for n in range(1, 8):
            a, b = np.zeros((2, 9, 3, 3), bool)
            a[0], b[n] = True, True
            d = distances(a, b, (side, 1.0, 1.0))
            assert nsd(d, n * side) == 1
            assert nsd(d, n * side * 0.999) == 0


def test_empty_masks():
    full, empty = np.ones((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    for pair in ((full, empty), (empty, full)):
        d = distances(*pair, (1.0, 1.0, 1.0))
        assert scores(d, 5.0) == (math.inf, math.inf, math.inf, 0.0)
    assert np.isnan(scores(distances(empty, empty, (1.0, 1.0, 1.0)), 5.0)).all()


@pytest.mark.parametrize(
    "spacing", [(1.0, 1.0, 0.0), (1.0, -1.0, 1.0), (1.0, math.nan, 1.0), (1.0, 1.0)]
)
def test_spacings_that_make_no_sense_are_refused(spacing):
    with pytest.raises(ValueError, match="spacing"):
        distances(blob(0), blob(1), spacing)


def test_wrong_grids_and_tolerances_are_refused():
    with pytest.raises(ValueError, match="different grids"):
        distances(np.ones((3, 3, 1), bool), np.ones((3, 3, 3), bool), (1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match=r"tolerance -1\.0"):
        nsd(distances(blob(0), blob(1), (1.0, 1.0, 1.0)), -1.0)


def test_equals_a_nearest_neighbour_search_on_a_real_tumour(shared):
    """Whole tumour of one patient against its core, moved a little: thousands of surface voxels."""
    case = sorted((shared / "brats2015").iterdir())[0]
    file = nib.load(next(case.glob("*_seg.nii.gz")))
    labels = np.asanyarray(file.dataobj)  # pyright: ignore[reportAttributeAccessIssue]
    box = bounding_box(labels > 0)
    labels = np.pad(labels[box], 3)
    reference, prediction = labels > 0, np.roll(labels == labels.max(), (1, -2, 0), (0, 1, 2))
    for spacing in ((1.0, 1.0, 1.0), (0.9, 1.1, 3.0)):
        d = distances(prediction, reference, spacing)
        a, b = (np.argwhere(surface(m)) * spacing for m in (prediction, reference))
        forth, back = KDTree(b).query(a)[0], KDTree(a).query(b)[0]
        assert len(back) > 2000
        np.testing.assert_allclose(d.to_reference, forth, rtol=1e-5)
        np.testing.assert_allclose(scores(d, 2.05), slow_scores(forth, back, 2.05), rtol=1e-5)
