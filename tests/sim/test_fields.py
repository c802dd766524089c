import numpy as np
import pytest

from medjax.sim.fields import arrival_time, smooth_noise


def middle(shape):
    source = np.zeros(shape, bool)
    source[tuple(n // 2 for n in shape)] = True
    return source


def test_noise_is_standard_smooth_and_repeatable():
    def draw(seed, length):
        return smooth_noise(np.random.default_rng(seed), (30, 26, 28), 2.0, length)

    field = draw(0, 12.0)
    assert field.dtype == np.float32
    assert field.shape == (30, 26, 28)
    assert abs(field.mean()) < 1e-5
    assert field.std() == pytest.approx(1, abs=1e-4)
    assert np.array_equal(field, draw(0, 12.0))
    assert not np.array_equal(field, draw(1, 12.0))
    for axis in range(3):
        steps = [np.diff(draw(0, length), axis=axis).std() for length in (6.0, 12.0, 24.0)]
        assert steps[0] > 1.3 * steps[1] > 1.6 * steps[2]


def test_noise_is_the_same_field_at_every_spacing():
    coarse = smooth_noise(np.random.default_rng(3), (16, 12, 14), 4.0, 16.0)
    fine = smooth_noise(np.random.default_rng(3), (32, 24, 28), 2.0, 16.0)
    block = fine.reshape(16, 2, 12, 2, 14, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(coarse.ravel(), block.ravel())[0, 1] > 0.999


def test_front_covers_distance_at_its_speed():
    shape = (21, 19, 17)
    time = arrival_time(np.full(shape, 2.0, np.float32), middle(shape), 1.5)
    grid = np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij")
    distance = 1.5 * np.sqrt(sum(g**2.0 for g in grid))
    np.testing.assert_allclose(time[:, 9, 8], distance[:, 9, 8] / 2, rtol=1e-5)
    far = distance > 6
    # A first-order front from one voxel is late off the axes, never early.
    ratio = time[far] / (distance[far] / 2)
    assert ratio.min() > 0.999
    assert ratio.max() < 1.25
    error = [
        np.max(
            arrival_time(np.ones((n, n, n), np.float32), middle((n, n, n)), 10 / (n - 1))[0, 0, 0]
            - np.sqrt(75)
        )
        for n in (11, 41)
    ]
    assert 0 < error[1] < error[0] / 2  # converges with the grid


def test_front_goes_round_a_wall():
    speed = np.ones((21, 21, 5), np.float32)
    source = np.zeros(speed.shape, bool)
    source[0, 0] = True
    open_way = arrival_time(speed, source, 1.0)[20, 0, 2]
    speed[10, :16] = 1e-3
    round_way = arrival_time(speed, source, 1.0)[20, 0, 2]
    assert open_way == pytest.approx(20, rel=1e-5)
    assert round_way == pytest.approx(2 * np.hypot(10, 16), rel=0.1)


def test_counted_front_is_final_for_the_earliest():
    rng = np.random.default_rng(0)
    speed = np.exp(0.6 * smooth_noise(rng, (40, 40, 40), 2.0, 8.0))
    source = middle(speed.shape)
    full, part = arrival_time(speed, source, 2.0), arrival_time(speed, source, 2.0, 1500)
    early = full <= np.partition(full.ravel(), 1500)[1500]
    np.testing.assert_allclose(part[early], full[early], atol=0.02)
    assert (part >= full - 0.02).all()
    assert part.max() > 1.1 * full.max()  # it did stop early


def test_front_needs_a_source():
    with pytest.raises(ValueError, match="source"):
        arrival_time(np.ones((3, 3, 3), np.float32), np.zeros((3, 3, 3), bool), 1.0)
