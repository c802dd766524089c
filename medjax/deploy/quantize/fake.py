"""A program whose eight bits are played in float32: for training with them, and to check a graph against."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import Array, Bool, Float

from medjax.deploy.program import Op, Program, as_is, convolve, run, trace
from medjax.deploy.quantize.points import Points, points
from medjax.deploy.quantize.scales import Scale, fake, fake_weights, weight_steps

Reads = Callable[[int, Any], Any]  # a point's position among the points, and what goes in there
Tells = Callable[[int, Any], Any]  # a value's number, and what it is


def quantised(program: Program, scales: Sequence[Scale], tree: Any) -> Callable[..., Any]:
    """`fn(params, image)` of the program with a scale for each group of its `points`.

    It can be compiled and differentiated: gradients pass where nothing is clipped.
    """
    found = points(program)

    def fn(params: Any, image: Any) -> Any:
        inputs = [*jax.tree.leaves(params), image]
        outputs = replay(program, found, inputs, reads(found, scales), most=scales[0].weights)
        return jax.tree.unflatten(tree, outputs)

    return fn


@dataclass(frozen=True)
class Quantised:
    """`apply` of a model as it is in use, in eight bits, to be trained: no dropout, no deep supervision."""

    model: Any
    scales: Sequence[Scale]

    def apply(
        self,
        variables: Any,
        image: Float[Array, "b d h w c"],
        train: bool,
        present: Bool[Array, "b c"] | None = None,
        *,
        rngs: Any = None,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the model gives whose weights and values are eight bits; `train` and `rngs` say nothing."""
        given = (variables["params"], present), image
        kinds = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), given)

        def use(params: Any, image: Any) -> Any:
            own, present = params
            return self.model.apply({"params": own}, image, False, present=present)

        program, shapes = trace(use, *kinds)
        return quantised(program, self.scales, jax.tree.structure(shapes))(*given)


def reads(found: Points, scales: Sequence[Scale]) -> Reads:
    """What goes in at a point as the eight bits of its group."""
    return lambda number, x: fake(x, scales[found.points[number].group])


def replay(
    program: Program,
    found: Points,
    inputs: Sequence[Any],
    read: Reads,
    *,
    most: int = 0,
    tell: Tells | None = None,
) -> list[Any]:
    """Runs a program; what goes in at points is read by `read`.

    most: the largest integer of weights, or 0: they are as they are.
    tell: is told every value that is made, and says what is used in its place.
    """
    places: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, point in enumerate(found.points):
        places[point.op].append((point.place, number))
    position = {id(op): k for k, op in enumerate(program.ops)}

    def rule(op: Op, given: Sequence[Any]) -> Sequence[Any]:
        k, x = position[id(op)], list(given)
        for place, number in places.get(k, ()):
            x[place] = read(number, x[place])
        if most and k in found.kernels:
            how = found.kernels[k]
            x[1] = fake_weights(x[1], weight_steps(x[1], most, how.axis, how.spread))
        made = [convolve(op, x[0], x[1])] if op.name == "conv_general_dilated" else as_is(op, x)
        return [tell(o, y) for o, y in zip(op.outputs, made, strict=True)] if tell else made

    return run(program, inputs, rule)
