"""One step of each method that learns without labels, against a supervised step of the same total batch.

    python -m benchmarks.semi_step

The hippocampus net with the default augmentation, eight patches of which four have labels; the supervised
step has labels for all. A ratio is the method's time over that of the supervised step, pair by pair.
"""

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.pairs import measure, ratios, timed, use_cores
from medjax.data.augment import default, spatial
from medjax.losses.segmentation import IGNORE
from medjax.modes import semi
from medjax.modes.defaults import defaults
from medjax.nn.twin import Twin
from medjax.nn.unet import UNet
from medjax.train import optim, state, step
from medjax.train.supervised import WEIGHTS, Segmenter, supervised
from medjax.train.views import Views

PATCH, BATCH, CLASSES, WIDTHS = (40, 56, 40), 8, 3, (16, 32, 64)
SPACING = (1.0, 1.0, 1.0)
TURN = (True, False)


def work(paradigm: str) -> Callable[[], None]:
    """The compiled step over both cores as a piece of work, called once."""
    config = defaults("semi")
    config.train.paradigm = paradigm
    strides = [(1, 1, 1)] + [(2, 2, 2)] * (len(WIDTHS) - 1)
    make = partial(
        UNet, {"seg": CLASSES}, WIDTHS, [(3, 3, 3)] * len(WIDTHS), strides, axis=step.AXIS
    )
    model = Twin(make) if paradigm == "cps" else make()
    strong, _ = default(PATCH, SPACING)
    weak = spatial(
        PATCH, SPACING, probability_rotation=0.0, probability_scale=0.0, probability_elastic=0.0
    )
    segmenter = Segmenter(model, [[k] for k in range(CLASSES)], exclusive=True)
    alone = paradigm == "supervised"
    views = Views(strong, weak, TURN, noise=config.semi.noise)
    loss = supervised(segmenter, strong) if alone else semi.body(config, segmenter, views)
    weights = WEIGHTS if alone else semi.terms(config)["segmentation"]
    rule = optim.optimizer("adamw")
    made = step.make_step(
        step.differentiate(loss, weights), rule, optim.schedule("constant", peak=1e-3), step.average
    )
    params = model.init(jax.random.key(0), jnp.zeros((1, *PATCH, 1)), False)["params"]
    mesh = step.data_mesh()
    current = step.replicate(state.create(params, rule, horizon=100), mesh)
    compiled, data, key = (
        step.map_step(made, mesh),
        step.shard(batch(alone), mesh),
        jax.random.key(1),
    )

    def run() -> None:
        nonlocal current
        current, means = compiled(current, data, key)
        jax.block_until_ready((current, means))

    run()
    return run


def batch(labelled: bool) -> dict[str, np.ndarray]:
    """Noise, the same each time; every second patch has no label where not all are `labelled`."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, (BATCH, *PATCH)).astype(np.uint8)
    if not labelled:
        label[1::2] = IGNORE
    return {
        "image": rng.normal(size=(BATCH, *PATCH, 1)).astype(np.float32),
        "label": label,
        "index": np.arange(BATCH, dtype=np.int32),
        "case": np.zeros(BATCH, np.int32),
    }


def main() -> None:
    """Prints one row a method."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--paradigms", nargs="*", default=list(semi.METHODS))
    names = ("supervised", *arguments.parse_args().paradigms)
    use_cores()
    taken = measure({name: timed(work(name)) for name in names})
    print("| paradigm | step, s | over supervised |\n|---|---|---|")
    for name in names:
        over = ratios(taken["supervised"], taken[name])
        print(f"| {name} | {statistics.median(taken[name]):.2f} | {over} |")


if __name__ == "__main__":
    main()
