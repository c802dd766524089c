"""Between loader and augmentation: which samples move, and how much to read for them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

Triple = tuple[int, int, int]


class Motion(NamedTuple):
    """What the loader must know of an augmentation that moves space, to read no more than it needs.

    crop: shape of what is read around the patch of a sample that moves.
    probabilities: how often a sample is turned, scaled, bent: drawn here, so that the loader knows.
    """

    crop: Triple
    probabilities: tuple[float, float, float]


def is_planar(patch: Sequence[int], spacing: Sequence[float]) -> bool:
    """Whether to move within slices only: one slice, or slices 3 times as far apart as voxels."""
    return patch[0] == 1 or spacing[0] >= 3 * min(spacing[1:])


def rotation_limits(
    patch: Sequence[int], rotation: float | Sequence[float] | None, planar: bool
) -> tuple[float, float, float]:
    """Largest angles about d, h, w in degrees; None is nnU-Net's choice.

    30 about each axis in space; within slices 180, or 15 where a slice is longer than 1.5 times
    its width. A planar patch turns about d alone.
    """
    if rotation is None:
        long = max(patch[1:]) > 1.5 * min(patch[1:])
        rotation = (15.0 if long else 180.0) if planar else 30.0
    limits = (rotation,) * 3 if isinstance(rotation, int | float) else tuple(rotation)
    return (limits[0], 0.0, 0.0) if planar else (limits[0], limits[1], limits[2])


def margin(
    patch: Sequence[int],
    spacing: Sequence[float],
    *,
    rotation: float | Sequence[float] | None = None,
    scale: tuple[float, float] = (0.7, 1.4),
    shear: float = 0.0,
    translation: float = 0.0,
    elastic: tuple[float, float] | None = None,
    planar: bool | None = None,
    cap: float = 0.85,
) -> tuple[int, int, int]:
    """Shape of the crop to read for `spatial` with the same arguments.

    Enough for the largest turn about any one axis together with a shrinkage to `cap` (nnU-Net's
    0.85: crops for 0.7 would be twice as large), the largest translation and displacement. What
    rarer draws reach beyond it is 0. The margin is even, so the patch is exactly its centre.
    """
    planar = is_planar(patch, spacing) if planar is None else planar
    limits = rotation_limits(patch, rotation, planar)
    extent = [n * s / 2 for n, s in zip(patch, spacing, strict=True)]
    moving = (1, 2) if planar else (0, 1, 2)
    crop = list(patch)
    for axis in moving:
        reach = extent[axis]
        for other in moving:
            if other == axis:
                continue
            about = ({0, 1, 2} - {axis, other}).pop()
            angle = min(math.radians(limits[about]), math.atan2(extent[other], extent[axis]))
            reach = max(reach, extent[axis] * math.cos(angle) + extent[other] * math.sin(angle))
        reach += shear * sum(extent[other] for other in moving if other > axis)
        reach += elastic[0] if elastic else 0.0
        reach = reach / min(1.0, max(scale[0], cap)) + translation
        extra = (reach - extent[axis]) / spacing[axis]
        crop[axis] = patch[axis] + 2 * math.ceil(extra - 1e-6)
    return crop[0], crop[1], crop[2]
