"""Every test runs with checked shapes, four virtual devices and no silent rank promotion."""

import os
from pathlib import Path

import jax
import numpy as np
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


def pytest_configure(config):
    """Keeps compiled programs for the workers and for the next run: many tests compile the same."""
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared():
    """The folder of real scans; a test that needs it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"real scans are not at hand ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def template():
    """The MNI152 brain as a parent."""
    from medjax.sim.anatomy import mni152

    return mni152()


@pytest.fixture(scope="session")
def egg():
    """The smallest parent on which a tumour grows: white matter, a cortex, a ventricle, no folds."""
    from medjax.sim.anatomy import CSF, GM, WM, Anatomy
    from medjax.sim.tissue import HEAD

    shape, radii = (96, 104, 88), (40.0, 44.0, 36.0)
    grid = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    place = np.sqrt(sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True)))
    kind = np.where(place < 0.25, CSF, np.where(place < 0.9, WM, GM))
    shares = np.eye(len(HEAD), dtype=np.float32)[kind] * (place < 1)[..., None]
    depth = np.clip((1 - place) * min(radii), -12, 12).astype(np.float32)
    return Anatomy(shares, depth, "egg")
