"""A graph against its program, layer by layer: each is given what the graph gave the layers before it."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from onnx import helper

from medjax.deploy.export.emit import Graph
from medjax.deploy.export.emitter import LONE, Tensor
from medjax.deploy.providers import session
from medjax.deploy.quantize.fake import reads, replay
from medjax.deploy.quantize.points import Points, points
from medjax.deploy.quantize.scales import Scale

Float = np.ndarray


def layer_errors(
    made: Graph, params: Any, image: Any, scales: Sequence[Scale] = (), model: Any = None
) -> dict[str, float]:
    """The largest difference of each tensor, over the largest number of it, by the tensor's name.

    The graph runs in ONNX Runtime without its optimisations, the program in JAX with eight bits at `scales`.
    Roundings that go the other way in one layer are handed to the next in both, so that errors do not add up
    and what is left is the fault of one layer. model: the model to look at, where it is not `made.model`: one
    of the same network for another size of image. Errors: it has other tensors.
    """
    found = points(made.program) if scales else Points((), {})
    given = _run(model or made.model, made.tensors, image)
    errors: dict[str, float] = {}

    def tell(value: int, ours: Any) -> Any:
        tensor = made.tensors.get(value)
        if tensor is None or tensor.name not in given:
            return ours
        theirs = _back(given[tensor.name], tensor.order)
        if theirs.shape != ours.shape:
            raise ValueError(f"{tensor.name}: {theirs.shape} in the graph, {ours.shape} in JAX")
        own = np.asarray(ours)
        errors[tensor.name] = float(np.abs(own - theirs).max() / max(np.abs(own).max(), 1e-30))
        return jnp.asarray(theirs)

    inputs = [*jax.tree.leaves(params), image]
    most = scales[0].weights if scales else 0
    replay(made.program, found, inputs, reads(found, scales), most=most, tell=tell)
    return errors


def _run(model: onnx.ModelProto, tensors: Mapping[int, Tensor], image: Any) -> dict[str, Float]:
    """Every float tensor of the graph that holds a value of the program."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {tensor.name for tensor in tensors.values()}
    wanted = [name for node in model.graph.node for name in node.output if name in known]
    ends = {output.name for output in model.graph.output}
    for name in wanted:
        if name not in ends:
            shown.graph.output.append(helper.make_empty_tensor_value_info(name))
    run = session(shown.SerializeToString(), optimised=False)
    found = run(np.moveaxis(np.asarray(image), -1, 1))
    return {name: found[name] for name in wanted if found[name].dtype == np.float32}


def _back(array: Float, order: Sequence[int]) -> Float:
    """A tensor with the axes of its value in turn."""
    lone = tuple(k for k, axis in enumerate(order) if axis == LONE)
    return array.squeeze(lone).transpose(np.argsort([axis for axis in order if axis != LONE]))
