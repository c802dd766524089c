import subprocess
import sys

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


HALF = """
import os, signal, sys
from medjax.io.atomic import atomic
with atomic(sys.argv[1]) as temporary:
    temporary.mkdir() if sys.argv[2] == "folder" else temporary.write_text("half")
    if sys.argv[3] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    print("written", flush=True)
    sys.stdin.read()
"""


def start(path, kind, fate):
    command = [sys.executable, "-c", HALF, str(path), kind, fate]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path, kind):
    path = tmp_path / "case[1].nii.gz"
    with start(path, kind, "killed") as process:
        process.communicate()
    assert len(names(tmp_path)) == 1
    with atomic(tmp_path / "other.nii.gz") as temporary:
        temporary.touch()
    assert len(names(tmp_path)) == 2
    with atomic(path) as temporary:
        temporary.touch()
    assert names(tmp_path) == ["case[1].nii.gz", "other.nii.gz"]


def test_what_a_process_still_writes_stays(tmp_path):
    path = tmp_path / "a.txt"
    with start(path, "file", "lives") as process:
        assert process.stdout.readline() == "written\n"
        with atomic(path) as temporary:
            temporary.write_text("ours")
        assert len(names(tmp_path)) == 2
        process.communicate()
    assert path.read_text("utf-8") == "half"
    assert names(tmp_path) == ["a.txt"]
