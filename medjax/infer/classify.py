"""The class of a whole scan, from overlapping windows; without JAX, for devices that have none."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float32

from medjax.infer.sliding import pad
from medjax.space.tiling import window_starts

Forward = Callable[[Float32[np.ndarray, "n d h w c"]], Float32[np.ndarray, "n k"]]


def classify(
    forward: Forward,
    image: Float32[np.ndarray, "d h w c"],
    patch: Sequence[int],
    *,
    overlap: float = 0.5,
    tiles: int = 2,
    mirror_axes: Sequence[int] = (),
) -> Float32[np.ndarray, " k"]:
    """The mean over windows and their flips of the probabilities that `forward` gives, as of `findings.find`.

    It always sees `tiles` windows; those of nothing but zeros are left out, unless all are. Raises
    FloatingPointError for what is not finite.
    """
    padded, _ = pad(image, patch)
    d, h, w = patch
    shape = (padded.shape[0], padded.shape[1], padded.shape[2])
    windows = [
        padded[z : z + d, y : y + h, x : x + w]
        for z, y, x in window_starts(shape, (d, h, w), overlap)
    ]
    windows = [window for window in windows if window.any()] or windows[:1]
    axes = [axis for axis in mirror_axes if patch[axis] > 1]
    flips = [chosen for n in range(len(axes) + 1) for chosen in combinations(axes, n)]
    total = np.zeros(0)
    for first in range(0, len(windows), tiles):
        group = windows[first : first + tiles]
        batch = np.stack(group + group[-1:] * (tiles - len(group)))
        for chosen in flips:
            turned = np.ascontiguousarray(np.flip(batch, tuple(axis + 1 for axis in chosen)))
            own = np.asarray(forward(turned), np.float64)[: len(group)].sum(0)
            total = own if not total.size else total + own
    if not np.isfinite(total).all():
        raise FloatingPointError("what the model says of the scan is not finite")
    return (total / (len(windows) * len(flips))).astype(np.float32)
