"""A run whose network loses channels before it trains: what is left, after a kill and in later runs."""

import json

import jax
import numpy as np
import pytest

from medjax.modes import train as modes

FLAGS = {
    "train.steps": 4,
}
HALF = {"prune.ratio": 0.5, "prune.multiple": 1}


@pytest.fixture(scope="module")
def train(make_scans, train_on, tmp_path_factory):
    """`train(workdir, {key: value})`: a run in this process on six small cases made here."""
    root = tmp_path_factory.mktemp("prune") / "scans"
    make_scans(root)
    return train_on(root, FLAGS)


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A run of the whole network."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    train(workdir, {})
    return workdir


def size(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_half_of_the_channels_go_and_the_rest_is_trained_judged_and_predicts(
    train, whole, last_state, tmp_path, capsys
):
    workdir = tmp_path / "half"
    start = {"train.start_from": str(whole)}
    train(workdir, {**start, **HALF, "train.learning_rate": 0.0, "train.weight_decay": 0.0})
    assert "pruned 36 of 72 channels" in capsys.readouterr().out
    before, after = last_state(whole)["extra"]["ema"], last_state(workdir)["params"]
    assert 0.2 < size(after) / size(before) < 0.35
    lost = json.loads((workdir / "plan.json").read_text("utf-8"))["pruned"]
    kernel = before["seg"]["Conv_0"]["kernel"]
    (axis,) = lost["seg/Conv_0/kernel"]
    kept = np.delete(kernel, lost["seg/Conv_0/kernel"][axis], axis=int(axis))
    np.testing.assert_array_equal(after["seg"]["Conv_0"]["kernel"], kept)
    results = json.loads((workdir / "results.json").read_text("utf-8"))
    assert results["metrics"]["tumour"]["dice"]["n"] == 2


@pytest.mark.long
def test_a_killed_run_ends_in_the_same_bits_and_hands_its_network_on(
    train, whole, last_state, cut_and_resume, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(modes, "evaluate", lambda *run: None)
    changes = {"train.start_from": str(whole), **HALF}
    first, broken, again = (tmp_path / name for name in ("first", "broken", "again"))
    train(first, changes)
    cut_and_resume(train, broken, changes, at=3)
    jax.tree.map(np.testing.assert_array_equal, last_state(first), last_state(broken))
    taught = last_state(first)["extra"]["teacher"], last_state(whole)["extra"]["ema"]
    jax.tree.map(np.testing.assert_array_equal, *taught)
    train(again, {"train.start_from": str(first), "train.steps": 1})
    assert size(last_state(again)["params"]) == size(last_state(first)["params"])
    with pytest.raises(SystemExit):
        train(tmp_path / "twice", {"train.start_from": str(first), **HALF})
    assert "takes none away" in capsys.readouterr().err


@pytest.mark.long
def test_what_the_loss_feels_least_goes(train, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(modes, "evaluate", lambda *run: None)
    lost = {}
    for score in ("magnitude", "taylor"):
        changes = {"train.start_from": str(whole), **HALF, "prune.score": score, "train.steps": 1}
        train(tmp_path / score, changes)
        plan = json.loads((tmp_path / score / "plan.json").read_text("utf-8"))
        lost[score] = plan["pruned"]
    assert lost["taylor"].keys() == lost["magnitude"].keys()
    assert lost["taylor"] != lost["magnitude"]


@pytest.mark.long
def test_the_share_rises_over_rounds(train, whole, last_state, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(modes, "evaluate", lambda *run: None)
    changes = {"train.start_from": str(whole), **HALF, "prune.rounds": 2}
    train(tmp_path / "run", changes)
    said = capsys.readouterr().out
    assert "pruned 18 of 72 channels" in said
    assert "pruned 36 of 72 channels" in said
    first, last = (
        json.loads((tmp_path / folder / "plan.json").read_text("utf-8"))["pruned"]
        for folder in ("run/round-1", "run")
    )
    for path, axes in first.items():
        for axis, gone in axes.items():
            assert set(gone) <= set(last[path][axis])
    jax.tree.map(
        np.testing.assert_array_equal,
        last_state(tmp_path / "run")["extra"]["teacher"],
        last_state(whole)["extra"]["ema"],
    )


def test_what_would_go_is_shown_and_nothing_changed(train, whole, capsys):
    before = {p: p.read_bytes() for p in whole.glob("*.json")}
    train(whole, HALF, "prune")
    said = capsys.readouterr().out
    assert "pruned 36 of 72 channels" in said
    assert "encoder0/Plain_0/Conv_0/kernel[4]" in said
    assert "stays: seg/Conv_0/kernel[4]: an axis of the output" in said
    assert {p: p.read_bytes() for p in whole.glob("*.json")} == before
    with pytest.raises(SystemExit):
        train(whole, {}, "prune")
    assert "prune.ratio: 0.0; give a share" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prune.ratio": 0.5}, "name its run in train.start_from"),
        ({"prune.ratio": 1.5}, "prune.ratio: 1.5 is no share"),
        ({"train.precision": "int8"}, "int8 trains on what is trained"),
        ({**HALF, "train.start_from": "x", "train.precision": "int8"}, "prune in a run before"),
        (
            {"train.precision": "int8", "train.start_from": "x", "train.paradigm": "mean_teacher"},
            "int8 is not for mean_teacher",
        ),
        ({**HALF, "train.start_from": "x", "prune.scope": "all"}, "choose family, global"),
        ({**HALF, "train.start_from": "x", "prune.exclude": "('(',)"}, "'(' is no regular"),
        (
            {**HALF, "train.start_from": "x", "prune.shares": "(('up', 1.0),)"},
            "no pattern and share",
        ),
        ({**HALF, "train.start_from": "x", "prune.shares": "('up', 0.5)"}, "no pattern and share"),
        (
            {**HALF, "train.start_from": "x", "prune.score": "l2"},
            "choose magnitude, taylor, random",
        ),
        ({**HALF, "train.start_from": "x", "prune.rounds": 9}, "prune.rounds: 9 of 4 steps"),
        ({**HALF, "train.start_from": "x", "train.paradigm": "masked"}, "is not for masked"),
    ],
)
def test_mistakes_end_in_one_line(changes, said, train, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tmp_path / "run", changes)
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
