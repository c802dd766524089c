"""One training in several processes, on loopback: the same losses, one writer, one end for all."""

import json
import shutil
import signal
import socket
import time

import numpy as np
import pytest

from medjax import cli
from medjax.errors import UserError
from medjax.modes import devices

FLAGS = (
    "--config.train.optimizer=sgd",
    "--config.train.learning_rate=0.01",
    "--config.train.validations=2",
)
ENDLESS = ("--config.train.steps=5000", "--config.train.validations=1")


@pytest.fixture
def begin(start, monkeypatch):
    """`begin(count, workdir, *flags)`: the processes of a run of one device each, of which all are ended."""
    begun = []

    def begin(count, workdir, *flags):
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        common = (*FLAGS, *flags, "--coordinator", address, "--processes", str(count))
        begun.extend(
            start("quick", workdir, *common, "--process", str(i), optimised=False)
            for i in range(count)
        )
        return begun[-count:]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def ended(processes):
    """Exit codes and what was said, of Gloo's own lines nothing."""
    said = [process.communicate(timeout=300)[0] for process in processes]
    own = ["\n".join(line for line in text.splitlines() if "[Gloo]" not in line) for text in said]
    return [process.returncode for process in processes], own


def alone(start, monkeypatch, count, workdir, *flags):
    """The same run in one process of so many devices."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(count))
    assert ended([start("quick", workdir, *FLAGS, *flags, optimised=False)])[0] == [0]


def rows(workdir):
    text = (workdir / "metrics.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def losses(workdir):
    return [row["loss"] for row in rows(workdir) if "loss" in row]


def wait_for(workdir, steps):
    """Until so many steps are written."""
    path, end = workdir / "metrics.jsonl", time.monotonic() + 240
    while time.monotonic() < end:
        if path.is_file() and path.read_text("utf-8").count("\n") >= steps:
            return
        time.sleep(0.1)
    raise AssertionError("nothing is trained")


def test_two_processes_train_and_the_first_one_speaks_and_writes(begin, tmp_path):
    small = ("--config.train.steps=4", "--config.plan.patch=(8, 8, 8)", "--config.eval.test=False")
    codes, said = ended(begin(2, tmp_path / "run", *small))
    assert codes == [0, 0]
    assert "step 4/4" in said[0]
    assert said[1] == ""
    assert len(losses(tmp_path / "run")) == 4
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"2", "4"}
    assert not list((tmp_path / "run").glob(".*"))  # no lock, no temporary


@pytest.mark.long
def test_two_processes_train_as_one_with_two_devices(begin, start, monkeypatch, tmp_path):
    steps = "--config.train.steps=4"
    assert ended(begin(2, tmp_path / "two", steps))[0] == [0, 0]
    alone(start, monkeypatch, 2, tmp_path / "one", steps)
    assert losses(tmp_path / "two") == losses(tmp_path / "one")
    both = [json.loads((tmp_path / w / "results.json").read_text()) for w in ("two", "one")]
    assert both[0]["metrics"] == both[1]["metrics"]
    assert both[0]["device"] == both[1]["device"]


@pytest.mark.long
@pytest.mark.parametrize("count", [2, 4])
def test_processes_agree_with_one_device_over_twenty_steps(
    begin, start, monkeypatch, tmp_path, count
):
    assert ended(begin(count, tmp_path / "many", "--config.train.steps=20"))[0] == [0] * count
    alone(start, monkeypatch, 1, tmp_path / "one", "--config.train.steps=20")
    np.testing.assert_allclose(losses(tmp_path / "many"), losses(tmp_path / "one"), atol=1e-5)


@pytest.mark.long
def test_a_checkpoint_of_four_devices_goes_on_with_one_and_with_eight(start, monkeypatch, tmp_path):
    flags = ("--config.plan.batch=8", "--config.train.log_every=1", "--config.train.steps=400")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "4")
    process = start("quick", tmp_path / "4", *FLAGS, *flags, optimised=False)
    wait_for(tmp_path / "4", 3)
    process.send_signal(signal.SIGTERM)
    assert ended([process])[0] == [0]
    after, found = rows(tmp_path / "4")[-1]["step"] + 1, {}
    for count in (1, 8):
        shutil.copytree(tmp_path / "4", tmp_path / str(count))
        monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(count))
        process = start("quick", tmp_path / str(count), *FLAGS, *flags, optimised=False)
        wait_for(tmp_path / str(count), after + 2)
        process.send_signal(signal.SIGTERM)
        assert ended([process])[0] == [0]
        found[count] = [row["loss"] for row in rows(tmp_path / str(count))[after - 1 : after + 2]]
    np.testing.assert_allclose(found[1], found[8], atol=1e-6)


@pytest.mark.long
def test_sigterm_to_one_process_saves_and_ends_all_and_they_go_on_to_the_same_bits(begin, tmp_path):
    steps = ("--config.train.steps=60",)
    both = begin(2, tmp_path / "stopped", *steps)
    wait_for(tmp_path / "stopped", 3)
    both[1].send_signal(signal.SIGTERM)
    codes, said = ended(both)
    assert codes == [0, 0]
    assert all("stopped by SIGTERM; the same command resumes the run" in text for text in said)
    assert len(losses(tmp_path / "stopped")) < 60
    assert ended(begin(2, tmp_path / "stopped", *steps))[0] == [0, 0]
    assert ended(begin(2, tmp_path / "whole", *steps))[0] == [0, 0]
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


@pytest.mark.long
def test_a_lost_process_ends_the_run_by_its_name_and_the_run_goes_on(begin, tmp_path):
    both = begin(2, tmp_path / "run", "--config.train.steps=400")
    wait_for(tmp_path / "run", 210)  # a checkpoint is there: two validations
    both[1].kill()
    codes, said = ended(both)
    assert codes[0] not in (0, None)
    assert "lost process 1" in said[0] or "unhealthy" in said[0]  # ours, or JAX's own words
    codes, said = ended(begin(2, tmp_path / "run", "--config.train.steps=400"))
    assert codes == [0, 0]
    assert "resuming at step 200 of 400" in said[0]


@pytest.mark.long
def test_what_the_first_process_cannot_do_is_told_to_all(begin, tmp_path):
    missing = f"--config.data.root={tmp_path / 'nowhere'}"
    begun = time.monotonic()
    codes, said = ended(begin(2, tmp_path / "run", missing))
    assert codes == [1, 1]
    assert "nowhere" in said[0]
    assert said[1].startswith("medjax: the first process: ")
    assert "Traceback" not in said[0] + said[1]
    assert time.monotonic() - begun < 120


def test_flags_that_do_not_fit_are_named(capsys, tmp_path):
    quick = ["--config", "experiments/quick.py", "--workdir", str(tmp_path / "run")]
    for flags, text in {
        ("--coordinator", "here"): "--coordinator: 'here' is no HOST:PORT",
        ("--coordinator", "a:1", "--processes", "2", "--process", "2"): "--process: 2 of 2",
        ("--coordinator", "a:1", "--mode", "eval"): "run --mode eval in one",
    }.items():
        with pytest.raises(SystemExit) as ended:
            cli.run([*quick, *flags])
        assert ended.value.code == 1
        assert text in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_meshes_that_cannot_be_are_refused():
    assert devices.mesh(0, 1, batch=2).shape == {"data": 2}  # of four, those that divide it
    assert devices.mesh(4, 2, batch=2).shape == {"data": 2, "space": 2}
    assert devices.mesh(0, 4, batch=1).shape == {"data": 1, "space": 4}
    for given, text in {
        (5, 1, 5, 1): "train.devices: 5 of 4",
        (3, 2, 4, 1): "give a multiple of 2",
        (0, 8, 8, 1): "train.space: 8 devices for a patch",
        (0, 0, 8, 1): "train.space: 0",
        (4, 1, 6, 1): "plan.batch: 6 patches on 4 devices; give a multiple of 4",
        (0, 1, 6, 4): "needs a multiple of 4",
    }.items():
        with pytest.raises(UserError, match=text):
            devices.mesh(*given)
