"""Graph nodes of operations that sum over entries: reductions, convolutions, products, pools."""

from math import prod

import numpy as np

from medjax.deploy.export.emitter import LONE, Emitter, channels_first
from medjax.deploy.program import Op
from medjax.ops.whole import recognise


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
    e.whole(value)
    x, kernel = e.read(op, 0, tuple(numbers.lhs_spec)), e.numbers[weights]
    low, high = zip(*params["padding"], strict=True)
    size = tuple(kernel.shape[k] for k in numbers.rhs_spec[2:])
    common = {"kernel_shape": size, "group": params["feature_group_count"]}
    if set(params["lhs_dilation"]) == {1}:
        factors = _factors(e, op)
        if set(size) == {1} and factors:
            names = [x, e.weights(kernel, lambda w: _spread(w, factors), 1)]
            settings = {"strides": factors, "kernel_shape": factors}
            e.put(op, e.node("ConvTranspose", names, op.where, **settings), numbers.out_spec)
            return
        name = e.node(
            "Conv",
            [x, e.weights(kernel, lambda w: w.transpose(numbers.rhs_spec), 0)],
            op.where,
            strides=params["window_strides"],
            dilations=params["rhs_dilation"],
            pads=(*low, *high),
            **common,
        )
    elif params["feature_group_count"] == 1 and set(params["rhs_dilation"]) == {1}:
        pads = [k - 1 - a for k, a in zip((*size, *size), (*low, *high), strict=True)]
        if min(pads) < 0 or set(params["window_strides"]) != {1}:
            raise e.refuse(op, "is no transposed convolution")

        def lay(w: np.ndarray) -> np.ndarray:
            w = w.transpose(numbers.rhs_spec)
            return np.flip(w, tuple(range(2, w.ndim))).swapaxes(0, 1)

        names, strides = [x, e.weights(kernel, lay, 1)], params["lhs_dilation"]
        name = e.node("ConvTranspose", names, op.where, strides=strides, pads=pads, **common)
    else:
        raise e.refuse(op, "dilates its input in groups")
    e.put(op, name, numbers.out_spec)


def _factors(e: Emitter, op: Op) -> tuple[int, ...]:
    """By how many the channels are spread along each axis right after; () if they are not."""
    after = e.feeds.get(op.outputs[0])
    call = recognise(after.params.get("name", "")) if after else None
    if call is None or call[0] != "depth_to_space":
        return ()
    return tuple(int(n) for n in call[1]["factors"].split("x"))


def _spread(kernel: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Weights of one voxel, channels in the order (fd, fh, fw, o), as (c, o, fd, fh, fw)."""
    seen, made = kernel.shape[-2:]
    return kernel.reshape(seen, *factors, made // prod(factors)).transpose(0, 4, 1, 2, 3)


def _dot(e: Emitter, op: Op) -> None:
    """With a known matrix a convolution of one voxel or a product; else as an Einstein sum."""
    ((lc, rc), (lb, rb)), (left, right) = op.params["dimension_numbers"], op.inputs
    rank = e.rank(left)
    if e.known(right) and e.rank(right) == 2 and not lb and tuple(lc) == (rank - 1,):
        e.whole(left)
        turned = rc[0] == 1
        if rank > 3:
            order, lone = channels_first(rank), (1,) * (rank - 2)

            def lay(w: np.ndarray) -> np.ndarray:
                w = w if turned else w.T
                return w.reshape(*w.shape, *lone)

            names = [e.read(op, 0, order), e.weights(e.numbers[right], lay, 0)]
            e.put(op, e.node("Conv", names, op.where, kernel_shape=lone), order)
            return
        order = tuple(range(rank))
        weights = e.weights(e.numbers[right], lambda w: w.T if turned else w, 1)
        e.put(op, e.node("MatMul", [e.read(op, 0, order), weights], op.where), order)
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
