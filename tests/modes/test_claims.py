"""Running a claim: which trainings, in which order, each once; and `train.start_from`, on which it rests."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from medjax import cli
from medjax.data import recipe as recipes
from medjax.deploy.export import tensorflow
from medjax.errors import UserError
from medjax.modes import claims, experiment, train
from medjax.modes.claims import recipe, steps
from medjax.modes.defaults import defaults
from medjax.train import checkpoint

CLAIMS = Path(__file__).parents[2] / "experiments" / "claims"
RULES = """
tiny:
  {claim: Pre-training helps., source: An article., command: python launch.py, metric: dice,
   structure: tumour, both_empty: 1.0, baseline: plain, decides: tuned, seeds: 2, level: 0.95,
   arms: {plain: two stages, tuned: the same start and another end}, no_effect: 0.0, target: 0.1,
   rule: A rule.}
"""
FIRST = {"train.steps": 12}  # enough for a running mean that differs from the weights
ARMS = {
    "plain": (FIRST, {"train.steps": 2}),
    "tuned": (FIRST, {"train.steps": 2, "train.learning_rate": 0.0}),
}


def make_config(root, arms=ARMS, seeds=(0,), folds=(0,)):
    """A claim on the scans in `root / scans`, with its rules, records and page in `root`."""
    config = defaults("tiny")
    config.mode = "claims"
    config.data.root = str(root / "scans")
    config.data.folds = 3
    config.data.validation = 0.25
    config.plan.patch = (8, 8, 8)
    config.plan.batch = 2
    config.plan.width = 4
    config.plan.stages = 1
    config.augment.strength = 0.0
    config.train.warmup = 0
    config.train.validations = 1
    config.train.validation_batches = 1
    config.train.weight_decay = 0.0
    config.eval.mirror = False
    with config.unlocked():
        config.claim = {
            "name": "tiny",
            "rules": str(root / "claims.yaml"),
            "results": str(root / "results"),
            "page": str(root / "CLAIMS.md"),
            "seeds": seeds,
            "folds": folds,
            "arms": arms,
        }
    return config


def list_runs(config, workdir):
    return claims.list_runs(config, workdir, list(config.claim.arms))


@pytest.fixture(scope="module")
def place(make_scans, tmp_path_factory):
    """Scans and rules, and a user's cache."""
    root = tmp_path_factory.mktemp("claim")
    make_scans(root / "scans")
    (root / "claims.yaml").write_text(RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "home"))
        yield root


@pytest.fixture(scope="module")
def claimed(place):
    """The work folder of the tiny claim, run to its end, and the trainings that it took."""
    trained, original = [], train.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            train, "fit", lambda run, *a: (trained.append(run.workdir), original(run, *a))
        )
        claims.main(make_config(place), place / "run")
    return place / "run", [folder.relative_to(place / "run").as_posix() for folder in trained]


def weights(workdir):
    """`params` and running mean of the newest checkpoint of a run."""
    newest = max((workdir / "checkpoints").glob("[0-9]*"), key=lambda p: int(p.name))
    with ocp.StandardCheckpointer() as reader:
        shapes = reader.metadata(newest / "state").item_metadata.tree
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = jax.tree.map(
            lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding), shapes
        )
        found = reader.restore(newest / "state", like)
    return found["params"], found["extra"]["ema"]


def test_an_interrupted_claim_is_paired(tmp_path):
    """Seed by seed and fold by fold, the arms side by side."""
    runs = list_runs(make_config(tmp_path, seeds=(4, 5), folds=(0, 2)), tmp_path)
    order = [(seed, fold, arm) for seed in (4, 5) for fold in (0, 2) for arm in ("plain", "tuned")]
    assert [(run.seed, run.fold, run.arm) for run in runs] == order
    for run in runs:
        for config, _ in run.stages:
            assert (config.seed, config.data.fold, config.mode) == (run.seed, run.fold, "train")
            assert "claim" not in config


def test_equal_stages_share_a_folder_and_each_starts_from_the_one_before(tmp_path):
    plain, tuned = list_runs(make_config(tmp_path), tmp_path)
    (first, a), (second, b) = plain.stages
    assert a == tmp_path / "plain" / "seed-0" / "fold-0" / "stage-1"
    assert b == tmp_path / "plain" / "seed-0" / "fold-0" / "stage-2"
    assert first.train.start_from is None
    assert second.train.start_from == str(a)
    assert [folder for _, folder in tuned.stages] == [
        a,
        tmp_path / "tuned" / "seed-0" / "fold-0" / "stage-2",
    ]


