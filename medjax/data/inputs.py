"""What to predict: a file, or a folder of files, as cases with one image per channel."""

from collections.abc import Sequence
from pathlib import Path

from medjax.data.cases import Case
from medjax.errors import UserError
from medjax.io.files import ITK, NIFTI, RASTER

SUFFIXES = tuple(sorted((*NIFTI, *ITK, *RASTER), key=len, reverse=True))


def stem(path: Path) -> str:
    """The file's name without its image suffix; .nii.gz counts as one."""
    name = path.name
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def find_inputs(path: Path, channels: Sequence[str]) -> list[Case]:
    """The cases under `path`, sorted by name, without labels.

    A file is one case. In a folder each image file is a case where the model has one channel, or
    where files hold all channels; with several channels the files of a case are named `CASE_0000`
    on (nnU-Net) or end in `_` or `-` and the channel's name (`CASE_flair`, `CASE-t2f`), beside each
    other or in a folder per case. A DICOM series is given as its folder. Label files of the same
    case are left aside.

    Errors: nothing there. A case that lacks a channel is kept and fails by itself, so the others
    are done.
    """
    if path.is_file():
        return [Case(stem(path), stem(path), (str(path),), None)]
    if not path.is_dir():
        raise UserError(
            f"{path}: no such file or folder; give --input an image or a folder of images"
        )
    files = sorted(p for p in path.rglob("*") if p.is_file() and _is_image(p))
    if not files:
        if any(p.is_file() for p in path.iterdir()):
            return [
                Case(path.name, path.name, (str(path),), None)
            ]  # a DICOM series, or an error by itself
        raise UserError(f"{path}: holds no image; known suffixes are {', '.join(SUFFIXES)}")
    grouped: dict[str, dict[int, str]] = {}
    alone: dict[str, str] = {}
    for file in files:
        case, channel = _channel(stem(file), channels)
        if channel is None:
            alone[stem(file)] = str(file)
        else:
            grouped.setdefault(case, {})[channel] = str(file)
    cases = [
        Case(name, name, tuple(found[i] for i in sorted(found)), None)
        for name, found in grouped.items()
    ]
    if not grouped:
        cases = [Case(name, name, (file,), None) for name, file in alone.items()]
    return sorted(cases, key=lambda case: case.id)


def _is_image(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower().endswith(SUFFIXES)


ALIASES = {"t1": "t1n", "t1ce": "t1c", "t2": "t2w", "flair": "t2f"}


def _channel(name: str, channels: Sequence[str]) -> tuple[str, int | None]:
    """The case of a file name and the number of its channel, or None where the name tells none."""
    for position, channel in enumerate(channels):
        endings = {
            channel.lower(),
            ALIASES.get(channel.lower(), channel.lower()),
            f"{position:04d}",
        }
        for ending in endings:
            for mark in "_-":
                if name.lower().endswith(mark + ending):
                    return name[: -len(ending) - 1], position
    return name, None
