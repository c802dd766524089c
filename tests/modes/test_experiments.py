"""Every shipped experiment runs to its report on a data set of its layout, made here."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medjax import cli

EDGE = Path(__file__).parents[2] / "experiments" / "edge.py"
TINY = [
    "--config.plan.width=4",
    "--config.plan.stages=3",
    "--config.train.steps=2",
    "--config.train.minutes=0.0",
]


def blob(shape, spacing, radius, classes):
    """Nested balls of growing intensity, and their labels from the outside in."""
    grid = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij")
    far = np.sqrt(sum((g * s) ** 2 for g, s in zip(grid, spacing, strict=True)))
    label = sum((far < radius * (1 - k / classes)).astype(np.uint8) for k in range(classes))
    noise = np.random.default_rng(0).normal(0, 0.1, shape)
    return (label + noise + 1).astype(np.float32), label.astype(np.uint8)


def make_acdc(root):
    """Stacks whose files lost their spacing."""
    for number in range(3):
        folder = root / f"patient00{number}"
        folder.mkdir()
        (folder / "Info.cfg").write_text("ED: 1\nES: 8\nGroup: NOR\n")
        for frame in (1, 8):
            image, label = blob((64, 72, 6 + number), (1.5, 1.5, 10), 40 - frame, 3)
            name = str(folder / f"patient00{number}_frame{frame:02d}")
            nib.Nifti1Image(image, np.eye(4)).to_filename(name + ".nii.gz")
            nib.Nifti1Image(label, np.eye(4)).to_filename(name + "_gt.nii.gz")


def make_drive(root):
    """Photographs as TIFF, tracings as GIF."""
    for folder in ("images", "1st_manual", "mask"):
        (root / "training" / folder).mkdir(parents=True)
    for number in range(21, 26):
        image, label = blob((60, 80), (1, 1), 25 - number % 5, 1)
        photograph = np.repeat((60 * image).clip(0, 255).astype(np.uint8)[..., None], 3, -1)
        training = root / "training"
        Image.fromarray(photograph).save(training / "images" / f"{number}_training.tif")
        traced = Image.fromarray(255 * label)
        traced.save(training / "1st_manual" / f"{number}_manual1.gif")
        traced.save(training / "mask" / f"{number}_training_mask.gif")


def make_hippocampus(root):
    """A decathlon folder; its intensities change scale from case to case."""
    pairs = []
    for number in range(1, 8):
        image, label = blob((20, 24, 18 + number), (1, 1, 1), 9, 2)
        pair = {}
        for part, array in (("image", image * 10**number), ("label", label)):
            path = root / f"{part}sTr" / f"hippocampus_{number:03d}.nii.gz"
            path.parent.mkdir(exist_ok=True)
            nib.Nifti1Image(array, np.eye(4)).to_filename(path)
            pair[part] = f"./{path.relative_to(root)}"
        pairs.append(pair)
    description = {
        "name": "Hippocampus",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": pairs,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(description))


UNCHANGED = "--config.augment.strength=0.0"  # compiles in half the time
# experiment: maker, flags, classes, kernels of the first two stages
TABLE = {
    "acdc": (
        make_acdc,
        ["--config.data.spacing=(1.5, 1.5, 10)", "--config.data.folds=3", UNCHANGED],
        {"RV", "myocardium", "LV"},
        [[1, 3, 3], [1, 3, 3]],
    ),
    "vessels": (
        make_drive,
        ["--config.plan.patch=(1, 32, 32)", UNCHANGED],
        {"vessel"},
        [[1, 3, 3], [1, 3, 3]],
    ),
    "hippocampus": (make_hippocampus, [], {"Anterior", "Posterior"}, [[3, 3, 3], [3, 3, 3]]),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "vessels" else pytest.mark.long) for n in TABLE]
)
def test_the_experiment_runs_on_its_layout(name, run, tmp_path):
    make, flags, classes, kernels = TABLE[name]
    root, workdir = tmp_path / "data", tmp_path / "run"
    root.mkdir()
    make(root)
    run(name, workdir, f"--config.data.root={root}", *TINY, *flags, optimised=False)
    plan = json.loads((workdir / "plan.json").read_text("utf-8"))
    assert plan["kernels"][:2] == kernels
    results = json.loads((workdir / "results.json").read_text("utf-8"))
    assert set(results["metrics"]) == {"mean", *classes}
    assert results["training"] == {"steps": 2, "nonfinite": 0}
    assumed = results["data"]["assumed"]
    assert ("spacing" in assumed) == (name == "acdc")
    assert ("pixel size" in assumed) == (name == "vessels")
    report = (workdir / "report.html").read_text("utf-8")
    assert ("Function of the heart" in report) == ("heart" in results) == (name == "acdc")
    test = json.loads((workdir / "split.json").read_text("utf-8"))["test"]
    assert len(list((workdir / "predictions").iterdir())) == len(test)


@pytest.mark.long
def test_the_rarer_options_work_together(run, tmp_path):
    run(
        "quick",
        tmp_path,
        "--config.synth.growth=plaques",  # without optimisation a tumour grows for ten seconds
        "--config.model.block=hybrid",
        "--config.model.attention=sca",
        "--config.model.deep_supervision=True",
        "--config.augment.elastic=(4.0, 32.0)",
        "--config.train.optimizer=sgd",
        "--config.train.schedule=poly",
        "--config.train.precision=bfloat16",
        "--config.train.accumulate=2",
        "--config.train.ema=False",
        "--config.train.workers=2",
        "--config.train.steps=3",
        "--config.eval.checkpoint=best",
        "--config.eval.mirror=True",
        f"--config.data.cache={tmp_path / 'prepared'}",
        optimised=False,
    )
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert results["training"]["nonfinite"] == 0
    assert any((tmp_path / "prepared").iterdir())
    assert "attention" in (tmp_path / "report.html").read_text("utf-8").lower()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("", "train.start_from: runs/hippocampus: holds no trained run; train that first"),
        (":brats_synth", "train.start_from: runs/brats_synth: holds no trained run"),
        (":lungs", "edge.py:lungs: is unknown; give hippocampus or brats_synth"),
    ],
)
def test_the_edge_begins_with_a_trained_run(part, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        cli.run([f"--config={EDGE}{part}", f"--workdir={tmp_path / 'run'}", "--mode=export"])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
