"""From a folder, in one of the layouts of the field, to a data set of cases."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from medjax.data.cases import Dataset
from medjax.data.convention import Convention
from medjax.data.layouts import acdc, brats, decathlon, nnunet, plain, vessels
from medjax.data.layouts.conventions import named
from medjax.data.layouts.listing import image_files
from medjax.errors import UserError


class Layout(NamedTuple):
    """How a layout is recognised, how it is opened, and what a user reads when none fits."""

    fits: Callable[[Path, Sequence[Path]], bool]
    open: Callable[[Path, Sequence[Path], Sequence[str], Convention | None], Dataset]
    looked_for: str


# In the order of trial: plain would take most of the others.
LAYOUTS = {
    "nnunet": Layout(nnunet.fits, nnunet.open_nnunet, nnunet.LOOKED_FOR),
    "msd": Layout(decathlon.fits, decathlon.open_decathlon, decathlon.LOOKED_FOR),
    "brats": Layout(brats.fits, brats.open_brats, brats.LOOKED_FOR),
    "acdc": Layout(acdc.fits, acdc.open_acdc, acdc.LOOKED_FOR),
    "drive": Layout(vessels.fits_drive, vessels.open_drive, vessels.DRIVE_LOOKED_FOR),
    "chase": Layout(vessels.fits_chase, vessels.open_chase, vessels.CHASE_LOOKED_FOR),
    "plain": Layout(plain.fits, plain.open_plain, plain.LOOKED_FOR),
}


def open_dataset(
    root: str, layout: str = "auto", *, channels: Sequence[str] = (), convention: str = ""
) -> Dataset:
    """The cases of a folder, with the faults of the folder as findings.

    layout: a key of LAYOUTS, or "auto": the first that fits.
    channels: which, and in which order (layouts with a file per channel); () takes those that
        more than half of the cases have.
    convention: "" (the layout's own, or decided by the files, see `Dataset.assumed`), a name of
        `conventions.CONVENTIONS`, or class names by value "background,liver,tumour".
    A single bad case is a finding. Raises UserError where nothing can be used: no such folder, no
    layout fits, no usable case, a label convention that the files leave open.
    """
    folder = Path(root)
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "no such folder"
        raise UserError(f"{root}: {what}; set config.data.root to the folder of the data set")
    if layout != "auto" and layout not in LAYOUTS:
        raise UserError(
            f"config.data.layout={layout!r}: no such layout; use auto, {', '.join(LAYOUTS)}"
        )
    named_convention = named(convention)
    files = image_files(folder)
    tried = LAYOUTS if layout == "auto" else {layout: LAYOUTS[layout]}
    fitting = next((name for name in tried if tried[name].fits(folder, files)), layout)
    if fitting == "auto":
        looked_for = "; ".join(f"{name}: {entry.looked_for}" for name, entry in tried.items())
        raise UserError(
            f"{root}: {len(files)} image files in no known layout; looked for {looked_for}; "
            "arrange the files in one of them or set config.data.layout"
        )
    dataset = LAYOUTS[fitting].open(folder, files, tuple(channels), named_convention)
    if not dataset.cases:
        first = f" ({dataset.findings[0].message})" if dataset.findings else ""
        raise UserError(
            f"{root}: no usable case in the layout {fitting}{first}; "
            f"expected {LAYOUTS[fitting].looked_for}"
        )
    return dataset
