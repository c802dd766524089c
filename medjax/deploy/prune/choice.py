"""Which units of a network go: scores, and choices by them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Literal

import jax
import numpy as np

from medjax.deploy.prune.structure import Family, Member, Removed, Structure, operations

Scores = Mapping[int, float]  # of each unit; the lowest go first


def magnitude(structure: Structure, params: Any) -> Scores:
    """The mean size of the weights of each unit (L1: Li 2017); scales and biases count where there is nothing
    else. It says little of weights that a norm follows.
    """
    leaves = [np.abs(np.asarray(leaf, np.float64)) for leaf in jax.tree.leaves(params)]
    found = {}
    for label, members in structure.units.items():
        parts = [np.take(leaves[m.leaf], m.entries, axis=m.axis) for m in members]
        kernels = [part for part in parts if part.ndim > 1] or parts
        found[label] = float(sum(p.sum() for p in kernels) / sum(p.size for p in kernels))
    return found


def taylor(structure: Structure, params: Any, gradients: Iterable[Any]) -> Scores:
    """How much the loss of samples would change, to first order, without each unit (Molchanov 2019).

    gradients: of each sample. A unit is gone where nothing reads it, so the change is the sum of weights
    times gradients over those that read it; the score is its mean square. (Weights that a norm follows have a
    sum of 0 however much they matter.)
    """
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(params)]
    reads = {unit: _reading(members, leaves) for unit, members in structure.units.items()}
    total, count = dict.fromkeys(reads, 0.0), 0
    for gradient in gradients:
        slopes = map(np.asarray, jax.tree.leaves(gradient))
        worth = [w * g for w, g in zip(leaves, slopes, strict=True)]
        for unit, members in reads.items():
            change = sum(np.take(worth[m.leaf], m.entries, axis=m.axis).sum() for m in members)
            total[unit] += float(change) ** 2
        count += 1
    return {unit: value / count for unit, value in total.items()}


def _reading(members: Sequence[Member], leaves: Sequence[np.ndarray]) -> Sequence[Member]:
    """The kernels that read a unit, or, where none does, all of it."""
    return [m for m in members if m.axis < leaves[m.leaf].ndim - 1] or members


def random(structure: Structure, seed: int) -> Scores:
    """No reason at all: the control."""
    labels = sorted(structure.units)
    return dict(zip(labels, np.random.default_rng(seed).random(len(labels)).tolist(), strict=True))


def choose(
    structure: Structure,
    scores: Scores,
    ratio: float,
    *,
    scope: Literal["family", "global"] = "family",
    multiple: int = 8,
    exclude: Sequence[str] = (),
    shares: Sequence[tuple[str, float]] = (),
    gone: Removed = frozenset(),
) -> Removed:
    """The share `ratio` of the units with the lowest scores.

    "family": of each family; "global": of all, each score in units of the mean of its family. What is left
    of a family is rounded up to a `multiple` of channels, which processors take at a time, and never nothing.
    exclude: patterns (regular expressions); families with a parameter of such a path stay whole.
    shares: such patterns, each with the share that those families lose instead; the first that fits counts.
    gone: units that were removed before; they count, and what is given holds them.
    Errors: a ratio or share outside of [0, 1).
    """
    for share in (ratio, *(own for _, own in shares)):
        if not 0 <= share < 1:
            raise ValueError(f"ratio {share}: 0 up to less than 1 is needed")
    families = [f for f in structure.families if not _fits(f, exclude)]
    given = {
        family: next((share for pattern, share in shares if _fits(family, [pattern])), None)
        for family in families
    }
    free = [family for family in families if given[family] is None]
    wanted = {f: round(len(f.units) * (ratio if (s := given[f]) is None else s)) for f in families}
    if scope == "global":
        wanted |= _lowest(free, scores, ratio, gone)
    chosen = set(gone)
    for family in families:
        total, step = len(family.units), max(1, multiple // family.counts[0])
        left = max(1, total - wanted[family])
        left = min(total, -(-left // step) * step)
        order = sorted(family.units, key=lambda u: (u not in gone, scores[u], u))
        chosen |= set(order[: total - left])
    return frozenset(chosen)


def _fits(family: Family, patterns: Sequence[str]) -> bool:
    return any(re.search(p, path) for p in patterns for path, _ in family.where)


def _lowest(
    families: Sequence[Family], scores: Scores, ratio: float, gone: Removed
) -> dict[Family, int]:
    """How many of each family are among the lowest of all."""
    rank = []
    for family in families:
        mean = np.mean([scores[u] for u in family.units if u not in gone]) or 1.0
        rank += [(u not in gone, scores[u] / mean, u, family) for u in family.units]
    lowest = sorted(rank, key=lambda entry: entry[:3])[: round(len(rank) * ratio)]
    return {family: sum(f is family for *_, f in lowest) for family in families}


def table(structure: Structure, removed: Removed) -> list[dict[str, Any]]:
    """A row for each family: the axis that makes its channels, its units, what is left, what goes with them.

    channels: of a unit, along that axis. parameters and multiplications: the shares of the whole
    network's that its removed units take away, were they the only ones. members: all its axes.
    """
    sizes = _entries(structure, frozenset()), operations(structure)
    shapes = map(structure.program.shape, structure.program.inputs)
    last = {path: len(shape) - 1 for path, shape in zip(structure.paths, shapes, strict=False)}
    rows = []
    for family in structure.families:
        makes = next(
            (k for k, (path, axis) in enumerate(family.where) if axis == last[path] > 0), 0
        )
        gone = removed & {*family.units}
        members = [f"{path}[{axis}]" for path, axis in family.where]
        rows.append(
            {
                "family": members[makes],
                "units": len(family.units),
                "left": len(family.units) - len(gone),
                "channels": family.counts[makes],
                "parameters": 1 - _entries(structure, gone) / sizes[0],
                "multiplications": 1 - operations(structure, gone) / max(1, sizes[1]),
                "members": members,
            }
        )
    return rows


def _entries(structure: Structure, removed: Removed) -> int:
    """The number of parameters that are left."""
    inputs = structure.program.inputs[: len(structure.paths)]
    return sum(prod(structure.shape(value, removed)) for value in inputs)
