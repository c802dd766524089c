"""How the train step grows: time and memory with patch, batch, channels, cases and devices.

    python -m benchmarks.scaling

Each row is a process of its own, so that its peak memory is its own; one factor changes at a time from the
U-Net of `train_step.py` (16 to 128 channels, 64^3 x 4, batch 2, one replica a core). With cases, the loader
reads patches from so many of them.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from benchmarks.augment import write_cases
from benchmarks.pairs import use_cores
from benchmarks.train_step import Net, compiled_step
from medjax.data.patches import iterate, patches
from medjax.train import step

BASE = {"patch": 64, "batch": 2, "width": 16, "devices": 2, "cases": 0}
SWEEPS = {
    "patch": (32, 48, 64, 96),
    "batch": (2, 4, 8),
    "width": (8, 16, 32),
    "devices": (1, 2),
    "cases": (2, 8, 32),
}
STEPS, WARM = 7, 3


def batches(chosen: dict[str, int], net: Net, folder: str) -> Iterator[dict]:
    """The same random batch again and again, or what the loader reads from so many cases."""
    if chosen["cases"]:
        folders = write_cases(Path(folder), chosen["cases"])
        drawn = patches(folders, patch=net.patch, batch=net.batch, steps=99, seed=0)
        yield from iterate(drawn)
    while True:
        yield net.random_batch()


def child(chosen: dict[str, int]) -> None:
    """Prints the figures of one setting."""
    jax.config.update("jax_num_cpu_devices", chosen["devices"])
    size, width = chosen["patch"], chosen["width"]
    net = Net((size, size, size), chosen["batch"], 4, 4, tuple(width * 2**i for i in range(4)))
    compiled, current = compiled_step(net)
    mesh, key, seconds = step.data_mesh(), jax.random.key(1), []
    with tempfile.TemporaryDirectory() as folder:
        for _, batch in zip(range(WARM + STEPS), batches(chosen, net, folder), strict=False):
            begin = time.perf_counter()
            current, means = compiled(current, step.shard(batch, mesh), key)
            jax.block_until_ready((current, means))
            seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"first": seconds[0], "step": statistics.median(seconds[WARM:]), "peak_gb": peak}
    print(json.dumps(found))


def main() -> None:
    """Prints one row a setting."""
    print(
        "| changed | step, s | voxels/s, million | first step, s | peak, GB |\n|---|---|---|---|---|"
    )
    for name, values in SWEEPS.items():
        for value in values:
            chosen = {**BASE, name: value}
            command = [sys.executable, "-m", "benchmarks.scaling", json.dumps(chosen)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row = json.loads(done.stdout.splitlines()[-1])
            rate = chosen["batch"] * chosen["patch"] ** 3 / row["step"] / 1e6
            print(
                f"| {name} {value} | {row['step']:.2f} | {rate:.2f} | {row['first']:.1f} | "
                f"{row['peak_gb']:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(json.loads(sys.argv[1]))
    else:
        use_cores()
        main()
