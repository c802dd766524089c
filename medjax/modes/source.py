"""A trained run as what an export starts from, and a model file in the place of a trained run."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Shaped, UInt8

from medjax.data.cases import Case
from medjax.data.plan import Plan
from medjax.data.prepare import Scan, load
from medjax.deploy.export.describe import facts_of
from medjax.deploy.facts import Facts
from medjax.deploy.prove import Net
from medjax.deploy.runtime import Model
from medjax.errors import UserError
from medjax.infer.findings import Finder, Findings
from medjax.infer.predictor import Predictor
from medjax.modes import build, experiment
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.modes.trained import (
    build_finder,
    build_predictor,
    kept_largest,
    load_weights,
    mirror_axes,
)
from medjax.train import results

ENOUGH = 3  # validation cases, to judge an export by


@dataclass(frozen=True)
class Source:
    """A trained run: its network as a function of windows and of scans, and what its file says of it."""

    run: Experiment
    model: build.Network
    net: Net
    predictor: Predictor
    finder: Finder
    facts: Facts


def source(config: Config, workdir: Path) -> Source:
    """The run of a work folder, in float32. Errors: nothing trained there, or nothing that is exported."""
    config = experiment.stored_config(config, workdir)
    with config.unlocked():
        config.train.precision = "float32"
    known = {"segmentation", "classification"} & {*config.tasks.learn}
    if config.train.paradigm in ("cyclegan", "masked") or not known:
        raise UserError(
            f"{workdir}: holds no network that segments or classifies; give the folder of one"
        )
    run = experiment.prepare_experiment(config, workdir)
    plan = run.plan
    model, params, told = load_weights(config, plan, workdir)
    kept = kept_largest(plan, workdir)
    facts = facts_of(
        plan,
        overlap=config.eval.overlap,
        mirror_axes=mirror_axes(config, plan),
        keep_largest=kept,
        given_spacing=run.spacing,
        provenance={
            "experiment": config.name,
            "commit": results.commit(),
            "config_sha256": results.sha256(results.read_json(workdir / "config.json")),
            "data": run.dataset.name,
            "split_sha256": run.split.sha256(),
            "step": told["step"],
            "versions": results.versions(),
        },
    )
    net = Net(
        lambda p, x: model.apply({"params": p}, x, False)[0], params, plan.exclusive, facts.divisor
    )
    predictor = replace(build_predictor(config, plan, model, params), keep_largest=kept)
    return Source(run, model, net, predictor, build_finder(config, plan, model, params), facts)


def dense(ours: Source) -> Source:
    """The run whose whole network a pruned one was made of, or the run itself."""
    config = ours.run.config
    while config.train.start_from and ours.run.plan.pruned:
        ours = source(config, Path(config.train.start_from))
        config = ours.run.config
    return ours


def held_out(run: Experiment) -> tuple[str, list[Case]]:
    """The cases that an export is judged by, and what part they are: validation, or test where it is small.

    Errors: none with labels.
    """
    for part, least in (("validation", ENOUGH), ("test", 1)):
        cases = told(run, part)
        if len(cases) >= least:
            return part, cases
    raise UserError(f"{run.workdir}: no validation or test case has labels to judge an export by")


def told(run: Experiment, part: str) -> list[Case]:
    """The cases of a part of the split of which something that the run learns is known."""
    return [
        case for case in run.cases(getattr(run.split, part)) if case.tells(run.config.tasks.learn)
    ]


@dataclass(frozen=True)
class FromFile:
    """A model file in the place of a predictor; what it says goes by the values of its own labels."""

    model: Model
    plan: Plan

    def labels(self, scan: Scan, name: str) -> UInt8[np.ndarray, "x y z"]:
        """Class indices of the plan on the RAS+ grid of the scan."""
        return self.plan.labels.encode(self.values(scan, name))

    def values(self, scan: Scan, name: str) -> Shaped[np.ndarray, "x y z"]:
        """The label map in the values of the file."""
        return self.model.facts.labels.decode(self.model.labels(scan, name))

    def __call__(self, scan: Scan, name: str) -> Findings:
        """The probability of each class of the plan, by its name in the file; no objects."""
        p = dict(zip(self.model.facts.targets, self.model.classes(scan, name), strict=True))
        return Findings(np.array([p[target] for target in self.plan.targets]), None)


def classes(ours: Source, model: Model, cases: Sequence[Case]) -> float:
    """The largest difference of the probabilities of JAX and of a model file."""
    plan, worst = ours.run.plan, 0.0
    for case in cases:
        scan = load(case, plan.labels, len(plan.channels), spacing=ours.run.spacing)
        wanted, found = ours.finder(scan, case.id), FromFile(model, plan)(scan, case.id)
        assert wanted.classes is not None
        assert found.classes is not None
        worst = max(worst, float(np.abs(wanted.classes - found.classes).max()))
    return worst


def masks(ours: Source, model: Model, cases: Sequence[Case]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each case the label map of JAX and that of a model file, in the values of files."""
    found = []
    plan = ours.run.plan
    for case in cases:
        scan = load(case, plan.labels, len(plan.channels), spacing=ours.run.spacing)
        wanted = plan.labels.decode(ours.predictor.labels(scan, case.id))
        found.append((wanted, FromFile(model, plan).values(scan, case.id)))
    return found
