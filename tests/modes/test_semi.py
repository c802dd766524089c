"""Whole runs that learn from cases without labels: what they leave, the same bits after a kill, mistakes."""

import json

import jax
import numpy as np
import pytest

from medjax.modes import experiment, semi
from medjax.modes import train as modes
from medjax.modes.defaults import defaults
from medjax.train import step

FLAGS = {
    "data.train_cases": 1,
    "plan.batch": 4,
    "plan.width": 4,
    "train.paradigm": "mean_teacher",
    "train.steps": 12,  # fewer leave no trace in the running mean
}


@pytest.fixture(scope="module")
def train(make_scans, train_on, tmp_path_factory):
    """`train(workdir, {key: value})`: a run in this process on six small cases made here."""
    root = tmp_path_factory.mktemp("few") / "scans"
    make_scans(root)
    return train_on(root, FLAGS)


def test_the_methods_are_named_in_one_order():
    assert tuple(semi.METHODS) == experiment.SEMI


@pytest.mark.parametrize(("paradigm", "patches"), [("bcp", 4), ("cps", 8), ("unimatch", 10)])
def test_memory_is_told_of_every_patch_that_is_differentiated(paradigm, patches):
    """Of four, one of which has a label."""
    config = defaults("semi")
    config.train.paradigm, config.semi.unlabelled = paradigm, 3
    assert 4 * semi.differentiated(config) == patches


