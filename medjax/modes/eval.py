"""`--mode eval`: scores a trained model on the test cases of its work folder, and writes the report."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from medjax import progress
from medjax.data.identity import join_duplicates
from medjax.data.layouts import open_dataset
from medjax.data.splits import Split
from medjax.errors import UserError
from medjax.infer.predictor import Predictor, attention
from medjax.metrics.statistics import aggregate
from medjax.modes import cyclegan, experiment, masked, members
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.modes.trained import build_finder, build_predictor, finds, frame, load_weights
from medjax.train import findings, heart, object_pictures, results
from medjax.train.baseline import against, compare
from medjax.train.evaluate import Row, choose_largest, judge, read_rows, summary, write_rows
from medjax.train.report.training import write_report
from medjax.train.showcase import showcase
from medjax.train.writers import read_rows as read_curves

console = progress.console
BASELINE = "baseline"  # folder of the run that this one is compared with


def main(config: Config, workdir: Path) -> None:
    """Evaluates the checkpoint of `config.eval.checkpoint`, on the test cases or on `eval.root`."""
    experiment.start_jax()
    members.each(experiment.stored_config(config, workdir), workdir, _judge)


def _judge(config: Config, workdir: Path) -> None:
    """One run."""
    config = experiment.stored_config(config, workdir)
    stored = results.read_json(workdir / "config.json")
    run = experiment.prepare_experiment(config, workdir)
    evaluate(run, stored, external(run) if config.eval.root else None)


def external(run: Experiment) -> Experiment:
    """The run with all cases of the data set `eval.root` as its test cases.

    Its labels may follow another convention: classes or regions of one name are compared. Errors: a
    channel that it lacks, no class or region of the model's names.
    """
    plan, root = run.plan, run.config.eval.root
    dataset = open_dataset(root, channels=plan.channels)
    dataset = experiment.with_tables(run.config, dataset, root)
    names = dataset.convention.judged
    missing = [name for name in plan.names if name not in names]
    if missing:
        raise UserError(
            f"eval.root: {root}: names {', '.join(names)} and not {', '.join(missing)}, which the "
            "model was trained for; judge it on a data set of its classes or regions"
        )
    cases, notes = join_duplicates(dataset.cases)
    dataset = replace(dataset, cases=cases, assumed=(*dataset.assumed, *notes))
    parts = Split((), (), tuple(case.id for case in cases if case.tells(run.config.tasks.learn)))
    return replace(run, dataset=dataset, split=parts)


def evaluate(run: Experiment, stored: dict[str, Any], outside: Experiment | None = None) -> None:
    """Predictions, metrics.csv, results.json and report.html of the test cases, in the run's folder.

    Of the cases of another data set (`external`), in a folder of its name there, where that is given.
    """
    others = {"cyclegan": cyclegan.evaluate, "masked": masked.evaluate}
    if run.config.train.paradigm in others:
        others[run.config.train.paradigm](run, stored)
        return
    config, plan, judged = run.config, run.plan, outside or run
    out = run.workdir / f"eval-{outside.dataset.name}" if outside else run.workdir
    cases, known = judged.cases(judged.split.test), judged.dataset
    spacing = () if outside else run.spacing
    begin = time.perf_counter()
    model, params, facts = load_weights(config, plan, run.workdir)
    content: dict[str, Any] = {"prediction": {"checkpoint": config.eval.checkpoint}}
    rows: list[Row] = []
    metrics: dict[str, Any] = {}
    made: list[str] = []
    predictor = None
    if "segmentation" in config.tasks.learn:
        predictor = chosen_predictor(run, model, params)
        rows = judge(
            cases,
            predictor,
            out / "predictions",
            spacing=spacing,
            tolerance=config.eval.tolerance,
            convention=known.convention,
            progress=progress.bar("predicting test cases"),
        )
        metrics = summary(rows, plan.names)
        made.append("predictions")
        beats = heart.hearts(rows, cases) if heart.applies(plan.names) else []
        if beats:
            content["heart"] = heart.content(beats, _known_hearts(run, judged), known.targets)
            made.append(heart.write_hearts(out / "heart.csv", beats, known.targets))
        content["prediction"] |= {
            "mirror_axes": predictor.mirror_axes,
            "keep_largest": [plan.names[k - plan.exclusive] for k in predictor.keep_largest],
        }
    said: list[findings.Said] = []
    if finds(config):
        said = findings.say_all(
            cases,
            build_finder(config, plan, model, params),
            known.targets,
            spacing=spacing,
            convention=known.convention,
            progress=progress.bar("looking at test cases"),
        )
        content |= findings.content(said, plan.targets)
        made += findings.write_findings(out, said, plan.targets)
        classes = findings.rows(said)
        metrics |= {findings.CLASSIFICATION: aggregate(classes)} if classes else {}
        rows = [*rows, *classes]
    write_rows(out / "metrics.csv", rows)
    seconds = time.perf_counter() - begin
    content = {**frame(judged, stored, facts, metrics, seconds), **content}
    beside = run.workdir / BASELINE / "metrics.csv"
    if beside.is_file() and not outside:
        content["baseline"] = compare(rows, read_rows(beside), plan.names)
    content |= against(rows, config.eval.against or "")
    results.write_json(out / "results.json", content)
    by_id = {case.id: case for case in cases}
    shown = (
        showcase(
            by_id,
            [row for row in rows if row["class"] in plan.names],
            predictor,
            attention(model, params, plan, tiles=predictor.tiles, space=config.eval.space),
            out / "predictions",
            spacing=spacing,
            convention=known.convention,
        )
        if predictor
        else ()
    )
    write_report(
        out / "report.html",
        results=content,
        config=stored,
        plan=json.loads((run.workdir / "plan.json").read_text("utf-8")),
        curves=read_curves(run.workdir / "metrics.jsonl"),
        rows=rows,
        cases=list(shown),
        classes=plan.labels.classes,
        objects=list(
            object_pictures.object_cases(
                by_id,
                object_pictures.choose(said),
                plan.channels,
                spacing=spacing,
                convention=known.convention,
            )
        ),
    )
    announce(content)
    for name in (*made, "metrics.csv", "results.json", "report.html"):
        console.print(f"made {out / name}")
    console.print(f"made {run.workdir / 'checkpoints'}")


def _known_hearts(run: Experiment, judged: Experiment) -> list[heart.Heart]:
    """The hearts of the patients who trained, where their diagnoses are those of the judged ones."""
    if run.dataset.targets != judged.dataset.targets:
        return []
    trained = progress.bar("measuring training cases")(run.cases(run.split.train))
    return heart.known_hearts(trained, run.plan.labels, len(run.plan.channels), run.spacing)


def chosen_predictor(run: Experiment, model: Any, params: Any) -> Predictor:
    """The model as a function of scans, with the largest parts kept that the validation cases say."""
    predictor = build_predictor(run.config, run.plan, model, params)
    if not run.config.eval.largest_component:
        return predictor
    kept = choose_largest(
        run.cases(run.split.validation),
        predictor,
        spacing=run.spacing,
        progress=progress.bar("predicting validation cases"),
    )
    return replace(predictor, keep_largest=kept)


def announce(content: dict[str, Any]) -> None:
    """The figures of results.json in a line each."""
    for name, scores in content["metrics"].items():
        if "dice" in scores:
            dice = scores["dice"]
            console.print(
                f"{name}: Dice {dice['mean']:.4f} [{dice['low']:.4f}, {dice['high']:.4f}] "
                f"over {dice['n']} cases, HD95 {scores['hd95']['mean']:.2f} mm"
            )
    if "classification" in content:
        found = content["classification"]
        right = found["accuracy"]
        console.print(
            f"classification: accuracy {right['mean']:.4f} [{right['low']:.4f}, {right['high']:.4f}] over "
            f"{right['n']} cases, AUC {found['auc']:.4f}, Brier score {found['brier']['mean']:.4f}"
        )
    if "detection" in content:
        found = content["detection"]
        cpm = found["cpm"]
        console.print(
            f"detection: CPM {cpm['mean']:.4f} [{cpm['low']:.4f}, {cpm['high']:.4f}], average precision "
            f"{found['average_precision']:.4f}; {found['objects']} objects in {found['scans']} scans"
        )
    if "heart" in content:
        found = content["heart"]["lv_ef"]
        console.print(
            f"ejection fraction of the LV: bias {found['bias']:+.1f} %, limits of agreement "
            f"{found['low']:+.1f} to {found['high']:+.1f} %, r {found['correlation']:.3f} over "
            f"{found['n']} patients"
        )
    other = content.get("against", {})
    for compared, words in (
        (content.get("baseline", {}), "the labelled cases alone"),
        (other.get("classes", {}), other.get("run")),
    ):
        for name, scores in compared.items():
            metric, gain = next(iter(scores.items()))
            console.print(
                f"{name}: {metric} {gain['gain']:+.4f} [{gain['low']:+.4f}, {gain['high']:+.4f}] against "
                f"{words} ({gain['baseline']:.4f})"
            )
