"""What do cases without labels give? The claims `labels` on the hippocampus and `labels_heart` on hearts.

    python launch.py --config experiments/claims/labels.py --config.data.root=DIR/Task04_Hippocampus \
        --workdir runs/labels
    python launch.py --config experiments/claims/labels.py:heart --config.data.root=DIR/acdc \
        --workdir runs/labels_heart

A tenth of the scans that train keep their labels, drawn anew by each seed; the labels of the others are never
read. All arms take as many steps on as many patches. `labelled` learns from the tenth alone and `full`
from all labels; what is claimed is the share of the way between them. Three arms are repeated with other
numbers of labels, for the curve of what a label is worth. The plan (patch, normalisation) is made from the
cases that train with their labels, which are fewer than `full` has.

Scans of hearts are counted one a patient as far as there are patients: seven labelled scans are of seven,
and the other scan of each of them has no label.

Tried on seed 0, fold 0 of the hippocampus (42 test cases, mean Dice), 16 labels:

    steps                  600    1200   2400
    labelled              0.826  0.824  0.823
    mean_teacher          0.827         0.833
    unimatch              0.825         0.837
    bcp                   0.826  0.836  0.842
    full                  0.849  0.855  0.858

After 600 steps `strong` had 0.826 and `cps` 0.827: too few for 16 labels to run out. With 8 labels and 600
steps `labelled` had 0.812, `mean_teacher` 0.820, `bcp` 0.829. A tenth of its weight left `mean_teacher` at
0.825 (2400 steps), ten times as much at 0.815 (600). `bcp` stayed at 0.842 with the augmentation of `strong`
and at 0.8425 with twice its weight; 4800 steps brought it to 0.845. All of these judged the two parts of a
patch apart. Judged as a whole, as its Dice is meant, it had 0.844 on seed 0 after 2400 steps, and 0.842 where
only half of the patches exchanged a box.

On hearts, seed 0, fold 0, `full` had a mean Dice of 0.763 after 600 steps at 3 mm and a width of 16, 0.785
at 2.5 mm in twice the time, 0.816 after 1200 steps at 3 mm, and 0.790 at a width of 8 in half of that time,
which the claim takes: 54 runs of three minutes and more on two CPU cores. It shows what labels are worth
there, not how well a heart can be segmented.

The records of `bcp` are of whole patches. The change was made after the first records, of parts, had fallen
short, so that for `bcp` the test cases of seeds 1 and 2 were opened twice: with 16 labels it had 0.841 and
0.829 by parts, 0.840 and 0.827 as a whole, which is no gain.
"""

from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from medjax.errors import UserError
from medjax.modes.defaults import Config, defaults

HERE = Path(__file__).parent
Stage = dict[str, Any]

# Beside what the segmenter sees anyway: it bends, is scaled further, and has faults of a scanner.
STRONG: Stage = {
    "augment.elastic": (3.0, 24.0),
    "augment.scale": (0.6, 1.6),
    "augment.scanner": 0.2,
}
METHODS = ("mean_teacher", "ua_mt", "cps", "unimatch", "bcp")
REPEATED = ("labelled", "mean_teacher", "bcp")  # with other numbers of labels


def get_config(part: str = "labels") -> Config:
    """The claim on the hippocampus, or on the `heart`."""
    if part not in ("labels", "heart"):
        raise UserError(f"labels.py:{part}: give :heart or nothing")
    config = defaults("labels" if part == "labels" else "labels_heart")
    config.mode = "claims"
    common(config)
    if part == "labels":
        hippocampus(config)
        few, others = 16, (4, 8, 40)  # of 166 that are not tested: 2.5, 5, 10 and 25 %
    else:
        heart(config)
        few, others = 7, (1, 3, 30)

    claim = ConfigDict()
    claim.name = config.name
    claim.rules = str(HERE / "claims.yaml")
    claim.results = str(HERE / "results")
    claim.page = str(HERE.parents[1] / "CLAIMS.md")
    claim.seeds = (1, 2, 3)
    claim.folds = (0,)  # the seed deals the folds and draws the labels
    claim.arms = arms(config.train.steps, few, others)
    with config.unlocked():
        config.claim = claim
    return config


def common(config: Config) -> None:
    """As in `experiments/hippocampus.py` and `acdc.py`, but for the validation that nothing here needs."""
    config.data.validation = 0.0
    config.plan.width = 16
    config.train.learning_rate = 3e-3
    config.train.validations = 1
    config.augment.flips = False
    config.semi.baseline = False  # it is an arm
    config.eval.mirror = False
    config.eval.largest_component = False


def hippocampus(config: Config) -> None:
    """Whole crops at 2 mm."""
    config.data.layout = "msd"
    config.plan.spacing = (2.0, 2.0, 2.0)
    config.plan.patch = (20, 28, 20)
    config.plan.stages = 3
    config.plan.batch = 4
    config.train.steps = 2400


def heart(config: Config) -> None:
    """Slices of the heart, whose files lost their spacing."""
    config.data.layout = "acdc"
    config.data.spacing = (1.5, 1.5, 10.0)
    config.plan.spacing = (10.0, 3.0, 3.0)
    config.plan.patch = (8, 48, 48)
    config.plan.width = 8
    config.plan.stages = 4
    config.plan.batch = 4
    config.train.steps = 1200


def arms(steps: int, few: int, others: tuple[int, ...]) -> dict[str, tuple[Stage, ...]]:
    """Each arm as its stages; those with other numbers of labels have the number at their end."""
    single: dict[str, Stage] = {
        "labelled": {},
        "strong": STRONG,
        **{name: {"train.paradigm": name} for name in METHODS},
    }
    rebuilds = {"train.paradigm": "masked", "train.steps": steps // 3}
    made: dict[str, tuple[Stage, ...]] = {name: (stage,) for name, stage in single.items()}
    made["masked"] = rebuilds, {"train.steps": steps - steps // 3}
    made["full"] = ({"data.train_cases": 0},)  # all
    for count in others:
        made |= {
            f"{name}_{count}": (single[name] | {"data.train_cases": count},) for name in REPEATED
        }
    return {arm: tuple({"data.train_cases": few, **s} for s in own) for arm, own in made.items()}
