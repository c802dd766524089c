"""Sweeps: the space, the files that they leave, and whole ones that are killed and go on."""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medjax import cli
from medjax.errors import UserError
from medjax.modes import sweep, trials
from medjax.modes.defaults import defaults
from medjax.modes.space import decode, draw, draws, grid, read_space, suggest

QUICK = str(Path(__file__).parents[2] / "experiments" / "quick.py")

SPACE = {
    "train.optimizer": ("choice", "adamw", "sgd"),
    "train.learning_rate": ("log", 1e-4, 1e-1),
    "train.momentum": ("float", 0.5, 0.9, {"train.optimizer": "sgd"}),
    "plan.patch": ("choice", (8, 8, 8), (16, 16, 16)),
    "train.warmup": ("int", 1, 3),
}


class Asked:
    """What an Optuna trial is asked, answered with the first of everything."""

    def __init__(self):
        self.params = {}

    def suggest_categorical(self, key, values):
        return self.params.setdefault(key, values[0])

    def suggest_int(self, key, low, high):
        return self.params.setdefault(key, low)

    def suggest_float(self, key, low, high, log):
        return self.params.setdefault(key, low)


def test_points_lie_in_the_space_and_keys_that_do_not_count_are_left_out():
    axes, rng = read_space(SPACE), np.random.default_rng(0)
    points = [draw(axes, rng) for _ in range(300)]
    for point in points:
        assert ("train.momentum" in point) == (point["train.optimizer"] == "sgd")
        assert 1e-4 <= point["train.learning_rate"] <= 1e-1
        assert point["plan.patch"] in SPACE["plan.patch"]
    assert {point["train.warmup"] for point in points} == {1, 2, 3}
    assert np.median([p["train.learning_rate"] for p in points]) < 0.01  # even in the logarithm
    assert points != [draw(axes, np.random.default_rng(1)) for _ in range(300)]


def test_a_grid_holds_each_combination_that_counts_once():
    axes = read_space(
        {
            "train.optimizer": ("choice", "adamw", "sgd"),
            "train.momentum": ("choice", 0.9, 0.99, {"train.optimizer": "sgd"}),
            "plan.width": ("choice", 4, 8),
        }
    )
    points = grid(axes)
    assert len(points) == 2 * (1 + 2)
    assert len({json.dumps(point, sort_keys=True) for point in points}) == len(points)
    with pytest.raises(UserError, match="a grid needs choices"):
        grid(read_space(SPACE))


def test_points_at_random_are_no_two_alike_and_as_many_as_there_are():
    axes = read_space({"plan.width": ("int", 4, 6), "plan.stages": ("choice", 2, 3)})
    several = draws(axes, 5, np.random.default_rng(0))
    assert len({json.dumps(point) for point in several}) == 5
    assert several == draws(axes, 6, np.random.default_rng(0))[:5]  # a sweep can be given more
    assert len(draws(axes, 50, np.random.default_rng(0))) == 6


def ended(values, curve):
    """A trial that was told to end."""
    name = trials.place(Path(), values).name
    return trials.Trial(name, values, tuple(enumerate(curve, start=1)), len(curve), "", True)


def test_no_point_is_proposed_twice_and_a_search_without_points_is_over():
    proposals = pytest.importorskip("medjax.modes.proposals")
    axes = read_space({"plan.width": ("int", 4, 6), "plan.stages": ("choice", 2, 3)})
    known = [ended({"plan.width": 4, "plan.stages": 2}, [0.5])]
    waiting = [{"plan.width": 6, "plan.stages": 3}]
    search = proposals.Proposals(axes, known, waiting, seed=0)
    points = [search.suggest(str(i))["point"] for i in range(5)]
    assert points[0] == waiting[0]
    assert len({json.dumps(point) for point in [*points, known[0].values]}) == 6
    search.on_trial_complete("0", {"score": 0.7})
    assert search.suggest("5") == search.FINISHED


def test_trials_are_stopped_by_those_that_ended_before_the_sweep_went_on():
    proposals = pytest.importorskip("medjax.modes.proposals")

    def asked(known, score):
        halving = proposals.Halving(known, validations=9, grace=1)
        assert halving.set_search_properties("score", "max")
        trial = SimpleNamespace(trial_id="new")
        halving.on_trial_add(None, trial)
        return halving.on_trial_result(None, trial, {"training_iteration": 1, "score": score})

    known = [ended({"plan.width": i}, [0.1 * i] * 3) for i in range(1, 7)]
    assert asked([], 0.05) == "CONTINUE"  # nothing to be worse than
    assert asked(known, 0.05) == "STOP"
    assert asked(known, 0.7) == "CONTINUE"


def test_a_sweep_can_be_given_more_trials_but_no_other_search(tmp_path):
    config, axes = defaults("quick"), read_space(SPACE)
    sweep._claim(config, tmp_path, axes)
    config.sweep.trials, config.sweep.cpus = 40, 2.0
    sweep._claim(config, tmp_path, axes)
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["sweep"]["trials"] == 40
    config.sweep.search = "random"
    with pytest.raises(UserError, match="of another config"):
        sweep._claim(config, tmp_path, axes)


