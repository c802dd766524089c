"""Eight-bit numbers: q = clip(round(x / step) + zero, low, high) stands for (q - zero) step."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Flavour:
    """The integers of activations, and whether their zero is 0, as that of weights (`Scale.weights`) is."""

    low: int
    high: int
    symmetric: bool


FLAVOURS = {
    "cpu": Flavour(0, 255, symmetric=False),  # uint8: what oneDNN and ONNX Runtime multiply
    "tensorrt": Flavour(-128, 127, symmetric=True),
}


@dataclass(frozen=True)
class Scale:
    """Of one tensor."""

    step: float
    zero: int
    low: int
    high: int

    @property
    def weights(self) -> int:
        """The largest integer of the weights that meet the tensor.

        Beside unsigned ones 63: processors without VNNI add two products in sixteen bits, and 2 x 255 x 127
        does not fit.
        """
        return 63 if self.low == 0 else 127

    @property
    def bounds(self) -> tuple[float, float]:
        """The smallest and the largest number that is kept."""
        return (self.low - self.zero) * self.step, (self.high - self.zero) * self.step


def scale(low: float, high: float, kind: Flavour) -> Scale:
    """The scale that reaches from `low` to `high`, and to 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    if kind.symmetric:
        step = max(-low / -kind.low, high / kind.high)
        return Scale(float(np.float32(step)), 0, kind.low, kind.high)
    step = float(np.float32((high - low) / (kind.high - kind.low)))
    return Scale(
        step, int(np.clip(round(-low / step) + kind.low, kind.low, kind.high)), kind.low, kind.high
    )


def weight_steps(kernel: Any, most: int, axis: int, spread: int = 1) -> Any:
    """The step of each output channel, whose largest weight is `most`; 1 where all are 0.

    It has one entry along the other axes. The channels are (spread, channels) along `axis`, and those
    of one channel share a step.
    """
    rows = jnp.moveaxis(kernel, axis, -1)
    rows = rows.reshape(-1, spread, kernel.shape[axis] // spread)
    largest = jnp.tile(jnp.abs(rows).max((0, 1)), spread)
    steps = jnp.where(largest > 0, largest / most, 1.0)
    return steps.reshape([-1 if k == axis else 1 for k in range(kernel.ndim)])


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def fake(x: Any, how: Scale) -> Any:
    """x as its eight bits would give it back; its gradient is that of a clip (Bengio 2013)."""
    q = jnp.clip(jnp.round(_quotient(x, jnp.float32(how.step))) + how.zero, how.low, how.high)
    return (q - how.zero) * jnp.float32(how.step)


def _quotient(x: Any, step: Any) -> Any:
    """x / step as runtimes divide: XLA multiplies by the reciprocal of what is repeated along an axis.

    That is another number for half of all x, and some of them are rounded the other way.
    """
    return x / (step + 0 * x)


def _fake_forward(x: Any, how: Scale) -> tuple[Any, Any]:
    low, high = how.bounds
    return fake(x, how), (x >= low) & (x <= high)


def _fake_backward(how: Scale, inside: Any, slope: Any) -> tuple[Any]:
    return (jnp.where(inside, slope, 0),)


fake.defvjp(_fake_forward, _fake_backward)


@jax.custom_vjp
def fake_weights(kernel: Any, steps: Any) -> Any:
    """Weights as their integers would give them back; the gradient passes, as none is clipped."""
    return jnp.round(_quotient(kernel, steps)) * steps


fake_weights.defvjp(
    lambda kernel, steps: (fake_weights(kernel, steps), steps),
    lambda steps, slope: (slope, jnp.zeros_like(steps)),
)


def integers(kernel: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """What stands in a file for weights."""
    return np.round(kernel / steps).astype(np.int8)
