"""`--mode synthesize`: makes synthetic cases in the work folder, shows them, and judges how real they are."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from medjax import progress
from medjax.data.cases import Case
from medjax.data.convention import Convention
from medjax.data.layouts import open_dataset
from medjax.data.prepare import Scan, load
from medjax.data.recipe import Recipe
from medjax.data.synthetic import SUFFIXES
from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.modes import experiment, synthetic
from medjax.modes.defaults import Config
from medjax.train import appearance, contact, realism, results
from medjax.train.report.synthesis import write_page

console = progress.console
SHOWN = 12  # cases of each set on the contact sheet
MOST_CASES = 60  # of each set that are compared: what the judge's slices may take of the memory
# How data sets name the contrasts of `signal.PRESETS`, in small letters.
NAMES = {
    "T1": ("t1", "t1n", "t1w"),
    "T1ce": ("t1ce", "t1c", "t1gd", "t1post"),
    "T2": ("t2", "t2w"),
    "FLAIR": ("flair", "t2f"),
    "PD": ("pd", "pdw"),
    "bSSFP": ("bssfp", "ssfp"),
}


@dataclass(frozen=True)
class Source:
    """A set of cases and how to read them: `picks` are the channels to compare, of `channels` in a case."""

    title: str
    cases: Sequence[Case]
    convention: Convention
    channels: int
    picks: Sequence[int]
    spacing: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Seen:
    """What is kept of a case: its row of the sheet where it is shown, slices, figures."""

    case: Case
    row: contact.Row | None
    slices: Float32[np.ndarray, "n h w c"]
    figures: dict[str, float]


def main(config: Config, workdir: Path) -> None:
    """Cases in BraTS layout, contact_sheet.png and synthesis.html; realism.json where real ones are beside.

    Errors before anything is made: no synth.cases, a synth.beside without a common contrast.
    """
    if config.synth.cases < 1:
        raise UserError("synth.cases: there is nothing to make; give --config.synth.cases=24, say")
    experiment.start_jax()
    wanted = synthetic.recipe(config)
    contrasts, real = _beside(config, wanted.contrasts)
    _, names = synthetic.make(config, workdir)
    made = _made(workdir, sorted(names), wanted, contrasts)
    sources = [made, real] if real else [made]
    seen = [_look(source, contrasts) for source in sources]
    structures = _structures(made.convention)
    rows = [[s.row for s in part if s.row] for part in seen]
    blocks = [(source.title, part) for source, part in zip(sources, rows, strict=True)]
    sheet = workdir / "contact_sheet.png"
    with atomic(sheet) as temporary:
        contact.sheet(blocks, contrasts, structures).save(temporary)
    content: dict[str, Any] = {
        "experiment": config.name,
        "commit": results.commit(),
        "seed": config.seed,
        "device": results.device(),
        "versions": results.versions(),
        "cases": config.synth.cases,
        "contrasts": list(contrasts),
        "recipe": wanted.facts(),
    }
    written = ["contact_sheet.png", "synthesis.html"]
    if real:
        content |= _judge(seen[1], seen[0], config.seed)
        content["beside"] = {"name": real.title, "cases": len(seen[1])}
        results.write_json(workdir / "realism.json", content)
        written.append("realism.json")
    else:  # of a run before, beside other cases
        (workdir / "realism.json").unlink(missing_ok=True)
    figures = [{s.case.id: s.figures for s in part} for part in seen]
    write_page(
        workdir / "synthesis.html",
        content=content,
        recipe={**wanted.facts(), "label_maps": config.synth.label_maps or "MNI152"},
        sheet=sheet,
        made=figures[0],
        real=figures[1] if real else {},
        structures=structures,
    )
    for unit, found in content.get("auc", {}).items():
        console.print(
            f"AUC over {unit}: {found['auc']:.3f} [{found['low']:.3f}, {found['high']:.3f}] "
            "(0.5: real and synthetic cannot be told apart)"
        )
    for name in written:
        console.print(f"made {workdir / name}")
    console.print(
        f"made {len(names)} cases in {workdir}; use them with --config.data.root={workdir}"
    )


def _structures(convention: Convention) -> tuple[str, ...]:
    return appearance.painted(np.zeros((1, 1, 1), np.uint8), convention)[1]


def _beside(config: Config, contrasts: Sequence[str]) -> tuple[tuple[str, ...], Source | None]:
    """The contrasts to show, and the real set where one is given. Errors: no contrast in common."""
    root, data = config.synth.beside, config.data
    if not root:
        return tuple(contrasts), None
    found = open_dataset(
        root, data.layout, channels=tuple(data.channels), convention=data.convention
    )
    channels = [name.lower() for name in found.channels]
    places = {
        contrast: next((channels.index(n) for n in NAMES[contrast] if n in channels), None)
        for contrast in contrasts
    }
    common = {contrast: place for contrast, place in places.items() if place is not None}
    if not common:
        raise UserError(
            f"synth.beside: {root} has {', '.join(found.channels)}, synth.contrasts "
            f"{', '.join(contrasts)}: nothing in common; make one of its contrasts"
        )
    picks, size = list(common.values()), len(channels)
    spacing = tuple(float(s) for s in data.spacing)
    source = Source(found.name, found.cases, found.convention, size, picks, spacing)
    return tuple(common), source


def _made(root: Path, names: Sequence[str], recipe: Recipe, shown: Sequence[str]) -> Source:
    """The cases just made, whatever their contrasts: a layout knows the usual ones alone."""
    cases, contrasts = [], recipe.contrasts
    for name in names:
        path = f"{root}/{name}/{name}"
        images = tuple(f"{path}-{SUFFIXES[contrast]}.nii.gz" for contrast in contrasts)
        cases.append(Case(name, name.rpartition("-")[0], images, f"{path}-seg.nii.gz"))
    picks = [contrasts.index(contrast) for contrast in shown]
    return Source("synthetic", cases, recipe.convention, len(contrasts), picks)


def _look(source: Source, contrasts: Sequence[str]) -> list[Seen]:
    """The cases of a set, evenly chosen where there are too many."""
    count = min(len(source.cases), MOST_CASES)
    chosen = [source.cases[i * len(source.cases) // count] for i in range(count)]
    names, seen = _structures(source.convention), []
    for case in progress.bar(f"reading {source.title} cases")(chosen):
        scan = load(case, source.convention, source.channels, spacing=source.spacing)
        image = scan.image[..., list(source.picks)]
        scan = Scan(image, scan.label, scan.affine, scan.spacing, scan.orientation)
        own = appearance.brain(scan, source.convention, case.id)
        common = appearance.regrid(own)
        row = contact.row(own, case.id) if len(seen) < SHOWN else None
        figures = appearance.figures(own, common, contrasts, names)
        seen.append(Seen(case, row, appearance.slices(common), figures))
    return seen


def _judge(real: Sequence[Seen], made: Sequence[Seen], seed: int) -> dict[str, Any]:
    """What realism.json holds beyond how the cases were made; without an AUC if a set has one patient."""
    begin = time.perf_counter()
    groups = [_by_patient(part) for part in (real, made)]
    figures = [
        [appearance.average([s.figures for s in scans]) for scans in group.values()]
        for group in groups
    ]
    content: dict[str, Any] = {
        "patients": {"real": len(groups[0]), "synthetic": len(groups[1])},
        "statistics": appearance.differences(*figures),
    }
    if min(map(len, groups)) < 2:
        console.print("one patient in a set: too few to judge how real the other is")
        return content
    slices = [
        [np.concatenate([s.slices for s in scans]) for scans in group.values()] for group in groups
    ]
    with progress.counter("telling real from synthetic") as show:
        found = realism.tell_apart(*slices, seed=seed, progress=show)
    intervals = {"patients": found.patients, "slices": found.slices}
    content["auc"] = {
        unit: {"auc": part.mean, "low": part.low, "high": part.high}
        for unit, part in intervals.items()
    }
    content["logits"] = {
        kind: dict(zip(group, scores.tolist(), strict=True))
        for kind, group, scores in zip(
            ("real", "synthetic"), groups, (found.real, found.made), strict=True
        )
    }
    content["judge"] = found.settings | {"spacing_mm": appearance.SPACING}
    content["seconds"] = time.perf_counter() - begin
    return content


def _by_patient(seen: Sequence[Seen]) -> dict[str, list[Seen]]:
    groups: dict[str, list[Seen]] = {}
    for one in seen:
        groups.setdefault(one.case.patient, []).append(one)
    return groups
