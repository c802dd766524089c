"""Which entries of which axes stand and fall together.

An axis is an ordered product of factors, a factor a vector of atoms, one for each entry along it.
Operations only permute, join, cut, split, merge and unite atoms; atoms that are united are removed together
or not at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Factor = Int[np.ndarray, " _"]
Axis = tuple[Factor, ...]  # () of an axis of one entry


@dataclass(frozen=True)
class Components:
    """The atoms as they hang together: a label for each, and why some labels must stay."""

    label: Int[np.ndarray, " atoms"]
    why: Mapping[int, str]

    def of(self, factor: Factor) -> np.ndarray:
        """The label of each entry, -1 where it must stay."""
        labels = self.label[factor]
        return np.where(self.stays[labels], -1, labels)

    @cached_property
    def stays(self) -> np.ndarray:
        """Whether each label must stay."""
        marks = np.zeros(self.label.max(initial=-1) + 1, bool)
        marks[list(self.why)] = True
        return marks


@dataclass
class Atoms:
    """Atoms, what unites them, and what keeps them from being removed.

    A split of n = a b entries into factors of a and b has the rule: entry (i, j) is removed where row i or
    column j is. `resolve` turns each rule into rows or columns.
    """

    count: int = 0
    united: list[tuple[Factor, Factor]] = field(default_factory=list)
    frozen: list[tuple[Factor, str]] = field(default_factory=list)
    rules: list[tuple[Int[np.ndarray, "_ _"], Factor, Factor]] = field(default_factory=list)
    known: dict[tuple[bytes, int] | tuple[bytes, bytes], tuple[Factor, ...]] = field(
        default_factory=dict
    )

    def new(self, count: int) -> Axis:
        """An axis of entries that nothing hangs on yet."""
        if count == 1:
            return ()
        self.count += count
        return (np.arange(self.count - count, self.count),)

    def unite(self, first: Factor, second: Factor) -> None:
        """Entry by entry: together or not at all."""
        self.united.append((first, second))

    def freeze(self, axis: Axis, why: str) -> None:
        """Nothing along the axis may be removed."""
        self.frozen += [(factor, why) for factor in axis]

    def split(self, factor: Factor, rows: int) -> tuple[Factor, Factor]:
        """A factor as rows times columns, more than one of each."""
        key = factor.tobytes(), rows
        if key not in self.known:
            (a,), (b,) = self.new(rows), self.new(len(factor) // rows)
            self.known[key] = a, b
            self.rules.append((factor.reshape(rows, -1), a, b))
        a, b = self.known[key]
        return a, b

    def merge(self, axis: Axis) -> Factor:
        """The factors of an axis of more than one entry as one."""
        first, *others = axis
        for second in others:
            key = first.tobytes(), second.tobytes()
            if key not in self.known:
                (merged,) = self.new(len(first) * len(second))
                self.known[key] = (merged,)
                self.rules.append((merged.reshape(len(first), -1), first, second))
            (first,) = self.known[key]
        return first

    def align(self, first: Axis, second: Axis, why: str) -> Axis:
        """Unites two axes of equally many entries; gives the finer of their factors.

        Where the factors do not fit into each other both axes are frozen, because of `why`.
        """
        left, right, common = list(first), list(second), []
        while left and right:
            f, g = left.pop(0), right.pop(0)
            n, m = len(f), len(g)
            if n > m and n % m == 0:
                f, rest = self.split(f, m)
                left.insert(0, rest)
            elif m > n and m % n == 0:
                g, rest = self.split(g, n)
                right.insert(0, rest)
            elif n != m:
                self.freeze((f, g, *left, *right), why)
                return (*common, f, *left)
            self.unite(f, g)
            common.append(f)
        return tuple(common)

    def regroup(self, axes: Sequence[Axis], shape: Sequence[int]) -> list[Axis] | None:
        """The factors of `axes` as axes of another shape, None where they cannot be cut like that."""
        factors, made = [f for axis in axes for f in axis], []
        for size in shape:
            own: list[Factor] = []
            left = size
            while left > 1:
                f = factors.pop(0)
                if len(f) > left and len(f) % left == 0:
                    f, rest = self.split(f, left)
                    factors.insert(0, rest)
                elif left % len(f):
                    return None
                own.append(f)
                left //= len(f)
            made.append(tuple(own))
        return made

    def components(self) -> Components:
        """As everything hangs together so far."""
        pairs = [(u, v) for u, v in self.united if len(u)]
        ends = [np.concatenate(side) for side in zip(*pairs, strict=True)] if pairs else [[], []]
        links = coo_array((np.ones(len(ends[0])), tuple(ends)), shape=(self.count, self.count))
        _, label = connected_components(links, directed=False)
        why: dict[int, str] = {}
        for factor, reason in self.frozen:
            for one in np.unique(label[factor]).tolist():
                why.setdefault(one, reason)
        return Components(label, why)

    def resolve(self) -> Components:
        """Decides every rule: rows where a column must stay or may be chosen, else columns."""
        rules, why = self.rules, "an axis that it is a part of is removed in other parts"
        while rules:
            state, waiting = self.components(), []
            for entries, rows, columns in rules:
                a, b = state.of(rows), state.of(columns)
                inside = state.of(entries.reshape(-1)).reshape(entries.shape)
                if (b < 0).any():
                    self._take(entries, rows, columns, why)
                elif (a < 0).any():
                    self._take(entries.T, columns, rows, why)
                elif _alike(inside):
                    self._take(entries, rows, columns, why)
                elif _alike(inside.T):
                    self._take(entries.T, columns, rows, why)
                else:
                    waiting.append((entries, rows, columns))
            if len(waiting) == len(rules):
                entries, rows, columns = waiting.pop(0)
                self._take(entries, rows, columns, why)
            rules = waiting
        return self.components()

    def _take(
        self, entries: Int[np.ndarray, "_ _"], rows: Factor, columns: Factor, why: str
    ) -> None:
        """Whole rows are removed, never columns."""
        self.freeze((columns,), why)
        for j in range(entries.shape[1]):
            self.unite(entries[:, j], rows)


def _alike(labels: np.ndarray) -> bool:
    """Whether each row hangs together already, and none must stay."""
    return bool((labels == labels[:, :1]).all())
