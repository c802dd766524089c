"""A minute's run on a few small synthetic patients: what the tests run.

    python launch.py --config experiments/quick.py --workdir runs/quick
    python launch.py --config experiments/quick.py --workdir runs/sweep --mode sweep --config.sweep.trials=8

Takes about a minute on 2 cores. The scores mean little: it shows that every part works together.
"""

from medjax.modes.defaults import Config, defaults


def get_config() -> Config:
    """Six patients of 4 mm, a tiny net, 12 steps."""
    config = defaults("quick")
    config.synth.cases = 6
    config.synth.spacing = 4.0
    config.data.folds = 3
    config.data.validation = 0.25
    config.plan.patch = (16, 24, 24)
    config.plan.batch = 4
    config.plan.width = 4
    config.plan.stages = 2
    config.train.steps = 12
    config.train.warmup = 2
    config.train.learning_rate = 1e-2
    config.train.validations = 3
    config.train.validation_batches = 2
    config.train.log_every = 1
    config.eval.mirror = False
    return config


def get_sweep() -> dict[str, tuple]:
    """What `--mode sweep` varies."""
    return {
        "train.optimizer": ("choice", "adamw", "sgd"),
        "train.learning_rate": ("log", 1e-3, 1e-1),
        "train.momentum": ("float", 0.8, 0.99, {"train.optimizer": "sgd"}),
        "plan.width": ("choice", 4, 8),
    }
