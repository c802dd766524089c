"""Whole runs of several tasks: what they leave, the same bits after a kill, labels of a part, mistakes."""

import csv
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from medjax import cli
from medjax.modes import train as modes

QUICK = Path(__file__).parents[2] / "experiments" / "quick.py"
FLAGS = {
    "plan.patch": (16, 16, 16),
    "plan.batch": 4,
    "plan.width": 4,
    "train.steps": 12,
    "tasks.learn": ("segmentation", "classification", "detection"),
    "tasks.objects": "tumour",
}


@pytest.fixture(scope="module")
def root(make_scans, tmp_path_factory):
    """Six cases of which four have a class."""
    root = tmp_path_factory.mktemp("tasks") / "scans"
    make_scans(root)
    lines = [f"case{number},{'odd' if number % 2 else 'even'}\n" for number in range(5)]
    (root / "targets.csv").write_text("".join(["case,target\n", *lines]))
    return root


@pytest.fixture(scope="module")
def train(root, train_on):
    """`train(workdir, {key: value})`: a run in this process on the cases of `root`."""
    return train_on(root, FLAGS)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
def test_a_teacher_three_tasks_and_two_streams_end_in_the_same_bits_after_a_kill(
    train, root, last_state, cut_and_resume, tmp_path, monkeypatch
):
    """And leave tables of classes and of objects, scores, a report; prediction leaves the same tables."""
    flags = {
        "train.paradigm": "mean_teacher",
        "data.train_cases": 2,
        "semi.baseline": False,
        "tasks.rule": "famo",
    }
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(whole, flags)
    results = json.loads((whole / "results.json").read_text("utf-8"))
    test = json.loads((whole / "split.json").read_text("utf-8"))["test"]
    known = [case for case in test if case != "case5"]
    assert results["metrics"]["classification"]["accuracy"]["n"] == len(known)
    assert results["classification"]["classes"] == ["even", "odd"]
    assert np.sum(results["classification"]["confusion"]) == len(known)
    assert results["detection"]["scans"] == results["detection"]["objects"] == len(test)
    assert [row["case"] for row in read(whole / "classification.csv")] == known
    for row in read(whole / "classification.csv"):
        assert float(row["even"]) + float(row["odd"]) == pytest.approx(1, abs=1e-5)
    assert {row["case"] for row in read(whole / "detection.csv")} <= set(test)
    page = (whole / "report.html").read_text("utf-8")
    for words in ("Classes and objects", "Weights of the tasks", "Calibration error", "CPM"):
        assert words in page
    rows = [json.loads(r) for r in (whole / "metrics.jsonl").read_text("utf-8").splitlines()]
    last = [row for row in rows if "weight/detection" in row][-1]
    weights = [last[f"weight/{task}"] for task in FLAGS["tasks.learn"]]
    assert np.isfinite(weights).all()
    assert "validation_accuracy" in rows[-1]

    out = tmp_path / "out"
    where = {"mode": "predict", "input": root / "imagesTr", "output": out}
    cli.run([f"--config={QUICK}", f"--workdir={whole}", *(f"--{k}={v}" for k, v in where.items())])
    predicted = {row["case"]: row for row in read(out / "classification.csv")}
    assert predicted.keys() == {f"case{number}" for number in range(6)}
    for row in read(whole / "classification.csv"):
        assert predicted[row["case"]] == {**row, "target": ""}
    found = [row for row in read(out / "detection.csv") if row["case"] in test]
    assert found == read(whole / "detection.csv")
    assert (out / "case0.nii.gz").is_file()

    monkeypatch.setattr(modes, "evaluate", lambda *run: None)  # the bits are compared
    cut_and_resume(train, broken, flags, at=8)
    first, second = last_state(whole), last_state(broken)
    assert int(first["step"]) == int(second["step"]) == 12
    jax.tree.map(np.testing.assert_array_equal, first, second)
    state = first["extra"]["tasks"]["state"]
    assert (np.asarray(jax.tree.leaves(state["logits"])[0]) != 0).any()


@pytest.mark.long
def test_classes_alone_need_no_label_map(root, train_on, tmp_path):
    """Cases without a label map train and are judged; one of unknown class trains nothing here."""
    bare = tmp_path / "scans"
    (bare / "labelsTr").mkdir(parents=True)
    (bare / "imagesTr").symlink_to(root / "imagesTr")
    for name in ("dataset.json", "targets.csv"):
        (bare / name).write_bytes((root / name).read_bytes())
    (bare / "labelsTr" / "case0.nii.gz").write_bytes(
        (root / "labelsTr" / "case0.nii.gz").read_bytes()
    )
    workdir = tmp_path / "run"
    changes = {"tasks.learn": ("classification",), "train.steps": 2, "data.folds": 2}
    train_on(bare, FLAGS)(workdir, changes)
    split = json.loads((workdir / "split.json").read_text("utf-8"))
    assert split["unlabelled"] == ["case5"]
    results = json.loads((workdir / "results.json").read_text("utf-8"))
    assert set(results["metrics"]) == {"classification"}
    assert "detection" not in results
    assert results["classification"]["accuracy"]["n"] == len(split["test"])
    assert not (workdir / "predictions").exists()


