"""The units of a network: what of its parameters can be removed, and what goes with it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import keystr, tree_flatten_with_path

from medjax.deploy.program import Program, trace
from medjax.deploy.prune import entrywise, loops, moves, sums
from medjax.deploy.prune.atoms import Axis, Components
from medjax.deploy.prune.coupling import Coupling
from medjax.errors import UserError

RULES = {**entrywise.RULES, **moves.RULES, **sums.RULES, **loops.RULES}
Removed = frozenset[int]  # labels of units
Entries = Mapping[str, Mapping[str, Sequence[int]]]  # of parameters by path and axis, as in JSON


@dataclass(frozen=True)
class Member:
    """Entries along an axis of a parameter."""

    leaf: int
    axis: int
    entries: tuple[int, ...]


@dataclass(frozen=True)
class Family:
    """Units alike: equally many entries of the same axes of the same parameters."""

    where: tuple[tuple[str, int], ...]  # path and axis of each member
    counts: tuple[int, ...]  # entries of each member that a unit has
    units: tuple[int, ...]


@dataclass(frozen=True)
class Structure:
    """A program, its units by label, and the parameters that they are parts of."""

    coupling: Coupling
    components: Components
    paths: tuple[str, ...]
    outputs: Any  # the tree of what it gives

    @property
    def program(self) -> Program:
        """The whole program."""
        return self.coupling.program

    def parameters(self) -> list[tuple[int, int, np.ndarray]]:
        """Leaf, axis and the label of each entry, -1 where it must stay."""
        return [
            (leaf, k, self.components.of(axis[0]))
            for leaf in range(len(self.paths))
            for k, axis in enumerate(self.coupling.axes(self.program.inputs[leaf]))
            if axis
        ]

    @cached_property
    def units(self) -> dict[int, tuple[Member, ...]]:
        """What each unit is made of."""
        found: dict[int, list[Member]] = defaultdict(list)
        for leaf, k, labels in self.parameters():
            for label in np.unique(labels[labels >= 0]).tolist():
                entries = tuple(np.flatnonzero(labels == label).tolist())
                found[label].append(Member(leaf, k, entries))
        return {label: tuple(members) for label, members in found.items()}

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """Units by what they are parts of, in the order of the parameters."""
        alike: dict[tuple[tuple[int, int, int], ...], list[int]] = defaultdict(list)
        for label, members in self.units.items():
            alike[tuple((m.leaf, m.axis, len(m.entries)) for m in members)].append(label)
        return tuple(
            Family(
                tuple((self.paths[leaf], axis) for leaf, axis, _ in kind),
                tuple(count for *_, count in kind),
                tuple(units),
            )
            for kind, units in alike.items()
        )

    @property
    def stays(self) -> dict[tuple[str, int], str]:
        """Why axes of parameters, of which no entry can be removed, must stay."""
        why = self.components.why
        return {
            (self.paths[leaf], k): why[
                int(self.components.label[self.coupling.axes(self.program.inputs[leaf])[k][0][0]])
            ]
            for leaf, k, labels in self.parameters()
            if (labels < 0).all()
        }

    def kept(self, axis: Axis, removed: Removed) -> np.ndarray:
        """The places along an axis that are left."""
        left = np.ones(1, bool)
        for factor in axis:
            own = ~np.isin(self.components.of(factor), list(removed))
            left = np.logical_and.outer(left, own).reshape(-1)
        return np.flatnonzero(left)

    def shape(self, value: int, removed: Removed) -> tuple[int, ...]:
        """The shape of a value once units are removed."""
        axes = self.coupling.axes(value)
        return tuple(len(self.kept(axis, removed)) if axis else 1 for axis in axes)

    def entries(self, removed: Removed) -> dict[str, dict[str, list[int]]]:
        """What is removed, by path and axis: what a checkpoint keeps."""
        found: dict[str, dict[str, list[int]]] = defaultdict(dict)
        for leaf, k, labels in self.parameters():
            gone = np.flatnonzero(np.isin(labels, list(removed))).tolist()
            if gone:
                found[self.paths[leaf]][str(k)] = gone
        return dict(found)

    def removed(self, entries: Entries) -> Removed:
        """The units that were removed. Errors: entries that are no whole units of this network."""
        wanted = {path: {k: list(gone) for k, gone in own.items()} for path, own in entries.items()}
        found: set[int] = set()
        for leaf, k, labels in self.parameters():
            found |= set(labels[wanted.get(self.paths[leaf], {}).get(str(k), [])].tolist())
        if -1 in found or self.entries(frozenset(found)) != wanted:
            raise UserError(
                "what was pruned are no units of this network; it is another model or version"
            )
        return frozenset(found)


def analyse(
    fn: Callable[..., Any], params: Any, *args: Any, shrinks: Sequence[str] = ()
) -> Structure:
    """The structure of fn(params, *args); leaves may be abstract.

    Inputs and outputs keep their shapes, but for outputs whose path is in `shrinks`. A primitive that is
    not known freezes what it touches and is listed in `coupling.unknown`.
    """
    program, shapes = trace(fn, params, *args)
    paths = _paths(params)
    found = Coupling(program, RULES)
    for i, value in enumerate(program.inputs):
        found.values[value] = found.fresh(value, True)
        if i >= len(paths):
            found.freeze(value, "an axis of the input")
    found.walk(program)
    read = {value for op in program.ops for value in op.inputs}
    for value in set(program.inputs) - read:
        found.freeze(value, "is not read")
    for path, value in zip(_paths(shapes), program.outputs, strict=True):
        if path not in shrinks:
            found.freeze(value, "an axis of the output")
    return Structure(found, found.atoms.resolve(), paths, jax.tree.structure(shapes))


def _paths(tree: Any) -> tuple[str, ...]:
    """The path of each leaf, in their order."""
    leaves = tree_flatten_with_path(tree)[0]
    return tuple(keystr(path, simple=True, separator="/") for path, _ in leaves)


def cut(structure: Structure, params: Any, removed: Removed) -> Any:
    """The parameters without what is removed."""
    return _at_axes(structure, params, removed, lambda x, k, kept, _: jnp.take(x, kept, axis=k))


def mask(structure: Structure, params: Any, removed: Removed) -> Any:
    """The parameters, zero where something is removed."""

    def only(x: Any, k: int, kept: np.ndarray, whole: int) -> Any:
        ones = np.zeros(whole, x.dtype)
        ones[kept] = 1
        return x * ones.reshape([-1 if k == axis else 1 for axis in range(x.ndim)])

    return _at_axes(structure, params, removed, only)


def grow(structure: Structure, params: Any, removed: Removed) -> Any:
    """What `cut` left, with zeros where something was removed."""

    def filled(x: Any, k: int, kept: np.ndarray, whole: int) -> Any:
        wide = jnp.zeros((*x.shape[:k], whole, *x.shape[k + 1 :]), x.dtype)
        return wide.at[(slice(None),) * k + (kept,)].set(x)

    return _at_axes(structure, params, removed, filled)


def _at_axes(
    structure: Structure, params: Any, removed: Removed, change: Callable[..., Any]
) -> Any:
    """Changes every parameter along every axis that loses entries."""
    leaves, tree = jax.tree.flatten(params)
    for leaf, k, labels in structure.parameters():
        kept = np.flatnonzero(~np.isin(labels, list(removed)))
        if len(kept) < len(labels):
            leaves[leaf] = change(leaves[leaf], k, kept, len(labels))
    return jax.tree.unflatten(tree, leaves)


def operations(structure: Structure, removed: Removed = frozenset()) -> int:
    """Multiplications, each with an addition, of convolutions and matrix products."""
    total = 0
    for op in structure.program.walk():
        if op.name == "conv_general_dilated":
            kernel = structure.shape(op.inputs[1], removed)
            out = op.params["dimension_numbers"].rhs_spec[0]
            total += prod(structure.shape(op.outputs[0], removed)) * prod(kernel) // kernel[out]
        elif op.name == "dot_general":
            (contracted, _), _ = op.params["dimension_numbers"]
            left = structure.shape(op.inputs[0], removed)
            each = prod(left[k] for k in contracted)
            total += prod(structure.shape(op.outputs[0], removed)) * each
    return total
