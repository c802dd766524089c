import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data.augment import is_planar, margin, spatial
from medjax.data.convention import IGNORE
from medjax.errors import UserError

PATCH, SPACING = (16, 18, 20), (1.0, 1.0, 1.0)
KEY = jax.random.key(3)
ALWAYS = {"probability_rotation": 1.0, "probability_scale": 1.0, "probability_elastic": 1.0}


def make(crop, count=3, seed=0, spacing=SPACING, channels=2):
    """Smooth images, the label a threshold of the first channel."""
    rng = np.random.default_rng(seed)
    grid = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(crop, spacing, strict=True)]
    z, y, x = np.meshgrid(*grid, indexing="ij")
    images = []
    for _ in range(count):
        a, b, c = rng.uniform(3.5, 6.0, 3)
        blob = np.exp(-((z / a) ** 2 + (y / b) ** 2 + ((x - 1) / c) ** 2) / 2)
        images.append(np.stack([blob * (1 - 0.2 * k) for k in range(channels)], -1))
    image = np.array(images, np.float32)
    return {
        "image": image,
        "label": (image[..., 0] > 0.4).astype(np.int32) * 2,
        "index": np.arange(5, 5 + count, dtype=np.int32),
    }


def centre(array, patch=PATCH):
    starts = [(n - p) // 2 for n, p in zip(array.shape[1:4], patch, strict=True)]
    return array[:, *(slice(s, s + p) for s, p in zip(starts, patch, strict=True))]


def augmented(move, batch):
    """Parameters and augmented batch by one compiled function."""

    @jax.jit
    def both(batch):
        parameters = jax.jit(move.sample)(KEY, batch)
        return parameters, move.apply(parameters, batch)

    return jax.device_get(both(batch))


def dice(a, b):
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def still(count):
    """Parameters that move nothing but say that they are drawn."""
    return {
        "drawn": jnp.ones(count, bool),
        "flip": jnp.zeros((count, 3), bool),
        "matrix": jnp.tile(jnp.eye(3)[None], (count, 1, 1)),
        "shift": jnp.zeros((count, 3)),
    }


@pytest.mark.parametrize("spacing", [(2.7, 0.7, 0.9), (5.0, 0.7, 0.7)])
def test_identity_is_the_centre_crop_bit_for_bit(spacing):
    batch = make((21, 24, 28))  # also where the margin is odd
    batch["instances"] = batch["label"].astype(np.uint8)
    move = spatial(PATCH, spacing)
    result = jax.jit(move.apply)({**still(3), "drawn": jnp.asarray([True, False, True])}, batch)
    for name in ("image", "label", "instances"):
        np.testing.assert_array_equal(result[name], centre(batch[name]))
        assert result[name].dtype == batch[name].dtype
    np.testing.assert_array_equal(result["index"], batch["index"])


def test_flips_are_reversals_on_both_paths():
    batch = make((20, 20, 24))
    flip = jnp.asarray([[True, False, False], [False, True, True], [True, True, True]])
    move = spatial(PATCH, SPACING)
    apply, invert = jax.jit(move.apply), jax.jit(move.invert)
    for drawn in (True, False):
        parameters = {**still(3), "flip": flip, "drawn": jnp.full(3, drawn)}
        result = apply(parameters, batch)
        for i in range(3):
            axes = [a for a in range(3) if flip[i, a]]
            for name in ("image", "label"):
                expected = np.flip(centre(batch[name])[i], axes)
                np.testing.assert_array_equal(result[name][i], expected)
        back = invert(parameters, result["image"])
        np.testing.assert_array_equal(back, centre(batch["image"]))


def test_translation_is_in_mm_and_exact_for_whole_voxels():
    batch = make((24, 26, 28))
    shift = jnp.tile(jnp.asarray([[4.0, -1.0, 1.0]]), (3, 1))
    move = spatial(PATCH, (2.0, 0.5, 1.0))
    result = jax.jit(move.apply)({**still(3), "shift": shift}, batch)
    expected = np.roll(batch["image"], (-2, 2, -1), (1, 2, 3))
    np.testing.assert_array_equal(result["image"], centre(expected))


def test_quarter_turns():
    batch = make((20, 20, 20))
    turn = jnp.tile(jnp.asarray([[[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]]), (3, 1, 1))
    move = spatial((16, 16, 16), SPACING)
    result = jax.jit(move.apply)({**still(3), "matrix": turn}, batch)
    for name in ("image", "label"):
        expected = np.rot90(centre(batch[name], (16, 16, 16)), -1, axes=(2, 3))
        np.testing.assert_array_equal(result[name], expected)


def test_a_ball_in_mm_stays_a_ball():
    spacing, patch = (2.0, 0.8, 1.0), (15, 31, 27)
    crop = margin(patch, spacing)
    grid = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(crop, spacing, strict=True)]
    z, y, x = np.meshgrid(*grid, indexing="ij")
    ball = np.exp(-((z**2 + y**2 + x**2) / (2 * 5.0**2)))
    batch = make(crop, 6)
    batch["image"] = np.tile(ball[None, ..., None], (6, 1, 1, 1, 1)).astype(np.float32)
    batch["label"] = (batch["image"][..., 0] > 0.5).astype(np.int32)
    move = spatial(patch, spacing, probability_rotation=1.0, probability_scale=0.0)
    parameters, result = augmented(move, batch)
    assert bool(parameters["drawn"].all())
    np.testing.assert_allclose(result["image"], centre(batch["image"], patch), atol=0.06)
    for i in range(6):
        matrix = np.asarray(parameters["matrix"][i])
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-5)
        assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-5)
        angle = np.degrees(np.arccos((np.trace(matrix) - 1) / 2))
        assert 1 < angle < 60
        assert dice(result["label"][i] > 0, centre(batch["label"], patch)[i] > 0) > 0.9


