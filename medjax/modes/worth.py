"""What model files are worth: Dice on whole scans, milliseconds a window, seconds a scan, megabytes."""

import time
from collections.abc import Iterable, Mapping, Sequence
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
    paths = {name: made.path for name, (_, made) in files.items()}
    opened = {
        (name, provider): runtime.open_model(paths[name], provider)
        for name, provider in _pairs(files, providers)
    }
    found = {
        (name, p): scores(
            files[name][0], opened[name, fast], judging, folder / name, f"{name}, {p}"
        )
        for name in dict.fromkeys([first, last])
        for p, judging in parts.items()
    }
    gates = []
    if first != last and own.lost < 1:
        gates += lost(part, found[first, part], found[last, part], own)
    rows = measure(opened, image)
    for row in rows:
        row["megabytes"] = paths[row["file"]].stat().st_size / 1e6
    speed = {row["file"]: row["p50_ms"] for row in rows if row["runtime"] == fast}
    size = {row["file"]: row["megabytes"] for row in rows}
    gates += [
        Gate(f"times as fast as {first}", speed[first] / speed[last], own.faster, "least"),
        Gate(f"times as small as {first}", size[first] / size[last], own.smaller, "least"),
    ]
    for row in rows:
        if row["runtime"] == fast and (row["file"], "test") in found:
            row |= read(found[row["file"], "test"])
            begin = time.perf_counter()
            runtime.predict(opened[row["file"], fast], cases[0], folder / "a.nii.gz")
            row["seconds_a_scan"] = time.perf_counter() - begin
    tested = found[last, "test"]
    return Worth(rows, read(tested), tested["rows"], gates)


def scores(
    of: Source, model: runtime.Model, cases: Sequence[Case], folder: Path, name: str
) -> dict[str, Any]:
    """What a file's label maps and classes are worth: summaries by task, and all lines of metrics.csv.

    Label maps are left in `folder`.
    """
    run, file = of.run, FromFile(model, of.run.plan)
    found: dict[str, Any] = {"rows": []}
    if "seg" in model.heads:
        rows = judge(
            cases,
            file,
            folder,
            spacing=run.spacing,
            tolerance=run.config.eval.tolerance,
            progress=progress.bar(name),
        )
        found["segmentation"] = summary(rows, run.plan.names)
        found["rows"] += rows
    if "cls" in model.heads:
        bar = progress.bar(f"{name}, classes")
        said = findings.say_all(cases, file, run.dataset.targets, spacing=run.spacing, progress=bar)
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


def _pairs(files: Iterable[str], providers: Sequence[str]) -> list[tuple[str, str]]:
    """Each file in each runtime, and in bfloat16 where OpenVINO is there and the file is float32."""
    pairs = [(name, provider) for name in files for provider in providers]
    if "openvino" in providers:
        pairs += [(name, "openvino-bf16") for name in files if name not in ("int8", "float16")]
    return pairs


def measure(opened: Mapping[tuple[str, str], runtime.Model], image: Window) -> list[Row]:
    """The latency of each file in each runtime."""
    given = prove.first(image)
    found = bench.latencies({str(p): lambda m=m: m.run(given) for p, m in opened.items()})
    return [
        {"file": name, "runtime": provider, **_ms(found[str((name, provider))])}
        for name, provider in opened
    ]


def _ms(found: bench.Latency) -> Row:
    return {"p50_ms": found.p50, "p95_ms": found.p95}


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
