"""What is known of cases beside their label maps: tables in a data set's folder."""

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medjax.data.cases import Case, Dataset, Object
from medjax.errors import UserError

DRAWN, TARGETS, OBJECTS = "drawn.csv", "targets.csv", "objects.csv"
SPHERE, BOX = ("diameter",), ("size_x", "size_y", "size_z")


def with_drawn(dataset: Dataset, root: Path) -> Dataset:
    """The data set with what its drawn.csv says, where it has one: the classes that its label maps tell of.

    `case,drawn`: the drawn classes by name, separated by semicolons. In a case that is left out all were
    drawn. Errors name file and line: no such case or class, no class at all, a case with two lines.
    """
    path = root / DRAWN
    if not path.is_file():
        return dataset
    classes = dataset.convention.classes[1:]
    by_case: dict[str, tuple[str, ...]] = {}
    for line, row in _rows(path, ("case", "drawn"), {case.id for case in dataset.cases}):
        names = [name.strip() for name in row["drawn"].split(";") if name.strip()]
        strange = [name for name in names if name not in classes]
        if strange:
            raise UserError(
                f"{path}: line {line}: {strange[0]!r} is no class; choose among {', '.join(classes)}"
            )
        if not names:
            raise UserError(
                f"{path}: line {line}: names no class of {row['case']}; take the line out where all were "
                "drawn, and the label map away where none was"
            )
        if row["case"] in by_case:
            raise UserError(f"{path}: line {line}: a second line of {row['case']}; keep one")
        by_case[row["case"]] = tuple(name for name in classes if name in names)
    some = {case: own for case, own in by_case.items() if len(own) < len(classes)}
    return replace(
        dataset,
        cases=tuple(replace(case, drawn=some.get(case.id)) for case in dataset.cases),
        convention=replace(dataset.convention, partial=tuple(sorted(set(some.values())))),
    )


def annotated(dataset: Dataset, root: Path) -> Dataset:
    """The data set with the classes of its targets.csv and the objects of its objects.csv, where it has any.

    targets.csv: `case,target`, the class by name; a case that is left out, or whose target is empty, has
    none. Classes are numbered in the order of the alphabet.
    objects.csv: `case,x,y,z` in mm of the world (RAS+, as NIfTI has it), and `diameter` or
    `size_x,size_y,size_z`; a line for each object. A line with empty places says that the case was searched
    and holds none; a case without any line was not searched.
    Errors name file and line: a column or number that is missing, a case that there is not or that has two
    classes.
    """
    known = {case.id for case in dataset.cases}
    targets, objects = root / TARGETS, root / OBJECTS
    if targets.is_file():
        dataset = _with_targets(dataset, targets, known)
    if objects.is_file():
        found = read_objects(objects, known)
        cases = [replace(case, objects=found.get(case.id)) for case in dataset.cases]
        dataset = replace(dataset, cases=tuple(cases))
    return dataset


def _with_targets(dataset: Dataset, path: Path, known: set[str]) -> Dataset:
    by_case: dict[str, str] = {}
    for line, row in _rows(path, ("case", "target"), known):
        if by_case.setdefault(row["case"], row["target"]) != row["target"]:
            raise UserError(f"{path}: line {line}: a second class of {row['case']}; keep one")
    names = tuple(sorted({name for name in by_case.values() if name}))

    def told(case: Case) -> Case:
        name = by_case.get(case.id, "")
        return replace(case, target=names.index(name) if name else None)

    return replace(dataset, cases=tuple(map(told, dataset.cases)), targets=names)


def read_objects(path: Path, known: set[str]) -> dict[str, tuple[Object, ...]]:
    """The objects of each case that was searched. Errors as in `annotated`."""
    found: dict[str, tuple[Object, ...]] = {}
    for line, row in _rows(path, ("case", "x", "y", "z"), known):
        before = found.get(row["case"], ())
        sizes = SPHERE if SPHERE[0] in row else BOX
        fields = ("x", "y", "z", *sizes)
        if not any(row.get(name) for name in fields):
            found[row["case"]] = before
            continue
        numbers = [_number(path, line, name, row.get(name)) for name in fields]
        if min(numbers[3:]) <= 0:
            raise UserError(
                f"{path}: line {line}: a size of {min(numbers[3:]):g} mm; give it in mm"
            )
        size = numbers[3:] * 3 if sizes == SPHERE else numbers[3:]
        made = Object((numbers[0], numbers[1], numbers[2]), (size[0], size[1], size[2]))
        found[row["case"]] = (*before, made)
    return found


def _rows(path: Path, columns: Sequence[str], known: set[str]) -> list[tuple[int, dict[str, str]]]:
    """The lines of a table with their numbers, stripped."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); save it as UTF-8") from error
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"{path}: has no column {', '.join(missing)}; name them in its first line")
    rows = []
    for row in reader:
        clean = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        if clean["case"] not in known:
            raise UserError(
                f"{path}: line {reader.line_num}: no case {clean['case']!r} in this data set; "
                "correct its name or remove the line"
            )
        rows.append((reader.line_num, clean))
    return rows


def _number(path: Path, line: int, name: str, text: str | None) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}: line {line}: {name} is {text!r}; give a number in mm")
    return value
