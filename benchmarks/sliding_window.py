"""Whole-volume prediction, 240 x 240 x 155 x 4, tiles of 96, overlap 0.5: medjax against MONAI, same net.

    python -m benchmarks.sliding_window --peers .venv-peers/bin/python

A U-Net of 16 to 128 channels with random weights (the parameters are counted on both sides), Gaussian
weights, no mirroring. The peer runs in both of its memory formats; the faster one is divided by ours.
"""

import argparse
import statistics
import sys

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.pairs import Peer, measure, ratios, timed, use_cores
from medjax.infer.predictor import forward
from medjax.infer.sliding import sliding_window
from medjax.nn.unet import UNet

TILES = 2


def main() -> None:
    """Prints one row."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    arguments.add_argument("--runs", type=int, default=5)
    chosen = arguments.parse_args()
    use_cores()
    model = UNet({"seg": 3}, (16, 32, 64, 128), [(3, 3, 3)] * 4, [(1, 1, 1), *[(2, 2, 2)] * 3])
    image = jnp.zeros((1, 96, 96, 96, 4))
    params = jax.jit(lambda key: model.init(key, image, False)["params"])(jax.random.key(0))
    run = forward(model, params, exclusive=True, tiles=TILES)
    volume = np.random.default_rng(0).normal(size=(155, 240, 240, 4)).astype(np.float32)

    def work() -> None:
        sliding_window(run, volume, (96, 96, 96), overlap=0.5, tiles=TILES)

    formats = ("contiguous", "channels_last_3d")
    peers = {
        f: Peer(chosen.peers, "sliding_window_monai.py", f"--format={f}", f"--tiles={TILES}")
        for f in formats
    }
    size = sum(p.size for p in jax.tree.leaves(params))
    for peer in peers.values():
        if peer.facts["parameters"] != size:
            sys.exit(f"{size} parameters against {peer.facts['parameters']}")
    taken = measure({"medjax": timed(work), **peers}, runs=chosen.runs, warm=0)
    for peer in peers.values():
        peer.close()
    median = {side: statistics.median(seconds) for side, seconds in taken.items()}
    best = min(formats, key=median.__getitem__)
    print("| ours, s | peer contiguous, s | peer channels last, s | ratio |\n|---|---|---|---|")
    print(
        f"| {median['medjax']:.1f} | {median[formats[0]]:.1f} | {median[formats[1]]:.1f} | "
        f"{ratios(taken['medjax'], taken[best])} |"
    )


if __name__ == "__main__":
    main()