def test_what_optuna_is_asked_is_told_back_as_values():
    axes, asked = read_space(SPACE), Asked()
    point = suggest(axes, asked)
    assert asked.params["plan.patch"] == 0  # by position: it knows no tuples
    assert decode(axes, asked.params) == point
    assert point["plan.patch"] == (8, 8, 8)
    assert "train.momentum" not in point


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "returns no keys"),
        ({"a": ("even", 0, 1)}, "'even' is unknown"),
        ({"a": ("float", 1, 1)}, "give a lower and a higher end"),
        ({"a": ("log", 0.0, 1)}, "a logarithm of 0"),
        ({"a": ("choice",)}, "no values to choose from"),
        ({"a": ("int", 1, 2, {"b": 1})}, "hangs on b, which is no key before it"),
    ],
)
def test_a_space_that_cannot_be_is_named(given, text):
    with pytest.raises(UserError, match=text):
        read_space(given)


@pytest.mark.parametrize("address", ["here", "127.0.0.1:1", "127.0.0.1:x"])
def test_a_cluster_that_is_not_there_is_not_waited_for(address, tmp_path):
    config = cli._parse(["--config", QUICK])[0]
    with pytest.raises(UserError, match=f"nobody answers at {address}"):
        sweep.main(config, tmp_path, experiment=QUICK, address=address)
    assert not list(tmp_path.iterdir())


def made(folder, name, values, scores, *, steps=12, failed=""):
    """The folder of a trial as a run leaves it."""
    workdir = folder / f"trial-{name}"
    workdir.mkdir(parents=True)
    told = {"values": values, "failed": failed, "ended": True}
    (workdir / trials.VALUES).write_text(json.dumps(told), "utf-8")
    (workdir / "config.json").write_text(json.dumps({"train": {"steps": steps}}), "utf-8")
    rows = [{"step": 4 * (i + 1), "validation_dice": s} for i, s in enumerate(scores)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workdir / "metrics.jsonl").write_text(lines, "utf-8")


def test_what_trials_leave_becomes_a_leaderboard_a_page_and_a_config_that_runs(tmp_path):
    config = defaults("quick")
    config.synth.cases = 6
    axes = read_space(
        {
            "train.learning_rate": ("log", 1e-4, 1e-1),
            "plan.patch": ("choice", (8, 8, 8), (16, 8, 8)),
        }
    )
    rates = np.geomspace(1e-4, 1e-1, 6)
    for i, rate in enumerate(rates):
        scores = [0.1, 0.2, 0.3 + 0.1 * i][: 1 if i == 0 else 3]
        values = {"train.learning_rate": rate, "plan.patch": [(8, 8, 8), (16, 8, 8)][i % 2]}
        made(tmp_path, str(i), values, scores)
    made(tmp_path, "bad", {"train.learning_rate": 1.0, "plan.patch": [8, 8, 8]}, [], failed="<no>")
    sweep.write(config, tmp_path, axes)
    told = json.loads((tmp_path / "sweep.json").read_text("utf-8"))
    assert [t["name"] for t in told["trials"]][:2] == ["trial-5", "trial-4"]
    states = {t["name"]: t["state"] for t in told["trials"]}
    assert states["trial-0"] == "stopped early"
    assert states["trial-bad"] == "failed"
    assert set(told["importances"]) == {"train.learning_rate", "plan.patch"}
    assert sum(told["importances"].values()) == pytest.approx(1)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "&lt;no&gt;" in page
    assert "<no>" not in page
    assert page.count("polyline") > 10
    best = cli._parse(["--config", str(tmp_path / "best.py")])[0]
    assert best.train.learning_rate == pytest.approx(0.1)
    assert best.plan.patch == (16, 8, 8)
    assert best.synth.cases == 6
    assert best.eval.test  # it may open the test cases


def test_settings_and_folders_that_do_not_fit_are_named(tmp_path, capsys):
    quick = [
        "--config",
        "experiments/quick.py",
        "--mode",
        "sweep",
        "--workdir",
        str(tmp_path / "s"),
    ]
    (tmp_path / "s").mkdir()
    for flags, text in {
        ("--config.sweep.search=all",): "sweep.search: 'all' is unknown",
        ("--config.sweep.search=grid",): "a grid needs choices",
        ("--config.sweep.trials=0",): "sweep.trials",
        ("--config.seeds=2",): "give one seed and one fold",
    }.items():
        with pytest.raises(SystemExit) as ended:
            cli.run([*quick, *flags])
        assert ended.value.code == 1
        assert text in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.run([*["--config", "experiments/prostate.py"], *quick[2:]])
    assert "has no get_sweep()" in capsys.readouterr().err


def left(folder):
    """The processes whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if (
            any(str(folder).encode() in word for word in words)
            and int(path.parent.name) != os.getpid()
        ):
            found.append(path.parent.name)
    return found


@pytest.mark.long
def test_a_killed_sweep_goes_on_to_its_end(start, run, tmp_path):
    folder = tmp_path / "sweep"
    flags = ("--mode", "sweep", "--config.sweep.trials=6", "--config.train.tensorboard=False")
    process = start("quick", folder, *flags, optimised=False)
    end = time.monotonic() + 300
    while len(list(folder.glob("trial-*/metrics.jsonl"))) < 3 and time.monotonic() < end:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    before = {path.parent.name for path in folder.glob(f"trial-*/{trials.VALUES}")}
    assert 3 <= len(before) < 6
    end = time.monotonic() + 60
    while left(folder) and time.monotonic() < end:
        time.sleep(0.5)
    assert not left(folder)  # trials end with the sweep
    output = run("quick", folder, *flags, optimised=False)
    assert "trial-" in output
    told = json.loads((folder / "sweep.json").read_text("utf-8"))
    assert len(told["trials"]) == 6
    assert before <= {trial["name"] for trial in told["trials"]}
    assert not [trial for trial in told["trials"] if trial["state"] == "failed"]
    assert not list(folder.glob("trial-*/predictions"))  # no test case was opened