@pytest.mark.long
def test_a_run_stands_beside_its_baseline_and_a_killed_one_ends_in_the_same_bits(
    train, last_state, cut_and_resume, tmp_path, monkeypatch, capsys
):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(whole, {})
    results = json.loads((whole / "results.json").read_text("utf-8"))
    assert {k: results["data"][k] for k in ("train", "unlabelled", "validation", "test")} == {
        "train": 1,
        "unlabelled": 2,
        "validation": 1,
        "test": 2,
    }
    alone = json.loads((whole / "baseline" / "results.json").read_text("utf-8"))
    assert alone["training"] == results["training"]
    assert alone["data"]["unlabelled"] == 0
    own = results["baseline"]["tumour"]["dice"]
    assert own["baseline"] == pytest.approx(alone["metrics"]["tumour"]["dice"]["mean"])
    assert own["ours"] == pytest.approx(results["metrics"]["tumour"]["dice"]["mean"])
    assert own["gain"] == pytest.approx(own["ours"] - own["baseline"])
    assert "Against the labelled cases alone" in (whole / "report.html").read_text("utf-8")
    assert "against the labelled cases alone" in capsys.readouterr().out
    rows = [json.loads(r) for r in (whole / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert all(np.isfinite(row["consistency"]) for row in rows if "consistency" in row)

    monkeypatch.setattr(modes, "evaluate", lambda *run: None)  # the bits are compared
    cut_and_resume(train, broken, {"semi.baseline": False}, at=8)
    assert not (broken / "baseline").exists()
    first, second = last_state(whole), last_state(broken)
    assert int(first["step"]) == int(second["step"]) == 12
    jax.tree.map(np.testing.assert_array_equal, first, second)
    teacher, student = (jax.tree.leaves(t) for t in (first["extra"]["ema"], first["params"]))
    assert any((a != b).any() for a, b in zip(teacher, student, strict=True))


def test_the_labels_of_the_others_are_never_read(
    train, make_scans, last_state, tmp_path, monkeypatch
):
    """Other labels under the same split train the same weights."""
    monkeypatch.setattr(modes, "evaluate", lambda *run: None)
    mapped, map_step = [], step.map_step  # one compilation
    monkeypatch.setattr(step, "map_step", lambda *a: mapped.append(map_step(*a)) or mapped[0])
    found = []
    for name in ("true", "false"):
        root = tmp_path / name
        make_scans(root)
        workdir = tmp_path / f"run-{name}"
        if name == "false":
            split = json.loads((tmp_path / "run-true" / "split.json").read_text("utf-8"))
            for case in split["unlabelled"]:
                (root / "labelsTr" / f"{case}.nii.gz").write_bytes(b"not a label map at all")
        train(workdir, {"data.root": root, "semi.baseline": False, "train.steps": 2})
        found.append(last_state(workdir)["params"])
    jax.tree.map(np.testing.assert_array_equal, *found)


@pytest.mark.long
def test_of_two_networks_one_predicts(train, last_state, tmp_path):
    workdir = tmp_path / "run"
    train(workdir, {"train.paradigm": "cps", "train.steps": 2, "semi.baseline": False})
    assert last_state(workdir)["params"].keys() == {"first", "second"}
    results = json.loads((workdir / "results.json").read_text("utf-8"))
    assert results["metrics"]["tumour"]["dice"]["n"] == 2
    assert "baseline" not in results
    other = {"train.start_from": str(workdir), "semi.baseline": False, "train.steps": 1}
    with pytest.raises(SystemExit):
        train(tmp_path / "other", other)  # one network cannot start from two
    train(tmp_path / "again", {**other, "train.paradigm": "cps"})


@pytest.mark.long
def test_masked_pre_training_starts_any_segmenter(train, last_state, tmp_path, capsys):
    before = tmp_path / "masked"
    train(before, {"train.paradigm": "masked", "masked.block": 4, "train.steps": 2})
    results = json.loads((before / "results.json").read_text("utf-8"))
    assert set(results["metrics"]["image"]) == {"mae_hidden", "mae_mean"}
    assert results["data"]["train"] + results["data"]["unlabelled"] == 3
    assert "hidden" in (before / "report.html").read_text("utf-8")
    after = {"train.start_from": str(before), "train.learning_rate": 0.0, "semi.baseline": False}
    train(tmp_path / "after", {**after, "train.steps": 1, "train.weight_decay": 0.0})
    found, given = (last_state(tmp_path / name)["params"] for name in ("after", "masked"))
    teacher = last_state(before)["extra"]["ema"]
    assert found.keys() == given.keys()
    for name in found:
        if name != "seg":
            jax.tree.map(np.testing.assert_array_equal, found[name], teacher[name])
    assert (
        found["seg"]["Conv_0"]["kernel"].shape[-1] == 2
    )  # background and tumour; one channel before
    assert given["seg"]["Conv_0"]["kernel"].shape[-1] == 1
    capsys.readouterr()
    with pytest.raises(SystemExit):
        train(tmp_path / "other", {**after, "plan.width": 8})
    assert "widths differ" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.train_cases": 0}, "train.paradigm: mean_teacher learns from cases without labels"),
        ({"train.ema": False}, "train.ema"),
        ({"synth.share": 0.5}, "synth.share"),
        ({"plan.batch": 3}, "plan.batch: 3 patches; this paradigm needs a multiple of 2"),
        ({"train.paradigm": "bcp", "plan.batch": 6}, "plan.batch: 6 patches"),
        ({"train.paradigm": "bcp", "semi.unlabelled": 2}, "semi.unlabelled"),
        ({"train.paradigm": "bcp", "model.deep_supervision": True}, "model.deep_supervision"),
        ({"train.paradigm": "ua_mt", "semi.passes": 1}, "semi.passes"),
        (
            {"train.paradigm": "cps", "train.start_from": "x", "semi.baseline": True},
            "semi.baseline",
        ),
        ({"semi.ramp": 2.0}, "semi.ramp: 2.0 is no share"),
        ({"train.paradigm": "masked", "masked.share": 1.0}, "masked.share"),
        ({"data.split": "nowhere.json"}, "nowhere.json: no split"),
    ],
)
def test_mistakes_end_in_one_line(changes, said, train, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tmp_path / "run", changes)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "changes",
    [
        {"train.ema": False},
        {"semi.unlabelled": 0},
        {"semi.pretrain": -0.1},
        {"train.paradigm": "ua_mt", "semi.passes": 1},
        {"train.paradigm": "masked", "masked.block": 0},
    ],
)
def test_what_the_config_alone_shows_is_refused_before_any_data_is_read(
    changes, train, tmp_path, capsys
):
    with pytest.raises(SystemExit):
        train(tmp_path / "run", {"data.root": str(tmp_path / "nowhere"), **changes})
    error = capsys.readouterr().err
    assert list(changes)[-1] in error
    assert "nowhere" not in error
