"""Retinal photographs with vessels drawn by hand: DRIVE and CHASE_DB1 (2-D, colour)."""

import re
from collections.abc import Sequence
from pathlib import Path

from medjax.data.cases import Dataset
from medjax.data.convention import Convention
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.data.layouts.draft import WHOLE, Draft, judged, unchosen
from medjax.data.layouts.listing import extra_files, stem

DRIVE_LOOKED_FOR = "training/images/21_training.tif and training/1st_manual/21_manual1.gif"
CHASE_LOOKED_FOR = "Image_01L.jpg and Image_01L_1stHO.png"
_COLOURS = ("red", "green", "blue")
_DRIVE = re.compile(r"(\d+)_(training|test)")
_DRIVE_MANUAL = re.compile(r"(\d+)_manual1")
_CHASE = re.compile(r"Image_(\d+)[LR]")


def fits_drive(root: Path, files: Sequence[Path]) -> bool:
    """A numbered picture in a folder `images`."""
    return any(path.parent.name == "images" and _DRIVE.fullmatch(stem(path)) for path in files)


def open_drive(
    root: Path, files: Sequence[Path], channels: Sequence[str], convention: Convention | None
) -> Dataset:
    """One picture a patient, first manual; the field-of-view masks are left aside.

    With the official root (training/ and test/) the cases are those of training/; test/ is opened
    as a root of its own, where a missing manual is no fault (it was not always published).
    """
    assumed = ()
    if (root / "training" / "images").is_dir():
        if (root / "test").is_dir():
            assumed = (f"{root / 'test'} left aside: the official test set has its own root",)
        files = [path for path in files if root / "training" in path.parents]
    drafts: dict[str, Draft] = {}
    manuals = {}
    for path in files:
        match = _DRIVE_MANUAL.fullmatch(stem(path))
        if match and path.parent.name == "1st_manual":
            manuals[match[1]] = path
    pictures = {}
    for path in files:
        match = _DRIVE.fullmatch(stem(path))
        if match and path.parent.name == "images":
            pictures[path] = match
            drafts[match[1]] = Draft(
                id=stem(path),
                patient=match[1],
                folder=str(path),
                images={"": str(path)},
                label=str(manuals[match[1]]) if match[1] in manuals else None,
                labelled=match[2] == "training",
            )
    for number in manuals.keys() - drafts.keys():
        path = str(manuals[number])
        drafts[number] = Draft(id=number, patient=number, folder=path, label=path)
    cases, findings = judged(drafts.values(), WHOLE)
    others = [path for path in files if path.parent.name in ("mask", "2nd_manual")]
    findings += extra_files(files, [*pictures, *manuals.values(), *others], DRIVE_LOOKED_FOR)
    return Dataset(
        name=root.name,
        layout="drive",
        cases=cases,
        channels=unchosen(_COLOURS, channels, str(root)),
        convention=convention or CONVENTIONS["vessel"],
        dimensions=2,
        findings=tuple(findings),
        assumed=assumed,
    )


def fits_chase(root: Path, files: Sequence[Path]) -> bool:
    """A picture named by child and eye."""
    return any(_CHASE.fullmatch(stem(path)) for path in files)


def open_chase(
    root: Path, files: Sequence[Path], channels: Sequence[str], convention: Convention | None
) -> Dataset:
    """Two pictures (left, right) a child, first observer; the child is the unit of the split."""
    pictures = {stem(path): path for path in files if _CHASE.fullmatch(stem(path))}
    drawn = {stem(path): path for path in files if stem(path).endswith(("_1stHO", "_2ndHO"))}
    labels = {name.removesuffix("_1stHO"): path for name, path in drawn.items() if "_1st" in name}
    drafts = []
    for case in pictures.keys() | labels.keys():
        match = _CHASE.fullmatch(case)
        drafts.append(
            Draft(
                id=case,
                patient=match[1] if match else case,
                folder=str(pictures.get(case) or labels[case]),
                images={"": str(pictures[case])} if case in pictures else {},
                label=str(labels[case]) if case in labels else None,
            )
        )
    cases, findings = judged(drafts, WHOLE)
    findings += extra_files(files, [*pictures.values(), *drawn.values()], CHASE_LOOKED_FOR)
    return Dataset(
        name=root.name,
        layout="chase",
        cases=cases,
        channels=unchosen(_COLOURS, channels, str(root)),
        convention=convention or CONVENTIONS["vessel"],
        dimensions=2,
        findings=tuple(findings),
    )
