"""A network's function of windows on the devices of this process."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from medjax.errors import UserError
from medjax.ops.sharing import AXIS, grid, over

Apply = Callable[[Any, Float[Array, "b d h w c"]], Any]


def spread(apply: Apply, params: Any, *, tiles: int, space: int = 1) -> Callable[[Any], Any]:
    """`apply(params, windows)`, compiled, as a function of `tiles` windows alone, split over the devices.

    What it returns has the windows first. Each of as many groups of `space` neighbours as divide the windows
    takes its part of them; within a group each window is split, for those that are too large for one device.
    On CPU, where each core is a device, two windows side by side take three fifths of the time of one
    program with threads inside. The weights lie whole on each device, and are an argument of what is
    compiled. Errors: fewer devices than `space`.
    """
    devices = jax.local_devices()
    if not 1 <= space <= len(devices):
        raise UserError(
            f"eval.space: {space} devices for a window; there are {len(devices)}: give 1 up to that"
        )
    mesh = grid(devices[: math.gcd(tiles, len(devices) // space) * space], space)
    whole, parts = PartitionSpec(), PartitionSpec(AXIS)
    mapped = jax.jit(over(apply, mesh, (whole, parts), parts))
    kept = jax.device_put(params, NamedSharding(mesh, whole))
    return lambda image: mapped(kept, jax.device_put(image, NamedSharding(mesh, parts)))
