"""BraTS folders: CASE/CASE_flair.nii.gz (2015 to 2021) and CASE/CASE-t2f.nii.gz (2023)."""

import re
from collections.abc import Sequence
from pathlib import Path

from medjax.data.cases import Dataset
from medjax.data.convention import Convention
from medjax.data.layouts.conventions import CONVENTIONS, HOW_TO_NAME
from medjax.data.layouts.draft import Draft, chosen, common, judged
from medjax.data.layouts.listing import extra_files, label_values, stem, suffix
from medjax.errors import UserError
from medjax.io.files import RASTER

LOOKED_FOR = "CASE/CASE_{t1,t1ce,t2,flair,seg} or CASE/CASE-{t1n,t1c,t2w,t2f,seg} with .nii.gz"
PLAQUES = "BraTS-SYNMS"  # names of cases made by medjax with multiple sclerosis begin so
CHANNELS = ("t1", "t1ce", "t2", "flair")
_SINCE_2023 = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair"}
_CANONICAL = {**{name: name for name in CHANNELS}, **_SINCE_2023, "seg": "seg"}
# Names whose last number counts the scans of one patient. (BraTS20_Training_001 is none of them.)
_TIMEPOINT = re.compile(r"(BraTS-[A-Z]+-\d+)-\d+|(brats_\w+_pat\d+)_\d+|(Brats1[789]_.+)_\d+")


def fits(root: Path, files: Sequence[Path]) -> bool:
    """A case folder with the contrast-enhanced T1, the mark of a tumour study."""
    return any(_modality(path) in ("t1ce", "t1c") for path in files if path.parent != root)


def open_brats(
    root: Path, files: Sequence[Path], channels: Sequence[str], convention: Convention | None
) -> Dataset:
    """Case folders at any of the first levels (HGG/CASE, LGG/CASE too), channels by old names."""
    folders: dict[Path, dict[str, Path]] = {}
    for path in files:
        modality = _modality(path)
        if modality:
            folders.setdefault(path.parent, {}).setdefault(_CANONICAL[modality], path)
    drafts = [
        Draft(
            id=folder.name,
            patient=_patient(folder.name),
            folder=str(folder),
            images={name: str(path) for name, path in found.items() if name != "seg"},
            label=str(found["seg"]) if "seg" in found else None,
        )
        for folder, found in folders.items()
    ]
    available, assumed = common(drafts, CHANNELS)
    if channels:
        assumed = []
        available = CHANNELS
    wanted = [_CANONICAL.get(name, name) for name in channels]
    selected = chosen(available, wanted, str(root))
    cases, findings = judged(drafts, selected)
    used = [path for found in folders.values() for path in found.values()]
    volumes = [path for path in files if suffix(path) not in RASTER]  # a picture is no lost case
    findings += extra_files(volumes, used, LOOKED_FOR)
    if convention is None:
        convention, reason = _convention(root, files, [case.label for case in cases if case.label])
        assumed.append(f"label convention {convention.name}: {reason}")
    return Dataset(
        root.name, "brats", cases, selected, convention, (), 3, tuple(findings), tuple(assumed)
    )


def _modality(path: Path) -> str:
    """The modality in the name of a file in its case folder, "" if it has none."""
    name, case = stem(path), path.parent.name
    if not name.startswith((case + "_", case + "-")):
        return ""
    modality = name[len(case) + 1 :]
    return modality if modality in _CANONICAL else ""


def _patient(case: str) -> str:
    match = _TIMEPOINT.fullmatch(case)
    return next(name for name in match.groups() if name) if match else case


def _convention(root: Path, files: Sequence[Path], labels: Sequence[str]) -> tuple[Convention, str]:
    """The convention by the file names, else by the label values where they leave no doubt.

    The same file names carry 2015 (0 to 4), 2018 (0, 1, 2, 4) and re-mapped labels (0 to 3).
    A 3 beside a 4 is 2015 alone. A 4 without a 3 is 2018; were it 2015, its regions would be
    the same, and a 3 met later is an error. Anything else is for the user to say.
    """
    names = {_modality(path) for path in files} - {"", "seg"}
    if names & set(_SINCE_2023):
        if names - set(_SINCE_2023):
            raise UserError(
                f"{root}: holds file names of 2023 (t1n) and older ones (t1), whose labels differ; "
                "open them apart or " + HOW_TO_NAME
            )
        if any(path.parent.name.startswith("BraTS-PED") for path in files):
            raise UserError(
                f"{root}: the labels of the paediatric set changed from 2023 to 2024; {HOW_TO_NAME}"
            )
        if all(path.parent.name.startswith(PLAQUES) for path in files if _modality(path)):
            return CONVENTIONS["plaque"], f"by the case names ({PLAQUES})"
        return CONVENTIONS["brats2023"], "by the file names (t1n, t1c, t2w, t2f)"
    if not labels:
        return CONVENTIONS["brats2018"], "by the file names; there is no label to look at"
    seen: set[float] = set()
    for seen, enough in label_values(labels):
        if {3.0, 4.0} <= seen:
            return CONVENTIONS["brats2015"], "a label value 3 occurs together with a 4"
        if 4.0 in seen and enough:
            break
    if not seen:
        return CONVENTIONS["brats2018"], "by the file names; no label could be read"
    if 4.0 in seen and 3.0 not in seen:
        return CONVENTIONS["brats2018"], "a label value 4 occurs, and no 3 in the labels looked at"
    raise UserError(
        f"{root}: the label values {sorted(map(int, seen))} do not tell the BraTS conventions "
        f"apart (2015, 2018 and re-mapped sets share the file names); {HOW_TO_NAME}; "
        "or config.data.layout=plain if this is not BraTS"
    )
