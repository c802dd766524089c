from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from medjax.infer.sliding import sliding_window
from medjax.space.tiling import gaussian_importance, window_starts

identity = jax.jit(lambda x: x)


def picture(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def ramp(patch):
    """A different factor for every voxel of a patch: the output depends on where a window lies."""
    return np.arange(1, np.prod(patch) + 1, dtype=np.float32).reshape(*patch, 1) / np.prod(patch)


def positional(patch, xp=jnp):
    """Depends on the position in the patch, mixes voxels and channels, and is not symmetric."""
    factor = ramp(patch)[None]

    def forward(x):
        shifted = xp.roll(x, (1, 2), axis=(2, 3))
        first, last = x[..., :1] * factor, shifted[..., -1:] - factor
        return xp.concatenate([first, last, first * last], -1)

    return forward


def slow(forward, image, patch, overlap, axes):
    """One window and one flip at a time, in float64, voxel sums written out."""
    pads = [
        (max(p - n, 0) // 2, max(p - n, 0) - max(p - n, 0) // 2)
        for p, n in zip(patch, image.shape, strict=False)
    ]
    padded = np.pad(image, [*pads, (0, 0)])
    importance = gaussian_importance(patch).astype(np.float64)[..., None]
    total, weight = np.zeros(1), np.zeros(1)
    for d, h, w in window_starts(padded.shape[:3], patch, overlap):
        place = (slice(d, d + patch[0]), slice(h, h + patch[1]), slice(w, w + patch[2]))
        outputs = []
        for chosen in product(*[(False, True)] * len(axes)):
            flips = tuple(a for a, used in zip(axes, chosen, strict=True) if used)
            output = forward(np.flip(padded[place], flips)[None])[0]
            outputs.append(np.flip(output.astype(np.float64), flips))
        canvas = np.zeros((*padded.shape[:3], outputs[0].shape[-1]))
        canvas[place] = np.mean(outputs, 0) * importance
        total = total + canvas
        canvas = np.zeros((*padded.shape[:3], 1))
        canvas[place] = importance
        weight = weight + canvas
    inside = tuple(slice(b, b + n) for (b, _), n in zip(pads, image.shape, strict=False))
    return (total / weight)[inside]


SHAPES = [
    ((9, 11, 13), (4, 5, 6)),  # odd, nothing divides
    ((8, 8, 8), (4, 4, 4)),
    ((5, 6, 7), (5, 6, 7)),  # one window
    ((3, 9, 2), (4, 4, 5)),  # smaller than the patch on two axes
    ((2, 3, 3), (4, 4, 4)),  # on all
    ((1, 17, 12), (1, 8, 8)),  # a picture
]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_the_sliding_window_of_the_identity_is_the_identity(shape, patch, overlap):
    image = picture(*shape, 2)
    for axes in ((), (0, 2)):
        output = sliding_window(identity, image, patch, overlap=overlap, mirror_axes=axes)
        assert output.dtype == np.float32
        assert output.flags.c_contiguous
        np.testing.assert_allclose(output, image, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axes", [(1,), (2, 0)])
@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_equals_the_slow_form(shape, patch, axes):
    image = picture(*shape, 2)
    output = sliding_window(
        jax.jit(positional(patch)), image, patch, overlap=0.4, tiles=3, mirror_axes=axes
    )
    assert output.shape == (*shape, 3)
    expected = slow(positional(patch, np), image, patch, 0.4, axes)
    np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-5)


def test_mirroring_is_the_mean_over_flips_of_the_image():
    """With one window: the forward of every flipped image, flipped back, averaged."""
    patch = (4, 5, 6)
    image = picture(*patch, 1)
    forward = jax.jit(positional(patch))
    flips = [(), (0,), (2,), (0, 2)]
    plain = [
        np.flip(sliding_window(forward, np.flip(image, axes).copy(), patch, tiles=1), axes)
        for axes in flips
    ]
    output = sliding_window(forward, image, patch, tiles=1, mirror_axes=(0, 2))
    np.testing.assert_allclose(output, np.mean(plain, 0), rtol=1e-5, atol=1e-6)
    assert np.abs(output - plain[0]).max() > 0.01


def test_the_result_does_not_depend_on_the_number_of_tiles():
    image, patch = picture(9, 7, 8, 1), (4, 4, 4)
    forward = jax.jit(positional(patch))
    one, *others = (
        sliding_window(forward, image, patch, tiles=n, mirror_axes=(1,)) for n in (1, 4, 50)
    )
    for other in others:
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)


def test_one_compilation_serves_all_images_and_mirrorings():
    traced = []

    @jax.jit
    def forward(x):
        traced.append(x.shape)
        return x * 2

    for shape in ((9, 10, 11), (5, 20, 6), (2, 2, 2), (4, 4, 4)):
        for axes in ((), (0, 1, 2)):
            sliding_window(forward, picture(*shape, 1), (4, 4, 4), tiles=3, mirror_axes=axes)
    assert traced == [(3, 4, 4, 4, 1)]


def test_a_picture_is_not_mirrored_along_its_missing_axis():
    calls = []

    def forward(x):
        calls.append(x.shape)
        return x

    sliding_window(forward, picture(1, 8, 8, 1), (1, 8, 8), tiles=1, mirror_axes=(0, 1, 2))
    assert len(calls) == 4


def test_a_constant_stays_what_it_is():
    constant = jax.jit(lambda x: jnp.full((*x.shape[:4], 2), jnp.array([0.25, 0.75])))
    output = sliding_window(constant, picture(9, 7, 3, 1), (4, 4, 4), mirror_axes=(0,))
    np.testing.assert_allclose(output, np.broadcast_to([0.25, 0.75], (9, 7, 3, 2)), rtol=1e-6)


def test_probabilities_stay_probabilities():
    forward = jax.jit(lambda x: jax.nn.softmax(positional((4, 4, 4))(x)))
    output = sliding_window(forward, picture(9, 7, 6, 2), (4, 4, 4))
    assert output.min() >= 0
    np.testing.assert_allclose(output.sum(-1), 1, rtol=1e-5)


def test_half_precision_outputs_are_summed_in_float32():
    forward = jax.jit(lambda x: x.astype(jnp.bfloat16))
    image = picture(7, 7, 7, 1)
    expected = np.asarray(jnp.asarray(image).astype(jnp.bfloat16).astype(jnp.float32))
    for axes in ((), (1,)):
        output = sliding_window(forward, image, (4, 4, 4), mirror_axes=axes)
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_output_that_is_not_finite_stops_with_its_place(bad):
    """The padding is 1 before: the window that starts at -1 is the first that holds the voxel."""
    image = np.zeros((2, 12, 12, 1), np.float32)
    image[1, 9, 2] = bad
    with pytest.raises(FloatingPointError, match=r"\(-1, 8, 0\)"):
        sliding_window(identity, image, (4, 4, 4), overlap=0.0)


def test_windows_that_only_fill_the_batch_are_not_counted_twice():
    """Five windows in batches of 4: the last is repeated three times and counts once."""
    patch = (2, 2, 2)
    image = picture(2, 2, 6, 1)
    output = sliding_window(jax.jit(positional(patch)), image, patch, overlap=0.5, tiles=4)
    expected = slow(positional(patch, np), image, patch, 0.5, ())
    assert len(window_starts((2, 2, 6), patch, 0.5)) == 5
    np.testing.assert_allclose(output, expected, rtol=1e-5, atol=1e-6)


def test_the_image_is_left_as_it_was():
    image = picture(5, 5, 5, 1)
    before = image.copy()
    image.flags.writeable = False  # as a memory-mapped case is
    sliding_window(jax.jit(lambda x: x * 0), image, (4, 4, 4), mirror_axes=(0, 1))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("forward", "patch", "options", "message"),
    [
        (identity, (4, 4), {}, "patch"),
        (identity, (4, 0, 4), {}, "patch"),
        (identity, (4, 4, 4), {"overlap": 1.0}, "overlap"),
        (identity, (4, 4, 4), {"tiles": 0}, "tiles"),
        (identity, (4, 4, 4), {"mirror_axes": (3,)}, "mirror_axes"),
        (identity, (4, 4, 4), {"mirror_axes": (1, 1)}, "mirror_axes"),
        (jax.jit(lambda x: x[:, :2]), (4, 4, 4), {}, "not the same windows"),
        (jax.jit(lambda x: x[..., 0]), (4, 4, 4), {}, "not the same windows"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(forward, patch, options, message):
    with pytest.raises(ValueError, match=message):
        sliding_window(forward, picture(6, 6, 6, 1), patch, **options)


def test_empty_windows_are_computed_once_and_change_nothing():
    seen = 0

    def forward(x):
        nonlocal seen
        seen += len(x)
        return positional((4, 4, 4), np)(np.asarray(x)) + 0.5

    image = np.zeros((16, 8, 8, 2), np.float32)
    image[13:] = picture(3, 8, 8, 2)
    output = sliding_window(lambda x: jnp.asarray(forward(x)), image, (4, 4, 4), tiles=1)
    wanted = slow(forward, image, (4, 4, 4), 0.5, ())
    starts = window_starts((16, 8, 8), (4, 4, 4), 0.5)
    full = sum(start[0] + 4 > 13 for start in starts)
    assert seen == full + 1 + len(starts)
    np.testing.assert_allclose(output, wanted, rtol=1e-4, atol=1e-5)
