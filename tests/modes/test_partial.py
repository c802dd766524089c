"""A whole run on cases in each of which one of two classes was drawn."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest

FLAGS = {
    "data.folds": 2,
    "data.validation": 0.0,
    "plan.patch": (16, 16, 16),
    "plan.batch": 4,
    "train.steps": 80,
    "train.learning_rate": 1e-2,
    "train.validations": 1,
}
BALLS = {"bright": 1.0, "dark": -1.0}


def make(root):
    """Eight cases with a bright and a dark ball in noise; odd ones know the dark ball alone."""
    rng = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    grid = np.stack(np.meshgrid(*[np.arange(16.0)] * 3, indexing="ij"), -1)
    lines = ["case,drawn"]
    for number in range(8):
        image, label = rng.normal(0, 0.3, grid.shape[:3]), np.zeros(grid.shape[:3], np.uint8)
        for index, (middle, value) in enumerate(zip((4, 11), BALLS.values(), strict=True)):
            ball = np.linalg.norm(grid - rng.uniform(middle - 1, middle + 1, 3), axis=-1) < 3
            image[ball] += value
            label[ball & (index == number % 2)] = index + 1
        for array, name in ((image.astype(np.float32), "imagesTr/{}_0000"), (label, "labelsTr/{}")):
            path = root / (name.format(f"case{number}") + ".nii.gz")
            nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])).to_filename(path)
        lines.append(f"case{number},{list(BALLS)[number % 2]}")
    description = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "bright": 1, "dark": 2},
        "numTraining": 8,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(description))
    (root / "drawn.csv").write_text("\n".join(lines))


@pytest.mark.long
def test_both_classes_are_learned_and_each_case_is_judged_by_what_was_drawn(train_on, tmp_path):
    root, workdir = tmp_path / "scans", tmp_path / "run"
    make(root)
    train_on(root, FLAGS)(workdir, {})
    with (workdir / "metrics.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    split = json.loads((workdir / "split.json").read_text("utf-8"))
    results = json.loads((workdir / "results.json").read_text("utf-8"))
    assert results["data"]["partly_drawn"] == results["data"]["train"] == len(split["train"])
    assert sorted(row["case"] for row in rows) == sorted(split["test"])
    for row in rows:
        assert row["class"] == list(BALLS)[int(row["case"][-1]) % 2]
        assert float(row["dice"]) > 0.8
        saved = nib.load(workdir / "predictions" / f"{row['case']}.nii.gz")
        assert set(np.unique(saved.dataobj)) == {0, 1, 2}  # the other one too
    assert json.loads((workdir / "plan.json").read_text("utf-8"))["convention"]["partial"] == [
        ["bright"],
        ["dark"],
    ]
