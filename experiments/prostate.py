"""Segmentation, diagnosis and detection of prostate cancer on phantoms of biparametric MRI.

    python launch.py --config experiments/prostate.py --workdir runs/prostate

Every patient is made by `medjax.sim.prostate`: what is learned here says how the parts work together, and
nothing of real patients.
"""

from medjax.modes.defaults import Config, defaults


def get_config() -> Config:
    """One small network with three heads on whole glands."""
    config = defaults("prostate")
    config.phantom.train = 100
    config.plan.patch = (16, 48, 48)
    config.plan.batch = 2
    config.plan.width = 8
    config.plan.stages = 4
    config.tasks.learn = ("segmentation", "classification", "detection")
    config.tasks.objects = "lesion"
    config.tasks.rule = "uncertainty"
    config.augment.flips = False
    config.augment.strength = 0.5
    config.train.steps = 1500
    config.train.learning_rate = 3e-3
    config.train.validations = 4
    config.eval.mirror = False
    config.eval.largest_component = False
    return config
