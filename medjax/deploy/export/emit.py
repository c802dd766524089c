"""A network as ONNX, from its program: channels first, norms and transposed convolutions whole."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
import onnx
from jax.tree_util import keystr, tree_flatten_with_path
from onnx import TensorProto, helper

from medjax.deploy.export import calls, entrywise, moves, sums
from medjax.deploy.export.emitter import Bits, Emitter, Tensor, channels_first, constant
from medjax.deploy.program import Op, Program, as_is, trace
from medjax.deploy.quantize.points import points
from medjax.deploy.quantize.scales import Scale

RULES = {**entrywise.RULES, **moves.RULES, **sums.RULES, **calls.RULES}
OPSET = 18
SPACE = "DHW"


@dataclass(frozen=True)
class Graph:
    """A model, the program that it was made of, and the tensors that hold values of the program."""

    model: onnx.ModelProto
    program: Program
    tensors: Mapping[int, Tensor]


def emit(
    fn: Callable[..., Any], params: Any, image: Any, scales: Sequence[Scale] = ()
) -> onnx.ModelProto:
    """The model of fn(params, image): input `image`, an output for each path of what is given.

    scales: of each group of the `points` of the program, which is then quantised.

    Images and outputs of five axes are (n, c, d, h, w) there. Batch and space are of any size where nothing
    in the graph holds for one size alone. Errors: a primitive that has no rule, with its module.
    """
    return graph(fn, params, image, scales).model


def graph(fn: Callable[..., Any], params: Any, image: Any, scales: Sequence[Scale] = ()) -> Graph:
    """The same with the way back to the program. Names of tensors do not hang on the size of the image."""
    program, shapes = trace(fn, params, image)
    e = Emitter(program)
    given = [*jax.tree.leaves(params), None]
    for value, known in zip(program.inputs, given, strict=True):
        if known is not None:
            e.numbers[value] = np.asarray(known)
    e.numbers |= {v: np.asarray(known) for v, known in program.constants.items()}
    source = program.inputs[-1]
    e.tensors[source] = Tensor("image", channels_first(len(program.shape(source))))
    if scales:
        found = points(program)
        reads = {(p.op, p.place): scales[p.group] for p in found.points}
        e.bits = Bits(reads, found.kernels)
    readers = [(value, op) for op in program.ops for value in op.inputs]
    e.uses.update([*(value for value, _ in readers), *program.outputs])
    e.feeds = {value: op for value, op in readers if e.uses[value] == 1}
    for e.current, op in enumerate(program.ops):
        if all(e.known(v) for v in op.inputs):
            _fold(e, op)
        elif op.name in RULES:
            RULES[op.name](e, op)
        else:
            raise e.refuse(op, "has no rule")
    model = _model(e, shapes, source)
    return Graph(model, program, _holders(e))


def _holders(e: Emitter) -> dict[int, Tensor]:
    """The tensor of each value that has one: what is merged into a node has given its tensor away."""
    last = {tensor.name: value for value, tensor in sorted(e.tensors.items()) if not tensor.spread}
    return {
        value: replace(e.tensors[value], name=e.renamed.get(name, name))
        for name, value in last.items()
    }


def _fold(e: Emitter, op: Op) -> None:
    """What does not hang on the image is computed now; repeated numbers take no memory."""
    if op.name == "broadcast_in_dim":
        (value,), shape = op.inputs, op.params["shape"]
        narrow = [1] * len(shape)
        for k, place in enumerate(op.params["broadcast_dimensions"]):
            narrow[place] = e.shape(value)[k]
        e.numbers[op.outputs[0]] = np.broadcast_to(e.numbers[value].reshape(narrow), shape)
        return
    made = as_is(op, [e.numbers[v] for v in op.inputs])
    e.numbers |= {v: np.asarray(known) for v, known in zip(op.outputs, made, strict=True)}


def _model(e: Emitter, shapes: Any, source: int) -> onnx.ModelProto:
    """What leads to the outputs, with names and sizes."""
    program = e.program
    ends = []
    for (path, _), value in zip(tree_flatten_with_path(shapes)[0], program.outputs, strict=True):
        name = keystr(path, simple=True, separator="/") or "output"
        if e.known(value):
            raise ValueError(f"{name} does not hang on the image")
        e.whole(value)
        _end(e, e.within(value, channels_first(e.rank(value))), name)
        ends.append((name, value))
    if e.sums:
        e.fixed.append("a sum over space")
    nodes = _needed(e, [name for name, _ in ends])
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "medjax",
        [_port(e, "image", source)],
        [_port(e, name, value) for name, value in ends],
        [constant(name, array) for name, array in e.arrays.items() if name in read],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=10, producer_name="medjax")
    onnx.checker.check_model(model, full_check=True)
    return model


def _end(e: Emitter, tensor: str, name: str) -> None:
    """Gives a tensor the name of an output; one that has a name to keep is repeated."""
    node = e.named.pop(tensor, None)
    if node is None:
        e.nodes.append(helper.make_node("Identity", [tensor], [name], name=name))
        return
    node.output[0] = e.renamed[tensor] = name
    for other in e.nodes:
        for k, given in enumerate(other.input):
            if given == tensor:
                other.input[k] = name


def _needed(e: Emitter, ends: list[str]) -> list[onnx.NodeProto]:
    """The nodes that an output hangs on."""
    wanted, kept = set(ends), []
    for node in reversed(e.nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _port(e: Emitter, name: str, value: int) -> onnx.ValueInfoProto:
    """An input or output; its sizes are names where any size will do."""
    order = channels_first(e.rank(value))
    sizes: list[Any] = [e.shape(value)[a] for a in order]  # pyright: ignore[reportCallIssue]
    if not e.fixed:
        space = [f"{name}_{letter}" for letter in SPACE] if name != "image" else list(SPACE)
        sizes = ["N", sizes[1], *(space[: len(sizes) - 2])]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes)
