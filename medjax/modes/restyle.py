"""From `synth.translate` to synthetic patients of which a trained CycleGAN makes one contrast."""

from pathlib import Path

import numpy as np

from medjax.data.fresh import Image, Label, Restyle
from medjax.data.plan import read_plan
from medjax.errors import UserError
from medjax.modes import cyclegan, experiment, trained
from medjax.modes.experiment import Experiment
from medjax.train import results, state
from medjax.train.fidelity import translate_prepared, translator

TILES = 8
ALIKE = ("channels", "spacing", "axes", "normalisation", "names")  # of both plans


def restyle(run: Experiment) -> Restyle | None:
    """What the CycleGAN of `synth.translate` does to patients of this run; None where it is unset.

    Errors: no CycleGAN there, one of other channels, grid or classes, one that saw a test case.
    """
    chosen, plan = run.config.synth, run.plan
    if not chosen.translate:
        return None
    if not 0 <= chosen.translated <= 1:
        raise UserError(f"synth.translated: {chosen.translated} is no share; give 0 to 1")
    folder = Path(chosen.translate)
    config = experiment.stored_config(run.config, folder)
    if config.train.paradigm != "cyclegan":
        raise UserError(
            f"synth.translate: {folder} holds no CycleGAN; train one (train.paradigm) and give that"
        )
    its_plan = read_plan(folder / "plan.json")
    differ = [name for name in ALIKE if getattr(its_plan, name) != getattr(plan, name)]
    if differ:
        raise UserError(
            f"synth.translate: {folder}: its {', '.join(differ)} are not this run's; make them equal"
        )
    known = trained.met(config, folder, run.split.test)
    if known:
        raise UserError(
            f"synth.translate: {folder} was trained with {known[0]}, a test case of this run; "
            "train it with the same data, fold and seed"
        )
    nets = cyclegan.build_networks(config, its_plan)
    found, facts = trained.restored(config, folder, cyclegan.start_state(config, its_plan, nets))
    forward = translator(nets, state.weights(found))

    def apply(image: Image, label: Label) -> Image:
        made = translate_prepared(image, label, forward, nets, its_plan, tiles=TILES)[..., 0]
        brain = np.any(image != 0, axis=-1)
        changed = image.copy()
        changed[..., nets.target] = np.where(brain, made, 0)
        return changed

    name = results.sha256([results.read_json(folder / "config.json"), facts["step"]])
    return Restyle(apply, chosen.translated, name)