def test_the_same_end_of_another_start_is_another_stage(tmp_path):
    end = {"train.steps": 2}
    arms = {"plain": (FIRST, end), "tuned": ({**FIRST, "augment.strength": 0.5}, end)}
    plain, tuned = list_runs(make_config(tmp_path, arms), tmp_path)
    assert not {f for _, f in plain.stages} & {f for _, f in tuned.stages}


def test_a_stage_with_a_fold_of_its_own_is_trained_once_for_all_folds(tmp_path):
    arms = {"plain": ({**FIRST, "data.fold": 1}, {"train.steps": 2})}
    zero, two = list_runs(make_config(tmp_path, arms, folds=(0, 2)), tmp_path)
    assert zero.stages[0][1] == two.stages[0][1]
    assert zero.stages[1][1] != two.stages[1][1]


def test_a_stage_may_use_the_one_before_for_something_else(tmp_path):
    """Its work folder goes to another key; the steps behind its own weights begin anew."""
    maker = {"train.steps": 7}
    arms = {"plain": (maker, {"claim.before": "data.cache", "train.steps": 3}, {"train.steps": 2})}
    (run,) = list_runs(make_config(tmp_path, arms), tmp_path)
    (_, a), (second, b), (third, _) = run.stages
    assert (second.data.cache, second.train.start_from) == (str(a), None)
    assert third.train.start_from == str(b)
    assert steps(run) == 5


def test_a_recipe_is_known_again_on_another_machine_and_changes_with_the_config(tmp_path):
    here, there = make_config(tmp_path), make_config(tmp_path / "other", seeds=(3,), folds=(1, 2))
    assert recipe(here, "plain") == recipe(there, "plain") != recipe(here, "tuned")
    there.train.clip = 1.0
    assert recipe(here, "plain") != recipe(there, "plain")


def test_a_recipe_holds_the_version_of_the_generator_where_it_is_used(tmp_path, monkeypatch):
    arms = {**ARMS, "made": ({"train.steps": 14, "synth.share": 0.5},)}
    config = make_config(tmp_path, arms)
    before = {arm: recipe(config, arm) for arm in arms}
    monkeypatch.setattr(recipes, "VERSION", recipes.VERSION + 1)
    assert recipe(config, "plain") == before["plain"]
    assert recipe(config, "made") != before["made"]


def changed(root, **keys):
    config = make_config(root)
    config.update_from_flattened_dict({key.replace("__", "."): v for key, v in keys.items()})
    return config


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: defaults("x"), "config.claim"),
        (lambda p: changed(p, claim__name="huge"), "claim.name: 'huge'"),
        (lambda p: changed(p, claim__rules="/nowhere.yaml"), "/nowhere.yaml"),
        (lambda p: changed(p, train__minutes=1.0), "train.minutes"),
        (lambda p: make_config(p, {"odd": ({},)}), "claim.arms.odd"),
        (lambda p: make_config(p, {"plain": ()}), "claim.arms.plain: has no stage"),
        (lambda p: make_config(p, {"plain": ({"train.stepz": 1},)}), "claim.arms.plain"),
        (lambda p: make_config(p, {"plain": ({"train.steps": "x"},)}), "claim.arms.plain"),
        (lambda p: make_config(p, {**ARMS, "tuned": (FIRST,)}), "plain 14, tuned 12"),
    ],
)
def test_faults_of_a_claim_end_in_one_line_before_any_training(make, said, place, tmp_path):
    with pytest.raises(UserError, match=said) as caught:
        claims.main(make(place), tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "part",
    [
        "synthetic.py",
        "synthetic.py:phantom",
        "synthetic.py:pretraining",
        "synthetic.py:sclerosis",
        "labels.py",
        "labels.py:heart",
        "tasks.py:heart",
        "compression.py",
    ],
)
def test_a_shipped_claim_is_sound_as_far_as_its_data(part, place, tmp_path, capsys):
    """It passes every check; then the folder of scans is missing, which only a user can give."""
    with pytest.raises(SystemExit):
        cli.run(
            [f"--config={CLAIMS / part}", f"--workdir={tmp_path / 'run'}"]
            + [f"--config.claim.{key}={tmp_path / key}" for key in ("results", "page")]
        )
    assert "medjax: config.data.root: is unset" in capsys.readouterr().err


