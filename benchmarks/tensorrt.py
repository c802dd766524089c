"""Latency of exported models in TensorRT, on the GPU or the Jetson that this runs on.

    python -m benchmarks.tensorrt runs/whole/export/model.onnx runs/edge/export/model.onnx

Needs `trtexec` (TensorRT 10 or later) beside numpy, onnx and medjax (`pip install --no-deps`). The first
model is what the others are compared with. Export what is small with `--config.export.precision=int8
--config.export.flavour=tensorrt`, or `float16`: precision comes from the graph, no flag adds to it. Not
measured by us: there was no TensorRT at hand.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from medjax.deploy.facts import read_facts
from medjax.errors import UserError


def command(
    trtexec: str, model: Path, shape: tuple[int, ...], times: Path, engine: Path
) -> list[str]:
    """What builds an engine of a model and times it."""
    return [
        trtexec,
        f"--onnx={model}",
        f"--shapes=image:{'x'.join(map(str, shape))}",
        "--stronglyTyped",
        f"--saveEngine={engine}",
        f"--exportTimes={times}",
        "--warmUp=1000",
        "--iterations=200",
    ]


def read_times(text: str) -> dict[str, float]:
    """Median and 95th percentile in ms of the file of `--exportTimes`. Errors: it holds no latencies."""
    try:
        latencies = [float(query["latencyMs"]) for query in json.loads(text)]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--exportTimes: is of another version of trtexec ({error!r})") from error
    if not latencies:
        raise UserError("--exportTimes: holds no query")
    p50, p95 = np.percentile(latencies, [50, 95]).tolist()
    return {"p50_ms": p50, "p95_ms": p95, "queries": len(latencies)}


def shape_of(model: Path) -> tuple[int, ...]:
    """A window of the model, from its description."""
    import onnx

    described = {p.key: p.value for p in onnx.load(model, load_external_data=False).metadata_props}
    facts = read_facts(described, str(model))
    return 1, len(facts.channels), *facts.patch


def measure(trtexec: str, model: Path) -> dict[str, Any]:
    """One row of the table. Errors: what trtexec says last."""
    with tempfile.TemporaryDirectory() as folder:
        times, engine = Path(folder, "times.json"), Path(folder, "engine")
        made = command(trtexec, model, shape_of(model), times, engine)
        done = subprocess.run(made, capture_output=True, text=True, check=False)
        if done.returncode or not times.is_file():
            said = (done.stdout + done.stderr).strip().splitlines()
            raise UserError(f"{model}: {said[-1] if said else 'trtexec ended without a word'}")
        size = engine.stat().st_size / 1e6
        return {"model": str(model), **read_times(times.read_text()), "engine_megabytes": size}


def main() -> None:
    """Prints a row for each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--trtexec", default="trtexec")
    given = parser.parse_args()
    if shutil.which(given.trtexec) is None:
        raise SystemExit(
            f"{given.trtexec}: is not there; give --trtexec=PATH (TensorRT's samples hold it)"
        )
    try:
        rows = [measure(given.trtexec, model) for model in given.models]
    except UserError as error:
        raise SystemExit(str(error)) from error
    for row in rows:
        print(
            f"{row['model']}: p50 {row['p50_ms']:.2f} ms, p95 {row['p95_ms']:.2f} ms over {row['queries']} "
            f"queries, engine {row['engine_megabytes']:.2f} MB, "
            f"{rows[0]['p50_ms'] / row['p50_ms']:.2f} times the speed of the first"
        )


if __name__ == "__main__":
    main()
