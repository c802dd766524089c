"""Vessels in retinal photographs, 2-D (CHASE_DB1 and DRIVE layouts); CHASE_DB1 is split by child.

    python launch.py --config experiments/vessels.py --config.data.root=DIR

Eight minutes on 2 CPU cores and 2.1 GB; CHASE_DB1, fold 0 of 5 (20 train, 2 validate, 6 test): Dice
0.785 against the first observer. Photographs carry no pixel size: distances are in pixels.
"""

from medjax.modes.defaults import Config, defaults


def get_config() -> Config:
    """A 2-D U-Net on colour patches: depth 1, kernels 1 x 3 x 3."""
    config = defaults("vessels")
    config.plan.patch = (1, 256, 256)
    config.plan.batch = 4
    config.plan.width = 16
    config.plan.stages = 4
    config.train.learning_rate = 3e-3
    config.train.steps = 600
    config.train.foreground = 0.0
    config.eval.mirror = False
    config.eval.largest_component = False
    return config
