from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.ops import filters
from medjax.sim.scan import (
    BLUR,
    FAULTS,
    PARENT,
    PLANES,
    SPIN_ECHO,
    Look,
    draw_physics,
    draw_random,
    in_plane,
    scan,
)
from medjax.sim.signal import CONTRASTS, PRESETS, SpinEcho, protocols, signal_table
from medjax.sim.tissue import HEAD, TISSUES, Tissue, stack, tissues

SHAPE, SPACING = (14, 16, 12), 2.0
PLACE = {name: c for c, name in enumerate(TISSUES)}
KEY = jax.random.key(2)
run = jax.jit(partial(scan, spacing=SPACING))
SOME = ("T2", "FLAIR", "T1ce")  # in no order


def look(signals, **changes):
    """An ideal scanner, but for the `changes`."""
    count = signals.shape[1]
    ideal = Look(
        signals=signals,
        texture=jnp.zeros_like(signals),
        bias=jnp.zeros(count),
        noise=jnp.zeros(count),
        blur=jnp.zeros(count),
        thickness=jnp.zeros(count),
        slices=jnp.zeros(count, jnp.int32),
        fault=jnp.zeros(count, jnp.int32),
        degrees=jnp.full(count, 2.0, jnp.float32),
        scale=jnp.ones(count),
    )
    return ideal._replace(**{name: jnp.asarray(value) for name, value in changes.items()})


TABLE = signal_table(stack(tissues(3.0)), {name: protocols(3.0)[name] for name in ("T1", "T2")})
CLEAN = look(TABLE)


def uniform(**shares):
    body = jnp.zeros((*SHAPE, len(TISSUES)))
    for name, share in shares.items():
        body = body.at[..., PLACE[name]].set(share)
    return body


def block():
    """White matter with a ventricle and a rim of grey, air around."""
    body = jnp.zeros((*SHAPE, len(TISSUES)))
    body = body.at[2:-2, 2:-2, 2:-2, PLACE["gm"]].set(1)
    body = body.at[4:-4, 4:-4, 3:-3].set(0).at[4:-4, 4:-4, 3:-3, PLACE["wm"]].set(1)
    return body.at[6:8, 6:9, 5:7].set(0).at[6:8, 6:9, 5:7, PLACE["csf"]].set(1)


@pytest.mark.parametrize("name", ["csf", "gm", "wm", "oedema"])
def test_uniform_tissue_gives_its_signal(name):
    image = run(KEY, uniform(**{name: 1}), CLEAN)
    expected = jnp.broadcast_to(TABLE[PLACE[name]], image.shape)
    np.testing.assert_allclose(image, expected, rtol=1e-4)


def test_signals_mix_and_relaxation_times_do_not():
    image = run(KEY, uniform(csf=0.5, wm=0.5), CLEAN)
    mean = (TABLE[PLACE["csf"]] + TABLE[PLACE["wm"]]) / 2
    np.testing.assert_allclose(image, jnp.broadcast_to(mean, image.shape), rtol=1e-4)
    table = tissues(3.0)
    average = Tissue(*np.mean([table["csf"], table["wm"]], axis=0))
    assert abs(protocols(3.0)["T2"].signal(average) / mean[1] - 1) > 0.05
    assert not run(KEY, uniform(), CLEAN).any()


def test_the_scale_is_that_of_the_file():
    body, scale = block(), jnp.array([500.0, 2.0])
    np.testing.assert_allclose(
        run(KEY, body, CLEAN._replace(scale=scale)),
        run(KEY, body, CLEAN) * scale.reshape(1, 1, 1, 2),
        rtol=1e-5,
        atol=1e-4,
    )


@pytest.mark.parametrize("fault", range(len(FAULTS)))
def test_every_fault(fault):
    """One compiled function for all; the image stays finite, positive, and about as bright."""
    body = block()
    clean = run(KEY, body, CLEAN)
    image = run(KEY, body, look(TABLE, fault=[0, fault]))
    assert jnp.isfinite(image).all()
    assert image.min() >= 0
    np.testing.assert_array_equal(image[..., 0], clean[..., 0])
    changed = float(jnp.abs(image - clean)[..., 1].max() / clean.max())
    assert (changed > 0.02) == (FAULTS[fault] != "none")
    assert float(image.mean()) == pytest.approx(float(clean.mean()), rel=0.2)
    assert run._cache_size() == 1
    if FAULTS[fault] in ("motion", "ghosting", "spikes"):
        weak = run(KEY, body, look(TABLE, fault=[0, fault], degrees=[0.2, 0.2]))
        assert jnp.abs(weak - clean).max() < jnp.abs(image - clean).max()


