"""Brain tumours in four MR contrasts: your BraTS folder, or synthetic patients that need no download.

    python launch.py --config experiments/brats_synth.py
    python launch.py --config experiments/brats_synth.py --config.data.root=DIR --workdir runs/mine
    python launch.py --config experiments/brats_synth.py --mode synthesize --workdir DIR

Without `data.root` 80 tumours are grown in deformations of the MNI152 template and scanned by physics (2 mm).
They share one parent anatomy: train and test differ by deformation and growth alone. Six minutes on 2 CPU
cores with AVX-512, eight without; Dice on eight unseen patients: WT 0.90 [0.84, 0.94], TC 0.87, ET 0.80. With
`--config.synth.label_maps=DIR` of ten anatomies, those of the test cases are seen by no training case: WT
0.85 [0.80, 0.90], TC 0.83, ET 0.65 on eight patients of one.
`make demo` takes half as many steps, five to six minutes with or without AVX-512: WT 0.88 [0.82, 0.93], TC
0.86, ET 0.79; with label maps WT 0.83 [0.76, 0.88], TC 0.82, ET 0.64.
420 steps on four patients of BraTS 2015 at 1 mm (FLAIR and T1c) are far too few: WT 0.69, TC 0.39, ET
0.62 on the two others.
"""

from medjax.modes.defaults import Config, defaults


def get_config() -> Config:
    """A U-Net on three overlapping regions (WT, TC, ET), sized for 2 CPU cores."""
    config = defaults("brats_synth")
    config.synth.cases = 80
    config.plan.width = 16
    config.plan.stages = 4
    config.plan.memory_gb = 0.25
    config.plan.batch = 2
    config.data.folds = 10
    config.train.learning_rate = 3e-3
    config.train.steps = 1000
    config.augment.flips = False  # so few steps are not enough to learn all eight mirror images
    config.augment.strength = 0.5
    config.train.validations = 5
    config.train.validation_batches = 4
    config.eval.mirror = False
    return config
