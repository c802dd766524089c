"""nnU-Net raw: `dataset.json`, `imagesTr/CASE_0000.nii.gz` per channel, `labelsTr/CASE.nii.gz`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medjax.data.cases import Dataset
from medjax.data.convention import Convention
from medjax.data.layouts.description import (
    OWN_PATIENT,
    channel_names,
    description,
    label_convention,
)
from medjax.data.layouts.draft import WHOLE, Draft, chosen, judged, unchosen
from medjax.data.layouts.listing import UNLABELLED, file_dimensions, stem, training_extras
from medjax.errors import UserError
from medjax.io.files import read_header

LOOKED_FOR = "dataset.json with imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz"
_NUMBERED = re.compile(r"(.+)_(\d{4})")


def fits(root: Path, files: Sequence[Path]) -> bool:
    """A `dataset.json` with "channel_names", or beside images with a number after the case."""
    if not (root / "dataset.json").is_file():
        return False
    labels = {stem(path) for path in files if path.parent == root / "labelsTr"}
    images = [_NUMBERED.fullmatch(stem(f)) for f in files if f.parent == root / "imagesTr"]
    numbered = any(match and match[1] in labels for match in images)
    return numbered or "channel_names" in description(root)


def open_nnunet(
    root: Path, files: Sequence[Path], channels: Sequence[str], convention: Convention | None
) -> Dataset:
    """Version 2 ("channel_names", names of labels first) and version 1 ("modality") of raw sets.

    Cases of imagesUn, named as those of imagesTr, have no label and train what needs none.
    Colour pictures keep all channels in CASE_0000.png: such a set counts as one file per case.
    """
    path, content = root / "dataset.json", description(root)
    names = channel_names(path, content)
    convention = convention or label_convention(path, content)
    if isinstance(content.get("dataset"), dict):
        drafts, used = _listed(path, content["dataset"], names)
    else:
        ending = content.get("file_ending", "")
        training = [f for f in files if f.parent.name == "imagesTr" and f.name.endswith(ending)]
        labels = [f for f in files if f.parent.name == "labelsTr" and f.name.endswith(ending)]
        drafts, used = _numbered(training, labels, names)
    bare, others = _numbered([f for f in files if f.parent.name == UNLABELLED], (), names)
    drafts += [replace(draft, labelled=False) for draft in bare]
    used += others
    whole = len(names) > 1 and _whole(drafts, names)
    if whole:
        drafts = [_as_whole(draft, names) for draft in drafts]
    selected = (unchosen if whole else chosen)(names, channels, str(root))
    cases, findings = judged(drafts, WHOLE if whole else selected)
    findings += training_extras(files, used, "CASE_0000 for an image, CASE for its label")
    return Dataset(
        name=str(content.get("name") or root.name),
        layout="nnunet",
        cases=cases,
        channels=selected,
        convention=convention,
        dimensions=file_dimensions(case.images[0] for case in cases),
        findings=tuple(findings),
        assumed=(OWN_PATIENT,),
    )


def _numbered(
    images: Sequence[Path], labels: Sequence[Path], names: Sequence[str]
) -> tuple[list[Draft], list[Path]]:
    """Cases by the file names, and the files that take part."""
    by_case: dict[str, dict[str, str]] = {}
    used = list(labels)
    for image in images:
        match = _NUMBERED.fullmatch(stem(image))
        if match and int(match[2]) < len(names):
            by_case.setdefault(match[1], {})[names[int(match[2])]] = str(image)
            used.append(image)
    references = {stem(label): str(label) for label in labels}
    drafts = []
    for case in by_case.keys() | references.keys():
        found = by_case.get(case, {})
        folder = next(iter(found.values()), references.get(case, ""))
        drafts.append(Draft(case, case, folder, found, references.get(case)))
    return drafts, used


def _listed(
    path: Path, entries: Mapping[str, Any], names: Sequence[str]
) -> tuple[list[Draft], list[Path]]:
    """Cases of the key "dataset": {case: {"images": [path per channel], "label": path}}."""
    drafts, used = [], []
    for case, entry in entries.items():
        if not isinstance(entry, dict) or not isinstance(entry.get("images"), list):
            raise UserError(f'{path}: "dataset" of {case} must give "images" (a list) and "label"')
        images = [path.parent / image for image in entry["images"]]
        label = path.parent / entry["label"] if entry.get("label") else None
        used += [*images, *([label] if label else [])]
        found = {
            name: str(image) for name, image in zip(names, images, strict=False) if image.is_file()
        }
        reference = str(label) if label and label.is_file() else None
        drafts.append(Draft(case, case, str(path), found, reference))
    return drafts, used


def _whole(drafts: Sequence[Draft], names: Sequence[str]) -> bool:
    """Whether the first file of the first readable case holds every channel."""
    for draft in drafts:
        if set(draft.images) > {names[0]}:
            return False
        try:
            shape = read_header(draft.images[names[0]]).shape
        except (KeyError, UserError):
            continue
        return len(shape) == 4 and shape[3] == len(names)
    return False


def _as_whole(draft: Draft, names: Sequence[str]) -> Draft:
    images = {"": draft.images[names[0]]} if names[0] in draft.images else {}
    return replace(draft, images=images)
