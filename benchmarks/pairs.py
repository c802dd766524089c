"""Our measurement and the peer's in turn on the same machine; the peer in a process of its own.

A peer is a script that, for each line it reads, runs its work once and prints a line of JSON with `seconds`.
Its first line, printed when it is ready, says what it is. While one side works the other waits, so what the
machine does meanwhile falls on both.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from medjax import hugepages

HERE = Path(__file__).parent
CORES = 2
RUNS, WARM = 7, 1
PAUSE = 0.5  # seconds before each run: the threads of the side before may still spin


def use_cores() -> None:
    """One replica a core and large pages, as the modes do; to be called before anything is computed.

    Peers inherit the large pages.
    """
    hugepages.restart()
    jax.config.update("jax_num_cpu_devices", min(CORES, os.cpu_count() or 1))


class Peer:
    """A peer's process. Errors: one that ends before it answers."""

    def __init__(self, python: str, script: str, *arguments: str) -> None:
        command = [python, str(HERE / "peers" / script), *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self.last = self._read()

    def __call__(self) -> float:
        """Seconds of one run; all that the peer says of it is in `last`."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.last = self._read()
        return float(self.last["seconds"])

    def close(self) -> None:
        """Ends the process, which stops at the end of its lines and puts its workers away."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"{self.process.args}: ended without an answer")


def timed(work: Callable[[], Any]) -> Callable[[], float]:
    """The work as a measurement; it must wait for its own result."""

    def run() -> float:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin

    return run


def measure(
    sides: Mapping[str, Callable[[], float]], runs: int = RUNS, warm: int = WARM
) -> dict[str, list[float]]:
    """Seconds of each side in turn, those that warm up left out.

    A turn is two runs of which the second counts: a virtual machine takes the memory of a process that
    has waited away, and the first run after pays for getting it back.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(warm + runs):
        for name, run in sides.items():
            time.sleep(PAUSE)
            run()
            taken[name].append(run())
    return {name: seconds[warm:] for name, seconds in taken.items()}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Peer over ours, pair by pair: the median, the least and the greatest."""
    found = [b / a for a, b in zip(ours, theirs, strict=True)]
    return f"{statistics.median(found):.2f} [{min(found):.2f}, {max(found):.2f}]"
