"""Synthetic patients for training: functions of (seed, index), in the plan's classes and channels."""

from dataclasses import replace

import numpy as np
import pytest

from medjax.data.fresh import FIRST, TOGETHER, class_indices, fitted, source
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.data.patches import iterate, patches
from medjax.data.plan import Plan
from medjax.data.recipe import Recipe, maker
from medjax.errors import UserError

RECIPE = Recipe(spacing=4.0)
PLAN = Plan(
    dimensions=3,
    spacing=(4.0, 4.0, 4.0),
    axes=(2, 1, 0),
    coarse_axis=None,
    channels=("t1", "t1ce", "t2", "flair"),
    normalisation=({"scheme": "zscore"},) * 4,
    convention=CONVENTIONS["brats2015"].to_dict(),
    patch=(16, 16, 16),
    batch=2,
    strides=((1, 1, 1),),
    kernels=((3, 3, 3),),
    widths=(8,),
    step_gb=0.0,
    case_gb=0.0,
    largest_gb=0.0,
    assumed={},
)


@pytest.fixture(scope="module")
def parents(egg):
    return [egg]


@pytest.fixture(scope="module")
def fresh(parents):
    return source(RECIPE, parents, PLAN, seed=3, reuse=2)


def test_channels_follow_the_plan():
    two = replace(PLAN, channels=("flair", "t1c"))
    assert fitted(Recipe(), two).contrasts == ("FLAIR", "T1ce")
    with pytest.raises(UserError, match=r"data\.channels: adc"):
        fitted(Recipe(), replace(PLAN, channels=("t1", "adc")))


@pytest.mark.parametrize(
    ("convention", "expected"),
    [
        ("brats2023", [0, 1, 2, 3]),
        ("brats2015", [0, 1, 2, 4]),
        ("msd_brain", [0, 2, 1, 3]),
        ("plaque", [0, 1]),
        ("binary", [0, 1]),
    ],
)
def test_classes_follow_the_convention(convention, expected):
    made = CONVENTIONS["plaque" if len(expected) == 2 else "brats2023"]
    assert class_indices(CONVENTIONS[convention], made).tolist() == expected


def test_a_convention_without_the_classes_is_refused():
    with pytest.raises(UserError, match=r"data\.convention: acdc has no class"):
        class_indices(CONVENTIONS["acdc"], CONVENTIONS["brats2023"])


def test_a_patient_is_prepared_as_a_file_would_be(fresh, parents):
    made = maker(fitted(RECIPE, PLAN))(3, FIRST, parents[0])
    case = fresh(0)
    label = np.array([0, 1, 2, 4], np.uint8)[made.label].transpose(2, 1, 0)
    brain = np.flatnonzero((made.image > 0).any(axis=(1, 2, 3)))
    assert case.label.shape[2] == brain[-1] - brain[0] + 1  # cropped to the brain
    assert np.bincount(case.label.ravel(), minlength=5)[1:].tolist() == (
        np.bincount(label.ravel(), minlength=5)[1:].tolist()
    )
    inside = np.any(case.image != 0, axis=-1)
    np.testing.assert_allclose(case.image[inside].mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(case.image[inside].std(axis=0), 1, atol=1e-2)


def test_samples_take_turns_and_patients_change(fresh, parents):
    again = source(RECIPE, parents, PLAN, seed=3, reuse=2)
    names = [fresh(index).id for index in range(2 * TOGETHER + 1)]
    assert names[:TOGETHER] == names[TOGETHER : 2 * TOGETHER]
    assert len(set(names)) == TOGETHER + 1
    late = again(2 * TOGETHER)  # without those before
    np.testing.assert_array_equal(late.image, fresh(2 * TOGETHER).image)


def test_a_pool_is_made_once(parents, tmp_path):
    seen = []

    def watch(items):
        seen.append(len(items))
        return iter(items)

    chosen = {"seed": 3, "reuse": 2, "pool": 2, "folder": tmp_path, "progress": watch}
    first = source(RECIPE, parents, PLAN, **chosen)
    second = source(RECIPE, parents, PLAN, **chosen)
    assert seen == [2]
    np.testing.assert_array_equal(first(0).image, second(2).image)
    assert not np.array_equal(first(0).image, first(1).image)
    source(RECIPE, parents, PLAN, **{**chosen, "seed": 4})
    assert seen == [2, 2]


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_samples_is_synthetic(fresh, tmp_path, share):
    from medjax.data.cache import save_cached

    case = fresh(0)
    save_cached(replace(case, image=case.image * 0 + 7), tmp_path / "real-0")
    drawn = patches(
        [tmp_path / "real-0"],
        patch=PLAN.patch,
        batch=4,
        steps=8,
        seed=1,
        synthetic=lambda index: case,
        share=share,
    )
    which = np.concatenate([batch["case"] for batch in iterate(drawn)])
    real = np.concatenate(
        [(batch["image"] == 7).all(axis=(1, 2, 3, 4)) for batch in iterate(drawn)]
    )
    np.testing.assert_array_equal(which == 0, real)
    assert abs((which == 1).mean() - share) < 0.25 * (0 < share < 1) + 1e-9
    np.testing.assert_array_equal(drawn[5]["image"], next(iter(iterate(drawn, start=5)))["image"])
