"""From probabilities at network resolution back to a label map on the scan's own grid."""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Float32, Shaped, UInt8

from medjax.data.convention import Convention
from medjax.data.prepare import Geometry
from medjax.space.components import largest_component
from medjax.space.resample import resample_image

SLAB = 1 << 22  # voxels of the scan's grid that are restored at a time: 16 MB a channel


def restore_channel(
    probability: Float32[np.ndarray, "d h w"], geometry: Geometry
) -> Float32[np.ndarray, "x y z"]:
    """One output channel on the RAS+ grid of the scan: linear between network voxels, 0 outside the crop."""
    full = np.zeros(geometry.shape, np.float32)
    for rows, slab in _slabs(full, geometry):
        slab[...] = _values(probability, rows, geometry)
    return full


def restore_labels(
    probabilities: Float32[np.ndarray, "d h w k"],
    geometry: Geometry,
    convention: Convention,
    *,
    keep_largest: tuple[int, ...] = (),
) -> UInt8[np.ndarray, "x y z"]:
    """Class indices on the RAS+ grid of the scan, a few slices of one channel in memory at a time.

    Exclusive classes: the most probable one. Regions: those above 0.5, painted in the convention's
    order. `keep_largest` lists output channels of which only the largest component stays. Outside
    the crop lies background.
    """
    channels = np.moveaxis(probabilities, -1, 0)
    if convention.regions:
        masks = np.zeros((*geometry.shape, len(channels)), bool)
        for rows, slab in _slabs(masks, geometry):
            for k, channel in enumerate(channels):
                slab[..., k] = _values(channel, rows, geometry) > 0.5
        for k in keep_largest:
            masks[..., k] = largest_component(masks[..., k])
        return convention.paint(masks)
    labels = np.zeros(geometry.shape, np.uint8)
    for rows, slab in _slabs(labels, geometry):
        best = _values(channels[0], rows, geometry)
        chosen = np.zeros(best.shape, np.uint8)
        for k, channel in enumerate(channels[1:], start=1):
            values = _values(channel, rows, geometry)
            chosen[values > best] = k
            np.maximum(best, values, out=best)
        slab[...] = chosen
    for k in keep_largest:
        mask = labels == k
        labels[mask & ~largest_component(mask)] = 0
    return labels


def restore_boxes(
    centre: Float[np.ndarray, "n 3"],
    extent: Float[np.ndarray, "n 3"],
    shape: tuple[int, int, int],
    geometry: Geometry,
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Centres and extents in voxels of network arrays of that `shape`, in those of the scan's RAS+ grid."""
    sides = [geometry.box[axis] for axis in geometry.axes]
    scale = np.array([side.stop - side.start for side in sides]) / np.array(shape)
    place, size = np.empty(centre.shape), np.empty(extent.shape)
    place[:, geometry.axes] = (centre + 0.5) * scale - 0.5 + [side.start for side in sides]
    size[:, geometry.axes] = extent * scale
    return place, size


def _slabs(
    array: Shaped[np.ndarray, "x y z *k"], geometry: Geometry
) -> Iterator[tuple[slice, Shaped[np.ndarray, "d h w *k"]]]:
    """The crop's part of an array in network axes, a few slices at a time: rows, and the view of them."""
    inner = array[geometry.box].transpose(*geometry.axes, *range(3, array.ndim))
    step = max(1, SLAB // math.prod(inner.shape[1:3]))
    for first in range(0, len(inner), step):
        rows = slice(first, first + step)
        yield rows, inner[rows]


def _values(
    channel: Float32[np.ndarray, "d h w"], rows: slice, geometry: Geometry
) -> Float32[np.ndarray, "n h2 w2"]:
    """Rows of a channel at the resolution of the scan, in network axes."""
    d, h, w = (geometry.box[axis].stop - geometry.box[axis].start for axis in geometry.axes)
    return resample_image(channel, (d, h, w), order=1, coarse_axis=geometry.coarse_axis, rows=rows)


def channel_masks(
    labels: UInt8[np.ndarray, "x y z"], convention: Convention
) -> dict[str, Bool[np.ndarray, "x y z"]]:
    """What is judged, by name: each foreground class, or each region as the union of its classes."""
    if not convention.regions:
        return {name: labels == k for k, name in enumerate(convention.classes) if k > 0}
    return {
        region.name: np.isin(labels, np.flatnonzero(row))
        for region, row in zip(convention.regions, convention.membership, strict=True)
    }
