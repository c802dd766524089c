"""Scales from what goes through a network on cases that train."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from medjax.deploy.program import Program
from medjax.deploy.quantize.fake import replay
from medjax.deploy.quantize.points import Points, points
from medjax.deploy.quantize.scales import Flavour, Scale, scale
from medjax.errors import UserError

Method = Literal["minmax", "percentile", "mse"]
BINS = 2048
TAIL = 1e-4  # of the numbers, what `percentile` cuts off in all
FEWEST = 2  # images


def calibrate(
    program: Program,
    params: Any,
    images: Sequence[Any],
    kind: Flavour,
    method: Method = "percentile",
) -> list[Scale]:
    """A scale for each group of points, from images of the size of the program.

    "minmax": all that was seen; "percentile": all but the outermost 0.01 %; "mse": the range whose eight
    bits differ least from what was seen. Errors: fewer than two images, or numbers that are not finite or
    all the same.
    """
    if len(images) < FEWEST:
        raise UserError(f"calibration: {len(images)} images; give {FEWEST} or more that train")
    found, leaves = points(program), jax.tree.leaves(params)
    extremes = jax.jit(lambda x: _gather(program, found, [*leaves, x], _extremes, _wider))
    seen = np.array([extremes(image) for image in images], np.float64)
    low, high = seen[..., 0].min(0), seen[..., 1].max(0)
    for group, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if not (np.isfinite(a) and np.isfinite(b)) or a == b:
            op = next(program.ops[p.op] for p in found.points if p.group == group)
            raise UserError(f"calibration: {op.says} got {a:g} to {b:g}, which has no scale")
    if method == "minmax":
        return [scale(a, b, kind) for a, b in zip(low.tolist(), high.tolist(), strict=True)]

    def count(group: int, x: Any) -> Any:
        return jnp.histogram(x, bins=BINS, range=(low[group], high[group]))[0]

    counted = jax.jit(lambda x: _gather(program, found, [*leaves, x], count, jnp.add))
    counts = np.sum([np.asarray(counted(image), np.float64) for image in images], axis=0)
    choose = {"percentile": _percentile, "mse": _least_error}[method]
    return [
        choose(own, np.linspace(a, b, BINS + 1), kind)
        for own, a, b in zip(counts, low, high, strict=True)
    ]


def _gather(
    program: Program,
    found: Points,
    inputs: Sequence[Any],
    look: Callable[[int, Any], Any],
    join: Callable[[Any, Any], Any],
) -> Any:
    """What `look` sees of each group, joined where a group has several points."""
    seen: dict[int, Any] = {}

    def read(number: int, x: Any) -> Any:
        group = found.points[number].group
        new = look(group, x)
        seen[group] = join(seen[group], new) if group in seen else new
        return x

    replay(program, found, inputs, read)
    return jnp.stack([seen[group] for group in range(found.groups)])


def _extremes(group: int, x: Any) -> Any:
    return jnp.stack([x.min(), x.max()])


def _wider(a: Any, b: Any) -> Any:
    return jnp.stack([jnp.minimum(a[0], b[0]), jnp.maximum(a[1], b[1])])


def _percentile(counts: np.ndarray, edges: np.ndarray, kind: Flavour) -> Scale:
    """Half of the tail is cut off at each end that is not 0."""
    below = np.cumsum(counts) / counts.sum()
    first = int(np.searchsorted(below, TAIL / 2, side="right"))
    last = int(np.searchsorted(below, 1 - TAIL / 2, side="left"))
    return scale(float(edges[first]), float(edges[min(last + 1, BINS)]), kind)


def _least_error(counts: np.ndarray, edges: np.ndarray, kind: Flavour) -> Scale:
    """Of ranges from a fifth to all of what was seen, the one with the least squared error."""
    middles = (edges[:-1] + edges[1:]) / 2

    def error(how: Scale) -> float:
        q = np.clip(np.round(middles / how.step) + how.zero, how.low, how.high)
        return float((counts * ((q - how.zero) * how.step - middles) ** 2).sum())

    tried = [
        scale(float(edges[0]) * r, float(edges[-1]) * r, kind) for r in np.linspace(0.2, 1, 81)
    ]
    return min(tried, key=error)
