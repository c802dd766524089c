"""Half precision inside of a graph: for TensorRT and others that multiply float16 at twice the speed."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# Sums over space and what is made of them: their squares do not fit into float16 (black masks of others).
WIDE = {
    "InstanceNormalization",
    "ReduceMean",
    "ReduceSum",
    "ReduceL2",
    "Sqrt",
    "Reciprocal",
    "Pow",
    "GlobalAveragePool",
}
OPSET = 19  # the first whose Q and DQ know float16


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in float16, with float32 at its ends, in norms, and in what else sums over space.

    Of a quantised model the numbers between the eight bits are float16, as strongly typed engines want them.
    """
    graph = model.graph
    arrays = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    constants: dict[str, TensorProto] = {}
    nodes = [_cast("image", "image.half", TensorProto.FLOAT16)]
    ends = [output.name for output in graph.output]
    widened: set[str] = set()

    def constant(name: str, wide: bool) -> str:
        narrow = arrays[name].dtype == np.float32 and not wide
        own = f"{name}.half" if narrow else name
        array = arrays[name].astype(np.float16) if narrow else arrays[name]
        constants[own] = numpy_helper.from_array(array, own)
        return own

    def operand(name: str, wide: bool) -> str:
        if not name:  # an operand that is left out
            return name
        if name in arrays:
            return constant(name, wide)
        narrow = f"{name}.half" if name == "image" or name in ends else name
        if not wide:
            return narrow
        if name not in widened:
            widened.add(name)
            nodes.append(_cast(narrow, f"{name}.wide", TensorProto.FLOAT))
        return f"{name}.wide"

    for node in graph.node:
        wide, new = node.op_type in WIDE, onnx.NodeProto()
        new.CopyFrom(node)
        new.input[:] = [operand(name, wide) for name in node.input]
        outputs = [f"{name}.half" if name in ends else name for name in node.output]
        new.output[:] = [f"{name}.float" for name in outputs] if wide else outputs
        nodes.append(new)
        for name in outputs if wide else ():
            nodes.append(_cast(f"{name}.float", name, TensorProto.FLOAT16))
    nodes += [_cast(f"{name}.half", name, TensorProto.FLOAT) for name in ends]
    found = helper.make_model(
        helper.make_graph(nodes, graph.name, graph.input, graph.output, [*constants.values()]),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )
    found.metadata_props.extend(model.metadata_props)
    onnx.checker.check_model(found, full_check=True)
    return found


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind)
