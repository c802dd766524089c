"""The audit of made images: perfect and spoilt ones, what is saved, what a judge says, the sheets."""

from dataclasses import replace

import flax.linen as nn
import jax.numpy as jnp
import nibabel as nib
import numpy as np
import pytest

from medjax.data.cases import Case
from medjax.data.convention import Convention, Region
from medjax.data.patches import patches
from medjax.data.plan import Plan
from medjax.data.prepare import load
from medjax.infer.predictor import Predictor
from medjax.train import fidelity, optim, state
from medjax.train.cyclegan import Networks
from medjax.train.report.sheets import sheets_section

CONVENTION = Convention(
    "toy",
    {0: "background", 1: "core", 2: "rim"},
    (Region("whole", ("core", "rim"), "rim"), Region("core", ("core",), "core")),
)
SHAPE = (20, 22, 18)


class Line(nn.Module):
    """A generator that turns contrast over and forgets the masks."""

    @nn.compact
    def __call__(self, x):
        slope = self.param("slope", nn.initializers.constant(-1.0), ())
        return slope * x[..., :1]


NETWORKS = Networks(Line(), None, source=0, target=1, classes=3)
EXACT = {"g": {"slope": jnp.float32(-1)}, "f": {"slope": jnp.float32(-1)}}


@pytest.fixture
def plan():
    return Plan(
        dimensions=3,
        spacing=(2.0, 1.0, 1.0),
        axes=(2, 1, 0),
        coarse_axis=None,
        channels=("t1", "flair"),
        normalisation=({"scheme": "zscore_mask"}, {"scheme": "zscore_mask"}),
        convention=CONVENTION.to_dict(),
        patch=(1, 16, 16),
        batch=2,
        strides=((1, 1, 1),),
        kernels=((1, 3, 3),),
        widths=(4,),
        step_gb=0.0,
        case_gb=0.0,
        largest_gb=0.0,
        assumed={},
    )


@pytest.fixture
def case(tmp_path):
    """A ball with a lesion in it; the second channel is the first one turned over and rescaled."""
    grid = np.meshgrid(*[np.arange(n) - n / 2 for n in SHAPE], indexing="ij")
    brain = sum((g / n) ** 2 for g, n in zip(grid, SHAPE, strict=True)) < 0.2
    label = np.zeros(SHAPE, np.uint8)
    label[8:13, 8:14, 7:12], label[9:12, 9:13, 8:11] = 2, 1
    t1 = 500 + np.random.default_rng(0).normal(0, 40, SHAPE) + 100.0 * label
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    paths = []
    for name, array in (
        ("t1", t1 * brain),
        ("flair", (2000 - 3 * t1) * brain),
        ("seg", label * brain),
    ):
        paths.append(str(tmp_path / f"{name}.nii.gz"))
        nib.Nifti1Image(array.astype(np.float32), affine).to_filename(paths[-1])
    return Case("anna", "anna", tuple(paths[:2]), paths[2])


def rows_of(case, plan, params, folder, **options):
    rows, sheets = fidelity.audit([case], NETWORKS, params, plan, folder, **options)
    return {row["class"]: row for row in rows}, sheets


def test_a_perfect_translation_has_no_error(case, plan, tmp_path):
    rows, _ = rows_of(case, plan, EXACT, tmp_path)
    image = rows["image"]
    for key in ("mae", "mae_lesion", "mae_cycle"):
        assert image[key] == pytest.approx(0, abs=1e-4)
    assert image["ssim"] == pytest.approx(1, abs=1e-4)
    assert image["mae_source"] > 1
    for name in ("whole", "core"):
        assert rows[name]["contrast_error"] == pytest.approx(0, abs=1e-3)
        assert rows[name]["contrast_true"] < -1  # turned over: the lesion is dark


