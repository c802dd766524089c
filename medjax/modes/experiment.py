"""From a config to the parts of a run: data set, split, plan."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from medjax.data.annotations import annotated, with_drawn
from medjax.data.cases import Case, Dataset
from medjax.data.fingerprint import fingerprint
from medjax.data.identity import join_duplicates
from medjax.data.layouts import open_dataset
from medjax.data.phantom import SPLIT
from medjax.data.plan import Plan, make_plan, read_plan
from medjax.data.splits import Split, read_split, split
from medjax.errors import UserError
from medjax.io.files import RASTER
from medjax.losses.classification import UNKNOWN
from medjax.modes import phantoms, synthetic
from medjax.modes.defaults import Config, defaults
from medjax.modes.folders import user_cache
from medjax.progress import bar, console
from medjax.train import results
from medjax.train.results import read_json, write_json

MOST_CPU_REPLICAS = 8
SEMI = ("mean_teacher", "ua_mt", "cps", "unimatch", "bcp")  # learn with and without labels
UNLABELLED = (*SEMI, "masked")  # also train on cases without labels


@dataclass(frozen=True)
class Experiment:
    """What a run is made of once its data are known."""

    config: Config
    workdir: Path
    dataset: Dataset
    split: Split
    plan: Plan

    def cases(self, ids: Sequence[str], *, labels: bool = True) -> list[Case]:
        """The cases of one part of the split, in its order, on demand as if nobody had labelled them."""
        by_id = {case.id: case for case in self.dataset.cases}
        found = [by_id[i] for i in ids]
        return found if labels else [case.bare() for case in found]

    def targets(self, cases: Sequence[Case]) -> list[int]:
        """The class of each case, -1 where nobody said; nothing where no classes are learned."""
        if "classification" not in self.config.tasks.learn:
            return []
        return [UNKNOWN if case.target is None else case.target for case in cases]

    @property
    def spacing(self) -> tuple[float, ...]:
        """The spacing that was given because the files lost theirs, or ()."""
        return tuple(self.config.data.spacing)


def start_jax() -> None:
    """Sets JAX up for a run, before it looks for devices.

    Compiled programs are kept per user, or where JAX_COMPILATION_CACHE_DIR says, so the second run starts in
    seconds. On CPU each core is a device:
    replicas side by side keep the cores busier than one program with threads inside (1.4 times the steps on
    2 cores).
    """
    if jax.config.values["jax_num_cpu_devices"] < 0:  # nobody has chosen
        jax.config.update("jax_num_cpu_devices", min(results.cores(), MOST_CPU_REPLICAS))
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    folder = user_cache("xla")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        console.print(f"{folder}: no compilation cache ({error})")
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def open_data(config: Config) -> Dataset:
    """The data set of the config: the folder given, or phantoms or synthetic cases made for the run.

    Errors: no folder where the experiment has no synthetic cases; what `open_dataset` raises.
    """
    data, root, made = config.data, config.data.root, None
    if not root and config.phantom.train:
        root = str(phantoms.make(config))
    elif not root:
        if not config.synth.cases:
            raise UserError("config.data.root: is unset; give the folder of your data set")
        root, made = synthetic.make(config)
    convention = data.convention or (synthetic.recipe(config).convention.name if made else "")
    dataset = open_dataset(root, data.layout, channels=tuple(data.channels), convention=convention)
    dataset = with_tables(config, dataset, root)
    cases = dataset.cases
    if made is not None:  # a cache shared by runs of other sizes may hold more
        cases = tuple(case for case in cases if case.id in made)
    if data.cases:
        cases = cases[: data.cases]
    joined, notes = join_duplicates(cases)
    return replace(dataset, cases=joined, assumed=(*dataset.assumed, *notes))


def with_tables(config: Config, dataset: Dataset, root: str) -> Dataset:
    """What the tables of the folder say of its cases: targets.csv and objects.csv where that is learned."""
    dataset = with_drawn(dataset, Path(root))
    if set(config.tasks.learn) <= {"segmentation"}:
        return dataset
    return annotated(dataset, Path(root))


def assumptions(config: Config, dataset: Dataset) -> dict[str, Any]:
    """What the run takes for granted without having read it; marked in every result."""
    assumed: dict[str, Any] = {f"decided {i + 1}": text for i, text in enumerate(dataset.assumed)}
    if len(config.data.spacing):
        assumed["spacing"] = [float(s) for s in config.data.spacing]
    elif any(case.images[0].lower().endswith(RASTER) for case in dataset.cases):
        assumed["pixel size"] = "1 mm, as pictures carry none; mm are pixels then"
    return assumed


def claim(config: Config, workdir: Path) -> dict[str, Any]:
    """Writes config.json, or checks that the work folder holds a run of this very config.

    Returns the stored config. A step count that was derived from `train.minutes` is stored in it
    and kept. A run that never got as far as a plan (a wrong path, say) has nothing to protect.
    """
    path = workdir / "config.json"
    wanted = json.loads(config.to_json_best_effort())
    if not path.is_file() or not (workdir / "plan.json").is_file():
        write_json(path, wanted)
        return wanted
    stored = in_full(read_json(path))
    derived = wanted["train"]["minutes"] > 0
    before, now = leaves(stored), leaves(wanted)
    changed = [
        key
        for key in now.keys() | before.keys()
        if now.get(key) != before.get(key)
        and not (derived and key == "train.steps")
        and not key.startswith(("eval.", "export."))
        and key not in ("mode", "steps_timed")
    ]
    if changed:
        raise UserError(
            f"{workdir}: holds a run of another config ({', '.join(sorted(changed))} differ); "
            "use another --workdir or remove it"
        )
    return stored


def stored_config(config: Config, workdir: Path) -> Config:
    """The config a work folder was trained with; how to judge and to export follows the command line."""
    path = workdir / "config.json"
    if not path.is_file():
        raise UserError(f"{workdir}: holds no trained run; train first, or give its --workdir")
    stored = in_full(read_json(path))
    stored.pop("steps_timed", None)
    merged = ConfigDict(stored)
    merged.eval, merged.export = config.eval, config.export
    return merged.lock()


def in_full(stored: dict[str, Any]) -> dict[str, Any]:
    """The content of a config.json with the defaults of the keys that are younger than it."""

    def fill(known: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        deeper = {k: fill(v, given.get(k, {})) for k, v in known.items() if isinstance(v, dict)}
        return {**known, **given, **deeper}

    return fill(json.loads(defaults("").to_json_best_effort()), stored)


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of nested sections by `section.key`."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= leaves(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value
    return found


def changed(config: Config, changes: Mapping[str, Any], where: str) -> Config:
    """A copy of a config with other values by `section.key`. Errors name `where` and the key."""
    made = config.copy_and_resolve_references()
    try:
        made.update_from_flattened_dict(changes)
    except (KeyError, TypeError, ValueError) as error:
        text = " ".join(str(error).split())[:120]
        raise UserError(f"{where}: {text}; see medjax/modes/defaults.py") from error
    return made


def check_tasks(config: Config, dataset: Dataset) -> None:
    """Whether the data set can teach what is to be learned. Errors name the key."""
    tasks = config.tasks
    if "classification" in tasks.learn and len(dataset.targets) < 2:
        raise UserError(
            "tasks.learn: classification needs cases of two classes or more; name them in a targets.csv "
            "(case,target) in the folder of the data set"
        )
    if "detection" in tasks.learn:
        known = (*dataset.convention.classes[1:], *(r.name for r in dataset.convention.regions))
        listed = any(case.objects is not None for case in dataset.cases)
        if tasks.objects not in known and not (listed and tasks.objects):
            raise UserError(
                f"tasks.objects: {tasks.objects!r} is no class or region of this data set; choose one of "
                f"{', '.join(known)}, or list the objects in an objects.csv in its folder"
            )


def parted(config: Config, cases: Sequence[Case]) -> Split:
    """Who trains, validates and is tested: as `data.split` or phantoms say, or dealt out by the seed."""
    data = config.data
    own = data.split
    if not (own or data.root) and config.phantom.train:
        own = phantoms.folder(config) / SPLIT
    given = {"fold": data.fold, "validation": data.validation, "seed": config.seed}
    if own:
        return read_split(Path(own), cases, config.tasks.learn, **given)
    given |= {"folds": data.folds, "train_cases": data.train_cases}
    return split(cases, tasks=config.tasks.learn, **given)


def check_parts(config: Config, parts: Split) -> None:
    """Whether there is what the paradigm learns from. Errors name the key."""
    if config.train.paradigm in SEMI and not parts.unlabelled:
        raise UserError(
            f"train.paradigm: {config.train.paradigm} learns from cases without labels too, and there are "
            "none; add some (imagesUn, or cases without a label file), or set data.train_cases"
        )


def prepare_experiment(config: Config, workdir: Path) -> Experiment:
    """Data, split.json and plan.json of a work folder: made at first, read afterwards."""
    dataset = open_data(config)
    for finding in dataset.findings[:10]:
        console.print(f"{finding.file}: {finding.kind}: {finding.message}")
    if len(dataset.findings) > 10:
        console.print(
            f"... {len(dataset.findings) - 10} more findings; see them with --mode verify"
        )
    check_tasks(config, dataset)
    parts = parted(config, dataset.cases)
    check_parts(config, parts)
    split_path = workdir / "split.json"
    if split_path.is_file():
        stored = json.loads(split_path.read_text("utf-8"))
        if stored["sha256"] != parts.sha256():
            raise UserError(
                f"{split_path}: the data set has changed since this run began; use another --workdir"
            )
    else:
        write_json(split_path, {**asdict(parts), "sha256": parts.sha256()})
    plan_path = workdir / "plan.json"
    if plan_path.is_file():
        return Experiment(config, workdir, dataset, parts, read_plan(plan_path))
    by_id = {case.id: case for case in dataset.cases}
    found = fingerprint(
        [by_id[i] for i in parts.train],
        dataset,
        spacing=tuple(config.data.spacing),
        seed=config.seed,
        progress=bar("reading training cases"),
    )
    plan = make_plan(
        found,
        dataset,
        memory_gb=config.plan.memory_gb,
        width=config.plan.width,
        stages=config.plan.stages,
        batch=config.plan.batch,
        patch=tuple(config.plan.patch),
        spacing=tuple(config.plan.spacing),
        objects=config.tasks.objects if "detection" in config.tasks.learn else "",
        assumed=assumptions(config, dataset),
    )
    plan.write(plan_path)
    return Experiment(config, workdir, dataset, parts, read_plan(plan_path))
