"""Splits: disjoint, complete, by patient, and deaf to the same scan under two names."""

import gzip
import json
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medjax.data.cases import Case
from medjax.data.identity import join_duplicates
from medjax.data.splits import read_split, split
from medjax.errors import UserError


def cases_of(patients, scans=2):
    return [
        Case(f"p{p}_{s}", f"p{p}", (f"p{p}_{s}.nii.gz",), "l")
        for p in range(patients)
        for s in range(scans)
    ]


@given(st.integers(5, 40), st.integers(2, 5), st.floats(0, 0.5), st.integers(0, 9))
def test_no_patient_stands_on_two_sides(patients, folds, validation, seed):
    cases = cases_of(patients)
    by_id = {case.id: case.patient for case in cases}
    tested = []
    for fold in range(folds):
        parts = split(cases, folds=folds, fold=fold, validation=validation, seed=seed)
        sides = [{by_id[i] for i in part} for part in (parts.train, parts.validation, parts.test)]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
        assert len(parts.train) + len(parts.validation) + len(parts.test) == len(cases)
        assert parts.train
        assert parts.test
        tested.extend(parts.test)
    assert sorted(tested) == sorted(by_id)


def test_order_of_the_folder_does_not_matter_but_the_seed_does():
    cases = cases_of(20)
    first = split(cases, folds=5, fold=0, validation=0.1, seed=0)
    assert first == split(cases[::-1], folds=5, fold=0, validation=0.1, seed=0)
    assert first.sha256() != split(cases, folds=5, fold=0, validation=0.1, seed=1).sha256()


def test_few_training_cases_are_of_many_patients():
    cases = cases_of(10, scans=3)
    whole = split(cases, folds=5, fold=0, validation=0.1)
    few = split(cases, folds=5, fold=0, validation=0.1, train_cases=8)
    assert (few.validation, few.test) == (whole.validation, whole.test)
    assert set(few.train) < set(whole.train)
    assert len(few.train) == 8
    assert len({name[:2] for name in few.train}) == 7  # all that there are
    more = split(cases, folds=5, fold=0, validation=0.1, train_cases=9)
    assert set(few.train) < set(more.train)
    assert split(cases, folds=5, fold=0, validation=0.1, train_cases=99) == whole
    with pytest.raises(UserError, match=r"data\.train_cases"):
        split(cases, folds=5, fold=0, train_cases=-1)


@pytest.mark.parametrize(
    ("folds", "fold", "validation", "key"),
    [(5, 5, 0.1, "data.fold"), (30, 0, 0.1, "data.folds"), (5, 0, 1.0, "data.validation")],
)
def test_what_cannot_be_split_is_named(folds, fold, validation, key):
    with pytest.raises(UserError, match=key):
        split(cases_of(20), folds=folds, fold=fold, validation=validation)


def test_what_has_no_label_trains_by_its_images_alone():
    """But never beside a validating or tested patient; and it moves nobody from one part to another."""
    labelled = cases_of(10, scans=3)
    bare = [replace(c, label=None) for c in labelled if c.id.endswith("_2")]
    cases = [c for c in labelled if not c.id.endswith("_2")] + bare
    cases += [Case(f"u{i}", f"u{i}", ("i",), None) for i in range(3)]
    parts = split(cases, folds=5, fold=1, validation=0.2, train_cases=5)
    whole = split(labelled, folds=5, fold=1, validation=0.2)
    patient = {case.id: case.patient for case in cases}
    kept_out = {patient[i] for i in (*parts.validation, *parts.test)}
    assert kept_out == {patient[i] for i in (*whole.validation, *whole.test)}
    assert not {patient[i] for i in parts.unlabelled} & kept_out
    assert {"u0", "u1", "u2"} < set(parts.unlabelled)
    assert len(parts.train) == 5
    # of 6 training patients 2 labelled scans each, of which 5 train with labels, and 1 without
    assert len(parts.unlabelled) == 6 * 2 - 5 + 6 + 3
    assert not set(parts.train) & set(parts.unlabelled)
    assert split(labelled, folds=5, fold=1).unlabelled == ()
    assert parts.sha256() != replace(parts, unlabelled=()).sha256()


def test_a_split_of_ones_own(tmp_path):
    cases = [*cases_of(6), Case("u", "u", ("i",), None)]
    path = tmp_path / "split.json"
    wanted = split(cases, folds=3, fold=0, validation=0.1, train_cases=2)
    path.write_text(json.dumps({**asdict(wanted), "sha256": "as a run writes it"}))
    assert read_split(path, cases) == wanted

    def told(**lists):
        path.write_text(json.dumps(lists))
        with pytest.raises(UserError) as caught:
            read_split(path, cases)
        assert str(path) in str(caught.value)
        return str(caught.value)

    assert "p9_0" in told(train=["p0_0", "p9_0"])
    assert "twice" in told(train=["p0_0"], test=["p0_0"])
    assert "two sides" in told(train=["p0_0"], test=["p0_1"])
    assert "two sides" in told(train=["p1_0"], unlabelled=["p0_0"], validation=["p0_1"])
    assert "no label" in told(train=["u"])
    assert "no case is tested" in told(train=["p0_0"])
    assert "no case trains" in told(test=["p0_0"])
    assert "no split" in told(train=3)
    path.write_text("[]")
    with pytest.raises(UserError, match="no split"):
        read_split(path, cases)


def test_the_folds_of_nnunet_are_read_as_they_are(tmp_path):
    cases = cases_of(6)
    path = tmp_path / "splits_final.json"
    names = [case.id for case in cases]
    folds = [
        {"train": [n for n in names if n not in held], "val": held}
        for held in (names[:4], names[4:8], names[8:])
    ]
    path.write_text(json.dumps(folds))
    for fold, own in enumerate(folds):
        parts = read_split(path, cases, fold=fold, validation=0.1, seed=3)
        assert list(parts.test) == sorted(own["val"])
        assert sorted((*parts.train, *parts.validation)) == sorted(own["train"])
        assert len({name.split("_")[0] for name in parts.validation}) == 1
        assert len(parts.validation) == 2
        assert read_split(path, cases, fold=fold).validation == ()
    with pytest.raises(UserError, match=r"data\.fold: 3 is not one of the 3 folds"):
        read_split(path, cases, fold=3)
    path.write_text(json.dumps([{"train": names}]))
    with pytest.raises(UserError, match="no split"):
        read_split(path, cases)


def test_the_same_image_under_two_names_joins_the_patients(tmp_path):
    for name, content in {
        "a": b"one",
        "b": b"two",
        "c": b"one",
        "d": b"two",
        "e": b"three",
    }.items():
        # another compression level and time: other bytes, the same content
        (tmp_path / f"{name}.nii.gz").write_bytes(
            gzip.compress(content * 99, compresslevel=1 + ord(name) % 8)
        )
    cases = [Case(n, n.upper(), (str(tmp_path / f"{n}.nii.gz"),), None) for n in "abcde"]
    joined, notes = join_duplicates(cases)
    assert [case.patient for case in joined] == ["A", "B", "A", "B", "E"]
    assert len(notes) == 2


def test_acdc_holds_one_patient_twice(shared):
    from medjax.data.layouts import open_dataset

    _, notes = join_duplicates(open_dataset(str(shared / "acdc")).cases)
    assert notes
    assert all("patient074 and patient076" in note for note in notes)