def test_errors_are_counted_in_deviations_of_the_brain(case, plan, tmp_path):
    lost = {"g": {"slope": jnp.float32(0)}, "f": {"slope": jnp.float32(0)}}
    rows, _ = rows_of(case, plan, lost, tmp_path)
    scan = load(case, plan.labels, 2)
    brain = scan.image[..., 0] != 0
    true = scan.image[..., 1][brain]
    wanted = np.abs(true - true.mean()).mean() / true.std()
    assert rows["image"]["mae"] == pytest.approx(wanted, rel=1e-4)
    assert np.isnan(rows["whole"]["contrast_error"])  # a constant image has no contrast


def test_what_is_saved_lies_on_the_scans_grid_and_reads_as_a_scan(case, plan, tmp_path):
    rows_of(case, plan, EXACT, tmp_path / "made")
    saved = nib.load(tmp_path / "made" / "anna_flair.nii.gz")
    source = nib.load(case.images[1])
    np.testing.assert_array_equal(saved.affine, source.affine)
    array, true = np.asarray(saved.dataobj), source.get_fdata()
    assert array.dtype == np.int16
    np.testing.assert_array_equal(array == 0, true == 0)
    inside = array[array > 0]
    assert inside.mean() == pytest.approx(2000, abs=1)
    assert inside.std() == pytest.approx(250, abs=1)
    assert np.corrcoef(inside, true[array > 0])[0, 1] > 0.9999


def test_a_judge_that_reads_brightness_tells_a_lost_lesion(case, plan, tmp_path):
    def dark(image):
        """Both regions where the target is darkest."""
        return jnp.repeat((image < -1).astype(jnp.float32), 2, axis=-1)

    alone = replace(plan, channels=("flair",), normalisation=({"scheme": "zscore_mask"},))
    judge = Predictor(dark, alone)
    rows, _ = rows_of(case, plan, EXACT, tmp_path, judge=judge)
    assert rows["whole"]["dice_made"] == pytest.approx(rows["whole"]["dice_true"], abs=0.02)
    assert rows["whole"]["dice_true"] > 0.5
    kept = {**EXACT, "g": {"slope": jnp.float32(1)}}  # the source as it is: the lesion is bright
    rows, _ = rows_of(case, plan, kept, tmp_path, judge=judge)
    assert rows["whole"]["dice_made"] < 0.1


def test_the_sheets_show_four_images_under_the_outline(case, plan, tmp_path):
    _, sheets = rows_of(case, plan, EXACT, tmp_path)
    (sheet,) = sheets
    assert list(sheet.panels) == ["t1", "flair, made", "flair, true", "t1, there and back"]
    html = sheets_section(sheets, plan.labels.classes)
    assert html.count("<svg") == html.count("data:image/png") == 4
    assert html.count('class="reference k0"') == html.count('class="reference k1"') == 4
    assert "anna" in html
    assert sheets_section([], plan.labels.classes) == ""


def test_validation_measures_both_ways(case, plan, tmp_path, monkeypatch):
    scan = load(case, plan.labels, 2)
    image = scan.image.transpose(2, 1, 0, 3)
    folder = tmp_path / "cached"
    folder.mkdir()
    np.save(folder / "image.npy", image)
    np.save(folder / "label.npy", scan.label.transpose(2, 1, 0))
    np.save(folder / "places.npy", np.zeros((0, 3), np.int32))
    np.save(folder / "classes.npy", np.zeros((0, 3), int))
    validate = fidelity.validator(NETWORKS, [folder], plan, batches=3, seed=0)
    now = state.create(EXACT, optim.optimizer("sgd"), horizon=1)
    score, found = validate(now)
    drawn = patches([folder], patch=plan.patch, batch=2, steps=3, seed=1, foreground=0.5)
    pairs = np.concatenate([drawn[i]["image"] for i in range(3)])
    known = (pairs != 0).any(-1)
    wanted = np.abs(pairs[..., 0] + pairs[..., 1])[known].mean()
    assert found["validation_mae"] == pytest.approx(wanted, rel=1e-4)
    assert found["validation_cycle"] == pytest.approx(0, abs=1e-4)
    assert score == pytest.approx(1 / (1 + wanted), rel=1e-4)
    assert fidelity.validator(NETWORKS, [], plan, batches=3, seed=0) is None
