import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from medjax.data.augment.chain import around_one, chosen, uniform
from medjax.data.augment.intensity import (
    blur,
    brightness,
    contrast,
    gamma,
    intensity,
    low_resolution,
    noise,
)
from medjax.ops.noise import normal

KEY = jax.random.key(11)


def make(count=3, shape=(10, 12, 14), channels=2):
    image = np.random.default_rng(4).normal(size=(count, *shape, channels)).astype(np.float32)
    return {"image": image, "index": np.arange(count, dtype=np.int32) + 7}


def run(transform, batch, **options):
    augment = intensity(transform, **options)

    @jax.jit
    def both(batch):
        parameters = augment.sample(KEY, batch)
        return parameters[0][1], augment.apply(parameters, batch)["image"]

    return jax.device_get(both(batch))


def test_normal_deviates_are_normal():
    seeds = jax.random.bits(KEY, (2, 2))
    draw = jax.jit(lambda seed: normal(seed, (64, 64, 64)))
    draws = [np.asarray(draw(s), np.float64) for s in seeds]
    z = draws[0].ravel()
    assert z.mean() == pytest.approx(0, abs=0.01)
    assert z.var() == pytest.approx(1, abs=0.01)
    assert stats.skew(z) == pytest.approx(0, abs=0.02)
    assert stats.kurtosis(z) == pytest.approx(0, abs=0.04)
    levels = np.array([0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999])
    np.testing.assert_allclose(np.quantile(z, levels), stats.norm.ppf(levels), atol=0.06)
    for axis in range(3):  # white: no correlation with the neighbours, nor with another seed
        pairs = draws[0] * np.roll(draws[0], 1, axis)
        assert pairs.mean() == pytest.approx(0, abs=0.01)
    assert (draws[0] * draws[1]).mean() == pytest.approx(0, abs=0.01)
    power = np.abs(np.fft.rfftn(draws[0])) ** 2 / draws[0].size
    assert power.max() < 20  # exponential under the null: 20 has a chance of 3e-4 in 1.3e5 bins


def test_normal_of_close_seeds_is_unrelated():
    first, close = (
        np.asarray(normal(jnp.asarray(s, jnp.uint32), (4096,))) for s in ([9, 5], [9, 6])
    )
    assert abs(np.corrcoef(first, close)[0, 1]) < 0.06
    shifted = np.asarray(normal(jnp.asarray([10, 6], jnp.uint32), (4096,)))
    assert abs(np.corrcoef(first[1:], shifted[:-1])[0, 1]) < 0.06


def test_uniform_words():
    words = jax.random.bits(KEY, (2, 20000))
    values = np.asarray(uniform(words[0], 2.0, 3.0))
    assert values.min() >= 2
    assert values.max() <= 3
    assert stats.kstest(values - 2, "uniform").pvalue > 1e-3
    assert not bool(chosen(words, 0.0).any())
    assert bool(chosen(words, 1.0).all())
    factor = np.asarray(around_one(words, (0.5, 3.0)))
    assert (factor < 1).mean() == pytest.approx(0.5, abs=0.02)
    assert (factor.min(), factor.max()) == pytest.approx((0.5, 3.0), abs=0.01)
    assert np.asarray(around_one(words, (2.0, 3.0))).min() >= 2


def test_noise_adds_its_deviation_and_spares_absent_channels():
    batch = make(2, (24, 24, 24), 3)
    batch["image"][..., 1] = 0
    batch["present"] = np.array([[True, False, True]] * 2)
    (width, _), image = run(noise(1.0, (0.05, 0.1)), batch)
    added = image - np.asarray(batch["image"])
    np.testing.assert_allclose(added.std((1, 2, 3)), width, rtol=0.03, atol=1e-7)
    assert (added[..., 1] == 0).all()
    assert (width[:, 0] > 0.05).all()
    assert abs(np.corrcoef(added[0, ..., 0].ravel(), added[0, ..., 2].ravel())[0, 1]) < 0.05


def test_brightness_multiplies():
    batch = make()
    factor, image = run(brightness(1.0), batch)
    np.testing.assert_allclose(image, batch["image"] * factor[:, None, None, None], rtol=1e-6)
    assert len(np.unique(factor)) == factor.size


def test_contrast_keeps_mean_and_range():
    batch = make()
    factor, image = run(contrast(1.0), batch)
    old = np.asarray(batch["image"])
    assert (image.max((1, 2, 3)) <= old.max((1, 2, 3)) + 1e-6).all()
    assert (image.min((1, 2, 3)) >= old.min((1, 2, 3)) - 1e-6).all()
    mean = old.mean((1, 2, 3), keepdims=True)
    expected = (old - mean) * np.asarray(factor)[:, None, None, None] + mean
    low, high = old.min((1, 2, 3), keepdims=True), old.max((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(image, np.clip(expected, low, high), atol=1e-5)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_bends_and_keeps_mean_and_deviation(inverted):
    batch = make()
    exponent, image = run(gamma(1.0, inverted=inverted), batch)
    old = np.asarray(batch["image"], np.float64) * (-1 if inverted else 1)
    space = {"axis": (1, 2, 3), "keepdims": True}
    low, extent = old.min(**space), np.ptp(old, **space)
    bent = ((old - low) / extent) ** np.asarray(exponent)[:, None, None, None] * extent + low
    bent = (bent - bent.mean(**space)) / bent.std(**space) * old.std(**space) + old.mean(**space)
    np.testing.assert_allclose(image, bent * (-1 if inverted else 1), atol=2e-3)
    order = np.argsort(old[0, ..., 0].ravel() * (-1 if inverted else 1))
    assert (np.diff(image[0, ..., 0].ravel()[order]) >= -1e-5).all()  # monotone


def test_blur_and_low_resolution_choose_channels():
    batch = make(40, (8, 8, 8), 2)
    for transform in (blur(1.0), low_resolution(1.0)):
        _, image = run(transform, batch)
        changed = np.any(image != np.asarray(batch["image"]), axis=(1, 2, 3))
        assert 0.3 < changed.mean() < 0.7
        rough = [np.abs(np.diff(i, axis=1)).mean((1, 2, 3)) for i in (image, batch["image"])]
        assert (rough[0] <= rough[1] + 1e-6).all()


def test_low_resolution_spares_the_other_axes():
    batch = make(4, (6, 8, 8), 1)
    levels = np.arange(6, dtype=np.float32)[None, :, None, None, None]  # mixing slices would show
    batch["image"] = batch["image"][:, :1] + levels
    _, image = run(low_resolution(1.0, each=1.0, axes=(1, 2)), batch)
    np.testing.assert_allclose(image - levels, (image - levels)[:, :1] + 0 * image, atol=1e-5)
    assert np.abs(image - np.asarray(batch["image"])).max() > 0.1


@pytest.mark.parametrize(
    "transform", [contrast(1.0), gamma(1.0), gamma(1.0, inverted=True), blur(1.0)]
)
def test_constant_channels_stay(transform):
    run_one, draw = jax.jit(transform.run), transform.draw
    own = draw(jax.random.bits(KEY, (8, 2)), jnp.ones(2, bool))
    np.testing.assert_allclose(run_one(own, jnp.full((4, 5, 6, 2), 2.5)), 2.5, rtol=1e-5)


def test_only_leading_channels():
    batch = make(2, channels=3)
    _, image = run(brightness(1.0), batch, channels=2)
    np.testing.assert_array_equal(image[..., 2], batch["image"][..., 2])
    assert (image[..., :2] != np.asarray(batch["image"])[..., :2]).any((1, 2, 3)).all()
