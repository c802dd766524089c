"""Where a mask lies, its connected pieces, and the largest of them."""

import numpy as np
from jaxtyping import Bool, Integer, Shaped
from scipy import ndimage

try:
    import cc3d
except ModuleNotFoundError:  # on a device: SciPy gives the same, more slowly
    cc3d = None

Box = tuple[slice, slice, slice]


def bounding_box(mask: Bool[np.ndarray, "x y z"]) -> Box:
    """The smallest box that holds every voxel of the mask; three empty slices for an empty mask."""
    box = [slice(0, 0)] * 3
    # Slabs that lie together in memory first: what they exclude is not read again.
    for axis in sorted(range(3), key=lambda a: -abs(mask.strides[a])):
        hits = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        if not hits.size:
            break
        box[axis] = slice(int(hits[0]), int(hits[-1]) + 1)
        mask = mask[(slice(None),) * axis + (box[axis],)]
    return box[0], box[1], box[2]


def joint_box(first: Bool[np.ndarray, "x y z"], second: Bool[np.ndarray, "x y z"]) -> Box:
    """The smallest box that holds both masks, without an array of their union.

    That union would be the slow part where one mask lies in C and the other in Fortran order.
    """
    boxes = [box for box in map(bounding_box, (first, second)) if box[0].stop]
    if not boxes:
        return slice(0, 0), slice(0, 0), slice(0, 0)
    x, y, z = (
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*boxes, strict=True)
    )
    return x, y, z


def largest_component(labels: Shaped[np.ndarray, "x y z"]) -> Shaped[np.ndarray, "x y z"]:
    """Keep the largest 26-connected component of every class and set the rest to background.

    labels: a bool mask, or integer classes with background 0; voxels of different classes are
    never connected. Single slices (z = 1) are 8-connected. Of components of equal size the first
    in scan order of the array's axes stays. An empty map, and a class of one component, come back
    unchanged. Returns a new array of the same dtype.
    """
    kept = np.zeros_like(labels)
    box = bounding_box(labels != 0)
    inside = np.ascontiguousarray(labels[box])
    if not inside.size:
        return kept
    components = connected_components(inside)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    class_of = np.zeros(sizes.size, labels.dtype)
    class_of[components.ravel()] = inside.ravel()
    survives = np.zeros(sizes.size, bool)
    for value in np.unique(class_of[1:]):
        survives[np.argmax(np.where(class_of == value, sizes, 0))] = True
    kept[box] = np.where(survives[components], inside, 0)
    return kept


def connected_components(labels: Shaped[np.ndarray, "x y z"]) -> Integer[np.ndarray, "x y z"]:
    """Numbers from 1 on for the 26-connected components of every class, in scan order within a class.

    labels: a bool mask, or integer classes with background 0.
    """
    if cc3d is not None:
        # cc3d 4.1.1 ends with an error at single voxels in a column of type bool
        classes = labels.view(np.uint8) if labels.dtype == bool else labels
        return cc3d.connected_components(classes, connectivity=26)
    found = np.zeros(labels.shape, np.int32)
    for value in np.unique(labels[labels != 0]):
        mask = labels == value
        parts = np.zeros(labels.shape, np.int32)
        ndimage.label(mask, np.ones((3, 3, 3)), output=parts)
        found[mask] = parts[mask] + found.max()
    return found
