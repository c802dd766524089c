"""What does a network lose that becomes small? The claim `compression`, on the hippocampus.

    python launch.py --config experiments/claims/compression.py --config.data.root=DIR/Task04_Hippocampus \
        --workdir runs/compression

And `compression_resnet`, a ResNet-50 of volumes that says whether a prostate phantom has significant cancer:

    python launch.py --config experiments/claims/compression.py:resnet --workdir runs/compression_resnet

All arms take as many steps. `dense` trains on for a quarter of its steps, as long as the others are trained
on that lost half of their channels; `cut` lost them at the end and was not trained on. Arms in eight bits are
judged by their files in the runtime, calibrated on eight training cases; nothing is rejected by what it lost,
since that is the question. Times of a window stand in the records; they mean something where nothing else ran
on the machine.

`pruned`, without the channels of the smallest weights, was the only one when seeds 1 and 2 were opened, and
worse than one without channels at random: the sizes of weights that a norm follows say little. On seed 0,
which no claim sees, the Dice of 42 cases was 0.853 of `dense`, 0.614 of `pruned`, 0.846 without channels at
random and 0.849 without those that the loss feels least: `taylor`, which is the default since and decides the
claim `compression_taylor`. The arms in eight bits of seeds 1 and 2 were exported twice, the second time with
weights of seven bits (`Scale.weights`).

Phantoms: each seed makes its own, 1000 train, 1000 are tested. On seed 0, with 400 to test, of whom 0.56 have
significant cancer, `dense` told 0.823 right, `taylor` 0.815, `random` 0.805. On seed 1 `dense` learned
nothing in as many steps (0.581 of 1000, as many as have it), so its runs are no records of a claim: settings
that learn on several seeds must be found first, and that seed's phantoms have been seen.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from medjax.errors import UserError
from medjax.modes.defaults import Config, defaults

HERE = Path(__file__).parent
Stage = dict[str, Any]


def get_config(part: str = "unet") -> Config:
    """The claim on a `unet`, or on a `resnet`."""
    if part not in ("unet", "resnet"):
        raise UserError(f"compression.py:{part}: give :resnet or nothing")
    config = defaults("compression" if part == "unet" else "compression_resnet")
    config.mode = "claims"
    config.train.validations = 1
    config.augment.flips = False
    config.eval.mirror = False
    config.export.route = "direct"
    config.prune.score = "magnitude"
    if part == "unet":
        hippocampus(config)
    else:
        prostates(config)

    claim = ConfigDict()
    claim.name = config.name
    claim.rules = str(HERE / "claims.yaml")
    claim.results = str(HERE / "results")
    claim.page = str(HERE.parents[1] / "CLAIMS.md")
    claim.seeds = (1, 2, 3)
    claim.folds = (0,)  # the seed deals the folds, or makes the phantoms
    claim.arms = arms(config)
    if part == "resnet":
        del claim.arms["cut"], claim.arms["pruned_int8"]
    with config.unlocked():
        config.claim = claim
    return config


def hippocampus(config: Config) -> None:
    """Crops of the hippocampus at 2 mm, as in `labels.py`, with all labels."""
    config.data.layout = "msd"
    config.data.validation = 0.0
    config.plan.spacing = (2.0, 2.0, 2.0)
    config.plan.patch = (20, 28, 20)
    config.plan.width = 16
    config.plan.stages = 3
    config.plan.batch = 4
    config.train.steps = 2400
    config.train.learning_rate = 3e-3
    config.eval.largest_component = False


def prostates(config: Config) -> None:
    """Phantoms, each seen whole in coarse voxels."""
    config.phantom.train = 1000
    config.phantom.test = 1000
    config.plan.spacing = (3.0, 2.5, 2.5)
    config.plan.patch = (16, 24, 24)
    config.plan.width = 16
    config.plan.stages = 6
    config.plan.batch = 8
    config.model.trunk = "resnet50"
    config.model.norm = "group"
    config.augment.strength = 0.5
    config.tasks.learn = ("classification",)
    config.train.steps = 2000


def arms(config: Config) -> dict[str, tuple[Stage, ...]]:
    """Each arm as its stages, with a quarter more steps than the config has."""
    steps, width = config.train.steps, config.plan.width
    more = steps // 4
    on: Stage = {"train.steps": more, "train.learning_rate": 1e-3}
    half: Stage = {**on, "prune.ratio": 0.5}
    cut: Stage = {**half, "train.steps": 1, "train.learning_rate": 0.0, "prune.distill": 0.0}
    felt: Stage = {**half, "prune.score": "taylor"}
    eight_bits: Stage = {"mode": "export", "export.precision": "int8", "export.lost": 1.0}
    return {
        "dense": ({}, on),
        "dense_int8": ({}, {**on, **eight_bits}),
        "cut": ({}, {**on, "train.steps": more - 1}, cut),
        "random": ({}, {**half, "prune.score": "random"}),
        "small": ({"plan.width": width // 2, "train.steps": steps + more},),
        "pruned": ({}, half),
        "pruned_int8": ({}, {**half, **eight_bits}),
        "taylor": ({}, felt),
        "taylor_int8": ({}, {**felt, **eight_bits}),
    }
