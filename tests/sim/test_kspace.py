from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from medjax.ops import fourier
from medjax.sim import kspace

KEY = jax.random.key(4)
SPACING = (1.0, 1.5, 2.0)
SHAPES = [(12, 14, 16), (11, 13, 9)]
acquire = jax.jit(kspace.acquire, static_argnames=("axis", "spacing", "segments"))
poses = jax.jit(kspace.poses, static_argnames=("axis", "segments"))
ghosting = jax.jit(kspace.ghosting, static_argnames="axis")
gibbs = jax.jit(kspace.gibbs, static_argnames="axis")
spikes = jax.jit(kspace.spikes, static_argnames="count")


def volume(shape, seed=0):
    """A bright ellipsoid with smooth texture in front of nothing."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in shape], indexing="ij")
    inside = sum(g**2 for g in grid) < 1
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
    return jnp.asarray(ndimage.gaussian_filter(inside * (1 + texture), 0.5), jnp.float32)


def run_motion(strength, key, v):
    return kspace.motion(
        key, v, axis=1, degrees=3 * strength, mm=3 * strength, spacing=SPACING, segments=5
    )


def run_ghosting(strength, key, v):
    return kspace.ghosting(key, v, axis=0, ghosts=3, strength=0.5 * strength)


def run_spikes(strength, key, v):
    return kspace.spikes(key, v, count=2, strength=0.2 * strength)


def run_gibbs(strength, key, v):
    return kspace.gibbs(v, keep=1 - 0.5 * strength)


def run_undersample(strength, key, v):
    return kspace.undersample(key, v, axis=2, acceleration=1 + 2 * strength)


FAULTS = {
    "motion": run_motion,
    "ghosting": run_ghosting,
    "spikes": run_spikes,
    "gibbs": run_gibbs,
    "undersample": run_undersample,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FAULTS)
def test_every_fault(name, shape):
    fault = jax.jit(partial(FAULTS[name]))
    clean = volume(shape)
    result = fault(1.0, KEY, clean)
    assert result.shape == shape
    assert result.dtype == jnp.float32
    assert bool(jnp.isfinite(result).all())
    assert float(result.min()) >= 0
    assert float(result.mean()) == pytest.approx(float(clean.mean()), rel=0.35)
    assert float(jnp.abs(result - clean).max()) > 0.03
    np.testing.assert_allclose(fault(0.0, KEY, clean), clean, atol=1e-5)
    assert not fault(1.0, KEY, jnp.zeros(shape)).any()
    np.testing.assert_allclose(fault(1.0, KEY, 1000 * clean), 1000 * result, rtol=1e-3, atol=0.02)

    np.testing.assert_array_equal(fault(1.0, KEY, clean), result)
    other = fault(1.0, jax.random.key(5), clean)
    assert bool((other != result).any()) == (name != "gibbs")
    assert fault._cache_size() == 1  # strengths are traced

    volumes, keys = jnp.stack([clean, volume(shape, 1)]), jax.random.split(KEY, 2)
    both = jax.jit(jax.vmap(fault, (None, 0, 0)))(1.0, keys, volumes)
    for i in range(2):
        np.testing.assert_allclose(both[i], fault(1.0, keys[i], volumes[i]), atol=1e-5)


@pytest.mark.parametrize(("size", "segments"), [(16, 4), (17, 4), (9, 20), (37, 8), (6, 1), (1, 4)])
def test_segments_cover_every_line_once_with_zero_amid_its_own(size, segments):
    lines = kspace.segment_lines(size, segments)
    assert np.array_equal(np.diff(lines.ravel()), np.ones(lines.size - 1))
    wanted = fourier.line_numbers(size)
    assert set(wanted) <= set(lines.ravel())
    for row in lines:
        assert set(row) & set(wanted)  # none lies wholly outside
    assert len(lines) <= segments + 1
    ((row, place),) = np.argwhere(lines == 0)
    assert place == lines.shape[1] // 2
    assert 0 <= row < len(lines)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_one_translation_of_all_segments_is_a_circular_shift(axis):
    clean, spacing, shift = volume((12, 11, 10)), (1.0, 0.5, 2.0), (3.0, -1.0, 4.0)
    same = jnp.tile(jnp.array(shift)[None], (len(kspace.segment_lines(clean.shape[axis], 4)), 1))
    seen = acquire(clean, 0 * same, same, axis=axis, spacing=spacing, segments=4)
    moved = fourier.to_volume(seen)
    np.testing.assert_allclose(moved, np.roll(clean, (3, -2, 2), (0, 1, 2)), atol=1e-5)


@pytest.mark.parametrize("axis", [0, 2])
def test_one_rotation_of_all_segments_is_scipys(axis):
    clean, mm, angle = volume((14, 12, 10)), np.array([1.0, 1.5, 2.0]), np.radians(5)
    turn = jnp.tile(jnp.array([[0, 0, 5.0]]), (len(kspace.segment_lines(clean.shape[axis], 3)), 1))
    seen = acquire(clean, turn, 0 * turn, axis=axis, spacing=tuple(mm), segments=3)
    inverse = np.eye(3)
    inverse[:2, :2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    matrix = inverse * mm[None] / mm[:, None]
    middle = (np.array(clean.shape) - 1) / 2
    expected = ndimage.affine_transform(
        np.asarray(clean), matrix, middle - matrix @ middle, order=1, mode="nearest"
    )
    np.testing.assert_allclose(jnp.abs(fourier.to_volume(seen)), expected, atol=1e-4)


def test_a_quarter_turn_is_numpys():
    cube = volume((9, 9, 9))
    turn = jnp.tile(jnp.array([[90.0, 0, 0]]), (len(kspace.segment_lines(9, 3)), 1))
    seen = acquire(cube, turn, 0 * turn, axis=1, spacing=(1.0,) * 3, segments=3)
    expected = np.rot90(cube, axes=(1, 2))  # y towards z
    np.testing.assert_allclose(jnp.abs(fourier.to_volume(seen)), expected, atol=1e-4)


def test_each_segment_sees_its_own_pose():
    clean, lines = volume((16, 10, 8)), kspace.segment_lines(16, 4)
    run = partial(acquire, clean, axis=0, spacing=(1.0,) * 3, segments=4)
    shifts = jnp.arange(3 * len(lines), dtype=jnp.float32).reshape(-1, 3) / 4
    seen = run(10 * shifts, shifts)
    for row, shift in zip(lines, shifts, strict=True):
        alone = jnp.tile(shift[None], (len(lines), 1))
        own = np.isin(fourier.line_numbers(16), row)
        np.testing.assert_allclose(seen[own], run(10 * alone, alone)[own], atol=1e-5)


def test_poses_reach_what_is_asked_with_the_centre_at_rest_and_the_mean_at_zero():
    size, segments = 41, 8
    clean, lines = volume((12, size, 10)), kspace.segment_lines(size, segments)
    turns, shifts = poses(KEY, clean, axis=1, degrees=2.0, mm=3.0, segments=segments)
    centre = (lines == 0).any(axis=1)
    spectrum = np.square(np.abs(fourier.to_kspace(clean, (1,)))).sum((0, 2))
    power = np.zeros(lines.size)
    power[np.isin(lines.ravel(), fourier.line_numbers(size))] = spectrum
    power = np.where(centre, 0, power.reshape(lines.shape).sum(1))
    for own, largest in ((turns, 2.0), (shifts, 3.0)):
        length = np.linalg.norm(own, axis=1)
        assert length.max() == pytest.approx(largest, rel=1e-5)
        assert np.array_equal(length > 0, ~centre)
        np.testing.assert_allclose(power @ np.asarray(own) / power.sum(), 0, atol=1e-4)


@pytest.mark.parametrize("thin", [0, 2])
def test_a_slice_moves_in_its_plane(thin):
    shape = [12, 10, 8]
    shape[thin] = 1
    turns, shifts = poses(KEY, volume(shape), axis=(thin + 1) % 3, degrees=2.0, mm=3.0, segments=4)
    across = np.arange(3) != thin
    assert not turns[:, across].any()
    assert not shifts[:, thin].any()
    assert float(jnp.abs(turns[:, thin]).max()) == pytest.approx(2.0, rel=1e-5)
    assert float(jnp.linalg.norm(shifts, axis=1).max()) == pytest.approx(3.0, rel=1e-5)


def test_motion_leaves_the_low_frequencies_where_they_are():
    clean = volume((32, 32, 24))
    run = jax.jit(
        partial(kspace.motion, axis=1, degrees=0.0, mm=2.0, spacing=(1.0,) * 3, segments=8)
    )
    for seed in range(4):
        moved = run(jax.random.key(seed), clean)
        assert float(jnp.abs(moved - clean).max()) > 0.05
        for axis in range(3):  # centre of mass
            place = fourier.line_numbers(clean.shape[axis]).astype(np.float32)
            others = tuple(a for a in range(3) if a != axis)
            masses = [np.asarray(v).sum(others) for v in (moved, clean)]
            centres = [m @ place / m.sum() for m in masses]
            assert centres[0] == pytest.approx(centres[1], abs=0.25)


@pytest.mark.parametrize(("axis", "ghosts"), [(0, 2), (1, 3), (2, 4)])
def test_ghosts_stand_at_parts_of_the_field_of_view(axis, ghosts):
    shape = [10, 10, 10]
    shape[axis] = 48
    clean = np.zeros(shape, np.float32)
    clean[4:6, 4:6, 4:6] = 1
    clean = np.roll(clean, 6, axis)
    faulty = ghosting(KEY, jnp.asarray(clean), axis=axis, ghosts=ghosts, strength=0.6, centre=0.0)
    profile = np.asarray(faulty).sum(tuple(a for a in range(3) if a != axis))
    peaks = np.flatnonzero(profile > 0.5 * 4 * 0.6 / ghosts)
    places = [(10 + 48 * m // ghosts) % 48 for m in range(ghosts)]
    assert sorted(peaks) == sorted([*places, *((p + 1) % 48 for p in places)])
    for place in places[1:]:  # the DC line stays, and with it a faint, even level
        assert profile[place] == pytest.approx(4 * 0.6 / ghosts, rel=0.1)
    assert profile[places[0]] == pytest.approx(4 * (1 - 0.6 / ghosts), rel=0.1)


def test_ghosting_leaves_the_middle_alone():
    clean = volume((40, 8, 8))
    half = jnp.ones((40, 8, 8)).at[:20].set(2.0)  # all in few lines
    for seed in range(3):
        strong = ghosting(jax.random.key(seed), clean, axis=0, ghosts=2, strength=1.0, centre=1.0)
        np.testing.assert_allclose(strong, clean, atol=1e-5)
        ghosted = ghosting(jax.random.key(seed), half, axis=0, ghosts=2, strength=1.0)
        assert float(ghosted.mean()) == pytest.approx(1.5, rel=0.05)


def test_one_spike_is_one_plane_wave():
    bright = jnp.full((12, 10, 9), 2.0)
    striped = spikes(KEY, bright, count=1, strength=0.1)
    # |2 + 0.2 e^(i phase)| over whole periods
    np.testing.assert_allclose([striped.min(), striped.max()], [1.8, 2.2], atol=0.02)
    spectrum = np.abs(np.fft.fftn(np.square(striped))).ravel()
    order = np.sort(spectrum)[::-1]
    assert order[2] > 0.1 * order[1] > 100 * order[3]  # the mean, and one pair of samples
    hidden = jnp.zeros_like(bright).at[0, 0, 0].set(bright.size)  # of mean 1
    faulty = spikes(KEY, hidden, count=1, strength=0.5)
    np.testing.assert_allclose(faulty.ravel()[1:], 0.5, rtol=1e-5)  # as k-space has it: no stripes


def test_gibbs_overshoot_is_wilbrahams():
    size = 512
    step = jnp.ones((size, 1, 1)).at[: size // 2].set(2.0)
    rung = np.asarray(gibbs(step, axis=0, keep=0.125))[:, 0, 0]
    assert rung.max() - 2 == pytest.approx(0.0895, abs=0.002)
    assert 1 - rung.min() == pytest.approx(0.0895, abs=0.002)
    kept = np.abs(fourier.line_numbers(size)) <= 32
    expected = np.fft.ifft(np.fft.ifftshift(kept) * np.fft.fft(np.asarray(step)[:, 0, 0])).real
    np.testing.assert_allclose(rung, expected, atol=1e-4)


def test_gibbs_along_all_axes_cuts_a_box():
    clean = 2 + volume((12, 13, 10))
    kept = [np.abs(fourier.line_numbers(n)) <= 0.6 * n / 2 for n in clean.shape]
    box = kept[0][:, None, None] & kept[1][None, :, None] & kept[2][None, None, :]
    expected = np.fft.ifftn(np.fft.fftn(clean) * np.fft.ifftshift(box)).real
    np.testing.assert_allclose(gibbs(clean, keep=0.6), expected, atol=1e-4)
    np.testing.assert_allclose(gibbs(clean, keep=0.0), clean.mean(), rtol=1e-5)


@pytest.mark.parametrize("size", [40, 41])
def test_the_middle_is_sampled_and_the_rest_by_chance(size):
    keys = jax.random.split(KEY, 500)
    lines = jax.jit(partial(kspace.sampled_lines, size=size))
    kept = np.asarray(jax.vmap(lambda k: lines(k, acceleration=3.0, centre=0.2))(keys))
    middle = np.abs(fourier.line_numbers(size)) <= 0.1 * size
    assert kept[:, middle].all()
    assert kept[:, ~middle].mean() == pytest.approx((1 / 3 - 0.2) / 0.8, abs=0.02)
    assert kept.mean() == pytest.approx(1 / 3, abs=0.03)
    assert lines(KEY, acceleration=1.0, centre=0.2).all()
    np.testing.assert_array_equal(lines(KEY, acceleration=50.0, centre=0.2), middle)
    assert lines(KEY, acceleration=50.0, centre=1.0).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_undersampling_keeps_lines_and_zeroes_the_others(axis):
    clean, options = volume((11, 12, 13)), {"acceleration": 2.0, "centre": 0.2}
    kept = np.asarray(jax.jit(lambda k: kspace.sampled_lines(k, 11 + axis, **options))(KEY))
    mask = np.expand_dims(np.fft.ifftshift(kept), [a for a in range(3) if a != axis])
    expected = np.abs(np.fft.ifftn(np.fft.fftn(clean) * mask))
    result = jax.jit(lambda k, v: kspace.undersample(k, v, axis=axis, **options))(KEY, clean)
    np.testing.assert_allclose(result, expected, atol=1e-5)
