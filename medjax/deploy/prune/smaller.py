"""The program of a network from which units are removed: the same operations at smaller shapes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from medjax.deploy.program import Op, Program, as_is, convolve, run
from medjax.deploy.prune.structure import Removed, Structure
from medjax.ops.whole import PREFIX, whole


def smaller(structure: Structure, removed: Removed) -> Callable[..., Any]:
    """`fn(params, *args)` of what is left; `params` as `cut` gives them.

    It can be compiled and differentiated. What it gives is what the whole network gives whose removed
    entries are zero (`mask`).
    """
    constants = {
        value: _left(structure, value, known, removed)
        for value, known in structure.program.constants.items()
        if value in structure.coupling.values  # the others are read by nobody
    }

    def inside(program: Program) -> Program:
        return replace(program, constants=constants)

    def rule(op: Op, inputs: Sequence[Any]) -> Sequence[Any]:
        shapes = [structure.shape(value, removed) for value in op.outputs]
        if op.bodies:
            return _bodies(op, inputs, lambda body, given: run(inside(body), given, rule))
        if op.name in REWRITTEN:
            found = REWRITTEN[op.name](structure, removed, op, inputs, shapes)
        else:
            found = as_is(op, inputs)
        return found

    def fn(params: Any, *args: Any) -> Any:
        leaves = [*jax.tree.leaves(params), *jax.tree.leaves(args)]
        outputs = run(inside(structure.program), leaves, rule)
        return jax.tree.unflatten(structure.outputs, outputs)

    return fn


def _left(structure: Structure, value: int, known: Any, removed: Removed) -> Any:
    """A constant without what is removed."""
    for k, axis in enumerate(structure.coupling.values[value].axes):
        kept = structure.kept(axis, removed) if axis else np.zeros(1, int)
        if len(kept) < known.shape[k]:
            known = np.take(known, kept, axis=k)
    return known


def _bodies(op: Op, inputs: Sequence[Any], go: Callable[..., list[Any]]) -> Sequence[Any]:
    """A loop, a branch or a call around smaller bodies."""
    if op.name == "jit":
        kind = op.params["name"].removeprefix(PREFIX)
        return whole(kind, lambda *given: go(op.bodies[0], given))(*inputs)
    if op.name == "cond":
        branches = [lambda *given, body=body: go(body, given) for body in op.bodies]
        return lax.switch(inputs[0], branches, *inputs[1:])
    params, (body,) = op.params, op.bodies
    consts, carries = params["num_consts"], params["num_carry"]
    fixed = inputs[:consts]

    def turn(carry: Sequence[Any], own: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        made = go(body, [*fixed, *carry, *own])
        return made[:carries], made[carries:]

    first = list(inputs[consts : consts + carries])
    last, stacked = lax.scan(
        turn,
        first,
        list(inputs[consts + carries :]),
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*last, *stacked]


def _shape(s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]) -> Sequence[Any]:
    return [lax.reshape(x[0], to[0])]


def _broadcast(
    s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]
) -> Sequence[Any]:
    return [lax.broadcast_in_dim(x[0], to[0], op.params["broadcast_dimensions"])]


def _iota(s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]) -> Sequence[Any]:
    """The places that are left keep their numbers."""
    along = op.params["dimension"]
    axis = s.coupling.axes(op.outputs[0])[along]
    numbers = s.kept(axis, r) if axis else np.zeros(1, int)
    return [lax.broadcast_in_dim(jnp.asarray(numbers, op.params["dtype"]), to[0], (along,))]


def _slice(s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]) -> Sequence[Any]:
    first, last = op.params["start_indices"], op.params["limit_indices"]
    steps = op.params["strides"] or (1,) * len(first)
    (y,), value = x, op.inputs[0]
    for k, (a, b, step) in enumerate(zip(first, last, steps, strict=True)):
        if (a, b, step) != (0, s.coupling.shape(value)[k], 1):
            y = _part(s, r, value, k, range(a, b, step), y)
    return [y]


def _split(s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]) -> Sequence[Any]:
    k, begin, parts = op.params["axis"], 0, []
    for size in op.params["sizes"]:
        parts.append(_part(s, r, op.inputs[0], k, range(begin, begin + size), x[0]))
        begin += size
    return parts


def _part(s: Structure, r: Removed, value: int, k: int, wanted: range, x: Any) -> Any:
    """Those of the wanted entries that are left."""
    axis = s.coupling.axes(value)[k]
    kept = s.kept(axis, r) if axis else np.zeros(1, int)
    places = np.flatnonzero(np.isin(kept, wanted))
    if len(places) and places[-1] - places[0] + 1 == len(places):
        return lax.slice_in_dim(x, int(places[0]), int(places[-1]) + 1, axis=k)
    return jnp.take(x, places, axis=k)


def _extreme(
    s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]
) -> Sequence[Any]:
    """A maximum or minimum still sees the zeros of what is removed."""
    (y,) = as_is(op, x)
    lost = any(x[0].shape[k] < s.coupling.shape(op.inputs[0])[k] for k in op.params["axes"])
    if lost:
        y = (jnp.maximum if op.name == "reduce_max" else jnp.minimum)(y, 0)
    return [y]


def _convolution(
    s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]
) -> Sequence[Any]:
    return [convolve(op, x[0], x[1])]


def _gather(s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]) -> Sequence[Any]:
    whole = s.coupling.shape(op.inputs[0])
    sizes = [
        now if size == before else size
        for size, before, now in zip(op.params["slice_sizes"], whole, x[0].shape, strict=True)
    ]
    return as_is(op, x, slice_sizes=tuple(sizes))


def _random(s: Structure, r: Removed, op: Op, x: Sequence[Any], to: Sequence[Any]) -> Sequence[Any]:
    return as_is(op, x, shape=tuple(to[0][x[0].ndim :]))


REWRITTEN: dict[str, Callable[..., Sequence[Any]]] = {
    "reshape": _shape,
    "expand_dims": _shape,
    "broadcast_in_dim": _broadcast,
    "iota": _iota,
    "slice": _slice,
    "split": _split,
    "reduce_max": _extreme,
    "reduce_min": _extreme,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "random_bits": _random,
}
