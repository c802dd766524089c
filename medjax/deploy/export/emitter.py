"""The state of an export: ONNX nodes so far, and where each value of the program stands among them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from medjax.deploy.program import Op, Program
from medjax.deploy.quantize.points import Kernel
from medjax.deploy.quantize.scales import Scale, integers, weight_steps
from medjax.errors import UserError

Order = tuple[int, ...]
LONE = -1  # a place of one entry that is no axis of the value
KINDS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


@dataclass(frozen=True)
class Tensor:
    """A value in the graph.

    order: the axis of the value at each place, or LONE.
    spread: axes that have one entry here and are repeated in the value.
    """

    name: str
    order: Order
    spread: frozenset[int] = frozenset()

    def place(self, axis: int) -> int:
        """Where an axis of the value is."""
        return self.order.index(axis)


@dataclass(frozen=True)
class Bits:
    """The scale of operands by position and place, and which operations have weights of eight bits."""

    reads: Mapping[tuple[int, int], Scale] = field(default_factory=dict)
    kernels: Mapping[int, Kernel] = field(default_factory=dict)


@dataclass
class Emitter:
    """Nodes, constants, and the tensors and numbers of the values that were reached.

    fixed: what holds for this size of image alone. sums: of values that are sums over the batch or space,
    the number of what was summed. feeds: what reads a value that is read once. renamed: tensors that got
    the name of an output. current: the position of the operation.
    """

    program: Program
    nodes: list[NodeProto] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tensors: dict[int, Tensor] = field(default_factory=dict)
    numbers: dict[int, np.ndarray] = field(default_factory=dict)
    uses: Counter[int] = field(default_factory=Counter)
    made: dict[int, NodeProto] = field(default_factory=dict)
    named: dict[str, NodeProto] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    sums: dict[int, int] = field(default_factory=dict)
    fixed: list[str] = field(default_factory=list)
    feeds: dict[int, Op] = field(default_factory=dict)
    bits: Bits = field(default_factory=Bits)
    current: int = 0
    moved: dict[tuple[str, Order], str] = field(default_factory=dict)
    played: dict[Any, str] = field(default_factory=dict)

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        return self.program.shape(value)

    def rank(self, value: int) -> int:
        """The number of its axes."""
        return len(self.shape(value))

    def array(self, values: Any) -> str:
        """The name of a constant."""
        name = f"c{len(self.arrays)}"
        self.arrays[name] = np.ascontiguousarray(values)
        return name

    def node(self, kind: str, inputs: Sequence[str], where: str = "", **attributes: Any) -> str:
        """Adds a node of one output; gives the output's name."""
        name = f"{where.replace('/', '.')}:{len(self.nodes)}" if where else f"n{len(self.nodes)}"
        self.named[name] = helper.make_node(kind, inputs, [name], name=name, **attributes)
        self.nodes.append(self.named[name])
        return name

    def put(self, op: Op, name: str, order: Sequence[int], spread: Any = ()) -> None:
        """The one output of an operation is this tensor."""
        self.tensors[op.outputs[0]] = Tensor(name, tuple(order), frozenset(spread))
        if self.nodes and self.nodes[-1].output[0] == name:
            self.made[op.outputs[0]] = self.nodes[-1]

    def alias(self, op: Op, tensor: Tensor) -> None:
        """The one output of an operation is its first operand, seen otherwise."""
        value, output = op.inputs[0], op.outputs[0]
        self.tensors[output] = tensor
        if self.uses[value] == 1:
            if value in self.made:
                self.made[output] = self.made.pop(value)
            if value in self.sums:
                self.sums[output] = self.sums.pop(value)

    def known(self, value: int) -> bool:
        """Whether a value does not hang on the image."""
        return value in self.numbers

    def whole(self, value: int, like: Tensor | None = None) -> Tensor:
        """The tensor of a value, with nothing left to repeat.

        like: a tensor that is as long along the axes that are repeated, at any size of image.
        """
        tensor = self.tensors[value]
        if not tensor.spread:
            return tensor
        if like is None:
            sizes = [1 if a == LONE else self.shape(value)[a] for a in tensor.order]
            self.fixed.append("an axis that is repeated")
            to = self.array(np.array(sizes, np.int64))
        else:
            repeated = np.array([a in tensor.spread for a in tensor.order], np.int64)
            lengths = self.node("Mul", [self.node("Shape", [like.name]), self.array(repeated)])
            to = self.node("Max", [lengths, self.array(np.array([1], np.int64))])
        tensor = replace(tensor, name=self.node("Expand", [tensor.name, to]), spread=frozenset())
        self.tensors[value] = tensor
        return tensor

    def within(self, value: int, order: Order) -> str:
        """The name of a value whose axes stand in this order; what is to be repeated has one entry there."""
        if value in self.numbers:
            return self.array(_laid(_narrow(self.numbers[value]), order))
        tensor = self.tensors[value]
        if tensor.order == order:
            return tensor.name
        key = tensor.name, order
        if key not in self.moved:
            self.moved[key] = self._move(tensor, order)
        return self.moved[key]

    def _move(self, tensor: Tensor, order: Order) -> str:
        """A tensor in another order: squeezed, transposed and given places of one entry."""
        name, now = tensor.name, list(tensor.order)
        if LONE in now and len([a for a in order if a == LONE]) != now.count(LONE):
            gone = [k for k, a in enumerate(now) if a == LONE]
            name = self.node("Squeeze", [name, self.array(np.array(gone, np.int64))])
            now = [a for a in now if a != LONE]
        lone = [k for k, a in enumerate(order) if a == LONE]
        if LONE in now:  # as many on both sides: they stand for each other
            spare = iter(k for k, a in enumerate(now) if a == LONE)
            places = [next(spare) if a == LONE else now.index(a) for a in order]
            lone = []
        else:
            places = [now.index(a) for a in order if a != LONE]
        if places != list(range(len(places))):
            name = self.node("Transpose", [name], perm=places)
        if lone:
            name = self.node("Unsqueeze", [name, self.array(np.array(lone, np.int64))])
        return name

    def read(self, op: Op, place: int, order: Order) -> str:
        """The name of an operand in this order, in eight bits where it is a point."""
        name = self.within(op.inputs[place], order)
        scale = self.bits.reads.get((self.current, place))
        if scale is None or self.known(op.inputs[place]):
            return name
        key = name, (scale.step, scale.zero, scale.low)
        if key not in self.played:
            kind = np.uint8 if scale.low == 0 else np.int8
            how = [self.array(np.float32(scale.step)), self.array(kind(scale.zero))]
            q = self.node("QuantizeLinear", [name, *how])
            self.played[key] = self.node("DequantizeLinear", [q, *how])
        return self.played[key]

    def weights(
        self, kernel: np.ndarray, lay: Callable[[np.ndarray], np.ndarray], axis: int
    ) -> str:
        """Laid out by `lay` with the output channels along `axis`; as integers where that is wanted."""
        how = self.bits.kernels.get(self.current)
        if how is None:
            return self.array(lay(kernel))
        most = self.bits.reads[self.current, 0].weights
        steps = np.asarray(weight_steps(kernel, most, how.axis, how.spread))
        whole = lay(integers(kernel, steps))
        channels = whole.shape[axis]
        each = steps.reshape(-1)[:channels].astype(np.float32)
        names = [self.array(v) for v in (whole, each, np.zeros(channels, np.int8))]
        return self.node("DequantizeLinear", names, axis=axis)

    def plain(self, value: int) -> str:
        """The name of a value as it is in the program: its axes in turn, nothing to repeat."""
        if not self.known(value):
            self.whole(value)
        return self.within(value, tuple(range(self.rank(value))))

    def refuse(self, op: Op, why: str) -> UserError:
        """What cannot be exported like this."""
        return UserError(
            f"export: {op.says} {why}; --config.export.route=jax2tf knows more operations"
        )


def _narrow(numbers: np.ndarray) -> np.ndarray:
    """One entry along axes along which all are equal."""
    for k, (n, step) in enumerate(zip(numbers.shape, numbers.strides, strict=True)):
        if n > 1:
            first = numbers.take([0], axis=k)
            if step == 0 or np.array_equal(np.broadcast_to(first, numbers.shape), numbers):
                numbers = first
    return numbers


def _laid(numbers: np.ndarray, order: Order) -> np.ndarray:
    """Axes in this order, with places of one entry."""
    if not numbers.ndim:
        return numbers
    moved = numbers.transpose([a for a in order if a != LONE])
    return np.expand_dims(moved, [k for k, a in enumerate(order) if a == LONE])


def constant(name: str, numbers: np.ndarray) -> TensorProto:
    """A constant of the graph."""
    return numpy_helper.from_array(numbers, name)


def channels_first(rank: int) -> Order:
    """Batch, channels, space."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else tuple(range(rank))
