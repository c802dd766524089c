"""Plans: the anisotropy rule, the memory budget, normalisation, and reading back what a hand edited."""

import json

import numpy as np
import pytest

from medjax.data.cases import Dataset
from medjax.data.convention import Convention
from medjax.data.fingerprint import Fingerprint
from medjax.data.plan import make_plan, network_axes, normalisation, read_plan, topology
from medjax.errors import UserError

STATS = {
    "minimum": 0.0,
    "mean": 5.0,
    "std": 2.0,
    "percentile_00_5": 1.0,
    "percentile_99_5": 9.0,
}
BINARY = Convention("binary", {0: "background", 1: "lesion"})


def data(channels=("mr",), dimensions=3):
    return Dataset("set", "plain", (), channels, BINARY, dimensions=dimensions)


def print_of(shape, spacing, n=50, kept=1.0):
    return Fingerprint((shape,) * n, (spacing,) * n, kept, (STATS,), 0.1)


def test_anisotropic_stacks_get_flat_kernels_first_and_the_coarse_axis_in_front():
    plan = make_plan(print_of((220, 250, 10), (1.5, 1.5, 10.0)), data(), memory_gb=8, stages=6)
    assert plan.axes == (2, 1, 0)
    assert plan.spacing == (10.0, 1.5, 1.5)
    assert plan.coarse_axis == 0
    assert plan.kernels[0] == (1, 3, 3)
    assert plan.strides[:3] == ((1, 1, 1), (1, 2, 2), (1, 2, 2))
    # 1.5 mm pooled twice is 6 mm: within twice of 10 mm, so depth takes part from there on
    assert plan.kernels[2] == (3, 3, 3)


def test_isotropic_volumes_get_whole_kernels_everywhere():
    plan = make_plan(
        print_of((35, 50, 36), (1.0, 1.0, 1.0)), data(), memory_gb=4, stages=3, width=16
    )
    assert set(plan.kernels) == {(3, 3, 3)}
    assert plan.coarse_axis is None
    assert plan.patch == (36, 52, 36)
    assert plan.widths == (16, 32, 64)


def test_pictures_are_2d():
    shape, stats = (960, 999, 1), dict.fromkeys(STATS, 1.0)
    found = Fingerprint((shape,) * 9, ((1.0, 1.0, 1.0),) * 9, 1.0, (stats,) * 3, 0.01)
    plan = make_plan(found, data(("red", "green", "blue"), 2), memory_gb=4, stages=6)
    assert plan.patch[0] == 1
    assert all(kernel == (1, 3, 3) for kernel in plan.kernels)
    assert all(stride[0] == 1 for stride in plan.strides)
    assert plan.coarse_axis is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_coarsest_axis_is_depth_wherever_the_scanner_put_it(axis):
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 4.0
    axes = network_axes(spacing)
    assert axes[0] == axis
    assert sorted(axes) == [0, 1, 2]


@pytest.mark.parametrize("memory", [0.25, 0.5, 1, 2, 4])
def test_the_plan_stays_in_its_budget_and_patches_divide(memory):
    plan = make_plan(print_of((200, 240, 160), (1.0, 1.0, 1.0)), data(), memory_gb=memory)
    assert plan.step_gb <= memory
    assert plan.batch >= 2
    assert not np.any(np.array(plan.patch) % np.prod(plan.strides, axis=0))
    assert all(n >= 4 for n in np.array(plan.patch) // np.prod(plan.strides, axis=0))


def test_more_memory_never_gives_a_smaller_patch():
    sizes = [
        np.prod(make_plan(print_of((200, 240, 160), (1.0, 1.0, 1.0)), data(), memory_gb=m).patch)
        for m in (0.5, 1, 2, 4, 8)
    ]
    assert sizes == sorted(sizes)


def test_a_budget_that_nothing_fits_says_so():
    with pytest.raises(UserError, match=r"plan\.memory_gb"):
        make_plan(print_of((200, 200, 200), (1.0, 1.0, 1.0)), data(), memory_gb=1e-4)


def test_a_given_patch_must_divide():
    with pytest.raises(UserError, match=r"plan\.patch"):
        make_plan(print_of((64, 64, 64), (1.0, 1.0, 1.0)), data(), patch=(30, 32, 32), stages=4)


def test_normalisation_by_channel():
    assert normalisation("CT", STATS, kept=1.0)["scheme"] == "ct"
    assert normalisation("ct_portal", STATS, kept=1.0)["clip"] == [1.0, 9.0]
    assert normalisation("image", {**STATS, "minimum": -1024.0}, kept=1.0)["scheme"] == "ct"
    assert normalisation("octopus", STATS, kept=1.0)["scheme"] == "zscore"
    assert normalisation("flair", STATS, kept=0.3)["scheme"] == "zscore_mask"
    assert normalisation("green", STATS, kept=1.0) == {"scheme": "rescale", "clip": [0.0, 255.0]}


def test_pooling_stops_at_the_smallest_map():
    strides, _ = topology((32, 32, 16), (1.0, 1.0, 1.0), 6)
    assert tuple(np.prod(strides, axis=0)) == (8, 8, 4)


def test_a_plan_reads_back_and_a_hand_may_edit_it(tmp_path):
    plan = make_plan(print_of((35, 50, 36), (1.0, 1.0, 1.0)), data(), memory_gb=4, stages=3)
    path = tmp_path / "plan.json"
    plan.write(path)
    assert read_plan(path) == plan
    stored = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**stored, "batch": 7}))
    assert read_plan(path).batch == 7
    path.write_text(json.dumps({**stored, "patch": [35, 52, 36]}))
    with pytest.raises(UserError, match="divisible"):
        read_plan(path)
    path.write_text(json.dumps({**stored, "colour": 1}))
    with pytest.raises(UserError, match="colour"):
        read_plan(path)
    path.write_text("{")
    with pytest.raises(UserError, match=r"plan\.json"):
        read_plan(path)


def test_what_is_judged_follows_the_convention():
    plan = make_plan(print_of((35, 50, 36), (1.0, 1.0, 1.0)), data(), memory_gb=4, stages=3)
    assert plan.exclusive
    assert plan.groups == ((0,), (1,))
    assert plan.names == ("lesion",)
