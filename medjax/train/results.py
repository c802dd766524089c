"""results.json: every figure of a run, with what is needed to get it again."""

import hashlib
import importlib.metadata
import json
import math
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from medjax.errors import UserError
from medjax.io.atomic import atomic

STATUS = Path("/proc/self/status")
PACKAGES = ("medjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def sha256(content: Any) -> str:
    """The hash of a JSON-able object, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "source"
    return found


def commit() -> str:
    """The git commit of this source, with `+` when it was changed since; empty outside git."""
    here = Path(__file__).parent
    git = ["git", "-C", str(here)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10
        )
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (
        head.stdout.strip() + ("+" if changed.stdout.strip() else "")
        if head.returncode == 0
        else ""
    )


def device() -> str:
    """The devices in words, e.g. `1 x NVIDIA H200` or `cpu (2 cores)`."""
    first = jax.devices()[0]
    if first.platform == "cpu":
        return f"cpu ({cores()} cores)"
    return f"{jax.device_count()} x {first.device_kind}"


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_memory_gb() -> float:
    """The largest resident size of this process so far, in GiB.

    Linux's `ru_maxrss` would include the size of the process that started this one.
    """
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for line in STATUS.read_text("ascii").splitlines() if STATUS.is_file() else ():
        if line.startswith("VmHWM:"):
            peak = int(line.split()[1])
    return round(peak * unit / 2**30, 3)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON whole or not at all; figures that are not finite become null."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(_finite(content), indent=1) + "\n", "utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON file of a work folder. Errors name it."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run the training again") from error


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
