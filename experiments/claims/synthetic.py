"""Does synthetic data help real tumour segmentation? The claim `synthetic` of claims.yaml.

    python launch.py --config experiments/claims/synthetic.py --config.data.root=DIR --workdir runs/synthetic

DIR: a BraTS folder. Each arm is a tuple of stages, each stage the keys in which it differs from this
config; a later stage starts from the weights of the one before. Every stage, seed and fold is an
ordinary run in WORKDIR/ARM/seed-S/fold-F/stage-N; the same command goes on where it was stopped. Each
finished run leaves `results/synthetic/ARM-seedS-foldF.json` beside this file, and is not run again while
that record is there; at the end CLAIMS.md is written anew from all records. To try something without
touching either:

    --config.claim.results=DIR --config.claim.page=DIR/CLAIMS.md --config.claim.seeds='(0,)'

The settings are written out, not taken from another experiment: a claim's recipe must not change with it.
"""

from pathlib import Path

from ml_collections import ConfigDict

from medjax.modes.defaults import Config, defaults

HERE = Path(__file__).parent
STEPS = 420  # of every arm, all stages together
PHANTOMS = {
    "data.root": None,
    "data.folds": 12,
    "data.fold": 0,  # whatever the fold of the real scans: trained once a seed
    "synth.cases": 36,
}


def get_config() -> Config:
    """A U-Net on WT, TC and ET at 2 mm, sized for 2 CPU cores; equal steps in every arm."""
    config = defaults("synthetic")
    config.mode = "claims"
    config.data.layout = "brats"
    config.data.folds = 6
    config.plan.spacing = (2.0, 2.0, 2.0)  # of plan and patch: one network in every stage
    config.plan.patch = (48, 48, 48)
    config.plan.batch = 2
    config.plan.width = 16
    config.plan.stages = 4
    config.train.learning_rate = 3e-3
    config.train.validations = 5
    config.train.validation_batches = 4
    config.augment.flips = False  # so few steps are not enough to learn all eight mirror images
    config.augment.strength = 0.5
    config.eval.mirror = False

    claim = ConfigDict()
    claim.name = "synthetic"
    claim.rules = str(HERE / "claims.yaml")
    claim.results = str(HERE / "results")
    claim.page = str(HERE.parents[1] / "CLAIMS.md")
    claim.seeds = (0, 1, 2)
    claim.folds = (0, 1, 2, 3, 4, 5)
    claim.arms = {
        "real": ({"train.steps": STEPS},),
        "physics": (
            {**PHANTOMS, "train.steps": STEPS // 2},
            {"train.steps": STEPS - STEPS // 2},
        ),
    }
    with config.unlocked():
        config.claim = claim
    return config
