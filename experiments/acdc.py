"""Left and right ventricle and myocardium from cardiac cine MR: strongly anisotropic stacks (ACDC layout).

    python launch.py --config experiments/acdc.py --config.data.root=DIR

The plan keeps kernels 1 x 3 x 3 until the in-plane spacing has come near the slice distance. Where
the files lost their spacing, say it: `--config.data.spacing='(1.5, 1.5, 10)'`; it is marked assumed
everywhere.

About 16 minutes on 2 CPU cores and 2.5 GB; 80 volumes of 40 patients, fold 0 of 5 (56 train, 6 validate,
18 test) at the assumed spacing: Dice RV 0.71, myocardium 0.58, LV 0.77. In five of the 18 volumes so
short a run takes a structure for one elsewhere (Dice 0); train longer for use.
"""

from medjax.modes.defaults import Config, defaults


def get_config() -> Config:
    """A small U-Net, split by patient, end-diastole and end-systole of one patient together."""
    config = defaults("acdc")
    config.data.layout = "acdc"
    config.plan.width = 16
    config.plan.stages = 5
    config.plan.memory_gb = 0.5
    config.plan.batch = 2
    config.train.learning_rate = 3e-3
    config.train.steps = 800
    config.augment.flips = False  # hearts are not mirrored, and so few steps learn no mirror images
    config.eval.mirror = False
    return config
