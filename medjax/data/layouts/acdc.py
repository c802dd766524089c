"""ACDC: `patientNNN/patientNNN_frameXX.nii.gz` with `_gt` or `_scribble`, diagnosis in `Info.cfg`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medjax.data.cases import Dataset, Finding
from medjax.data.convention import Convention
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.data.layouts.draft import WHOLE, Draft, judged, unchosen
from medjax.data.layouts.listing import extra_files, stem

LOOKED_FOR = "patientNNN/patientNNN_frameXX.nii.gz and patientNNN_frameXX_gt.nii.gz"
GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")
# In scribbles, whatever they do not touch: as who trains on those of Valvano (2021) has it. No file of theirs
# was at hand; another value ends as one outside the convention.
UNDRAWN = 4
_FRAME = re.compile(r"((patient\d+)_frame\d+)(?:_(gt|scribble))?")
_CINE = re.compile(r"patient\d+_4d")


def fits(root: Path, files: Sequence[Path]) -> bool:
    """A frame in the folder of its patient."""
    return any(_frame(path) for path in files)


def open_acdc(
    root: Path, files: Sequence[Path], channels: Sequence[str], convention: Convention | None
) -> Dataset:
    """End-diastole and end-systole stacks; patients are the unit of the split.

    Scribbles are the labels of frames that have no `_gt`; the value 4 is ignored in all label maps then.
    With the official root (training/ and testing/) the cases are those of training/.
    """
    assumed: tuple[str, ...] = ()
    if any((root / "training").glob("patient*")):
        if (root / "testing").is_dir():
            assumed += (f"{root / 'testing'} left aside: the official test set has its own root",)
        files = [path for path in files if root / "training" in path.parents]
    images = {stem(path): path for path in files if _frame(path) == "image"}
    drawn = {name: _labels(files, name) for name in ("scribble", "gt")}
    labels = drawn["scribble"] | drawn["gt"]
    both = len(drawn["scribble"].keys() & drawn["gt"].keys())
    if both:
        assumed += (f"scribbles of {both} frames left aside: they have a _gt too",)
    known = CONVENTIONS["acdc"]
    if drawn["scribble"].keys() - drawn["gt"].keys():
        known = replace(known, ignore=UNDRAWN)
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
    read = [*images.values(), *drawn["scribble"].values(), *drawn["gt"].values(), *cines]
    faults += extra_files(files, read, LOOKED_FOR)
    return Dataset(
        name=root.name,
        layout="acdc",
        cases=cases,
        channels=unchosen(("cine",), channels, str(root)),
        convention=convention or known,
        targets=GROUPS,
        findings=tuple(findings + faults),
        assumed=assumed,
    )


def _frame(path: Path) -> str:
    """ "image", "gt", "scribble", or "" for a file that is no frame of its folder's patient."""
    match = _FRAME.fullmatch(stem(path))
    if not match or match[2] != path.parent.name:
        return ""
    return match[3] or "image"


def _labels(files: Sequence[Path], name: str) -> dict[str, Path]:
    """The label maps of one kind by their frame."""
    return {stem(p).removesuffix(f"_{name}"): p for p in files if _frame(p) == name}


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
