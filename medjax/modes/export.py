"""`--mode export`: a trained run as one model file for devices without JAX, once it has passed its checks."""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import onnx

from medjax import progress
from medjax.deploy import prove
from medjax.deploy.export.describe import write_model
from medjax.deploy.facts import Facts
from medjax.deploy.gates import Gate
from medjax.deploy.prune.pruned import Pruned, structure_of
from medjax.deploy.prune.structure import operations
from medjax.deploy.quantize.scales import FLAVOURS
from medjax.deploy.windows import windows
from medjax.errors import Rejected, UserError
from medjax.io.atomic import atomic
from medjax.modes import build, candidates, experiment, members, train, worth
from medjax.modes.candidates import said
from medjax.modes.defaults import Config
from medjax.modes.source import Source, dense, held_out, source
from medjax.train import checkpoint, results
from medjax.train.evaluate import write_rows
from medjax.train.report.export import write_export_page

console = progress.console
KNOWN = {
    "route": ("auto", "direct", "jax2tf"),
    "precision": ("float32", "float16", "int8"),
    "flavour": tuple(FLAVOURS),
    "calibration": ("percentile", "minmax", "mse"),
    "runtime": ("auto", "onnxruntime", "openvino"),
}
COMPARED = 2  # scans whose windows and masks are compared with those of JAX
WHOLE, FLOAT, SIXTEEN, EIGHT = "before pruning", "float32", "float16", "int8"
GOOD, BAD = "model.onnx", "model.rejected.onnx"


def main(config: Config, workdir: Path) -> None:
    """Writes `export/model.onnx`, export.json and export.html.

    A run that starts from another one, as a pruned one does, is trained first where it is not yet. A model
    that fails a check is left as `export/model.rejected.onnx`. Errors: nothing trained there, a run that
    segments and classifies nothing, no cases to judge by, and, as `Rejected`, the checks that failed.
    """
    experiment.start_jax()
    check(config)
    members.alone(config, workdir, "export")
    done = checkpoint.newest(workdir / "checkpoints")
    if done is None and not config.train.start_from:
        raise UserError(f"{workdir}: holds no trained run; train first, or give its --workdir")
    if done is None or done < results.read_json(workdir / "config.json")["train"]["steps"]:
        train.main(config, workdir)
    ours = source(config, workdir)
    with tempfile.TemporaryDirectory() as folder:
        export(ours, dense(ours), Path(folder), workdir / "export")


def check(config: Config) -> None:
    """What can be wrong with `export` before anything is read. Errors name the key."""
    own = config.export
    for key, known in KNOWN.items():
        if own[key] not in known:
            raise UserError(f"export.{key}: {own[key]!r} is unknown; choose {', '.join(known)}")
    if own.precision != "float32" and own.route == "jax2tf":
        raise UserError(f"export.route: jax2tf makes no {own.precision}; choose direct or auto")
    if own.runtime == "openvino" and find_spec("openvino") is None:
        raise UserError("export.runtime: openvino is not installed; install medjax[edge]")
    if own.runtime == "openvino" and _signed(config):
        raise UserError(
            "export.flavour: OpenVINO joins signed eight bits wrongly; choose cpu, or onnxruntime"
        )


def _signed(config: Config) -> bool:
    return config.export.precision == "int8" and config.export.flavour == "tensorrt"


def providers(config: Config) -> list[str]:
    """The runtimes that are there and can run the file, of which the first is the one to be fast in."""
    there = [name for name in ("openvino", "onnxruntime") if find_spec(name)]
    if _signed(config):
        return ["onnxruntime-plain"]  # whose optimisations know no float16 about eight bits
    return sorted(there, key=lambda name: name != config.export.runtime)


