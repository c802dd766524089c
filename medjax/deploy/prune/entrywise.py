"""Coupling rules of operations that work entry by entry."""

from dataclasses import replace

import numpy as np

from medjax.deploy.program import Op
from medjax.deploy.prune.atoms import Axis
from medjax.deploy.prune.coupling import Coupling, Value

# 0 where all operands are 0
KEEP_ZERO = (
    *("add", "sub", "add_any", "neg", "abs", "sign", "min", "max", "select_n"),
    *("sqrt", "cbrt", "square", "tanh", "sin", "sinh", "asinh", "atan", "erf", "expm1", "log1p"),
    *("floor", "ceil", "round", "real", "imag", "convert_element_type", "reduce_precision"),
    *("copy", "copy_p", "stop_gradient", "optimization_barrier", "sharding_constraint"),
)
LOSE_ZERO = (
    *("exp", "exp2", "log", "logistic", "cos", "cosh", "acosh", "erfc", "erf_inv", "rsqrt", "pow"),
    *("eq", "ne", "lt", "le", "gt", "ge", "not", "or", "xor", "is_finite", "clamp", "rem", "atan2"),
    *("shift_left", "shift_right_logical", "shift_right_arithmetic", "bitcast_convert_type"),
    *("lgamma", "digamma", "nextafter"),
)


def entrywise(found: Coupling, op: Op, keeps: bool) -> None:
    """Axes of equal place are one axis; zero where all operands are, if the operation keeps zeros."""
    whole = [v for v in op.inputs if found.shape(v)]
    shape = found.shape(op.outputs[0])
    axes: list[Axis] = [()] * len(shape)
    for v in whole:
        for k, axis in enumerate(found.axes(v)):
            if axis:
                axes[k] = found.atoms.align(axes[k], axis, op.says) if axes[k] else axis
    counts = [v for v in op.inputs if not _harmless(found, op, v)] or op.inputs
    zero = tuple(
        keeps and all(zero_along(found, v, k, n) for v in counts) for k, n in enumerate(shape)
    )
    found.values[op.outputs[0]] = Value(tuple(axes), zero)


def zero_along(found: Coupling, value: int, k: int, size: int) -> bool:
    """Whether an operand is zero at what is removed along axis k of a result of that size."""
    if found.nothing(value):
        return True
    spread = not found.shape(value) or found.shape(value)[k] < size
    return not spread and found.values[value].zero[k]


def _harmless(found: Coupling, op: Op, value: int) -> bool:
    """Whether an operand leaves a zero beside it zero: a bound on the other side of it, or a condition."""
    if op.name == "select_n":
        return value == op.inputs[0]
    if op.name not in ("max", "min") or value not in found.program.constants:
        return False
    known = np.asarray(found.program.constants[value])
    return bool(np.all(known <= 0) if op.name == "max" else np.all(known >= 0))


def _product(found: Coupling, op: Op) -> None:
    """Zero where one of the factors is."""
    entrywise(found, op, True)
    shape = found.shape(op.outputs[0])
    zero = [any(zero_along(found, v, k, n) for v in op.inputs) for k, n in enumerate(shape)]
    found.values[op.outputs[0]] = replace(found.values[op.outputs[0]], zero=tuple(zero))


def _quotient(found: Coupling, op: Op) -> None:
    """Zero where what is divided is, but for 0 / 0."""
    entrywise(found, op, True)
    above, below = op.inputs
    zero = [
        zero_along(found, above, k, n) and not zero_along(found, below, k, n)
        for k, n in enumerate(found.shape(op.outputs[0]))
    ]
    found.values[op.outputs[0]] = replace(found.values[op.outputs[0]], zero=tuple(zero))


def _power(found: Coupling, op: Op) -> None:
    """A whole power."""
    entrywise(found, op, op.params["y"] > 0)


def _keep(found: Coupling, op: Op) -> None:
    entrywise(found, op, True)


def _lose(found: Coupling, op: Op) -> None:
    entrywise(found, op, False)


RULES = {
    **dict.fromkeys(KEEP_ZERO, _keep),
    **dict.fromkeys(LOSE_ZERO, _lose),
    "mul": _product,
    "and": _product,
    "div": _quotient,
    "integer_pow": _power,
}
