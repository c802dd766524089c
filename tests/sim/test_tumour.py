import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.ops.sampling import centred_grid
from medjax.sim import tumour as growing
from medjax.sim.mass import push
from medjax.sim.tissue import HEAD, LESION, TISSUES
from medjax.sim.tumour import CSF, GM, STEP, WM, draw_tumour, grow_in, paint

ML = STEP**3 / 1000
PLACE = {name: c for c, name in enumerate(TISSUES)}
paint_one = jax.jit(paint, static_argnames="spacing")
KEYS = [1, 3, 5, 8, 33]  # 33: pushed nearly as far as any


@pytest.fixture(scope="module")
def tissue(egg):
    """The egg on the grid on which tumours grow."""
    x, y, z = (n // 2 for n in egg.depth.shape)
    return jnp.asarray(egg.shares.reshape(x, 2, y, 2, z, 2, -1).mean(axis=(1, 3, 5)))


@pytest.fixture(scope="module")
def make(tissue):
    """`make(key, tumour)`: what grows, how far it pushes, and the painted shares and labels."""
    side = jnp.broadcast_to(centred_grid(tissue.shape[:3])[0], tissue.shape[:3])

    @jax.jit
    def compiled(key, tumour, tissue, side):
        grown = grow_in(key, tumour, tissue, side)
        moved = push(grown.living + grown.dead, spacing=STEP, most=tumour.push)
        cells = jnp.stack([grown.living, grown.dead, grown.fluid], axis=-1)
        return grown, moved, *paint(key, tumour, cells, tissue, STEP)

    return lambda key, tumour: jax.device_get(compiled(key, tumour, tissue, side))


def dead(tumour, shares):
    """What died, with its fluid."""
    return shares[..., PLACE["necrosis"]] / (1 - tumour.liquid)


@pytest.fixture(scope="module")
def made(make):
    """A tumour, and what comes of it, for each key."""
    keys = [jax.random.key(seed) for seed in KEYS]
    return [(draw_tumour(key), *make(key, draw_tumour(key))) for key in keys]


def test_draws_are_within_what_is_published():
    many = jax.jit(jax.vmap(draw_tumour))(jax.random.split(jax.random.key(0), 300))
    assert many.volume.min() >= 12
    assert many.volume.max() <= 250  # ml
    assert 40 < float(jnp.median(many.volume)) < 130
    radius = (750 * many.volume * many.share / np.pi) ** (1 / 3)
    assert (many.push <= 0.35 * radius + 1e-4).all()
    assert 6 < many.push.max() < 13  # mm
    for name, low, high in (("edge", 0.12, 0.2), ("rim", 0.25, 0.6), ("core", 0.05, 0.2)):
        values = getattr(many, name)
        assert low <= values.min() < values.max() <= high
    assert 0.5 < float((many.liquid == 0).mean()) < 0.8
    assert many.liquid.max() < 1
    assert (many.seeds[:, 0, :3] == 0).all()
    present = many.seeds[..., 3] > 0
    assert present[:, 0].all()
    assert set(np.unique(present.sum(axis=1))) == {1, 2, 3, 4}
    assert 0.3 < (many.quiet == 0).mean() < 0.5  # of the rims enhance all over


def test_one_species_never_starves():
    key = jax.random.key(5)
    one, two = draw_tumour(key, necrotic=False), draw_tumour(key)
    assert one.death == one.hunger == one.uptake == 0
    assert two.death * two.hunger * two.uptake > 0
    starving = ("death", "hunger", "uptake")
    rest = {name: value for name, value in one._asdict().items() if name not in starving}
    for name, value in rest.items():
        np.testing.assert_array_equal(value, getattr(two, name))


def test_a_tumour_is_the_same_in_the_box_around_its_site(tissue, monkeypatch):
    side = jnp.broadcast_to(centred_grid(tissue.shape[:3])[0], tissue.shape[:3])
    key = jax.random.key(3)
    small = draw_tumour(key)._replace(volume=jnp.float32(14.0))

    def within(near):
        monkeypatch.setattr(growing, "NEAR", near)
        return jax.jit(lambda *given: grow_in(*given))(key, small, tissue, side)

    whole, part = within((99, 99, 99)), within((28, 30, 32))
    assert (whole.fluid > 0.5).sum() * ML == pytest.approx(14, rel=0.1)
    np.testing.assert_array_equal(whole.room, part.room)
    for name in ("living", "dead", "fluid"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name), atol=0.02)


