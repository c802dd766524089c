import os

import numpy as np
import pytest

from medjax.data import parents as module
from medjax.data.parents import open_parent, parent_of, parents
from medjax.errors import UserError
from medjax.io.files import write
from medjax.sim.anatomy import CSF, GM, WM
from medjax.sim.tissue import HEAD
from medjax.space.volume import Volume

SHAPE, RADII = (102, 110, 98), (44.0, 48.0, 42.0)  # mm
FUZZY = {"csf": 1, "gm": 2, "wm": 3, "skull": 7, "muscles_skin": 6, "fat2": 9}


def label_map(ids=(0, 7, 2, 3)):
    """A skull, a cortex and white matter: an egg with its front (+y) and its right side cut off."""
    grid = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in SHAPE], indexing="ij")
    place = np.sqrt(sum((g / r) ** 2 for g, r in zip(grid, RADII, strict=True)))
    made = np.select([place < 0.85, place < 1, place < 1.1], [ids[3], ids[2], ids[1]], ids[0])
    made[:, 88:] = made[88:] = 0
    return made.astype(np.int16)


def save(path, array, axes=(1, 1, 1)):
    """An array of RAS axes as a file whose axes run the ways of `axes`."""
    affine = np.diag([*axes, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * way for n, way in zip(array.shape, axes, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(
        Volume(np.ascontiguousarray(array[tuple(slice(None, None, w) for w in axes)]), affine), path
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two discrete maps and one of fuzzy maps; and files that are none."""
    root = tmp_path_factory.mktemp("maps")
    save(root / "b.nii.gz", label_map())
    save(root / "a.nii", label_map((0, 515, 42, 41)), axes=(-1, -1, 1))
    ids = label_map()
    for kind, index in FUZZY.items():
        save(root / "subject04" / f"subject04_{kind}_v.nii.gz", (ids == index) * np.float32(1))
    save(root / "subject04" / "subject04_bck_v.nii.gz", (ids == 0) * np.float32(1))
    (root / "notes.txt").write_text("not a map")
    (root / "empty").mkdir()
    return root


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    return parents(str(folder), cache=cache), cache


def test_each_map_is_a_parent(made):
    found, _ = made
    assert [parent.name for parent in found] == ["a.nii", "b.nii.gz", "subject04"]
    for parent in found:
        for axis in range(2):  # flat at the right and in front
            area = (parent.depth > 0).sum(axis=tuple(a for a in range(3) if a != axis))
            area = area[area > 0]
            assert area[-1] > 3 * area[0]
    surfer, web, fuzzy = found
    brain = web.depth > 0
    overlap = (brain & (surfer.depth > 0)).sum() / brain.sum()
    assert overlap > 0.99  # the axes of the file make no difference
    for tissue in (CSF, GM, WM):
        difference = np.abs(surfer.shares[..., tissue] - web.shares[..., tissue])[brain]
        assert difference.mean() < 0.01
        difference = np.abs(fuzzy.shares[..., tissue] - web.shares[..., tissue])[brain]
        assert difference.mean() < 0.05  # these borders were given sharp


def test_the_second_reading_comes_from_the_cache(folder, made, monkeypatch):
    found, cache = made
    assert len(list(cache.iterdir())) == 3

    def never(*arguments, **settings):
        raise AssertionError("read again")

    monkeypatch.setattr(module, "open_parent", never)
    for one, again in zip(found, parents(str(folder), cache=cache), strict=True):
        assert one.name == again.name
        np.testing.assert_array_equal(one.shares, again.shares)
        np.testing.assert_array_equal(one.depth, again.depth)
        assert again.shares.sum(axis=-1).max() == pytest.approx(1, abs=2e-3)  # half precision
    for changed in ({"table": "brainweb"}, {"head": True}):
        with pytest.raises(AssertionError, match="read again"):
            parents(str(folder), cache=cache, **changed)
    facts = (folder / "a.nii").stat()
    os.utime(folder / "a.nii", ns=(facts.st_atime_ns, facts.st_mtime_ns + 10**9))
    with pytest.raises(AssertionError, match="read again"):
        parents(str(folder), cache=cache)


def test_a_head_keeps_its_skull(folder, made):
    whole = open_parent(folder / "b.nii.gz", head=True)
    kept, stripped = (
        p.shares[..., HEAD.index("skull")].sum(dtype=float) for p in (whole, made[0][1])
    )
    assert kept == pytest.approx((label_map() == 7).sum(), rel=0.01)
    assert 0 < stripped < kept  # what lies within 4 mm


def test_without_maps_the_template_is_the_parent(monkeypatch, template):
    monkeypatch.setattr(module, "mni152", lambda head: template)
    assert parents(None) == [template]
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"synth\.head"):
        parents("", head=True)


def test_patients_take_parents_in_turn(made):
    assert [parent_of(index, made[0]) for index in range(7)] == [0, 1, 2, 0, 1, 2, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"synth\.label_maps: .*: no such folder"),
        ({}, r"synth\.label_maps: .*: holds no label map"),
        ({"a.nii": np.full((9, 9, 9), 0.5, np.float32)}, r"a\.nii: is no label map"),
        ({"a.nii": np.zeros((9, 9, 9, 2), np.uint8)}, r"a\.nii: is no label map"),
        ({"a.nii": np.full((9, 9, 9), 999, np.int16)}, r"a\.nii: ids \[999\] .* synth\.table"),
        ({"a.nii": np.ones((9, 9, 9), np.uint8)}, r"a\.nii: no brain of 300 ml"),
        ({"s/s_gm_v.nii": np.ones((9, 9, 9), np.float32)}, r"s: .* missing: csf, wm"),
    ],
)
def test_folders_that_hold_no_parent(tmp_path, content, message):
    root = tmp_path / "maps"
    if content is not None:
        root.mkdir()
        for name, array in content.items():
            (root / name).parent.mkdir(exist_ok=True)
            write(Volume(array, np.eye(4)), root / name)
    with pytest.raises(UserError, match=message):
        parents(str(root), cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("path", "head", "volume"),
    [
        pytest.param("brain_labels/training_seg_05.nii.gz", False, 1137, marks=pytest.mark.long),
        ("brainweb/brainweb_normal_crisp_1mm_labels.nii.gz", True, 1856),
    ],
)
def test_real_label_maps(shared, path, head, volume):
    """One of ten heads of FreeSurfer and SynthSeg ids, and BrainWeb's."""
    parent = open_parent(shared / path, head=head)
    brain = parent.depth > 0
    assert brain.sum() / 1000 == pytest.approx(volume, rel=0.02)  # ml, within the skull
    total = parent.shares.sum(axis=-1)
    assert total.max() < 1.001
    assert (total[brain] > 0.99).mean() > 0.97
    csf, gm, wm = parent.shares[brain][:, [CSF, GM, WM]].mean(axis=0)
    assert gm > wm > csf > 0.08
    fat = parent.shares[..., HEAD.index("fat")].sum() / 1000
    assert (fat > 100) == head
    middle = len(brain) // 2
    left, right = (parent.shares[side, ..., GM].sum() for side in (np.s_[:middle], np.s_[middle:]))
    assert left == pytest.approx(right, rel=0.1)
