"""Graph nodes of operations that work entry by entry."""

from typing import Any

import numpy as np

from medjax.deploy.export.emitter import KINDS, LONE, Emitter, Order
from medjax.deploy.program import Op

SAME = {
    **{"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min"},
    **{"pow": "Pow", "rem": "Mod", "add_any": "Add", "neg": "Neg", "abs": "Abs", "sign": "Sign"},
    **{"exp": "Exp", "log": "Log", "tanh": "Tanh", "logistic": "Sigmoid", "erf": "Erf"},
    **{"sqrt": "Sqrt", "floor": "Floor", "ceil": "Ceil", "sin": "Sin", "cos": "Cos"},
    **{"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"},
    **{"and": "And", "or": "Or", "not": "Not", "xor": "Xor"},
}


def _entrywise(e: Emitter, op: Op, kind: str = "", inputs: Any = None) -> None:
    """One node, in the order of its largest operand."""
    values = op.inputs if inputs is None else inputs
    order = common_order(e, values)
    if inputs is None:
        names = [e.read(op, place, order) for place in range(len(values))]
    else:
        names = [e.within(v, order) for v in values]
    spread = _spread(e, op, values)
    e.put(op, e.node(kind or SAME[op.name], names, op.where), order, spread)


def common_order(e: Emitter, values: Any) -> Order:
    """The order of the operand that has most entries where it stands."""
    own = [v for v in values if not e.known(v) and e.rank(v)]
    if not own:
        return ()
    best = max(own, key=lambda v: (-len(e.tensors[v].spread), -e.tensors[v].order.count(LONE)))
    return e.tensors[best].order


def _spread(e: Emitter, op: Op, values: Any) -> list[int]:
    """Axes that all operands leave to be repeated."""
    found = []
    for k, n in enumerate(e.shape(op.outputs[0])):
        narrow = [
            _constant_along(e.numbers[v], k) if e.known(v) else k in e.tensors[v].spread
            for v in values
            if e.rank(v)
        ]
        if n > 1 and all(narrow):
            found.append(k)
    return found


def _constant_along(numbers: np.ndarray, k: int) -> bool:
    return bool(np.all(numbers == numbers.take([0], axis=k)))


def _add(e: Emitter, op: Op) -> None:
    """A bias goes into the convolution before it."""
    for value, bias in (op.inputs, op.inputs[::-1]):
        node = e.made.get(value)
        if not e.known(bias) or node is None or e.uses[value] > 1 or len(node.input) > 2:
            continue
        if node.op_type not in ("Conv", "ConvTranspose"):
            continue
        channel = e.tensors[value].order[1]
        numbers, channels = e.numbers[bias], e.shape(value)[channel]
        others = [k for k in range(numbers.ndim) if k != channel]
        if all(_constant_along(numbers, k) for k in others):
            if numbers.ndim:
                numbers = numbers[
                    tuple(slice(None) if k == channel else 0 for k in range(numbers.ndim))
                ]
            node.input.append(e.array(np.broadcast_to(numbers, (channels,)).astype(np.float32)))
            e.tensors[op.outputs[0]] = e.tensors[value]
            e.made[op.outputs[0]] = node
            return
    _entrywise(e, op)


def _max(e: Emitter, op: Op) -> None:
    """With zero: ReLU."""
    first, second = op.inputs
    if e.known(second) and not np.any(e.numbers[second]):
        _entrywise(e, op, "Relu", [first])
    else:
        _entrywise(e, op)


def _select(e: Emitter, op: Op) -> None:
    """Where; of x and a multiple of x by the sign of x: leaky ReLU."""
    which, no, yes = op.inputs
    if len(op.inputs) != 3:
        raise e.refuse(op, "chooses among more than two")
    slope = _leak(e, which, no, yes)
    if slope is not None:
        tensor = e.tensors[yes]
        name = e.node("LeakyRelu", [tensor.name], op.where, alpha=slope)
        e.put(op, name, tensor.order, tensor.spread)
        return
    _entrywise(e, op, "Where", [which, yes, no])


