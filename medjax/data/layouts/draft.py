"""From what a folder holds for each case to cases and findings: the same for every layout."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from medjax.data.cases import Case, Finding
from medjax.errors import UserError

WHOLE = ("",)  # the one entry of `images` where a single file holds every channel


@dataclass(frozen=True)
class Draft:
    """The files found for one case. images: channel (or "" for all of them) -> path."""

    id: str
    patient: str
    folder: str
    images: Mapping[str, str] = field(default_factory=dict)
    label: str | None = None
    target: int | None = None
    labelled: bool = True  # whether a missing label is worth a finding


def judged(
    drafts: Iterable[Draft], expected: Sequence[str]
) -> tuple[tuple[Case, ...], list[Finding]]:
    """The usable cases, sorted by id, and a finding for each fault of the others.

    expected: the channels each case must have, in order; `WHOLE` where one file holds them all.
    A case without a label stays (with a finding), one without an image or a channel does not.
    """
    cases: dict[str, Case] = {}
    findings = []
    for draft in sorted(drafts, key=lambda draft: (draft.id, draft.folder)):
        missing = [name for name in expected if name not in draft.images]
        if not draft.images:
            if draft.label is not None:
                message = "a label without an image; add the image or remove the label"
                findings.append(Finding(draft.id, "orphan label", draft.label, message))
            else:
                message = "no image; restore the file or remove the case"
                findings.append(Finding(draft.id, "missing image", draft.folder, message))
        elif missing:
            message = (
                f"no {', '.join(missing)}; the case is left out: add the file, "
                "or name the channels that every case has in config.data.channels"
            )
            findings.append(Finding(draft.id, "missing channel", draft.folder, message))
        elif draft.id in cases:
            message = (
                f"a second case {draft.id} beside {cases[draft.id].images[0]}, left out; "
                "rename or remove it"
            )
            findings.append(Finding(draft.id, "duplicate name", draft.folder, message))
        else:
            images = tuple(draft.images[name] for name in expected)
            cases[draft.id] = Case(draft.id, draft.patient, images, draft.label, draft.target)
            if draft.label is None and draft.labelled:
                message = "no label; add it, or the case trains only what needs none"
                findings.append(Finding(draft.id, "missing label", images[0], message))
    return tuple(cases.values()), findings


def chosen(available: Sequence[str], wanted: Sequence[str], where: str) -> tuple[str, ...]:
    """The channels to use: all, or the wanted ones in the wanted order."""
    strange = [name for name in wanted if name not in available]
    if strange or len(set(wanted)) < len(wanted):
        raise UserError(
            f"config.data.channels={','.join(wanted)}: {where} has {', '.join(available)}; "
            "name some of these, each once"
        )
    return tuple(wanted or available)


def unchosen(available: Sequence[str], wanted: Sequence[str], where: str) -> tuple[str, ...]:
    """The channels of files that hold them all: a choice among them is an error."""
    if wanted and tuple(wanted) != tuple(available):
        raise UserError(
            f"config.data.channels={','.join(wanted)}: each image of {where} is one file with the "
            f"channels {','.join(available)}; leave config.data.channels empty"
        )
    return tuple(available)


def common(drafts: Sequence[Draft], order: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The channels that more than half of the cases have, and a line for each other one.

    A channel that a single case lacks is that case's fault, not the loss of the channel for all.
    """
    imaged = [draft for draft in drafts if draft.images]
    counts = {name: sum(name in draft.images for draft in imaged) for name in order}
    kept = tuple(name for name in order if 2 * counts[name] > len(imaged))
    if imaged and not kept:
        raise UserError(
            f"{imaged[0].folder}: no image has the same name in more than half of the cases "
            f"(names: {', '.join(order[:8])}); name the files alike, or set config.data.channels"
        )
    notes = [
        f"channel {name} left aside: only {counts[name]} of {len(imaged)} cases have it"
        for name in order
        if counts[name] and name not in kept
    ]
    return kept, notes
