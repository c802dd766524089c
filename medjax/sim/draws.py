"""Random numbers that are cheap to compile: XLA takes a tenth of a second for each draw of `jax.random`."""

import math
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from medjax.ops import noise


def drawer(key: Array, count: int) -> Callable[..., Float[Array, "..."]]:
    """`draw(low, high, shape=())`: the next of `count` numbers, uniform from `low` on and below `high`.

    Each call takes others; a ValueError says that there are no more.
    """
    values, used = jax.random.uniform(key, (count,)), 0

    def draw(low: float, high: float, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        nonlocal used
        first, used = used, used + math.prod(shape)
        if used > count:
            raise ValueError(f"{used} random numbers are wanted of {count}; draw more at first")
        return low + (high - low) * values[first:used].reshape(shape)

    return draw


def normal(key: Array, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Standard normal numbers, to the accuracy of `ops.noise`: the words of the key are their seed."""
    return noise.normal(jax.random.key_data(key), shape)