def test_without_necrosis_nothing_dies(make):
    for seed in KEYS[:2]:
        tumour = draw_tumour(jax.random.key(seed), necrotic=False)
        grown, _, shares, label = make(jax.random.key(seed), tumour)
        assert not grown.dead.any()
        assert not shares[..., PLACE["necrosis"]].max() > 0.1
        assert (label == 3).any()
    assert float(grown.living.max()) > 0.9  # and so the middle is full of the living


def test_densities_are_shares_and_stay_in_the_tissue(made, tissue):
    wall = np.asarray(tissue[..., GM] + tissue[..., WM]) <= 0.5
    for _, grown, *_ in made:
        for cells in (grown.living, grown.dead, grown.fluid, grown.living + grown.dead):
            assert cells.min() >= 0
            assert cells.max() <= 1 + 1e-5
            assert not cells[wall].any()
        np.testing.assert_array_equal(grown.room, ~wall)
        assert grown.dead.max() > 0
        assert 10 < grown.days < 3000


def test_sites_lie_deep_in_the_white_matter(make, tissue):
    height = np.cumsum(np.asarray(tissue[..., WM]).sum(axis=(0, 1)))
    sites = np.array([make(key, SMALL)[0].site for key in SITES])
    for site in sites:
        at = tuple(np.rint(site / STEP + (np.array(tissue.shape[:3]) - 1) / 2).astype(int))
        around = tissue[tuple(slice(i - 1, i + 2) for i in at)]
        assert tissue[(*at, WM)] > 0.8
        assert around[..., WM].mean() > 0.6
        assert height[at[2]] >= 0.2 * height[-1]
    assert (sites.std(axis=0) > 6).all()
    assert (sites[:, 0] > 0).any()
    assert (sites[:, 0] < 0).any()


SMALL = draw_tumour(jax.random.key(1))._replace(volume=jnp.float32(0.01))
SITES = list(jax.random.split(jax.random.key(9), 8))


def test_seeds_lie_on_one_side(make):
    """A tumour that has not grown yet is where its seeds are; only growth crosses the midline."""
    wide = SMALL.seeds.at[:, :3].set(jnp.array([[0.0, 0, 0], [25, 0, 0], [-25, 0, 0], [0, 9, 0]]))
    wide = wide.at[:, 3].set(4.0)
    for key in SITES[:3]:
        grown = make(key, SMALL._replace(seeds=wide, share=jnp.float32(1e-6)))[0]
        middle = grown.living.shape[0] // 2
        left, right = grown.living[:middle].max(), grown.living[middle:].max()
        assert grown.days == 0
        assert min(left, right) == 0
        assert max(left, right) == pytest.approx(0.8, abs=0.05)


def test_what_grows_has_the_volume_drawn(made):
    for tumour, grown, *_ in made:
        core = float((grown.living + grown.dead > tumour.rim).sum()) * ML
        assert core == pytest.approx(float(tumour.volume * tumour.share), rel=0.25)
        whole = float((grown.fluid > 0.5).sum()) * ML
        assert whole == pytest.approx(float(tumour.volume), rel=0.1)
        assert (grown.fluid[grown.living + grown.dead > tumour.edge + 0.1] > 0.5).mean() > 0.97


