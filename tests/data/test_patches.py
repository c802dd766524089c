"""Patches: every voxel can be drawn, labels stay with images, workers and restarts change nothing."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medjax.data.cache import Cached, open_cached, places, write_places
from medjax.data.convention import IGNORE
from medjax.data.motion import Motion
from medjax.data.patches import crop, draw, iterate, patch_start, patches
from medjax.errors import UserError
from medjax.train.step import data_mesh, shard


def stored(folder, shape, seed=0, labelled=True):
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1)
    label = np.zeros(shape, np.uint8)
    if labelled:
        label[1, 2, 3], label[0, 0, 0] = 1, 2
    folder.mkdir(parents=True)
    np.save(folder / "image.npy", image + 1 + seed)
    np.save(folder / "label.npy", label)
    write_places(folder, places(label))
    return folder


@pytest.fixture
def folders(tmp_path):
    return [stored(tmp_path / f"case{i}-0", (6, 7, 8), seed=i) for i in range(3)]


@given(st.tuples(*[st.integers(1, 9)] * 3), st.tuples(*[st.integers(1, 9)] * 3), st.integers(0, 99))
def test_a_crop_is_the_padded_array_cut(shape, size, seed):
    rng = np.random.default_rng(seed)
    array = rng.normal(size=shape).astype(np.float32)
    start = tuple(int(rng.integers(-10, 10)) for _ in range(3))
    padded = np.pad(array, 20)
    expected = padded[tuple(slice(s + 20, s + 20 + n) for s, n in zip(start, size, strict=True))]
    np.testing.assert_array_equal(crop(array, start, size), expected)


@pytest.mark.parametrize("shape", [(5, 6, 7), (3, 9, 4)])
def test_every_voxel_can_be_drawn(shape):
    patch, rng = (4, 4, 4), np.random.default_rng(0)
    seen = np.zeros(shape, bool)
    for _ in range(300):
        start = patch_start(rng, shape, patch, None)
        seen[tuple(slice(max(s, 0), s + p) for s, p in zip(start, patch, strict=True))] = True
        for s, n, p in zip(start, shape, patch, strict=True):
            assert min(0, n - p) <= s <= max(0, n - p)
    assert seen.all()


def test_around_a_case_of_which_nothing_is_known_nothing_is_known_either(tmp_path):
    """Its padding was background once, and taught that."""
    bare = stored(tmp_path / "bare-0", (3, 4, 5), labelled=False)
    np.save(bare / "label.npy", np.full((3, 4, 5), IGNORE, np.uint8))
    half = stored(tmp_path / "half-0", (3, 4, 5), labelled=False)
    label = np.zeros((3, 4, 5), np.uint8)
    label[:, :2] = IGNORE
    np.save(half / "label.npy", label)
    for folder, known in ((bare, 0), (half, 6 * 6 * 6 - 3 * 2 * 5)):
        drawn = patches([folder], patch=(6, 6, 6), batch=1, steps=1, seed=0)[0]
        assert np.count_nonzero(drawn["label"] != IGNORE) == known
        assert np.count_nonzero(drawn["image"]) == 3 * 4 * 5


def test_objects_and_targets_come_along(tmp_path):
    """Each sample has the class of its case; what is known of objects is cut as labels are."""
    folders = [stored(tmp_path / f"case{i}-0", (6, 7, 8), seed=i) for i in range(3)]
    for i, folder in enumerate(folders):
        numbers = np.zeros((6, 7, 8), np.uint8)
        numbers[2, 3, 4] = 1 + i
        np.save(folder / "instances.npy", numbers if i < 2 else np.full_like(numbers, IGNORE))
    motion = Motion((6, 6, 6), (1.0, 0.0, 0.0))
    drawn = patches(
        folders, patch=(4, 4, 4), batch=6, steps=1, seed=0, motion=motion, targets=(2, -1, 0)
    )[0]
    np.testing.assert_array_equal(drawn["target"], np.array([2, -1, 0])[drawn["case"]])
    for arrays in (drawn, drawn["wide"]):
        for case, numbers in zip(drawn["case"], arrays["instances"], strict=True):
            wanted = {0, case + 1} if case < 2 else {IGNORE}
            assert set(np.unique(numbers)) <= wanted
    assert (drawn["instances"][drawn["case"] == 2] == IGNORE).all()
    assert "target" not in patches(folders, patch=(4, 4, 4), batch=1, steps=1, seed=0)[0]


def test_first_and_last_windows_are_drawn():
    rng = np.random.default_rng(0)
    starts = {patch_start(rng, (6, 6, 6), (4, 4, 4), None) for _ in range(2000)}
    assert {s[0] for s in starts} == {0, 1, 2}
    assert len(starts) == 27


def test_foreground_patches_hold_a_rare_class_as_often_as_a_common_one():
    label = np.zeros((20, 20, 20), np.uint8)
    label[:10] = 1
    label[19, 19, 19] = 2
    case = Cached("c", np.zeros((20, 20, 20, 1), np.float32), label, places(label))
    rng, found = np.random.default_rng(0), []
    for _ in range(200):
        begin = draw(case, rng, patch=(4, 4, 4), foreground=True)
        found.append((crop(case.label, begin, (4, 4, 4)) == 2).any())
    assert 0.4 < np.mean(found) < 0.6


@pytest.mark.parametrize("wide", [(8, 7, 6), (9, 9, 9)])
def test_samples_that_move_have_the_crop_around_their_patch(folders, wide):
    """The others have zeros there, and the same patch as without a motion."""
    options = {"patch": (4, 4, 4), "batch": 4, "steps": 30, "seed": 0}
    plain = patches(folders, **options)
    drawn = patches(folders, **options, motion=Motion(wide, (0.3, 0.2, 0.0)))
    centre = (slice(None), *(slice((n - 4) // 2, (n - 4) // 2 + 4) for n in wide))
    moves = []
    for number in range(30):
        batch = drawn[number]
        moved = batch["moves"].any(axis=1)
        for name in ("image", "label"):
            np.testing.assert_array_equal(batch[name], plain[number][name])
            around = batch["wide"][name]
            assert around.shape[1:4] == wide
            np.testing.assert_array_equal(around[centre][moved], batch[name][moved])
            assert not around[~moved].any()
        moves.append(batch["moves"])
    assert not np.concatenate(moves)[:, 2].any()
    np.testing.assert_allclose(np.concatenate(moves)[:, :2].mean(0), (0.3, 0.2), atol=0.12)


def test_the_device_reads_a_batch_in_place(tmp_path):
    """On CPU; a copy would be the loader's largest cost."""
    folders = [stored(tmp_path / "case-0", (16, 16, 16))]
    drawn = patches(folders, steps=1, patch=(16,) * 3, batch=2, seed=0)
    batch = drawn[0]
    mesh = data_mesh(2)
    spread = shard(batch, mesh)
    batch["image"][:] = -1
    assert (np.asarray(spread["image"]) == -1).all() == (jax.default_backend() == "cpu")


