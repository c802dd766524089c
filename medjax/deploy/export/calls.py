"""Graph nodes of calls that stay whole: norms and transposed convolutions."""

import numpy as np

from medjax.deploy.export.emitter import Emitter, channels_first
from medjax.deploy.program import Op
from medjax.ops.whole import recognise


def _call(e: Emitter, op: Op) -> None:
    """What stays whole."""
    kind, settings = recognise(op.params["name"]) or ("", {})
    {"norm": _norm, "depth_to_space": _depth_to_space}[kind](e, op, settings)


def _norm(e: Emitter, op: Op, settings: dict[str, str]) -> None:
    """Instance norm; of groups, over the channels of each as one."""
    value, scale, bias = op.inputs
    order = channels_first(e.rank(value))
    channels, group = e.shape(value)[-1], int(settings["group"])
    if not (e.known(scale) and e.known(bias)):
        raise e.refuse(op, "has a scale that hangs on the image")
    e.whole(value)
    x, epsilon = e.within(value, order), float(settings["epsilon"])
    own = [np.asarray(e.numbers[v], np.float32) for v in (scale, bias)]
    if group == 1:
        names = [x, *(e.array(v) for v in own)]
        name = e.node("InstanceNormalization", names, op.where, epsilon=epsilon)
        e.put(op, name, order)
        return
    groups = channels // group
    inside = e.node("Reshape", [x, e.array(np.array([0, groups, -1], np.int64))], op.where)
    units = [e.array(np.full(groups, v, np.float32)) for v in (1, 0)]
    normed = e.node("InstanceNormalization", [inside, *units], op.where, epsilon=epsilon)
    back = e.node("Reshape", [normed, e.node("Shape", [x], op.where)], op.where)
    wide = [e.array(v.reshape(1, -1, *(1,) * (e.rank(value) - 2))) for v in own]
    scaled = e.node("Mul", [back, wide[0]], op.where)
    e.put(op, e.node("Add", [scaled, wide[1]], op.where), order)


def _depth_to_space(e: Emitter, op: Op, settings: dict[str, str]) -> None:
    """Done by the convolution before it, as a transposed one."""
    node = e.made.get(op.inputs[0])
    if node is None or node.op_type != "ConvTranspose" or e.uses[op.inputs[0]] > 1:
        raise e.refuse(op, "does not follow a convolution of one voxel that nothing else reads")
    e.alias(op, e.tensors[op.inputs[0]])


RULES = {"jit": _call}
