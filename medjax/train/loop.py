"""The one training loop: read a batch, step, report a step late, validate, save."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.sharding import Mesh

from medjax import interrupt
from medjax.errors import UserError
from medjax.train import checkpoint, processes
from medjax.train.state import State
from medjax.train.step import local, replicate, shard
from medjax.train.writers import Writers

HostBatch = Mapping[str, np.ndarray]
TIMED = 8  # steps that are run to time a step
RECENT = 500  # steps whose time is remembered: the median is taken at every step
Step = Callable[[State, Any, jax.Array], tuple[State, dict[str, jax.Array]]]
Validate = Callable[[State], tuple[float, dict[str, float]]]  # a score from 0 up, and figures


@dataclass
class Clock:
    """Where the time of a run went, in seconds; it goes on over resumes."""

    compile: float = 0.0
    train: float = 0.0
    steps: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    def median_step(self) -> float:
        """The typical time from one recent step's start to the next's, data and reporting included."""
        return statistics.median(self.steps) if self.steps else math.nan


def steps_in(seconds: float, *, step: float, validation: float, validations: int) -> int:
    """How many steps fit the time that is left, with the validations among them; at least 1.

    3 % are kept for checkpoints and for a machine that slows down.
    """
    return max(1, int((0.97 * seconds - validations * validation) / step))


def time_steps(
    step: Step, state: State, batches: Iterator[HostBatch], key: jax.Array, mesh: Mesh
) -> tuple[float, float]:
    """Seconds of the first call (compilation) and the median of later ones, on a copy of the state.

    Takes `TIMED` batches, the second one for warming up. The steps are thrown away, so the run that
    follows is the same whatever was timed.
    """
    copy, key = replicate((jax.tree.map(jnp.copy, state), key), mesh)
    seconds = []
    for _ in range(TIMED):
        begin = time.perf_counter()
        copy, means = step(copy, shard(dict(next(batches)), mesh), key)
        jax.block_until_ready(means)
        seconds.append(time.perf_counter() - begin)
    return seconds[0], statistics.median(seconds[2:])


class Diverged(UserError):
    """Too many losses were not finite."""


@dataclass(frozen=True)
class Watch:
    """Stops a run whose losses are not finite: each such step is undone in the graph, a few are borne."""

    names: Sequence[str]  # of the cases, by position
    allowed: int = 5
    seen: list[str] = field(default_factory=list)

    def look(self, number: int, means: Mapping[str, float], batch: HostBatch) -> None:
        """Reads one step's outcome; raises `Diverged` naming the cases once too many were not finite."""
        if means["finite"] > 0:
            return
        cases = sorted({self.names[int(i)] for i in processes.gathered(batch["case"])})
        self.seen.append(f"step {number}: {', '.join(cases)}")
        if len(self.seen) > self.allowed:
            raise Diverged(
                f"training: {len(self.seen)} steps had a loss or gradient that is not finite ("
                + "; ".join(self.seen)
                + "); they were undone and the state is saved; look at these cases with "
                "`--mode verify`, or lower train.learning_rate"
            )


def fit(
    step: Step,
    state: State,
    batches: Iterator[HostBatch],
    *,
    key: jax.Array,
    mesh: Mesh,
    checkpoints: ocp.CheckpointManager,
    writers: Writers,
    watch: Watch,
    clock: Clock,
    validate: Validate | None,
    validations: int,
    report: Callable[[int, Mapping[str, float]], None] = lambda number, means: None,
    log_every: int = 10,
) -> State:
    """Runs from `state.step` to `state.horizon`; what is saved at a step resumes to the same bits.

    Nothing waits for the device except reading a step's means while the next one runs. At
    `validations` evenly spaced steps, the last one among them, the weights are validated and a
    checkpoint is saved (without `validate` the newest counts as the best). On Ctrl-C and SIGTERM, on
    a bad step too many and on any error of the loop the newest finite state is saved first. `report(number,
    means)` is called for every step. Of several processes the first one validates, all stop after the same
    step when one is asked to, and an error of one alone saves nothing: the others are not there to help.
    """
    total, number = int(state.horizon), int(state.step)
    marks = {round(total * (i + 1) / validations) for i in range(validations)} | {total}
    pending: tuple[int, dict[str, jax.Array], HostBatch, Any] | None = None
    key = replicate(key, mesh)
    greatest, stop = processes.greatest(mesh), 0
    sums: dict[str, list[float]] = {}
    begin = last = time.perf_counter()
    trained = clock.train

    def measure() -> None:
        """Counts the time since the step before was done, the first one of a process as compilation."""
        nonlocal last
        now = time.perf_counter()
        if clock.compile:
            clock.steps.append(now - last)
        else:
            clock.compile = now - last
        last = now

    def settle() -> None:
        """Reads the step before: the only wait for the device."""
        nonlocal pending, stop
        if pending is None:
            return
        index, means, batch, asked = pending
        pending, stop = None, int(asked)
        values = {name: float(value) for name, value in means.items()}
        measure()
        watch.look(index, values, batch)
        if values["finite"] > 0:
            for name, value in values.items():
                sums.setdefault(name, []).append(value)
        report(index, values)
        if index % log_every == 0 or index == total:
            row = {name: sum(v) / len(v) for name, v in sums.items()}
            patches = len(batch["case"]) * jax.process_count()
            row["patches_per_second"] = patches / clock.median_step()
            row["nonfinite_steps"] = len(watch.seen)
            writers.write(index, row)
            sums.clear()

    def save(score: float) -> None:
        clock.train = trained + time.perf_counter() - begin
        facts = {
            "train_seconds": clock.train,
            "compile_seconds": clock.compile,
            "step_seconds": clock.median_step() if clock.steps else None,
            "nonfinite": list(watch.seen),
        }
        checkpoint.save(checkpoints, state, facts, score=score)

    saved = number
    try:
        with interrupt.deferred() as asked:
            while number < total and not stop:
                batch = next(batches)
                state, means = step(state, shard(dict(batch), mesh), key)
                number += 1
                settle()
                pending = number, means, batch, greatest(asked())
                if number in marks:
                    settle()
                    score = float(number)
                    if validate is not None:
                        score, found = processes.told(partial(validate, local(state)))
                        writers.write(number, found)
                    save(score)
                    saved = number
                    last = time.perf_counter()
            stop = stop or int(greatest(asked()))
        if stop:
            why = interrupt.interruption(stop)
            settle()  # what is saved is also told
            raise why
    except (KeyboardInterrupt, Exception) as error:
        if not stop and not isinstance(error, Diverged):
            processes.abandon(error)
        if number > saved and not state.step.is_deleted():
            save(-1.0)  # to resume from; never the best
        raise
    finally:
        checkpoints.wait_until_finished()
        clock.train = trained + time.perf_counter() - begin
    return state
