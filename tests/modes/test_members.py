"""Folds and seeds: ordinary runs in folders of their own, judged together, predicting together."""

import json
import shutil

import jax
import nibabel as nib
import numpy as np
import pytest

from medjax import cli
from medjax.modes import members
from medjax.modes.defaults import defaults
from medjax.train.evaluate import read_rows

NAMES = [f"fold-{fold}-seed-{seed}" for fold in (0, 1, 2) for seed in (0, 1)]


@pytest.fixture(scope="module")
def train(make_scans, train_on, tmp_path_factory):
    """`train(workdir, {key: value}, mode)` on six small cases made here."""
    root = tmp_path_factory.mktemp("members") / "scans"
    make_scans(root)
    return train_on(root, {"plan.width": 4, "train.steps": 2, "data.validation": 0.0})


@pytest.fixture(scope="module")
def group(train, tmp_path_factory):
    """The folder of three folds with two seeds each."""
    workdir = tmp_path_factory.mktemp("members") / "all"
    train(workdir, {"data.fold": -1, "seeds": 2})
    return workdir


def content(path):
    return json.loads(path.read_text("utf-8"))


def test_a_run_alone_is_itself(tmp_path):
    assert members.members(defaults("one"), tmp_path) == [(defaults("one"), tmp_path)]
    phantoms = defaults("phantoms")
    phantoms.phantom.train, phantoms.data.fold = 4, -1
    assert len(members.members(phantoms, tmp_path)) == 1  # whose split knows no folds


def test_every_case_is_tested_once_by_who_has_not_seen_it(group):
    assert [path.name for path in sorted(group.glob("fold-*"))] == NAMES
    splits = {name: content(group / name / "split.json") for name in NAMES}
    for fold in (0, 1, 2):
        first, second = (splits[f"fold-{fold}-seed-{seed}"] for seed in (0, 1))
        assert first == second
    tested = [case for name in NAMES[::2] for case in splits[name]["test"]]
    assert sorted(tested) == [f"case{n}" for n in range(6)]
    rows = read_rows(group / "metrics.csv")
    assert sorted(row["case"] for row in rows) == sorted(tested)
    for row in rows:
        own = [
            other["dice"]
            for name in NAMES
            for other in read_rows(group / name / "metrics.csv")
            if other["case"] == row["case"]
        ]
        assert len(own) == 2
        assert row["dice"] == pytest.approx(np.mean(own))


def test_the_results_are_those_of_all_runs(group):
    together = content(group / "results.json")
    assert list(together["runs"]) == NAMES
    means = [
        np.mean([together["runs"][name]["tumour"]["dice"]["mean"] for name in NAMES[seed::2]])
        for seed in (0, 1)
    ]
    found = together["seeds"]["tumour"]["dice"]
    assert found == pytest.approx({"mean": np.mean(means), "sd": np.std(means, ddof=1), "n": 2})
    assert together["metrics"]["tumour"]["dice"]["n"] == 6
    page = (group / "report.html").read_text("utf-8")
    assert all(f'href="{name}/report.html"' in page for name in NAMES)


@pytest.mark.long
def test_what_is_there_is_not_trained_again_and_what_is_gone_is(group, train, capsys, last_state):
    before = last_state(group / NAMES[1])
    shutil.rmtree(group / NAMES[1])
    train(group, {"data.fold": -1, "seeds": 2})
    steps = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [step.split()[1] for step in steps] == ["1/2", "2/2"]
    jax.tree.map(np.testing.assert_array_equal, before, last_state(group / NAMES[1]))


def test_predictions_are_the_mean_of_the_runs(group, home, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    root = content(group / "config.json")["data"]["root"]

    def predicted(workdir, *changes):
        output = tmp_path / f"{workdir.name}{len(changes)}"
        given = {
            "workdir": workdir,
            "input": f"{root}/imagesTr/case0_0000.nii.gz",
            "output": output,
        }
        flags = [f"--{name}={value}" for name, value in given.items()]
        flags += ["--mode=predict", "--probabilities", "--config.eval.mirror=false", *changes]
        cli.run(["--config", "experiments/quick.py", *flags])
        (path,) = output.glob("*_tumour.nii.gz")
        return nib.load(path).get_fdata()

    mean = np.mean([predicted(group / name) for name in NAMES], axis=0)
    np.testing.assert_allclose(predicted(group), mean, atol=1e-5)
    shared = predicted(group, "--config.eval.space=4")
    np.testing.assert_allclose(shared, mean, atol=1e-5)
    whole = predicted(group, "--config.eval.space=4", "--config.eval.whole=true")
    assert whole.shape == mean.shape
    assert 1e-4 < np.abs(whole - mean).max() < 0.5  # its statistics are those of the scan


def test_a_run_is_compared_with_another_case_by_case(group, train, capsys):
    train(group / NAMES[0], {"eval.against": str(group)}, "eval")
    split, found = (content(group / NAMES[0] / f"{n}.json") for n in ("split", "results"))
    scores = found["against"]["classes"]["tumour"]["dice"]
    assert scores["n"] == len(split["test"]) == 2
    assert f"against {group}" in capsys.readouterr().out
    train(group, {"eval.against": str(group)}, "eval")
    scores = content(group / "results.json")["against"]["classes"]["tumour"]["dice"]
    assert (scores["n"], scores["gain"], scores["p"]) == (6, 0.0, 1.0)
    assert "against" not in content(group / NAMES[0] / "results.json")


def test_one_run_and_several_do_not_share_a_folder(group, train, capsys):
    with pytest.raises(SystemExit):
        train(group, {})
    assert f"{group}: holds several runs of other seeds or folds" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train(group / NAMES[0], {"data.fold": -1, "seeds": 2})
    assert f"{NAMES[0]}: holds one run of other seeds or folds" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train(group, {"data.fold": -1, "seeds": 2}, "export")
    assert f"export one of them, --workdir {group / NAMES[0]}" in capsys.readouterr().err
