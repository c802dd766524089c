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

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.pairs import Peer, measure, ratios, timed, use_cores
from medjax.data.augment import chain
from medjax.nn.unet import UNet
from medjax.train import optim, state, step, supervised

# name: patch, batch, channels, classes, widths
NETS = {
    "unet": ((64, 64, 64), 2, 4, 4, (16, 32, 64, 128)),
    "hippocampus": ((40, 56, 40), 2, 1, 3, (16, 32, 64)),
}


def ours(name: str) -> tuple[Callable[[], None], int, float]:
    """The step as a piece of work, its number of parameters, and the seconds of its first call."""
    patch, batch, channels, classes, widths = NETS[name]
    strides = [(1, 1, 1)] + [(2, 2, 2)] * (len(widths) - 1)
    model = UNet({"seg": classes}, widths, [(3, 3, 3)] * len(widths), strides)
    mesh = step.data_mesh()
    rule = optim.optimizer("adamw", weight_decay=1e-2, clip=12.0)
    rate = optim.schedule("constant", peak=1e-3)
    loss = supervised.supervised(model, chain(), [[k] for k in range(classes)], exclusive=True)
    compiled = step.map_step(
        step.make_step(step.differentiate(loss, supervised.WEIGHTS), rule, rate), mesh
    )
    shape = (batch, *patch)
    params = jax.jit(lambda key: model.init(key, jnp.zeros((1, *patch, channels)), False)["params"])
    begin = state.create(params(jax.random.key(0)), rule, horizon=100, ema=False)
    current = step.replicate(begin, mesh)
    rng = np.random.default_rng(0)
    data = {
        "image": rng.normal(size=(*shape, channels)).astype(np.float32),
        "label": rng.integers(0, classes, shape).astype(np.int32),
        "index": np.arange(batch, dtype=np.int32),
    }
    sharded, key = step.shard(data, mesh), jax.random.key(1)

    def work() -> None:
        nonlocal current
        current, means = compiled(current, sharded, key)
        jax.block_until_ready((current, means))

    first = timed(work)()
    return work, sum(p.size for p in jax.tree.leaves(begin.params)), first


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
        patch, batch, channels, classes, widths = NETS[name]
        work, size, first = ours(name)
        formats = ("contiguous", "channels_last_3d")
        peers = {
            f: Peer(
                chosen.peers,
                "train_step_monai.py",
                *(
                    f"--{k}={','.join(map(str, v))}"
                    for k, v in (("patch", patch), ("widths", widths))
                ),
                f"--batch={batch}",
                f"--channels={channels}",
                f"--classes={classes}",
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