def test_labels_fill_the_volume_drawn_where_there_is_room(made):
    for tumour, _, _, _, label in made:
        volumes = np.bincount(label.ravel(), minlength=4)[1:] * ML
        assert volumes.sum() == pytest.approx(float(tumour.volume), rel=0.2)
        core = float(tumour.volume * tumour.share)
        assert volumes[0] + volumes[2] == pytest.approx(core, rel=0.35)
        assert (volumes[1:] > 0.1).all()


def test_no_push_folds_the_tissue(make, made):
    """The tissue at x comes from x - u: its Jacobian is positive, also for the largest push."""
    moves = [(tumour, moved) for tumour, _, moved, *_ in made]
    for seed in (2, 161, 188):  # drawn with a push of 0.32 to 0.35 radii, 94, 111 and 9 ml of core
        tumour = draw_tumour(jax.random.key(seed))
        moves.append((tumour, make(jax.random.key(seed), tumour)[1]))
    for tumour, moved in moves:
        derivative = np.stack(np.gradient(np.float64(moved), STEP, axis=(0, 1, 2)), axis=-1)
        assert np.linalg.det(np.eye(3) - derivative).min() > 0
        length = np.linalg.norm(moved, axis=-1).max()
        assert length == pytest.approx(float(tumour.push), rel=1e-3)


def test_shares_replace_tissue(made, tissue):
    total = np.asarray(tissue.sum(axis=-1))
    for tumour, _, _, shares, label in made:
        assert shares.min() >= -1e-6
        found = shares.sum(axis=-1)
        np.testing.assert_allclose(found[total > 0.999], 1, atol=1e-5)
        assert (found >= total - 1e-5).all()
        assert found.max() <= 1 + 1e-5
        lesion = shares[..., len(HEAD) :].sum(axis=-1) + tumour.liquid * dead(tumour, shares)
        untouched = lesion < 1e-6
        np.testing.assert_allclose(
            shares[untouched][:, : len(HEAD)], np.asarray(tissue)[untouched], atol=1e-5
        )
        assert lesion[label == 0].max() < 0.85  # borders are soft
        assert lesion[label > 0].min() > 0.1


def test_no_tumour_in_fluid_or_outside(made, tissue):
    solid = np.asarray(tissue[..., GM] + tissue[..., WM])
    for tumour, _, _, shares, label in made:
        assert not label[solid <= 0.5].any()
        assert not shares[solid == 0][:, len(HEAD) :].any()
        oedema = shares[..., PLACE["oedema"]]
        assert (oedema <= solid + 1e-5).all()
        fluid = np.asarray(tissue[..., CSF]) + tumour.liquid * dead(tumour, shares)
        assert (shares[..., CSF] <= fluid + 1e-5).all()


def test_labels_follow_the_shares(made):
    for tumour, _, _, shares, label in made:
        core = dead(tumour, shares) + shares[..., PLACE["nonenhancing"]]
        zones = (core, shares[..., PLACE["oedema"]], shares[..., PLACE["enhancing"]])
        for number, zone in enumerate(zones, start=1):
            if (label == number).sum() > 50:
                assert zone[label == number].mean() > 0.3 > 10 * zone[label != number].mean()


def test_zones_are_nested(made):
    for tumour, grown, _, _, label in made:
        core = (label == 1) | (label == 3)
        around = ndimage.binary_dilation(core) & ~core & (np.asarray(grown.room) > 0)
        assert (label[around] == 2).mean() > 0.6
        if (label == 1).sum() > 50 and tumour.quiet == 0:
            depth = ndimage.distance_transform_edt(core)
            assert depth[label == 1].mean() > depth[label == 3].mean()


def test_oedema_keeps_to_the_white_matter(made, tissue):
    gm, wm = (np.asarray(tissue[..., t]) > 0.9 for t in (GM, WM))
    share = []
    for *_, label in made:
        near = ndimage.binary_dilation(label > 0, iterations=2)
        share.append([(label[near & kind] == 2).mean() for kind in (gm, wm)])
    grey, white = np.mean(share, axis=0)
    assert white > 2 * grey


