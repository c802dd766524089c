"""What a data set is once its folder is read: cases, channels, a label convention, findings."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from medjax.data.convention import Convention


class Object(NamedTuple):
    """Something to be found in a scan: its centre in mm of the world (RAS+), its size in mm along the axes.

    Sizes are whole lengths; a sphere has its diameter three times.
    """

    centre: tuple[float, float, float]
    size: tuple[float, float, float]


@dataclass(frozen=True)
class Case:
    """One labelled (or unlabelled) image: the unit that is sampled and judged.

    patient: the unit that is split; several cases may share it.
    images: one path per channel of the data set, or a single path of a file that holds all of
        its channels on the last axis (4-D NIfTI of the decathlon, colour photographs).
    label: path of the reference label map; None where nobody drew one, or it is not to be used.
    drawn: the classes that were drawn in it, in the order of the convention; None for all of them.
    target: index into the data set's `targets` (the diagnosis), where the layout gives one.
    objects: what a list says is in it; None where it was not searched (a label map may tell).
    """

    id: str
    patient: str
    images: tuple[str, ...]
    label: str | None
    target: int | None = None
    objects: tuple[Object, ...] | None = None
    drawn: tuple[str, ...] | None = None

    def tells(self, tasks: Sequence[str]) -> bool:
        """Whether something is known of it that one of the tasks (segmentation, ...) can learn."""
        known = {
            "segmentation": self.label is not None,
            "classification": self.target is not None,
            "detection": self.label is not None or self.objects is not None,
        }
        return any(known[task] for task in tasks)

    def bare(self) -> "Case":
        """Its images alone, as if nobody had said anything of them."""
        return replace(self, label=None, target=None, objects=None, drawn=None)


@dataclass(frozen=True)
class Finding:
    """One fault of a data set: which case, what kind (a fixed phrase), which file, what to do."""

    case: str
    kind: str
    file: str
    message: str


@dataclass(frozen=True)
class Dataset:
    """The cases of a folder, sorted by id.

    channels: names, in the order in which the network sees them.
    targets: names of the diagnoses, by `Case.target`.
    dimensions: 2 for pictures (one slice per file), 3 for volumes.
    findings: what was wrong with the folder itself; `verify` opens the files too.
    assumed: what was decided without being told, one line each, for the log and the results.
    """

    name: str
    layout: str
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    convention: Convention
    targets: tuple[str, ...] = ()
    dimensions: int = 3
    findings: tuple[Finding, ...] = ()
    assumed: tuple[str, ...] = ()