def _leak(e: Emitter, which: int, no: int, yes: int) -> float | None:
    """The slope below zero of a leaky ReLU of `yes`, None where it is none."""
    pair = (e.tensors.get(which), e.tensors.get(no))
    sign, scaled = (e.named.get(tensor.name) if tensor else None for tensor in pair)
    if e.known(yes) or sign is None or scaled is None:
        return None
    x = e.tensors[yes].name
    if sign.op_type not in ("GreaterOrEqual", "Greater") or scaled.op_type != "Mul":
        return None
    zero = e.arrays.get(sign.input[1])
    slope = next((e.arrays[i] for i in scaled.input if i in e.arrays), None)
    if sign.input[0] != x or x not in scaled.input or zero is None or np.any(zero):
        return None
    return float(slope.reshape(-1)[0]) if slope is not None and slope.size == 1 else None


def _div(e: Emitter, op: Op) -> None:
    """A sum by the number of what was summed: the mean, at any size."""
    above, below = op.inputs
    count = e.sums.get(above)
    if count and e.known(below) and np.all(e.numbers[below] == count) and e.uses[above] == 1:
        node = e.made[above]
        node.op_type = "ReduceMean"
        e.sums.pop(above)
        e.tensors[op.outputs[0]] = e.tensors[above]
        e.made[op.outputs[0]] = node
    else:
        _entrywise(e, op)


def _rsqrt(e: Emitter, op: Op) -> None:
    tensor = e.tensors[op.inputs[0]]
    root = e.node("Sqrt", [tensor.name], op.where)
    e.put(op, e.node("Reciprocal", [root], op.where), tensor.order, tensor.spread)


def _square(e: Emitter, op: Op) -> None:
    _entrywise(e, op, "Mul", [op.inputs[0]] * 2)


def _expm1(e: Emitter, op: Op) -> None:
    tensor, one = e.tensors[op.inputs[0]], e.array(np.float32(1))
    grown = e.node("Exp", [tensor.name], op.where)
    e.put(op, e.node("Sub", [grown, one], op.where), tensor.order, tensor.spread)


def _log1p(e: Emitter, op: Op) -> None:
    tensor, one = e.tensors[op.inputs[0]], e.array(np.float32(1))
    more = e.node("Add", [tensor.name, one], op.where)
    e.put(op, e.node("Log", [more], op.where), tensor.order, tensor.spread)


def _unlike(e: Emitter, op: Op) -> None:
    _entrywise(e, op, "Equal")
    tensor = e.tensors[op.outputs[0]]
    e.put(op, e.node("Not", [tensor.name], op.where), tensor.order, tensor.spread)


def _power(e: Emitter, op: Op) -> None:
    tensor = e.tensors[op.inputs[0]]
    by = e.array(np.float32(op.params["y"]))
    e.put(op, e.node("Pow", [tensor.name, by], op.where), tensor.order, tensor.spread)


def _same(e: Emitter, op: Op) -> None:
    """Nothing happens."""
    e.alias(op, e.tensors[op.inputs[0]])


def _convert(e: Emitter, op: Op) -> None:
    before, after = (e.program.avals[v].dtype for v in (op.inputs[0], op.outputs[0]))
    if before == after:
        _same(e, op)
        return
    if str(after) not in KINDS:
        raise e.refuse(op, f"makes {after}")
    tensor = e.tensors[op.inputs[0]]
    name = e.node("Cast", [tensor.name], op.where, to=KINDS[str(after)])
    e.put(op, name, tensor.order, tensor.spread)


RULES = {
    **dict.fromkeys(SAME, _entrywise),
    "add": _add,
    "max": _max,
    "div": _div,
    "select_n": _select,
    "rsqrt": _rsqrt,
    "square": _square,
    "expm1": _expm1,
    "log1p": _log1p,
    "ne": _unlike,
    "integer_pow": _power,
    **dict.fromkeys(("copy", "copy_p", "stop_gradient", "optimization_barrier"), _same),
    **dict.fromkeys(("sharding_constraint", "reduce_precision"), _same),
    "convert_element_type": _convert,
}
