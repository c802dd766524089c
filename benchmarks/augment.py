"""Augmentation of nnU-Net's kind, 4 channels of 96^3: compiled, against nnU-Net, MONAI and TorchIO.

    python -m benchmarks.augment --peers .venv-peers/bin/python
    python -m benchmarks.augment --peers .venv-peers/bin/python --loader

With --loader each patch is cut from a memory-mapped case first: by Grain here, by the peers' workers there.
All use two cores, medjax in batches of two; a row is the median of the runs, the ratio is peer time over our
time, pair by pair.
"""

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.sharding import PartitionSpec

from benchmarks.pairs import Peer, measure, ratios, timed, use_cores
from medjax.data.augment import default
from medjax.data.cache import places, write_places
from medjax.data.patches import iterate, patches
from medjax.train import step

PATCH, CHANNELS, COUNT = (96, 96, 96), 4, 32
PEERS = ("nnunet", "monai", "torchio")


def write_cases(folder: Path, number: int = 4) -> list[Path]:
    """Cases of the size of a cropped BraTS scan, as the cache keeps them."""
    rng, made = np.random.default_rng(0), []
    for i in range(number):
        case = folder / f"case{i}-0"
        case.mkdir(parents=True)
        label = rng.integers(0, 4, (140, 190, 150)).astype(np.uint8)
        np.save(case / "image.npy", rng.normal(size=(*label.shape, CHANNELS)).astype(np.float32))
        np.save(case / "label.npy", label)
        write_places(case, places(label))
        made.append(case)
    return made


def ours(folders: list[Path]) -> tuple[Callable[[], None], tuple[int, int, int]]:
    """COUNT patches as a piece of work, and the shape of the crops."""
    mesh = step.data_mesh()
    augment, motion = default(PATCH, (1.0, 1.0, 1.0))
    assert motion is not None
    crop = motion.crop
    parts = PartitionSpec(step.AXIS)
    batch = mesh.size

    def run(key, data):
        return augment.apply(augment.sample(key, data), data)

    compiled = jax.jit(
        jax.shard_map(
            run, mesh=mesh, in_specs=(PartitionSpec(), parts), out_specs=parts, check_vma=False
        )
    )
    if folders:
        drawn = patches(folders, patch=PATCH, motion=motion, batch=batch, steps=10_000, seed=0)
        batches = iterate(drawn)
    else:
        rng = np.random.default_rng(0)
        held = {
            "image": rng.normal(size=(batch, *crop, CHANNELS)).astype(np.float32),
            "label": rng.integers(0, 4, (batch, *crop)).astype(np.uint8),
            "index": np.arange(batch, dtype=np.int32),
        }
        batches = itertools.repeat(step.shard(held, mesh))
    number = 0

    def work() -> None:
        nonlocal number
        for _ in range(COUNT // batch):
            number += 1
            data = step.shard(dict(next(batches)), mesh)  # nothing to do for what is there
            key = jax.random.fold_in(jax.random.key(0), number)
            jax.block_until_ready(compiled(key, data))

    return work, crop


def main() -> None:
    """Prints one row a peer."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    arguments.add_argument("--loader", action="store_true", help="cut each patch from disk first")
    arguments.add_argument("--runs", type=int, default=7)
    chosen = arguments.parse_args()
    use_cores()
    with tempfile.TemporaryDirectory() as folder:
        folders = write_cases(Path(folder)) if chosen.loader else []
        work, crop = ours(folders)
        shapes = [f"--{k}={','.join(map(str, v))}" for k, v in (("patch", PATCH), ("crop", crop))]
        more = [f"--count={COUNT}", f"--folder={folder if chosen.loader else ''}"]
        peers = {
            which: Peer(chosen.peers, "augment.py", f"--which={which}", *shapes, *more)
            for which in PEERS
        }
        taken = measure({"medjax": timed(work), **peers}, runs=chosen.runs)
        for peer in peers.values():
            peer.close()
    print("| | patches/s | peer time / our time |\n|---|---|---|")
    for name, seconds in taken.items():
        rate = COUNT / statistics.median(seconds)
        print(f"| {name} | {rate:.1f} | {ratios(taken['medjax'], seconds)} |")


if __name__ == "__main__":
    main()
