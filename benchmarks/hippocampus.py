"""Hippocampus, the same minutes, cores and cases: medjax, then MONAI's recipe, in turn.

    python -m benchmarks.hippocampus --root DIR/Task04_Hippocampus --peers .venv-peers/bin/python

The clock of each holds compilation, augmentation and training; reading the files into a cache and judging the
test cases are outside it for both. medjax compiles from an empty cache. Writes one JSON per side and prints
the table.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def ours(root: Path, minutes: float, seed: int, workdir: Path) -> dict:
    """Trains and judges with the project's own command."""
    with tempfile.TemporaryDirectory() as home:
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "launch.py"),
                f"--config={ROOT / 'experiments' / 'hippocampus.py'}",
                f"--config.data.root={root}",
                f"--config.train.minutes={minutes}",
                f"--config.seed={seed}",
                f"--workdir={workdir}",
            ],
            check=True,
            env={**os.environ, "XDG_CACHE_HOME": home},
        )
    return json.loads((workdir / "results.json").read_text("utf-8"))


def theirs(
    peers: str, root: Path, minutes: float, seed: int, workdir: Path, more: list[str]
) -> dict:
    """Trains and judges the peer on the split that our run wrote."""
    output = workdir / f"monai-{'-'.join(more) or 'default'}.json".replace("--", "")
    subprocess.run(
        [
            peers,
            str(ROOT / "benchmarks" / "peers" / "hippocampus_monai.py"),
            f"--root={root}",
            f"--split={workdir / 'split.json'}",
            f"--minutes={minutes}",
            f"--seed={seed}",
            f"--output={output}",
            *more,
        ],
        check=True,
    )
    return json.loads(output.read_text("utf-8"))


def main() -> None:
    """Runs both and prints the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--root", type=Path, required=True)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    arguments.add_argument("--minutes", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--workdir", type=Path, default=Path("runs/benchmark-hippocampus"))
    arguments.add_argument(
        "--peer_options", default="", help="e.g. '--optimizer=adamw --rate=0.001'"
    )
    chosen = arguments.parse_args()
    mine = ours(chosen.root, chosen.minutes, chosen.seed, chosen.workdir)
    peer = theirs(
        chosen.peers,
        chosen.root,
        chosen.minutes,
        chosen.seed,
        chosen.workdir,
        chosen.peer_options.split(),
    )
    print("| | steps | Anterior | Posterior | mean Dice |\n|---|---|---|---|---|")
    dice = {k: v["dice"]["mean"] for k, v in mine["metrics"].items()}
    for name, steps, scores in (
        ("medjax", mine["timing"]["steps"], dice),
        (peer["peer"], peer["steps"], peer["dice"]),
    ):
        cells = " | ".join(f"{scores[k]:.4f}" for k in ("Anterior", "Posterior", "mean"))
        print(f"| {name} | {steps} | {cells} |")


if __name__ == "__main__":
    main()
