"""What the processes of one run owe each other: one decides, one writes, all stop after the same step."""

import itertools
import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from orbax.checkpoint.multihost import sync_global_processes

from medjax import faults, interrupt
from medjax.errors import UserError

T = TypeVar("T")
LONG = 7 * 24 * 3600  # seconds: preparing data and judging a run take what they take
HEARTBEAT = 30  # seconds without a sign of life after which a process counts as lost
_meetings = itertools.count()


def first() -> bool:
    """Whether this is the process that decides and writes; in a run of one process it always is."""
    return jax.process_index() == 0


def meet(name: str = "", *, seconds: int = LONG) -> None:
    """Waits for all others; a dead one ends the run. Errors: one that does not come in time."""
    if jax.process_count() > 1:
        everyone = set(range(jax.process_count()))
        own = f"medjax-{name or next(_meetings)}"
        sync_global_processes(own, timeout=seconds, processes=everyone)


def told(make: Callable[[], T]) -> T:
    """What the first process makes, told to all of them; the others wait and do nothing.

    It must be plain data (JSON); the others get a tuple as a list. Errors of the first are those of all.
    """
    if jax.process_count() == 1:
        return make()
    made: Any = None
    error: BaseException | None = None
    if first():
        try:
            made = make()
        except (KeyboardInterrupt, Exception) as caught:
            error = caught
    meet()
    answer, kind, reason = json.loads(
        _spread(json.dumps([made, type(error).__name__, str(error)]) if first() else "")
    )
    if error is not None:
        raise error
    if kind == interrupt.Preempted.__name__:
        raise interrupt.Preempted
    if kind != type(None).__name__:
        raise UserError(f"the first process: {' '.join(reason.split()) or kind}")
    return made if first() else answer


def in_turn(make: Callable[[], T]) -> T:
    """What each process makes for itself once the first has: they find its files instead of making them."""
    if jax.process_count() == 1:
        return make()
    made: list[T] = []
    told(lambda: made.append(make()))
    return made[0] if made else make()


def _spread(text: str) -> str:
    """The text of the first process."""
    coded = np.frombuffer(text.encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(coded.size)))
    room = np.zeros(size, np.uint8)
    room[: coded.size] = coded
    return np.asarray(multihost_utils.broadcast_one_to_all(room)).tobytes().decode()


def abandon(error: BaseException) -> None:
    """Ends a process that alone met an error, of several: the others wait for it and cannot be asked.

    Nothing is closed, as that would wait for them too; JAX ends them within `HEARTBEAT` seconds.
    """
    if jax.process_count() == 1:
        return
    lost = _lost() if isinstance(error, jax.errors.JaxRuntimeError) else ""
    text = (
        lost
        or faults.explained(error)
        or " ".join(str(error).split())[:500]
        or type(error).__name__
    )
    print(
        f"medjax: process {jax.process_index()} of {jax.process_count()}: {text}; the same command on all of "
        "them resumes the run",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _lost() -> str:
    """Which processes are gone, if any, as far as the others can tell."""
    try:
        meet("lost", seconds=5)
    except Exception as error:  # names them in words alone
        named = re.search(r"timed out task names:((?:\s*\d+)+)", str(error))
        return f"lost process {', '.join(named[1].split())}" if named else ""
    return ""


def gathered(numbers: np.ndarray) -> np.ndarray:
    """The numbers of all processes, one after the other; all must ask."""
    if jax.process_count() == 1:
        return numbers
    return np.asarray(multihost_utils.process_allgather(numbers)).reshape(-1)


def greatest(mesh: Mesh) -> Callable[[int], Any]:
    """A function from a number of each process to the greatest of all, on the device until it is read."""
    if jax.process_count() == 1:
        return lambda number: number
    axes = PartitionSpec(mesh.axis_names)
    sharded, whole = NamedSharding(mesh, axes), NamedSharding(mesh, PartitionSpec())
    largest = jax.jit(jnp.max, out_shardings=whole)
    share = mesh.size // jax.process_count()

    def compare(number: int) -> jax.Array:
        own = np.full(share, number, np.int32)
        return largest(jax.make_array_from_process_local_data(sharded, own))

    return compare
