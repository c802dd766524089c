"""Where a program is quantised: what goes into convolutions and products, joins, and residual sums."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import prod

from medjax.deploy.program import Op, Program
from medjax.ops.whole import recognise


@dataclass(frozen=True)
class Point:
    """An input of an operation: its position, the place of the input; points of a `group` share a scale."""

    op: int
    place: int
    value: int
    group: int


@dataclass(frozen=True)
class Kernel:
    """The axis of the output channels of weights.

    spread: by how many the channels are spread over space right after, (spread, channels) along the axis;
    what becomes one channel shares a step, as in a transposed convolution.
    """

    axis: int
    spread: int = 1


@dataclass(frozen=True)
class Points:
    """All points in the order of the program, and the weights by the position of their operation."""

    points: tuple[Point, ...]
    kernels: dict[int, Kernel]

    @property
    def groups(self) -> int:
        """The number of scales."""
        return 1 + max((p.group for p in self.points), default=-1)


def points(program: Program) -> Points:
    """The points of a program whose last input is the image."""
    alive, ops = {program.inputs[-1]}, program.ops
    for op in ops:
        if alive & set(op.inputs):
            alive |= set(op.outputs)
    uses = Counter(value for op in ops for value in op.inputs)
    consumers: dict[int, list[Op]] = defaultdict(list)
    for op in ops:
        for value in op.inputs:
            consumers[value].append(op)

    found: list[tuple[int, int, int]] = []
    kernels: dict[int, Kernel] = {}
    joined: dict[int, int] = {}  # a value, and the one that its scale is shared with

    def root(value: int) -> int:
        while value in joined:
            value = joined[value]
        return value

    for k, op in enumerate(ops):
        if _weighs(program, op) and op.inputs[0] in alive and op.inputs[1] not in alive:
            found.append((k, 0, op.inputs[0]))
            kernels[k] = Kernel(_output(op), _spread(op, consumers))
        elif op.name == "concatenate":
            for place, value in enumerate(op.inputs):
                if value in alive:
                    found.append((k, place, value))
                    if root(value) != root(op.outputs[0]):
                        joined[root(value)] = root(op.outputs[0])
        elif op.name == "add" and set(op.inputs) <= alive and _alike(program, op):
            skip = max((0, 1), key=lambda place: uses[op.inputs[place]])
            if uses[op.inputs[skip]] > 1:
                found.append((k, skip, op.inputs[skip]))
    number: dict[int, int] = {}
    made = [Point(k, place, v, number.setdefault(root(v), len(number))) for k, place, v in found]
    return Points(tuple(made), kernels)


def _weighs(program: Program, op: Op) -> bool:
    """Whether an operation multiplies with weights of its last input."""
    if op.name == "dot_general":
        (_, contracted), (batch, _) = op.params["dimension_numbers"]
        return not batch and len(contracted) == 1 and len(program.shape(op.inputs[1])) == 2
    return op.name == "conv_general_dilated"


def _alike(program: Program, op: Op) -> bool:
    """Whether two full tensors are added."""
    first, second = (program.shape(value) for value in op.inputs)
    return first == second and len(first) > 2


def _output(op: Op) -> int:
    """The axis of the output channels of the weights of an operation."""
    if op.name == "dot_general":
        (_, (contracted,)), _ = op.params["dimension_numbers"]
        return 1 - contracted
    return op.params["dimension_numbers"].rhs_spec[0]


def _spread(op: Op, consumers: dict[int, list[Op]]) -> int:
    """By how many the channels are spread over space by the next operation."""
    after = consumers[op.outputs[0]]
    call = recognise(after[0].params.get("name", "")) if len(after) == 1 else None
    if call is None or call[0] != "depth_to_space":
        return 1
    return prod(int(n) for n in call[1]["factors"].split("x"))
