"""Whole runs in processes of their own, as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """The cache of a user, shared by all runs."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def start(home):
    """`start(experiment, workdir, *flags)`: the process of a run."""

    def start(experiment, workdir, *flags):
        environment = {
            **os.environ,
            "XDG_CACHE_HOME": str(home),
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "",
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

    def run(experiment, workdir, *flags):
        process = start(experiment, workdir, *flags)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        return output

    return run
