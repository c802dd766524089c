"""Trained on synthetic patients alone, judged on real ones.

    python launch.py --config experiments/synthetic_only.py --config.synth.label_maps=MAPS --workdir RUN
    python launch.py --config experiments/synthetic_only.py --mode eval --config.eval.root=DIR --workdir RUN

MAPS: label maps of healthy heads; DIR: a BraTS folder with FLAIR and T1ce. 60 patients of 1 mm, a network
at 2 mm. With ten label maps, on six patients of BraTS 2015 (FLAIR and T1c, as published with DeepMedic):

| Dice | seed 0 | seed 1 | seed 2 | mean [95 %, bootstrap over seeds and patients] |
|------|--------|--------|--------|------------------------------------------------|
| WT   | 0.849  | 0.833  | 0.835  | 0.839 [0.763, 0.890]                           |
| TC   | 0.708  | 0.708  | 0.723  | 0.713 [0.606, 0.815]                           |
| ET   | 0.771  | 0.766  | 0.778  | 0.772 [0.675, 0.845]                           |

21 minutes for both commands on 2 CPU cores with AVX-512, 26 to 28 without; version 9 of the generator. With
the same seeds version 8 had 0.833 [0.744, 0.890], 0.705 and 0.776, version 7, whose scans a classifier tells
from real ones more easily, 0.859 [0.800, 0.903], 0.743 and 0.791: from 7 to 8 the paired difference in WT is
-0.026 [-0.060, -0.003]. What looks more real does not train better for that. Four of the six whole tumours
are drawn at 0.5 to 0.9 of their volume, three of the cores, dark in FLAIR as fluid is, at 0.4 to 0.7. On six
synthetic patients of an anatomy that no training case has: WT 0.82 to 0.85, TC 0.77 to 0.86, ET 0.64 to 0.84.
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
