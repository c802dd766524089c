"""The image files under a folder, and what their labels hold."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medjax.data.cases import Finding
from medjax.errors import UserError
from medjax.io.files import ITK, NIFTI, RASTER, read, read_header

UNLABELLED = "imagesUn"  # beside imagesTr: cases that nobody labelled
SUFFIXES = (*NIFTI, *ITK, *RASTER)
_LABELS_READ = 10  # enough to tell conventions apart; later surprises are errors that name the file


def suffix(path: Path) -> str:
    """The image suffix of a file, "" if it is no image file."""
    name = path.name.lower()
    return next((end for end in SUFFIXES if name.endswith(end) and name != end), "")


def stem(path: Path) -> str:
    """The file name without its image suffix (both of .nii.gz)."""
    return path.name[: len(path.name) - len(suffix(path))]


def image_files(root: Path, depth: int = 3) -> list[Path]:
    """Image files at most `depth` levels down, sorted; hidden files and folders are left out."""
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        level = len(Path(folder).relative_to(root).parts)
        folders[:] = [] if level + 1 >= depth else [f for f in folders if f[0] != "."]
        found += [Path(folder, name) for name in files if name[0] != "." and suffix(Path(name))]
    return sorted(found)


def extra_files(files: Iterable[Path], used: Iterable[str | Path], expected: str) -> list[Finding]:
    """A finding for each image file that no case uses. expected: the names that would have fit."""
    known = {str(path) for path in used}
    return [
        Finding(
            case=path.parent.name,
            kind="extra file",
            file=str(path),
            message=f"belongs to no case; rename it ({expected}) or move it out of the folder",
        )
        for path in files
        if str(path) not in known
    ]


def training_extras(
    files: Iterable[Path], used: Iterable[str | Path], expected: str
) -> list[Finding]:
    """`extra_files` of imagesTr, imagesUn and labelsTr; what lies in labelsTr is a label without an image."""
    used = list(used)
    images = [path for path in files if path.parent.name in ("imagesTr", UNLABELLED)]
    labels = [path for path in files if path.parent.name == "labelsTr"]
    return extra_files(images, used, expected) + [
        replace(finding, case=stem(Path(finding.file)), kind="orphan label")
        for finding in extra_files(labels, used, expected)
    ]


def label_values(labels: Sequence[str]) -> Iterator[tuple[set[float], bool]]:
    """The values seen so far, label by label, and whether that is enough to decide on.

    The files are taken evenly over the list. One that cannot be read is passed over: `verify`
    and whoever reads the case will name it.
    """
    seen: set[float] = set()
    stride = max(1, len(labels) // _LABELS_READ)
    order = [label for start in range(stride) for label in labels[start::stride]]
    for position, path in enumerate(order):
        try:
            seen = seen | set(np.unique(read(path).array).astype(float).tolist())
        except UserError:
            continue
        yield seen, position + 1 >= _LABELS_READ


def file_dimensions(images: Iterable[str]) -> int:
    """2 where the first readable image has a single slice, else 3."""
    for path in images:
        try:
            shape = read_header(path).shape
        except UserError:
            continue
        return 2 if len(shape) < 3 or shape[2] == 1 else 3
    return 3
