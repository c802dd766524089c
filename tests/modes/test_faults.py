"""Runs that are stopped, damaged or started twice: nothing is lost, and the cause is named."""

import os

import jax
import numpy as np
import pytest

from medjax import interrupt
from medjax.io.lock import locked
from medjax.train import loop


@pytest.fixture(scope="module")
def train(make_scans, train_on, tmp_path_factory):
    """`train(workdir, {key: value})`: a run of six steps in this process, saved after every second."""
    root = tmp_path_factory.mktemp("faults") / "scans"
    make_scans(root)
    return train_on(root, {"plan.width": 4, "train.steps": 6, "train.validations": 3})


@pytest.fixture(scope="module")
def whole(train, last_state, tmp_path_factory):
    """The work folder of a run, and how it ended."""
    workdir = tmp_path_factory.mktemp("faults") / "whole"
    train(workdir, {})
    return workdir, last_state(workdir)


@pytest.mark.filterwarnings("default:.* is damaged")
def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(
    whole, train, last_state, capsys
):
    workdir, before = whole
    newest = workdir / "checkpoints" / "6"
    files = [path for path in (newest / "state").rglob("*") if path.is_file()]
    path = max(files, key=lambda file: file.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SystemExit):
        train(workdir, {}, "eval")
    assert f"{newest}: is damaged" in capsys.readouterr().err
    train(workdir, {})
    told = capsys.readouterr()
    assert f"{newest}: is damaged" in told.err
    assert "resuming at step 4 of 6" in told.out
    jax.tree.map(np.testing.assert_array_equal, before, last_state(workdir))


def test_sigterm_saves_and_is_no_failure(whole, train, last_state, tmp_path, monkeypatch, capsys):
    look = loop.Watch.look

    def stop(self, number, means, batch):
        if number == 3:
            raise interrupt.Preempted
        look(self, number, means, batch)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Watch, "look", stop)
        with pytest.raises(SystemExit) as caught:
            train(tmp_path / "run", {})
    assert caught.value.code == 0
    assert "stopped by SIGTERM; the same command resumes the run" in capsys.readouterr().err
    train(tmp_path / "run", {})
    assert "resuming at step 4 of 6" in capsys.readouterr().out
    jax.tree.map(np.testing.assert_array_equal, whole[1], last_state(tmp_path / "run"))


def test_two_runs_in_one_work_folder_are_one_too_many(whole, train, capsys):
    workdir, _ = whole
    before = (workdir / "results.json").read_bytes()
    with locked(workdir), pytest.raises(SystemExit):
        train(workdir, {})
    assert f"{workdir}: is in use by process {os.getpid()}" in capsys.readouterr().err
    assert (workdir / "results.json").read_bytes() == before
