"""Whole runs of `experiments/quick.py`: what is left on disk, and that a killed run loses nothing."""

import json
import random
import signal
import time
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

from medjax import cli

ROOT = Path(__file__).parents[2]
QUICK = ["--config", str(ROOT / "experiments" / "quick.py")]


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    """The work folder of an uninterrupted run, made in a process of its own."""
    workdir = tmp_path_factory.mktemp("run") / "whole"
    run("quick", workdir)
    return workdir


def stop_at(process, workdir, step, number):
    """Sends a signal once the run has reported a step and its first checkpoint is there."""
    path = workdir / "metrics.jsonl"
    for _ in range(3000):
        rows = path.read_text("utf-8").splitlines() if path.is_file() else []
        reported = any(row.startswith(f'{{"step": {step},') for row in rows)
        if reported and any((workdir / "checkpoints").glob("[0-9]")):
            break
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(number)
    return process.communicate(timeout=120)[0], process.returncode


def test_a_run_leaves_what_the_work_folder_promises(finished):
    results = json.loads((finished / "results.json").read_text("utf-8"))
    assert results["experiment"] == "quick"
    assert results["data"]["name"] == "synthetic-two_species"
    assert results["training"] == {"steps": 12, "nonfinite": 0}
    assert set(results["metrics"]) == {"mean", "WT", "TC", "ET"}
    assert results["timing"]["peak_memory_gb"] < 3
    split = json.loads((finished / "split.json").read_text("utf-8"))
    assert results["data"]["split_sha256"] == split["sha256"]
    for case in split["test"]:
        predicted = nib.load(finished / "predictions" / f"{case}.nii.gz")
        assert set(np.unique(predicted.dataobj)) <= {0, 1, 2, 3}
    steps = [
        json.loads(row)["step"]
        for row in (finished / "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    assert sorted(set(steps)) == list(range(1, 13))
    assert "<html" in (finished / "report.html").read_text("utf-8")
    assert {"config.json", "plan.json", "checkpoints"} <= {p.name for p in finished.iterdir()}


def test_predictions_lie_on_the_inputs_own_grid(finished, home):
    split = json.loads((finished / "split.json").read_text("utf-8"))
    (source,) = (home / "medjax" / "synthetic").glob("*/*/")
    for case in split["test"]:
        scan = nib.load(source / case / f"{case}-seg.nii.gz")
        predicted = nib.load(finished / "predictions" / f"{case}.nii.gz")
        assert predicted.shape == scan.shape
        np.testing.assert_array_equal(predicted.affine, scan.affine)


def test_a_killed_and_an_interrupted_run_end_in_the_same_bits(finished, start, run, last_state):
    workdir = finished.parent / "broken"
    kill = random.randint(5, 7)
    output, _ = stop_at(start("quick", workdir), workdir, kill, signal.SIGKILL)
    assert "made" not in output
    output, code = stop_at(start("quick", workdir), workdir, 9, signal.SIGINT)
    assert code == 130, output
    assert "resuming at step" in output
    assert "the same command resumes" in output
    assert "Traceback" not in output
    output = run("quick", workdir)
    assert "resuming at step" in output
    whole, broken = last_state(finished), last_state(workdir)
    assert int(whole["step"]) == int(broken["step"]) == 12
    jax.tree.map(np.testing.assert_array_equal, whole, broken)
    scores = [
        json.loads((w / "results.json").read_text("utf-8"))["metrics"] for w in (finished, workdir)
    ]
    assert scores[0] == scores[1]


def test_a_finished_run_is_judged_again_without_training(finished, run):
    before = (finished / "metrics.jsonl").read_bytes()
    scores = json.loads((finished / "results.json").read_text("utf-8"))["metrics"]
    run("quick", finished, "--mode", "eval")
    assert (finished / "metrics.jsonl").read_bytes() == before
    assert json.loads((finished / "results.json").read_text("utf-8"))["metrics"] == scores


def test_another_data_set_judges_by_the_names_of_its_regions(finished, home, run, tmp_path):
    (source,) = (home / "medjax" / "synthetic").glob("*/*/")
    split = json.loads((finished / "split.json").read_text("utf-8"))
    for case in split["test"]:  # the same scans, with the label values of BraTS 2018
        for path in (source / case).glob("*.nii.gz"):
            image = nib.load(path)
            values = np.asarray(image.dataobj)
            if "seg" in path.name:
                values = np.where(values == 3, 4, values).astype(np.uint8)
            folder = tmp_path / "others" / path.parent.name.replace("BraTS-SYN-", "case")
            folder.mkdir(parents=True, exist_ok=True)
            modality = {"t1n": "t1", "t1c": "t1ce", "t2w": "t2", "t2f": "flair", "seg": "seg"}[
                path.name[: -len(".nii.gz")].rsplit("-", 1)[1]
            ]
            new = nib.Nifti1Image(values, image.affine)
            nib.save(new, folder / f"{folder.name}_{modality}.nii.gz")
    own = (finished / "results.json").read_bytes()
    run("quick", finished, "--mode", "eval", f"--config.eval.root={tmp_path / 'others'}")
    assert (finished / "results.json").read_bytes() == own
    judged = json.loads((finished / "eval-others" / "results.json").read_text("utf-8"))
    assert judged["data"]["name"] == "others"
    assert judged["metrics"] == json.loads(own)["metrics"]
    assert "<html" in (finished / "eval-others" / "report.html").read_text("utf-8")


def test_predict_does_the_good_files_and_names_the_bad_one(finished, home, start, tmp_path):
    (source,) = (home / "medjax" / "synthetic").glob("*/*/")
    scans = tmp_path / "scans"
    for number in range(3):
        folder = scans / f"patient{number}"
        folder.mkdir(parents=True)
        for old, new in (("t1n", "t1"), ("t1c", "t1ce"), ("t2w", "t2"), ("t2f", "flair")):
            case = f"BraTS-SYN-0000{number}-000"
            name = folder / f"patient{number}_{new}.nii.gz"
            name.write_bytes((source / case / f"{case}-{old}.nii.gz").read_bytes())
    bad = scans / "patient1" / "patient1_t2.nii.gz"
    bad.write_bytes(bad.read_bytes()[:2000])
    process = start(
        "quick", finished, "--mode", "predict", "--input", str(scans),
        "--output", str(tmp_path / "out"), "--probabilities",
    )  # fmt: skip
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "patient1_t2.nii.gz" in output
    assert "Traceback" not in output
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    names = ["", "_ET", "_TC", "_WT"]
    assert made == [f"patient{n}{name}.nii.gz" for n in (0, 2) for name in names]
    whole = nib.load(tmp_path / "out" / "patient0_WT.nii.gz").get_fdata()
    label = nib.load(tmp_path / "out" / "patient0.nii.gz").get_fdata()
    assert whole.min() >= 0
    assert whole.max() <= 1
    kept = json.loads((finished / "results.json").read_text("utf-8"))["prediction"]["keep_largest"]
    if "WT" not in kept and "TC" not in kept and "ET" not in kept:
        assert ((label > 0) >= (whole > 0.5)).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config.train.stepz=3"], "stepz"),
        (["--config.train.steps=many"], "steps"),
        (["--config.train.steps=0"], "train.steps"),
        (["--config.train.optimizer=lamb"], "train.optimizer"),
        (["--config.train.schedule=stairs"], "train.schedule"),
        (["--config.train.precision=int4"], "train.precision"),
        (["--config.train.foreground=2.0"], "train.foreground"),
        (["--config.train.batch_dice=True", "--config.train.accumulate=2"], "train.batch_dice"),
        (["--config.train.accumulate=3"], "train.accumulate"),
        (["--config.train.devices=99"], "train.devices"),
        (["--config.train.warmup=x"], "warmup"),
        (["--config.data.root=/nowhere"], "/nowhere"),
        (["--config.data.root=", "--config.synth.cases=0"], "data.root"),
        (["--config.data.fold=9"], "data.fold"),
        (["--config.data.layout=zip"], "layout"),
        (["--config.plan.patch=(15, 24, 24)"], "plan.patch"),
        (["--config.model.block=magic"], "block"),
        (["--mode", "dance"], "--mode"),
        (["--mode", "eval"], "holds no trained run"),
        (["--mode", "predict"], "--input"),
        (["--mode", "verify"], "data.root"),
        (["--speed=3"], "speed"),
        (["stray"], "stray"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_every_mistake_ends_in_one_line(arguments, said, home, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    with pytest.raises(SystemExit) as stopped:
        cli.run([*QUICK, "--workdir", str(tmp_path / "run"), *arguments])
    assert stopped.value.code == 1
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.startswith("medjax: ")
    assert len(error.splitlines()) == 1
    assert "unexpected" not in error
    assert ("Unknown command line flag" in error) == (said == "speed")


@pytest.mark.parametrize("given", ["precision=int4", "optimizer=lamb", "schedule=stairs"])
def test_a_mistaken_word_leaves_its_work_folder_free(given, tmp_path, capsys):
    with pytest.raises(SystemExit):
        cli.run([*QUICK, "--workdir", str(tmp_path / "run"), f"--config.train.{given}"])
    assert f"train.{given.split('=')[0]}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", ["nowhere.py", "broken.py", "empty.py", ""])
def test_a_config_that_is_none_ends_in_one_line(config, tmp_path, capsys):
    (tmp_path / "broken.py").write_text("def get_config(:\n")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(SystemExit) as stopped:
        cli.run(["--config", str(tmp_path / config) if config else ""])
    assert stopped.value.code == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("medjax: ")
    assert len(error.splitlines()) == 1
    assert "unexpected" not in error


def test_another_config_in_the_same_work_folder_is_refused(finished, home, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    with pytest.raises(SystemExit):
        cli.run([*QUICK, "--workdir", str(finished), "--config.train.learning_rate=0.5"])
    error = capsys.readouterr().err
    assert "train.learning_rate" in error
    assert "another --workdir" in error


def test_help_needs_nothing(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.run(["--help"])
    assert stopped.value.code == 0
    assert "--config" in capsys.readouterr().out
