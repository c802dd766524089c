"""`dataset.json` as the Medical Segmentation Decathlon and nnU-Net write it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medjax.data.convention import Convention, Region
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.errors import UserError

OWN_PATIENT = "each case is taken for a patient of its own: the layout names no patients"
_MSD_BRAIN = {0: "background", 1: "edema", 2: "non-enhancing tumor", 3: "enhancing tumour"}


def description(root: Path) -> dict[str, Any]:
    """The content of root/dataset.json. Raises UserError that names the file."""
    path = root / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); mend or replace it") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no JSON object; write the keys of the data set")
    return content


def channel_names(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    """Channels in the order of their numbers ("0", "1", ...)."""
    names = content.get("channel_names", content.get("modality"))
    if (
        not isinstance(names, dict)
        or set(names) != {str(i) for i in range(len(names))}
        or not names
    ):
        raise UserError(
            f'{path}: "channel_names" (or "modality") must be {{"0": name, "1": name, ...}}; '
            f"it is {names!r}"
        )
    channels = tuple(str(names[str(i)]) for i in range(len(names)))
    # The decathlon names both channels of some sets alike.
    return (
        channels
        if len(set(channels)) == len(channels)
        else tuple(f"{name}_{i}" for i, name in enumerate(channels))
    )


def label_convention(path: Path, content: Mapping[str, Any]) -> Convention:
    """Names, regions and the ignore label of "labels", in either direction of the mapping.

    Decathlon: {"1": "liver"}. nnU-Net: {"liver": 1}, or regions {"whole tumour": [1, 2, 3]}
    painted as the values of "regions_class_order", and "ignore".
    """
    name = str(content.get("name") or path.parent.name)
    labels = content.get("labels")
    if not isinstance(labels, dict):
        raise UserError(f'{path}: "labels" must name the label values; it is {labels!r}')
    try:
        if all(isinstance(value, str) for value in labels.values()):
            values = {int(value): str(label) for value, label in labels.items()}
            values = dict(sorted(values.items()))
            if {v: label.lower() for v, label in values.items()} == _MSD_BRAIN:
                return CONVENTIONS["msd_brain"]
            return Convention(name, values)
        ignore = int(labels["ignore"]) if "ignore" in labels else None
        sets = {
            str(label): tuple(map(int, value if isinstance(value, list) else [value]))
            for label, value in labels.items()
            if label != "ignore"
        }
        if all(len(members) == 1 for members in sets.values()):
            by_value = sorted((members[0], label) for label, members in sets.items())
            return Convention(name, dict(by_value), ignore=ignore)
        order = [int(value) for value in content["regions_class_order"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{path}: cannot read "labels" {labels!r} ({type(error).__name__}: {error}); '
            'give {"name": value}, with lists of values also "regions_class_order"'
        ) from None
    return _regions(path, name, sets, order, ignore)


def _regions(
    path: Path,
    name: str,
    sets: Mapping[str, tuple[int, ...]],
    order: list[int],
    ignore: int | None,
) -> Convention:
    """Regions of nnU-Net: a value that is a region by itself lends the class its name."""
    alone = {members[0]: label for label, members in sets.items() if len(members) == 1}
    known = sorted({0}.union(*sets.values()))
    values = {
        value: alone.get(value, f"label_{value}" if value else "background") for value in known
    }
    regions = [(label, members) for label, members in sets.items() if set(members) != {0}]
    strange = [value for value in order if value not in values]
    if len(order) != len(regions) or strange:
        raise UserError(
            f'{path}: "regions_class_order" {order} must give one label value for each of the '
            f"regions {', '.join(label for label, _ in regions)}"
        )
    return Convention(
        name,
        values,
        tuple(
            Region(label, tuple(values[member] for member in members), values[painted])
            for (label, members), painted in zip(regions, order, strict=True)
        ),
        ignore,
    )
