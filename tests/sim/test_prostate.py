"""Prostate phantoms: the published means, what an image must show of its tissues, labels that fit."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.sim import prostate
from medjax.sim.prostate import SHAPE, SPACING, Cancers, Layer

COUNT = 24

# the rest of the tests compile without optimisation, where these patients take 18 s and not one
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 1})


@pytest.fixture(scope="module")
def patients():
    """Patients, stacked."""
    keys = jax.random.split(jax.random.key(0), COUNT)
    return jax.device_get(jit(lambda keys: jax.lax.map(prostate.draw, keys))(keys))


@pytest.fixture(scope="module")
def cancers():
    """The lesions of many patients, without their images."""
    everywhere = jnp.ones(SHAPE)

    def draw(key):
        return prostate._cancers(key, (everywhere, everywhere))

    keys = jax.random.split(jax.random.key(1), 600)
    return jax.device_get(jit(lambda keys: jax.lax.map(draw, keys))(keys))


def test_a_key_is_a_patient():
    draw = jax.jit(prostate.draw)
    one, again, other = (draw(jax.random.key(n)) for n in (3, 3, 4))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert (np.asarray(one.image) != np.asarray(other.image)).any()


def test_images_are_finite_and_magnitudes(patients):
    assert patients.image.shape == (COUNT, *SHAPE, 3)
    assert np.isfinite(patients.image).all()
    assert (patients.image >= 0).all()
    assert (patients.image[..., 1] <= prostate.MOST_ADC).all()


def test_the_adc_of_significant_and_insignificant_cancers_is_as_published(cancers):
    """0.86 [0.83, 0.90] and 1.1 [1.03, 1.18] um2/ms over 1633 lesions, 66 % of them significant."""
    adc, hit = cancers.adc[cancers.there], cancers.significant[cancers.there]
    assert adc[hit].mean() == pytest.approx(0.87, abs=0.03)
    assert adc[~hit].mean() == pytest.approx(1.1, abs=0.05)
    assert hit.mean() == pytest.approx(0.66, abs=0.06)
    number = cancers.there.sum(axis=1)
    shares = np.bincount(number, minlength=4) / len(number)
    np.testing.assert_allclose(shares, prostate.NUMBER, atol=0.04)


def test_larger_cancers_are_more_often_significant(cancers):
    volume = cancers.radius[cancers.there].prod(axis=1)
    hit = cancers.significant[cancers.there]
    large = volume > np.median(volume)
    assert hit[large].mean() > hit[~large].mean() + 0.1


def test_the_map_measures_the_adc_of_the_tissues(patients):
    """In the gland, where noise is small; of lesions too, but for their edges."""
    for zone, adc in ((1, 1.478), (2, 1.68)):
        where = (patients.zones == zone) & (patients.lesions == 0)
        found = [image[..., 1][w].mean() for image, w in zip(patients.image, where, strict=True)]
        assert np.mean(found) == pytest.approx(adc, rel=0.1)
    pairs = []
    for number in range(prostate.LESIONS):
        for i in np.flatnonzero(patients.cancers.there[:, number]):
            where = patients.lesions[i] == number + 1
            if where.sum() > 100:
                measured = np.median(patients.image[i, ..., 1][where])
                pairs.append((patients.cancers.adc[i, number], measured))
    truth, measured = np.array(pairs).T
    assert len(pairs) >= 8
    assert np.corrcoef(truth, measured)[0, 1] > 0.7


def test_cancer_is_dark_on_the_map_and_bright_at_the_high_b_value(patients):
    ratios = []
    for image, zones, lesions in zip(patients.image, patients.zones, patients.lesions, strict=True):
        if (lesions > 0).sum() > 100:
            inside, rest = lesions > 0, (lesions == 0) & (zones > 0)
            ratios.append(image[inside].mean(axis=0) / image[rest].mean(axis=0))
    t2, adc, weighted = np.mean(ratios, axis=0)
    assert t2 < 0.95
    assert adc < 0.85
    assert weighted > 1.15


def test_zones_are_where_and_as_large_as_in_men(patients):
    ml = np.prod(SPACING) / 1000
    volume = (patients.zones > 0).sum(axis=(1, 2, 3)) * ml
    assert 25 < np.median(volume) < 60
    anterior = [
        np.argwhere(z == 1)[:, 1].mean() - np.argwhere(z == 2)[:, 1].mean() for z in patients.zones
    ]
    assert np.mean(anterior) > 1  # voxels
    assert not (patients.lesions[patients.zones == 0] > 0).any()


def test_labels_hold_the_lesions_that_somebody_drew(patients):
    one = jax.tree.map(lambda a: jnp.asarray(a[np.argmax(patients.cancers.there.sum(1))]), patients)
    known = jnp.array([True, False, False])
    label = np.asarray(prostate.label_map(one, known))
    np.testing.assert_array_equal(label == 3, np.asarray(one.lesions) == 1)
    rest = label != 3
    np.testing.assert_array_equal(label[rest], np.asarray(one.zones)[rest])


def test_the_class_is_of_lesions_that_are_there_and_known():
    three = jnp.zeros((3, 3)), jnp.ones((3, 3)), jnp.ones(3), jnp.ones(3)
    there, hit = jnp.array([True, True, False]), jnp.array([False, True, True])
    cancers = Cancers(*three, there, hit)
    everyone = jnp.ones(3, bool)
    assert prostate.significant(cancers, everyone) == 1
    assert prostate.significant(cancers, jnp.array([True, False, True])) == 0


def test_signals_are_mixed_and_not_their_parameters():
    """A voxel half of fluid, half of muscle: between both signals, not the signal of the mean T2."""
    half = jnp.full(SHAPE, 0.5)
    layers = [Layer(jnp.ones(SHAPE), 1.0, 40.0, 1.4), Layer(half, 1.0, 600.0, 2.8)]
    scan = jax.jit(prostate._scan)(jax.random.key(0), layers, layers)
    expected = 0.5 * (np.exp(-100 / 40) + np.exp(-100 / 600))
    assert float(scan[..., 0].mean()) == pytest.approx(expected, rel=0.03)
    low, high = (
        0.5 * (np.exp(-70 / 40 - b * 1.4) + np.exp(-70 / 600 - b * 2.8)) for b in prostate.B[:2]
    )
    adc = np.log(low / high) / (prostate.B[1] - prostate.B[0])
    assert float(scan[..., 1].mean()) == pytest.approx(adc, rel=0.05)
