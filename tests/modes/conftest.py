"""Whole runs in processes of their own, as a user starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import orbax.checkpoint as ocp
import pytest

from medjax import cli
from medjax.deploy import bench
from medjax.train import loop

ROOT = Path(__file__).parents[2]


TINY = {  # a run of six small cases, in as few seconds as show something
    "data.folds": 3,
    "data.validation": 0.25,
    "plan.patch": (8, 8, 8),
    "plan.batch": 2,
    "plan.width": 8,
    "plan.stages": 2,
    "augment.strength": 0.0,
    "train.warmup": 0,
    "train.validations": 2,
    "train.validation_batches": 1,
    "train.devices": 1,
    "eval.mirror": False,
    "eval.largest_component": False,
}


@pytest.fixture(scope="session", autouse=True)
def without_rest():
    """Latencies mean nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "PAUSE", 0.0)
        yield


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """The cache of a user, shared by all runs."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def start(home, pytestconfig):
    """`start(experiment, workdir, *flags)`: a run, compiled as for a user where `optimised`."""
    compiled = str(pytestconfig.cache.mkdir("xla"))  # for all workers, as runs are much alike

    def start(experiment, workdir, *flags, optimised=True):
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(home),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": compiled,
            "XLA_FLAGS": "" if optimised else os.environ["XLA_FLAGS"],
        }
        config = ROOT / "experiments" / f"{experiment}.py"
        command = [sys.executable, ROOT / "launch.py", "--config", config, "--workdir", workdir]
        return subprocess.Popen(
            [*map(str, command), *flags],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def run(start):
    """`run(experiment, workdir, *flags)`: what a run that must succeed printed."""

    def run(experiment, workdir, *flags, optimised=True):
        process = start(experiment, workdir, *flags, optimised=optimised)
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        return output

    return run


@pytest.fixture(scope="session")
def train_on(home):
    """`train_on(root, flags)`: a function (workdir, changes) that trains on a folder in this process.

    Or does what its `mode` says. What neither says is as in TINY.
    """

    def train_on(root, flags):
        def train(workdir, changes, mode="train"):
            changed = {**TINY, **flags, "data.root": root, **changes}
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("XDG_CACHE_HOME", str(home))
                given = [f"--config.{key}={value}" for key, value in changed.items()]
                quick = str(ROOT / "experiments" / "quick.py")
                cli.run(["--config", quick, "--workdir", str(workdir), "--mode", mode, *given])

        return train

    return train_on


@pytest.fixture
def cut_and_resume(monkeypatch, capsys):
    """`cut_and_resume(train, workdir, changes, at)`: a run whose power goes at a step, then to its end."""

    def cut_and_resume(train, workdir, changes, at):
        look = loop.Watch.look

        def fail(self, number, means, batch):
            if number == at:
                raise RuntimeError("the power went")
            look(self, number, means, batch)

        with monkeypatch.context() as patch:
            patch.setattr(loop.Watch, "look", fail)
            with pytest.raises(SystemExit):
                train(workdir, changes)
        assert "the power went" in capsys.readouterr().err
        train(workdir, changes)
        assert f"resuming at step {at + 1}" in capsys.readouterr().out

    return cut_and_resume


@pytest.fixture(scope="session")
def last_state():
    """`last_state(workdir)`: the arrays of the newest checkpoint, whatever their types."""

    def last_state(workdir):
        folder = workdir / "checkpoints"
        newest = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        with ocp.StandardCheckpointer() as reader:
            stored = folder / str(newest) / "state"
            shapes = reader.metadata(stored).item_metadata.tree
            like = jax.tree.map(
                lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding), shapes
            )
            return reader.restore(stored, like)

    return last_state


@pytest.fixture(scope="session")
def make_scans():
    """`make_scans(root)`: a folder of six small cases."""

    def make_scans(root, channel="T1"):
        """Six cases of nnU-Net's layout: a bright ball in noise."""
        rng = np.random.default_rng(0)
        for folder in ("imagesTr", "labelsTr"):
            (root / folder).mkdir(parents=True)
        for number in range(6):
            grid = np.stack(np.meshgrid(*[np.arange(16.0)] * 3, indexing="ij"), -1)
            ball = np.linalg.norm(grid - rng.uniform(6, 10, 3), axis=-1) < 4
            image = rng.normal(0, 0.3, ball.shape) + ball
            name = f"case{number}"
            nib.Nifti1Image(image.astype(np.float32), np.eye(4)).to_filename(
                root / "imagesTr" / f"{name}_0000.nii.gz"
            )
            nib.Nifti1Image(ball.astype(np.uint8), np.eye(4)).to_filename(
                root / "labelsTr" / f"{name}.nii.gz"
            )
        description = {
            "channel_names": {"0": channel},
            "labels": {"background": 0, "tumour": 1},
            "numTraining": 6,
            "file_ending": ".nii.gz",
        }
        (root / "dataset.json").write_text(json.dumps(description))

    return make_scans
