"""FLAIR from T1 by a CycleGAN that saw no pairs, on synthetic tumours, held against the true FLAIR.

    python launch.py --config experiments/t1_to_flair.py:judge --workdir runs/flair_judge
    python launch.py --config experiments/t1_to_flair.py --config.eval.segmenter=runs/flair_judge

Each took about four minutes on 2 busy CPU cores, and 1.6 GB, with the generator before its last changes.
Half of the 27 training patients lend their T1, the others their FLAIR; the true FLAIR of the 10 test
patients is known, as they are simulated. With the lesion guard all networks see the labels beside the image;
`--config.cyclegan.guard=False` is without. One seed;
means and 95 % intervals over patients; errors in standard deviations of the brain:

| made FLAIR, whole tumour | guarded           | unguarded           | true FLAIR        |
|--------------------------|-------------------|---------------------|-------------------|
| contrast to noise        | 2.06 (1.58, 2.56) | -0.17 (-0.42, 0.09) | 2.27 (1.69, 2.90) |
| Dice of the judge        | 0.68 (0.58, 0.77) | 0.02 (0.01, 0.04)   | 0.80 (0.71, 0.88) |
| error in lesions         | 0.86 (0.78, 0.95) | 1.96 (1.65, 2.28)   |                   |
| error in the brain       | 0.64 (0.59, 0.69) | 0.86 (0.81, 0.90)   | T1 itself: 0.79   |

Unguarded, lesions vanish and bright ones appear in healthy white matter: the discriminator only asks that
there be some. The source's weights (10 for the cycle, 5 for identity) are for far more steps than these 3000:
in a trial of 1500 a cycle of 10 held the generators at T1's own contrast, so here the adversarial terms lead.
"""

from medjax.modes.defaults import Config, defaults


def get_config(part: str = "") -> Config:
    """The CycleGAN, or with "judge" the U-Net on true FLAIR whose Dice audits what it makes."""
    config = defaults("flair_judge" if part == "judge" else "t1_to_flair")
    config.synth.cases = 40
    config.data.folds = 4
    config.augment.flips = False
    config.train.validations = 5
    config.train.validation_batches = 4
    if part == "judge":
        config.data.channels = ("flair",)
        config.plan.width = 16
        config.plan.stages = 4
        config.plan.patch = (1, 80, 64)
        config.plan.batch = 8
        config.augment.strength = 0.5
        config.train.learning_rate = 3e-3
        config.train.steps = 1000
        config.eval.mirror = False
        return config
    config.data.channels = ("t1", "flair")
    config.plan.patch = (1, 64, 64)
    config.plan.batch = 2  # a slice of each contrast
    config.augment.strength = 0.0  # intensities are what is learned
    config.train.paradigm = "cyclegan"
    config.train.steps = 3000
    config.train.learning_rate = 1e-3
    config.train.beta1 = 0.5
    config.train.weight_decay = 0.0
    config.train.schedule = "late_linear"
    config.train.warmup = 0
    config.train.clip = 0.0
    config.train.foreground = 0.5
    config.train.precision = "float32"
    config.cyclegan.cycle = 1.0
    config.cyclegan.identity = 0.0
    return config
