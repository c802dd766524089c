"""The model files that an export chooses from, each with its checks."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import onnx

from medjax import progress
from medjax.data.cases import Case
from medjax.data.identity import content_key
from medjax.deploy import bench, prove, runtime
from medjax.deploy.export import tensorflow
from medjax.deploy.export.describe import write_model
from medjax.deploy.export.emit import emit
from medjax.deploy.export.half import half
from medjax.deploy.export.stablehlo import stablehlo
from medjax.deploy.gates import FLOAT, SUMMED, Gate, apart, equal, parity, same_masks
from medjax.deploy.windows import Window
from medjax.errors import UserError
from medjax.modes import build, quantise
from medjax.modes.source import Source, classes, masks

console = progress.console


@dataclass(frozen=True)
class Candidate:
    """A model file, how it was made, what its checks found, and what it says of its eight bits.

    beside: files and folders that were made on the way and are of use too.
    """

    path: Path
    route: str
    gates: list[Gate] = field(default_factory=list)
    quantisation: dict[str, Any] = field(default_factory=dict)
    beside: tuple[Path, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether all checks do."""
        return all(gate.passes for gate in self.gates)


def said(gates: list[Gate]) -> list[Gate]:
    """The gates, printed."""
    for gate in gates:
        console.print(str(gate))
    return gates


def bare(of: Source, path: Path) -> Candidate:
    """Float32 by our own emitter, unchecked: to compare with."""
    write_model(emit(of.net.fn, of.net.params, build.window(of.run.plan)), of.facts, path)
    return Candidate(path, "direct")


def described(of: Source, path: Path) -> Gate:
    """The description in a file is the one of its run: channels, spacing, normalisation, labels, all."""
    found, wanted = runtime.open_model(path).facts, of.facts
    differ = [f.name for f in fields(wanted) if getattr(found, f.name) != getattr(wanted, f.name)]
    return Gate(" ".join(["what differs in the description", *differ]), float(len(differ)), 0.0)


def direct(
    of: Source,
    path: Path,
    images: Sequence[Window],
    providers: Sequence[str],
    cases: Sequence[Case],
) -> Candidate:
    """Float32 by our own emitter, against JAX on windows, and on whole scans in the first runtime."""
    path = bare(of, path).path
    every = ["onnxruntime-plain", *providers]
    gates = said([described(of, path), *prove.prove_file("direct", of.net, path, images, every)])
    opened = runtime.open_model(path, providers[0])
    if "seg" in opened.heads:
        gates += said(same_masks(f"masks in {providers[0]}", masks(of, opened, cases)))
    if "cls" in opened.heads:
        name = f"classes of scans in {providers[0]}, largest difference"
        gates += said([Gate(name, classes(of, opened, cases), FLOAT)])
    return Candidate(path, "direct", gates)


def by_tensorflow(
    of: Source, folder: Path, images: Sequence[Window], providers: Sequence[str]
) -> Candidate:
    """Float32 by jax2tf and LiteRT, for one window at a time; beside it what both made, and StableHLO.

    Errors: see `deploy.export.tensorflow.convert`.
    """
    net, image = of.net, images[0]
    wanted = net.outputs(image)
    model = bytes(stablehlo(net.fn, net.params, build.window(of.run.plan)).serialize())
    lite = tensorflow.convert(model, list(wanted), image, folder)
    path = folder / "jax2tf.onnx"
    write_model(onnx.load(folder / "model.onnx"), of.facts, path)
    gates = [described(of, path), *prove.prove_file("jax2tf", net, path, images, providers)]
    gates += equal("JAX = LiteRT", parity(wanted, lite, exclusive=net.exclusive), SUMMED)
    beside = [folder / name for name in ("model.stablehlo", "saved_model", "model.tflite")]
    return Candidate(path, "jax2tf", said(gates), beside=tuple(beside))


def sixteen_bits(
    of: Source, source: Path, path: Path, images: Sequence[Window], providers: Sequence[str]
) -> Candidate:
    """A file of ours with float16 inside, against the one that it is made of."""
    write_model(half(onnx.load(source)), of.facts, path)
    given = {"exclusive": of.net.exclusive, "against": source}
    gates = [
        described(of, path),
        *prove.prove_runtimes("float16", path, images, providers, **given),
    ]
    return Candidate(path, "direct", said(gates), {"bits": 16})


def eight_bits(
    of: Source, path: Path, images: Sequence[Window], providers: Sequence[str]
) -> Candidate:
    """Eight bits by our own emitter, calibrated on training cases."""
    run, own, net = of.run, of.run.config.export, of.net
    cases = quantise.calibrating(run, own.cases)
    scales = quantise.scales(run, net.fn, net.params, cases)
    write_model(emit(net.fn, net.params, build.window(of.run.plan), scales), of.facts, path)
    judging = [*run.cases(run.split.validation), *run.cases(run.split.test)]
    gates = [
        described(of, path),
        apart(_contents(cases), _contents(judging)),
        prove.prove_layers(net, path, images[0], scales),
        *prove.prove_runtimes("int8", path, images, providers, exclusive=net.exclusive),
    ]
    if own.flavour == "tensorrt":
        made = sixteen_bits(of, path, path.with_stem("int8-half"), images, providers)
        path, gates = made.path, [*gates, *made.gates]
    told = {
        "bits": 8,
        "flavour": own.flavour,
        "calibration": own.calibration,
        "cases": [case.id for case in cases],
    }
    return Candidate(path, "direct", said(gates), told)


def _contents(cases: Sequence[Case]) -> dict[str, str]:
    return {case.id: content_key(case.images[0]) for case in cases}


def by_speed(found: Sequence[Candidate], provider: str, image: Window) -> list[Candidate]:
    """Those that pass first, the one with the lowest median latency before the others."""
    passing = [c for c in found if c.passes]
    if len(passing) < 2:
        return sorted(found, key=lambda c: not c.passes)
    given = prove.first(image)
    models = {c.route: runtime.open_model(c.path, provider) for c in passing}
    taken = bench.latencies({r: lambda m=m: m.run(given) for r, m in models.items()})
    for route, latency in taken.items():
        console.print(f"{route} in {provider}: {latency.p50:.1f} ms a window")
    return sorted(found, key=lambda c: (not c.passes, c.passes and taken[c.route].p50))


def floating(
    of: Source,
    folder: Path,
    images: Sequence[Window],
    providers: Sequence[str],
    cases: Sequence[Case],
) -> list[Candidate]:
    """The float32 files of both routes: first the one that the config names, or the faster that passes.

    Errors: a route that is asked for, or that other precisions are made of, is impossible; of the other one
    that is said, and no more.
    """
    own = of.run.config.export
    needed = {own.route, *(() if own.precision == "float32" else ("direct",))}
    routes = {
        "direct": lambda: direct(of, folder / "direct.onnx", images, providers, cases),
        "jax2tf": lambda: by_tensorflow(of, folder / "jax2tf", images[:1], providers),
    }
    found, failed = [], []
    for route, make in routes.items():
        try:
            found.append(make())
        except UserError as error:
            if route in needed or failed:
                raise
            failed.append(route)
            console.print(f"{error}; the other route is alone")
    if own.route != "auto":
        return sorted(found, key=lambda c: c.route != own.route)
    return by_speed(found, providers[0], images[0])
