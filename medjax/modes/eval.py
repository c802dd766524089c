"""`--mode eval`: scores a trained model on the test cases of its work folder, and writes the report."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from medjax import progress
from medjax.data.plan import Plan
from medjax.errors import UserError
from medjax.infer.predictor import Predictor, attention
from medjax.modes import experiment
from medjax.modes.defaults import Config
from medjax.modes.experiment import Experiment
from medjax.nn.unet import UNet
from medjax.train import checkpoint, results, state
from medjax.train.evaluate import choose_largest, judge, summary, write_rows
from medjax.train.report import write_report
from medjax.train.showcase import showcase
from medjax.train.writers import read_rows

console = progress.console


def main(config: Config, workdir: Path) -> None:
    """Evaluates the checkpoint of `config.eval.checkpoint`."""
    experiment.start_jax()
    config = experiment.stored_config(config, workdir)
    stored = results.read_json(workdir / "config.json")
    evaluate(experiment.prepare_experiment(config, workdir), stored)


def load_weights(config: Config, plan: Plan, workdir: Path) -> tuple[UNet, Any, dict[str, Any]]:
    """Model, weights and facts of the chosen checkpoint. Errors: none there, or of another model."""
    model = experiment.build_model(config, plan)
    rule = experiment.build_optimizer(config)
    params = experiment.init_params(model, plan, config.seed)
    like = state.create(params, rule, horizon=0, ema=config.train.ema)
    which = config.eval.checkpoint
    if which not in ("last", "best"):
        raise UserError(f"eval.checkpoint: {which!r} is unknown; choose last or best")
    with checkpoint.manager(workdir / "checkpoints") as saved:
        at = saved.best_step() if which == "best" else None
        found, facts = checkpoint.restore(saved, like, at)
    return model, state.weights(found), {**facts, "step": int(found.step)}


def evaluate(run: Experiment, stored: dict[str, Any]) -> None:
    """Predictions, metrics.csv, results.json and report.html of the test cases."""
    config, plan, workdir = run.config, run.plan, run.workdir
    begin = time.perf_counter()
    model, params, facts = load_weights(config, plan, workdir)
    predictor = experiment.build_predictor(config, plan, model, params)
    if config.eval.largest_component:
        kept = choose_largest(
            run.cases(run.split.validation),
            predictor,
            spacing=run.spacing,
            progress=progress.bar("predicting validation cases"),
        )
        predictor = replace(predictor, keep_largest=kept)
    folder = workdir / "predictions"
    rows = judge(
        run.cases(run.split.test),
        predictor,
        folder,
        spacing=run.spacing,
        tolerance=config.eval.tolerance,
        progress=progress.bar("predicting test cases"),
    )
    write_rows(workdir / "metrics.csv", rows)
    seconds = time.perf_counter() - begin
    content = _results(run, stored, predictor, facts, rows, seconds)
    results.write_json(workdir / "results.json", content)
    cases = {case.id: case for case in run.dataset.cases}
    shown = list(
        showcase(
            cases, rows, predictor, attention(model, params, plan), folder, spacing=run.spacing
        )
    )
    write_report(
        workdir / "report.html",
        results=content,
        config=stored,
        plan=json.loads((workdir / "plan.json").read_text("utf-8")),
        curves=read_rows(workdir / "metrics.jsonl"),
        rows=rows,
        cases=shown,
        classes=plan.labels.classes,
    )
    for name, scores in content["metrics"].items():
        dice = scores["dice"]
        console.print(
            f"{name}: Dice {dice['mean']:.4f} [{dice['low']:.4f}, {dice['high']:.4f}] "
            f"over {dice['n']} cases, HD95 {scores['hd95']['mean']:.2f} mm"
        )
    for made in ("predictions", "metrics.csv", "results.json", "report.html", "checkpoints"):
        console.print(f"made {workdir / made}")


def _results(
    run: Experiment,
    stored: dict[str, Any],
    predictor: Predictor,
    facts: dict[str, Any],
    rows: list[dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """The content of results.json."""
    plan, parts = run.plan, run.split
    step = facts.get("step_seconds")
    return {
        "experiment": run.config.name,
        "commit": results.commit(),
        "config_sha256": results.sha256(stored),
        "seed": run.config.seed,
        "device": results.device(),
        "versions": results.versions(),
        "data": {
            "name": run.dataset.name,
            "layout": run.dataset.layout,
            "cases": len(run.dataset.cases),
            "train": len(parts.train),
            "validation": len(parts.validation),
            "test": len(parts.test),
            "split_sha256": parts.sha256(),
            "assumed": plan.assumed,
        },
        "metrics": summary(rows, plan.names),
        "training": {"steps": facts["step"], "nonfinite": len(facts["nonfinite"])},
        "prediction": {
            "checkpoint": run.config.eval.checkpoint,
            "mirror_axes": predictor.mirror_axes,
            "keep_largest": [plan.names[k - plan.exclusive] for k in predictor.keep_largest],
        },
        "timing": {
            "compile_seconds": facts["compile_seconds"],
            "train_seconds": facts["train_seconds"],
            "steps": facts["step"],
            "step_seconds_median": step,
            "patches_per_second": plan.batch / step if step else None,
            "evaluate_seconds": seconds,
            "peak_memory_gb": results.peak_memory_gb(),
        },
    }
