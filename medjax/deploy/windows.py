"""Images of the size of a patch, of real scans: what calibrates a network and what it is compared on."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float32

from medjax.data.cases import Case
from medjax.data.plan import Plan
from medjax.data.prepare import load
from medjax.infer.sliding import pad

Window = Float32[np.ndarray, "1 d h w c"]


def windows(
    cases: Sequence[Case],
    plan: Plan,
    *,
    each: int = 2,
    spacing: Sequence[float] = (),
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Window]:
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
        if label is not None and (label > 0).any():
            middle = np.argwhere(label > 0).mean(0) + before
            starts[0] = np.clip(np.round(middle - np.array(plan.patch) / 2), 0, room).astype(int)
        for start in starts:
            box = tuple(slice(s, s + n) for s, n in zip(start, plan.patch, strict=True))
            found.append(padded[box][None])
    return found