def test_borders_are_irregular(made):
    def faces(mask):
        return sum(np.abs(np.diff(mask.astype(np.int8), axis=axis)).sum() for axis in range(3))

    grid = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 3, indexing="ij"))
    found = []
    for *_, label in made:
        tumour = label > 0
        ball = (grid**2).sum(axis=0) <= (tumour.sum() * 0.75 / np.pi) ** (2 / 3)
        found.append(faces(tumour) / tumour.sum() ** (2 / 3) / faces(ball) * ball.sum() ** (2 / 3))
    assert min(found) > 1.05  # faces relative to a ball of that volume
    assert np.mean(found) > 1.15


@pytest.mark.parametrize(
    ("cells", "number", "zone"),
    [
        ((0, 0, 0), 0, None),
        ((1, 0, 0), 3, "enhancing"),
        ((1, 0, 1), 3, "enhancing"),
        ((0, 1, 0), 1, "necrosis"),
        ((1, 1, 0), 1, "necrosis"),
        ((0, 0, 1), 2, "oedema"),
    ],
)
@pytest.mark.parametrize("liquid", [0.0, 0.7])
def test_each_density_paints_its_zone(cells, number, zone, liquid):
    """In white matter; where fluid fills more than half, in fluid and outside nothing is labelled."""
    shape = (20, 20, 20)
    tumour = draw_tumour(jax.random.key(3))._replace(
        roughness=0.0, quiet=0.0, solid=0.8, swelling=1.0, liquid=liquid
    )
    tumour = jax.tree.map(jnp.float32, tumour)
    tissue = jnp.zeros((*shape, len(HEAD))).at[0, ..., WM].set(1).at[1, ..., CSF].set(1)
    tissue = tissue.at[2, ..., WM].set(0.45).at[2, ..., CSF].set(0.55)
    full = jnp.broadcast_to(jnp.asarray(cells, jnp.float32), (*shape, 3))
    shares, label = paint_one(jax.random.key(0), tumour, full, tissue, spacing=2.0)
    assert (label[0] == number).all()
    assert not label[1:].any()
    np.testing.assert_array_equal(shares[1, ..., : len(HEAD)], tissue[1])
    assert not shares[3].any()
    expected = np.zeros(len(TISSUES))
    expected[PLACE["wm"]] = 1 if zone is None else 0.2 if zone == "enhancing" else 0
    if zone:
        expected[PLACE[zone]] = 0.8 if zone == "enhancing" else 1
    if zone == "necrosis":
        expected[[PLACE["csf"], PLACE["necrosis"]]] = liquid, 1 - liquid
    if cells == (1, 0, 1):  # what of the rim is no tumour is swollen tissue, but for the core
        expected = np.asarray(shares[0, 0, 0])
        assert expected[PLACE["enhancing"]] == pytest.approx(0.8, abs=0.02)
    np.testing.assert_allclose(shares[0, 0, 0], expected, atol=0.04)
    assert tuple(TISSUES[len(HEAD) :]) == LESION


def test_a_quiet_rim_does_not_enhance():
    shape = (20, 20, 20)
    tissue = jnp.zeros((*shape, len(HEAD))).at[..., WM].set(1)
    living = jnp.ones((*shape, 3)) * jnp.array([1.0, 0, 0]).reshape(1, 1, 1, 3)
    found = []
    for quiet in (0.0, 0.3):
        tumour = draw_tumour(jax.random.key(3))._replace(quiet=jnp.float32(quiet))
        shares, label = paint_one(jax.random.key(1), tumour, living, tissue, spacing=2.0)
        found.append(float((label == 1).mean()))
        share = shares[..., PLACE["nonenhancing"]]
        assert share[label == 1].mean() > 0.5 if quiet else share.max() < 0.05
    assert found[0] == 0
    assert 0.1 < found[1] < 0.5