def test_scale_is_the_magnification():
    batch = make(margin(PATCH, SPACING, scale=(1.3, 1.3)))
    move = spatial(
        PATCH, SPACING, scale=(1.3, 1.3), probability_rotation=0.0, probability_scale=1.0
    )
    _, result = augmented(move, batch)
    grown = (result["label"] > 0).sum((1, 2, 3)) / (batch["label"] > 0).sum((1, 2, 3))
    np.testing.assert_allclose(grown, 1.3**3, rtol=0.12)


def test_image_and_label_move_together_and_come_back():
    patch = (24, 24, 24)
    options = {"scale": (0.9, 1.2), "shear": 0.1, "translation": 1.0}
    options["elastic"] = (3.0, 9.0)
    crop = margin(patch, SPACING, **options)
    batch = make(crop, 4)
    move = spatial(patch, SPACING, **options, **ALWAYS)
    parameters, result = augmented(move, batch)
    original = centre(batch["image"], patch)
    assert set(np.unique(result["label"])) == {0, 2}
    assert float(np.abs(result["image"] - original).max()) > 0.1
    back = jax.device_get(jax.jit(move.invert)(parameters, result["image"]))
    inner = (slice(None), slice(6, -6), slice(6, -6), slice(6, -6))
    assert float(np.abs(back - original)[inner].mean()) < 0.01
    assert float(np.abs(back - original)[inner].max()) < 0.06
    for i in range(4):
        assert dice(result["image"][i, ..., 0] > 0.4, result["label"][i] > 0) > 0.9  # 5 voxels
        assert dice(back[inner][i, ..., 0] > 0.4, original[inner][i, ..., 0] > 0.4) > 0.97


def test_large_blob_dice_of_image_and_label():
    patch = (56, 56, 56)  # nearest labels are off by a quarter voxel on average: a large surface
    options = {"scale": (0.95, 1.2), "elastic": (3.0, 12.0)}
    crop = margin(patch, SPACING, **options)
    grid = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in crop], indexing="ij"), -1)
    blob = np.exp(-((grid / (24, 22, 26)) ** 2).sum(-1) / 2)
    image = np.tile(blob[None, ..., None], (3, 1, 1, 1, 1)).astype(np.float32)
    batch = {
        "image": image,
        "label": (image[..., 0] > 0.5).astype(np.int32),
        "index": jnp.arange(3, dtype=jnp.int32),
    }
    move = spatial(patch, SPACING, **options, **ALWAYS)
    _, result = augmented(move, batch)
    for i in range(3):
        assert dice(result["image"][i, ..., 0] > 0.5, result["label"][i] > 0) > 0.98


def test_elastic_alone_moves_no_further_than_its_bound():
    patch = (20, 20, 20)
    ramp = jnp.arange(30, dtype=jnp.float32)
    axes = jnp.meshgrid(ramp, ramp, ramp, indexing="ij")
    batch = {"image": jnp.stack(axes, -1)[None], "index": jnp.zeros(1, jnp.int32)}
    options = {"probability_rotation": 0.0, "probability_scale": 0.0, "probability_elastic": 1.0}
    move = spatial(patch, (1.0, 2.0, 1.0), elastic=(3.0, 8.0), flips=(), **options)
    _, result = augmented(move, batch)
    step = np.asarray(result["image"] - centre(batch["image"], patch))[0] * (1.0, 2.0, 1.0)
    assert 0.2 < np.abs(step).max() <= 3.0
    for axis in range(3):  # no fold: places keep their order along each axis
        assert (np.diff(np.asarray(result["image"])[0, ..., axis], axis=axis) > 0).all()


