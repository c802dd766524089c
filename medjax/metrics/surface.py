"""Distances in mm between the surfaces of two masks: Hausdorff, ASSD, NSD.

The surface of a mask is its boundary voxels: the mask minus its 6-connected erosion, voxels at the
edge of the image included (as in MONAI). A surface voxel counts one, whatever its orientation or
the spacing; DeepMind's `surface-distance` weighs surface elements by their area instead, so figures
of the two kinds differ slightly, most on thick slices. In an image of one slice the contour is that
of the slice (4-connected erosion).
"""

from collections.abc import Sequence
from typing import NamedTuple

import edt
import numpy as np
from jaxtyping import Float32

from medjax.metrics.overlap import Mask, require_one_grid
from medjax.space.components import joint_box


class SurfaceDistances(NamedTuple):
    """From every surface voxel to the nearest one of the other mask, in mm.

    A mask without voxels gives no distances, and infinite ones for the voxels of the other.
    """

    to_reference: Float32[np.ndarray, " p"]
    to_prediction: Float32[np.ndarray, " r"]


def surface(mask: Mask) -> Mask:
    """The voxels of a mask with a face towards the background or the edge of the array.

    Axes of length 1 have no faces: a picture (x, y, 1) gives its contour.
    """
    interior = mask.copy()
    for axis in range(3):
        if mask.shape[axis] > 1:
            source, target = np.moveaxis(mask, axis, 0), np.moveaxis(interior, axis, 0)
            target[1:] &= source[:-1]
            target[:-1] &= source[1:]
            target[0] = target[-1] = False
    return mask & ~interior


def surface_distances(
    prediction: Mask, reference: Mask, spacing: Sequence[float]
) -> SurfaceDistances:
    """Distances in mm between the surfaces of two masks (x, y, z), both directions.

    spacing: mm along x, y, z. Exact Euclidean distance transforms of the joint bounding box, in
    float32 (relative error about 1e-7). Memory: about 12 bytes for each voxel of that box.
    Raises ValueError for different shapes and for a spacing that is not positive and finite.
    """
    require_one_grid(prediction, reference)
    sides = np.asarray(spacing, float)
    if sides.shape != (3,) or not (np.isfinite(sides).all() and (sides > 0).all()):
        raise ValueError(f"spacing {tuple(spacing)}: three positive numbers of mm are needed")
    box = joint_box(prediction, reference)
    # An axis one voxel long in the box alone is not a picture's missing axis: keep its faces.
    margin = [(int(n > 1), int(n > 1)) for n in prediction.shape]
    ours, theirs = (surface(np.pad(mask[box], margin)) for mask in (prediction, reference))
    return SurfaceDistances(_nearest(ours, theirs, sides), _nearest(theirs, ours, sides))


def hausdorff(distances: SurfaceDistances, percentile: float = 95.0) -> float:
    """The greater of the two directed percentiles, in mm: HD95, or the classic HD with 100.

    As MONAI and DeepMind (medpy pools both directions before the percentile, which is smaller
    where one direction is much worse); linear interpolation between ranks. nan when both masks are
    empty, inf when one is.
    """
    if distances.to_reference.size and distances.to_prediction.size:
        return float(max(np.percentile(d, percentile) for d in distances))
    return _without_surface(distances)


def assd(distances: SurfaceDistances) -> float:
    """Average symmetric surface distance in mm: the mean over the voxels of both surfaces.

    As MONAI with `symmetric=True` and Metrics Reloaded; not the mean of the two directed means.
    nan when both masks are empty, inf when one is.
    """
    if distances.to_reference.size and distances.to_prediction.size:
        return float(np.concatenate(distances).mean(dtype=np.float64))
    return _without_surface(distances)


def nsd(distances: SurfaceDistances, tolerance: float) -> float:
    """Normalised surface Dice in [0, 1]: the part of both surfaces within `tolerance` mm.

    A distance equal to the tolerance is within it. nan when both masks are empty, 0 when one is
    (Nikolov and others 2021). Raises ValueError for a negative tolerance.
    """
    if not tolerance >= 0:
        raise ValueError(f"tolerance {tolerance}: 0 mm or more is needed")
    both = np.concatenate(distances)
    # The slack is float32's rounding: 2 voxels of 0.7 mm are within a tolerance of 1.4 mm.
    return float(np.mean(both <= tolerance * (1 + 1e-6))) if both.size else float("nan")


def _nearest(here: Mask, there: Mask, sides: np.ndarray) -> Float32[np.ndarray, " n"]:
    if not here.any() or not there.any():
        return np.full(np.count_nonzero(here), np.inf, np.float32)
    away = np.ascontiguousarray(~there).view(np.uint8)  # the type that edt is fastest with
    return np.sqrt(edt.edtsq(away, anisotropy=tuple(sides.tolist()), black_border=False)[here])


def _without_surface(distances: SurfaceDistances) -> float:
    return float("inf") if sum(d.size for d in distances) else float("nan")
