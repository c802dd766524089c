"""Graph nodes of operations that move, join and cut entries."""

import numpy as np

from medjax.deploy.export.emitter import LONE, Emitter, Tensor
from medjax.deploy.program import Op


def _transpose(e: Emitter, op: Op) -> None:
    """The tensor stays where it is; its axes have other names."""
    tensor, moved = e.tensors[op.inputs[0]], list(op.params["permutation"])
    order = tuple(LONE if a == LONE else moved.index(a) for a in tensor.order)
    e.alias(op, Tensor(tensor.name, order, frozenset(moved.index(a) for a in tensor.spread)))


def _reshape(e: Emitter, op: Op) -> None:
    """Places of one entry come and go at any size; anything else holds for this one."""
    value, output = op.inputs[0], op.outputs[0]
    before, after = e.shape(value), e.shape(output)
    wide = [[k for k, n in enumerate(shape) if n > 1] for shape in (before, after)]
    if [before[k] for k in wide[0]] == [after[k] for k in wide[1]]:
        tensor, renamed = e.tensors[value], dict(zip(*wide, strict=True))
        order = [renamed.get(a, LONE) for a in tensor.order]
        missing = iter([k for k, n in enumerate(after) if n == 1])
        order = [next(missing, LONE) if a == LONE else a for a in order]
        left = list(missing)
        name = tensor.name
        if left:
            places = [len(order) + k for k in range(len(left))]
            name = e.node("Unsqueeze", [name, e.array(np.array(places, np.int64))], op.where)
        spread = frozenset(renamed[a] for a in tensor.spread)
        e.alias(op, Tensor(name, (*order, *left), spread))
        return
    e.fixed.append(op.says)
    to = e.array(np.array(after, np.int64))
    e.put(op, e.node("Reshape", [e.plain(value), to], op.where), range(len(after)))


def _broadcast(e: Emitter, op: Op) -> None:
    """New axes have one entry, and are repeated where that is not enough."""
    value, places = op.inputs[0], op.params["broadcast_dimensions"]
    tensor, shape = e.tensors[value], e.shape(op.outputs[0])
    order: list[int] = [LONE if a == LONE else places[a] for a in tensor.order]
    spread = {places[a] for a in tensor.spread}
    spread |= {b for k, b in enumerate(places) if e.shape(value)[k] != shape[b]}
    new = [k for k in range(len(shape)) if k not in places]
    spare = [k for k, a in enumerate(order) if a == LONE]
    for k, axis in zip(spare, new, strict=False):
        order[k] = axis
    left, name = new[len(spare) :], tensor.name
    if left:
        ends = [len(order) + k for k in range(len(left))]
        name = e.node("Unsqueeze", [name, e.array(np.array(ends, np.int64))], op.where)
    spread |= {k for k in new if shape[k] > 1}
    e.alias(op, Tensor(name, (*order, *left), frozenset(spread)))


def _concatenate(e: Emitter, op: Op) -> None:
    along = op.params["dimension"]
    own = [v for v in op.inputs if not e.known(v)]
    full = next((e.tensors[v] for v in own if not e.tensors[v].spread), None)
    for value in own:
        same = full is not None and full.order == e.tensors[value].order
        e.whole(value, full if same and along not in e.tensors[value].spread else None)
    order = e.tensors[own[0]].order
    if LONE in order:
        order = tuple(range(e.rank(own[0])))
    names = [
        e.array(np.ascontiguousarray(e.numbers[v].transpose(order)))
        if e.known(v)
        else e.read(op, place, order)
        for place, v in enumerate(op.inputs)
    ]
    e.put(op, e.node("Concat", names, op.where, axis=order.index(along)), order)


def _slice(e: Emitter, op: Op) -> None:
    value = op.inputs[0]
    tensor, shape = e.whole(value), e.shape(value)
    first, last = op.params["start_indices"], op.params["limit_indices"]
    steps = op.params["strides"] or (1,) * len(first)
    cuts = [
        (tensor.place(k), a, b, s)
        for k, (a, b, s, n) in enumerate(zip(first, last, steps, shape, strict=True))
        if (a, b, s) != (0, n, 1)
    ]
    if any(tensor.order[k] not in (0, len(shape) - 1) for k, *_ in cuts):
        e.fixed.append(op.says)
    axes, starts, ends, strides = zip(*cuts, strict=True)
    given = [e.array(np.array(v, np.int64)) for v in (starts, ends, axes, strides)]
    e.put(op, e.node("Slice", [tensor.name, *given], op.where), tensor.order)


def _split(e: Emitter, op: Op) -> None:
    tensor, k, begin = e.whole(op.inputs[0]), op.params["axis"], 0
    for size, output in zip(op.params["sizes"], op.outputs, strict=True):
        given = [e.array(np.array([n], np.int64)) for n in (begin, begin + size, tensor.place(k))]
        name = e.node("Slice", [tensor.name, *given], op.where)
        e.tensors[output] = Tensor(name, tensor.order)
        begin += size


def _pad(e: Emitter, op: Op) -> None:
    value, with_what = op.inputs
    tensor, config = e.whole(value), op.params["padding_config"]
    if not e.known(with_what) or any(inner or min(a, b) < 0 for a, b, inner in config):
        raise e.refuse(op, "pads inside or away")
    around = [config[a] if a != LONE else (0, 0, 0) for a in tensor.order]
    pads = np.array([a for a, _, _ in around] + [b for _, b, _ in around], np.int64)
    names = [tensor.name, e.array(pads), e.array(e.numbers[with_what])]
    e.put(op, e.node("Pad", names, op.where), tensor.order)


RULES = {
    "transpose": _transpose,
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "slice": _slice,
    "split": _split,
    "pad": _pad,
}