@pytest.mark.parametrize("axis", range(3))
def test_slices_are_thick_along_their_axis_alone(axis):
    thick = run(KEY, block(), look(TABLE, thickness=[0.0, 6.0], slices=[0, axis]))[..., 1]
    clean = run(KEY, block(), CLEAN)[..., 1]
    rough = [
        [float(jnp.abs(jnp.diff(image, axis=a)).mean()) for a in range(3)]
        for image in (thick, clean)
    ]
    ratios = np.divide(*rough)
    assert ratios.argmin() == axis
    assert float(thick.mean()) == pytest.approx(float(clean.mean()), rel=0.02)


def test_blur_keeps_the_mean_and_takes_the_edges():
    clean, blurred, more = (
        run(KEY, block(), look(TABLE, blur=[0.0, sigma]))[..., 1] for sigma in (0.0, 0.8, 1.6)
    )
    assert float(blurred.mean()) == pytest.approx(float(clean.mean()), rel=1e-4)
    steps = [float(jnp.abs(jnp.diff(v, axis=0)).max()) for v in (clean, blurred, more)]
    assert steps[0] > 1.1 * steps[1] > 1.2 * steps[2]


def kept():
    """What the mean over a voxel of 2 mm leaves of the noise."""
    point = jnp.zeros((9, 9, 9)).at[4, 4, 4].set(1)
    kernel = filters.spread(point, (SPACING**2 - PARENT**2) / 12 / SPACING**2, passes=1)
    return float(jnp.sqrt((kernel**2).sum()))


def test_coarse_voxels_are_means():
    """An edge between voxels is softer on a coarse grid, by a kernel that the fine one does without."""
    assert 0.7 < kept() < 0.9
    body = uniform(gm=1).at[7:, ..., PLACE["gm"]].set(0).at[7:, ..., PLACE["wm"]].set(1)
    coarse = run(KEY, body, CLEAN)[:, 8, 6, 0]
    fine = jax.jit(partial(scan, spacing=1.0))(KEY, body, CLEAN)[:, 8, 6, 0]
    low, high = (float(TABLE[PLACE[name], 0]) for name in ("gm", "wm"))
    np.testing.assert_allclose(fine, [low] * 7 + [high] * 7, rtol=1e-4)
    softened = (low + (high - low) / 32, high - (high - low) / 32)  # 1/16 voxel^2 of variance
    np.testing.assert_allclose(coarse[6:8], softened, rtol=1e-3)


def test_the_noise_is_that_of_the_slices():
    """Thick slices average it, so it was made larger before."""
    for thickness in (0.0, 6.0):
        settings = {"noise": [0.0, 0.02], "thickness": [0.0, thickness], "slices": [2, 2]}
        image = run(KEY, uniform(wm=1), look(TABLE, **settings))
        middles = image[..., 1::3, 1]  # of slices
        assert float(middles.std()) == pytest.approx(0.02 * kept(), rel=0.12)


def test_gain_grain_and_noise_have_their_size():
    body = uniform(wm=1)
    wm = float(TABLE[PLACE["wm"], 1])
    gain = run(KEY, body, look(TABLE, bias=[0.0, 0.2]))
    np.testing.assert_allclose(gain[..., 0], TABLE[PLACE["wm"], 0], rtol=1e-4)
    span = float(jnp.log(gain[..., 1].max() / gain[..., 1].min()))
    assert span == pytest.approx(0.4, abs=0.01)
    texture = jnp.zeros_like(TABLE).at[PLACE["wm"], 1].set(0.05).at[PLACE["gm"]].set(9)
    grain = run(KEY, body, CLEAN._replace(texture=texture))[..., 1]
    assert float(grain.std()) == pytest.approx(0.05 * wm, rel=0.25)
    assert float(grain.mean()) == pytest.approx(wm, rel=0.03)
    noise = run(KEY, body, look(TABLE, noise=[0.0, 0.02]))[..., 1]
    assert float(noise.std()) == pytest.approx(0.02 * kept(), rel=0.1)
    background = run(KEY, uniform(), look(TABLE, noise=[0.0, 0.02]))
    assert float(background[..., 1].mean()) == pytest.approx(0.02 * 1.253, rel=0.05)
    assert not background[..., 0].any()


def test_a_key_gives_one_image():
    noisy = look(TABLE, noise=[0.1, 0.1], bias=[0.1, 0.1], fault=[1, 2])
    one, again, other = (run(key, block(), noisy) for key in (KEY, KEY, jax.random.key(3)))
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.9
    noise = run(KEY, uniform(), look(TABLE, noise=[0.1, 0.1]))
    first, second = (noise[..., c].ravel() for c in range(2))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1  # contrasts are drawn each for itself


@pytest.fixture(scope="module")
def many():
    """600 examinations, and what was drawn for them."""
    draw = partial(draw_physics, contrasts=SOME, fields=(1.5, 3.0), faults=0.3)
    return jax.device_get(jax.jit(jax.vmap(draw))(jax.random.split(KEY, 600)))


