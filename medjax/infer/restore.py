"""From probabilities at network resolution back to a label map on the scan's own grid."""

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from medjax.data.cases import Convention
from medjax.data.prepare import Geometry
from medjax.space.components import largest_component
from medjax.space.resample import resample_image


def restore_channel(
    probability: Float32[np.ndarray, "d h w"], geometry: Geometry, *, outside: float = 0.0
) -> Float32[np.ndarray, "x y z"]:
    """One output channel on the RAS+ grid of the scan: linear between network voxels, `outside` the crop."""
    cropped = [s.stop - s.start for s in geometry.box]
    shape = tuple(cropped[axis] for axis in geometry.axes)
    values = resample_image(
        probability, (shape[0], shape[1], shape[2]), order=1, coarse_axis=geometry.coarse_axis
    )
    full = np.full(geometry.shape, outside, np.float32)
    full[geometry.box] = values.transpose(np.argsort(geometry.axes))
    return full


def restore_labels(
    probabilities: Float32[np.ndarray, "d h w k"],
    geometry: Geometry,
    convention: Convention,
    *,
    keep_largest: tuple[int, ...] = (),
) -> UInt8[np.ndarray, "x y z"]:
    """Class indices on the RAS+ grid of the scan, one channel in memory at a time.

    Exclusive classes: the most probable one. Regions: those above 0.5, painted in the convention's
    order. `keep_largest` lists output channels of which only the largest component stays. Outside
    the crop lies background.
    """
    if convention.regions:
        masks = [
            restore_channel(probabilities[..., k], geometry) > 0.5
            for k in range(probabilities.shape[-1])
        ]
        for k in keep_largest:
            masks[k] = largest_component(masks[k])
        return convention.paint(np.stack(masks, axis=-1))
    best = restore_channel(probabilities[..., 0], geometry, outside=1.0)
    labels = np.zeros(geometry.shape, np.uint8)
    for k in range(1, probabilities.shape[-1]):
        values = restore_channel(probabilities[..., k], geometry)
        better = values > best
        labels[better] = k
        np.maximum(best, values, out=best)
    for k in keep_largest:
        mask = labels == k
        labels[mask & ~largest_component(mask)] = 0
    return labels


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
