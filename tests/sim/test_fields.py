import jax
import numpy as np
import pytest

from medjax.sim.fields import smooth_noise

KEY = jax.random.key(3)


def test_noise_is_standard_over_keys():
    keys = jax.random.split(KEY, 400)
    draw = jax.jit(jax.vmap(lambda key: smooth_noise(key, (20, 16, 18), 2.0, 8.0, 2)))
    fields = np.asarray(draw(keys))
    assert fields.shape == (400, 2, 20, 16, 18)
    assert fields.dtype == np.float32
    assert fields.mean() == pytest.approx(0, abs=0.03)
    assert fields.var() == pytest.approx(1, abs=0.03)
    centre, corner = fields[..., 8:12, 6:10, 7:11], fields[..., :3, :3, :3]
    assert centre.var() == pytest.approx(1, abs=0.1)
    assert corner.var() == pytest.approx(1, abs=0.1)  # no fading towards the border
    assert abs(np.corrcoef(fields[:, 0].ravel(), fields[:, 1].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(fields[0].ravel(), fields[1].ravel())[0, 1]) < 0.2


def test_noise_varies_over_its_length():
    for axis in range(1, 4):
        steps = [
            np.diff(smooth_noise(KEY, (30, 26, 28), 2.0, length, 4), axis=axis).std()
            for length in (6.0, 12.0, 24.0)
        ]
        assert steps[0] > 1.6 * steps[1] > 2.4 * steps[2]


def test_noise_is_the_same_field_at_every_spacing():
    coarse = smooth_noise(KEY, (16, 12, 14), 4.0, 16.0)
    fine = smooth_noise(KEY, (32, 24, 28), 2.0, 16.0)
    block = np.asarray(fine).reshape(16, 2, 12, 2, 14, 2).mean(axis=(1, 3, 5))
    assert np.corrcoef(coarse[0].ravel(), block.ravel())[0, 1] > 0.999
    assert coarse.std() == pytest.approx(float(fine.std()), rel=0.05)


def test_a_key_gives_one_field():
    one, again = (smooth_noise(KEY, (9, 8, 7), 1.0, 4.0) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert (smooth_noise(jax.random.key(4), (9, 8, 7), 1.0, 4.0) != one).mean() > 0.9
