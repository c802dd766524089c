"""What of the values of a program can only be removed together, found by walking through it.

Removing is exact: the smaller program gives what the whole one gives whose removed entries are zero. So an
axis may be summed over where what is removed along it is zero for certain, and must stay where it is not.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from medjax.deploy.program import Op, Program
from medjax.deploy.prune.atoms import Atoms, Axis


@dataclass(frozen=True)
class Value:
    """The axes of a value; along which of them what is removed is zero for certain."""

    axes: tuple[Axis, ...]
    zero: tuple[bool, ...]


@dataclass
class Coupling:
    """The values of a program as far as it was walked, and what could not be looked into."""

    program: Program
    rules: Mapping[str, Callable[["Coupling", Op], None]]
    atoms: Atoms = field(default_factory=Atoms)
    values: dict[int, Value] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        return self.program.shape(value)

    def axes(self, value: int) -> tuple[Axis, ...]:
        """The axes of a value."""
        return self.values[value].axes

    def nothing(self, value: int) -> bool:
        """Whether a value is known to be zero everywhere."""
        known = self.program.constants
        if value not in known or not isinstance(self.program.avals[value].dtype, np.dtype):
            return False  # of a key of random numbers nothing is known
        return not np.any(np.asarray(known[value]))

    def fresh(self, value: int, zero: bool) -> Value:
        """Axes that nothing hangs on yet."""
        shape = self.shape(value)
        return Value(tuple(self.atoms.new(n) for n in shape), (zero,) * len(shape))

    def freeze(self, value: int, why: str) -> None:
        """Nothing of a value may be removed."""
        for axis in self.axes(value):
            self.atoms.freeze(axis, why)

    def stay(self, op: Op, why: str) -> None:
        """Nothing of what goes into an operation, and of what comes out, may be removed."""
        for value in op.inputs:
            self.freeze(value, why)
        for value in op.outputs:
            self.values[value] = self.fresh(value, True)
            self.freeze(value, why)

    def walk(self, program: Program) -> None:
        """Every operation in turn; the inputs of the program have their axes already."""
        for op in program.ops:
            self.know(op.inputs)
            if op.name in self.rules:
                self.rules[op.name](self, op)
            else:
                if op.says not in self.unknown:
                    self.unknown.append(op.says)
                self.stay(op, f"{op.says} is unknown")
        self.know(program.outputs)

    def know(self, values: tuple[int, ...]) -> None:
        """Gives constants their axes, which can be removed like those of parameters."""
        for value in values:
            if value not in self.values:
                self.values[value] = self.fresh(value, self.nothing(value))
