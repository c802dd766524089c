"""What does a network lose that becomes small? The claim `compression`, on the hippocampus.

    python launch.py --config experiments/claims/compression.py --config.data.root=DIR/Task04_Hippocampus \
        --workdir runs/compression

All arms take as many steps. `dense` trains on for a quarter of its steps, as long as the others are trained
on that lost half of their channels; `cut` lost them at the end and was not trained on. Arms in eight bits are
judged by their files in the runtime, calibrated on eight training cases; nothing is rejected by what it lost,
since that is the question. Times of a window stand in the records; they mean something where nothing else ran
on the machine.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from medjax.modes.defaults import Config, defaults

HERE = Path(__file__).parent
STEPS, MORE = 2400, 600
WIDTH = 16
Stage = dict[str, Any]
ON: Stage = {"train.steps": MORE, "train.learning_rate": 1e-3}
HALF: Stage = {**ON, "prune.ratio": 0.5}
EIGHT_BITS: Stage = {"mode": "export", "export.precision": "int8", "export.lost": 1.0}


def get_config() -> Config:
    """Crops of the hippocampus at 2 mm, as in `labels.py`, with all labels."""
    config = defaults("compression")
    config.mode = "claims"
    config.data.layout = "msd"
    config.data.validation = 0.0
    config.plan.spacing = (2.0, 2.0, 2.0)
    config.plan.patch = (20, 28, 20)
    config.plan.width = WIDTH
    config.plan.stages = 3
    config.plan.batch = 4
    config.train.steps = STEPS
    config.train.learning_rate = 3e-3
    config.train.validations = 1
    config.augment.flips = False
    config.eval.mirror = False
    config.eval.largest_component = False
    config.export.route = "direct"

    claim = ConfigDict()
    claim.name = config.name
    claim.rules = str(HERE / "claims.yaml")
    claim.results = str(HERE / "results")
    claim.page = str(HERE.parents[1] / "CLAIMS.md")
    claim.seeds = (1, 2, 3)
    claim.folds = (0,)  # the seed deals the folds
    claim.arms = arms()
    with config.unlocked():
        config.claim = claim
    return config


def arms() -> dict[str, tuple[Stage, ...]]:
    """Each arm as its stages, 3000 steps in all."""
    cut = {**HALF, "train.steps": 1, "train.learning_rate": 0.0, "prune.distill": 0.0}
    return {
        "dense": ({}, ON),
        "dense_int8": ({}, {**ON, **EIGHT_BITS}),
        "cut": ({}, {**ON, "train.steps": MORE - 1}, cut),
        "random": ({}, {**HALF, "prune.score": "random"}),
        "small": ({"plan.width": WIDTH // 2, "train.steps": STEPS + MORE},),
        "pruned": ({}, HALF),
        "pruned_int8": ({}, {**HALF, **EIGHT_BITS}),
    }
