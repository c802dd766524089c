"""`--mode predict`: label maps, classes and objects of each input; one bad file does not stop the others."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import jax

from medjax import progress
from medjax.data.cases import Case
from medjax.data.inputs import find_inputs
from medjax.data.plan import read_plan
from medjax.data.prepare import load
from medjax.deploy import runtime
from medjax.errors import UserError
from medjax.infer.ensemble import Ensemble, mean_of
from medjax.infer.findings import Finder
from medjax.infer.predictor import Predictor, native, suffix
from medjax.infer.restore import restore_channel, restore_labels
from medjax.io.files import write
from medjax.modes import experiment, members
from medjax.modes.defaults import Config
from medjax.modes.trained import build_finder, build_predictor, finds, kept_largest, load_weights
from medjax.space.volume import Volume
from medjax.train import findings, results

console = progress.console


def main(
    config: Config,
    workdir: Path,
    source: Path,
    output: Path,
    *,
    save_probabilities: bool = False,
) -> None:
    """Predicts every case under `source` into `output/CASE.nii.gz` (.png for pictures).

    With `save_probabilities` also `output/CASE_CLASS.nii.gz` per class or region, float32 in [0,
    1]. A model that tells classes or finds objects leaves classification.csv and detection.csv there. Errors:
    no trained run in the work folder, nothing to predict, and, at the end, the files
    that failed.
    """
    experiment.start_jax()
    config = experiment.stored_config(config, workdir)
    if config.train.paradigm in ("cyclegan", "masked"):
        raise UserError(
            f"{workdir}: holds a run of {config.train.paradigm}, which makes images; it predicts no labels"
        )
    runs = members.members(config, workdir)
    plans = [read_plan(folder / "plan.json") for _, folder in runs]
    members.same_grid(plans)
    plan = plans[0]
    cases = find_inputs(source, plan.channels)
    predictors, finders = zip(*[trained(*run) for run in runs], strict=True)
    predictor = Ensemble(predictors)
    finder = replace(finders[0], look=mean_of([own.look for own in finders]))
    if finds(config) and any(own.normalisation != plan.normalisation for own in plans):
        raise UserError(
            f"{workdir}: its runs normalise scans in different ways; predict with each alone"
        )
    if len(runs) > 1:
        console.print(f"predicting with the mean of {len(runs)} runs")
    spacing = tuple(config.data.spacing)
    segments = "segmentation" in config.tasks.learn
    failed, said = [], []
    for case in progress.bar("predicting")(cases):
        try:
            if finds(config):
                said.append(findings.say(case, finder, spacing=spacing))
            if segments:
                predict(case, predictor, output, spacing, save_probabilities=save_probabilities)
        except UserError as error:
            failed.append(str(error))
            console.print(f"{case.id}: {error}")
    if segments:
        console.print(f"made {len(cases) - len(failed)} of {len(cases)} label maps in {output}")
    for name in findings.write_findings(output, said, plan.targets):
        console.print(f"made {output / name}")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(cases)} inputs failed and the others are done: {'; '.join(failed)}"
        )


def trained(config: Config, workdir: Path) -> tuple[Predictor, Finder]:
    """One run as functions of scans."""
    plan = read_plan(workdir / "plan.json")
    model, params, told = load_weights(config, plan, workdir)
    predictor = build_predictor(config, plan, model, params)
    predictor = replace(predictor, keep_largest=kept_largest(plan, workdir))
    return by_file(predictor, workdir, told["step"]), build_finder(config, plan, model, params)


def by_file(predictor: Predictor, workdir: Path, step: int) -> Predictor:
    """On CPU, with the exported file of the same weights in float32; else as it is."""
    path = workdir / "export" / "model.onnx"
    if jax.default_backend() != "cpu" or not path.is_file() or predictor.divisor:
        return predictor
    provider = "openvino" if find_spec("openvino") else "onnxruntime"
    try:
        model = runtime.open_model(path, provider)
    except UserError as error:
        console.print(f"{error}; predicting without it")
        return predictor
    own = results.sha256(results.read_json(workdir / "config.json"))
    wanted = {"step": step, "config_sha256": own}
    made = {key: model.facts.provenance.get(key) for key in wanted}
    same = made == wanted and not model.facts.quantisation
    if not same or model.batch is not None or "seg" not in model.heads:
        return predictor
    console.print(f"predicting with {path} in {provider}")
    return replace(predictor, forward=model.forward)


def predict(
    case: Case,
    predictor: Ensemble,
    output: Path,
    spacing: Sequence[float],
    *,
    save_probabilities: bool,
) -> None:
    """One case to its files. Errors name the file."""
    plan = predictor.plan
    scan = load(case, plan.labels, len(plan.channels), spacing=spacing)
    found, geometry = predictor(scan, case.id)
    labels = restore_labels(found, geometry, plan.labels, keep_largest=predictor.keep_largest)
    write(native(labels, scan, plan), output / f"{case.id}{suffix(case, scan)}")
    if save_probabilities:
        for channel, name in enumerate(plan.names, start=int(plan.exclusive)):
            values = restore_channel(found[..., channel], geometry)
            volume = scan.orientation.undo(Volume(values, scan.affine))
            write(volume, output / f"{case.id}_{name}.nii.gz")
