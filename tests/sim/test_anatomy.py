import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.errors import UserError
from medjax.sim.anatomy import (
    BRAINWEB,
    BRAINWEB_20,
    CSF,
    EXTENT,
    FREESURFER,
    FUZZY,
    GM,
    TABLES,
    VIEW,
    WM,
    from_labels,
    from_shares,
    fuller,
    mni152,
)
from medjax.sim.tissue import HEAD

SHAPE, RADII = (104, 116, 112), (42.0, 48.0, 41.0)  # mm: a brain of 346 ml
MM = (1.0, 1.0, 1.0)
SURFER = {"csf": 24, "skull": 515, "skin": 511, "fat": 516, "cord": 16}
SURFER |= {"gm": (3, 42), "wm": (2, 41), "ventricle": (4, 43)}
WEB = {"csf": 1, "gm": (2, 2), "wm": (3, 3), "ventricle": (1, 1)}
WEB |= {"skull": 7, "skin": 6, "fat": 4, "cord": 3}


def head_map(ids, shape=SHAPE, centre=(1.0, -2.0, 4.0), radii=RADII, cord=7.0):
    """Shells about an egg, two hemispheres and a spinal cord, with the ids of one table."""
    grid = np.meshgrid(
        *[np.arange(n) - (n - 1) / 2 - c for n, c in zip(shape, centre, strict=True)],
        indexing="ij",
    )
    place = np.sqrt(sum((g / r) ** 2 for g, r in zip(grid, radii, strict=True)))
    made = np.zeros(shape, np.int32)
    for name, edge in (("skin", 1.25), ("fat", 1.18), ("skull", 1.12), ("csf", 1.05)):
        made[place < edge] = ids[name]
    for name, edge in (("gm", 1.0), ("wm", 0.9), ("ventricle", 0.25)):
        made[place < edge] = np.where(grid[0] < 0, *ids[name])[place < edge]
    spine = (grid[0] ** 2 + grid[1] ** 2 < cord**2) & (grid[2] < -0.8 * radii[2])
    made[spine] = ids["cord"]
    return made, place


@pytest.fixture(scope="module")
def surfer():
    return head_map(SURFER)


@pytest.fixture(scope="module")
def parents(surfer):
    return {
        "freesurfer": from_labels(surfer[0], MM, name="a"),
        "brainweb": from_labels(head_map(WEB)[0], MM, name="b"),
        "whole": from_labels(surfer[0], MM, name="c", head=True),
    }


