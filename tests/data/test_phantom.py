"""Folders of prostate phantoms: what they hold, that they are whole, and whose lesions are missing."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

from medjax.data import phantom
from medjax.data.annotations import annotated
from medjax.data.layouts import open_dataset
from medjax.data.phantom import make_phantoms
from medjax.data.splits import read_split
from medjax.data.verify import verify
from medjax.errors import UserError
from medjax.sim import prostate

CASES = (6, 2, 6)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_phantoms(tmp_path_factory.mktemp("phantom") / "all", seed=4, cases=CASES)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """The same patients, half of whose lesions nobody drew."""
    folder = tmp_path_factory.mktemp("phantom") / "half"
    return make_phantoms(folder, seed=4, cases=CASES, missing=0.5)


def labels(root, part):
    paths = sorted((root / "labelsTr").glob(f"{part}*.nii.gz"))
    return [np.asarray(nib.load(path).dataobj) for path in paths]


def classes(root):
    with (root / "targets.csv").open(encoding="utf-8", newline="") as file:
        return {row["case"]: row["target"] for row in csv.DictReader(file)}


def test_a_folder_is_a_data_set_without_findings(root):
    dataset = annotated(open_dataset(str(root)), root)
    assert verify(dataset) == []
    assert dataset.channels == prostate.CHANNELS
    assert dataset.convention.classes == prostate.CLASSES
    assert dataset.targets == phantom.TARGETS
    assert all(case.target is not None for case in dataset.cases)
    parts = read_split(root / "split.json", dataset.cases)
    assert tuple(map(len, (parts.train, parts.validation, parts.test))) == CASES
    volume = nib.load(root / "imagesTr" / "test-4-0000_0001.nii.gz")
    assert volume.shape == prostate.SHAPE
    np.testing.assert_allclose(volume.header.get_zooms(), prostate.SPACING)


def test_missing_lesions_are_of_those_who_train_and_validate(root, half):
    """Not one voxel of who is tested differs; of the others nothing but lesions, and images not at all."""
    for part in ("train", "validation", "test"):
        lost = 0
        for all_, some in zip(labels(root, part), labels(half, part), strict=True):
            differs = all_ != some
            assert (all_[differs] == 3).all()
            assert (some[differs] != 3).all()
            lost += differs.sum()
        assert (lost > 0) == (part == "train") or part == "validation"
    told, known = classes(root), classes(half)
    for case, name in told.items():
        if name == "none" or case.startswith("test"):
            assert known[case] == name
    for path in sorted((root / "imagesTr").iterdir()):
        one, other = (nib.load(p) for p in (path, half / "imagesTr" / path.name))
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))


def test_a_folder_is_whole_or_not_there(tmp_path, monkeypatch):
    written = []

    def fail(*arguments):
        written.append(arguments)
        if len(written) == 3:
            raise OSError("disk full")

    monkeypatch.setattr(phantom, "_write", fail)
    with pytest.raises(OSError, match="disk full"):
        make_phantoms(tmp_path / "made", seed=0, cases=CASES)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept_or_refused(root, tmp_path):
    before = (root / "targets.csv").stat().st_mtime_ns
    make_phantoms(root, seed=4, cases=CASES)
    assert (root / "targets.csv").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="holds other phantoms"):
        make_phantoms(root, seed=5, cases=CASES)
    with pytest.raises(UserError, match="is no folder of phantoms"):
        make_phantoms(tmp_path, seed=4, cases=CASES)
    with pytest.raises(UserError, match=r"phantom\.missing: 2 is no share"):
        make_phantoms(tmp_path / "new", seed=4, cases=CASES, missing=2)
    with pytest.raises(UserError, match="at least 1 each"):
        make_phantoms(tmp_path / "new", seed=4, cases=(1, 0, 1))
    assert json.loads((root / "provenance.json").read_text("utf-8"))["seed"] == 4
