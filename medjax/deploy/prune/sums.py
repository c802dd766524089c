"""Coupling rules of operations that sum over entries: reductions, windows, convolutions, products."""

from dataclasses import replace

import numpy as np

from medjax.deploy.program import Op
from medjax.deploy.prune.atoms import Axis
from medjax.deploy.prune.coupling import Coupling, Value
from medjax.deploy.prune.moves import pick

FORGIVING = ("reduce_sum", "reduce_max", "reduce_min")  # zeros can be left out, see smaller.py


def _reduce(found: Coupling, op: Op) -> None:
    """An axis that is reduced stays, unless what is removed along it is zero and zeros do not count."""
    given, gone = found.values[op.inputs[0]], op.params["axes"]
    for k in gone:
        if not (op.name in FORGIVING and given.zero[k]):
            found.atoms.freeze(given.axes[k], f"{op.says} mixes it")
    pick(found, op, [k for k in range(len(given.axes)) if k not in gone])
    if op.name not in FORGIVING:
        for value in op.outputs:
            own = found.values[value]
            found.values[value] = replace(own, zero=(False,) * len(own.axes))


def _window(found: Coupling, op: Op) -> None:
    """Axes that windows are moved along stay."""
    given, params = found.values[op.inputs[0]], op.params
    new = found.fresh(op.outputs[0], True)
    axes, zero = list(new.axes), list(given.zero)
    sizes, strides, pads = (
        params[name] for name in ("window_dimensions", "window_strides", "padding")
    )
    for k, (n, step, pad) in enumerate(zip(sizes, strides, pads, strict=True)):
        if n == step == 1 and tuple(pad) == (0, 0):
            axes[k] = given.axes[k]
        else:
            found.atoms.freeze(given.axes[k], f"{op.says} moves along it")
            found.atoms.freeze(axes[k], f"{op.says} moves along it")
    found.values[op.outputs[0]] = Value(tuple(axes), tuple(zero))


def _convolution(found: Coupling, op: Op) -> None:
    """Input channels are those of the kernel; output channels come from the kernel; space stays."""
    params, atoms = op.params, found.atoms
    if params["batch_group_count"] != 1:
        found.stay(op, f"{op.says} groups the batch")
        return
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    lhs, rhs, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    x, kernel = (found.values[v] for v in op.inputs)
    for axis in (*(x.axes[k] for k in lhs[2:]), *(kernel.axes[k] for k in rhs[2:])):
        atoms.freeze(axis, f"{op.says} moves along it")
    new = found.fresh(op.outputs[0], True)
    axes, zero = list(new.axes), list(new.zero)
    for k in out[2:]:
        atoms.freeze(axes[k], f"{op.says} moves along it")
    axes[out[0]], zero[out[0]] = x.axes[lhs[0]], x.zero[lhs[0]]
    axes[out[1]], zero[out[1]] = kernel.axes[rhs[0]], kernel.zero[rhs[0]]
    seen = x.axes[lhs[1]]
    if groups == 1:
        atoms.align(seen, kernel.axes[rhs[1]], op.says)
    else:
        rows, inside = _grouped(found, seen, groups)
        outer, made = _grouped(found, kernel.axes[rhs[0]], groups)
        atoms.unite(rows, outer)
        if inside:
            atoms.align(inside, kernel.axes[rhs[1]], op.says)
        axes[out[1]] = (outer, *made)
    if not (x.zero[lhs[1]] or kernel.zero[rhs[1]]):
        atoms.freeze(seen, f"{op.says} sums over what may not be zero")
    found.values[op.outputs[0]] = Value(tuple(axes), tuple(zero))


def _grouped(found: Coupling, axis: Axis, groups: int) -> tuple[np.ndarray, Axis]:
    """The channels of a convolution in groups: the groups, and the places inside of them."""
    entries = found.atoms.merge(axis)
    if len(entries) == groups:
        return entries, ()
    rows, columns = found.atoms.split(entries, groups)
    return rows, (columns,)


def _dot(found: Coupling, op: Op) -> None:
    """Contracted and batch axes are aligned; the others pass."""
    (lc, rc), (lb, rb) = op.params["dimension_numbers"]
    left, right = (found.values[v] for v in op.inputs)
    for a, b in zip(lc, rc, strict=True):
        if left.axes[a]:
            both = found.atoms.align(left.axes[a], right.axes[b], op.says)
            if not (left.zero[a] or right.zero[b]):
                found.atoms.freeze(both, f"{op.says} sums over what may not be zero")
    axes, zero = [], []
    for a, b in zip(lb, rb, strict=True):
        one = left.axes[a]
        axes.append(found.atoms.align(one, right.axes[b], op.says) if one else one)
        zero.append(left.zero[a] or right.zero[b])
    for side, used in ((left, (*lc, *lb)), (right, (*rc, *rb))):
        free = [k for k in range(len(side.axes)) if k not in used]
        axes += [side.axes[k] for k in free]
        zero += [side.zero[k] for k in free]
    found.values[op.outputs[0]] = Value(tuple(axes), tuple(zero))


RULES = {
    **dict.fromkeys((*FORGIVING, "reduce_prod", "reduce_and", "reduce_or"), _reduce),
    **dict.fromkeys(("argmax", "argmin"), _reduce),
    **dict.fromkeys(("reduce_window_max", "reduce_window_sum", "reduce_window_min"), _window),
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
}
