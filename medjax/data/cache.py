"""Prepared cases on disk: memory-mapped arrays and the foreground places of each class."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, UInt8

from medjax.data.cases import Case
from medjax.data.convention import IGNORE
from medjax.data.objects import instances, prepare_instances
from medjax.data.plan import Plan
from medjax.data.prepare import load
from medjax.errors import UserError
from medjax.io.atomic import atomic

PLACES = 10_000  # foreground voxels remembered per class and case
VERSION = 4  # of the arrays' meaning: raise it when `prepare` changes what it makes


@dataclass(frozen=True, eq=False)
class Cached:
    """One case in the cache; the arrays are read-only memory maps, opened by `open_cached`.

    What is read stays in memory until the maps are dropped: hold one for a draw, not for a run.

    image: (d, h, w, c) float32; label: (d, h, w) class indices; places: by class index, (n, 3)
    voxels. instances: (d, h, w) numbers of the objects to be found (`data.objects`), where a plan has any.
    """

    id: str
    image: Float32[np.ndarray, "d h w c"]
    label: UInt8[np.ndarray, "d h w"]
    places: dict[int, Int32[np.ndarray, "_ 3"]]
    instances: UInt8[np.ndarray, "d h w"] | None = None


def places(
    label: UInt8[np.ndarray, "d h w"], *, seed: int = 0
) -> dict[int, Int32[np.ndarray, "_ 3"]]:
    """Up to 10 000 random voxels of each foreground class present, by class index."""
    found = {}
    for index in np.unique(label):
        if index not in (0, IGNORE):
            flat = np.flatnonzero(label == index)
            if flat.size > PLACES:
                flat = np.random.default_rng((seed, int(index))).choice(flat, PLACES, replace=False)
            where = np.unravel_index(np.sort(flat), label.shape)
            found[int(index)] = np.stack(where, axis=-1).astype(np.int32)
    return found


def key(case: Case, plan: Plan, spacing: Sequence[float]) -> str:
    """A case's name in the cache: it changes with its files and with what preparing depends on."""
    files = []
    for path in (*case.images, *([case.label] if case.label else [])):
        facts = Path(path).stat()
        files.append([str(Path(path).resolve()), facts.st_size, facts.st_mtime_ns])
    depends = [VERSION, files, plan.spacing, plan.axes, plan.coarse_axis, plan.normalisation]
    depends += [plan.convention, list(spacing)]
    if case.drawn is not None:
        depends.append(case.drawn)
    if plan.objects:
        depends += [plan.objects, case.objects]
    text = json.dumps(depends, sort_keys=True)
    return f"{case.id}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def build(
    cases: Sequence[Case],
    plan: Plan,
    folder: Path,
    *,
    spacing: Sequence[float] = (),
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Path]:
    """Prepares each case that is not there yet, one in memory at a time; returns their folders in order.

    All voxels of a case without a label are ignored ones; the background of one in which only some classes
    were drawn has its own index (`Convention.background`).

    A folder appears whole or not at all, so an interrupted build goes on where it stopped, and two
    runs may build side by side. A case of which a file is cut short is prepared anew.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = [folder / key(case, plan, spacing) for case in cases]
    missing = [(case, path) for case, path in zip(cases, made, strict=True) if not _there(path)]
    for case, path in progress(missing) if missing else ():
        scan = load(case, plan.labels, len(plan.channels), spacing=spacing)
        image, label, geometry = plan.prepare(scan, case.id)
        if label is None:
            label = np.full(image.shape[:3], IGNORE, np.uint8)
        found, numbers = places(label), None
        label[label == 0] = plan.labels.background(case.drawn)
        if plan.objects:
            own = instances(case, scan, plan.labels, plan.objects)
            numbers = prepare_instances(own, geometry, label.shape)
            if case.objects:  # they may lie in no class of the label map
                found |= {IGNORE: places(np.where(numbers == 0, 0, 1).astype(np.uint8))[1]}
        save_cached(Cached(case.id, image, label, found, numbers), path)
    return made


def _there(path: Path) -> bool:
    """Whether a prepared case can be opened; one that cannot is removed, with a warning."""
    if not path.is_dir():
        return False
    try:
        open_cached(path)
    except UserError as error:
        warnings.warn(f"{error}; it is prepared anew", stacklevel=3)
        shutil.rmtree(path)
        return False
    return True


def save_cached(case: Cached, path: Path) -> None:
    """Writes one prepared case, whole or not at all; one that is there already is kept."""
    if path.is_dir():
        return
    try:
        with atomic(path) as temporary:
            temporary.mkdir()
            np.save(temporary / "image.npy", case.image)
            np.save(temporary / "label.npy", case.label)
            if case.instances is not None:
                np.save(temporary / "instances.npy", case.instances)
            write_places(temporary, case.places)
    except OSError:
        if not path.is_dir():  # another run was faster
            raise


def write_places(folder: Path, found: dict[int, Int32[np.ndarray, "_ 3"]]) -> None:
    """Two files: all places class by class, and each class with its first row and the row after its last."""
    np.save(folder / "places.npy", np.concatenate([np.zeros((0, 3), np.int32), *found.values()]))
    ends = np.cumsum([len(rows) for rows in found.values()], dtype=np.int64)
    starts = ends - [len(rows) for rows in found.values()]
    np.save(folder / "classes.npy", np.column_stack([np.array(list(found), int), starts, ends]))


def open_cached(path: Path) -> Cached:
    """Maps one prepared case; nothing is read before it is touched."""
    try:
        image, label, rows = (
            np.load(path / f"{name}.npy", mmap_mode="r") for name in ("image", "label", "places")
        )
        found = {c: rows[start:end] for c, start, end in np.load(path / "classes.npy").tolist()}
        own = path / "instances.npy"
        numbers = np.load(own, mmap_mode="r") if own.is_file() else None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: is no readable prepared case ({error})") from error
    return Cached(path.name.rsplit("-", 1)[0], image, label, found, numbers)
