"""Scalar fields on an isotropic grid: smooth random fields, and arrival times of a front."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], spacing: float, length: float
) -> Float[np.ndarray, "x y z"]:
    """Random field of mean 0 and standard deviation 1 that varies over about `length` mm.

    A uniform cubic B-spline on random control points, so the same generator state gives the same
    field in space at every `spacing` (mm), up to its normalisation.
    """
    bases = []
    for size in shape:
        position = (np.arange(size) + 0.5) * spacing / length
        distance = np.abs(position[:, None] - np.arange(-1, np.ceil(position[-1]) + 2))
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = np.clip(2 - distance, 0, None) ** 3 / 6
        bases.append(np.where(distance < 1, near, far))
    field = rng.standard_normal([basis.shape[1] for basis in bases])
    for basis in bases:  # contracting the first axis each time brings the axes round in order
        field = np.tensordot(field, basis, axes=(0, 1))
    return ((field - field.mean()) / field.std()).astype(np.float32)


def arrival_time(
    speed: Float[np.ndarray, "x y z"],
    source: Bool[np.ndarray, "x y z"],
    spacing: float,
    count: int | None = None,
) -> Float[np.ndarray, "x y z"]:
    """Time at which a front that starts on `source` reaches each voxel: |grad T| speed = 1.

    `speed` > 0 everywhere, in mm per unit of time. With `count`, only the `count` earliest voxels
    are final and later times may be too late. First-order upwind scheme (Rouy and Tourin, 1992),
    repeated on the whole grid until nothing changes.
    """
    if not source.any():
        raise ValueError("a front needs at least one source voxel")
    cost = (spacing / speed).astype(np.float32)
    square = cost**2
    count = min(source.size, source.size if count is None else count)
    padded = np.full([size + 2 for size in speed.shape], 1e6, np.float32)
    now = padded[1:-1, 1:-1, 1:-1]
    now[source] = 0
    mid = slice(1, -1)
    for step in itertools.count(1):
        x = np.minimum(padded[:-2, mid, mid], padded[2:, mid, mid])
        y = np.minimum(padded[mid, :-2, mid], padded[mid, 2:, mid])
        z = np.minimum(padded[mid, mid, :-2], padded[mid, mid, 2:])
        low, high = np.minimum(x, y), np.maximum(x, y)
        first, rest = np.minimum(low, z), np.maximum(low, z)
        second, third = np.minimum(high, rest), np.maximum(high, rest)
        # One, two or three upwind neighbours: the sum of (T - neighbour)^2 is cost^2. Each root is
        # taken relative to its latest neighbour: squares of large times would cancel in float32.
        time = first + cost
        gap = second - first
        both = second + (np.sqrt(np.maximum(2 * square - gap**2, 0)) - gap) / 2
        time = np.where(time > second, both, time)
        a, b = third - first, third - second
        root = np.sqrt(np.maximum((a + b) ** 2 - 3 * (a**2 + b**2 - square), 0))
        time = np.where(time > third, third + (root - a - b) / 3, time)
        time = np.minimum(time, now)
        if step % 8 == 0:
            # A time that still falls can only change later ones.
            moving = time[now - time > 1e-3 * spacing]
            if not moving.size or np.count_nonzero(time < moving.min()) >= count:
                break
        now[...] = time
    return time