def test_a_shipped_claim_on_phantoms_is_sound_up_to_its_first_training(
    tmp_path, monkeypatch, capsys
):
    def stop(config, folder):
        raise UserError(f"would train {folder.name}")

    monkeypatch.setattr(train, "main", stop)
    with pytest.raises(SystemExit):
        cli.run(
            [f"--config={CLAIMS / 'tasks.py'}", f"--workdir={tmp_path / 'run'}"]
            + [f"--config.claim.{key}={tmp_path / key}" for key in ("results", "page")]
        )
    assert "medjax: would train stage-1" in capsys.readouterr().err


def test_every_shipped_claim_is_tried_here():
    tried = {"compression.py", "labels.py", "synthetic.py", "tasks.py"}
    assert {path.name for path in CLAIMS.glob("*.py")} == tried


def test_a_claim_leaves_records_and_a_page(claimed, place):
    workdir, trained = claimed
    start = "plain/seed-0/fold-0/stage-1"
    assert trained == [start, "plain/seed-0/fold-0/stage-2", "tuned/seed-0/fold-0/stage-2"]
    split = json.loads((workdir / start / "split.json").read_text("utf-8"))
    for arm in ARMS:
        path = place / "results" / "tiny" / f"{arm}-seed0-fold0.json"
        record = json.loads(path.read_text("utf-8"))
        assert (record["arm"], record["seed"], record["steps"]) == (arm, 0, 14)
        assert record["stages"][0].pop("seconds") > 0
        assert record["stages"][0] == {"run": start, "cases": 3, "steps": 12}
        assert [*record["scores"]["tumour"]["dice"]] == split["test"]
        assert record["patients"] == {case: case for case in split["test"]}
        assert str(place) not in path.read_text("utf-8")
    assert not (workdir / start / "results.json").exists()  # judged at the end alone
    page = (place / "CLAIMS.md").read_text("utf-8")
    assert "| incomplete |" in page  # one seed of two
    assert "trainings: 3" in page
    assert str(place) not in page


def test_an_arm_is_judged_by_its_file(claimed, place, monkeypatch, tmp_path):
    """It shares the training of an arm that is not exported."""

    def none(*given):
        raise UserError("export by jax2tf: not in this test")

    asked = {"mode": "export", "export.precision": "int8", "export.lost": 1.0, "export.cases": 2}
    config = make_config(place, {**ARMS, "tuned": (FIRST, {**ARMS["plain"][1], **asked})})
    config.claim.results, config.claim.page = str(tmp_path / "results"), str(tmp_path / "page.md")
    monkeypatch.setattr(tensorflow, "convert", none)
    monkeypatch.setattr(train, "fit", None)
    claims.main(config, claimed[0])
    folder = tmp_path / "results" / "tiny"
    float32, int8 = (
        json.loads((folder / f"{arm}-seed0-fold0.json").read_text("utf-8"))
        for arm in ("plain", "tuned")
    )
    assert float32["stages"][1]["run"] == int8["stages"][1]["run"]
    assert int8["figures"]["int8: p50_ms"] > 0
    assert int8["figures"]["int8: megabytes"] < int8["figures"]["float32: megabytes"]
    ours, theirs = (r["scores"]["tumour"]["dice"] for r in (int8, float32))
    assert ours.keys() == theirs.keys()
    assert ours == pytest.approx(theirs, abs=0.1)
    before = (folder / "tuned-seed0-fold0.json").read_bytes()
    (folder / "tuned-seed0-fold0.json").unlink()
    monkeypatch.setattr(claims.export, "main", None)  # what is exported is not exported again
    claims.main(config, claimed[0])
    assert (folder / "tuned-seed0-fold0.json").read_bytes() == before


