"""Images of the size of a patch, of real scans: what a network is measured on."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float32, UInt8

from medjax.data.cases import Case
from medjax.data.convention import IGNORE
from medjax.data.plan import Plan
from medjax.data.prepare import load
from medjax.infer.sliding import pad

Window = Float32[np.ndarray, "1 d h w c"]
T = TypeVar("T")


class Sample(NamedTuple):
    """A window of a case and the class of each voxel, IGNORE where nobody drew; both alone in their batch."""

    case: Case
    image: Window
    label: UInt8[np.ndarray, "1 d h w"]


def spread(cases: Sequence[T], count: int) -> list[T]:
    """`count` of the cases, at equal distances."""
    places = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return [cases[k] for k in np.unique(places).tolist()]


def windows(
    cases: Sequence[Case],
    plan: Plan,
    *,
    each: int = 2,
    spacing: Sequence[float] = (),
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Sample]:
    """`each` windows of every case, as the network sees them: the first about what is labelled, if anything.

    The others lie anywhere. Errors name the file.
    """
    rng, found = np.random.default_rng(seed), []
    for case in progress(cases):
        scan = load(case, plan.labels, len(plan.channels), spacing=spacing)
        image, label, _ = plan.prepare(scan, case.id)
        padded, before = pad(image, plan.patch)
        room = np.array(padded.shape[:3]) - np.array(plan.patch)
        starts = [rng.integers(0, room + 1) for _ in range(each)]
        mask = np.full(padded.shape[:3], IGNORE, np.uint8)
        if label is not None:
            inside = [slice(b, b + n) for b, n in zip(before, label.shape, strict=True)]
            mask[tuple(inside)] = label
        drawn = (mask > 0) & (mask != IGNORE)
        if drawn.any():
            middle = np.argwhere(drawn).mean(0)
            starts[0] = np.clip(np.round(middle - np.array(plan.patch) / 2), 0, room).astype(int)
        for start in starts:
            box = tuple(slice(s, s + n) for s, n in zip(start, plan.patch, strict=True))
            found.append(Sample(case, padded[box][None], mask[box][None]))
    return found
