"""Judging: rows, summaries, the choice of post-processing and of the cases to show."""

from dataclasses import replace

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from medjax.data.cases import Case, Dataset
from medjax.data.convention import Convention
from medjax.data.fingerprint import fingerprint
from medjax.data.plan import make_plan
from medjax.infer.predictor import Predictor
from medjax.train.evaluate import choose_largest, judge, read_rows, summary, write_rows
from medjax.train.showcase import best_median_worst, clearest_channel

BINARY = Convention("binary", {0: "background", 1: "lesion"})


@pytest.fixture
def cases(tmp_path):
    """Three cases whose intensity is their label: a threshold is a perfect model."""
    made = []
    for number in range(3):
        label = np.zeros((12, 10, 8), np.uint8)
        label[2 + number : 7 + number, 3:7, 2:6] = 1
        label[0, 0, 0] = number == 2  # a second part
        affine = np.diag([-2.0, 1.0, 1.0, 1.0])
        paths = []
        for name, array in (("image", label * 10.0 + 1), ("label", label)):
            paths.append(str(tmp_path / f"{number}_{name}.nii.gz"))
            nib.save(nib.Nifti1Image(array, affine), paths[-1])
        made.append(Case(f"case{number}", f"case{number}", (paths[0],), paths[1]))
    return made


def predictor(cases, forward, **options):
    dataset = Dataset("d", "plain", tuple(cases), ("mr",), BINARY)
    plan = make_plan(fingerprint(cases, dataset), dataset, memory_gb=0.1, width=4, stages=1)
    return Predictor(forward=forward, plan=plan, **options)


def perfect(image):
    lesion = (image[..., 0] > 0).astype("float32")
    return np.stack([1 - lesion, lesion], -1) if isinstance(image, np.ndarray) else _stack(lesion)


def _stack(lesion):
    return jnp.stack([1 - lesion, lesion], -1)


def test_a_perfect_model_scores_one_on_the_native_grid(cases, tmp_path):
    rows = judge(cases, predictor(cases, perfect), tmp_path / "out")
    assert [row["dice"] for row in rows] == [1.0, 1.0, 1.0]
    assert [row["hd95"] for row in rows] == [0.0, 0.0, 0.0]
    for case in cases:
        made, wanted = nib.load(tmp_path / "out" / f"{case.id}.nii.gz"), nib.load(case.label)
        np.testing.assert_array_equal(made.dataobj, wanted.dataobj)
        np.testing.assert_array_equal(made.affine, wanted.affine)


def test_a_shift_of_one_voxel_is_measured_in_mm(cases, tmp_path):
    def late(image):
        return jnp.roll(perfect(image), 1, axis=1)  # d is x, the coarsest axis: 2 mm

    rows = judge(cases[:2], predictor(cases[:2], late), tmp_path / "out")
    assert [row["hd95"] for row in rows] == [2.0, 2.0]


def test_the_largest_component_is_kept_only_where_it_helps(cases):
    def stray(image):
        lesion = jnp.asarray(perfect(image)[..., 1])
        return _stack(lesion.at[:, 0, 0, 0].set(1.0))

    single = [cases[0], cases[1], cases[0]]
    assert choose_largest(single, predictor(cases, perfect)) == ()  # nothing to gain
    assert choose_largest(single, predictor(cases, stray)) == (1,)
    assert choose_largest(cases, predictor(cases, perfect)) == ()  # the third has two parts
    assert choose_largest(single[:2], predictor(cases, stray)) == ()  # too few to tell
    assert choose_largest([], predictor(cases, stray)) == ()


def test_a_class_that_nobody_drew_is_not_scored(cases, tmp_path):
    """In the second case a lesion of another name was drawn alone."""
    other = Convention("two", {0: "background", 1: "lesion", 2: "other"})
    some = [cases[0], replace(cases[1], drawn=("other",), label=str(tmp_path / "empty.nii.gz"))]
    known = nib.load(cases[1].label)
    nib.save(nib.Nifti1Image(np.zeros(known.shape, np.uint8), known.affine), some[1].label)
    judged = predictor(cases, perfect)
    rows = judge(some, judged, tmp_path / "out", convention=other)
    assert [(row["case"], row["class"]) for row in rows] == [("case0", "lesion")]
    assert (tmp_path / "out" / "case1.nii.gz").is_file()


def test_summary_pools_classes_per_case_and_counts_what_is_undefined():
    nan = float("nan")
    rows = [
        {"case": "a", "class": "x", "dice": 0.5},
        {"case": "a", "class": "y", "dice": 1.0},
        {"case": "b", "class": "x", "dice": nan},
        {"case": "b", "class": "y", "dice": 0.25},
    ]
    table = summary(rows, ["x", "y"])
    assert table["x"]["dice"]["n"] == 1
    assert table["x"]["dice"]["undefined"] == 1
    assert table["mean"]["dice"]["mean"] == pytest.approx((0.75 + 0.25) / 2)


def test_rows_are_stored_and_read_back(tmp_path):
    rows = [{"case": "a", "class": "x", "dice": 0.5, "hd95": float("inf")}]
    write_rows(tmp_path / "metrics.csv", rows)
    assert read_rows(tmp_path / "metrics.csv") == rows


@pytest.mark.parametrize(
    ("scores", "roles"),
    [
        ([], {}),
        ([0.5], {"best": "c0"}),
        ([0.5, 0.9], {"best": "c1", "worst": "c0"}),
        ([0.5, 0.9, 0.7, 0.1, 0.8], {"best": "c1", "median": "c2", "worst": "c3"}),
    ],
)
def test_best_median_and_worst_are_different_cases(scores, roles):
    rows = [{"case": f"c{i}", "class": "x", "dice": d} for i, d in enumerate(scores)]
    assert best_median_worst(rows) == roles


def test_the_channel_that_shows_the_lesion_is_shown():
    rng = np.random.default_rng(0)
    image = rng.normal(10, 1, (6, 6, 6, 3)).astype(np.float32)
    label = np.zeros((6, 6, 6), np.uint8)
    assert clearest_channel(image, label) == 0
    label[2:4, 2:4, 2:4] = 1
    image[label == 1, 2] -= 5
    assert clearest_channel(image, label) == 2