@pytest.mark.long
def test_an_exported_arm_may_be_one_training_alone(place, monkeypatch, tmp_path):
    exported = []
    monkeypatch.setattr(claims.export, "main", lambda config, folder: exported.append(folder))
    config = make_config(place, {"tuned": ({**FIRST, "mode": "export"},)})
    config.claim.results, config.claim.page = str(tmp_path / "results"), str(tmp_path / "page.md")
    with pytest.raises(UserError, match="export"):  # nothing was left to make a record of
        claims.main(config, tmp_path / "run")
    (folder,) = exported
    assert (folder / "results.json").is_file()


def test_what_is_finished_is_not_run_again(claimed, place, monkeypatch):
    """Neither where its record is there, nor where only its work folder is."""
    workdir, _ = claimed
    page = (place / "CLAIMS.md").read_bytes()
    (place / "CLAIMS.md").unlink()
    record = place / "results" / "tiny" / "tuned-seed0-fold0.json"
    before = record.read_bytes()
    record.unlink()
    monkeypatch.setattr(train, "fit", None)
    claims.main(make_config(place), workdir)
    assert record.read_bytes() == before
    claims.main(make_config(place), place / "elsewhere")
    assert (place / "CLAIMS.md").read_bytes() == page
    assert not (place / "elsewhere").exists()


def test_devices_are_chosen_before_a_checkpoint_is_looked_at(claimed, place, monkeypatch, tmp_path):
    """Looking at one starts JAX; then a claim that was stopped inside a training could not go on."""
    calls, look = [], checkpoint.newest
    monkeypatch.setattr(experiment, "start_jax", lambda: calls.append("start"))
    monkeypatch.setattr(checkpoint, "newest", lambda at: calls.append("look") or look(at))
    monkeypatch.setattr(train, "fit", None)
    config = make_config(place)
    config.claim.results = str(tmp_path / "results")
    claims.main(config, claimed[0])
    assert calls[0] == "start"
    assert "look" in calls


def test_a_record_of_another_recipe_is_refused(claimed, place):
    with pytest.raises(UserError, match=r"another recipe \(train\.clip differs\)"):
        claims.main(changed(place, train__clip=1.0), claimed[0])
    arms = {**ARMS, "tuned": (*ARMS["tuned"][:1], {"train.steps": 2, "train.learning_rate": 1.0})}
    with pytest.raises(
        UserError, match=r"another recipe \(stage 2: train\.learning_rate differs\)"
    ):
        claims.main(make_config(place, arms), claimed[0])


def test_how_channels_would_be_chosen_is_no_other_recipe_where_none_goes(
    claimed, place, monkeypatch
):
    monkeypatch.setattr(train, "fit", None)
    claims.main(changed(place, prune__score="random"), claimed[0])
    with pytest.raises(UserError, match=r"prune\.ratio.*prune\.score"):
        claims.main(changed(place, prune__score="random", prune__ratio=0.5), claimed[0])


@pytest.mark.parametrize(("value", "known"), [(12.0, True), (1.0, False)])
def test_a_key_that_a_record_is_older_than_had_its_default(value, known, claimed, place, tmp_path):
    """New keys leave a claim's records valid, unless the claim sets them."""
    results = tmp_path / "results"
    shutil.copytree(place / "results", results)
    for path in (results / "tiny").iterdir():
        record = json.loads(path.read_text("utf-8"))
        assert record["recipe"].pop("train.clip") == 12.0
        path.write_text(json.dumps(record), "utf-8")
    config = changed(place, train__clip=value, claim__results=str(results))
    with nullcontext() if known else pytest.raises(UserError, match="another recipe"):
        claims.main(config, tmp_path / "run")


def test_a_run_starts_with_the_weights_it_names(claimed):
    """At a learning rate of 0 they are still the running mean of the run before, bit for bit."""
    workdir, _ = claimed
    params, mean = weights(workdir / "plain" / "seed-0" / "fold-0" / "stage-1")
    still, _ = weights(workdir / "tuned" / "seed-0" / "fold-0" / "stage-2")
    moved, _ = weights(workdir / "plain" / "seed-0" / "fold-0" / "stage-2")
    jax.tree.map(np.testing.assert_array_equal, still, mean)
    for other in (params, moved):
        same = jax.tree.map(lambda a, b: bool((a == b).all()), still, other)
        assert not all(jax.tree.leaves(same))


