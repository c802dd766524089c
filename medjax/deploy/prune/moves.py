"""Coupling rules of operations that make, move, join and cut entries."""

from collections.abc import Sequence

import numpy as np

from medjax.deploy.program import Op
from medjax.deploy.prune.coupling import Coupling, Value


def _iota(found: Coupling, op: Op) -> None:
    found.values[op.outputs[0]] = found.fresh(op.outputs[0], False)


def _broadcast(found: Coupling, op: Op) -> None:
    """New axes, along which nothing is zero that was not everywhere."""
    given, shape = op.inputs[0], found.shape(op.outputs[0])
    new = found.fresh(op.outputs[0], found.nothing(given))
    axes, zero = list(new.axes), list(new.zero)
    for k, place in enumerate(op.params["broadcast_dimensions"]):
        if found.shape(given)[k] == shape[place]:
            axes[place], zero[place] = found.axes(given)[k], found.values[given].zero[k]
    found.values[op.outputs[0]] = Value(tuple(axes), tuple(zero))


def _transpose(found: Coupling, op: Op) -> None:
    pick(found, op, op.params["permutation"])


def _squeeze(found: Coupling, op: Op) -> None:
    gone = op.params["dimensions"]
    pick(found, op, [k for k in range(len(found.shape(op.inputs[0]))) if k not in gone])


def pick(found: Coupling, op: Op, kept: Sequence[int]) -> None:
    """The axes of the operand in another order, or some of them."""
    given = found.values[op.inputs[0]]
    for value in op.outputs:
        found.values[value] = Value(
            tuple(given.axes[k] for k in kept), tuple(given.zero[k] for k in kept)
        )