def test_a_batch_is_a_function_of_seed_and_number(folders):
    options = {"patch": (4, 4, 4), "batch": 4, "seed": 5}
    long, short = patches(folders, steps=9, **options), patches(folders, steps=4, **options)
    assert len(long) == 9
    for key in ("image", "label", "index", "case"):
        np.testing.assert_array_equal(long[3][key], short[3][key])
    assert long[2]["index"].tolist() == [8, 9, 10, 11]
    assert long[0]["image"].shape == (4, 4, 4, 4, 1)
    other = patches(folders, steps=9, **{**options, "seed": 6})
    assert not np.array_equal(long[0]["image"], other[0]["image"])


def test_every_case_comes_once_a_round(folders):
    drawn = patches(folders, steps=3, patch=(4, 4, 4), batch=3, seed=0)
    for number in range(3):
        assert sorted(drawn[number]["case"].tolist()) == [0, 1, 2]


def test_groups_take_turns_and_each_shows_every_case_once_a_round(folders):
    groups = ((0, 2), (1,))
    data = patches(folders[:3], patch=(4, 4, 4), batch=4, steps=4, seed=0, groups=groups)
    seen = np.concatenate([data[i]["case"] for i in range(4)])
    assert seen[1::2].tolist() == [1] * 8
    assert all(sorted(pair) == [0, 2] for pair in seen[::2].reshape(4, 2).tolist())


@pytest.mark.parametrize(("batch", "groups"), [(4, ()), (2, ((0,), (1, 2)))])
def test_a_share_of_each_group_holds_foreground(folders, batch, groups):
    drawn = patches(
        folders, steps=40, patch=(2, 2, 2), batch=batch, seed=0, foreground=0.5, groups=groups
    )
    held = [(drawn[number]["label"] > 0).any(axis=(1, 2, 3)) for number in range(40)]
    for group in range(max(len(groups), 1)):
        of_group = np.concatenate(held)[group :: max(len(groups), 1)]
        assert of_group[1::2].all()  # every second one
        assert not of_group[::2].all()