def test_a_run_goes_on_though_keys_were_added_since(claimed, place, tmp_path, monkeypatch):
    config, finished = list_runs(make_config(place), claimed[0])[1].stages[0]
    monkeypatch.setattr(train, "evaluate", lambda *_: None)
    folder = tmp_path / "older"
    shutil.copytree(finished, folder)
    stored = json.loads((folder / "config.json").read_text("utf-8"))
    del stored["semi"], stored["model"]["dropout"]
    (folder / "config.json").write_text(json.dumps(stored))
    train.main(config, folder)
    again = experiment.stored_config(config, folder)
    assert (again.model.dropout, again.semi.ramp) == (config.model.dropout, config.semi.ramp)
    config.update_from_flattened_dict({"model.dropout": 0.5})
    with pytest.raises(UserError, match=r"another config \(model.dropout differ\)"):
        train.main(config, folder)


def test_a_run_that_goes_on_does_not_need_the_one_it_started_from(claimed, place, monkeypatch):
    config, folder = list_runs(make_config(place), claimed[0])[1].stages[1]
    monkeypatch.setattr(train, "evaluate", lambda *_: None)
    source = claimed[0] / "plain" / "seed-0" / "fold-0" / "stage-1"
    before = weights(folder)
    source.rename(place / "away")
    try:
        train.main(config, folder)
    finally:
        (place / "away").rename(source)
    jax.tree.map(np.testing.assert_array_equal, weights(folder), before)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.start_from", "nowhere", "nowhere: holds no trained run"),
        ("train.start_from", "unfinished", "unfinished/checkpoints: holds no checkpoint"),
        ("plan.width", 8, "widths differ"),
        ("plan.stages", 2, "widths, kernels, strides differ"),
        ("model.block", "residual", "model.block differ"),
        ("data.root", "others", "channels differ"),
        ("train.paradigm", "cyclegan", "is for segmenters"),
    ],
)
def test_weights_that_do_not_fit_end_in_one_line(
    key, value, said, claimed, place, make_scans, tmp_path
):
    source = claimed[0] / "plain" / "seed-0" / "fold-0" / "stage-1"
    (tmp_path / "unfinished").mkdir()
    for name in ("config.json", "plan.json", "split.json"):
        (tmp_path / "unfinished" / name).write_bytes((source / name).read_bytes())
    if value == "others":
        make_scans(tmp_path / "others", channel="T2")
    path = str(tmp_path / str(value)) if key in ("train.start_from", "data.root") else value
    config = list_runs(make_config(place), tmp_path)[0].stages[0][0]
    config.update_from_flattened_dict({"train.start_from": str(source), key: path})
    with pytest.raises(UserError, match=said) as caught:
        train.main(config, tmp_path / "run")
    assert len(str(caught.value).splitlines()) == 1


def test_weights_that_saw_test_cases_are_warned_of(claimed, place, tmp_path, monkeypatch):
    source = claimed[0] / "plain" / "seed-0" / "fold-0" / "stage-1"
    config = list_runs(make_config(place, folds=(1,)), tmp_path)[0].stages[0][0]
    config.train.start_from = str(source)
    monkeypatch.setattr(train, "fit", lambda *_: None)
    monkeypatch.setattr(train, "evaluate", lambda *_: None)
    with pytest.warns(UserWarning, match="trained with cases of the same names"):
        train.main(config, tmp_path / "run")


def test_weights_of_synthetic_patients_alone_saw_no_case(claimed, place, tmp_path, monkeypatch):
    """With a share of 1 the training cases of a run decide the plan and nothing else: no warning."""
    source = tmp_path / "source"  # validation cases choose a checkpoint: here there are none
    shutil.copytree(claimed[0] / "plain" / "seed-0" / "fold-0" / "stage-1", source)
    stored = json.loads((source / "config.json").read_text("utf-8"))
    stored["synth"]["share"] = 1.0
    (source / "config.json").write_text(json.dumps(stored), "utf-8")
    split = json.loads((source / "split.json").read_text("utf-8"))
    split |= {"train": split["train"] + split["validation"], "validation": []}
    (source / "split.json").write_text(json.dumps(split), "utf-8")
    config = list_runs(make_config(place, folds=(1,)), tmp_path)[0].stages[0][0]
    config.train.start_from = str(source)
    monkeypatch.setattr(train, "fit", lambda *_: None)
    monkeypatch.setattr(train, "evaluate", lambda *_: None)
    train.main(config, tmp_path / "run")
