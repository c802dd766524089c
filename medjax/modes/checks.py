"""What a config may not say: refused before any data is read."""

from collections.abc import Sequence
from pathlib import Path

from medjax.errors import UserError
from medjax.modes import build, prune, quantise
from medjax.modes.defaults import Config
from medjax.modes.experiment import SEMI
from medjax.train.baseline import scores_of
from medjax.train.tasks import TERMS

TRUNKS = ("unet", "resnet50")


def check(config: Config, paradigms: Sequence[str]) -> None:
    """What can be wrong in a config before any data is read. Errors name the key."""
    train = config.train
    if train.paradigm not in paradigms:
        raise UserError(
            f"train.paradigm: {train.paradigm!r} is unknown; choose one of {', '.join(paradigms)}"
        )
    if train.precision not in build.PRECISIONS:
        known = ", ".join(build.PRECISIONS)
        raise UserError(f"train.precision: {train.precision!r} is unknown; choose {known}")
    build.optimizer(config)
    build.rate(config)
    if train.start_from and train.paradigm == "cyclegan":
        raise UserError(f"train.start_from: is for segmenters; unset it for {train.paradigm}")
    if train.start_from and train.paradigm == "cps" and config.semi.baseline:
        raise UserError(
            "semi.baseline: one network cannot start from the two of train.start_from; set it to False"
        )
    if not 0 <= config.synth.share <= 1:
        raise UserError(f"synth.share: {config.synth.share} is no share; give 0 to 1")
    if config.synth.share and train.paradigm == "cyclegan":
        raise UserError("synth.share: is for segmenters; set cyclegan.simulated for a CycleGAN")
    if train.paradigm in ("masked", "bcp") and config.model.deep_supervision:
        raise UserError(
            f"model.deep_supervision: {train.paradigm} learns at the finest level alone; unset it"
        )
    if config.synth.translate and not config.synth.share:
        raise UserError("synth.translate: changes the patients of synth.share, which is 0; set it")
    if config.eval.against:
        scores_of(Path(config.eval.against))
    _check_tasks(config)
    _check_semi(config)
    _check_masked(config)
    prune.check(config)
    quantise.check(config)
    if train.minutes <= 0 and train.steps < 1:
        raise UserError("train.steps: a run needs at least one step, or train.minutes")
    if train.batch_dice and train.accumulate > 1:
        raise UserError(
            "train.batch_dice: pools the whole batch, which train.accumulate splits; use one of them"
        )
    if not 0 <= train.foreground <= 1:
        raise UserError(f"train.foreground: {train.foreground} is no share; give 0 to 1")
    if train.validations < 1:
        raise UserError("train.validations: at least one, for the checkpoint at the end")


def _check_tasks(config: Config) -> None:
    """What the tasks of a config ask of the rest of it."""
    train, tasks = config.train, config.tasks
    strange = [task for task in tasks.learn if task not in TERMS]
    if strange or not tasks.learn or len(set(tasks.learn)) < len(tasks.learn):
        raise UserError(
            f"tasks.learn: {', '.join(tasks.learn) or 'nothing'}; choose from {', '.join(TERMS)}, each once"
        )
    build.rule(config)
    beside = [task for task in tasks.learn if task != "segmentation"]
    if beside and train.paradigm not in ("supervised", "mean_teacher", "ua_mt"):
        raise UserError(
            f"tasks.learn: {train.paradigm} learns no {beside[0]}; choose supervised or mean_teacher"
        )
    if "segmentation" not in tasks.learn and train.paradigm != "supervised":
        raise UserError(f"tasks.learn: {train.paradigm} needs segmentation")
    if beside and config.synth.share:
        raise UserError(f"synth.share: synthetic patients teach no {beside[0]}; set it to 0")
    trunk = config.model.trunk
    if trunk not in TRUNKS:
        raise UserError(f"model.trunk: {trunk!r} is unknown; choose {' or '.join(TRUNKS)}")
    if trunk == "resnet50" and tuple(tasks.learn) != ("classification",):
        raise UserError("model.trunk: resnet50 classifies; set tasks.learn to ('classification',)")
    if tasks.rule != "static" and (train.accumulate > 1 or len(tasks.learn) < 2):
        raise UserError(
            f"tasks.rule: {tasks.rule} weighs two tasks or more of a whole batch; set it to static, or "
            "give tasks.learn and train.accumulate=1"
        )


def _check_semi(config: Config) -> None:
    """What the paradigms ask that learn from cases without labels too, beside those with."""
    own, name = config.semi, config.train.paradigm
    if name not in SEMI:
        return
    if not config.train.ema:
        raise UserError(
            f"train.ema: the teacher of {name} is the running mean of the weights; set it"
        )
    if config.synth.share:
        raise UserError(f"synth.share: is not for {name}; set it to 0")
    if own.unlabelled < 1:
        raise UserError("semi.unlabelled: at least one patch without a label for each with one")
    if name == "bcp" and own.unlabelled != 1:
        raise UserError("semi.unlabelled: bcp mixes one with one; set it to 1")
    if own.passes < 2 and name == "ua_mt":
        raise UserError("semi.passes: ua_mt needs two or more to see where the teacher is unsure")
    for key in ("ramp", "confidence", "tearing", "pretrain"):
        if not 0 <= own[key] <= 1:
            raise UserError(f"semi.{key}: {own[key]} is no share; give 0 to 1")


def _check_masked(config: Config) -> None:
    """What `masked` hides of a patch."""
    own = config.masked
    if config.train.paradigm == "masked" and (own.block < 1 or not 0 < own.share < 1):
        raise UserError("masked.block: at least 1 voxel, and masked.share above 0 and below 1")
