"""Channels first and names of ours at the ends of a graph that has channels last inside."""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from medjax.deploy.export.emitter import channels_first

INSIDE = "inside/"  # before the names that the graph had


def with_ends(model: onnx.ModelProto, outputs: Mapping[str, str]) -> onnx.ModelProto:
    """The model with the input `image` (n, c, d, h, w); `outputs`: its tensors by the names they get."""
    graph = model.graph
    constants = {constant.name for constant in graph.initializer}
    (source,) = graph.input

    def inside(name: str) -> str:
        return name if not name or name in constants else INSIDE + name

    nodes = [_turned(["image"], INSIDE + source.name, _sizes(source), back=True)]
    for node in graph.node:
        inner = onnx.NodeProto()
        inner.CopyFrom(node)
        inner.input[:] = [inside(name) for name in node.input]
        inner.output[:] = [inside(name) for name in node.output]
        nodes.append(inner)
    ports = {port.name: port for port in graph.output}
    ends = []
    for name, tensor in outputs.items():
        sizes = _sizes(ports[tensor])
        nodes.append(_turned([INSIDE + tensor], name, sizes, back=False))
        ends.append(_port(name, sizes))
    made = helper.make_graph(nodes, "medjax", [_port("image", _sizes(source))], ends)
    made.initializer.extend(graph.initializer)
    return helper.make_model(made, opset_imports=model.opset_import, ir_version=10)


def _sizes(port: onnx.ValueInfoProto) -> list[int]:
    return [size.dim_value for size in port.type.tensor_type.shape.dim]


def _turned(inputs: list[str], output: str, sizes: list[int], *, back: bool) -> onnx.NodeProto:
    """A tensor with its channels first, or `back` where they were."""
    order = list(channels_first(len(sizes)))
    if back:
        order = [order.index(axis) for axis in range(len(order))]
    return helper.make_node("Transpose", inputs, [output], name=f"{output}.turned", perm=order)


def _port(name: str, sizes: list[int]) -> onnx.ValueInfoProto:
    first = [sizes[axis] for axis in channels_first(len(sizes))]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, first)
