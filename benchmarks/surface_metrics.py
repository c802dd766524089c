"""HD95 and surface Dice of one class of a BraTS-sized case (240 x 240 x 155): medjax against MONAI.

    python -m benchmarks.surface_metrics --peers .venv-peers/bin/python [--case REFERENCE.nii.gz]

The prediction is the reference shifted by two voxels, with a far false positive. Without --case an ellipsoid
of 60 ml stands in. Both sides must agree on the two figures.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.pairs import Peer, measure, ratios, timed
from medjax.io.files import read
from medjax.metrics import surface


def masks(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and reference."""
    if case:
        reference = read(case).array > 0
    else:
        grid = np.ogrid[:240, :240, :155]
        ball = zip(grid, (120, 100, 80), (28, 22, 23), strict=True)
        reference = np.asarray(sum(((g - c) / r) ** 2 for g, c, r in ball)) < 1
    prediction = np.roll(reference, (2, 1, 0), (0, 1, 2))
    prediction[20:24, 30:34, 40:44] = True
    return prediction, reference


def main() -> None:
    """Prints one row."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    arguments.add_argument("--case", default="")
    chosen = arguments.parse_args()
    prediction, reference = masks(chosen.case)

    def work() -> tuple[float, float]:
        found = surface.surface_distances(prediction, reference, (1.0, 1.0, 1.0))
        return surface.hausdorff(found, 95.0), surface.nsd(found, 1.0)

    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "masks.npz"), prediction=prediction, reference=reference)
        peer = Peer(chosen.peers, "surface_metrics_monai.py", str(Path(folder, "masks.npz")))
        taken = measure({"medjax": timed(work), "MONAI": peer})
    mine, theirs = work(), (peer.last["hd95"], peer.last["nsd"])
    peer.close()
    if not np.allclose(mine, theirs, atol=1e-3):
        sys.exit(f"the figures differ: {mine} against {theirs}")
    median = {side: statistics.median(seconds) for side, seconds in taken.items()}
    print("| ours, s | MONAI, s | ratio | HD95, mm | NSD |\n|---|---|---|---|---|")
    print(
        f"| {median['medjax']:.3f} | {median['MONAI']:.3f} | {ratios(*taken.values())} | "
        f"{mine[0]:.3f} | {mine[1]:.4f} |"
    )


if __name__ == "__main__":
    main()
