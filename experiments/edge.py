"""A trained network for devices without JAX: half of its channels go, the rest trains on, in eight bits.

    python launch.py --config experiments/hippocampus.py --config.data.root=DIR/Task04_Hippocampus \
        --config.train.minutes=0 --config.train.steps=4000
    python launch.py --config experiments/edge.py --config.data.root=DIR/Task04_Hippocampus \
        --workdir runs/edge --mode export

Or of synthetic brain tumours:

    python launch.py --config experiments/brats_synth.py --config.train.steps=4000
    python launch.py --config experiments/edge.py:brats_synth --workdir runs/edge --mode export

The network learns from the whole one for a quarter of the steps that that was trained for. The file must be
2.92 times as fast as the whole network in float32 in the same runtime, a tenth of its size, and lose at most
1.2 points of Dice; `--config.train.start_from=DIR` names another trained run.

On 2 CPU cores in OpenVINO, measured without the channels of the smallest weights and with weights of eight
bits, as the defaults were then (`prune.score=taylor` and seven bits not yet): the hippocampus 3.7 times as
fast, 14 times as small, mean Dice of 42 test cases 0.887 instead of 0.891. Brain tumours 3.5 times as
fast, 15 times as small, eight test cases 0.887 instead of 0.888; their finest encoder keeps its channels:
where it lost half of them too, seven validation cases lost 1.4 to 1.5 points after as many steps at 3e-3
and 6e-3, not 0.1.
"""

import importlib.util
from pathlib import Path
from typing import Any

from medjax.errors import UserError
from medjax.modes.defaults import Config

RATES = {"hippocampus": 1e-3, "brats_synth": 3e-3}
WHOLE = {"hippocampus": (), "brats_synth": ("encoder0",)}  # what keeps its channels


def get_config(part: str = "hippocampus") -> Config:
    """The config of `part` with what makes its network small."""
    if part not in RATES:
        raise UserError(f"edge.py:{part}: is unknown; give {' or '.join(RATES)}")
    config = _experiment(part).get_config()
    config.name = f"edge_{part}"
    config.train.start_from = f"runs/{part}"
    config.train.minutes = 0.0
    config.train.steps = 1000
    config.train.learning_rate = RATES[part]
    config.train.validations = 2
    config.prune.ratio = 0.5
    config.prune.exclude = WHOLE[part]
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
