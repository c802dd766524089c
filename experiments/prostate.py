"""Segmentation, diagnosis and detection of prostate cancer on phantoms of biparametric MRI.

    python launch.py --config experiments/prostate.py --workdir runs/prostate

Every patient is made by `medjax.sim.prostate`: what is learned here says how the parts work together, and
nothing of real patients. Three minutes on 2 CPU cores; of 100 unseen ones: Dice of the transition zone 0.81,
of the peripheral zone 0.80, of lesions 0.44 [0.37, 0.50]; significant cancer or not with an accuracy of 0.78
[0.70, 0.86]; lesions found with a CPM of 0.82 [0.74, 0.88].
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
