"""The label conventions that have a name, and how a user gives one of their own."""

from collections.abc import Mapping

from medjax.data.convention import Convention, Region
from medjax.errors import UserError


def _tumour(name: str, values: Mapping[int, str], core: tuple[str, ...]) -> Convention:
    """Whole tumour, tumour core (all but oedema) and enhancing tumour: the regions of BraTS."""
    regions = (
        Region("WT", tuple(value for value in values.values() if value != "background"), "oedema"),
        Region("TC", core, core[0]),
        Region("ET", ("enhancing",), "enhancing"),
    )
    return Convention(name, values, regions)


CONVENTIONS = {
    "brats2015": _tumour(
        "brats2015",
        {0: "background", 1: "necrosis", 2: "oedema", 3: "non_enhancing", 4: "enhancing"},
        ("necrosis", "non_enhancing", "enhancing"),
    ),
    # From 2017 on, value 1 is the necrotic and the non-enhancing core together.
    "brats2018": _tumour(
        "brats2018",
        {0: "background", 1: "necrosis", 2: "oedema", 4: "enhancing"},
        ("necrosis", "enhancing"),
    ),
    "brats2023": _tumour(
        "brats2023",
        {0: "background", 1: "necrosis", 2: "oedema", 3: "enhancing"},
        ("necrosis", "enhancing"),
    ),
    "msd_brain": _tumour(
        "msd_brain",
        {0: "background", 1: "oedema", 2: "non_enhancing", 3: "enhancing"},
        ("non_enhancing", "enhancing"),
    ),
    "acdc": Convention("acdc", {0: "background", 1: "RV", 2: "myocardium", 3: "LV"}),
    # Masks are stored as 0/255 (DRIVE) or as one bit (CHASE_DB1).
    "vessel": Convention("vessel", {0: "background", 255: "vessel", 1: "vessel"}),
    "plaque": Convention("plaque", {0: "background", 1: "plaque"}),
    "binary": Convention("binary", {0: "background", 1: "foreground"}),
}
IGNORED = "ignore"
HOW_TO_NAME = (
    "set config.data.convention to one of "
    + ", ".join(CONVENTIONS)
    + " or to the class names by value from 0 on, background first, e.g. background,liver,tumour "
    "(0=background,255=tumour where the values have gaps; ignore for what nobody labelled)"
)


def named(text: str) -> Convention | None:
    """The convention that `text` names; None for "" (the layout decides).

    text: a key of CONVENTIONS, or class names "background,liver,tumour" for the values 0, 1, 2,
        or "0=background,255=tumour". The name "ignore" is for voxels that nobody labelled, as in
        nnU-Net. Raises UserError for anything else.
    """
    text = text.strip()
    if not text:
        return None
    if text in CONVENTIONS:
        return CONVENTIONS[text]
    entries = [entry.strip() for entry in text.split(",")]
    values: dict[int, str] = {}
    for position, entry in enumerate(entries):
        value, equals, name = entry.rpartition("=")
        if not name.strip() or (equals and not value.strip().lstrip("-").isdigit()):
            raise UserError(
                f"config.data.convention={text!r}: cannot read {entry!r}; {HOW_TO_NAME}"
            )
        number = int(value) if equals else position
        if number in values:
            raise UserError(
                f"config.data.convention={text!r}: value {number} is named twice; {HOW_TO_NAME}"
            )
        values[number] = name.strip()
    if len(entries) == 1:
        raise UserError(f"config.data.convention={text!r}: no such convention; {HOW_TO_NAME}")
    unlabelled = [number for number, name in values.items() if name == IGNORED]
    if len(unlabelled) > 1:
        raise UserError(f"config.data.convention={text!r}: {IGNORED} is named twice; {HOW_TO_NAME}")
    classes = {number: name for number, name in values.items() if name != IGNORED}
    return Convention("custom", classes, ignore=unlabelled[0] if unlabelled else None)
