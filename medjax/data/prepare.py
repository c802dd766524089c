"""From a case's files to network arrays, and the geometry that leads back to its own grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from medjax.data.cases import Case
from medjax.data.convention import Convention
from medjax.errors import UserError
from medjax.io.files import read
from medjax.space.normalise import normalise
from medjax.space.resample import resample_image, resample_labels, resampled_shape
from medjax.space.volume import Reorientation, Volume

AGREEMENT = 1e-3  # mm: how far the corners of two grids may lie apart and be the same grid
Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Scan:
    """A case in RAS+ axes: all channels on one grid, the label beside them, the way back.

    image: (x, y, z, c) float32 as stored in the files; label: class indices (255 = ignore) or None.
    spacing: mm along x, y, z; the given one where the files lost theirs.
    """

    image: Float32[np.ndarray, "x y z c"]
    label: UInt8[np.ndarray, "x y z"] | None
    affine: np.ndarray
    spacing: tuple[float, float, float]
    orientation: Reorientation


@dataclass(frozen=True, eq=False)
class Geometry:
    """How network arrays of one case lie in its own grid (`infer.restore` walks it back)."""

    shape: tuple[int, int, int]  # of the RAS+ view
    box: Box  # the part of it that was kept
    axes: tuple[int, int, int]  # RAS+ axis of d, h and w
    coarse_axis: int | None  # network axis resampled by nearest
    orientation: Reorientation


def load(
    case: Case, convention: Convention, channels: int, *, spacing: Sequence[float] = ()
) -> Scan:
    """Reads a case: every channel and the label must share one grid.

    `spacing` (mm along RAS+ x, y, z) stands in where the files lost theirs. Errors name the file:
    other shape or affine, missing channels, a label value outside the convention, a class that is said
    not to be drawn, a stated spacing that the given one contradicts.
    """
    views, orientation = [], None
    for path in case.images:
        volume = read(path)
        view, turned = volume.canonical()
        if views:
            _same_grid(views[0], view, case.images[0], path)
        else:
            orientation = turned
        views.append(view)
    assert orientation is not None  # a case has an image: `Case` says so
    arrays = [v.array if v.array.ndim == 4 else v.array[..., None] for v in views]
    image = np.concatenate([a.astype(np.float32, copy=False) for a in arrays], axis=-1)
    if image.shape[-1] != channels:
        raise UserError(
            f"{case.images[0]}: {image.shape[-1]} channels where the data set has {channels}; "
            "see `--mode verify`"
        )
    label = None
    if case.label is not None:
        view, _ = read(case.label).canonical()
        _same_grid(views[0], view, case.images[0], case.label)
        try:
            label = convention.encode(view.array)
        except UserError as error:
            raise UserError(f"{case.label}: {error}") from error
        if unsaid := undrawn(label, convention, case.drawn):
            raise UserError(f"{case.label}: {unsaid}")
    stated = views[0].spacing
    if len(spacing):
        lost = np.allclose(np.abs(views[0].affine[:3, :3]), np.eye(3))
        given = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
        if not lost and not np.allclose(stated, given, rtol=1e-3):
            raise UserError(
                f"{case.images[0]}: states a spacing of {_mm(stated)}, data.spacing says {_mm(given)}; "
                "leave data.spacing unset where the files know their own"
            )
        stated = given
    return Scan(image, label, views[0].affine, stated, orientation)


def undrawn(
    label: UInt8[np.ndarray, "x y z"], convention: Convention, drawn: Sequence[str] | None
) -> str:
    """What is wrong where a label map holds classes beside those that were `drawn` (None: all); else ""."""
    if drawn is None:
        return ""
    present = [n for i, n in enumerate(convention.classes) if i > 0 and (label == i).any()]
    beside = [name for name in present if name not in drawn]
    return f"holds {', '.join(beside)}, not drawn by drawn.csv; correct one" if beside else ""


def _same_grid(first: Volume, other: Volume, first_path: str, path: str) -> None:
    shape, expected = other.array.shape[:3], first.array.shape[:3]
    if shape != expected:
        raise UserError(
            f"{path}: shape {shape} where {first_path} has {expected}; resample one of them"
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1], indexing="ij")).reshape(4, -1)
    apart = np.abs((first.affine - other.affine) @ corners).max()
    if apart > AGREEMENT:
        raise UserError(
            f"{path}: its affine lies {apart:.3g} mm off that of {first_path}; "
            "resample one onto the other, or correct its header"
        )


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{s:g}" for s in spacing) + " mm"


def nonzero_box(image: Float32[np.ndarray, "x y z c"]) -> Box:
    """The smallest box that holds every voxel where some channel is not 0; the whole of an empty image."""
    kept = np.any(image != 0, axis=-1)
    box = []
    for axis in range(3):
        line = np.flatnonzero(kept.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(
            slice(int(line[0]), int(line[-1]) + 1) if line.size else slice(0, kept.shape[axis])
        )
    return box[0], box[1], box[2]


def prepare(
    scan: Scan,
    *,
    spacing: Sequence[float],
    axes: tuple[int, int, int],
    coarse_axis: int | None,
    normalisation: Sequence[Mapping],
    name: str,
) -> tuple[Float32[np.ndarray, "d h w c"], UInt8[np.ndarray, "d h w"] | None, Geometry]:
    """Crops to the nonzero box, normalises each channel, resamples and turns the axes to (d, h, w).

    `spacing` is the wanted one in mm along d, h, w; `axes` the RAS+ axis of each; `coarse_axis` the
    network axis along which nothing is interpolated. Images by cubic B-spline, labels by linear
    one-hot. Errors name the case: voxels that are NaN or infinite.
    """
    box = nonzero_box(scan.image)
    image = np.ascontiguousarray(scan.image[box].transpose(*axes, 3))
    inside = np.any(image != 0, axis=-1)
    own = [scan.spacing[axis] for axis in axes]
    shape = resampled_shape(image.shape[:3], own, spacing)
    channels = []
    for channel, scheme in enumerate(normalisation):
        try:
            values = normalise(image[..., channel], scheme, inside)
        except UserError as error:
            raise UserError(f"case {name}, channel {channel}: {error}") from error
        channels.append(resample_image(values, shape, coarse_axis=coarse_axis))
    grid = scan.image.shape[:3]
    geometry = Geometry((grid[0], grid[1], grid[2]), box, axes, coarse_axis, scan.orientation)
    label = None if scan.label is None else prepare_labels(scan.label, geometry, shape)
    return np.stack(channels, axis=-1), label, geometry


def prepare_labels(
    labels: UInt8[np.ndarray, "x y z"], geometry: Geometry, shape: Sequence[int]
) -> UInt8[np.ndarray, "d h w"]:
    """A map of numbers on the RAS+ grid of a scan, on its grid of network arrays of that `shape`."""
    inside = np.ascontiguousarray(labels[geometry.box].transpose(geometry.axes))
    goal = (shape[0], shape[1], shape[2])
    return resample_labels(inside, goal, coarse_axis=geometry.coarse_axis)
