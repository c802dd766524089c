"""`make_body` on real folds, and `make_subject` with that body; whole patients: `data/test_synthetic`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.ops.sampling import centred_grid
from medjax.sim import subject as module
from medjax.sim.anatomy import EXTENT, fuller
from medjax.sim.shape import Deformation, grid_shape, parent_points, read_field
from medjax.sim.subject import STRIP, Body, make_body, make_subject
from medjax.sim.tissue import HEAD, TISSUES
from medjax.sim.tumour import CSF, GM, WM

SPACING = 4.0
ML = SPACING**3 / 1000
SHAPE = grid_shape(EXTENT, SPACING)
FAT = TISSUES.index("fat")


@pytest.fixture(scope="module")
def body(template):
    """With real folds, where no label may lie in fluid."""
    make = jax.jit(partial(make_body, shape=SHAPE, spacing=SPACING))
    return jax.device_get(make(jax.random.key(1), template._replace(name=None)))


@pytest.fixture(scope="module")
def examine(template):
    """`examine(**settings)(key, body)`: `make_subject`, compiled, with this body for its own."""

    def examine(**settings):
        @jax.jit
        def compiled(key, shares, label, depth):
            def given(key, parent, **asked):
                assert asked["growth"] == settings.get("growth", "two_species")
                return Body(shares, label, depth, {})

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(module, "make_body", given)
                return make_subject(key, template, shape=SHAPE, spacing=SPACING, **settings)

        return lambda key, body: jax.device_get(compiled(key, *body[:3]))

    return examine


@pytest.fixture(scope="module")
def stripped(examine):
    return examine(contrasts=("T2", "T1ce"), fields=(3.0,), faults=0.0)


@pytest.fixture(scope="module")
def subjects(stripped, body):
    """Six examinations; what is no tumour is labelled too, in the brain and around it."""
    everywhere = body._replace(label=np.maximum(body.label, 1))
    return [stripped(jax.random.key(seed), everywhere) for seed in range(6)]


def test_the_image_is_the_brain_and_nothing_else(subjects, body):
    """With whole numbers above 0, cut within some mm of its surface."""
    cut = []
    for subject in subjects:
        brain = subject.image[..., 0] > 0
        np.testing.assert_array_equal(subject.image[..., 1] > 0, brain)
        np.testing.assert_array_equal(subject.image, np.rint(subject.image))
        assert subject.image.min() == 0
        assert subject.image.max() < 2**15
        assert brain[body.depth > STRIP[1] + 2].all()
        assert not brain[body.depth < STRIP[0] - 2].any()
        assert ndimage.label(brain)[1] == 1
        np.testing.assert_array_equal(subject.label, np.where(brain, np.maximum(body.label, 1), 0))
        assert STRIP[0] <= subject.drawn["strip_mm"] <= STRIP[1]
        cut.append((float(subject.drawn["strip_mm"]), -brain.sum()))
    assert np.corrcoef(np.transpose(cut))[0, 1] > 0.8


def test_a_dark_brain_is_still_no_background(stripped, body):
    dark = np.zeros_like(body.shares)
    dark[..., TISSUES.index("skull")] = 1
    for seed in range(6):
        image = stripped(jax.random.key(seed), body._replace(shares=dark)).image
        assert image[body.depth > STRIP[1] + 2].min() >= 1


def test_the_columns_are_the_contrasts(subjects, body):
    """T2 before T1ce, as asked for: fluid is the brightest of the first, the rim of the second."""
    pure = body.shares > 0.8
    zones = {name: pure[..., TISSUES.index(name)] for name in ("csf", "gm", "wm")}
    zones |= {"oedema": body.label == 2, "enhancing": body.label == 3}
    images = np.mean([s.image / s.drawn["scan"]["scale"] for s in subjects], axis=0)
    t2, gd = ({name: images[zone, c].mean() for name, zone in zones.items()} for c in range(2))
    assert t2["csf"] > t2["oedema"] > t2["gm"] > t2["wm"]
    assert min(gd["enhancing"], gd["wm"]) > gd["gm"] > gd["csf"]


def test_the_same_key_gives_the_same_bits(stripped, subjects, body):
    again = stripped(jax.random.key(3), body)._replace(label=subjects[3].label)
    for one, other in zip(jax.tree.leaves(again), jax.tree.leaves(subjects[3]), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.mean(subjects[0].image != subjects[1].image) > 0.2


def test_a_head_keeps_what_lies_around_the_brain(examine, body):
    """And contrasts come without physics, and the label stays whole."""
    settings = {"contrasts": ("FLAIR",), "head": True, "randomised": True, "growth": "one_species"}
    shell = (body.depth < -3) & (body.depth > -9)
    shares = body.shares * (body.depth > -3)[..., None]
    shares[shell, FAT] = 1
    subject = examine(**settings, faults=0.0)(jax.random.key(3), body._replace(shares=shares))
    assert subject.image.shape == (*SHAPE, 1)
    image = subject.image[..., 0] / subject.drawn["scan"]["scale"][0]
    fat, air = image[(body.depth < -5) & (body.depth > -7)], image[body.depth == -12]
    expected = subject.drawn["scan"]["signals"][FAT, 0]
    assert fat.mean() == pytest.approx(float(expected), rel=0.3)
    assert 0 < np.median(air) < 0.05  # noise
    np.testing.assert_array_equal(subject.label, body.label)
    assert "strip_mm" not in subject.drawn
    assert "tissue" not in subject.drawn["scan"]


def test_a_body_is_whole(body):
    assert body.shares.shape == (*SHAPE, len(TISSUES))
    assert body.shares.min() >= -1e-6
    total = body.shares.sum(axis=-1)
    np.testing.assert_allclose(total[body.depth > 1], 1, atol=2e-3)
    assert total.max() <= 1 + 1e-3
    pushed = float(body.drawn["tumour"]["push"])  # past where the surface was
    beyond = (total > 0.05) & (body.depth < -2 - pushed)  # the template has no head
    assert beyond.sum() < 10  # where the map cuts the brain stem, its surface is a jump
    csf, gm, wm = body.shares[body.depth > 0][:, [CSF, GM, WM]].mean(axis=0)
    assert 0.05 < csf < wm < gm


def test_a_body_is_human_and_in_the_view(body):
    assert 1100 < (body.depth > 0).sum() * ML < 1900
    faces = [body.depth[0], body.depth[-1], body.depth[:, 0], body.depth[:, -1]]
    assert max(face.max() for face in [*faces, body.depth[..., -1]]) < 0


def test_labels_lie_in_the_tissue_and_near_their_volume(body):
    tumour, labelled = body.drawn["tumour"], body.label > 0
    assert body.shares[labelled][:, CSF].max() < 0.5
    assert (body.depth[labelled] > -2 - tumour["push"]).all()
    # The volume drawn is that before the push: the core swells by (1 + push / radius)^3 at most.
    radius = (tumour["volume"] * tumour["share"] * 750 / np.pi) ** (1 / 3)
    most = (1 + tumour["push"] / radius) ** 3
    assert 0.75 < labelled.sum() * ML / tumour["volume"] < 1.2 * most
    assert set(np.unique(body.label)) == {0, 1, 2, 3}
    lesion = body.shares[..., len(HEAD) :].sum(axis=-1)
    assert lesion[labelled].mean() > 0.5
    assert lesion[~labelled].mean() < 0.02


def test_a_body_is_its_parent_bent(body, template):
    """Where the tumour pushes little, what was drawn leads back to the parent."""
    grid = [SPACING * axis for axis in centred_grid(SHAPE)]
    maps = jnp.asarray(np.concatenate([template.shares, template.depth[..., None] + 12], axis=-1))
    read = jax.jit(lambda d, maps: read_field(maps, parent_points(d, tuple(grid)), 1.0))
    found = read(Deformation(**body.drawn["deformation"]), maps)
    inside = np.abs(body.depth) < 10
    assert np.abs(body.depth + 12 - found[..., -1])[inside].mean() < 0.1  # mm, of 4
    site = body.drawn["tumour"]["site_mm"].reshape(3, 1, 1, 1)
    away = np.linalg.norm(np.stack(np.broadcast_arrays(*grid)) - site, axis=0)
    far = (away > 70) & (body.depth > 2)
    expected = np.asarray(fuller(found[..., :-1], float(body.drawn["youth"])))
    for tissue in (CSF, GM, WM):
        pair = body.shares[far, tissue], expected[far, tissue]
        assert np.corrcoef(*pair)[0, 1] > 0.95
