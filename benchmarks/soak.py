"""A training that is killed a hundred times at random moments ends as if nothing had happened.

    python -m benchmarks.soak [--kills 100] [--workers 1]

`experiments/quick.py` on a cache of its own, with a hundred checkpoints and loader processes: run once to its
end, then again and again until so many SIGKILLs have hit it, from its first import to its last file, and then
to its end. Ends with exit code 1 where the last weights differ by a bit, or a process or file is left over.
"""

import argparse
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import psutil

ROOT = Path(__file__).parents[1]
STEPS, CHECKPOINTS = 1000, 100


def start(home: Path, workdir: Path, workers: int) -> subprocess.Popen[str]:
    """The training, or what is left of it, as a process with its children in a group of its own."""
    flags = {
        "config": ROOT / "experiments" / "quick.py",
        "workdir": workdir,
        "config.train.steps": STEPS,
        "config.train.validations": CHECKPOINTS,
        "config.train.workers": workers,
    }
    command = [sys.executable, str(ROOT / "launch.py"), *(f"--{k}={v}" for k, v in flags.items())]
    environment = {**os.environ, "XDG_CACHE_HOME": str(home)}
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[float, float]:
    """Seconds to the first step that is shown, and to the end. Errors: it did not end well."""
    begin, first, lines = time.monotonic(), math.nan, []
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("step") and math.isnan(first):
            first = time.monotonic() - begin
        lines.append(line)
    if process.wait():
        sys.exit(f"a run ended with exit code {process.returncode}: {''.join(lines)[-2000:]}")
    return first, time.monotonic() - begin


def first_step(process: subprocess.Popen[str]) -> float:
    """Seconds to the first step of a run, which is killed there."""
    begin = time.monotonic()
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.startswith("step"):
            break
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return time.monotonic() - begin


def longest_life(first: float, whole: float, kills: int) -> float:
    """Lives from 0 to so many seconds, of which the first brings nothing, add up to four fifths of a run."""
    each = 0.8 * (whole - first) / kills
    return first + each + math.sqrt(2 * first * each + each**2)


def weights(workdir: Path) -> list[np.ndarray]:
    """All that the newest checkpoint holds."""
    folder = workdir / "checkpoints"
    newest = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    with ocp.StandardCheckpointer() as reader:
        return [
            np.asarray(leaf)
            for leaf in jax.tree.leaves(reader.restore(folder / str(newest) / "state"))
        ]


def left(home: Path) -> list[str]:
    """Processes and temporary files that are left."""
    alive = [
        f"process {process.pid}: {' '.join(process.cmdline())[:100]}"
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _of(process, home)
    ]
    files = [path for path in home.rglob("*") if path.name.startswith(".") and path.name != ".lock"]
    return [*alive, *map(str, files), *map(str, home.rglob("*.orbax-checkpoint-tmp*"))]


def _of(process: psutil.Process, home: Path) -> bool:
    """Whether a process was started for the runs of `home`."""
    try:
        return process.environ().get("XDG_CACHE_HOME") == str(home)
    except psutil.Error:
        return False


def main() -> None:
    """Prints how many kills fell on what, and whether anything differs."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--workers", type=int, default=1)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    random.seed(chosen.seed)
    home = Path(tempfile.mkdtemp(prefix="soak"))
    first, whole = finish(start(home, home / "whole", chosen.workers))
    prepared = first_step(start(home, home / "broken", chosen.workers))
    print(
        f"uninterrupted: {whole:.0f} s, {whole - first:.0f} after the first step, which comes after "
        f"{first:.0f} s, with prepared cases after {prepared:.0f}",
        flush=True,
    )
    shutil.rmtree(home / "medjax" / "cases")  # preparing is hit too
    killed, ended = 1, 0
    longest = longest_life(prepared, whole - first + prepared, chosen.kills)
    while killed < chosen.kills:
        process = start(home, home / "broken", chosen.workers)
        try:
            process.communicate(timeout=random.uniform(0, longest))
            ended += 1
            shutil.rmtree(home / "broken")  # it was faster: begin anew
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
            if killed % 10 == 0:
                print(f"killed {killed} times", flush=True)
    print(f"killed {killed} times; it had ended {ended} times before", flush=True)
    finish(start(home, home / "broken", chosen.workers))
    pairs = zip(weights(home / "whole"), weights(home / "broken"), strict=True)
    differ = sum(not np.array_equal(a, b) for a, b in pairs)
    remains = left(home)
    print(f"arrays that differ: {differ}; left: {len(remains)}")
    print("\n".join(remains))
    shutil.rmtree(home)
    if differ or remains:
        sys.exit(1)


if __name__ == "__main__":
    main()
