"""The space of a sweep: which keys of a config vary, between what, and when they count."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medjax.errors import UserError

RANGES = ("float", "log", "int")
TRIES = 100  # draws for one point that was not there before
Point = dict[str, Any]  # a value for each key that counts


@dataclass(frozen=True)
class Axis:
    """One key: a range (float, log, int: low and high, both possible) or a choice of values."""

    key: str
    kind: str
    values: tuple[Any, ...]
    only: Mapping[str, Any]  # it counts where these keys have these values

    def counts(self, point: Point) -> bool:
        """Whether the key counts beside those of a point."""
        return all(
            point.get(key) in (wanted if isinstance(wanted, tuple) else (wanted,))
            for key, wanted in self.only.items()
        )


def read_space(given: Mapping[str, Sequence[Any]]) -> list[Axis]:
    """The axes of what an experiment's `get_sweep()` returns, in its order.

    A key maps to ("log", 1e-4, 1e-1), ("float", 0.0, 1.0), ("int", 1, 9) or ("choice", "adamw", "sgd"); a
    dictionary at the end says when it counts: ("float", 0.8, 0.99, {"train.optimizer": "sgd"}), several
    values in a tuple. What it hangs on comes first. Errors name the key.
    """
    axes: list[Axis] = []
    for key, entry in given.items():
        kind, *rest = entry
        only = rest.pop() if rest and isinstance(rest[-1], Mapping) else {}
        values = tuple(rest)
        if kind not in (*RANGES, "choice"):
            raise UserError(
                f"get_sweep: {key}: {kind!r} is unknown; choose {', '.join(RANGES)}, choice"
            )
        if kind == "choice" and not values:
            raise UserError(f"get_sweep: {key}: no values to choose from; give at least one")
        if kind in RANGES and (len(values) != 2 or not values[0] < values[1]):
            raise UserError(f"get_sweep: {key}: {values}; give a lower and a higher end")
        if kind == "log" and values[0] <= 0:
            raise UserError(f"get_sweep: {key}: a logarithm of {values[0]}; give a positive end")
        late = [other for other in only if other not in {axis.key for axis in axes}]
        if late:
            raise UserError(f"get_sweep: {key}: hangs on {late[0]}, which is no key before it")
        axes.append(Axis(key, kind, values, only))
    if not axes:
        raise UserError("get_sweep: returns no keys; name at least one")
    return axes


def draw(axes: Sequence[Axis], rng: np.random.Generator) -> Point:
    """A point at random, evenly along each axis (in its logarithm for "log")."""
    point: Point = {}
    for axis in axes:
        if not axis.counts(point):
            continue
        if axis.kind == "choice":
            point[axis.key] = axis.values[int(rng.integers(len(axis.values)))]
        elif axis.kind == "int":
            point[axis.key] = int(rng.integers(axis.values[0], axis.values[1] + 1))
        else:
            ends = np.log(axis.values) if axis.kind == "log" else np.array(axis.values, float)
            value = float(rng.uniform(*ends))
            point[axis.key] = float(np.exp(value)) if axis.kind == "log" else value
    return point


def draws(axes: Sequence[Axis], count: int, rng: np.random.Generator) -> list[Point]:
    """So many points at random, no two alike; fewer where the space seems to have no more."""
    points: list[Point] = []
    for _ in range(TRIES * count):
        point = draw(axes, rng)
        if point not in points:
            points.append(point)
        if len(points) == count:
            break
    return points


def grid(axes: Sequence[Axis]) -> list[Point]:
    """Every combination of the choices that count. Errors: a range, which has no steps."""
    for axis in axes:
        if axis.kind != "choice":
            raise UserError(f"sweep.search: a grid needs choices; {axis.key} is a range")
    points: list[Point] = []
    for values in itertools.product(*(axis.values for axis in axes)):
        point: Point = {}
        for axis, value in zip(axes, values, strict=True):
            if axis.counts(point):
                point[axis.key] = value
        if point not in points:
            points.append(point)
    return points


def suggest(axes: Sequence[Axis], trial: Any) -> Point:
    """A point that an Optuna trial proposes. Choices are proposed by position: Optuna knows no tuples."""
    point: Point = {}
    for axis in axes:
        if not axis.counts(point):
            continue
        if axis.kind == "choice":
            position = trial.suggest_categorical(axis.key, list(range(len(axis.values))))
            point[axis.key] = axis.values[position]
        elif axis.kind == "int":
            point[axis.key] = trial.suggest_int(axis.key, *axis.values)
        else:
            point[axis.key] = trial.suggest_float(
                axis.key, *map(float, axis.values), log=axis.kind == "log"
            )
    return point


def code(axes: Sequence[Axis], point: Mapping[str, Any]) -> dict[str, Any]:
    """A point, of JSON or not, as `suggest` would have asked for it."""
    coded = {}
    for axis in axes:
        if axis.key in point:
            value = point[axis.key]
            coded[axis.key] = _position(axis, value) if axis.kind == "choice" else value
    return coded


def _position(axis: Axis, value: Any) -> int:
    plain = [list(v) if isinstance(v, tuple) else v for v in axis.values]  # as JSON has it
    return plain.index(list(value) if isinstance(value, tuple) else value)


def decode(axes: Sequence[Axis], coded: Mapping[str, Any]) -> Point:
    """The point behind what `code` gives, with values as the experiment has them."""
    chosen = {axis.key: axis.values for axis in axes if axis.kind == "choice"}
    return {key: chosen[key][v] if key in chosen else v for key, v in coded.items()}


def distributions(axes: Sequence[Axis], point: Mapping[str, Any]) -> dict[str, Any]:
    """The axes of a point as Optuna has them."""
    from optuna import distributions as of

    def one(axis: Axis) -> Any:
        if axis.kind == "choice":
            return of.CategoricalDistribution(list(range(len(axis.values))))
        if axis.kind == "int":
            return of.IntDistribution(*axis.values)
        return of.FloatDistribution(*map(float, axis.values), log=axis.kind == "log")

    return {axis.key: one(axis) for axis in axes if axis.key in point}
