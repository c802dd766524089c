"""Seeds trained side by side by `vmap` of the step, against one after the other.

    python -m benchmarks.seeds --seeds 4

The net of `experiments/claims/labels.py` on the hippocampus at 2 mm, without augmentation, each seed with its
own weights. The ratio is the time of as many steps in turn over that of the one step for all.
"""

import argparse
import statistics
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.pairs import measure, ratios, timed, use_cores
from benchmarks.train_step import Net, replica
from medjax.train import step

NET = Net((20, 28, 20), 4, 1, 3, (16, 32, 64))


def work(seeds: int, *, together: bool) -> Callable[[], None]:
    """A step of every seed as a piece of work, called once."""
    made, start = replica(NET)
    mesh = step.data_mesh()
    keys, runs = (
        jax.random.split(jax.random.key(0), seeds),
        jax.random.split(jax.random.key(1), seeds),
    )
    states = jax.jit(jax.vmap(start))(keys)
    batch = jax.tree.map(lambda a: np.stack([a] * seeds), NET.random_batch())
    if together:
        parted = PartitionSpec(None, step.AXIS)
        mapped = jax.shard_map(
            jax.vmap(made),
            mesh=mesh,
            in_specs=(PartitionSpec(), parted, PartitionSpec()),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        compiled = jax.jit(mapped, donate_argnums=0)
        current = [step.replicate(states, mesh)]
        given = [(jax.device_put(batch, NamedSharding(mesh, parted)), runs)]
    else:
        compiled = step.map_step(made, mesh)
        current = [
            step.replicate(jax.tree.map(lambda a, i=i: a[i], states), mesh) for i in range(seeds)
        ]
        given = [(step.shard(NET.random_batch(), mesh), runs[i]) for i in range(seeds)]

    def run() -> None:
        for i, (data, key) in enumerate(given):
            current[i], means = compiled(current[i], data, key)
            jax.block_until_ready((current[i], means))

    run()
    return run


def main() -> None:
    """Prints one row a number of seeds."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", nargs="*", type=int, default=[2, 4])
    chosen = arguments.parse_args().seeds
    use_cores()
    print("| seeds | in turn, s | side by side, s | in turn over side by side |\n|---|---|---|---|")
    for seeds in chosen:
        sides = {"turn": work(seeds, together=False), "side": work(seeds, together=True)}
        taken = measure({name: timed(own) for name, own in sides.items()})
        turn, side = (statistics.median(taken[name]) for name in ("turn", "side"))
        print(
            f"| {seeds} | {turn:.2f} | {side:.2f} | {ratios(taken['side'], taken['turn'])} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