def _reshape(found: Coupling, op: Op) -> None:
    """The factors of the axes, regrouped; zero along an axis where it is along all that it is made of."""
    given, shape = found.values[op.inputs[0]], found.shape(op.outputs[0])
    if 0 in shape:  # nothing to hang together
        found.values[op.outputs[0]] = found.fresh(op.outputs[0], True)
        return
    axes = found.atoms.regroup(given.axes, shape)
    if axes is None:
        found.stay(op, f"{op.says} cuts across an axis")
        return
    zero, k, left = [], 0, 1
    sizes = [n for n in found.shape(op.inputs[0]) if n > 1]
    kinds = [z for n, z in zip(found.shape(op.inputs[0]), given.zero, strict=True) if n > 1]
    for n in shape:  # which axes of the operand each one of the result meets
        met, have = [], 1
        while have < n:
            if left == 1:
                left = sizes[k]
                k += 1
            met.append(kinds[k - 1])
            step = min(left, n // have)
            have, left = have * step, left // step
        zero.append(all(met))
    found.values[op.outputs[0]] = Value(tuple(axes), tuple(zero))


def _concatenate(found: Coupling, op: Op) -> None:
    """The atoms along one axis behind each other; the other axes are aligned."""
    along = op.params["dimension"]
    parts = [found.values[v] for v in op.inputs]
    axes = list(parts[0].axes)
    for part in parts[1:]:
        for k, axis in enumerate(part.axes):
            if k != along and axis:
                axes[k] = found.atoms.align(axes[k], axis, op.says)
    joined = [_entries(found, v, along, op) for v in op.inputs]
    entries = np.concatenate(joined)
    axes[along] = (entries,) if len(entries) != 1 else ()
    zero = tuple(all(part.zero[k] for part in parts) for k in range(len(axes)))
    found.values[op.outputs[0]] = Value(tuple(axes), zero)


def _entries(found: Coupling, value: int, k: int, op: Op) -> np.ndarray:
    """The atoms along an axis as one vector; a lone entry has one that must stay."""
    axis = found.axes(value)[k]
    if axis:
        return found.atoms.merge(axis)
    found.atoms.count += 1
    lone = np.array([found.atoms.count - 1])
    found.atoms.freeze((lone,), f"the only entry in {op.says}")
    return lone


def _cut(found: Coupling, op: Op, value: int, cuts: Sequence[slice | None], output: int) -> None:
    """Part of the entries along some axes (None: all); an entry that is alone must stay."""
    given, axes = found.values[value], []
    for k, (axis, cut) in enumerate(zip(given.axes, cuts, strict=True)):
        if cut is None:
            axes.append(axis)
            continue
        part = _entries(found, value, k, op)[cut]
        if len(part) == 1:
            found.atoms.freeze((part,), f"the only entry in {op.says}")
        axes.append((part,) if len(part) != 1 else ())
    found.values[output] = Value(tuple(axes), given.zero)


def _slice(found: Coupling, op: Op) -> None:
    first, last = op.params["start_indices"], op.params["limit_indices"]
    steps = op.params["strides"] or (1,) * len(first)
    shape = found.shape(op.inputs[0])
    cuts = [
        None if (a, b, s) == (0, n, 1) else slice(a, b, s)
        for a, b, s, n in zip(first, last, steps, shape, strict=True)
    ]
    _cut(found, op, op.inputs[0], cuts, op.outputs[0])


def _split(found: Coupling, op: Op) -> None:
    begin, along = 0, op.params["axis"]
    for size, output in zip(op.params["sizes"], op.outputs, strict=True):
        cuts: list[slice | None] = [None] * len(found.shape(op.inputs[0]))
        cuts[along] = slice(begin, begin + size)
        _cut(found, op, op.inputs[0], cuts, output)
        begin += size


def _pad(found: Coupling, op: Op) -> None:
    """An axis that is padded stays."""
    given, padding = found.values[op.inputs[0]], op.params["padding_config"]
    new = found.fresh(op.outputs[0], False)
    axes, zero = list(new.axes), list(new.zero)
    for k, around in enumerate(padding):
        if tuple(around) == (0, 0, 0):
            axes[k], zero[k] = given.axes[k], given.zero[k] and found.nothing(op.inputs[1])
        else:
            found.atoms.freeze(given.axes[k], f"{op.says} pads it")
            found.atoms.freeze(axes[k], f"{op.says} pads it")
    found.values[op.outputs[0]] = Value(tuple(axes), tuple(zero))


def _reverse(found: Coupling, op: Op) -> None:
    given = found.values[op.inputs[0]]
    axes = [
        (found.atoms.merge(axis)[::-1].copy(),) if axis and k in op.params["dimensions"] else axis
        for k, axis in enumerate(given.axes)
    ]
    found.values[op.outputs[0]] = Value(tuple(axes), given.zero)


def _gather(found: Coupling, op: Op) -> None:
    """Axes that are taken whole pass; the others, and the indices, stay."""
    numbers, sizes = op.params["dimension_numbers"], op.params["slice_sizes"]
    given, why = found.values[op.inputs[0]], f"{op.says} picks from it"
    new = found.fresh(op.outputs[0], True)
    axes, zero = list(new.axes), list(new.zero)
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    kept = [k for k in range(len(sizes)) if k not in gone]
    passed = set()
    for k, size in enumerate(sizes):
        if k in kept and size == found.shape(op.inputs[0])[k] and k not in numbers.start_index_map:
            place = numbers.offset_dims[kept.index(k)]
            axes[place], zero[place] = given.axes[k], given.zero[k]
            passed.add(place)
        else:
            found.atoms.freeze(given.axes[k], why)
    found.freeze(op.inputs[1], why)
    for k, axis in enumerate(axes):
        if k not in passed:
            found.atoms.freeze(axis, why)
    # what lies outside of the operand may be filled with anything
    filled = "FILL" in str(op.params["mode"])
    found.values[op.outputs[0]] = Value(tuple(axes), tuple(z and not filled for z in zero))


def _random(found: Coupling, op: Op) -> None:
    """Random bits hang on nothing."""
    found.freeze(op.inputs[0], op.says)
    found.values[op.outputs[0]] = found.fresh(op.outputs[0], False)


def _key(found: Coupling, op: Op) -> None:
    found.stay(op, op.says)


RULES = {
    "iota": _iota,
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "expand_dims": _reshape,
    "concatenate": _concatenate,
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "rev": _reverse,
    "gather": _gather,
    "random_bits": _random,
    **dict.fromkeys(
        ("random_seed", "random_wrap", "random_unwrap", "random_fold_in", "axis_index"), _key
    ),
}
