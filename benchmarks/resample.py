"""Cubic resampling of 512 x 512 x 100 voxels of 0.7 x 0.7 x 3 mm to 1 mm: time and peak memory.

    python -m benchmarks.resample --peers .venv-peers/bin/python

Two kinds, since nnU-Net's default is nearest along an axis this coarse: cubic in all axes against scipy,
SimpleITK and MONAI; cubic in planes and nearest between them against nnU-Net. Peak memory is the largest
resident size of each side's process, libraries included.
"""

import argparse
import resource
import statistics

import numpy as np

from benchmarks.pairs import Peer, measure, ratios, timed
from medjax.space.resample import resample_image, resampled_shape

SPACING = (0.7, 0.7, 3.0)
PEERS = {"nnunet": 2, "scipy": None, "simpleitk": None, "monai": None}


def main() -> None:
    """Prints one row a peer."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    chosen = arguments.parse_args()
    image = np.random.default_rng(0).normal(size=(512, 512, 100)).astype(np.float32)
    shape = resampled_shape(image.shape, SPACING, (1.0, 1.0, 1.0))
    print("| peer | along z | ours, s | peer, s | ratio | our peak, GB | peer's peak, GB |")
    print("|---|---|---|---|---|---|---|")
    for name, coarse in PEERS.items():
        peer = Peer(chosen.peers, "resample.py", name, ",".join(map(str, shape)))

        def work(coarse: int | None = coarse) -> None:
            resample_image(image, shape, coarse_axis=coarse)

        taken = measure({"medjax": timed(work), "peer": peer}, runs=5, warm=1)
        median = {side: statistics.median(seconds) for side, seconds in taken.items()}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"| {name} | {'cubic' if coarse is None else 'nearest'} | {median['medjax']:.2f} | "
            f"{median['peer']:.2f} | {ratios(taken['medjax'], taken['peer'])} | {peak:.2f} | "
            f"{peer.last['peak_gb']:.2f} |",
            flush=True,
        )
        peer.close()


if __name__ == "__main__":
    main()
