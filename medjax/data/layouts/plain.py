"""A plain folder: CASE/{name}.nii.gz, or CASE_{name}.nii.gz side by side, in any format."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from medjax.data.cases import Case, Dataset, Finding
from medjax.data.convention import Convention
from medjax.data.layouts.conventions import CONVENTIONS, HOW_TO_NAME
from medjax.data.layouts.description import OWN_PATIENT
from medjax.data.layouts.draft import Draft, chosen, common, judged
from medjax.data.layouts.listing import extra_files, file_dimensions, label_values, stem
from medjax.errors import UserError
from medjax.io.files import read_header

LOOKED_FOR = "CASE/{name}.nii.gz, one of the names being label, seg, mask or segmentation"
_LABEL = re.compile(r"(label|seg|mask|segmentation)", re.IGNORECASE)
_LABEL_LIKE = re.compile(r"(.*)[_-](?:label|seg|mask|segmentation)", re.IGNORECASE)
_IMAGE_LIKE = re.compile(r"[_-](image|img)$", re.IGNORECASE)
Named = dict[str, Path]  # the files of a case by the part of their name that tells them apart


def fits(root: Path, files: Sequence[Path]) -> bool:
    """A case with a label and an image."""
    cases = _by_case(root, files, ()).values()
    return any(len({_is_label(name) for name in names}) == 2 for names in cases)


def open_plain(
    root: Path, files: Sequence[Path], channels: Sequence[str], convention: Convention | None
) -> Dataset:
    """Every folder under the root is a case; file names may repeat its name (CASE/CASE_t1.nii.gz).

    Without `channels` every image that is no label is one. Masks are never taken for images; of
    several (ct_mask, pet_mask) the one named after the first of `channels` (ct, ct_image) counts.
    A data set of one image a case with c channels inside (4-D, colour) has the channels name_0 on.
    """
    drafts, findings, labels = [], [], set()
    by_case = _by_case(root, files, channels)
    for case, names in by_case.items():
        label = _label(names, channels)
        labels |= {label} if _LABEL_LIKE.fullmatch(label) else set()
        masks = [name for name in names if _is_label(name)]
        if masks and not label:
            message = f"which of {', '.join(masks)} is the label? Name it label"
            findings.append(Finding(case, "ambiguous label", str(names[masks[0]]), message))
        drafts.append(
            Draft(
                id=case,
                patient=case,
                folder=str(next(iter(names.values())).parent),
                images={name: str(path) for name, path in names.items() if name not in masks},
                label=str(names[label]) if label else None,
                labelled=not masks,
            )
        )
    available = tuple(sorted({name for draft in drafts for name in draft.images}))
    kept, notes = common(drafts, available)
    selected = chosen(available if channels else kept, channels, str(root))
    assumed = [OWN_PATIENT, *([] if channels else notes)]
    assumed += [f"label: the file named {label}" for label in sorted(labels)]
    cases, faults = judged(drafts, selected)
    used = [path for names in by_case.values() for path in names.values()]
    # Deeper folders are not cases of this layout.
    near = [path for path in files if len(path.relative_to(root).parts) <= 2]
    faults += extra_files(near, used, LOOKED_FOR)
    if convention is None:
        convention = _convention(root, [case.label for case in cases if case.label])
        assumed.append("label convention binary: no value but 0 and 1 in the labels looked at")
    return Dataset(
        name=root.name,
        layout="plain",
        cases=cases,
        channels=_inside(cases, selected),
        convention=convention,
        dimensions=file_dimensions(case.images[0] for case in cases),
        findings=tuple(findings + faults),
        assumed=tuple(assumed),
    )


def _by_case(root: Path, files: Sequence[Path], channels: Sequence[str]) -> dict[str, Named]:
    """The files of each case folder by their names; of the root itself where it has no folders."""
    cases: dict[str, Named] = {}
    for path in files:
        if path.parent.parent == root:
            case, name = path.parent.name, stem(path)
            if name.startswith((case + "_", case + "-")):
                name = name[len(case) + 1 :]
            elif name == case:
                name = "image"
            cases.setdefault(case, {}).setdefault(name, path)
    if cases:
        return cases
    for path in files:
        case, name = _divided(stem(path), channels)
        if case and name:
            cases.setdefault(case, {}).setdefault(name, path)
    return cases


def _divided(name: str, channels: Sequence[str]) -> tuple[str, str]:
    """Case and name in CASE_name: a channel's own name, else what follows the last _."""
    for channel in sorted(channels, key=len, reverse=True):
        if name.endswith("_" + channel):
            return name.removesuffix("_" + channel), channel
    case, _, last = name.rpartition("_")
    return case, last


def _is_label(name: str) -> bool:
    return bool(_LABEL.fullmatch(name) or _LABEL_LIKE.fullmatch(name))


def _label(names: Mapping[str, Path], channels: Sequence[str]) -> str:
    """The name of the label: the plain word, else the only name ending in one, else a namesake.

    A namesake of the first channel: ct_mask for ct or ct_image. "" where none of these is single.
    """
    exact = [name for name in names if _LABEL.fullmatch(name)]
    like = {name: match[1] for name in names if (match := _LABEL_LIKE.fullmatch(name))}
    first = _IMAGE_LIKE.sub("", channels[0]) if channels else ""
    namesakes = [name for name, prefix in like.items() if prefix == first]
    return next((few[0] for few in (exact, list(like), namesakes) if len(few) == 1), "")


def _inside(cases: Sequence[Case], channels: tuple[str, ...]) -> tuple[str, ...]:
    """The channels, or those inside the files where a case is a single file of several."""
    for case in cases if len(channels) == 1 else ():
        try:
            shape = read_header(case.images[0]).shape
        except UserError:
            continue
        count = shape[3] if len(shape) == 4 else 1
        return tuple(f"{channels[0]}_{i}" for i in range(count)) if count > 1 else channels
    return channels


def _convention(root: Path, labels: Sequence[str]) -> Convention:
    """`binary` where the labels hold 0 and 1 alone; other values have to be named."""
    seen: set[float] = set()
    for seen, enough in label_values(labels):
        if not seen <= {0.0, 1.0}:
            listed = ", ".join(f"{value:g}" for value in sorted(seen)[:20])
            raise UserError(f"{root}: the labels hold the values {listed}; {HOW_TO_NAME}")
        if enough:
            break
    return CONVENTIONS["binary"]
