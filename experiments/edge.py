"""A trained network for devices without JAX: half of its channels go, the rest trains on, in eight bits.

    python launch.py --config experiments/hippocampus.py --config.data.root=DIR/Task04_Hippocampus \
        --config.train.minutes=0 --config.train.steps=4000
    python launch.py --config experiments/edge.py --config.data.root=DIR/Task04_Hippocampus \
        --workdir runs/edge --mode export

Or of synthetic brain tumours, after `python launch.py --config experiments/brats_synth.py`:

    python launch.py --config experiments/edge.py:brats_synth --workdir runs/edge --mode export

The network learns from the whole one for a quarter of the steps that that was trained for. The file must be
2.92 times as fast as the whole network in float32 in the same runtime, a tenth of its size, and lose at most
1.2 points of Dice; `--config.train.start_from=DIR` names another trained run.

On 2 CPU cores in OpenVINO: the hippocampus 4.6 times as fast, 14 times as small, mean Dice of 42 test cases
0.887 instead of 0.891. Brain tumours 3.8 times as fast, 15 times as small, but rejected: after 4000 steps and
1000 more (at 3e-3) seven validation cases lose 1.4 points, and eight test cases have 0.870, not 0.888; after
1000 and 250 (at 6e-3) they have 0.841, not 0.856, in float32.
"""

import importlib.util
from pathlib import Path
from typing import Any

from medjax.errors import UserError
from medjax.modes.defaults import Config

STEPS = {"hippocampus": 1000, "brats_synth": 250}
RATES = {"hippocampus": 1e-3, "brats_synth": 6e-3}  # the latter the best of 1e-3 to 1.2e-2


def get_config(part: str = "hippocampus") -> Config:
    """The config of `part` with what makes its network small."""
    if part not in STEPS:
        raise UserError(f"edge.py:{part}: is unknown; give {' or '.join(STEPS)}")
    config = _experiment(part).get_config()
    config.name = f"edge_{part}"
    config.train.start_from = f"runs/{part}"
    config.train.minutes = 0.0
    config.train.steps = STEPS[part]
    config.train.learning_rate = RATES[part]
    config.train.validations = 2
    config.prune.ratio = 0.5
    config.export.precision = "int8"
    config.export.faster = 2.92
    config.export.smaller = 10.0
    return config


def _experiment(name: str) -> Any:
    """The experiment beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
