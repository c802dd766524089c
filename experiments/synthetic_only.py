"""Trained on synthetic patients alone, judged on real ones.

    python launch.py --config experiments/synthetic_only.py --config.synth.label_maps=MAPS --workdir RUN
    python launch.py --config experiments/synthetic_only.py --mode eval --config.eval.root=DIR --workdir RUN

MAPS: label maps of healthy heads; DIR: a BraTS folder with FLAIR and T1ce. 60 patients of 1 mm, a network
at 2 mm. With ten label maps, on six patients of BraTS 2015 (FLAIR and T1c, as published with DeepMedic):

| Dice | seed 0 | seed 1 | seed 2 | mean [95 %, bootstrap over seeds and patients] |
|------|--------|--------|--------|------------------------------------------------|
| WT   | 0.877  | 0.857  | 0.852  | 0.862 [0.809, 0.904]                           |
| TC   | 0.789  | 0.716  | 0.699  | 0.735 [0.630, 0.835]                           |
| ET   | 0.780  | 0.786  | 0.768  | 0.778 [0.699, 0.845]                           |

16 minutes on 2 CPU cores with little else to do (seed 1), 12 of them training; at most 4.7 GB; version 4 of
the generator. On six synthetic patients of an anatomy that no training case has: WT 0.80 to 0.87, TC 0.83 to
0.90, ET 0.81 to 0.90.
"""

from medjax.modes.defaults import Config, defaults


def get_config() -> Config:
    """A U-Net on WT, TC and ET from FLAIR and T1ce; a tenth of the anatomies is its synthetic test set."""
    config = defaults("synthetic_only")
    config.synth.cases = 60
    config.synth.spacing = 1.0
    config.synth.contrasts = ("T1ce", "FLAIR")
    config.data.folds = 10
    config.plan.spacing = (2.0, 2.0, 2.0)
    config.plan.patch = (64, 80, 64)
    config.plan.batch = 2
    config.plan.width = 16
    config.plan.stages = 4
    config.train.learning_rate = 3e-3
    config.train.steps = 800
    config.train.validations = 5
    config.train.validation_batches = 4
    config.eval.mirror = False
    return config
