"""ACDC: `patientNNN/patientNNN_frameXX.nii.gz` with `_gt`, diagnosis in `Info.cfg`."""

import re
from collections.abc import Sequence
from pathlib import Path

from medjax.data.cases import Dataset, Finding
from medjax.data.convention import Convention
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.data.layouts.draft import WHOLE, Draft, judged, unchosen
from medjax.data.layouts.listing import extra_files, stem

LOOKED_FOR = "patientNNN/patientNNN_frameXX.nii.gz and patientNNN_frameXX_gt.nii.gz"
GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")
_FRAME = re.compile(r"(patient\d+)_frame\d+(_gt)?")
_CINE = re.compile(r"patient\d+_4d")


def fits(root: Path, files: Sequence[Path]) -> bool:
    """A frame in the folder of its patient."""
    return any(_frame(path) for path in files)


def open_acdc(
    root: Path, files: Sequence[Path], channels: Sequence[str], convention: Convention | None
) -> Dataset:
    """End-diastole and end-systole stacks; patients are the unit of the split.

    With the official root (training/ and testing/) the cases are those of training/.
    """
    assumed = ()
    if any((root / "training").glob("patient*")):
        if (root / "testing").is_dir():
            assumed = (f"{root / 'testing'} left aside: the official test set has its own root",)
        files = [path for path in files if root / "training" in path.parents]
    images = {stem(path): path for path in files if _frame(path) == "image"}
    labels = {stem(path).removesuffix("_gt"): path for path in files if _frame(path) == "label"}
    drafts, findings = [], []
    targets = {
        folder: _diagnosis(folder, findings)
        for folder in sorted({path.parent for path in [*images.values(), *labels.values()]})
    }
    for case in images.keys() | labels.keys():
        folder = (images.get(case) or labels[case]).parent
        drafts.append(
            Draft(
                id=case,
                patient=folder.name,
                folder=str(folder),
                images={"": str(images[case])} if case in images else {},
                label=str(labels[case]) if case in labels else None,
                target=targets[folder],
            )
        )
    cases, faults = judged(drafts, WHOLE)
    cines = [path for path in files if _CINE.fullmatch(stem(path))]
    faults += extra_files(files, [*images.values(), *labels.values(), *cines], LOOKED_FOR)
    return Dataset(
        name=root.name,
        layout="acdc",
        cases=cases,
        channels=unchosen(("cine",), channels, str(root)),
        convention=convention or CONVENTIONS["acdc"],
        targets=GROUPS,
        findings=tuple(findings + faults),
        assumed=assumed,
    )


def _frame(path: Path) -> str:
    """ "image", "label", or "" for a file that is no frame of its folder's patient."""
    match = _FRAME.fullmatch(stem(path))
    if not match or match[1] != path.parent.name:
        return ""
    return "label" if match[2] else "image"


def _diagnosis(folder: Path, findings: list[Finding]) -> int | None:
    """The index of the Group in Info.cfg; a finding where there is none."""
    path = folder / "Info.cfg"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    entries = {key.strip(): value.strip() for key, _, value in (x.partition(":") for x in lines)}
    group = entries.get("Group", "").upper()
    if group in GROUPS:
        return GROUPS.index(group)
    message = f"Group is {group!r}; write one of {', '.join(GROUPS)} (no diagnosis is learned here)"
    findings.append(Finding(folder.name, "missing diagnosis", str(path), message))
    return None