def check(parent, extent):
    """What holds for every parent."""
    assert parent.shares.shape == (*map(int, extent), len(HEAD))
    assert parent.depth.shape == parent.shares.shape[:3]
    assert parent.shares.dtype == parent.depth.dtype == np.float32
    assert parent.shares.min() >= 0
    total = parent.shares.sum(axis=-1)
    assert total.max() <= 1 + 1e-5
    assert parent.depth.min() == -12
    assert parent.depth.max() == 12
    brain = parent.depth > 0
    assert ndimage.label(brain)[1] == 1
    assert ndimage.binary_fill_holes(brain).sum() == brain.sum()
    for axis, n in enumerate(brain.shape):  # in the middle of the grid
        line = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
        assert line[0] + line[-1] == pytest.approx(n - 1, abs=1.01)
    border = ndimage.binary_dilation(brain, iterations=2) & ~ndimage.binary_erosion(brain)
    bottom = np.flatnonzero(brain.any(axis=(0, 1)))[0]
    sides = {side: np.argwhere(border & (brain == side)) for side in (False, True)}
    near = np.argwhere(np.abs(parent.depth) < 6)
    near = near[near[:, 2] > bottom + 12]  # a spine that the map cuts ends without a surface
    for place in near[:: len(near) // 40]:
        here = tuple(place)
        distance = np.sqrt(((sides[not brain[here]] - place) ** 2).sum(axis=1).min())
        assert abs(parent.depth[here]) == pytest.approx(distance, rel=1e-5)
    return brain, total


def test_the_template(template):
    brain, total = check(template, EXTENT)
    np.testing.assert_allclose(total[brain], 1, atol=1e-3)
    assert not total[~brain].any()
    assert 1.7e6 < brain.sum() < 2.0e6
    csf, gm, wm = (template.shares[..., t].sum() / brain.sum() for t in (CSF, GM, WM))
    assert gm > wm > csf > 0.1
    assert csf + gm + wm == pytest.approx(1, abs=1e-3)
    deep = template.shares[template.depth >= 12]
    assert deep[:, WM].mean() > deep[:, GM].mean()
    # An axial slice through the middle lies on its side: left and right are alike, front is not.
    part = template.shares[..., GM]
    same = [np.corrcoef(part.ravel(), np.flip(part, axis).ravel())[0, 1] for axis in range(3)]
    assert same[0] > 0.8 > 0.6 > max(same[1:])
    middle = template.shares[79:81][brain[79:81]]
    assert middle[:, GM].mean() < 0.1 * gm  # the fissure is open
    assert middle[:, CSF].mean() > 0.5


def test_the_template_is_sharper_than_its_maps(template):
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    maps = [
        np.asarray(load(resolution=1).dataobj)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    ]
    before = np.maximum(*maps)[sum(maps) > 0.5]
    after = template.shares[..., GM : WM + 1][template.shares[..., GM : WM + 1].sum(axis=-1) > 0.5]
    assert (after.max(axis=-1) > 0.9).mean() > 1.2 * (before > 0.9).mean()


def test_the_template_has_no_head():
    with pytest.raises(UserError, match=r"synth\.head: .* synth\.label_maps"):
        mni152(head=True)


@pytest.mark.parametrize("name", ["freesurfer", "brainweb", "whole"])
def test_label_maps_become_parents(parents, name):
    parent = parents[name]
    brain, total = check(parent, VIEW if name == "whole" else EXTENT)
    np.testing.assert_allclose(total[brain], 1, atol=1e-5)
    egg = 4 / 3 * np.pi * np.prod(RADII)
    assert brain.sum() == pytest.approx(egg, rel=0.06)
    wm, csf = parent.shares[..., WM].sum(), parent.shares[parent.depth >= 12][:, CSF].sum()
    assert wm == pytest.approx(egg * (0.9**3 - 0.25**3), rel=0.06)
    ventricle = 4 / 3 * np.pi * np.prod([0.25 * radius - 0.3 for radius in RADII])  # mm: CLOSED
    assert csf == pytest.approx(ventricle, rel=0.05)
    away = parent.depth < -6
    for tissue in ("skull", "skin", "fat"):
        found = parent.shares[..., HEAD.index(tissue)]
        assert found[away].any() == (name == "whole")
    assert (total[away] > 0).any() == (name == "whole")


def test_borders_are_shared(parents):
    """Partial volumes: about as many as a border of a voxel or two has, and smooth."""
    wm = parents["brainweb"].shares[..., 50:, WM]  # above the cord, which ends sharply
    mixed = (wm > 0.05) & (wm < 0.95)
    area = 4 * np.pi * (0.9 * np.prod(RADII) ** (1 / 3)) ** 2
    assert 1 < mixed.sum() / area < 4
    assert max(np.abs(np.diff(wm, axis=axis)).max() for axis in range(3)) < 0.85


def test_between_the_hemispheres_lies_a_fissure(parents):
    """Two cortices that touch are parted by fluid; BrainWeb has no sides."""
    cortex = np.s_[78:82, 90:102, 117:119, CSF]  # above the white matter
    assert (parents["freesurfer"].shares[cortex].max(axis=0) == 1).all()
    assert (parents["brainweb"].shares[cortex] < 0.05).all()


def test_what_lies_around_is_kept_with_the_head(parents, surfer):
    parent = parents["whole"]
    skull, skin = (parent.shares[..., HEAD.index(t)].sum() for t in ("skull", "skin"))
    counts = np.bincount(surfer[0].ravel(), minlength=520)
    assert skull == pytest.approx(counts[515] + 0.4 * counts[516], rel=0.01)
    assert skin == pytest.approx(0.6 * counts[511], rel=0.01)
    inner = parents["freesurfer"].depth > 0
    both = zip(map(int, VIEW), map(int, EXTENT), strict=True)
    crop = tuple(slice((large - small) // 2, (large + small) // 2) for large, small in both)
    np.testing.assert_array_equal(parent.depth[crop] > 0, inner)
    np.testing.assert_allclose(
        parent.shares[crop][inner], parents["freesurfer"].shares[inner], atol=1e-5
    )


def test_the_spinal_cord_is_cut(surfer, parents):
    """A long cord would pull the middle of the brain down."""
    made, _ = surfer
    assert (made[..., 0] == SURFER["cord"]).any()
    short = made.copy()
    short[..., :12] = 0
    brains = [p.depth > 0 for p in (parents["freesurfer"], from_labels(short, MM, name="short"))]
    lowest = [np.flatnonzero(brain.any(axis=(0, 1)))[0] for brain in brains]
    assert lowest[0] == lowest[1]
    assert brains[0].sum() == pytest.approx(brains[1].sum(), rel=0.001)


@pytest.mark.parametrize(("radius", "cut"), [(12.0, True), (16.0, False)])
def test_a_stem_is_a_cord_below_600_mm2(radius, cut):
    """Whatever the voxels: 452 and 804 mm^2 are 231 and 410 voxels here."""
    spacing = 1.4
    made, _ = head_map(
        WEB,
        shape=tuple(round(n / spacing) for n in SHAPE),
        radii=tuple(r / spacing for r in RADII),
        cord=radius / spacing,
    )
    brain = from_labels(made, [spacing] * 3, name="m").depth > 0
    line = np.flatnonzero(brain.any(axis=(0, 1)))
    assert (len(line) < 84) == cut


def test_other_spacings_come_to_the_same_parent(parents):
    spacing = (1.25, 1.0, 0.8)
    shape = tuple(round(n / s) for n, s in zip(SHAPE, spacing, strict=True))
    # The same head on other voxels: its radii and centre in their units.
    grid = np.meshgrid(
        *[
            np.clip(np.rint(((np.arange(n) + 0.5) * s) - 0.5), 0, m - 1).astype(int)
            for n, s, m in zip(shape, spacing, SHAPE, strict=True)
        ],
        indexing="ij",
    )
    made = from_labels(head_map(WEB)[0][tuple(grid)], spacing, name="other")
    brain = made.depth > 0
    expected = parents["brainweb"].depth > 0
    overlap = 2 * (brain & expected).sum() / (brain.sum() + expected.sum())
    assert overlap > 0.98
    difference = np.abs(made.shares - parents["brainweb"].shares)[brain & expected]
    assert difference.mean() < 0.02


@pytest.mark.parametrize("name", TABLES)
def test_tables_share_out_whole_voxels(name):
    for shares in TABLES[name].values():
        assert set(shares) <= set(HEAD)
        assert sum(shares.values()) == pytest.approx(1)
        assert min(shares.values()) > 0


def test_fuzzy_maps_equal_the_label_map_they_come_from(parents):
    ids, _ = head_map(WEB)
    soft = {
        kind: ndimage.gaussian_filter((ids == index).astype(np.float32), 0.6)
        for index, kind in enumerate(FUZZY[:7], start=1)
    }
    made = from_shares({kind: 255 * share for kind, share in soft.items()}, MM, name="fuzzy")
    check(made, EXTENT)
    brain = parents["brainweb"].depth > 0
    np.testing.assert_array_equal(made.depth > 0, brain)
    np.testing.assert_allclose(made.shares[brain], parents["brainweb"].shares[brain], atol=0.01)


SMALL = np.zeros((30, 30, 30), np.int32)
SMALL[5:25, 5:25, 5:25] = 2


@pytest.mark.parametrize(
    ("ids", "spacing", "table", "message"),
    [
        (SMALL, MM, "auto", r"map\.nii: no brain of 300 ml"),
        (0 * SMALL, MM, "auto", r"map\.nii: no brain"),
        (SMALL, (1.0, 1.0, 2.0), "auto", r"map\.nii: voxels of .* resample .* 1 mm"),
        (SMALL, (0.2, 1.0, 1.0), "auto", r"map\.nii: voxels of"),
        (450 * SMALL, MM, "auto", r"map\.nii: ids \[900\] are not in the table freesurfer"),
        (5 * SMALL, MM, "auto", r"map\.nii: ids \[10\] are not in the table brainweb"),
        (5 * SMALL, MM, "brainweb20", r"map\.nii: no brain"),
        (6 * SMALL, MM, "brainweb20", r"map\.nii: ids \[12\] are not in the table brainweb20"),
        (-SMALL, MM, "auto", r"map\.nii: ids \[-2\]"),
        (SMALL, MM, "colin", r"synth\.table: 'colin' is unknown; choose auto or freesurfer"),
    ],
)
def test_maps_that_cannot_be_parents(ids, spacing, table, message):
    with pytest.raises(UserError, match=message):
        from_labels(ids, spacing, name="map.nii", table=table)


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({}, "folder: .* missing: csf, gm, wm"),
        ({"csf": (4, 4, 4), "gm": (4, 4, 4)}, "folder: .* missing: wm"),
        ({"csf": (4, 4, 4), "gm": (4, 4, 4), "wm": (4, 4, 5)}, "folder: .* one shape"),
        ({"csf": (4, 4, 4), "gm": (4, 4, 4), "wm": (4, 4, 4)}, "folder: no brain"),
    ],
)
def test_fuzzy_maps_that_cannot_be_parents(maps, message):
    maps = {kind: np.ones(shape, np.float32) for kind, shape in maps.items()}
    with pytest.raises(UserError, match=message):
        from_shares(maps, MM, name="folder")


def test_brainwebs_tables_differ_where_its_models_do():
    assert {i for i in BRAINWEB if BRAINWEB[i] != BRAINWEB_20[i]} == {8, 9}
    assert len(BRAINWEB_20) == len(FUZZY)
    assert {2, 41, 3, 42, 4, 43, 16, 24, 507, 515} <= set(FREESURFER)


@pytest.mark.parametrize("youth", [0.0, 0.3, 0.6])
def test_fuller_brains_keep_their_sum(youth):
    shares = np.random.default_rng(0).dirichlet(np.full(4, 0.4), (6, 7, 8)).astype(np.float32)
    shares = jnp.asarray(np.pad(shares, ((0, 0), (0, 0), (0, 0), (0, len(HEAD) - 4))))
    shares = shares.at[0, 0, 0].set(0).at[0, 0, 1].set(jnp.eye(len(HEAD))[CSF])
    made = fuller(shares, youth)
    np.testing.assert_allclose(made.sum(axis=-1), shares.sum(axis=-1), atol=1e-5)
    assert made.min() >= 0
    assert (made[..., CSF] <= shares[..., CSF] + 1e-6).all()
    np.testing.assert_array_equal(made[..., 3:], shares[..., 3:])
    np.testing.assert_array_equal(made[0, 0, :2], shares[0, 0, :2])  # nothing, and fluid alone
    narrow = (shares[..., CSF] < youth) & (shares[..., GM] + shares[..., WM] > 0.01)
    assert not made[narrow][:, CSF].any()
    if youth == 0:
        np.testing.assert_allclose(made, shares, atol=1e-6)
