"""Several trained models as one: the mean of what they say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from medjax.data.plan import Plan
from medjax.data.prepare import Geometry, Scan
from medjax.infer.predictor import Predictor


def mean_of(functions: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """A function of windows that gives the mean, leaf by leaf, of what others give for them."""
    if len(functions) == 1:
        return functions[0]

    def mean(image: Any) -> Any:
        total = functions[0](image)
        for other in functions[1:]:
            total = jax.tree.map(lambda a, b: a + b, total, other(image))
        return jax.tree.map(lambda a: a / len(functions), total)

    return mean


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Predictors on one grid as one. Those that prepare scans alike share one pass over the windows.

    The largest part of a channel alone is kept where all of them keep it alone.
    """

    members: tuple[Predictor, ...]

    @property
    def plan(self) -> Plan:
        """What of their plans they share: the grid and the classes."""
        return self.members[0].plan

    @property
    def keep_largest(self) -> tuple[int, ...]:
        """Output channels cut down to their largest component."""
        first, *others = (set(member.keep_largest) for member in self.members)
        return tuple(sorted(first.intersection(*others)))

    def __call__(self, scan: Scan, name: str) -> tuple[Float32[np.ndarray, "d h w k"], Geometry]:
        """Mean probabilities at network resolution. Errors name the case."""
        first, *others = self._alike()
        total, geometry = _pass(first, scan, name)
        if others:  # else nothing is copied
            total = total * np.float32(len(first) / len(self.members))
        for group in others:
            found, _ = _pass(group, scan, name)
            total += found * np.float32(len(group) / len(self.members))
        return total, geometry

    def _alike(self) -> list[list[Predictor]]:
        """The members by how they normalise."""
        groups: list[list[Predictor]] = []
        for member in self.members:
            for group in groups:
                if group[0].plan.normalisation == member.plan.normalisation:
                    group.append(member)
                    break
            else:
                groups.append([member])
        return groups


def _pass(
    group: Sequence[Predictor], scan: Scan, name: str
) -> tuple[Float32[np.ndarray, "d h w k"], Geometry]:
    """The mean of predictors that prepare scans alike, in one pass over the windows."""
    return replace(group[0], forward=mean_of([member.forward for member in group]))(scan, name)
