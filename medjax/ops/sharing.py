"""Samples side by side on a mesh of devices, and one sample on several: where its split begins."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh, PartitionSpec
from jaxtyping import Array, Float

from medjax.ops.conv import implementation

AXIS, SPACE = "data", "space"
_SHARED: ContextVar[tuple[str, int] | None] = ContextVar("shared", default=None)


def grid(devices: Sequence[Any], space: int = 1) -> Mesh:
    """A mesh of devices along the axis `data`; with `space` > 1 so many neighbours are one of its places.

    They share each sample, along the axis `space`.
    """
    shape, names = ((-1, space), (AXIS, SPACE)) if space > 1 else ((-1,), (AXIS,))
    return Mesh(np.array(devices).reshape(shape), names, axis_types=(AxisType.Auto,) * len(names))


def over(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Any:
    """A replica's function over the axis `data` of a mesh.

    A replica is one device, or those along the axis `space`: their networks share its samples, and the
    compiler exchanges the borders that native convolutions ask for. `check_vma=False`: the check refuses the
    convolution's custom gradient.
    """

    def replica(*arguments: Any) -> Any:
        if SPACE not in mesh.axis_names:
            return function(*arguments)
        with implementation("native"), sharing(SPACE, mesh.shape[SPACE]):
            return function(*arguments)

    return jax.shard_map(
        replica,
        mesh=mesh,
        in_specs=in_specs,
        out_specs=out_specs,
        axis_names={AXIS},
        check_vma=False,
    )


@contextmanager
def sharing(axis: str, devices: int) -> Iterator[None]:
    """While a function is traced: `share` splits over the mesh axis of that name, of so many devices."""
    token = _SHARED.set((axis, devices))
    try:
        yield
    finally:
        _SHARED.reset(token)


def share(x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w c"]:
    """The same image, from here on split between the devices of `sharing`; as it is where there are none.

    Along the longest spatial axis that they divide; whole on each of them where they divide none.
    """
    found = _SHARED.get()
    if found is None:
        return x
    return lax.with_sharding_constraint(x, PartitionSpec(*_split(x.shape, *found)))


def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays, run in full by each of the devices that share a patch.

    For what decides sample by sample which of its branches runs: were it split, the devices would exchange
    borders inside a branch, and wait for ever for those of a replica that took another.
    """

    def run(*arguments: Any) -> Any:
        found = _SHARED.get()
        if found is None:
            return function(*arguments)
        same = PartitionSpec()
        own = jax.shard_map(
            function, in_specs=same, out_specs=same, axis_names={found[0]}, check_vma=False
        )
        return own(*arguments)

    return run


def _split(shape: Sequence[int], name: str, devices: int) -> list[str | None]:
    fits = [axis for axis in (1, 2, 3) if shape[axis] % devices == 0]
    longest = max(fits, key=lambda axis: (shape[axis], -axis), default=None)
    return [name if axis == longest else None for axis in range(len(shape))]
