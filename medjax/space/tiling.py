"""Where the windows of a sliding prediction lie, and how much each voxel of one counts."""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from jaxtyping import Float32


def window_starts(
    shape: Sequence[int], patch: Sequence[int], overlap: float = 0.5
) -> list[tuple[int, int, int]]:
    """First voxels of the windows, evenly spaced, the last of each axis flush with the end.

    The fewest windows per axis whose steps are at most (1 - overlap) of the patch (nnU-Net, Isensee
    et al. 2021); every voxel lies in at least one. The last axis runs fastest. Raises `ValueError`
    where the patch is larger than the shape (pad first) or `overlap` is outside [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap {overlap} is outside [0, 1)")
    x, y, z = (_starts(n, p, overlap) for n, p in zip(shape, patch, strict=True))
    return list(product(x, y, z))


def gaussian_importance(
    patch: Sequence[int], sigma_scale: float = 1 / 8
) -> Float32[np.ndarray, "d h w"]:
    """Weight of each voxel of a window: a Gaussian about its middle, largest value 1, never 0.

    `sigma_scale` is the standard deviation over the patch size, per axis (nnU-Net: 1/8). Values
    that float32 cannot hold in full become the smallest that it can, so that no voxel's weights
    sum to 0.
    """
    d, h, w = (_gaussian(n, sigma_scale * n) for n in patch)
    weight = (d[:, None, None] * h[:, None] * w).astype(np.float32)
    return np.maximum(weight, weight[weight >= np.finfo(np.float32).tiny].min())


def _starts(n: int, patch: int, overlap: float) -> list[int]:
    if not 1 <= patch <= n:
        raise ValueError(f"a patch of {patch} voxels does not fit in {n}; pad first")
    steps = math.ceil((n - patch) / max(patch * (1 - overlap), 1))
    return [round((n - patch) * i / steps) for i in range(steps)] + [n - patch]


def _gaussian(n: int, sigma: float) -> np.ndarray:
    squared = ((np.arange(n) - (n - 1) / 2) / sigma) ** 2
    return np.exp(-0.5 * (squared - squared.min()))  # the largest is 1 also for an even n
