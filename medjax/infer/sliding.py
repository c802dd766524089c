"""Whole-volume prediction from overlapping windows: one compiled shape, bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float32

from medjax.space.tiling import gaussian_importance, window_starts

Forward = Callable[
    [Any], Any
]  # numpy arrays to arrays, which may still be in the making on a device
Triple = tuple[int, int, int]


def sliding_window(
    forward: Forward,
    image: Float32[np.ndarray, "d h w c"],
    patch: Sequence[int],
    *,
    overlap: float = 0.5,
    tiles: int = 2,
    mirror_axes: Sequence[int] = (),
) -> Float32[np.ndarray, "d h w k"]:
    """Average `forward` over overlapping windows, weighted by a Gaussian about their centres.

    forward: compiled, (tiles, *patch, c) -> (tiles, *patch, k); activations (probabilities), since
    they are averaged. It always sees that one shape, so that a forward which is jitted once,
    outside, is compiled once for all images: the last window is repeated to fill its batch, and an
    image smaller than the patch is padded with zeros, evenly on both sides, and cut back.
    overlap: the least part of a patch that neighbours share, 0 <= overlap < 1. tiles: windows at a
    time; the device holds two batches of them, the host the sum (4 k bytes a voxel). Windows of nothing but
    zeros (around a brain without its skull) have one output, which is computed once.
    mirror_axes: of 0, 1, 2 for d, h, w; the output is the mean over all 2^n flips, one at a time.

    Raises ValueError for arguments that do not fit together, FloatingPointError with the position
    of the window whose output is not finite (the caller knows the case).
    """
    size = _checked_patch(patch)
    axes = _checked_axes(mirror_axes)
    if tiles < 1:
        raise ValueError(f"tiles {tiles}: at least one is needed")
    shape = _triple(image.shape)
    padded, before = pad(image, size)

    importance = gaussian_importance(size)[..., None]
    weight = np.zeros((*padded.shape[:3], 1), np.float32)
    total = np.zeros(0, np.float32)
    for start, output in _outputs(forward, padded, size, overlap, tiles, axes):
        if not np.isfinite(output).all():
            corner = tuple(s - b for s, b in zip(start, before, strict=True))
            raise FloatingPointError(f"the output of the window at voxel {corner} is not finite")
        if not total.size:
            total = np.zeros((*padded.shape[:3], output.shape[-1]), np.float32)
        total[_box(start, size)] += output * importance
        weight[_box(start, size)] += importance
    total /= weight
    return np.ascontiguousarray(total[_box(before, shape)])


def pad(
    image: Float32[np.ndarray, "d h w c"], patch: Sequence[int]
) -> tuple[Float32[np.ndarray, "d2 h2 w2 c"], Triple]:
    """The image in zeros, evenly on both sides, to hold a patch at least; and what stands before it."""
    pads = [
        (max(p - n, 0) // 2, (max(p - n, 0) + 1) // 2)
        for p, n in zip(patch, image.shape[:3], strict=True)
    ]
    padded = np.pad(image, [*pads, (0, 0)]) if np.any(pads) else image  # np.pad always copies
    return padded, _triple([pad[0] for pad in pads])


def _outputs(
    forward: Forward,
    image: Float32[np.ndarray, "d h w c"],
    patch: Triple,
    overlap: float,
    tiles: int,
    mirror_axes: tuple[int, ...],
) -> Iterator[tuple[Triple, Float32[np.ndarray, "pd ph pw k"]]]:
    """Every window's start and output, one batch behind the device: sums overlap with compute."""
    # A flip of an axis of length 1 (a picture's depth) would only repeat the work.
    axes = [axis + 1 for axis in mirror_axes if patch[axis] > 1]
    flips = [chosen for n in range(len(axes) + 1) for chosen in combinations(axes, n)]
    starts = window_starts(_triple(image.shape), patch, overlap)
    empty = [start for start in starts if not image[_box(start, patch)].any()]
    repeated = set(empty[1:])
    wanted = [start for start in starts if start not in repeated]
    running: tuple[list[Triple], Any] | None = None
    for first in range(0, len(wanted), tiles):
        group = wanted[first : first + tiles]
        filled = group + group[-1:] * (tiles - len(group))
        # A new array for each batch: XLA:CPU may read it in place while the next one is filled.
        batch = np.stack([image[_box(start, patch)] for start in filled])
        output = _mean_over_flips(forward, batch, flips)
        if output.shape[:4] != batch.shape[:4] or output.ndim != 5:
            raise ValueError(f"forward maps {batch.shape} to {output.shape}: not the same windows")
        if running is not None:
            yield from _on_host(*running, empty)
        running = group, output
    if running is not None:
        yield from _on_host(*running, empty)


def _mean_over_flips(
    forward: Forward, batch: Float32[np.ndarray, "b d h w c"], flips: list[tuple[int, ...]]
) -> Any:
    # Flips stay outside of `forward`, which is compiled once and may be used with and without them.
    total = forward(batch).astype(np.float32)
    for axes in flips[1:]:
        turned = np.ascontiguousarray(batch[_reversed(axes)])
        total = total + forward(turned).astype(np.float32)[_reversed(axes)]
    return total / len(flips) if len(flips) > 1 else total


def _reversed(axes: tuple[int, ...]) -> tuple[slice, ...]:
    """The index that turns these axes of a batch around."""
    return tuple(slice(None, None, -1 if axis in axes else None) for axis in range(5))


def _on_host(
    starts: list[Triple], output: Any, empty: list[Triple]
) -> Iterator[tuple[Triple, Float32[np.ndarray, "pd ph pw k"]]]:
    # Ends with the starts: the repeated windows that filled the batch are left out.
    for start, found in zip(starts, np.asarray(output), strict=False):
        for place in empty if start in empty[:1] else [start]:
            yield place, found


def _box(start: Triple, size: Triple) -> tuple[slice, ...]:
    return tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))


def _triple(shape: Sequence[int]) -> Triple:
    return int(shape[0]), int(shape[1]), int(shape[2])


def _checked_patch(patch: Sequence[int]) -> Triple:
    if len(patch) != 3 or min(patch) < 1:
        raise ValueError(f"patch {tuple(patch)}: three positive sizes are needed")
    return _triple(patch)


def _checked_axes(axes: Sequence[int]) -> tuple[int, ...]:
    if len(set(axes)) != len(axes) or not set(axes) <= {0, 1, 2}:
        raise ValueError(f"mirror_axes {tuple(axes)}: different ones of 0, 1, 2 are needed")
    return tuple(axes)