def export(ours: Source, whole: Source, folder: Path, output: Path) -> None:
    """Files, checks and table of a trained run; `whole` is its network before pruning, or itself.

    `folder` is for what is made on the way. The last file is what is exported, the first what it is compared
    with; where there is one alone, it is compared with JAX.
    """
    run, own, every = ours.run, ours.run.config.export, providers(ours.run.config)
    part, held = held_out(run)
    seen = windows(held[:COMPARED], run.plan, spacing=run.spacing)
    images = [sample.image for sample in seen]
    gates: list[Gate] = []
    if isinstance(ours.model, Pruned):
        gates += said([prove.prove_pruned(ours.model, ours.net.params, images[:2])])
    files = {} if whole is ours else {WHOLE: candidates.bare(whole, folder / "whole.onnx")}
    routes = candidates.floating(ours, folder, images, every, held[:COMPARED])
    files[FLOAT] = routes[0]
    if own.precision == "int8":
        files[EIGHT] = candidates.eight_bits(ours, folder / "int8.onnx", images, every)
    if own.precision == "float16":
        direct = next(made for made in routes if made.route == "direct")
        path = folder / "float16.onnx"
        files[SIXTEEN] = candidates.sixteen_bits(ours, direct.path, path, images, every)
    gates += [gate for made in files.values() for gate in made.gates]
    final = list(files.values())[-1]

    found = worth.Worth([], {}, [], [])
    if all(gate.passes for gate in gates):  # what a wrong file is worth does not matter
        named = {name: (whole if name == WHOLE else ours, made) for name, made in files.items()}
        found = worth.compare(named, every, (part, held), images[0], folder)
        gates += said(found.gates)
        console.print(worth.table(found.table))
    facts = replace(
        ours.facts,
        provenance={**ours.facts.provenance, "route": final.route},
        parity={gate.name: gate.figure for gate in gates},
        metrics=found.metrics,
        pruning={} if whole is ours else pruning(whole, ours),
        quantisation=final.quantisation,
    )
    beside = [path for made in routes if made.passes for path in made.beside]
    told = {
        "export": json.loads(own.to_json_best_effort()),
        "runtime": every[0],
        "table": found.table,
        "routes": {made.route: _told(made.gates) for made in routes},
    }
    write_rows(output / "metrics.csv", found.rows)
    leave(output, final.path, facts, gates, told, beside)


def pruning(whole: Source, ours: Source) -> dict[str, list[int]]:
    """Parameters, and multiplications a window, before and after."""
    network = build.whole(whole.run.config, whole.run.plan)
    full = structure_of(network, build.window(ours.run.plan))
    removed = full.removed(ours.run.plan.pruned)
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(of.net.params)) for of in (whole, ours)]
    return {
        "parameters": sizes,
        "multiplications": [operations(full), operations(full, removed)],
    }


def _told(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    return [{**asdict(gate), "passes": gate.passes} for gate in gates]


def leave(
    output: Path,
    model: Path,
    facts: Facts,
    gates: Sequence[Gate],
    told: Mapping[str, Any],
    beside: Sequence[Path],
) -> None:
    """The model under its name, good or bad, export.json with what is `told`, and what is of use beside it.

    Errors: `Rejected`, for a check that failed.
    """
    failed = [str(gate) for gate in gates if not gate.passes]
    name, other = (BAD, GOOD) if failed else (GOOD, BAD)
    (output / other).unlink(missing_ok=True)  # of an export before this one
    write_model(onnx.load(model), facts, output / name)
    for path in beside:
        if (output / path.name).is_dir():
            shutil.rmtree(output / path.name)
        with atomic(output / path.name) as temporary:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, temporary)
    content = {
        "model": name,
        "facts": json.loads(facts.text()),
        "gates": _told(gates),
        **told,
        "device": results.device(),
    }
    results.write_json(output / "export.json", content)
    write_export_page(output / "export.html", content)
    for path in (output / name, output / "export.json", output / "export.html"):
        console.print(f"made {path}")
    if failed:
        raise Rejected(f"{output / name}: is not for use; {'; '.join(failed)}")
