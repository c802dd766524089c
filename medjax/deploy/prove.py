"""The checks of an export that need no more than networks, model files and images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx

from medjax.deploy.export.emit import graph
from medjax.deploy.export.emitter import channels_first
from medjax.deploy.gates import (
    FLOAT,
    LAYER,
    PRUNED,
    SUMMED,
    Gate,
    Outputs,
    Parity,
    close,
    equal,
    parity,
)
from medjax.deploy.layers import layer_errors
from medjax.deploy.prune.pruned import Pruned, structure_of
from medjax.deploy.prune.structure import grow
from medjax.deploy.quantize.scales import Scale
from medjax.deploy.runtime import Model, open_model

LOOK = 32  # voxels a side, at most, of the images that layers are compared on


@dataclass(frozen=True)
class Net:
    """A trained network: images (n, d, h, w, c) to a tree of outputs, channels last."""

    fn: Callable[[Any, Any], Any]
    params: Any
    exclusive: bool
    divisor: tuple[int, ...]

    @cached_property
    def compiled(self) -> Callable[[Any, Any], Any]:
        """The same in one piece."""
        return jax.jit(self.fn)

    def outputs(self, image: Any) -> Outputs:
        """As a model file has them."""
        return named(self.compiled(self.params, image))


def named(tree: Any) -> dict[str, np.ndarray]:
    """Outputs by their path, channels first."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): first(np.asarray(leaf))
        for path, leaf in leaves
    }


def first(array: Any) -> np.ndarray:
    """Channels before space."""
    return np.ascontiguousarray(np.transpose(array, channels_first(np.ndim(array))))


def smaller(image: Any, size: Sequence[int]) -> Any:
    """The middle of an image, at most of this size."""
    shape = image.shape[1:4]
    cut = [slice((n - m) // 2, (n - m) // 2 + m) for n, m in zip(shape, size, strict=True)]
    return image[:, cut[0], cut[1], cut[2]]


def prove_pruned(model: Pruned, params: Any, images: Sequence[Any]) -> Gate:
    """The network without its channels is the whole one with zeros in their place."""
    found = []
    for image in images:
        structure = structure_of(model.module, image)
        whole = grow(structure, params, structure.removed(model.entries))
        wanted = jax.jit(lambda p, x: model.module.apply({"params": p}, x, False)[0])(whole, image)
        given = jax.jit(lambda p, x: model.apply({"params": p}, x, False)[0])(params, image)
        found.append(parity(named(wanted), named(given), exclusive=True).distance)
    return Gate("pruned = whole with zeros, distance", max(found), PRUNED)


def prove_file(
    name: str, net: Net, path: Path, images: Sequence[Any], providers: Sequence[str]
) -> list[Gate]:
    """A float32 file says in every runtime what JAX says, at other sizes too where it takes them."""
    gates = []
    for provider in providers:
        model = open_model(path, provider)
        found = reduce(or_, [_against(net, model, image) for image in _sizes(net, model, images)])
        bound = SUMMED if provider == "openvino" else FLOAT
        gates += equal(f"JAX = {name} in {provider}", found, bound)
    return gates


def _against(net: Net, model: Model, image: Any) -> Parity:
    return parity(net.outputs(image), model.run(first(image)), exclusive=net.exclusive)


def _sizes(net: Net, model: Model, images: Sequence[Any]) -> list[Any]:
    """The images, and where any size will do two of them at once and a smaller one."""
    if model.batch is not None:
        return [image[: model.batch] for image in images]
    shape = images[0].shape[1:4]
    less = [n - d if n > 2 * d else n for n, d in zip(shape, net.divisor, strict=True)]
    return [*images, np.concatenate(images[:2]), smaller(images[0], less)]


def prove_layers(net: Net, path: Path, image: Any, scales: Sequence[Scale]) -> Gate:
    """Every layer of the file is what JAX plays with the same eight bits."""
    file = onnx.load(path)
    if not isinstance(_batch(file), int):  # it takes a smaller image, whose layers are sooner done
        size = [
            min(n, max(2 * d, LOOK // d * d))
            for n, d in zip(image.shape[1:4], net.divisor, strict=True)
        ]
        image = smaller(image, size)
    made = graph(net.fn, net.params, image, scales)
    errors = layer_errors(made, net.params, image, scales, file)
    worst = max(errors, key=lambda name: errors[name])
    return Gate(f"layer {worst} = JAX with eight bits, largest difference", errors[worst], LAYER)


def _batch(model: onnx.ModelProto) -> int | str:
    size = model.graph.input[0].type.tensor_type.shape.dim[0]
    return size.dim_param or size.dim_value


def prove_runtimes(
    name: str,
    path: Path,
    images: Sequence[Any],
    providers: Sequence[str],
    *,
    exclusive: bool,
    against: Path | None = None,
) -> list[Gate]:
    """A file in each runtime is what ONNX Runtime makes of it, or of `against`, without optimisations."""
    plain = open_model(against or path, "onnxruntime-plain")
    wanted = [plain.run(first(image)) for image in images]
    gates = []
    for provider in providers:
        model = open_model(path, provider)
        pairs = zip(wanted, images, strict=True)
        found = [parity(w, model.run(first(i)), exclusive=exclusive) for w, i in pairs]
        gates += close(f"{name} in {provider}", reduce(or_, found))
    return gates
