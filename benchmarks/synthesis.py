"""A synthetic patient of four contrasts, 128^3 voxels of 1.4 mm, from a label map, against TorchIO.

    python -m benchmarks.synthesis --peers .venv-peers/bin/python

TorchIO's pipeline has what it offers of the same kind: a random affine and elastic deformation, then for
each contrast an image with a random mean a tissue, bias field, blur and noise. It has no tumour, no mass
effect and no signal equations, so its time is that of less work. Compilation is apart; a ratio is peer time
over our time.
"""

import argparse
import statistics
import time

import jax

from benchmarks.pairs import Peer, measure, ratios, timed, use_cores
from medjax.sim.anatomy import Anatomy, mni152
from medjax.sim.subject import make_subject

SHAPE, SPACING = (128, 128, 128), 1.4
STYLES = {"physics": False, "random contrasts": True}


def main() -> None:
    """Prints one row a style."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    arguments.add_argument("--runs", type=int, default=7)
    chosen = arguments.parse_args()
    use_cores()
    parent = mni152()
    shares, depth = jax.device_put((parent.shares, parent.depth))
    print("| | compilation, s | ours, s | TorchIO, s | ratio |\n|---|---|---|---|---|")
    for name, randomised in STYLES.items():

        def make(key, shares, depth, randomised=randomised):
            parent = Anatomy(shares, depth, "")
            return make_subject(key, parent, shape=SHAPE, spacing=SPACING, randomised=randomised)

        compiled, number = jax.jit(make), 0

        def work(compiled=compiled) -> None:
            nonlocal number
            number += 1
            jax.block_until_ready(compiled(jax.random.key(number), shares, depth))

        begin = time.perf_counter()
        work()
        first = time.perf_counter() - begin
        peer = Peer(chosen.peers, "synthesis.py", ",".join(map(str, SHAPE)))
        taken = measure({"medjax": timed(work), "peer": peer}, runs=chosen.runs)
        peer.close()
        ours, theirs = (statistics.median(seconds) for seconds in taken.values())
        ratio = ratios(*taken.values())
        print(f"| {name} | {first - ours:.1f} | {ours:.2f} | {theirs:.2f} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
