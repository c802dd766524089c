"""One train step on CPU: the compiled step of medjax against PyTorch with MONAI's DynUNet.

    python -m benchmarks.train_step --peers .venv-peers/bin/python

The same net (the parameters are counted on both sides), batch, loss (Dice + cross-entropy), clipping and
optimizer (AdamW); no augmentation, data already in memory. The peer runs in both of its memory formats and
the faster one is divided by ours, pair by pair.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.pairs import Peer, measure, ratios, timed, use_cores
from medjax.data.augment import chain
from medjax.nn.unet import UNet
from medjax.train import optim, state, step, supervised


class Net(NamedTuple):
    """A U-Net and its batch."""

    patch: tuple[int, int, int]
    batch: int
    channels: int
    classes: int
    widths: tuple[int, ...]

    def random_batch(self) -> dict[str, np.ndarray]:
        """Noise, the same each time."""
        rng, shape = np.random.default_rng(0), (self.batch, *self.patch)
        return {
            "image": rng.normal(size=(*shape, self.channels)).astype(np.float32),
            "label": rng.integers(0, self.classes, shape).astype(np.uint8),
            "index": np.arange(self.batch, dtype=np.int32),
        }


NETS = {
    "unet": Net((64, 64, 64), 2, 4, 4, (16, 32, 64, 128)),
    "hippocampus": Net((40, 56, 40), 2, 1, 3, (16, 32, 64)),
}


def replica(net: Net) -> tuple[Callable, Callable[[jax.Array], state.State]]:
    """The step of one replica, and the state before it as a function of a key."""
    strides = [(1, 1, 1)] + [(2, 2, 2)] * (len(net.widths) - 1)
    model = UNet({"seg": net.classes}, net.widths, [(3, 3, 3)] * len(net.widths), strides)
    rule = optim.optimizer("adamw", weight_decay=1e-2, clip=12.0)
    rate = optim.schedule("constant", peak=1e-3)
    levels = [[k] for k in range(net.classes)]
    loss = supervised.supervised(supervised.Segmenter(model, levels, exclusive=True), chain())
    gradients = step.differentiate(loss, supervised.WEIGHTS)

    def start(key: jax.Array) -> state.State:
        image = jnp.zeros((1, *net.patch, net.channels))
        params = model.init(key, image, False)["params"]
        return state.create(params, rule, horizon=100, ema=False)

    return step.make_step(gradients, rule, rate), start


def compiled_step(net: Net) -> tuple[Callable, state.State]:
    """The step over all devices, and the state before it."""
    made, start = replica(net)
    mesh = step.data_mesh()
    return step.map_step(made, mesh), step.replicate(jax.jit(start)(jax.random.key(0)), mesh)


def ours(name: str) -> tuple[Callable[[], None], int, float]:
    """The step as a piece of work, its number of parameters, and the seconds of its first call."""
    compiled, current = compiled_step(NETS[name])
    size = sum(p.size for p in jax.tree.leaves(current.params))
    data, key = step.shard(NETS[name].random_batch(), step.data_mesh()), jax.random.key(1)

    def work() -> None:
        nonlocal current
        current, means = compiled(current, data, key)
        jax.block_until_ready((current, means))

    return work, size, timed(work)()


def main() -> None:
    """Prints one row a net."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--peers", default=".venv-peers/bin/python")
    arguments.add_argument("--nets", nargs="*", default=list(NETS))
    chosen = arguments.parse_args()
    use_cores()
    print(
        "| net | parameters | ours, s | peer contiguous, s | peer channels last, s | ratio | first step, s |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in chosen.nets:
        net = NETS[name]
        work, size, first = ours(name)
        formats = ("contiguous", "channels_last_3d")
        peers = {
            f: Peer(
                chosen.peers,
                "train_step_monai.py",
                *(
                    f"--{k}={','.join(map(str, v))}"
                    for k, v in (("patch", net.patch), ("widths", net.widths))
                ),
                f"--batch={net.batch}",
                f"--channels={net.channels}",
                f"--classes={net.classes}",
                f"--format={f}",
            )
            for f in formats
        }
        for peer in peers.values():
            if peer.facts["parameters"] != size:
                sys.exit(f"{name}: {size} parameters against {peer.facts['parameters']}")
        taken = measure({"medjax": timed(work), **peers})
        median = {side: statistics.median(seconds) for side, seconds in taken.items()}
        best = min(formats, key=median.__getitem__)
        print(
            f"| {name} | {size} | {median['medjax']:.2f} | {median[formats[0]]:.2f} | "
            f"{median[formats[1]]:.2f} | {ratios(taken['medjax'], taken[best])} | {first:.1f} |",
            flush=True,
        )
        for peer in peers.values():
            peer.close()


if __name__ == "__main__":
    main()