@pytest.mark.long
def test_phantoms_are_made_once_and_tell_who_is_tested(train_on, home, tmp_path, capsys):
    """In the cache of a user, with the split that goes with them."""
    flags = {
        "phantom.train": 3,
        "phantom.validation": 1,
        "phantom.test": 2,
        "plan.patch": (8, 16, 16),
        "tasks.learn": ("classification",),
        "train.steps": 1,
    }
    train = train_on("", {**FLAGS, **flags})
    train(tmp_path / "run", {})
    made = list((home / "medjax" / "phantoms").iterdir())
    assert len(made) == 1
    split = json.loads((tmp_path / "run" / "split.json").read_text("utf-8"))
    assert split["train"] == ["train-0-0000", "train-0-0001", "train-0-0002"]
    assert split["test"] == ["test-0-0000", "test-0-0001"]
    results = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    assert results["classification"]["classes"] == ["none", "significant"]
    assert results["classification"]["accuracy"]["n"] == 2
    train(tmp_path / "other", {"train.learning_rate": 1e-4})
    assert list((home / "medjax" / "phantoms").iterdir()) == made


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks.learn": ("counting",)}, "tasks.learn: counting; choose from segmentation"),
        ({"tasks.learn": ()}, "tasks.learn: nothing"),
        ({"model.trunk": "vgg"}, "model.trunk: 'vgg' is unknown; choose unet or resnet50"),
        ({"model.trunk": "resnet50"}, "resnet50 classifies"),
        ({"tasks.learn": ("detection",), "train.paradigm": "ua_mt"}, "ua_mt needs segmentation"),
        ({"train.paradigm": "bcp"}, "tasks.learn: bcp learns no classification"),
        ({"tasks.rule": "magic"}, "tasks.rule: 'magic' is unknown; choose one of static"),
        ({"tasks.rule": "dwa", "train.accumulate": 2}, "tasks.rule: dwa weighs two tasks or more"),
        ({"tasks.rule": "dwa", "tasks.learn": ("detection",)}, "tasks.rule: dwa weighs two tasks"),
        ({"tasks.detection_level": 2}, "tasks.detection_level: 2 of 2 stages; give 0 to 1"),
        ({"tasks.objects": "stone"}, "tasks.objects: 'stone' is no class or region"),
        ({"synth.share": 0.5}, "synth.share: synthetic patients teach no classification"),
    ],
)
def test_mistakes_end_in_one_line(changes, said, train, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tmp_path / "run", changes)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.long
def test_tables_are_read_where_they_are_wanted(make_scans, train_on, tmp_path, capsys):
    """A targets.csv of somebody else's stops no segmentation; `verify` and others say what is wrong."""
    scans = tmp_path / "scans"
    make_scans(scans)
    (scans / "targets.csv").write_text("patient,age\ncase0,50\n")
    quick = {"tasks.learn": ("segmentation",), "train.steps": 1}
    train_on(scans, {**FLAGS, **quick})(tmp_path / "run", {})
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train_on(scans, FLAGS)(tmp_path / "other", {})
    assert "targets.csv: has no column case, target" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.run([f"--config={QUICK}", f"--config.data.root={scans}", "--mode=verify"])
    assert "targets.csv: has no column case, target" in capsys.readouterr().err
    (scans / "targets.csv").write_text("case,target\ncase0,old\ncase1,young\n")
    (scans / "objects.csv").write_text("case,x,y,z,diameter\ncase0,8,8,8,6\ncase1,,,,\n")
    with pytest.raises(SystemExit):  # it finds that their spacing is lost
        cli.run([f"--config={QUICK}", f"--config.data.root={scans}", "--mode=verify"])
    said = capsys.readouterr().out
    assert "classes of 2 cases: old, young" in said
    assert "1 objects listed of 2 cases" in said


def test_classes_that_nobody_named_are_asked_for(make_scans, train_on, tmp_path, capsys):
    make_scans(tmp_path / "scans")
    with pytest.raises(SystemExit):
        train_on(tmp_path / "scans", FLAGS)(tmp_path / "run", {})
    assert "name them in a targets.csv (case,target)" in capsys.readouterr().err