def test_an_empty_group_is_synthetic(folders):
    asked = []

    def patient(number):
        asked.append(number)
        return open_cached(folders[0])

    drawn = patches(
        folders, steps=3, patch=(4, 4, 4), batch=4, seed=0, groups=((), (0, 1)), synthetic=patient
    )
    seen = np.concatenate([drawn[number]["case"] for number in range(3)])
    assert (seen[::2] == len(folders)).all()
    assert (seen[1::2] < 2).all()
    assert asked == [0, 1, 2, 3, 4, 5]  # none is left out


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_restarts_give_the_same_batches(folders, workers):
    motion = Motion((6, 6, 6), (0.5, 0.0, 0.0))
    drawn = patches(folders, steps=6, patch=(4, 4, 4), batch=2, seed=0, motion=motion)
    stream = iterate(drawn, start=2, workers=workers)
    found = list(stream)
    assert len(found) == 4
    for number, batch in enumerate(found, start=2):
        assert batch.keys() == drawn[number].keys()
        jax.tree.map(np.testing.assert_array_equal, batch, drawn[number])


def test_a_loader_process_that_dies_is_named(folders):
    drawn = patches(folders, steps=1000, patch=(4, 4, 4), batch=2, seed=0)
    stream = iterate(drawn, workers=1, ahead=1)
    next(stream)
    (worker,) = multiprocessing.active_children()
    worker.kill()
    with pytest.raises(UserError, match=r"train\.workers: one of 1 loader processes died"):
        for _ in stream:
            pass


LOADER = """
import multiprocessing, sys, time
from pathlib import Path
from absl import flags
from medjax.data.patches import iterate, patches
if __name__ == "__main__":
    flags.FLAGS(sys.argv[:1])
    drawn = patches([Path(p) for p in sys.argv[1:]], patch=(4, 4, 4), batch=2, steps=1000, seed=0)
    stream = iterate(drawn, workers=1, ahead=1)
    next(stream)
    print(multiprocessing.active_children()[0].pid, flush=True)
    time.sleep(100)
"""


def test_loader_processes_end_with_a_run_that_is_killed(folders, tmp_path):
    script = tmp_path / "loader.py"
    script.write_text(LOADER, "utf-8")
    command = [sys.executable, str(script), *map(str, folders)]
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root}
    ) as run:
        worker = psutil.Process(int(run.stdout.readline()))
        run.kill()
    worker.wait(timeout=20)


def test_a_case_without_foreground_is_drawn_anywhere(tmp_path):
    folders = [stored(tmp_path / "empty-0", (6, 6, 6), labelled=False)]
    drawn = patches(folders, steps=2, patch=(4, 4, 4), batch=2, seed=0, foreground=1.0)
    assert drawn[1]["image"].shape == (2, 4, 4, 4, 1)


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="needs Linux's list of maps")
def test_a_run_holds_no_case_that_it_drew_from(folders):
    drawn = patches(folders, steps=9, patch=(4, 4, 4), batch=2, seed=0)
    held = [drawn[number] for number in range(9)]
    assert len({int(case) for batch in held for case in batch["case"]}) == 3
    assert str(folders[0].parent) not in Path("/proc/self/maps").read_text("utf-8")


def test_a_damaged_cache_is_named(tmp_path, folders):
    (folders[0] / "image.npy").write_bytes(b"short")
    with pytest.raises(UserError, match="case0"):
        open_cached(folders[0])


def test_places_are_bounded_and_true():
    label = np.ones((30, 30, 30), np.uint8)
    label[0] = 255
    found = places(label)
    assert list(found) == [1]
    assert found[1].shape == (10_000, 3)
    assert (label[tuple(found[1].T)] == 1).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 12])
def test_the_parts_of_all_processes_are_the_batch(folders, count):
    """No gap, no overlap, nothing that hangs on their number."""

    def read(part):
        drawn = patches(folders, patch=(4, 4, 4), batch=12, steps=3, seed=1, part=part)
        return list(iterate(drawn))

    parts = [read((i, count)) for i in range(count)]
    for whole, *pieces in zip(read((0, 1)), *parts, strict=True):
        for key, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([p[key] for p in pieces]), array)
    with pytest.raises(ValueError, match="cannot be split into 5"):
        read((0, 5))
