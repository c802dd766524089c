"""Trained on synthetic patients alone, judged on real ones.

    python launch.py --config experiments/synthetic_only.py --config.synth.label_maps=MAPS --workdir RUN
    python launch.py --config experiments/synthetic_only.py --mode eval --config.eval.root=DIR --workdir RUN

MAPS: label maps of healthy heads; DIR: a BraTS folder with FLAIR and T1ce. 60 patients of 1 mm, a network
at 2 mm. With ten label maps, on six patients of BraTS 2015 (FLAIR and T1c, as published with DeepMedic):

| Dice | seed 0 | seed 1 | seed 2 | mean [95 %, bootstrap over seeds and patients] |
|------|--------|--------|--------|------------------------------------------------|
| WT   | 0.868  | 0.856  | 0.853  | 0.859 [0.800, 0.903]                           |
| TC   | 0.759  | 0.726  | 0.744  | 0.743 [0.653, 0.830]                           |
| ET   | 0.791  | 0.792  | 0.789  | 0.791 [0.711, 0.853]                           |

27 to 34 minutes for the first command on 2 CPU cores without AVX-512; version 7 of the generator. On six
synthetic patients of an anatomy that no training case has: WT 0.77 to 0.88, TC 0.77 to 0.88, ET 0.63 to 0.88.
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
