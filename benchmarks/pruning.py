"""Every architecture of `nn/` without channels at random, against itself with zeros there; and what it takes.

    python -m benchmarks.pruning [--subsets 3] [--peers .venv-peers/bin/python]

Of each network: seconds to find its families and units, what is left of its parameters and operations without
half of the units of each family, and how far the smaller program is from the masked one, at these and at
random subsets, as a share of the greatest value of each output. Ends with exit code 1 where one is farther
than 1e-5. Last, networks of nnU-Net's size and ResNet-50, analysed alone; the peer is Torch-Pruning (Fang
2023) at MONAI's networks of the same plan, which it runs on an image to find the same.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.pairs import Peer, measure, ratios, timed, use_cores
from medjax.deploy.prune.smaller import smaller
from medjax.deploy.prune.structure import (
    Removed,
    Structure,
    analyse,
    cut,
    mask,
    operations,
)
from medjax.nn.gan import Discriminator, Generator
from medjax.nn.resnet import ResNet
from medjax.nn.twin import Twin
from medjax.nn.unet import UNet

BOUND = 1e-5
SMALL = (2, 8, 16, 16, 2)
LARGE = (1, 128, 128, 128, 4)
# name, module, shape of the image, the module's other arguments
Named = tuple[str, Any, tuple[int, ...], tuple[Any, ...]]


def unet(**changes: Any) -> UNet:
    """Three stages, of which the first is of slices, with all heads."""
    plan: dict[str, Any] = {
        "heads": {"seg": 3, "cls": 2, "det": 1},
        "widths": (8, 16, 32),
        "kernels": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        "deep_supervision": True,
    }
    return UNet(**{**plan, **changes})


def resnet(image: tuple[int, ...]) -> ResNet:
    """ResNet-50 with strides along axes of more than one voxel."""
    stride = tuple(2 if n > 1 else 1 for n in image[1:4])
    return ResNet({"cls": 1000}, [stride] * 5)


def networks() -> Iterator[Named]:
    """All that `nn/` can build."""
    for block, norm, gate in product(
        ("plain", "residual", "hybrid"), ("instance", "group"), ("none", "sca")
    ):
        act = {"none": "leaky_relu", "sca": "silu"}[gate]
        model = unet(block=block, norm=norm, attention=gate, act=act)
        yield f"U-Net, {block}, {norm}, attention {gate}", model, SMALL, (False,)
    yield "U-Net, recomputed", unet(remat=True), SMALL, (False,)
    yield "twin U-Nets", Twin(lambda name: unet(name=name)), SMALL, (False,)
    yield "generator", Generator(), SMALL, ()
    yield "discriminator", Discriminator(), SMALL, ()
    for name, image in (("volumes", (1, 16, 48, 48, 3)), ("slices", (1, 1, 96, 96, 3))):
        yield f"ResNet-50 of {name}", resnet(image), image, (False,)


def large() -> Iterator[Named]:
    """Networks of about 30 million parameters."""
    for block, gate in (("plain", "none"), ("hybrid", "sca")):
        model = unet(
            heads={"seg": 4},
            widths=(32, 64, 128, 256, 320, 320),
            kernels=((3, 3, 3),) * 6,
            strides=((1, 1, 1), *[(2, 2, 2)] * 5),
            block=block,
            attention=gate,
            deep_supervision=False,
        )
        yield f"U-Net, {block}, attention {gate}", model, LARGE, (False,)
    yield "ResNet-50 of slices", resnet((1, 1, 224, 224, 3)), (1, 1, 224, 224, 3), (False,)


def program(model: Any, *args: Any) -> Callable[[Any, Any], Any]:
    """The outputs of a module and of its heads of coarser levels."""

    def run(params: Any, image: Any) -> Any:
        found = model.apply({"params": params}, image, *args)
        if not isinstance(found, tuple):
            return found
        outputs, aux = found
        return outputs, {k: v for k, v in aux.items() if k.startswith("logits")}

    return run


def shapes(model: Any, image: tuple[int, ...], *args: Any) -> Any:
    """Of its parameters, without computing any."""
    given = jax.ShapeDtypeStruct(image, jnp.float32)
    return jax.eval_shape(lambda k, x: model.init(k, x, *args), jax.random.key(0), given)["params"]


def drawn(tree: Any) -> Any:
    """Weights of these shapes, at random, so that norms and biases matter too."""
    leaves, kind = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(0), len(leaves))
    made = [0.3 * jax.random.normal(k, s.shape) for k, s in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(kind, made)


def subset(structure: Structure, rng: np.random.Generator, share: float | None) -> Removed:
    """That share of the units of each family, or any; one of each stays."""
    gone: list[int] = []
    for family in structure.families:
        most = len(family.units) - 1
        count = int(rng.integers(0, most + 1)) if share is None else int(share * len(family.units))
        gone += rng.choice(family.units, min(count, most), replace=False).tolist()
    return frozenset(gone)


def distance(structure: Structure, run: Any, params: Any, removed: Removed, image: Any) -> float:
    """Of the smaller program from the masked one, as a share of each output's greatest value."""
    both = jax.jit(lambda p, q, x: (run(p, x), smaller(structure, removed)(q, x)))
    whole, less = both(mask(structure, params, removed), cut(structure, params, removed), image)
    pairs = zip(jax.tree.leaves(whole), jax.tree.leaves(less), strict=True)
    return max(float(jnp.abs(a - b).max() / jnp.abs(a).max()) for a, b in pairs)


