"""From probabilities back to a label map on a scan's own grid, 512 x 512 x 300: time and peak memory.

    python -m benchmarks.restore --peers .venv-peers/bin/python

Three classes at 1.5 mm (300 x 256 x 256) to 0.75 mm in planes, against what nnU-Net does with its
probabilities: linear resampling of each class, then the largest. Peak memory is the largest resident size of
each side's process, libraries included.
"""

import argparse
import resource
import statistics

import numpy as np

from benchmarks.pairs import Peer, measure, ratios, timed
from medjax.data.convention import Convention
from medjax.data.prepare import Geometry
from medjax.infer.restore import restore_labels
from medjax.space.volume import Volume

NETWORK, SCAN, CLASSES = (300, 256, 256), (512, 512, 300), 3


def main() -> None:
    """Prints one row."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    chosen = arguments.parse_args()
    found = np.random.default_rng(0).random((*NETWORK, CLASSES), dtype=np.float32)
    convention = Convention("classes", {k: f"class {k}" for k in range(CLASSES)})
    _, turn = Volume(np.zeros((1, 1, 1), np.float32), np.eye(4)).canonical()
    box = (slice(0, SCAN[0]), slice(0, SCAN[1]), slice(0, SCAN[2]))
    geometry = Geometry(SCAN, box, (2, 1, 0), None, turn)

    peer = Peer(
        chosen.peers, "restore_nnunet.py", *(",".join(map(str, n)) for n in (NETWORK, SCAN[::-1]))
    )
    work = timed(lambda: restore_labels(found, geometry, convention))
    taken = measure({"medjax": work, "peer": peer}, runs=3, warm=1)
    median = {side: statistics.median(seconds) for side, seconds in taken.items()}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        "| ours, s | nnU-Net, s | ratio | our peak, GB | nnU-Net's peak, GB |\n|---|---|---|---|---|"
    )
    print(
        f"| {median['medjax']:.2f} | {median['peer']:.2f} | {ratios(*taken.values())} | {peak:.2f} | "
        f"{peer.last['peak_gb']:.2f} |"
    )
    peer.close()


if __name__ == "__main__":
    main()
