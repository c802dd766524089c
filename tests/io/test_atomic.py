import pytest

from medjax.io.atomic import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def interrupt(path, error, folder=False):
    with atomic(path) as temporary:
        if folder:
            temporary.mkdir()
        (temporary / "half" if folder else temporary).write_text("half")
        raise error


def test_the_file_appears_at_the_end_alone(tmp_path):
    path = tmp_path / "new" / "case.nii.gz"
    with atomic(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffixes[-2:] == [".nii", ".gz"]
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text("utf-8") == "whole"
    assert names(path.parent) == ["case.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "plan.json"
    path.write_text("old")
    with pytest.raises(error):
        interrupt(path, error)
    assert path.read_text("utf-8") == "old"
    assert names(tmp_path) == ["plan.json"]


def test_an_error_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="early"), atomic(tmp_path / "a.json"):
        raise ValueError("early")
    assert names(tmp_path) == []


def test_a_whole_folder(tmp_path):
    with atomic(tmp_path / "export") as temporary:
        temporary.mkdir()
        (temporary / "model.onnx").write_text("m")
    assert names(tmp_path / "export") == ["model.onnx"]


def test_an_error_removes_a_half_written_folder(tmp_path):
    with pytest.raises(ValueError, match="late"):
        interrupt(tmp_path / "export", ValueError("late"), folder=True)
    assert names(tmp_path) == []


def test_what_was_replaced_is_gone(tmp_path):
    path = tmp_path / "a.txt"
    for text in ("first", "second"):
        with atomic(path) as temporary:
            temporary.write_text(text)
    assert path.read_text("utf-8") == "second"
