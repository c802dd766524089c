"""A folder of prostate phantoms in nnU-Net's layout: zones and lesions, a class of each patient, a split."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.io.files import write
from medjax.sim import prostate
from medjax.space.volume import Volume

VERSION = 2  # of what a seed means: raise it when a patient of it changes
TARGETS = ("none", "significant")
PARTS = ("train", "validation", "test")
SPLIT, RECORD = "split.json", "provenance.json"


def make_phantoms(
    root: Path,
    *,
    seed: int,
    cases: tuple[int, int, int],
    missing: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Writes `cases` patients to train, to validate and to test, and returns `root`.

    A share `missing` of the lesions of those who train and validate was overlooked: they are no lesion in the
    label map, and nothing of them is in the class of the patient. Who is tested has all. The folder appears
    whole or not at all; one that is there is kept. Patients are named by part, seed and number: no two of
    different seeds have one name.

    Errors: a share outside 0 to 1, a number below 1, a folder of other phantoms.
    """
    if not 0 <= missing <= 1:
        raise UserError(f"phantom.missing: {missing} is no share; give 0 to 1")
    if min(cases) < 1:
        raise UserError(f"phantom: {cases} cases train, validate, test; give at least 1 each")
    wanted = facts(seed, cases, missing)
    if root.exists():
        _check(root, wanted)
        return root
    names = {
        part: [f"{part}-{seed}-{number:04d}" for number in range(count)]
        for part, count in zip(PARTS, cases, strict=True)
    }
    draw = jax.jit(_drawn)
    with atomic(root) as folder:
        for name in ("imagesTr", "labelsTr"):
            (folder / name).mkdir(parents=True)
        lines, done = ["case,target"], 0
        for part, own in names.items():
            overlooked = 0.0 if part == "test" else missing
            for number, case in enumerate(own):
                key = jax.random.key(seed)
                for word in (PARTS.index(part), number):
                    key = jax.random.fold_in(key, word)
                image, label, target = jax.device_get(draw(key, overlooked))
                _write(folder, case, image, label)
                lines.append(f"{case},{TARGETS[int(target)]}")
                done += 1
                progress(done, sum(cases))
        (folder / "targets.csv").write_text("\n".join([*lines, ""]), "utf-8")
        description = {
            "channel_names": {str(i): name for i, name in enumerate(prostate.CHANNELS)},
            "labels": {name: i for i, name in enumerate(prostate.CLASSES)},
            "numTraining": done,
            "file_ending": ".nii.gz",
        }
        for name, content in (
            ("dataset.json", description),
            (SPLIT, names),
            (RECORD, wanted),
        ):
            (folder / name).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    return root


def facts(seed: int, cases: tuple[int, int, int], missing: float) -> dict[str, Any]:
    """What decides every voxel of a folder."""
    return {
        "generator": "medjax.sim.prostate",
        "version": VERSION,
        "seed": seed,
        "cases": list(cases),
        "missing": missing,
    }


def _check(root: Path, wanted: dict[str, Any]) -> None:
    try:
        found = json.loads((root / RECORD).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{root}: is no folder of phantoms ({error}); give another") from None
    if found != wanted:
        raise UserError(f"{root}: holds other phantoms ({found}); give another folder")


def _drawn(key: jax.Array, overlooked: jax.Array | float) -> tuple[jax.Array, ...]:
    """Image, label map and class of a patient."""
    patient_key, known_key = jax.random.split(key)
    patient = prostate.draw(patient_key)
    drawn = jax.random.uniform(known_key, (prostate.LESIONS,))
    known = drawn >= jnp.float32(overlooked)  # what is missing for a share is for any larger one
    return (
        patient.image,
        prostate.label_map(patient, known),
        prostate.significant(patient.cancers, known),
    )


def _write(folder: Path, case: str, image: np.ndarray, label: np.ndarray) -> None:
    affine = np.diag([*prostate.SPACING, 1.0])
    affine[:3, 3] = [
        -(n - 1) / 2 * s for n, s in zip(prostate.SHAPE, prostate.SPACING, strict=True)
    ]
    for channel in range(image.shape[-1]):
        values = np.ascontiguousarray(image[..., channel], np.float32)
        write(Volume(values, affine), folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
    write(Volume(label, affine), folder / "labelsTr" / f"{case}.nii.gz")
