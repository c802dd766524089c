"""The anatomies that synthetic patients descend from: label maps in a folder, or the template."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.io.files import NIFTI, read
from medjax.sim.anatomy import FUZZY, Anatomy, from_labels, from_shares, mni152

VERSION = 2  # of the maps that are kept on disk
_CLASS = re.compile(r"_([a-z]+(?:_skin)?2?)_v\.nii(\.gz)?$")


def parents(
    label_maps: str | None, table: str = "auto", *, head: bool = False, cache: Path | None = None
) -> list[Anatomy]:
    """The anatomies to draw from: those of a folder of label maps, or the MNI152 template alone.

    A label map is one NIFTI file, or a folder of fuzzy maps as BrainWeb's twenty models come
    (`*_gm_v.nii.gz`, a file a class). What it gives is kept in `cache`, so that the second call reads
    it in a moment. Errors name the folder or the file.
    """
    if not label_maps:
        return [mni152(head=head)]
    return [_cached(path, table, head, cache) for path in _sources(Path(label_maps))]


def parent_of(index: int, parents: Sequence[Anatomy]) -> int:
    """Which parent a patient has: each in turn."""
    return index % len(parents)


def open_parent(path: Path, table: str = "auto", *, head: bool = False) -> Anatomy:
    """The anatomy of a label map, or of a folder of fuzzy maps."""
    if path.is_dir():
        found = {match[1]: p for p in sorted(path.iterdir()) if (match := _CLASS.search(p.name))}
        views = {kind: read(p).canonical()[0] for kind, p in found.items() if kind in FUZZY}
        maps = {kind: np.asarray(view.array, np.float32) for kind, view in views.items()}
        spacing = next((view.spacing for view in views.values()), (1.0, 1.0, 1.0))
        return from_shares(maps, spacing, name=path.name, head=head)
    view, _ = read(path).canonical()
    ids = np.asarray(view.array)
    if ids.ndim != 3 or not np.all(ids == np.rint(ids)):
        raise UserError(f"{path}: is no label map; give whole numbers on three axes")
    return from_labels(ids.astype(np.int32), view.spacing, name=path.name, table=table, head=head)


def _sources(folder: Path) -> list[Path]:
    """The label maps and the folders of fuzzy maps in a folder, sorted."""
    if not folder.is_dir():
        raise UserError(f"synth.label_maps: {folder}: no such folder; give one with label maps")
    fuzzy = [p for p in folder.iterdir() if p.is_dir() and any(p.glob("*_gm_v.nii*"))]
    found = [p for p in folder.iterdir() if p.name.lower().endswith(NIFTI)]
    if not found + fuzzy:
        raise UserError(f"synth.label_maps: {folder}: holds no label map (.nii, .nii.gz)")
    return sorted(found + fuzzy)


def _cached(path: Path, table: str, head: bool, cache: Path | None) -> Anatomy:
    if cache is None:
        return open_parent(path, table, head=head)
    facts = path.stat()
    depends = [VERSION, str(path.resolve()), facts.st_size, facts.st_mtime_ns, table, head]
    kept = cache / f"{hashlib.sha256(json.dumps(depends).encode()).hexdigest()[:16]}.npz"
    if not kept.is_file():
        made = open_parent(path, table, head=head)
        with atomic(kept) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, shares=made.shares.astype(np.float16), depth=made.depth)
    with np.load(kept) as arrays:
        return Anatomy(arrays["shares"], arrays["depth"], path.name)