def exactness(subsets: int) -> float:
    """Prints a row a network; gives the greatest distance."""
    print(
        "| network | parameters | analysed, s | families | units "
        "| half the units: parameters | operations | pruned from masked |\n" + "|---" * 8 + "|"
    )
    rng, worst = np.random.default_rng(0), 0.0
    for name, model, size, args in networks():
        run, tree = program(model, *args), shapes(model, size, *args)
        image = jax.random.normal(jax.random.key(1), size)
        begin = time.perf_counter()
        structure = analyse(run, tree, image)
        seconds = time.perf_counter() - begin
        assert not structure.coupling.unknown, structure.coupling.unknown
        half = subset(structure, rng, 0.5)
        params = drawn(tree)
        count = sum(x.size for x in jax.tree.leaves(params))
        left = sum(x.size for x in jax.tree.leaves(cut(structure, params, half))) / count
        works = operations(structure, half) / operations(structure)
        chosen = [half, *(subset(structure, rng, None) for _ in range(subsets - 1))]
        far = max(distance(structure, run, params, removed, image) for removed in chosen)
        worst = max(worst, far)
        print(
            f"| {name} | {count / 1e6:.2f} M | {seconds:.2f} | {len(structure.families)} "
            f"| {len(structure.units)} | {left:.2f} | {works:.2f} | {far:.1e} |",
            flush=True,
        )
    return worst


def speed(peers: str) -> None:
    """Prints seconds to analyse a large network, and the peer's for the one of the same plan."""
    print(
        "\n| network | parameters | analysed, s | peer, s | peer over ours |\n|---|---|---|---|---|"
    )
    for name, model, size, args in large():
        run, tree = program(model, *args), shapes(model, size, *args)
        image = jax.ShapeDtypeStruct(size, jnp.float32)
        sides = {"ours": timed(lambda r=run, t=tree, x=image: analyse(r, t, x).units)}
        peer = None
        known = {"U-Net, plain, attention none": "unet", "ResNet-50 of slices": "resnet"}.get(name)
        if peers and known:
            sides["peer"] = peer = Peer(peers, "pruning_torch.py", known)
        taken = measure(sides, runs=3)
        if peer:
            peer.close()
        count = sum(x.size for x in jax.tree.leaves(tree)) / 1e6
        theirs = f"{statistics.median(taken['peer']):.2f}" if peer else ""
        ratio = ratios(taken["ours"], taken["peer"]) if peer else ""
        print(
            f"| {name} | {count:.1f} M | {statistics.median(taken['ours']):.2f} "
            f"| {theirs} | {ratio} |",
            flush=True,
        )


def main() -> None:
    """Prints both tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--subsets", type=int, default=3)
    arguments.add_argument("--peers", default="")
    chosen = arguments.parse_args()
    use_cores()
    worst = exactness(chosen.subsets)
    speed(chosen.peers)
    if worst > BOUND:
        sys.exit(f"a pruned network is {worst:.1e} from the masked one; {BOUND:g} is allowed")


if __name__ == "__main__":
    main()
