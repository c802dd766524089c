"""A folder of synthetic brain tumour cases, laid out as BraTS 2023 lays out real ones."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from medjax.data.layouts.brats import PLAQUES
from medjax.data.parents import parent_of
from medjax.data.recipe import VERSION, Patient, Recipe, maker
from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.io.files import write
from medjax.sim.anatomy import Anatomy
from medjax.space.volume import Volume

SUFFIXES = {"T1": "t1n", "T1ce": "t1c", "T2": "t2w", "FLAIR": "t2f", "PD": "pd", "bSSFP": "ssfp"}
PROVENANCE = "provenance.json"
PACKAGES = ("jax", "numpy", "nilearn")


def case_name(index: int, parents: Sequence[Anatomy], recipe: Recipe) -> str:
    """BraTS-SYN-PARENT-NUMBER, or BraTS-SYNMS-PARENT-NUMBER with plaques.

    What shares an anatomy is one patient to a split. With one parent alone each case is a patient of its
    own: they differ by deformation and growth.
    """
    kind = PLAQUES if recipe.growth == "plaques" else "BraTS-SYN"
    if len(parents) == 1:
        return f"{kind}-{index:05d}-000"
    return f"{kind}-{parent_of(index, parents):05d}-{index // len(parents):03d}"


def make_cases(
    root: str | Path,
    parents: Sequence[Anatomy],
    recipe: Recipe,
    *,
    cases: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write cases 0 to `cases` - 1 of the family `seed` under `root`, and return `root`.

    `root/NAME/NAME-{t1n,t1c,t2w,t2f,seg}.nii.gz` with `case_name`: int16 images, 0 outside the brain,
    and uint8 labels by `Recipe.convention`, isotropic, axes LPS; beside them
    `provenance.json`, every number that was drawn. A case appears whole or not at all; complete ones
    are kept, so a run that was stopped goes on, and asking for more cases adds them.
    `progress(done, cases)` is called after each.

    Raises `UserError` for values that cannot be, and where `root` holds a case made otherwise.
    """
    root = Path(root)
    if cases < 1:
        raise UserError(f"synth.cases: {cases}: there is nothing to make; ask for 1 or more")
    if seed < 0:
        raise UserError(f"seed: {seed}: a seed is not negative; use 0 or more")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: this is a file; give a folder for the cases")
    make = maker(recipe)
    for index in range(cases):
        parent = parents[parent_of(index, parents)]
        wanted = {
            "generator": "medjax.sim.subject",
            "version": VERSION,
            "seed": seed,
            "index": index,
            "parent": parent.name,
            "recipe": recipe.facts(),
        }
        case = root / case_name(index, parents, recipe)
        if not _complete(case, wanted):
            if case.exists():
                shutil.rmtree(case)
            with atomic(case) as temporary:
                _write_case(temporary, case.name, make(seed, index, parent), recipe, wanted)
        if progress is not None:
            progress(index + 1, cases)
    return root


def _complete(case: Path, wanted: dict[str, Any]) -> bool:
    """Whether the case is there with all its files; `UserError` where it is another one."""
    try:
        found = json.loads((case / PROVENANCE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    for key, value in _flat(wanted).items():
        if _flat(found).get(key) != value:
            raise UserError(
                f"{case / PROVENANCE}: made with {key} {_flat(found).get(key)}, asked for {value}; "
                "delete the folder or choose another"
            )
    names = (*(SUFFIXES[contrast] for contrast in wanted["recipe"]["contrasts"]), "seg")
    return all((case / f"{case.name}-{name}.nii.gz").is_file() for name in names)


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the keys of its recipe in the place of the recipe."""
    recipe = record.get("recipe")
    rest = {key: value for key, value in record.items() if key != "recipe"}
    return {**rest, **(recipe if isinstance(recipe, dict) else {})}


def _write_case(
    folder: Path, name: str, made: Patient, recipe: Recipe, wanted: dict[str, Any]
) -> None:
    for c, contrast in enumerate(recipe.contrasts):
        path = folder / f"{name}-{SUFFIXES[contrast]}.nii.gz"
        write(_to_lps(made.image[..., c], recipe.affine), path)
    write(_to_lps(made.label, recipe.affine), folder / f"{name}-seg.nii.gz")
    ml = recipe.spacing**3 / 1000
    classes = recipe.convention.classes
    counts = np.bincount(made.label.ravel(), minlength=len(classes))
    record = {
        **wanted,
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "volumes_ml": {
            name: round(float(counts[label] * ml), 3) for label, name in enumerate(classes) if label
        },
        "parameters": made.drawn,
    }
    (folder / PROVENANCE).write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def _to_lps(array: Shaped[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"]) -> Volume:
    """The same voxels at the same places with two axes reversed, as BraTS files have them."""
    turned = affine.copy()
    turned[:3, :2] *= -1
    turned[:3, 3] += affine[:3, :2] @ (np.array(array.shape[:2]) - 1)
    return Volume(np.ascontiguousarray(array[::-1, ::-1]), turned)
