"""Batches of 3-D patches through Grain: a pure function of (seed, index), whatever the workers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

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


def crop(
    array: np.ndarray, start: Sequence[int], shape: Sequence[int], out: np.ndarray | None = None
) -> np.ndarray:
    """The window of `shape` at `start` along the first three axes, 0 outside the array; reads only it.

    It is written into `out` where that is given.
    """
    result = np.empty((*shape, *array.shape[3:]), array.dtype) if out is None else out
    source, goal = [], []
    for begin, size, limit in zip(start, shape, array.shape[:3], strict=True):
        low, high = min(max(begin, 0), limit), max(min(begin + size, limit), 0)
        source.append(slice(low, max(low, high)))
        goal.append(slice(low - begin, max(low, high) - begin))
    if any(g.stop - g.start < size for g, size in zip(goal, shape, strict=True)):
        result[...] = 0
    if all(s.stop > s.start for s in source):
        result[tuple(goal)] = array[tuple(source)]
    return result


def draw(
    case: Cached, rng: np.random.Generator, *, patch: Triple, margin: Triple, foreground: bool
) -> Triple:
    """Where a crop of `margin` voxels begins whose central `patch` was drawn.

    With `foreground` the patch is centred on a remembered voxel of a class drawn at random among
    those present, so rare classes are seen as often as common ones; a case without any is drawn
    anywhere.
    """
    place = None
    if foreground and case.places:
        classes = sorted(case.places)
        choices = case.places[classes[int(rng.integers(len(classes)))]]
        place = choices[int(rng.integers(len(choices)))].tolist()
    d, h, w = patch_start(rng, case.label.shape, patch, place)
    before = [(m - p) // 2 for m, p in zip(margin, patch, strict=True)]
    return d - before[0], h - before[1], w - before[2]


@dataclass(frozen=True)
class Read:
    """Reads a batch: pairs of a sample's number in the run and of its case's position.

    It carries paths, not arrays: the files are mapped for this draw alone, so that what a run holds in
    memory does not grow with the cases that it has seen. Each voxel is copied once, from the file's pages
    to its place in the batch, which the device then reads where it lies (on CPU).
    """

    folders: tuple[Path, ...]
    patch: Triple
    margin: Triple
    batch: int
    seed: int
    free: int  # samples of each batch that are drawn anywhere; the rest hold foreground

    def __call__(self, numbers: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
        """The crops with their numbers, stacked."""
        images = labels = np.empty(0)
        for row, (index, position) in enumerate(numbers):
            case = open_cached(self.folders[position])
            if row == 0:
                shape = (len(numbers), *self.margin)
                images = _aligned((*shape, case.image.shape[-1]), case.image.dtype)
                labels = _aligned(shape, case.label.dtype)
            foreground = index % self.batch >= self.free
            rng = np.random.default_rng((self.seed, index))
            begin = draw(case, rng, patch=self.patch, margin=self.margin, foreground=foreground)
            crop(case.image, begin, self.margin, images[row])
            crop(case.label, begin, self.margin, labels[row])
        index, case = np.array(numbers, np.int32).T
        return {"image": images, "label": labels, "index": index.copy(), "case": case.copy()}


def _aligned(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """An empty array at a multiple of 64 bytes, which XLA:CPU reads in place; others it copies."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size].view(dtype).reshape(shape)


def _numbered(index: int, position: int) -> tuple[int, int]:
    return index, position


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
    around labelled voxels (nnU-Net's oversampling), the others anywhere. Keys: image, label (class
    indices as the cache keeps them, one byte each), index (global number of the sample), case (position in
    `folders`).
    """
    read = Read(tuple(folders), patch, margin, batch, seed, batch - round(batch * foreground))
    rounds = -(-steps * batch // len(folders))
    drawn = grain.MapDataset.source(list(range(len(folders)))).seed(seed).shuffle().repeat(rounds)
    return drawn.map_with_index(_numbered).batch(batch, batch_fn=read)[:steps]


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
