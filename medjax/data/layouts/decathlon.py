"""Medical Segmentation Decathlon: `dataset.json`, `imagesTr/` and `labelsTr/CASE.nii.gz`, `imagesUn/`."""

from collections.abc import Sequence
from pathlib import Path

from medjax.data.cases import Dataset
from medjax.data.convention import Convention
from medjax.data.layouts.description import (
    OWN_PATIENT,
    channel_names,
    description,
    label_convention,
)
from medjax.data.layouts.draft import WHOLE, Draft, judged, unchosen
from medjax.data.layouts.listing import UNLABELLED, file_dimensions, stem, training_extras
from medjax.errors import UserError

LOOKED_FOR = "dataset.json with imagesTr/CASE.nii.gz and labelsTr/CASE.nii.gz"


def fits(root: Path, files: Sequence[Path]) -> bool:
    """A `dataset.json` (nnU-Net, which has one too, is looked for before)."""
    return (root / "dataset.json").is_file()


def open_decathlon(
    root: Path, files: Sequence[Path], channels: Sequence[str], convention: Convention | None
) -> Dataset:
    """Cases of "training"; an image with c channels is one 4-D file, counted by "modality".

    Cases of imagesUn have no label and train what needs none.
    """
    path, content = root / "dataset.json", description(root)
    selected = unchosen(channel_names(path, content), channels, str(root))
    convention = convention or label_convention(path, content)
    training = content.get("training")
    if not isinstance(training, list) or not all(
        isinstance(pair, dict) and isinstance(pair.get("image"), str) for pair in training
    ):
        raise UserError(f'{path}: "training" must be a list of {{"image": ..., "label": ...}}')
    drafts = []
    listed: set[Path] = set()
    for pair in training:
        image = root / pair["image"]
        label = root / pair["label"] if isinstance(pair.get("label"), str) else None
        listed |= {image} | ({label} if label else set())
        drafts.append(
            Draft(
                id=stem(image),
                patient=stem(image),
                folder=str(image),
                images={"": str(image)} if image.is_file() else {},
                label=str(label) if label and label.is_file() else None,
            )
        )
    bare = [path for path in files if path.parent.name == UNLABELLED]
    drafts += [Draft(stem(p), stem(p), str(p), {"": str(p)}, labelled=False) for p in bare]
    cases, findings = judged(drafts, WHOLE)
    findings += training_extras(files, [*listed, *bare], 'or list it in "training" of dataset.json')
    return Dataset(
        name=str(content.get("name") or root.name),
        layout="msd",
        cases=cases,
        channels=selected,
        convention=convention,
        dimensions=file_dimensions(case.images[0] for case in cases),
        findings=tuple(findings),
        assumed=(OWN_PATIENT,),
    )
