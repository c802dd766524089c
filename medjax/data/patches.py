"""Batches of 3-D patches through Grain: a pure function of (seed, index), whatever the workers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import numpy as np

from medjax.data.cache import Cached, open_cached

Triple = tuple[int, int, int]


def patch_start(
    rng: np.random.Generator,
    shape: Sequence[int],
    patch: Sequence[int],
    place: Sequence[int] | None,
) -> Triple:
    """Where a patch begins: anywhere such that every voxel can be in it, or around a chosen voxel.

    Where the case is smaller than the patch, the patch hangs over by the same amount on both sides
    at most, so the start is negative. A patch around `place` holds it, and stays in the same range.
    """
    starts = []
    for axis in range(3):
        low, high = sorted((0, shape[axis] - patch[axis]))
        if place is None:
            starts.append(int(rng.integers(low, high + 1)))
        else:
            starts.append(int(np.clip(place[axis] - patch[axis] // 2, low, high)))
    return starts[0], starts[1], starts[2]


def crop(array: np.ndarray, start: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """The window of `shape` at `start` along the first three axes, 0 outside the array; reads only it."""
    result = np.zeros((*shape, *array.shape[3:]), array.dtype)
    source, goal = [], []
    for begin, size, limit in zip(start, shape, array.shape[:3], strict=True):
        low, high = max(begin, 0), min(begin + size, limit)
        if high <= low:
            return result
        source.append(slice(low, high))
        goal.append(slice(low - begin, high - begin))
    result[tuple(goal)] = array[tuple(source)]
    return result


def draw(
    case: Cached, rng: np.random.Generator, *, patch: Triple, margin: Triple, foreground: bool
) -> dict[str, np.ndarray]:
    """One crop of `margin` voxels whose central `patch` was drawn, image and label.

    With `foreground` the patch is centred on a remembered voxel of a class drawn at random among
    those present, so rare classes are seen as often as common ones; a case without any is drawn
    anywhere.
    """
    place = None
    if foreground and case.places:
        classes = sorted(case.places)
        choices = case.places[classes[int(rng.integers(len(classes)))]]
        place = choices[int(rng.integers(len(choices)))].tolist()
    start = patch_start(rng, case.label.shape, patch, place)
    begin = [s - (m - p) // 2 for s, m, p in zip(start, margin, patch, strict=True)]
    return {"image": crop(case.image, begin, margin), "label": crop(case.label, begin, margin)}


@dataclass(frozen=True)
class Sample:
    """Draws sample number `index` of the run from the case at `position`.

    It carries paths, not arrays: the files are mapped for this draw alone, so that what a run holds in
    memory does not grow with the cases that it has seen.
    """

    folders: tuple[Path, ...]
    patch: Triple
    margin: Triple
    batch: int
    seed: int
    free: int  # samples of each batch that are drawn anywhere; the rest hold foreground

    def __call__(self, index: int, position: int) -> dict[str, Any]:
        """The crop with its numbers."""
        arrays = draw(
            open_cached(self.folders[position]),
            np.random.default_rng((self.seed, index)),
            patch=self.patch,
            margin=self.margin,
            foreground=index % self.batch >= self.free,
        )
        return {
            "image": arrays["image"],
            "label": arrays["label"].astype(np.int32),
            "index": np.int32(index),
            "case": np.int32(position),
        }


def patches(
    folders: Sequence[Path],
    *,
    patch: Triple,
    margin: Triple,
    batch: int,
    steps: int,
    seed: int,
    foreground: float = 1 / 3,
) -> grain.MapDataset:
    """`steps` batches as a random-access data set: batch i is the same however it is reached.

    Cases come in a new random order each round. The last `foreground` share of each batch is drawn
    around labelled voxels (nnU-Net's oversampling), the others anywhere. Keys: image, label, index
    (global number of the sample), case (position in `folders`).
    """
    sample = Sample(tuple(folders), patch, margin, batch, seed, batch - round(batch * foreground))
    rounds = -(-steps * batch // len(folders))
    drawn = grain.MapDataset.source(list(range(len(folders)))).seed(seed).shuffle().repeat(rounds)
    return drawn.map_with_index(sample).batch(batch)[:steps]


def iterate(
    dataset: grain.MapDataset, *, start: int = 0, workers: int = 0, ahead: int = 4
) -> Iterator[dict[str, np.ndarray]]:
    """Batches from number `start` on: the position of a run is its step, so resume is exact.

    workers = 0: two threads of this process (reading memory maps frees the interpreter lock);
    otherwise that many worker processes. `ahead` batches wait at most.
    """
    rest = dataset[start:]
    options = grain.ReadOptions(num_threads=2 if workers == 0 else 1, prefetch_buffer_size=ahead)
    stream = rest.to_iter_dataset(options)
    if workers:
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers))
    return iter(stream)
