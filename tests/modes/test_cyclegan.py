"""A whole CycleGAN run: what it leaves, that an interrupted one ends in the same bits, and its mistakes."""

import json
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import pytest

from medjax import cli
from medjax.modes import train as modes
from medjax.train import step

QUICK = str(Path(__file__).parents[2] / "experiments" / "quick.py")
FLAGS = {
    "data.layout": "plain",
    "data.channels": ("t1", "flair"),
    "data.convention": "background,core,rim",
    "train.paradigm": "cyclegan",
    "train.steps": 6,
    "train.validations": 2,
    "train.validation_batches": 0,
    "train.devices": 1,
    "plan.patch": (1, 16, 16),
    "cyclegan.width": 4,
    "cyclegan.blocks": 1,
    "cyclegan.layers": 1,
    "cyclegan.pool": 3,
    "cyclegan.identity": 0.0,
}


@pytest.fixture(scope="module")
def train(home, tmp_path_factory):
    """`train(workdir, {key: value})`: a run in this process on six small heads made here."""
    root = tmp_path_factory.mktemp("heads")
    shape = (20, 24, 16)
    grid = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij")
    far = np.sqrt(sum((g / n) ** 2 for g, n in zip(grid, shape, strict=True)))
    for number in range(6):
        rng = np.random.default_rng(number)
        label = np.zeros(shape, np.uint8)
        label[6:12, 8 + number : 12 + number, 5:10], label[8:10, 9 + number, 7:9] = 2, 1
        tissue = 1 + (far < 0.3) + 0.1 * rng.normal(size=shape)
        images = {"t1": tissue - 0.4 * (label > 0), "flair": 4 - tissue + label, "seg": label}
        for name, array in images.items():
            path = root / f"case{number}" / f"{name}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            array = np.where(far < 0.45, array, 0).astype(label.dtype if name == "seg" else "f4")
            nib.Nifti1Image(array, np.diag([4.0, 4.0, 4.0, 1.0])).to_filename(path)

    def train(workdir, changes):
        flags = {**FLAGS, "data.root": root, **changes}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(home))
            given = [f"--config.{key}={value}" for key, value in flags.items()]
            cli.run(["--config", QUICK, "--workdir", str(workdir), *given])

    return train


@pytest.fixture(scope="module")
def judge(train, tmp_path_factory):
    """The work folder of a segmenter of true FLAIR images."""
    workdir = tmp_path_factory.mktemp("judge")
    train(
        workdir,
        {
            "train.paradigm": "supervised",
            "data.channels": ("flair",),
            "train.steps": 1,
            "train.validations": 1,
            "augment.strength": 0.0,
        },
    )
    return workdir


@pytest.mark.long
def test_a_run_is_audited_and_an_interrupted_one_ends_in_the_same_bits(
    train, judge, last_state, cut_and_resume, tmp_path, monkeypatch
):
    mapped, map_step = [], step.map_step  # one compilation for the three runs, as in a user's cache
    monkeypatch.setattr(step, "map_step", lambda *a: mapped.append(map_step(*a)) or mapped[0])
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train(whole, {"eval.segmenter": judge})
    results = json.loads((whole / "results.json").read_text("utf-8"))
    assert results["training"] == {"steps": 6, "nonfinite": 0}
    assert set(results["metrics"]) == {"image", "core", "rim"}
    assert {"mae", "ssim", "mae_lesion", "mae_cycle"} < set(results["metrics"]["image"])
    assert {"contrast", "contrast_true", "dice_made", "dice_true"} < set(results["metrics"]["rim"])
    for case in json.loads((whole / "split.json").read_text("utf-8"))["test"]:
        made = nib.load(whole / "predictions" / f"{case}_flair.nii.gz")
        assert made.shape == (20, 24, 16)
    assert "flair, made" in (whole / "report.html").read_text("utf-8")

    monkeypatch.setattr(modes, "evaluate", lambda *run: None)  # the bits are compared
    cut_and_resume(train, broken, {}, at=4)
    first, second = last_state(whole), last_state(broken)
    assert int(first["step"]) == int(second["step"]) == 6
    assert int(first["extra"]["pool_target"]["count"]) == 3
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.paradigm": "diffusion"}, "train.paradigm"),
        ({"cyclegan.source": "pd"}, "cyclegan.source"),
        ({"cyclegan.pool": 0}, "cyclegan.pool"),
        ({"plan.patch": (1, 18, 24)}, "plan.patch"),
        ({"plan.batch": 3}, "plan.batch"),
        ({"train.accumulate": 3}, "train.accumulate"),
        ({"train.devices": 4}, "plan.batch"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line(changes, said, train, tmp_path, capsys):
    with pytest.raises(SystemExit):
        train(tmp_path, changes)
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith(f"medjax: {said}")


@pytest.mark.long
def test_a_judge_of_other_cases_or_channels_is_refused(train, judge, tmp_path, capsys):
    for number, (changes, said) in enumerate(
        (
            ({"data.fold": 1}, "a test case of this run"),
            ({"cyclegan.source": "flair", "cyclegan.target": "t1"}, "from t1"),
        )
    ):
        with pytest.raises(SystemExit):
            train(tmp_path / str(number), {**changes, "eval.segmenter": judge})
        assert said in capsys.readouterr().err
