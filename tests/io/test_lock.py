"""A work folder is one run's at a time, and nobody's where that run died."""

import subprocess
import sys

import pytest

from medjax.errors import UserError
from medjax.io.lock import locked

HOLD = """
import sys, time
from pathlib import Path
from medjax.io.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_has_died(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        used = f"run: is in use by process {process.pid} on"
        with pytest.raises(UserError, match=used), locked(folder):
            pytest.fail("two runs hold one folder")
        process.kill()
    with locked(folder):
        (folder / "results").touch()
    assert sorted(path.name for path in folder.iterdir()) == ["results"]


def test_a_run_that_leaves_nothing_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="no"), locked(tmp_path / "run"):
        raise ValueError("no")
    assert not (tmp_path / "run").exists()
    with locked(tmp_path):  # it was there before
        pass
    assert tmp_path.is_dir()
