"""Latency of several models beside each other, so that all meet the same moods of the machine."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

ROUNDS = 30
WARM = 3
PAUSE = 0.1  # seconds before each run, until the threads of the one before have come to rest


class Latency(NamedTuple):
    """Median and 95th percentile, in milliseconds."""

    p50: float
    p95: float


def latencies(
    runs: Mapping[str, Callable[[], Any]], *, rounds: int = ROUNDS, warm: int = WARM
) -> dict[str, Latency]:
    """Each run once a round, in another order each time, after `warm` rounds that do not count.

    ONNX Runtime's threads wait for more work at full speed, and take half of the processor from the next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    rng, names = np.random.default_rng(0), list(runs)
    for number in range(warm + rounds):
        for name in rng.permutation(names).tolist():
            time.sleep(PAUSE)
            begin = time.perf_counter()
            runs[name]()
            if number >= warm:
                seconds[name].append(time.perf_counter() - begin)
    return {
        name: Latency(*(1000 * np.percentile(found, [50, 95])).tolist())
        for name, found in seconds.items()
    }
