import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.augment import default, scanner
from medjax.data.plan import Plan
from medjax.errors import UserError
from medjax.modes import build
from medjax.modes.defaults import defaults

KEY = jax.random.key(2)
SHAPE, SPACING = (6, 9, 8), (2.0, 1.0, 1.0)
NAMES = ("motion", "ghosting", "spikes", "gibbs", "undersampling", "thick_slices")
NONE = len(NAMES)


def make(count=10, shape=SHAPE, channels=3):
    """Images of mean 0, so no magnitudes."""
    image = np.random.default_rng(3).normal(size=(count, *shape, channels)).astype(np.float32)
    return {
        "image": image,
        "label": (image[..., 0] > 0).astype(np.int32),
        "index": np.arange(count, dtype=np.int32) + 40,
    }


@pytest.fixture(scope="module")
def stage():
    """All faults alike in nine of ten channels, and the compiled stage."""
    augment = scanner(SPACING, **dict.fromkeys(NAMES, 0.15))

    @jax.jit
    def run(key, batch):
        parameters = augment.sample(key, batch)
        return parameters, augment.apply(parameters, batch)

    return run


def test_faults_change_their_channels_and_nothing_else(stage):
    batch = make()
    parameters, result = jax.device_get(stage(KEY, batch))
    fault = parameters["fault"]
    assert set(np.unique(fault)) == {*range(NONE), NONE}
    assert result["image"].shape == batch["image"].shape
    assert result["image"].dtype == np.float32
    assert np.isfinite(result["image"]).all()
    changed = (result["image"] != batch["image"]).any((1, 2, 3))
    np.testing.assert_array_equal(changed, fault < NONE)
    np.testing.assert_array_equal(result["label"], batch["label"])
    low, scale = batch["image"].min((1, 2, 3)), batch["image"].std((1, 2, 3))
    assert (result["image"].min((1, 2, 3)) >= low - 1e-5).all()
    means = [array.mean((1, 2, 3)) for array in (result["image"], batch["image"])]
    assert (np.abs(means[0] - means[1]) < 0.7 * scale).all()


def test_the_index_and_the_key_alone_decide(stage):
    batch = make()
    _, result = jax.device_get(stage(KEY, batch))
    np.testing.assert_array_equal(stage(KEY, batch)[1]["image"], result["image"])
    assert (np.asarray(stage(jax.random.key(1), batch)[1]["image"]) != result["image"]).any()
    order = np.random.default_rng(0).permutation(10)
    permuted = stage(KEY, jax.tree.map(lambda array: array[order], batch))[1]
    np.testing.assert_array_equal(permuted["image"], result["image"][order])
    assert stage._cache_size() == 1


def test_an_offset_passes_through(stage):
    """What counts as air is the darkest voxel, whatever its value."""
    batch = make()
    _, result = stage(KEY, batch)
    _, shifted = stage(KEY, {**batch, "image": batch["image"] + 8})
    np.testing.assert_allclose(shifted["image"] - 8, result["image"], atol=2e-4)


def test_probabilities_are_met_and_channels_draw_apart():
    chances = (0.05, 0.1, 0.15, 0.0, 0.2, 0.1)
    augment = scanner(SPACING, **dict(zip(NAMES, chances, strict=True)))
    batch = {"image": jnp.zeros((6000, 1, 1, 1, 2)), "index": jnp.arange(6000)}
    parameters = jax.jit(augment.sample)(KEY, batch)
    fault = np.asarray(parameters["fault"])
    shares = [np.mean(fault == n) for n in range(6)]  # numbered without the one that never comes
    np.testing.assert_allclose(shares, (0.05, 0.1, 0.15, 0.2, 0.1, 0.4), atol=0.015)
    none = (fault == 5).mean(0)
    assert ((fault == 5).all(1)).mean() == pytest.approx(none.prod(), abs=0.02)


def test_every_axis_has_its_turn():
    augment = scanner(SPACING, thick_slices=1.0)
    run = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b)["image"])
    batch = make(60, channels=1)
    changed = []
    for axis in range(3):  # slices across an axis along which nothing varies change nothing
        line = np.moveaxis(batch["image"], axis + 1, 1)[:, :, :1, :1]
        image = np.broadcast_to(np.moveaxis(line, 1, axis + 1), batch["image"].shape)
        changed.append(np.abs(run({**batch, "image": image}) - image).max((1, 2, 3, 4)) > 1e-3)
    assert (np.sum(changed, 0) == 1).mean() > 0.9  # slices hardly thicker than voxels show less
    assert (np.mean(changed, 1) > 0.2).all()


def test_absent_and_further_channels_stay():
    augment = scanner(SPACING, thick_slices=1.0, channels=2)
    batch = make(4)
    batch["present"] = np.array([[True, False, True], [True] * 3] * 2)
    result = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b))(batch)
    changed = (np.asarray(result["image"]) != batch["image"]).any((1, 2, 3))
    np.testing.assert_array_equal(changed, [[True, False, False], [True, True, False]] * 2)


def test_the_darkest_constant_stays():
    """Absent contrasts are 0 throughout: no fault may light them up."""
    augment = scanner(SPACING, ghosting=0.5, spikes=0.5)
    batch = make(6, channels=1)
    batch["image"][:] = -1.5
    result = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b))(batch)
    np.testing.assert_array_equal(result["image"], batch["image"])


def test_slices_have_faults_in_their_plane():
    augment = scanner((1.0, 0.5, 0.5), **dict.fromkeys(NAMES, 1 / 6))
    batch = make(30, (1, 10, 12), 1)
    parameters, image = jax.jit(
        lambda b: (p := augment.sample(KEY, b), augment.apply(p, b)["image"])
    )(batch)
    assert bool(jnp.isfinite(image).all())
    assert set(np.unique(parameters["fault"])) == set(range(NONE))
    assert (np.asarray(image) != batch["image"]).any((1, 2, 3, 4)).all()


def test_without_faults_the_batch_passes():
    augment = scanner(SPACING)
    batch = make()
    assert augment.apply(jax.eval_shape(augment.sample, KEY, batch), batch) is batch
    features = jnp.ones((2, *SHAPE, 4))
    assert augment.invert((), features) is features


@pytest.mark.parametrize("chances", [{"motion": -0.1}, {"motion": 0.6, "gibbs": 0.6}])
def test_impossible_probabilities(chances):
    with pytest.raises(UserError, match="scanner"):
        scanner(SPACING, **chances)


def test_the_config_switches_it_on():
    config = defaults("any")
    assert config.augment.scanner == 0
    plan = Plan(
        dimensions=3,
        spacing=SPACING,
        axes=(0, 1, 2),
        coarse_axis=None,
        channels=("T1",),
        normalisation=({"scheme": "zscore"},),
        convention={},
        patch=SHAPE,
        batch=2,
        strides=((1, 1, 1),),
        kernels=((3, 3, 3),),
        widths=(8,),
        step_gb=0.1,
        case_gb=0.1,
        largest_gb=0.1,
        assumed={},
    )
    batch = make(2)
    off, _ = build.augmentation(config, plan)
    assert len(jax.eval_shape(off.sample, KEY, batch)) == 2  # moves and intensities
    with config.unlocked():
        config.augment.scanner = 1.0
    on, motion = build.augmentation(config, plan)
    assert motion is not None  # as without
    faults = jax.jit(lambda b: on.sample(KEY, b)[1]["fault"])(batch)
    assert bool((faults < NONE).all())
    none, _ = default(SHAPE, SPACING, strength=0.0, probability_scanner=1.0)
    assert len(jax.eval_shape(none.sample, KEY, batch)) == 2  # strength is a factor of this one too
