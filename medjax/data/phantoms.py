"""A folder of synthetic brain tumour cases, laid out as BraTS 2023 lays out real ones."""

import importlib.metadata
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.io.files import write
from medjax.sim.anatomy import grid_shape
from medjax.sim.phantom import CLASSES, phantom
from medjax.sim.signal import CONTRASTS, tissues
from medjax.space.volume import Volume

SUFFIXES = {"T1": "t1n", "T1ce": "t1c", "T2": "t2w", "FLAIR": "t2f"}
PROVENANCE = "provenance.json"
VERSION = 1  # of the generator: raise it with every change of what a seed gives


def make_phantoms(
    root: str | Path,
    *,
    cases: int,
    seed: int,
    spacing: float = 2.0,
    field: float = 3.0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write cases 0 to `cases` - 1 of the family `seed` under `root`, and return `root`.

    `root/BraTS-SYN-00000-000/BraTS-SYN-00000-000-{t1n,t1c,t2w,t2f,seg}.nii.gz`: int16 images, 0
    outside the brain, and uint8 labels (BraTS 2023: 1 necrosis, 2 oedema, 3 enhancing), isotropic
    at `spacing` mm, axes LPS; beside them `provenance.json`, every number that was drawn. A case
    appears whole or not at all; complete ones are kept, so a run that was stopped goes on, and
    asking for more cases adds them. `progress(done, cases)` is called after each.

    Raises `UserError` for values that cannot be, and where `root` holds a case made otherwise.
    """
    root = Path(root)
    tissues(field)  # both checked before anything is written
    grid_shape(spacing)
    if cases < 1:
        raise UserError(f"cases={cases}: there is nothing to make; ask for 1 or more")
    if seed < 0:
        raise UserError(f"seed={seed}: a seed is not negative; use 0 or more")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: this is a file; give a folder for the phantoms")
    for index in range(cases):
        wanted = {
            "generator": "medjax.sim.phantom",
            "version": VERSION,
            "seed": seed,
            "index": index,
            "spacing": spacing,
            "field": field,
        }
        case = root / f"BraTS-SYN-{index:05d}-000"
        if not _complete(case, wanted):
            if case.exists():
                shutil.rmtree(case)
            with atomic(case) as temporary:
                _write_case(temporary, case.name, wanted)
        if progress is not None:
            progress(index + 1, cases)
    return root


def _complete(case: Path, wanted: dict[str, Any]) -> bool:
    """Whether the case is there with all its files; `UserError` where it is another one."""
    try:
        found = json.loads((case / PROVENANCE).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    for key, value in wanted.items():
        if found.get(key) != value:
            raise UserError(
                f"{case / PROVENANCE}: made with {key} {found.get(key)}, asked for {value}; "
                "delete the folder or choose another"
            )
    names = (*SUFFIXES.values(), "seg")
    return all((case / f"{case.name}-{name}.nii.gz").is_file() for name in names)


def _write_case(folder: Path, name: str, wanted: dict[str, Any]) -> None:
    made = phantom(
        wanted["seed"], wanted["index"], spacing=wanted["spacing"], field=wanted["field"]
    )
    for c, contrast in enumerate(CONTRASTS):
        path = folder / f"{name}-{SUFFIXES[contrast]}.nii.gz"
        write(_to_lps(made.image[..., c], made.affine), path)
    write(_to_lps(made.labels, made.affine), folder / f"{name}-seg.nii.gz")
    ml = abs(np.linalg.det(made.affine[:3, :3])) / 1000
    counts = np.bincount(made.labels.ravel(), minlength=len(CLASSES))
    record = {
        **wanted,
        "template": "MNI152 2009a nonlinear symmetric (Fonov et al., 2011), as nilearn ships it",
        "versions": {
            package: importlib.metadata.version(package)
            for package in ("nilearn", "numpy", "scipy")
        },
        "volumes_ml": {CLASSES[label]: round(float(counts[label] * ml), 3) for label in (1, 2, 3)},
        "parameters": made.parameters,
    }
    (folder / PROVENANCE).write_text(json.dumps(record, indent=1) + "\n", "utf-8")


def _to_lps(array: Shaped[np.ndarray, "x y z"], affine: Float[np.ndarray, "4 4"]) -> Volume:
    """The same voxels at the same places with two axes reversed, as BraTS files have them."""
    turned = affine.copy()
    turned[:3, :2] *= -1
    turned[:3, 3] += affine[:3, :2] @ (np.array(array.shape[:2]) - 1)
    return Volume(np.ascontiguousarray(array[::-1, ::-1]), turned)
