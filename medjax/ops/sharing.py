"""One patch on several devices: where its split begins."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

_SHARED: ContextVar[tuple[str, int] | None] = ContextVar("shared", default=None)


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
