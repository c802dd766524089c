"""What `--mode predict` takes for a case."""

from pathlib import Path

import pytest

from medjax.data.inputs import find_inputs, stem
from medjax.errors import UserError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def found(path, channels):
    return {
        case.id: [p.rsplit("/", 1)[1] for p in case.images] for case in find_inputs(path, channels)
    }


def test_a_file_is_a_case(tmp_path):
    touch(tmp_path, "scan.nii.gz")
    assert found(tmp_path / "scan.nii.gz", ["mr"]) == {"scan": ["scan.nii.gz"]}


def test_one_channel_each_file_is_a_case(tmp_path):
    touch(tmp_path, "b.nii", "a.mha", "notes.txt", ".hidden.nii.gz")
    assert found(tmp_path, ["mr"]) == {"a": ["a.mha"], "b": ["b.nii"]}


def test_nnunet_numbers_and_channel_names(tmp_path):
    touch(tmp_path, "p1_0001.nii.gz", "p1_0000.nii.gz", "p2_0000.nii.gz", "p2_0001.nii.gz")
    assert found(tmp_path, ["flair", "t1ce"]) == {
        "p1": ["p1_0000.nii.gz", "p1_0001.nii.gz"],
        "p2": ["p2_0000.nii.gz", "p2_0001.nii.gz"],
    }


def test_channels_in_the_models_order_labels_left_aside(tmp_path):
    touch(tmp_path, "a/a_t1ce.nii.gz", "a/a_flair.nii.gz", "a/a_seg.nii.gz")
    touch(tmp_path, "b/b-t2f.nii.gz", "b/b-t1c.nii.gz")
    assert found(tmp_path, ["flair", "t1ce"]) == {
        "a": ["a_flair.nii.gz", "a_t1ce.nii.gz"],
        "b": ["b-t2f.nii.gz", "b-t1c.nii.gz"],
    }


def test_a_case_that_lacks_a_channel_is_kept_to_fail_by_itself(tmp_path):
    touch(tmp_path, "a_flair.nii.gz", "a_t1ce.nii.gz", "b_flair.nii.gz")
    assert [len(case.images) for case in find_inputs(tmp_path, ["flair", "t1ce"])] == [2, 1]


def test_a_dicom_series_is_its_folder(tmp_path):
    touch(tmp_path, "series/0001", "series/0002")
    (case,) = find_inputs(tmp_path / "series", ["ct"])
    assert case.images == (str(tmp_path / "series"),)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        find_inputs(tmp_path / "none", ["mr"])
    with pytest.raises(UserError, match="holds no image"):
        find_inputs(tmp_path, ["mr"])


def test_stems():
    assert [stem(Path(name)) for name in ("a.nii.gz", "b.nii", "c.d.mha")] == [
        "a",
        "b",
        "c.d",
    ]
