"""Synthetic patients for training, made while it runs or once beforehand, as prepared cases."""

import functools
import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from medjax.data.cache import Cached, open_cached, places, save_cached
from medjax.data.convention import Convention
from medjax.data.parents import parent_of
from medjax.data.plan import Plan
from medjax.data.prepare import Scan
from medjax.data.recipe import VERSION, Patient, Recipe, maker
from medjax.errors import UserError
from medjax.sim.anatomy import Anatomy
from medjax.space.volume import Volume

TOGETHER = 4  # patients that are drawn from at a time
FIRST = 1_000_000  # number of the first one: those before are cases in files
CONTRASTS = {
    "t1": "T1",
    "t1n": "T1",
    "t1ce": "T1ce",
    "t1c": "T1ce",
    "t1post": "T1ce",
    "t2": "T2",
    "t2w": "T2",
    "flair": "FLAIR",
    "t2f": "FLAIR",
    "pd": "PD",
}
ALSO = {"necrosis": ("non_enhancing",), "plaque": ("lesion", "foreground")}
Source = Callable[[int], Cached]
Image = Float32[np.ndarray, "d h w c"]
Label = UInt8[np.ndarray, "d h w"]


@dataclass(frozen=True)
class Restyle:
    """What changes the prepared images of a `share` of the patients; `name` says which one it is."""

    apply: Callable[[Image, Label], Image]
    share: float
    name: str

    def meets(self, number: int) -> bool:
        """Whether patient `number` is one of them: they are spread evenly."""
        return math.floor((number + 1) * self.share) > math.floor(number * self.share)


def fitted(recipe: Recipe, plan: Plan) -> Recipe:
    """The recipe with the channels of a plan as its contrasts, in their order.

    Errors name the channel that has no synthetic counterpart.
    """
    names = [name.lower() for name in plan.channels]
    strange = [name for name in names if name not in CONTRASTS]
    if strange:
        raise UserError(
            f"data.channels: {', '.join(strange)} cannot be synthesised (known: "
            f"{', '.join(CONTRASTS)}); choose others, or set synth.share to 0"
        )
    return replace(recipe, contrasts=tuple(CONTRASTS[name] for name in names))


def class_indices(convention: Convention, made: Convention) -> np.ndarray:
    """The class index of a convention for each of those that patients are `made` with, matched by name.

    Where a class is not known, one of `ALSO` is taken for it. Errors: no such class.
    """
    known, classes = list(convention.classes), made.classes
    names = [next((n for n in (name, *ALSO.get(name, ())) if n in known), None) for name in classes]
    missing = [wanted for wanted, name in zip(classes, names, strict=True) if name is None]
    if missing:
        raise UserError(
            f"data.convention: {convention.name} has no class {', '.join(missing)}, which synthetic "
            "patients have; set synth.share to 0"
        )
    return np.array([known.index(str(name)) for name in names], np.uint8)


def source(
    recipe: Recipe,
    parents: Sequence[Anatomy],
    plan: Plan,
    *,
    seed: int,
    reuse: int,
    pool: int = 0,
    folder: Path | None = None,
    restyle: Restyle | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Source:
    """`patient(index)`: the synthetic case that sample `index` of a run is drawn from.

    With `pool` that many patients are made beforehand and kept in `folder`; sample after sample
    takes the next. Without it every patient is new: `TOGETHER` at a time give the samples in turn,
    `reuse` each, and are forgotten. `restyle` has the last word on the images of its patients. Either
    way a pure function of (seed, index). It is for the threads of one process: JAX cannot share a device
    with forks of it.
    """
    recipe = fitted(recipe, plan)
    make, classes = maker(recipe), class_indices(plan.labels, recipe.convention)

    def prepared(number: int) -> Cached:
        parent = parents[parent_of(number, parents)]
        made = make(seed, FIRST + number, parent)
        case = _prepared(made, recipe, plan, classes, f"synthetic {number}")
        if restyle is None or not restyle.meets(number):
            return case
        return replace(case, image=restyle.apply(case.image, case.label))

    if pool:
        assert folder is not None  # only a pool is kept
        style = [restyle.name if restyle and restyle.meets(n) else "" for n in range(pool)]
        kept = [folder / _name(recipe, parents, plan, seed, n, style[n]) for n in range(pool)]
        missing = [(n, path) for n, path in enumerate(kept) if not path.is_dir()]
        for n, path in progress(missing) if missing else ():
            save_cached(prepared(n), path)
        return lambda index: open_cached(kept[index % pool])

    lock = threading.Lock()
    made = functools.lru_cache(maxsize=2 * TOGETHER)(prepared)

    def patient(index: int) -> Cached:
        with lock:  # the other thread may be about to make the same one
            return made(index // (TOGETHER * reuse) * TOGETHER + index % TOGETHER)

    return patient


def _prepared(made: Patient, recipe: Recipe, plan: Plan, classes: np.ndarray, name: str) -> Cached:
    _, orientation = Volume(made.label, recipe.affine).canonical()
    spacing = (recipe.spacing, recipe.spacing, recipe.spacing)
    image = made.image.astype(np.float32)
    scan = Scan(image, classes[made.label], recipe.affine, spacing, orientation)
    image, label, _ = plan.prepare(scan, name)
    assert label is not None  # a patient has one
    return Cached(name, image, label, places(label))


def _name(
    recipe: Recipe, parents: Sequence[Anatomy], plan: Plan, seed: int, number: int, style: str
) -> str:
    parent = parents[parent_of(number, parents)].name
    depends = [VERSION, recipe.facts(), parent, seed, plan.spacing, plan.axes, plan.coarse_axis]
    depends += [plan.normalisation, plan.convention, style]
    text = json.dumps(depends, sort_keys=True)
    return f"synthetic_{number:05d}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
