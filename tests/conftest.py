"""Every test runs with checked shapes, four virtual devices and no silent rank promotion."""

import os
from pathlib import Path

import jax
import pytest
from absl import flags
from jaxtyping import install_import_hook

os.environ.setdefault("MPLBACKEND", "Agg")
# Tests compile much and compute little; whole runs, in processes of their own, compile as users do.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags
# an int where a float is annotated is right, as for every type checker
install_import_hook("medjax", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared():
    """The folder of real scans; a test that needs it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real scans are not at hand ({SHARED})")
    return SHARED
