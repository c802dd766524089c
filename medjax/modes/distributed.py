"""Several processes, on one machine or many, that run one training: how they start and how they end."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from medjax import progress
from medjax.errors import UserError
from medjax.io.lock import locked
from medjax.modes import experiment
from medjax.modes.defaults import Config
from medjax.train import processes

AUTO = "auto"
SECONDS = 10  # to say farewell in


def start(coordinator: str, count: int, index: int) -> None:
    """Joins the processes of a run; the first one alone prints.

    `coordinator` is HOST:PORT of the first process, or "auto" where JAX finds all by itself (SLURM, Open MPI,
    Kubernetes, TPU). Errors: flags that do not fit each other, a first process that is not there.
    """
    found = {} if coordinator == AUTO else _named(coordinator, count, index)
    jax.config.update("jax_enable_preemption_service", False)  # it takes SIGTERM away from us
    try:
        jax.distributed.initialize(heartbeat_timeout_seconds=processes.HEARTBEAT, **found)
    except (RuntimeError, ValueError) as error:
        text = " ".join(str(error).split())[:300]
        raise UserError(
            f"--coordinator: {coordinator}: {text}; start all processes with the same --coordinator and "
            "--processes, and --process=0, 1, ..."
        ) from error
    experiment.start_jax()
    if not processes.first():
        progress.console.quiet = True


def _named(coordinator: str, count: int, index: int) -> dict[str, Any]:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(
            f"--coordinator: {coordinator!r} is no HOST:PORT of the first process; give that, or {AUTO}"
        )
    if count < 1 or not 0 <= index < count:
        raise UserError(
            f"--process: {index} of {count}; give --processes=N and --process=0 up to N - 1"
        )
    return {"coordinator_address": coordinator, "num_processes": count, "process_id": index}


def run(main: Callable[[Config, Path], None], config: Config, workdir: Path) -> None:
    """Runs a mode in all processes, of which the first holds the work folder against other runs."""
    with ExitStack() as held:
        processes.told(lambda: held.enter_context(locked(workdir)))
        main(config, workdir)


def leave(code: int) -> None:
    """Parts from the others; where they do not come, because this one alone failed, ends at once."""
    if not jax.distributed.is_initialized():
        return
    try:
        processes.meet("farewell", seconds=SECONDS)
        jax.distributed.shutdown()
    except Exception:  # of many kinds, where another process is gone
        if sys.exc_info()[0] not in (None, SystemExit):
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 1)
