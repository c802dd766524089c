"""Finds the same image under two names before a split can part them."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medjax.data.cases import Case


def content_key(path: str) -> str:
    """A key that equal files share: for gzip the stored checksum and length, else a hash of the bytes.

    A gzip file ends in the CRC-32 and the length of what it holds, so eight bytes tell. A folder (a
    DICOM series) is known by its own name alone. An unreadable file raises OSError.
    """
    file = Path(path)
    if file.is_dir():
        return str(file.resolve())
    with file.open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            stream.seek(-8, 2)
            return f"gzip-{stream.read().hex()}"
        stream.seek(0)
        return hashlib.file_digest(stream, "blake2b").hexdigest()


def join_duplicates(cases: Sequence[Case]) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """The cases with patients that share an image made one, and a line about each pair found.

    The same scan under two names would otherwise train and test. It compares the first image of
    each case, byte for byte; a scan that was stored anew with another header is found by `verify`,
    which reads voxels.
    """
    parent: dict[str, str] = {}

    def root(patient: str) -> str:
        while patient in parent:
            patient = parent[patient]
        return patient

    first: dict[str, Case] = {}
    notes = []
    for case in cases:
        try:
            found = first.setdefault(content_key(case.images[0]), case)
        except OSError:
            continue  # reading it will say what is wrong
        one, other = root(found.patient), root(case.patient)
        if one != other:
            parent[other] = one
            notes.append(
                f"patients {found.patient} and {case.patient} hold the same image "
                f"({found.id}, {case.id}) and stay on one side of the split"
            )
    joined = tuple(replace(case, patient=root(case.patient)) for case in cases)
    return joined, tuple(notes)
