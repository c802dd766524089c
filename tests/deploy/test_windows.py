"""Windows of scans: the first one about what is drawn, nothing taught outside of the scan."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from medjax.data.cases import Case
from medjax.data.convention import IGNORE, Convention
from medjax.data.plan import Plan
from medjax.deploy.windows import spread, windows

PLAN = Plan(
    dimensions=3,
    spacing=(1.0, 1.0, 1.0),
    axes=(2, 1, 0),
    coarse_axis=None,
    channels=("T1",),
    normalisation=({"scheme": "none"},),
    convention=Convention("ball", {0: "background", 1: "ball"}).to_dict(),
    patch=(6, 6, 6),
    batch=2,
    strides=((1, 1, 1),),
    kernels=((3, 3, 3),),
    widths=(4,),
    step_gb=0.1,
    case_gb=0.1,
    largest_gb=0.1,
    assumed={},
)


@pytest.fixture
def case(tmp_path):
    """A scan with a bright corner that is drawn."""
    image = np.random.default_rng(0).normal(size=(10, 12, 14)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[7:9, 8:11, 2:4] = 1
    image[label == 1] += 100
    for name, array in (("image", image), ("label", label)):
        nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / f"{name}.nii.gz")
    return Case("a", "a", (str(tmp_path / "image.nii.gz"),), str(tmp_path / "label.nii.gz"))


def test_the_first_window_holds_what_is_drawn(case):
    first, *others = windows([case], PLAN, each=3)
    assert len(others) == 2
    assert first.image.shape == (1, 6, 6, 6, 1)
    assert (first.label == 1).sum() == 12
    for sample in (first, *others):
        np.testing.assert_array_equal(sample.label[0] == 1, sample.image[0, ..., 0] > 50)
    again = windows([case], PLAN, each=3)
    assert all(
        np.array_equal(a.image, b.image) for a, b in zip(again, [first, *others], strict=True)
    )


def test_nobody_drew_outside_of_a_scan(case):
    (sample,) = windows([case], replace(PLAN, patch=(20, 12, 10)), each=1)
    assert (sample.label[0, :3] == IGNORE).all()
    assert (sample.label[0, 3:17] != IGNORE).all()
    assert (sample.image[0, :3] == 0).all()
    (bare,) = windows([case.bare()], PLAN, each=1)
    assert (bare.label == IGNORE).all()


def test_cases_are_chosen_at_equal_distances():
    assert spread([0, 1, 2, 3, 4], 3) == [0, 2, 4]
    assert spread([0, 1], 5) == [0, 1]
    assert spread([3, 4, 5], 1) == [3]
