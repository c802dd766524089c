"""Coupling rules of loops, branches and calls."""

from collections.abc import Sequence

from medjax.deploy.program import Op
from medjax.deploy.prune.atoms import Axis
from medjax.deploy.prune.coupling import Coupling, Value
from medjax.ops.whole import recognise


def _scan(found: Coupling, op: Op) -> None:
    """The body's values are the loop's; the axis that is looped over stays."""
    (body,), params = op.bodies, op.params
    consts, carries = params["num_consts"], params["num_carry"]
    first = [found.values[v] for v in op.inputs]
    why = f"{op.says} loops along it"
    for value in first[consts + carries :]:
        found.atoms.freeze(value.axes[0], why)
    kept = first[: consts + carries]
    rest = [Value(v.axes[1:], v.zero[1:]) for v in first[consts + carries :]]
    while True:  # what is zero must be so after every turn
        found.values |= dict(zip(body.inputs, (*kept, *rest), strict=True))
        found.walk(body)
        made = [found.values[v] for v in body.outputs]
        after = [
            Value(a.axes, tuple(x and y for x, y in zip(a.zero, b.zero, strict=True)))
            for a, b in zip(kept[consts:], made, strict=False)
        ]
        if all(a.zero == b.zero for a, b in zip(after, kept[consts:], strict=True)):
            break
        kept = [*kept[:consts], *after]
    for value, end, output in zip(after, made, op.outputs, strict=False):
        axes = _aligned(found, (value, end), op)
        found.values[output] = Value(axes, value.zero)
    for value, output in zip(made[carries:], op.outputs[carries:], strict=True):
        turns = found.atoms.new(found.shape(output)[0])
        found.atoms.freeze(turns, why)
        found.values[output] = Value((turns, *value.axes), (True, *value.zero))


def _cond(found: Coupling, op: Op) -> None:
    """All branches see the same axes and give the same."""
    given = [found.values[v] for v in op.inputs[1:]]
    for body in op.bodies:
        found.values |= dict(zip(body.inputs, given, strict=True))
        found.walk(body)
    for place, output in enumerate(op.outputs):
        ends = [found.values[body.outputs[place]] for body in op.bodies]
        zero = tuple(all(kinds) for kinds in zip(*(e.zero for e in ends), strict=True))
        found.values[output] = Value(_aligned(found, ends, op), zero)


def _call(found: Coupling, op: Op) -> None:
    """What is called sees the same axes."""
    (body,), (kind, settings) = op.bodies, recognise(op.params["name"]) or ("", {})
    if kind == "norm" and int(settings["group"]) > 1:  # it stays a norm
        inside = found.atoms.merge(found.axes(op.inputs[0])[-1])
        groups = len(inside) // int(settings["group"])
        if groups > 1:
            _, inside = found.atoms.split(inside, groups)
        found.atoms.freeze((inside,), f"{op.says} takes groups of channels as one")
    found.values |= {v: found.values[w] for v, w in zip(body.inputs, op.inputs, strict=True)}
    found.walk(body)
    found.values |= {v: found.values[w] for v, w in zip(op.outputs, body.outputs, strict=True)}


def _aligned(found: Coupling, values: Sequence[Value], op: Op) -> tuple[Axis, ...]:
    """The axes that several values share."""
    axes = list(values[0].axes)
    for value in values[1:]:
        axes = [
            found.atoms.align(a, b, op.says) if a else a
            for a, b in zip(axes, value.axes, strict=True)
        ]
    return tuple(axes)


RULES = {"scan": _scan, "cond": _cond, "jit": _call}
