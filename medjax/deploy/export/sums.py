"""Graph nodes of operations that sum over entries: reductions, convolutions, products, pools."""

from math import prod

import numpy as np

from medjax.deploy.export.emitter import LONE, Emitter, channels_first
from medjax.deploy.program import Op


def _reduce(e: Emitter, op: Op) -> None:
    """The places that were reduced keep one entry each."""
    kinds = {"reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin"}
    value, axes = op.inputs[0], op.params["axes"]
    tensor = e.tensors[value]
    if tensor.spread & set(axes):
        tensor = e.whole(value)
    places = e.array(np.array(sorted(tensor.place(a) for a in axes), np.int64))
    kept = [a for a in range(e.rank(value)) if a not in axes]
    order = [kept.index(a) if a in kept else LONE for a in tensor.order]
    name = e.node(kinds[op.name], [tensor.name, places], op.where, keepdims=1)
    e.put(op, name, order, [kept.index(a) for a in tensor.spread if a in kept])
    if op.name == "reduce_sum" and any(tensor.place(a) != 1 for a in axes):
        e.sums[op.outputs[0]] = prod(e.shape(value)[a] for a in axes)


def _convolution(e: Emitter, op: Op) -> None:
    """NCDHW; a dilated input is a transposed convolution."""
    params, numbers, (value, weights) = op.params, op.params["dimension_numbers"], op.inputs
    if not e.known(weights):
        raise e.refuse(op, "has a kernel that hangs on the image")
    x = e.within(value, tuple(numbers.lhs_spec)) if not e.whole(value).spread else ""
    kernel = e.numbers[weights].transpose(numbers.rhs_spec)
    low, high = zip(*params["padding"], strict=True)
    size = kernel.shape[2:]
    common = {"kernel_shape": size, "group": params["feature_group_count"]}
    if set(params["lhs_dilation"]) == {1}:
        name = e.node(
            "Conv",
            [x, e.array(kernel)],
            op.where,
            strides=params["window_strides"],
            dilations=params["rhs_dilation"],
            pads=(*low, *high),
            **common,
        )
    elif params["feature_group_count"] == 1 and set(params["rhs_dilation"]) == {1}:
        flipped = np.flip(kernel, tuple(range(2, kernel.ndim))).swapaxes(0, 1)
        pads = [k - 1 - a for k, a in zip((*size, *size), (*low, *high), strict=True)]
        if min(pads) < 0 or set(params["window_strides"]) != {1}:
            raise e.refuse(op, "is no transposed convolution")
        strides = params["lhs_dilation"]
        name = e.node(
            "ConvTranspose", [x, e.array(flipped)], op.where, strides=strides, pads=pads, **common
        )
    else:
        raise e.refuse(op, "dilates its input in groups")
    e.put(op, name, numbers.out_spec)


def _dot(e: Emitter, op: Op) -> None:
    """With a known matrix a convolution of one voxel or a product; else as an Einstein sum."""
    ((lc, rc), (lb, rb)), (left, right) = op.params["dimension_numbers"], op.inputs
    rank = e.rank(left)
    if e.known(right) and e.rank(right) == 2 and not lb and tuple(lc) == (rank - 1,):
        matrix = e.numbers[right] if rc[0] == 0 else e.numbers[right].T
        e.whole(left)
        if rank > 3:
            order = channels_first(rank)
            kernel = matrix.T.reshape(*matrix.T.shape, *(1,) * (rank - 2))
            names = [e.within(left, order), e.array(kernel)]
            e.put(op, e.node("Conv", names, op.where, kernel_shape=(1,) * (rank - 2)), order)
            return
        names = [e.plain(left), e.array(matrix)]
        e.put(op, e.node("MatMul", names, op.where), range(rank))
        return
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    a = [next(letters) for _ in range(rank)]
    b = [""] * e.rank(right)
    for i, j in zip((*lb, *lc), (*rb, *rc), strict=True):
        b[j] = a[i]
    b = [letter or next(letters) for letter in b]
    out = [a[i] for i in lb]
    out += [a[i] for i in range(rank) if i not in (*lb, *lc)]
    out += [b[j] for j in range(len(b)) if j not in (*rb, *rc)]
    equation = f"{''.join(a)},{''.join(b)}->{''.join(out)}"
    name = e.node("Einsum", [e.plain(left), e.plain(right)], op.where, equation=equation)
    e.put(op, name, range(len(out)))


def _window(e: Emitter, op: Op) -> None:
    """Pooling over space."""
    params, tensor = op.params, e.whole(op.inputs[0])
    rank, order = e.rank(op.inputs[0]), channels_first(e.rank(op.inputs[0]))
    size, steps = params["window_dimensions"], params["window_strides"]
    low, high = zip(*params["padding"], strict=True)
    dilated = set(params["base_dilation"]) | set(params["window_dilation"]) != {1}
    if dilated or size[0] != 1 or size[-1] != 1 or LONE in tensor.order:
        raise e.refuse(op, "pools in a way that is not known")
    space = slice(1, rank - 1)
    settings = {
        "kernel_shape": size[space],
        "strides": steps[space],
        "pads": (*low[space], *high[space]),
    }
    x = e.within(op.inputs[0], order)
    if op.name == "reduce_window_max":
        e.put(op, e.node("MaxPool", [x], op.where, **settings), order)
        return
    mean = e.node("AveragePool", [x], op.where, count_include_pad=1, **settings)
    total = e.array(np.float32(prod(size)))
    e.put(op, e.node("Mul", [mean, total], op.where), order)


RULES = {
    **dict.fromkeys(("reduce_sum", "reduce_max", "reduce_min"), _reduce),
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    **dict.fromkeys(("reduce_window_max", "reduce_window_sum"), _window),
}
