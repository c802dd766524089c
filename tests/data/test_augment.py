"""What every augmentation keeps, from one table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from medjax.data.augment import Motion, chain, default, intensity, margin, spatial
from medjax.data.augment.intensity import (
    blur,
    brightness,
    contrast,
    gamma,
    low_resolution,
    noise,
)

KEY = jax.random.key(0)
PATCH, CROP, SPACING = (8, 10, 12), (12, 14, 16), (1.5, 1.0, 1.0)

ALWAYS = {"probability_rotation": 1.0, "probability_scale": 1.0, "probability_elastic": 1.0}
MOVES = {
    "spatial": spatial(PATCH, SPACING, elastic=(2.0, 6.0), shear=0.1, translation=1.0, **ALWAYS),
    "planar": spatial(PATCH, SPACING, planar=True, elastic=(2.0, 6.0), **ALWAYS),
    "some": spatial(PATCH, SPACING, probability_rotation=0.5),
}
SHADES = {
    "noise": intensity(noise(1.0)),
    "blur": intensity(blur(1.0, each=1.0)),
    "brightness": intensity(brightness(1.0)),
    "contrast": intensity(contrast(1.0)),
    "low_resolution": intensity(low_resolution(1.0, each=1.0)),
    "gamma": intensity(gamma(1.0)),
    "gamma_inverted": intensity(gamma(1.0, inverted=True)),
}
ALL = MOVES | SHADES


def make(count=4, crop=CROP, channels=2):
    rng = np.random.default_rng(0)
    return {
        "image": rng.normal(size=(count, *crop, channels)).astype(np.float32),
        "label": rng.choice([0, 1, 3, 255], (count, *crop)).astype(np.int32),
        "index": np.array([90, 3, 41, 12, 7, 8, 9, 10][:count], np.int32),
        "case": np.arange(count, dtype=np.int32),
    }


def take(batch, order):
    return jax.tree.map(lambda array: array[np.asarray(order)], batch)


@pytest.mark.parametrize("name", ALL)
def test_every_augmentation(name):
    augment = ALL[name]

    @jax.jit
    def compiled(key, batch):
        return augment.apply(augment.sample(key, batch), batch)

    def step(key, batch):
        return jax.device_get(compiled(key, batch))

    batch = make()
    whole = step(KEY, batch)
    shape = PATCH if name in MOVES else CROP
    assert whole["image"].shape == (4, *shape, 2)
    assert whole["label"].shape == (4, *shape)
    assert whole.keys() == batch.keys()
    assert all(whole[key].dtype == batch[key].dtype for key in batch)
    assert bool(np.isfinite(whole["image"]).all())
    assert set(np.unique(whole["label"])) <= {0, 1, 3, 255}
    start = [(c - s) // 2 for c, s in zip(CROP, shape, strict=True)]
    middle = batch["image"][:, *(slice(a, a + s) for a, s in zip(start, shape, strict=True))]
    assert (np.asarray(whole["image"]) != np.asarray(middle)).any((1, 2, 3, 4)).all()

    # the index alone decides: order and batch do not
    permuted = step(KEY, take(batch, [2, 0, 3, 1]))
    np.testing.assert_array_equal(permuted["image"], whole["image"][np.array([2, 0, 3, 1])])
    np.testing.assert_array_equal(permuted["label"], whole["label"][np.array([2, 0, 3, 1])])
    assert compiled._cache_size() == 1  # no second compilation
    for half in ([0, 1], [2, 3]):
        part = step(KEY, take(batch, half))
        np.testing.assert_array_equal(part["image"], whole["image"][np.asarray(half)])
        np.testing.assert_array_equal(part["label"], whole["label"][np.asarray(half)])

    again, other = step(KEY, batch), step(jax.random.key(1), batch)
    np.testing.assert_array_equal(again["image"], whole["image"])
    assert (np.asarray(other["image"]) != np.asarray(whole["image"])).any()


def test_probability_zero_is_the_identity():
    augment, motion = default(PATCH, SPACING, strength=0.0, flips=())
    assert motion is None
    batch = make(crop=PATCH)
    result = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b))(batch)
    for key in batch:
        np.testing.assert_array_equal(result[key], batch[key])


def test_undrawn_is_the_identity_too():
    """The branch not taken, as against the branch not built."""
    rare = 1e-12
    augment = intensity(noise(rare), low_resolution(rare), gamma(rare))
    batch = make()
    result = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b))(batch)
    np.testing.assert_array_equal(result["image"], batch["image"])


def test_the_empty_chain_is_the_identity():
    nothing = chain()
    batch = make()
    parameters = nothing.sample(KEY, batch)
    assert nothing.apply(parameters, batch) is batch
    image = jnp.asarray(batch["image"])
    assert nothing.move(parameters, image) is image
    assert nothing.invert(parameters, image) is image


def test_members_of_a_chain_draw_apart():
    twice = chain(intensity(brightness(1.0)), intensity(brightness(1.0)))
    first, second = jax.jit(twice.sample)(KEY, make())
    assert (np.asarray(first[0][1]) != np.asarray(second[0][1])).all()


def test_a_chain_inverts_in_reverse():
    patch, crop = (12, 12, 12), (16, 16, 16)
    turn = spatial(crop, (1.0,) * 3, probability_rotation=0.0, probability_scale=0.0)
    crop_and_flip = spatial(patch, (1.0,) * 3, probability_rotation=0.0, probability_scale=0.0)
    both = chain(turn, intensity(), chain(crop_and_flip))
    batch = make(crop=crop)
    parameters = jax.jit(both.sample)(KEY, batch)
    assert (np.asarray(parameters[0]["flip"]) != np.asarray(parameters[2][0]["flip"])).any()
    augmented = both.apply(parameters, batch)["image"]
    alone = crop_and_flip.invert(parameters[2][0], augmented)
    np.testing.assert_array_equal(
        alone, turn.apply(parameters[0], batch)["image"][:, 2:-2, 2:-2, 2:-2]
    )


@pytest.mark.long
def test_replicas_equal_one_device():
    """Under shard_map bit for bit, under vmap (another program) to rounding."""
    augment = chain(
        spatial(PATCH, SPACING, probability_rotation=0.5),
        intensity(noise(0.5), low_resolution(0.5), gamma(0.5)),
    )
    batch = make(8)

    def body(batch):
        return augment.apply(augment.sample(KEY, batch), batch)

    whole = jax.jit(body)(batch)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    mapped = jax.shard_map(body, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    split = jax.jit(mapped)(batch)
    np.testing.assert_array_equal(split["image"], whole["image"])
    np.testing.assert_array_equal(split["label"], whole["label"])

    stacked = jax.tree.map(lambda a: a.reshape(4, 2, *a.shape[1:]), batch)
    split = jax.jit(jax.vmap(body))(stacked)
    split = jax.tree.map(lambda a: a.reshape(8, *a.shape[2:]), split)
    np.testing.assert_allclose(split["image"], whole["image"], atol=1e-4)
    np.testing.assert_array_equal(split["label"], whole["label"])


def test_the_default_chain_at_full_strength():
    augment, motion = default(PATCH, SPACING, 1, strength=10.0)
    assert motion == Motion(margin(PATCH, SPACING), (1.0, 1.0, 0.0))
    batch = make(2, motion.crop)
    result = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b))(batch)
    assert result["image"].shape == (2, *PATCH, 2)
    assert bool(np.isfinite(result["image"]).all())
    # the second channel is only moved: its values stay in the range of what was there
    assert float(result["image"][..., 1].max()) <= float(batch["image"][..., 1].max())


@pytest.mark.long
def test_crops_are_needed_only_for_samples_that_move():
    """What the loader leaves out changes nothing."""
    augment, motion = default(PATCH, SPACING, elastic=(1.0, 8.0))
    assert motion is not None
    batch = make(4, motion.crop)
    batch["moves"] = jnp.array(
        [[False] * 3, [True, False, False], [False] * 3, [False, True, True]]
    )
    still = ~batch["moves"].any(axis=1)
    middle = tuple(
        slice((n - p) // 2, (n + p) // 2) for n, p in zip(motion.crop, PATCH, strict=True)
    )
    both = {name: jnp.asarray(batch[name]) for name in ("image", "label")}
    lean = {
        **batch,
        **{name: array[:, *middle] for name, array in both.items()},
        "wide": {name: array.at[still].set(77) for name, array in both.items()},
    }
    run = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b))
    whole, found = run(batch), run(lean)
    assert set(found) == {"image", "label", "index", "case"}
    for name in found:
        np.testing.assert_array_equal(found[name], whole[name])
    del lean["moves"]
    with pytest.raises(ValueError, match="moves must say"):
        augment.sample(KEY, lean)


def test_two_dimensional_patches():
    only = dict.fromkeys(["brightness", "contrast", "gamma", "gamma_inverted"], 0.0)
    options = {f"probability_{name}": chance for name, chance in only.items()}
    augment, motion = default((1, 16, 16), (1.0, 0.5, 0.5), strength=5.0, **options)
    assert motion is not None
    assert motion.crop[0] == 1
    batch = make(crop=motion.crop)
    result = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b))(batch)
    assert result["image"].shape == (4, 1, 16, 16, 2)
    assert bool(np.isfinite(result["image"]).all())


def test_real_scan_keeps_its_labels(shared):
    import nibabel

    folder = shared / "Task04_Hippocampus"
    name = min(path.name for path in (folder / "labelsTr").glob("hippo*.nii.gz"))
    image = nibabel.load(folder / "imagesTr" / name).get_fdata(dtype=np.float32)
    label = np.asarray(nibabel.load(folder / "labelsTr" / name).dataobj).astype(np.int32)
    patch = (24, 32, 24)
    augment, crop = spatial(patch, (1.0,) * 3, **ALWAYS), margin(patch, (1.0,) * 3)
    pad = [((c - n + 1) // 2 if c > n else 0,) * 2 for c, n in zip(crop, image.shape, strict=True)]
    image = np.pad((image - image.mean()) / image.std(), pad)[: crop[0], : crop[1], : crop[2]]
    label = np.pad(label, pad)[: crop[0], : crop[1], : crop[2]]
    batch = {
        "image": jnp.tile(jnp.asarray(image)[None, ..., None], (2, 1, 1, 1, 1)),
        "label": jnp.tile(jnp.asarray(label)[None], (2, 1, 1, 1)),
        "index": jnp.arange(2, dtype=jnp.int32),
    }
    result = jax.jit(lambda b: augment.apply(augment.sample(KEY, b), b))(batch)
    assert result["image"].shape == (2, *patch, 1)
    assert bool(np.isfinite(result["image"]).all())
    assert set(np.unique(result["label"])) == {0, 1, 2}


@pytest.mark.parametrize("options", [{}, {"elastic": (2.0, 6.0), "translation": 1.0}])
def test_what_moves_as_the_image_did_lies_where_the_image_does(options):
    move = spatial(PATCH, SPACING, shear=0.1, **options, **ALWAYS)
    augment = chain(move, SHADES["brightness"])
    batch = make()
    middle = batch["image"][:, 2:-2, 2:-2, 2:-2]
    inside = np.concatenate([middle, np.ones_like(middle[..., :1])], -1)
    parameters = jax.jit(augment.sample)(KEY, batch)
    whole = jax.jit(move.apply)(parameters[0], batch)
    moved = np.asarray(jax.jit(augment.move)(parameters, inside))
    seen = moved[..., 2] > 1 - 1e-6
    assert 0.3 < seen.mean() < 1
    np.testing.assert_allclose(moved[..., :2][seen], np.asarray(whole["image"])[seen], atol=1e-5)
