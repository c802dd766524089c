"""What model files are worth: Dice on whole scans, milliseconds a window, seconds a scan, megabytes."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from medjax import progress
from medjax.data.cases import Case
from medjax.deploy import bench, prove, runtime
from medjax.deploy.gates import Gate, judged, judged_classes
from medjax.deploy.windows import Window
from medjax.modes.candidates import Candidate
from medjax.modes.defaults import Config
from medjax.modes.source import FromFile, Source, told
from medjax.train import findings
from medjax.train.evaluate import judge, summary

Row = dict[str, Any]
HEAD = {  # each column's form
    "file": "{:<14}",
    "runtime": "{:<17}",
    "p50_ms": "{:8.1f}",
    "p95_ms": "{:8.1f}",
    "megabytes": "{:9.2f}",
    "dice": "{:8.4f}",
    "hd95": "{:6.2f}",
    "accuracy": "{:8.4f}",
    "seconds_a_scan": "{:14.2f}",
}


class Worth(NamedTuple):
    """Rows of the table; of the last file on test cases its means and its lines; checks against the first."""

    table: list[Row]
    metrics: Row
    rows: list[Row]
    gates: list[Gate]


def compare(
    files: Mapping[str, tuple[Source, Candidate]],
    providers: Sequence[str],
    held: tuple[str, Sequence[Case]],
    image: Window,
    folder: Path,
) -> Worth:
    """What all files are worth, and the last one against the first one.

    held: a part of the split and its cases, by which the Dice that is lost is judged; those of the test are
    for the table. `folder` is for label maps.
    """
    names, (part, cases), fast = list(files), held, providers[0]
    first, last = names[0], names[-1]
    run = files[last][0].run
    own = run.config.export
    parts = {part: cases, "test": told(run, "test")}
    found = {
        (name, p): scores(*files[name], fast, judging, folder / name, f"{name}, {p}")
        for name in dict.fromkeys([first, last])
        for p, judging in parts.items()
    }
    gates = []
    if first != last and own.lost < 1:
        gates += lost(part, found[first, part], found[last, part], own)
    rows = measure({name: made.path for name, (_, made) in files.items()}, providers, image)
    speed = {row["file"]: row["p50_ms"] for row in rows if row["runtime"] == fast}
    size = {row["file"]: row["megabytes"] for row in rows}
    gates += [
        Gate(f"times as fast as {first}", speed[first] / speed[last], own.faster, "least"),
        Gate(f"times as small as {first}", size[first] / size[last], own.smaller, "least"),
    ]
    for row in rows:
        if row["runtime"] == fast and (row["file"], "test") in found:
            row |= read(found[row["file"], "test"])
            path = files[row["file"]][1].path
            row["seconds_a_scan"] = seconds_a_scan(path, fast, cases[0], folder / "a.nii.gz")
    tested = found[last, "test"]
    return Worth(rows, read(tested), tested["rows"], gates)


def scores(
    of: Source, made: Candidate, provider: str, cases: Sequence[Case], folder: Path, name: str
) -> dict[str, Any]:
    """What a file's label maps and classes are worth: summaries by task, and all lines of metrics.csv.

    Label maps are left in `folder`.
    """
    model, run = FromFile(runtime.open_model(made.path, provider), of.run.plan), of.run
    found: dict[str, Any] = {"rows": []}
    if "seg" in model.model.heads:
        rows = judge(
            cases,
            model,
            folder,
            spacing=run.spacing,
            tolerance=run.config.eval.tolerance,
            progress=progress.bar(name),
        )
        found["segmentation"] = summary(rows, run.plan.names)
        found["rows"] += rows
    if "cls" in model.model.heads:
        bar = progress.bar(f"{name}, classes")
        said = findings.say_all(
            cases, model, run.dataset.targets, spacing=run.spacing, progress=bar
        )
        found["classification"] = findings.classification(said, run.plan.targets)
        found["rows"] += findings.rows(said)
    return found


def lost(name: str, before: Any, after: Any, own: Config) -> list[Gate]:
    """The checks of the scores after against those before, by `config.export`."""
    gates = []
    if "segmentation" in before:
        pair = before["segmentation"], after["segmentation"]
        gates += judged(name, *pair, own.lost, own.farther)
    if "classification" in before:
        pair = before["classification"], after["classification"]
        gates += judged_classes(name, *pair, own.lost)
    return gates


def read(found: Mapping[str, Any]) -> Row:
    """The means of what was scored, and of how many cases."""
    row: Row = {}
    if "segmentation" in found:
        mean = found["segmentation"]["mean"]
        row |= {"dice": mean["dice"]["mean"], "hd95": mean["hd95"]["mean"]}
        row["cases"] = mean["dice"]["n"]
    if "classification" in found:
        own = found["classification"]
        row |= {key: own[key]["mean"] for key in ("accuracy", "brier")}
        row["cases"] = own["accuracy"]["n"]
    return row


def measure(files: Mapping[str, Path], providers: Sequence[str], image: Window) -> list[Row]:
    """A row for each file in each runtime, and in bfloat16 where OpenVINO is there and bits are not eight."""
    given = prove.first(image)
    pairs = [(name, provider) for name in files for provider in providers]
    if "openvino" in providers:
        pairs += [(name, "openvino-bf16") for name in files if name not in ("int8", "float16")]
    opened = {pair: runtime.open_model(files[pair[0]], pair[1]) for pair in pairs}
    found = bench.latencies({str(p): lambda m=m: m.run(given) for p, m in opened.items()})
    return [
        {
            "file": name,
            "runtime": provider,
            "p50_ms": found[str((name, provider))].p50,
            "p95_ms": found[str((name, provider))].p95,
            "megabytes": files[name].stat().st_size / 1e6,
        }
        for name, provider in pairs
    ]


def seconds_a_scan(path: Path, provider: str, case: Case, output: Path) -> float:
    """From file to file, with the model opened before."""
    model = runtime.open_model(path, provider)
    begin = time.perf_counter()
    runtime.predict(model, case, output)
    return time.perf_counter() - begin


def table(rows: Sequence[Row]) -> str:
    """The rows in columns; what was not measured stays empty."""
    widths = {name: len(form.format(0 if "f}" in form else "")) for name, form in HEAD.items()}
    lines = ["  ".join(name.rjust(width) for name, width in widths.items())]
    for row in rows:
        cells = [
            form.format(row[name]) if name in row else " " * widths[name]
            for name, form in HEAD.items()
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