@pytest.mark.parametrize("index", range(8))
def test_what_was_drawn_explains_the_signals(many, index):
    """Columns in the order asked for, each from its own protocol, the brightest of the brain 1."""
    made, drawn = jax.tree.map(lambda values: values[index], many)
    assert set(drawn["protocols"]) == set(SOME)
    assert set(drawn["spin_echo_protocols"]) == {"T1ce"}
    kinds = {name: type(protocols(3.0)[name]) for name in SOME}
    sequences = {name: kinds[name](**drawn["protocols"][name]) for name in SOME}
    if drawn["spin_echo_t1"]:
        sequences["T1ce"] = SpinEcho(**drawn["spin_echo_protocols"]["T1ce"])
    table = signal_table(Tissue(**drawn["tissue"]), sequences)
    np.testing.assert_allclose(made.signals, table / table[:3].max(axis=0)[None], rtol=1e-4)


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_each_column_is_its_contrast(field):
    """By the order of tissues, in the mean of subjects, at the field that was asked for."""
    contrasts = ("FLAIR", "T1", "bSSFP", "T1ce", "PD", "T2")
    draw = partial(draw_physics, contrasts=contrasts, fields=(field,))
    made, drawn = jax.jit(jax.vmap(draw))(jax.random.split(KEY, 30))
    assert (drawn["field"] == field).all()
    mean = np.asarray(made.signals.mean(axis=0))
    assert set(contrasts) == set(PRESETS)
    flair, t1, ssfp, gd, pd, t2 = (dict(zip(TISSUES, column, strict=True)) for column in mean.T)
    assert t1["wm"] > t1["gm"] > t1["csf"]
    assert t1["wm"] > t1["enhancing"]
    assert gd["enhancing"] > 1.1 * gd["wm"]
    assert t2["csf"] > t2["oedema"] > t2["gm"] > t2["wm"]
    assert flair["oedema"] > flair["gm"] > flair["wm"] > 1.3 * flair["csf"] > 0  # see INVERTED
    assert pd["csf"] > pd["gm"] > pd["wm"]
    assert ssfp["csf"] > 1.2 * max(ssfp["gm"], ssfp["wm"])


def test_draws_are_within_what_is_said(many):
    made, drawn = many
    assert set(np.unique(made.fault)) == set(range(len(FAULTS)))
    assert (made.fault > 0).mean() == pytest.approx(0.3, abs=0.05)
    for fault in range(1, len(FAULTS)):
        assert (made.fault == fault).mean() == pytest.approx(0.075, abs=0.025)
    assert set(np.unique(made.slices)) == {0, 1, 2}
    thick = made.thickness > 0
    np.testing.assert_allclose(thick.mean(axis=0), [0.95, 0.95, 0.15], atol=0.05)
    limits = {
        "bias": (0.02, 0.2),
        "noise": (0.005, 0.03),
        "degrees": (0.5, 3.0),
        "blur": BLUR,
    }
    for name, (low, high) in limits.items():
        values = getattr(made, name)
        assert low <= values.min() < values.max() <= high
    assert 2 <= made.thickness[thick].min() < made.thickness.max() <= 6
    assert drawn["spin_echo_t1"].mean() == pytest.approx(SPIN_ECHO, abs=0.08)
    assert (drawn["field"] == 3.0).mean() == pytest.approx(0.5, abs=0.08)
    assert made.texture[:, len(HEAD) :].mean() > 2 * made.texture[:, : len(HEAD)].mean()


@pytest.mark.parametrize("faults", [0.0, 1.0])
def test_faults_can_be_left_out_or_forced(faults):
    made, _ = draw_random(KEY, PRESETS, faults=faults)
    assert made.fault.shape == (len(PRESETS),)
    assert ((made.fault > 0) == bool(faults)).all()


def test_the_plane_of_slices_can_be_chosen():
    """And changes nothing else."""
    free, _ = draw_physics(KEY, CONTRASTS, fields=(3.0,))
    assert in_plane(free, "any") is free
    for axis, plane in enumerate(PLANES):
        chosen = in_plane(free, plane)
        np.testing.assert_array_equal(chosen.slices, [axis] * len(CONTRASTS))
        assert chosen._replace(slices=free.slices) == free


def test_random_contrasts_have_no_order():
    draw = jax.jit(jax.vmap(partial(draw_random, contrasts=CONTRASTS)))
    made, drawn = draw(jax.random.split(KEY, 200))
    assert drawn == {}
    assert made.signals.shape == (200, len(TISSUES), len(CONTRASTS))
    assert 25 / 225 <= made.signals.min() < made.signals.max() <= 1
    spread = made.signals * made.texture
    assert 5 / 225 - 1e-6 <= spread.min() < spread.max() <= 25 / 225 + 1e-6
    wm, gm = (made.signals[:, PLACE[name]] for name in ("wm", "gm"))
    assert (wm > gm).mean() == pytest.approx(0.5, abs=0.1)
    assert abs(np.corrcoef(wm[:, 0], wm[:, 1])[0, 1]) < 0.2
