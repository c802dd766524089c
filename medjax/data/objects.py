"""Objects to be found in a scan: the parts of a class of its label map, or what a list says of them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from scipy import ndimage

from medjax.data.cases import Case, Object
from medjax.data.convention import IGNORE, Convention
from medjax.data.prepare import Geometry, Scan, prepare_labels
from medjax.errors import UserError
from medjax.metrics.detection import Objects, objects
from medjax.space.components import connected_components

MOST = IGNORE - 1  # objects of a scan: each has a number


def instances(
    case: Case, scan: Scan, convention: Convention, name: str
) -> UInt8[np.ndarray, "x y z"]:
    """The number of the object that holds each voxel of the RAS+ grid, from 1 on; 0 outside of all.

    Of a case with a list of objects its ellipsoids; else the 26-connected parts of the class or region
    `name`, voxels that nobody labelled being 255, and parts that touch these too: they may go on there, as
    behind a scribble. All of a case with neither, or in which not all of the class or region was drawn, is
    255: nobody searched it.
    Errors name the case: more than 254 objects.
    """
    if case.objects is not None:
        _check_count(case, len(case.objects), name)
        return paint(case.objects, scan)
    if not _searched(case, scan, convention, name):
        return np.full(scan.image.shape[:3], IGNORE, np.uint8)
    assert scan.label is not None
    parts, cut = _parts(case, scan.label, convention, name)
    return np.where(np.isin(parts, cut) | (scan.label == IGNORE), np.uint8(IGNORE), parts)


def _parts(
    case: Case, label: UInt8[np.ndarray, "x y z"], convention: Convention, name: str
) -> tuple[UInt8[np.ndarray, "x y z"], Integer[np.ndarray, " n"]]:
    """The parts of a class or region, numbered from 1 on, and which of them touch unlabelled voxels."""
    parts = connected_components(members(label, convention, name))
    _check_count(case, int(parts.max(initial=0)), name)
    parts, unlabelled = parts.astype(np.uint8), label == IGNORE
    if not unlabelled.any():
        return parts, np.zeros(0, np.uint8)
    around = np.asarray(ndimage.binary_dilation(unlabelled, np.ones((3, 3, 3))), bool)
    return parts, np.setdiff1d(parts[around], [0])


def _searched(case: Case, scan: Scan, convention: Convention, name: str) -> bool:
    """Whether the label map says where all of a class or region is."""
    if scan.label is None or case.drawn is None:
        return scan.label is not None
    return set(_classes(convention, name)) <= set(case.drawn)


def members(
    label: UInt8[np.ndarray, "x y z"], convention: Convention, name: str
) -> Bool[np.ndarray, "x y z"]:
    """The voxels of a class or region. Errors: no such name."""
    return np.isin(label, [convention.classes.index(own) for own in _classes(convention, name)])


def _classes(convention: Convention, name: str) -> tuple[str, ...]:
    """The classes of a region, or the class itself."""
    regions = {region.name: region.classes for region in convention.regions}
    if name not in (*regions, *convention.classes[1:]):
        known = ", ".join((*regions, *convention.classes[1:]))
        raise UserError(f"tasks.objects: {name!r} is no class or region; choose one of {known}")
    return regions.get(name, (name,))


def paint(objects: Sequence[Object], scan: Scan) -> UInt8[np.ndarray, "x y z"]:
    """Ellipsoids along the axes of the scan, numbered in their order; the smaller one over the larger.

    One that holds no voxel centre is the voxel that holds its own centre.
    """
    shape = scan.image.shape[:3]
    painted = np.zeros(shape, np.uint8)
    centres = _voxels(objects, scan)
    volumes = [-float(np.prod(own.size)) for own in objects]
    for rank in np.argsort(volumes, kind="stable"):
        own, centre = objects[rank], centres[rank]
        radius = np.maximum(own.size, 1e-6) / np.array(scan.spacing) / 2
        low = np.clip(np.ceil(centre - radius), 0, shape).astype(int)
        high = np.clip(np.floor(centre + radius) + 1, 0, shape).astype(int)
        box = tuple(slice(a, max(a, b)) for a, b in zip(low, high, strict=True))
        lines = [
            ((np.arange(side.start, side.stop) - c) / r) ** 2
            for side, c, r in zip(box, centre, radius, strict=True)
        ]
        inside = lines[0][:, None, None] + lines[1][:, None] + lines[2] <= 1
        if inside.any():
            painted[box][inside] = rank + 1
        else:
            nearest = np.clip(np.rint(centre), 0, np.array(shape) - 1).astype(int)
            painted[tuple(nearest)] = rank + 1
    return painted


def boxes(case: Case, scan: Scan, convention: Convention, name: str) -> Objects | None:
    """The objects of a scan in mm along its RAS+ axes from its first voxel; None where nobody searched it.

    Ignored are the parts of a class that touch voxels which nobody labelled. Errors as of `instances`.
    """
    mm = np.array(scan.spacing)
    if case.objects is not None:
        sizes = np.array([own.size for own in case.objects], float).reshape(-1, 3)
        return objects(_voxels(case.objects, scan) * mm, sizes)
    if not _searched(case, scan, convention, name):
        return None
    assert scan.label is not None
    parts, cut = _parts(case, scan.label, convention, name)
    ends = [[(side.start, side.stop) for side in box] for box in ndimage.find_objects(parts)]
    low, high = np.moveaxis(np.array(ends, float).reshape(-1, 3, 2), -1, 0)
    ignored = np.isin(np.arange(1, len(ends) + 1), cut)
    return objects((low + high - 1) / 2 * mm, (high - low) * mm, ignored=ignored)


def looked_at(found: Objects, case: Case, scan: Scan) -> Bool[np.ndarray, " n"]:
    """Whether the voxel that holds the centre of each of `found` (mm as of `boxes`) is labelled.

    True for each where the objects are listed: that list is of all of the scan.
    """
    if case.objects is not None or scan.label is None:
        return np.ones(len(found.centre), bool)
    voxels = np.rint(found.centre / np.array(scan.spacing)).astype(int)
    inside = np.clip(voxels, 0, np.array(scan.label.shape) - 1)
    return scan.label[tuple(inside.T)] != IGNORE


def prepare_instances(
    numbers: UInt8[np.ndarray, "x y z"], geometry: Geometry, shape: Sequence[int]
) -> UInt8[np.ndarray, "d h w"]:
    """`instances` on the grid of network arrays of that `shape`.

    An object too small to win a voxel there is the one that holds its centre, so what a test asks for
    is never taught as background.
    """
    prepared = prepare_labels(numbers, geometry, shape)
    inside = numbers[geometry.box].transpose(geometry.axes)
    for number in np.setdiff1d(inside, [*np.unique(prepared), 0, IGNORE]):
        middle = np.argwhere(inside == number).mean(axis=0) + 0.5
        prepared[tuple((middle * shape / inside.shape).astype(int))] = number
    return prepared


def _voxels(objects: Sequence[Object], scan: Scan) -> Float[np.ndarray, "n 3"]:
    """Their centres in voxels of the RAS+ grid."""
    world = np.array([own.centre for own in objects], float).reshape(-1, 3)
    inverse = np.linalg.inv(scan.affine)
    return world @ inverse[:3, :3].T + inverse[:3, 3]


def _check_count(case: Case, count: int, name: str) -> None:
    if count > MOST:
        raise UserError(
            f"case {case.id}: {count} objects of {name}, and a scan has room for {MOST}; "
            "name another class in tasks.objects, or join or remove what is too small to be one"
        )
