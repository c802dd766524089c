"""Batches of 3-D patches through Grain: a pure function of (seed, index), whatever the workers."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grain
import numpy as np
from jaxtyping import UInt8

from medjax.data.cache import Cached, open_cached
from medjax.data.convention import IGNORE
from medjax.data.motion import Motion, Triple
from medjax.errors import UserError

Batch = dict[str, Any]


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

    It is written into `out`, an array of zeros, where that is given.
    """
    result = np.zeros((*shape, *array.shape[3:]), array.dtype) if out is None else out
    source, goal = _overlap(array, start, shape)
    result[goal] = array[source]
    return result


def crop_labels(
    array: UInt8[np.ndarray, "d h w"], start: Sequence[int], shape: Sequence[int], out: np.ndarray
) -> None:
    """As `crop` into `out`; all of a window in which nothing is known is ignored, its padding too."""
    source, goal = _overlap(array, start, shape)
    inside = array[source]
    unknown = inside.size and inside.flat[0] == IGNORE and (inside == IGNORE).all()
    out[... if unknown else goal] = IGNORE if unknown else inside


def _overlap(
    array: np.ndarray, start: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a window and the first three axes of an array meet, in the array and in the window."""
    source, goal = [], []
    for begin, size, limit in zip(start, shape, array.shape[:3], strict=True):
        low, high = min(max(begin, 0), limit), max(min(begin + size, limit), 0)
        source.append(slice(low, max(low, high)))
        goal.append(slice(low - begin, max(low, high) - begin))
    if any(side.start == side.stop for side in source):
        return (slice(0, 0),) * 3, (slice(0, 0),) * 3
    return tuple(source), tuple(goal)


def draw(case: Cached, rng: np.random.Generator, *, patch: Triple, foreground: bool) -> Triple:
    """Where a patch begins.

    With `foreground` it is centred on a remembered voxel of a class drawn at random among those
    present, so rare classes are seen as often as common ones; a case without any is drawn anywhere.
    """
    place = None
    if foreground and case.places:
        classes = sorted(case.places)
        choices = case.places[classes[int(rng.integers(len(classes)))]]
        place = choices[int(rng.integers(len(choices)))].tolist()
    return patch_start(rng, case.label.shape, patch, place)


@dataclass(frozen=True)
class Read:
    """Reads a batch by the numbers of its samples in the run.

    Sample i comes from group i modulo their number; groups are positions in `folders`, or empty: those
    samples are synthetic. It carries paths, not arrays: the files are mapped for this draw alone, so that
    what a run holds in memory does not grow with the cases that it has seen. Each voxel is copied once, from
    the file's pages to its place in the batch, which the device then reads where it lies (on CPU).
    """

    folders: tuple[Path, ...]
    patch: Triple
    motion: Motion | None
    batch: int
    seed: int
    held: int  # samples of each batch that hold foreground; the rest are drawn anywhere
    groups: tuple[tuple[int, ...], ...]
    synthetic: Callable[[int], Cached] | None
    share: float
    targets: tuple[int, ...]
    part: tuple[int, int]

    def __call__(self, numbers: Sequence[int]) -> Batch:
        """The patches with their numbers, stacked; with a motion, `moves` and `wide` too."""
        which, parts = self.part
        size = len(numbers) // parts
        numbers, batch = numbers[which * size : (which + 1) * size], {}
        positions, drawn = [self._position(index) for index in numbers], []
        for row, (index, position) in enumerate(zip(numbers, positions, strict=True)):
            case = self._case(index, position)
            if not batch:
                batch = self._empty(case, len(numbers))
            rng = np.random.default_rng((self.seed, index))
            turn = index // len(self.groups)  # every group has its share
            foreground = (turn + 1) * self.held // self.batch > turn * self.held // self.batch
            begin = draw(case, rng, patch=self.patch, foreground=foreground)
            _fill(batch, row, case, begin, self.patch)
            if self.motion is not None:
                drawn.append(rng.random(3) < self.motion.probabilities)
                if drawn[-1].any():
                    wide = self.motion.crop
                    begin = [
                        b - (w - p) // 2 for b, w, p in zip(begin, wide, self.patch, strict=True)
                    ]
                    _fill(batch["wide"], row, case, begin, wide)
        if self.motion is not None:
            batch["moves"] = np.stack(drawn)
        if self.targets:
            batch["target"] = np.array([self.targets[p] for p in positions], np.int32)
        return {
            **batch,
            "index": np.array(numbers, np.int32),
            "case": np.array(positions, np.int32),
        }

    def _case(self, index: int, position: int) -> Cached:
        """The files of that position, or the synthetic patient of the sample."""
        if position < len(self.folders) or self.synthetic is None:
            return open_cached(self.folders[position])
        return self.synthetic(index // len(self.groups))

    def _position(self, index: int) -> int:
        """The case of a sample: all of its group come in a new order each round.

        One beyond the last where the sample is synthetic.
        """
        if self.share and np.random.default_rng((self.seed, index, 0)).random() < self.share:
            return len(self.folders)
        number, which = divmod(index, len(self.groups))
        group = self.groups[which]
        if not group:
            return len(self.folders)
        turn, place = divmod(number, len(group))
        # Grain's own shuffle walks through 65 536 numbers to find one of a few cases: 4 ms a sample.
        order = np.random.default_rng((self.seed, turn, 1 + which)).permutation(len(group))
        return group[order[place]]

    def _empty(self, case: Cached, count: int) -> Batch:
        """Zeros for `count` samples; a page of them costs nothing before it is written."""

        def arrays(shape: Triple) -> Batch:
            image = _aligned((count, *shape, case.image.shape[-1]), case.image.dtype)
            return {
                "image": image,
                **{name: _aligned((count, *shape), np.dtype(np.uint8)) for name in _maps(case)},
            }

        wide = {} if self.motion is None else {"wide": arrays(self.motion.crop)}
        return {**arrays(self.patch), **wide}


def _fill(batch: Batch, row: int, case: Cached, begin: Sequence[int], shape: Triple) -> None:
    crop(case.image, begin, shape, batch["image"][row])
    for name, array in _maps(case).items():
        crop_labels(array, begin, shape, batch[name][row])


def _maps(case: Cached) -> dict[str, UInt8[np.ndarray, "d h w"]]:
    """What is known of each voxel."""
    objects = {} if case.instances is None else {"instances": case.instances}
    return {"label": case.label, **objects}


def _aligned(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Zeros at a multiple of 64 bytes, which XLA:CPU reads in place; other arrays it copies."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + 64, np.uint8)
    first = -memory.ctypes.data % 64
    return memory[first : first + size].view(dtype).reshape(shape)


def patches(
    folders: Sequence[Path],
    *,
    patch: Triple,
    batch: int,
    steps: int,
    seed: int,
    motion: Motion | None = None,
    foreground: float = 1 / 3,
    groups: Sequence[Sequence[int]] = (),
    synthetic: Callable[[int], Cached] | None = None,
    share: float = 0.0,
    targets: Sequence[int] = (),
    part: tuple[int, int] = (0, 1),
) -> grain.MapDataset:
    """`steps` batches as a random-access data set: batch i is the same however it is reached.

    Cases come in a new random order each round. A `foreground` share of each batch, in every group, is drawn
    around labelled voxels (nnU-Net's oversampling), the others anywhere. Keys: image, label (class
    indices as the cache keeps them, one byte each), index (global number of the sample), case (position in
    `folders`). With a `motion` also moves (b, 3) (whether the sample is turned, scaled, bent) and wide: image
    and label of the crop whose centre is the patch, for samples that move; 0 for the others, which are three
    fifths of nnU-Net's and need a quarter of the bytes. `groups` of positions in `folders` take turns from
    sample to sample (labelled and unlabelled cases, two domains); without them all cases are one group.
    A `share` of the samples at random, and all of an empty group, come from `synthetic` (see `data.fresh`),
    by their numbers in the group; their case is one beyond the last folder. With `targets`, the class of each
    folder, also target; where cases have them, also instances (`data.objects`). `part` (i, n): only piece i
    of n of each batch, for process i of n; the n pieces are the batch, whatever n is. Errors: n that does not
    divide it.
    """
    if batch % part[1]:
        raise ValueError(f"a batch of {batch} cannot be split into {part[1]} parts")
    held = round(batch * foreground)
    parts = tuple(tuple(group) for group in groups) or (tuple(range(len(folders))),)
    read = Read(
        tuple(folders),
        patch,
        motion,
        batch,
        seed,
        held,
        parts,
        synthetic,
        share,
        tuple(targets),
        part,
    )
    return grain.MapDataset.range(steps * batch).batch(batch, batch_fn=read)


def iterate(
    dataset: grain.MapDataset, *, start: int = 0, workers: int = 0, ahead: int = 4
) -> Iterator[Batch]:
    """Batches from number `start` on: the position of a run is its step, so resume is exact.

    workers = 0: two threads of this process (reading memory maps frees the interpreter lock);
    otherwise that many worker processes, which end with this one however it ends. `ahead` batches wait at
    most. Errors: a worker process that died.
    """
    rest = dataset[start:]
    options = grain.ReadOptions(num_threads=2 if workers == 0 else 1, prefetch_buffer_size=ahead)
    stream = rest.to_iter_dataset(options)
    if not workers:
        yield from stream
        return
    try:
        given = grain.MultiprocessingOptions(num_workers=workers)
        yield from stream.mp_prefetch(given, _end_with_parent)
    except RuntimeError as error:
        if "terminated unexpectedly" not in str(error):
            raise
        raise UserError(
            f"train.workers: one of {workers} loader processes died ({error}); where memory ran out, give "
            "fewer; the same command resumes the run"
        ) from error


def _end_with_parent(_index: int, _count: int) -> None:
    """In a worker: a parent that was killed ends it too, which would wait for ever to hand on a batch."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
