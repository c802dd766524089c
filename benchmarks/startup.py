"""From the command to the first finished train step: imports, cold and warm compilation cache.

    python -m benchmarks.startup

Each row is the median of fresh processes; the nets are those of `train_step.py`.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

RUNS = 3


def child(net: str, begin: float) -> None:
    """In a fresh process: prints when the imports and when the first step were done."""
    import jax

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    from benchmarks.pairs import use_cores
    from benchmarks.train_step import ours

    use_cores()

    imported = time.time() - begin
    ours(net)
    print(json.dumps({"imports": imported, "first": time.time() - begin}))


def start(net: str, folder: str) -> dict[str, float]:
    """Seconds since the process was started."""
    command = [sys.executable, "-m", "benchmarks.startup", net, str(time.time())]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": folder}
    found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(found.stdout.splitlines()[-1])


def main() -> None:
    """Prints one row a net and kind of cache."""
    print("| net | cache | imports, s | to the end of the first step, s |\n|---|---|---|---|")
    for net in ("hippocampus", "unet"):
        rows = {"cold": [], "warm": []}
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory() as folder:
                for kind in rows:
                    rows[kind].append(start(net, folder))
        for kind, found in rows.items():
            cells = [statistics.median(row[key] for row in found) for key in ("imports", "first")]
            print(f"| {net} | {kind} | " + " | ".join(f"{c:.1f}" for c in cells) + " |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1], float(sys.argv[2]))
    else:
        main()
