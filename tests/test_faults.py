"""What the machine refuses is said in one line that names the path and what to do."""

import errno
import os

import jax.numpy as jnp
import numpy as np
import pytest

from medjax import cli, faults


@pytest.mark.parametrize("allocate", [jnp.zeros, np.ones])
def test_memory_that_there_is_not_is_named_with_what_to_lower(allocate):
    with pytest.raises(Exception) as caught:  # noqa: PT011  # jax's own kind, or MemoryError
        allocate((1 << 50,), "float32").sum()
    assert "lower plan.batch" in faults.explained(caught.value)


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "make room"), (errno.EACCES, "rights"), (errno.ENOTDIR, "give a path")],
)
def test_files_that_cannot_be_written_are_named(number, advice):
    error = OSError(number, os.strerror(number), "there/file")
    assert faults.explained(error).startswith(f"there/file: {os.strerror(number)}")
    assert advice in faults.explained(error)
    words = f"""Error writing "w" at local file "there/state/": [os_error_code='{number}']"""
    assert faults.explained(ValueError(words)).startswith("there/state/: ")


@pytest.mark.parametrize("error", [KeyError("x"), OSError(errno.ENOENT, "gone", "file")])
def test_faults_of_ours_are_not_the_machines(error):
    assert faults.explained(error) is None


def test_a_file_where_the_work_folder_should_be_is_named(tmp_path, capsys):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(SystemExit) as caught:
        cli.run(["--config", "experiments/quick.py", "--workdir", str(path)])
    assert caught.value.code == 1
    assert f"{path}: File exists; give a path that is free" in capsys.readouterr().err
