"""Which objects a report shows: what was found surest, rightly and wrongly, and what was hardest to find."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from medjax.data.cases import Case
from medjax.data.convention import Convention
from medjax.data.prepare import load
from medjax.metrics.detection import Objects, hits
from medjax.train.findings import Said, judged
from medjax.train.report.slices import ReportCase
from medjax.train.showcase import shown_channel

HIT, ALARM = "surest hit", "surest false alarm"


class Shown(NamedTuple):
    """One object to look at: where the slices run, and the box that was found, if one was."""

    role: str
    case: str
    centre: Float[np.ndarray, "3"]  # mm from the first voxel
    size: float  # mm3
    found: Objects | None
    there: Objects
    scores: dict[str, float]


def choose(said: Sequence[Said]) -> list[Shown]:
    """The surest finding in an object, the surest in none, and the object that was hardest to find.

    That is the largest in which nothing was found, or the one whose surest finding is least sure, unless
    there is but one object. Of scans whose objects are known.
    """
    findings = [shown for one in said for shown in _findings(one)]
    objects = [shown for one in said for shown in _objects(one)]
    chosen = []
    for role in (HIT, ALARM):
        own = [shown for shown in findings if shown.role == role]
        chosen += [max(own, key=lambda shown: shown.scores["score"])] if own else []
    missed = [shown for shown in objects if shown.found is None]
    if missed:
        chosen.append(max(missed, key=lambda shown: shown.size))
    elif len(objects) > 1:
        chosen.append(min(objects, key=lambda shown: shown.scores["score"]))
    return chosen


def _findings(one: Said) -> Iterator[Shown]:
    """What was found, but for what lies in an object that is ignored, or where nobody looked."""
    known = judged(one)
    if known is None:
        return
    ours, there = known
    inside = hits(ours, there)
    for n, score in enumerate(ours.score.tolist()):
        box = _single(ours, n)
        role = HIT if (inside[n] & ~there.ignored).any() else ALARM
        if role == HIT or not inside[n].any():
            size = float(box.size.prod())
            yield Shown(role, one.case, box.centre[0], size, box, there, {"score": score})


def _objects(one: Said) -> Iterator[Shown]:
    """What is there, with the surest finding in it."""
    known = judged(one)
    if known is None:
        return
    ours, there = known
    inside = hits(ours, there)
    for m in np.flatnonzero(~there.ignored):
        place, size = there.centre[m], float(there.size[m].prod())
        own = Shown("missed", one.case, place, size, None, there, {})
        if inside[:, m].any():
            surest = int(np.where(inside[:, m], ours.score, -np.inf).argmax())
            scores = {"score": float(ours.score[surest])}
            own = own._replace(role="least sure hit", found=_single(ours, surest), scores=scores)
        yield own


def _single(objects: Objects, number: int) -> Objects:
    return Objects(*(part[number : number + 1] for part in objects))


def object_cases(
    cases: Mapping[str, Case],
    shown: Sequence[Shown],
    channels: Sequence[str],
    *,
    spacing: Sequence[float] = (),
    convention: Convention,
) -> Iterator[ReportCase]:
    """What the report shows of them: boxes of what is there, and of what was found in that place."""
    for one in shown:
        scan = load(cases[one.case], convention, len(channels), spacing=spacing)
        shape = scan.image.shape[:3]
        there = painted(one.there, shape, scan.spacing)
        found = (
            np.zeros_like(there) if one.found is None else painted(one.found, shape, scan.spacing)
        )
        focus = np.zeros(shape, bool)
        centre = np.rint(one.centre / scan.spacing).astype(int)
        focus[tuple(np.clip(centre, 0, np.array(shape) - 1))] = True
        marked = there if there.any() else found
        image, channel = shown_channel(scan.image, marked, channels)
        yield ReportCase(
            id=one.case,
            role=one.role,
            image=image,
            reference=there,
            prediction=found,
            spacing=scan.spacing,
            scores=one.scores,
            focus=focus,
            channel=channel,
        )


def painted(
    objects: Objects, shape: Sequence[int], spacing: Sequence[float]
) -> UInt8[np.ndarray, "x y z"]:
    """1 in the boxes, each of one voxel at least; sizes and places in mm from the first voxel."""
    mask = np.zeros(shape, np.uint8)
    for centre, size in zip(objects.centre, objects.size, strict=True):
        low, high = ((centre + side * size / 2) / spacing for side in (-1, 1))
        middle = np.clip(np.rint(centre / spacing), 0, np.array(shape) - 1)
        first = np.clip(np.minimum(np.ceil(low), middle), 0, None).astype(int)
        last = np.maximum(np.floor(high), middle).astype(int)
        mask[tuple(slice(a, b + 1) for a, b in zip(first, last, strict=True))] = 1
    return mask