def test_planar_leaves_slices_apart():
    spacing, patch = (5.0, 1.0, 1.0), (4, 20, 20)
    assert is_planar(patch, spacing)
    assert not is_planar((20, 20, 20), (2.0, 1.0, 1.0))
    assert is_planar((1, 20, 20), (1.0, 1.0, 1.0))
    crop = margin(patch, spacing, elastic=(2.0, 8.0))
    assert crop[0] == 4
    assert crop[1] > 28
    batch = make(crop, 2, channels=1)
    level = np.broadcast_to(np.arange(4.0)[:, None, None, None], (4, *crop[1:], 1))
    batch["image"] = np.concatenate(
        [batch["image"], np.stack([level, level])], -1, dtype=np.float32
    )
    move = spatial(patch, spacing, elastic=(2.0, 8.0), flips=(), **ALWAYS)
    parameters, result = augmented(move, batch)
    inner = result["image"][:, :, 6:-6, 6:-6, 1:]
    np.testing.assert_allclose(inner, np.broadcast_to(level[:, :1, :1], inner.shape), atol=1e-5)
    back = jax.device_get(jax.jit(move.invert)(parameters, result["image"]))
    error = np.abs(back - centre(batch["image"], patch))[:, :, 5:-5, 5:-5, 0]
    assert float(error.max()) < 0.06
    assert float(np.abs(result["image"] - centre(batch["image"], patch))[..., 0].max()) > 0.1


def test_margin_holds_every_draw():
    """With scale at most 1 / cap, a full crop of ones has no zero left in the patch."""
    options = {"scale": (0.85, 1.4), "translation": 1.5, "elastic": (2.0, 8.0)}
    rotations = {"rotation": (25.0, 0.0, 0.0)}
    crop = margin(PATCH, (1.0, 1.5, 1.0), **options, **rotations)
    assert all((c - p) % 2 == 0 for c, p in zip(crop, PATCH, strict=True))
    move = spatial(PATCH, (1.0, 1.5, 1.0), **options, **rotations, **ALWAYS)
    count = 24
    batch = {"image": jnp.ones((count, *crop, 1)), "index": jnp.arange(count, dtype=jnp.int32)}
    _, result = augmented(move, batch)
    np.testing.assert_allclose(result["image"], 1, atol=1e-5)


@pytest.mark.parametrize("name", ["label", "instances"])
def test_what_nobody_labelled_stays_unknown_where_it_is_shrunk_beyond_the_crop(name):
    """Of a labelled case the outside is background."""
    batch = make(PATCH, 2)
    known = batch.pop("label")
    batch[name] = jnp.asarray(np.where(np.arange(2).reshape(2, 1, 1, 1), known, IGNORE), jnp.uint8)
    move = spatial(PATCH, SPACING, scale=(0.5, 0.5), **ALWAYS)
    _, result = augmented(move, batch)
    assert (result["image"] == 0).mean() > 0.5
    assert (result[name][0] == IGNORE).all()
    assert set(np.unique(result[name][1])) == {0, 2}


def test_no_motion_needs_no_margin():
    assert margin(PATCH, SPACING, rotation=0.0, scale=(1.0, 1.0)) == PATCH
    assert margin((96,) * 3, SPACING) == (156,) * 3


def test_probabilities_are_met():
    batch = {"image": jnp.zeros((4000, 2, 2, 2, 1)), "index": jnp.arange(4000, dtype=jnp.int32)}
    move = spatial((2, 2, 2), SPACING, rotation=30.0, flips=(0, 2))
    parameters = jax.jit(move.sample)(KEY, batch)
    flips = np.asarray(parameters["flip"].mean(0))
    np.testing.assert_allclose(flips, (0.5, 0, 0.5), atol=0.03)
    assert float(parameters["drawn"].mean()) == pytest.approx(1 - 0.8**2, abs=0.03)
    size = 1 / np.cbrt(np.linalg.det(np.asarray(parameters["matrix"])))
    assert (np.abs(size - 1) > 1e-4).mean() == pytest.approx(0.2, abs=0.03)
    assert size.min() == pytest.approx(0.7, abs=0.01)
    assert size.max() == pytest.approx(1.4, abs=0.01)


def test_invert_is_differentiable():
    batch = make(margin(PATCH, SPACING), 2)
    move = spatial(PATCH, SPACING, **ALWAYS)
    parameters = jax.jit(move.sample)(KEY, batch)
    features = jnp.ones((2, *PATCH, 1))
    gradient = jax.jit(jax.grad(lambda f: jnp.square(move.invert(parameters, f)).sum()))(features)
    assert bool(jnp.isfinite(gradient).all())
    assert float(jnp.abs(gradient).sum()) > 0


def test_bad_input_is_told():
    with pytest.raises(UserError, match="elastic"):
        spatial(PATCH, SPACING, elastic=(5.0, 10.0))
    with pytest.raises(UserError, match="smaller than the patch"):
        spatial(PATCH, SPACING).apply(still(3), make((10, 20, 20)))
