"""Resampling between grids of one field of view: separable, one matrix product per axis.

Half-pixel centres, as skimage.transform.resize and nnU-Net: output i reads the input at
(i + 0.5) * n_in / n_out - 0.5; beyond the edge the edge voxel continues.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import permutations
from typing import Literal

import numpy as np
from jaxtyping import Float32, Integer, Num
from scipy import ndimage

Order = Literal[0, 1, 3]


def resampled_shape(
    shape: Sequence[int], spacing: Sequence[float], new_spacing: Sequence[float]
) -> tuple[int, int, int]:
    """The shape that covers the same field of view at `new_spacing`: rounded, at least 1."""
    x, y, z = (
        max(1, round(n * float(old) / float(new)))
        for n, old, new in zip(shape[:3], spacing, new_spacing, strict=True)
    )
    return x, y, z


def resample(
    array: Num[np.ndarray, "d h w *c"], shape: tuple[int, int, int], order: Order = 3
) -> Float32[np.ndarray, "..."]:
    """Resample the first three axes to `shape`: nearest (0), linear (1) or cubic spline (3).

    No smoothing before a reduction. The cubic B-spline interpolates and so overshoots at edges; it
    runs in float32, to about 1e-6 of the largest value. A non-finite voxel spreads along its axes.
    """
    return _resample(array, shape, (order, order, order))


def resample_image(
    array: Num[np.ndarray, "d h w *c"],
    shape: tuple[int, int, int],
    *,
    order: Order = 3,
    coarse_axis: int | None = None,
    rows: slice = slice(None),
) -> Float32[np.ndarray, "..."]:
    """As `resample`, but nearest along `coarse_axis`, and only `rows` (at least one) of the first axis.

    Nearest for strong anisotropy, where neighbours along that axis show other anatomy and a spline
    would invent what lies between (nnU-Net, Isensee et al. 2021).
    """
    return _resample(array, shape, _orders(order, coarse_axis), rows)


def resample_labels(
    labels: Integer[np.ndarray, "d h w"],
    shape: tuple[int, int, int],
    *,
    coarse_axis: int | None = None,
) -> Integer[np.ndarray, "d2 h2 w2"]:
    """Class of largest linearly resampled one-hot value, in the type of `labels`.

    Nearest along `coarse_axis`. A tie goes to the smaller class. Only one class is held at a time,
    and only where it can be: memory is that of two float32 volumes whatever the classes.
    """
    operators = [
        _operator(*a) for a in zip(labels.shape, shape, _orders(1, coarse_axis), strict=True)
    ]
    for axis, operator in enumerate(operators):
        if operator is not None and operator.ndim == 1:  # nearest: the same for all classes
            labels, operators[axis] = labels.take(operator, axis), None
    if all(operator is None for operator in operators):
        return labels.copy()
    classes, ranks = _ranks(labels)
    result = np.full(shape, classes[0], labels.dtype)
    largest = np.zeros(shape, np.float32)
    for rank, box in enumerate(ndimage.find_objects(ranks), start=1):
        if box is None:
            continue
        reach, inner = zip(*map(_reach, operators, box), strict=True)
        share = _apply((ranks[box] == rank).astype(np.float32), inner)
        wins = share > largest[reach]
        largest[reach][wins] = share[wins]
        result[reach][wins] = classes[rank - 1]
    return result


def _ranks(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All classes in ascending order (those of a dense range need not occur), and ranks from 1."""
    lowest, highest = int(labels.min()), int(labels.max())
    if highest - lowest < 1 << 16:
        classes = np.arange(lowest, highest + 1).astype(labels.dtype)
        return classes, (labels - labels.dtype.type(lowest)).astype(np.int32) + 1
    classes, ranks = np.unique(labels, return_inverse=True)
    return classes, ranks.reshape(labels.shape) + 1


def _orders(order: int, coarse_axis: int | None) -> list[int]:
    return [0 if axis == coarse_axis else order for axis in range(3)]


def _resample(
    array: np.ndarray,
    shape: tuple[int, int, int],
    orders: Sequence[int],
    rows: slice = slice(None),
) -> np.ndarray:
    operators = [_operator(*axis) for axis in zip(array.shape[:3], shape, orders, strict=True)]
    read, operators[0] = _rows(operators[0], rows)
    array = array[read]
    count = len(range(*rows.indices(shape[0])))
    result = np.empty((count, *shape[1:], *array.shape[3:]), np.float32)
    for channel in np.ndindex(array.shape[3:]):
        voxels = np.ascontiguousarray(array[(..., *channel)], np.float32)
        result[(..., *channel)] = _apply(voxels, operators)
    return result


def _rows(operator: np.ndarray | None, rows: slice) -> tuple[slice, np.ndarray | None]:
    """Which inputs these outputs read, and the operator between the two."""
    if operator is None:
        return rows, None
    chosen = operator[rows]
    found = chosen if chosen.ndim == 1 else np.flatnonzero(chosen.any(axis=0))
    read = slice(int(found.min()), int(found.max()) + 1)
    return read, chosen - read.start if chosen.ndim == 1 else chosen[:, read]


@lru_cache(maxsize=64)
def _operator(n_in: int, n_out: int, order: Order) -> np.ndarray | None:
    """One axis: None for the identity, indices (n_out,) for nearest, else weights (n_out, n_in)."""
    if n_in == n_out:
        return None
    if order == 0:
        operator = (2 * np.arange(n_out) + 1) * n_in // (2 * n_out)
    else:
        zoom = (n_out / n_in, 1)
        rows = ndimage.zoom(np.eye(n_in), zoom, order=order, mode="nearest", grid_mode=True)
        operator = np.asarray(rows, np.float32)
        operator[np.abs(operator) < 1e-10] = 0  # the far ends of the spline: denormals are slow
    operator.setflags(write=False)  # it is cached
    return operator


def _apply(
    array: Float32[np.ndarray, "d h w"], operators: Sequence[np.ndarray | None]
) -> Float32[np.ndarray, "..."]:
    """Each axis by its operator, in the sequence of fewest operations."""
    new = tuple(None if operator is None else operator.shape for operator in operators)
    for axis in _cheapest(array.shape, new):
        operator = operators[axis]
        if operator is None:
            continue
        if operator.ndim == 1:
            array = array.take(operator, axis)
        elif axis == 0:
            rest = array.shape[1:]
            array = (operator @ array.reshape(len(array), -1)).reshape(len(operator), *rest)
        elif axis == 1:
            array = operator @ array
        else:
            array = array @ operator.T
    return array


@lru_cache(maxsize=64)
def _cheapest(shape: tuple[int, ...], new: tuple[tuple[int, ...] | None, ...]) -> tuple[int, ...]:
    """The sequence of axes with the fewest multiplications, given the shapes of their operators."""

    def multiplications(axes: tuple[int, ...]) -> int:
        size, total = list(shape), 0
        for axis in axes:
            operator = new[axis]
            if operator is not None:
                row = operator[1] if len(operator) == 2 else 1
                size[axis] = operator[0]
                total += math.prod(size) * row
        return total

    return min(permutations(range(3)), key=multiplications)


def _reach(operator: np.ndarray | None, extent: slice) -> tuple[slice, np.ndarray | None]:
    """Which outputs read the inputs of `extent`, and the operator between the two."""
    if operator is None:
        return extent, None
    columns = operator[:, extent]
    rows = np.flatnonzero(columns.any(axis=1))
    reach = slice(int(rows[0]), int(rows[-1]) + 1) if rows.size else slice(0, 0)
    return reach, columns[reach]
