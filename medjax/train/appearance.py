"""How brain scans look: on one common grid, as slices, and in simple figures that two sets can differ in."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Bool, Float32, UInt8
from scipy import ndimage

from medjax.data.convention import Convention
from medjax.data.prepare import Scan, nonzero_box
from medjax.errors import UserError
from medjax.infer.restore import channel_masks
from medjax.metrics.ranking import auc
from medjax.space.normalise import normalise
from medjax.space.resample import resample_image, resample_labels, resampled_shape

SPACING = 2.0  # mm: of the common grid
SHAPE = (96, 112)  # pixels of a slice, left to right and back to front: 192 x 224 mm
LEAST = 0.2  # of the brain's largest cross-section: what a slice must show
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
FAR = 2.0  # standard deviations from the mean
AXES = ("right", "anterior", "superior")

Mask = Bool[np.ndarray, "x y z"]


@dataclass(frozen=True, eq=False)
class Brain:
    """A scan cropped to its brain: z-scores within the brain, 0 outside; the label as `painted` gives it."""

    image: Float32[np.ndarray, "x y z c"]
    mask: Mask
    label: UInt8[np.ndarray, "x y z"] | None
    spacing: tuple[float, float, float]


def painted(
    label: UInt8[np.ndarray, "x y z"], convention: Convention
) -> tuple[UInt8[np.ndarray, "x y z"], tuple[str, ...]]:
    """Disjoint structures 1, 2, ... and their names, background first; ignored voxels are background.

    Where the convention has regions they are painted over one another, so that conventions that cut
    the same regions into other classes agree: brats2015's non-enhancing core is necrosis here, as in
    the later ones.
    """
    names = [region.paint for region in convention.regions] or list(convention.classes[1:])
    result = np.zeros_like(label)
    for index, mask in enumerate(channel_masks(label, convention).values(), start=1):
        result[mask] = index
    return result, ("background", *names)


def brain(scan: Scan, convention: Convention, name: str) -> Brain:
    """The scan on its own grid, cropped and normalised. Errors name the case: empty, or not finite."""
    box = nonzero_box(scan.image)
    image = scan.image[box]
    mask = np.any(image != 0, axis=-1)
    if not mask.any():
        raise UserError(f"case {name}: all voxels are 0; remove the case")
    channels = []
    for channel in np.moveaxis(image, -1, 0):
        try:
            values = normalise(np.ascontiguousarray(channel), {"scheme": "zscore_mask"}, mask)
        except UserError as error:
            raise UserError(f"case {name}: {error}") from error
        channels.append(values)
    label = None if scan.label is None else painted(scan.label[box], convention)[0]
    return Brain(np.stack(channels, -1), mask, label, scan.spacing)


def regrid(found: Brain, spacing: float = SPACING) -> Brain:
    """The same on a grid of `spacing` mm, linearly: halving the resolution takes the mean of two voxels."""
    shape = resampled_shape(found.mask.shape, found.spacing, (spacing,) * 3)
    mask = resample_image(found.mask.astype(np.float32), shape, order=1) > 0.5
    image = resample_image(found.image, shape, order=1) * mask[..., None]
    label = None if found.label is None else resample_labels(found.label, shape)
    return Brain(image, mask, label, (spacing, spacing, spacing))


def slices(
    found: Brain, *, most: int = 24, shape: tuple[int, int] = SHAPE
) -> Float32[np.ndarray, "n h w c"]:
    """Axial slices with enough of the brain, at most `most` and evenly spaced, its middle in the middle."""
    area = found.mask.sum(axis=(0, 1))
    kept = np.flatnonzero(area >= LEAST * area.max())
    kept = kept[np.unique(np.linspace(0, len(kept) - 1, most).round().astype(int))]
    result = np.moveaxis(found.image[:, :, kept], 2, 0)
    for axis, size in enumerate(shape, start=1):
        short = max(size - result.shape[axis], 0)
        widths = [(short // 2, short - short // 2) if a == axis else (0, 0) for a in range(4)]
        result = np.pad(result, widths)
        first = (result.shape[axis] - size) // 2
        result = np.take(result, range(first, first + size), axis)
    return np.ascontiguousarray(result)


def figures(
    own: Brain, common: Brain, channels: Sequence[str], structures: Sequence[str]
) -> dict[str, float]:
    """Simple figures of a case by name, nan where there is nothing to measure.

    Per channel, in z-scores of the brain: percentiles, skewness; the shares beyond `FAR` in the rim
    (two voxels of the common grid) and inside, without the lesion; detail, the mean absolute Laplacian
    on the common grid and the mean absolute second difference along each axis of the own one; the mean
    of each structure and of the lesion as a whole above the rest of the brain. Volumes in ml.
    """
    rows: dict[str, float] = {}
    voxel = math.prod(own.spacing) / 1000
    (inner, healthy), (own_inner, _) = map(_inside, (common, own))
    rim = common.mask & ~inner
    for c, channel in enumerate(channels):
        image = common.image[..., c]
        values = image[common.mask]
        for percent, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True):
            rows[f"{channel}: percentile {percent}"] = float(value)
        rows[f"{channel}: skewness"] = float(scipy.stats.skew(values))
        rows[f"{channel}: bright rim"] = _mean(image > FAR, rim)
        rows[f"{channel}: bright inside"] = _mean(image > FAR, healthy)
        rows[f"{channel}: dark inside"] = _mean(image < -FAR, healthy)
        rows[f"{channel}: detail at {SPACING:g} mm"] = _mean(np.abs(ndimage.laplace(image)), inner)
        for axis, size in enumerate(own.spacing):
            curved = np.abs(ndimage.convolve1d(own.image[..., c], [1, -2, 1], axis))
            rows[f"{channel}: detail along {AXES[axis]}, {size:.2g} mm"] = _mean(curved, own_inner)
        for name, mask in _structures(common.label, structures).items():
            rest = common.mask & (common.label == 0)
            rows[f"{channel}: contrast of {name}"] = _mean(image, mask) - _mean(image, rest)
    rows["volume of brain"] = float(own.mask.sum()) * voxel
    for name, mask in _structures(own.label, structures).items():
        rows[f"volume of {name}"] = float(mask.sum()) * voxel
    return rows


def _inside(found: Brain) -> tuple[Mask, Mask]:
    """The brain without its outermost two voxels; the same without the lesion."""
    inner = np.asarray(ndimage.binary_erosion(found.mask, iterations=2), bool)
    return inner, inner if found.label is None else inner & (found.label == 0)


def _structures(label: UInt8[np.ndarray, "x y z"] | None, names: Sequence[str]) -> dict[str, Mask]:
    """Masks by name, `lesion` for all together; none without a label."""
    if label is None:
        return {}
    masks = {name: label == index for index, name in enumerate(names) if index}
    return {"lesion": label > 0} | masks


def _mean(values: np.ndarray, mask: Mask) -> float:
    return float(values[mask].mean()) if mask.any() else math.nan


def differences(
    real: Sequence[Mapping[str, float]], made: Sequence[Mapping[str, float]]
) -> list[dict[str, Any]]:
    """The figures that both sets have, one entry a patient: {figure, real, made, difference, auc}.

    `real` and `made` are {mean, sd, n}; `difference` is the synthetic mean above the real one over the
    root mean square of both deviations; `auc` the share of pairs in which the synthetic patient has the
    higher value. Those that differ most come first, undefined ones last.
    """
    rows = []
    for name in dict.fromkeys(key for row in real for key in row):
        ours, theirs = (_known(rows, name) for rows in (made, real))
        if not ours.size or not theirs.size:
            continue
        a, b = _summary(ours), _summary(theirs)
        spread = math.sqrt((a["sd"] ** 2 + b["sd"] ** 2) / 2)
        gap = (a["mean"] - b["mean"]) / spread if spread > 0 else math.nan
        row = {"figure": name, "real": b, "made": a, "difference": gap, "auc": auc(ours, theirs)}
        rows.append(row)
    return sorted(rows, key=lambda row: -np.nan_to_num(abs(row["difference"]), nan=-1.0))


def average(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The figures of one patient: means over its scans."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _summary(_known(rows, name))["mean"] for name in names}


def _known(rows: Sequence[Mapping[str, float]], name: str) -> np.ndarray:
    values = np.array([row.get(name, math.nan) for row in rows], np.float64)
    return values[~np.isnan(values)]


def _summary(values: np.ndarray) -> dict[str, float]:
    mean = float(values.mean()) if values.size else math.nan
    sd = float(values.std(ddof=1)) if values.size > 1 else math.nan
    return {"mean": mean, "sd": sd, "n": values.size}
