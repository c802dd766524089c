"""A traced function as a list of operations: to be read, rewritten and run again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.extend import core

from medjax.ops.conv import conv, implementation, same
from medjax.ops.whole import recognise

# Calls that mean no more than what is called; what is called takes their place.
INLINED = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}


@dataclass(frozen=True)
class Op:
    """One primitive on numbered values; `where` is the module that asked for it.

    bodies: what is inside of `scan` and of a call that stays whole (one), and of `cond` (one a branch).
    """

    primitive: core.Primitive
    params: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    where: str
    bodies: tuple["Program", ...] = ()

    @property
    def name(self) -> str:
        """The name of the primitive."""
        return self.primitive.name

    @property
    def says(self) -> str:
        """For messages: the primitive and its module."""
        return f"{self.name} in {self.where}" if self.where else self.name


@dataclass(frozen=True)
class Program:
    """Operations in the order in which they run; a value is a number, its type stands in `avals`.

    Bodies share the numbers, `avals` and `constants` of the program that they are in.
    """

    ops: tuple[Op, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    avals: Mapping[int, Any]
    constants: Mapping[int, Any]

    def shape(self, value: int) -> tuple[int, ...]:
        """The shape of a value."""
        return tuple(self.avals[value].shape)

    def walk(self) -> list[Op]:
        """All operations, those of bodies too."""
        inner = [op for outer in self.ops for body in outer.bodies for op in body.walk()]
        return [*self.ops, *inner]


Rule = Callable[[Op, Sequence[Any]], Sequence[Any]]


def trace(fn: Callable[..., Any], *args: Any) -> tuple[Program, Any]:
    """The program of fn(*args), with XLA's own convolutions, and the shapes of what it gives.

    Leaves of `args` may be abstract (`jax.ShapeDtypeStruct`); they are the inputs, in their order.
    """
    with implementation("native"):
        closed, shapes = jax.make_jaxpr(fn, return_shape=True)(*args)
    scribe = _Scribe()
    inputs = [scribe.new(v.aval) for v in closed.jaxpr.invars]
    program = scribe.program(closed.jaxpr, closed.consts, inputs, "")
    return program, shapes


def run(program: Program, inputs: Sequence[Any], rule: Rule | None = None) -> list[Any]:
    """Gives the outputs for these inputs; `rule` says what an operation does, else it is done as it is."""
    does = rule or as_is
    values = {**program.constants, **dict(zip(program.inputs, inputs, strict=True))}
    for op in program.ops:
        found = does(op, [values[i] for i in op.inputs])
        values |= dict(zip(op.outputs, found, strict=True))
    return [values[o] for o in program.outputs]


def as_is(op: Op, inputs: Sequence[Any], **changed: Any) -> Sequence[Any]:
    """The operation itself, but for parameters that have `changed`."""
    found = op.primitive.bind(*inputs, **{**op.params, **changed})
    return found if op.primitive.multiple_results else [found]


def convolve(op: Op, x: Any, kernel: Any) -> Any:
    """A convolution with as many groups as its operands have now; medjax's own where it is one."""
    params, numbers = op.params, op.params["dimension_numbers"]
    groups = x.shape[numbers.lhs_spec[1]] // kernel.shape[numbers.rhs_spec[1]]
    strides, dilation = params["window_strides"], params["rhs_dilation"]
    ours = (
        tuple(numbers) == ((0, 4, 1, 2, 3), (4, 3, 0, 1, 2), (0, 4, 1, 2, 3))
        and groups == 1
        and set(params["lhs_dilation"]) == {1}
        and params["preferred_element_type"] is None
        and tuple(map(tuple, params["padding"]))
        == same(x.shape[1:4], kernel.shape[:3], strides, dilation)
    )
    if ours:
        return conv(x, kernel, strides, dilation)
    (y,) = as_is(op, [x, kernel], feature_group_count=groups)
    return y


@dataclass
class _Scribe:
    """Numbers the values of a jaxpr and writes its operations down."""

    avals: dict[int, Any] = field(default_factory=dict)
    constants: dict[int, Any] = field(default_factory=dict)

    def new(self, aval: Any) -> int:
        """The next number."""
        self.avals[len(self.avals)] = aval
        return len(self.avals) - 1

    def constant(self, aval: Any, value: Any) -> int:
        """The number of a value that is known."""
        number = self.new(aval)
        self.constants[number] = value
        return number

    def program(
        self, jaxpr: core.Jaxpr, consts: Sequence[Any], inputs: Sequence[int], where: str
    ) -> Program:
        """A body of its own."""
        ops: list[Op] = []
        outputs = self.write(ops, jaxpr, consts, inputs, where)
        return Program(tuple(ops), tuple(inputs), tuple(outputs), self.avals, self.constants)

    def write(
        self,
        ops: list[Op],
        jaxpr: core.Jaxpr,
        consts: Sequence[Any],
        inputs: Sequence[int],
        where: str,
    ) -> list[int]:
        """Appends what `jaxpr` does to `ops`; gives the numbers of its outputs."""
        number: dict[Any, int] = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, value in zip(jaxpr.constvars, consts, strict=True):
            number[var] = self.constant(var.aval, value)

        def read(var: Any) -> int:
            if isinstance(var, core.Literal):
                return self.constant(var.aval, var.val)
            return number[var]

        for eqn in jaxpr.eqns:
            given = [read(v) for v in eqn.invars]
            own = str(eqn.source_info.name_stack)
            here = "/".join(part for part in (where, own) if part)
            name = eqn.primitive.name
            if name in INLINED and not recognise(eqn.params.get("name", "")):
                inner, known = _opened(eqn.params[INLINED[name]])
                made = self.write(ops, inner, known, given, here)
            else:
                made = [self.new(v.aval) for v in eqn.outvars]
                bodies = tuple(self.body(b, here) for b in _bodies(name, eqn.params))
                ops.append(Op(eqn.primitive, eqn.params, tuple(given), tuple(made), here, bodies))
            number |= dict(zip(eqn.outvars, made, strict=True))
        return [read(v) for v in jaxpr.outvars]

    def body(self, closed: Any, where: str) -> Program:
        """What a loop or a branch runs."""
        jaxpr, consts = _opened(closed)
        return self.program(jaxpr, consts, [self.new(v.aval) for v in jaxpr.invars], where)


def _opened(jaxpr: Any) -> tuple[core.Jaxpr, Sequence[Any]]:
    """A jaxpr and its constants, of which an open one has none."""
    return (jaxpr.jaxpr, jaxpr.consts) if isinstance(jaxpr, core.ClosedJaxpr) else (jaxpr, ())


def _bodies(name: str, params: Mapping[str, Any]) -> Sequence[Any]:
    """The jaxprs inside of a primitive that are looked into."""
    inside = params.get("jaxpr")
    return {"scan": (inside,), "jit": (inside,), "cond": params.get("branches", ())}.get(name, ())
