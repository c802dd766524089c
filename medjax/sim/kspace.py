"""Faults of an MR scan that arise in k-space: motion, ghosts, spikes, truncation, undersampling.

Pure functions of a magnitude volume (x, y, z) >= 0 in float32, of any size along each axis, for
`jit` and `vmap`. All return a magnitude and leave a volume of zeros at 0. Faults put signal where
there was none: where the background must stay 0 (skull-stripped scans), mask afterwards. `axis` is
the phase-encoding axis, along which the lines of k-space are read one after another. "To 1e-5" means
of the brightest voxel.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Complex, Float, Int, PRNGKeyArray

from medjax.ops import fourier, sampling

Volume = Float[Array, "x y z"]
Number = float | Float[Array, ""]

_TINY = float(np.finfo(np.float32).tiny)


def motion(
    key: PRNGKeyArray,
    volume: Volume,
    *,
    axis: int,
    degrees: Number,
    mm: Number,
    spacing: Sequence[float],
    segments: int = 16,
) -> Volume:
    """The head moves between the segments of the acquisition (see `segment_lines`).

    `degrees` is the largest angle and `mm` the largest shift on the way (3 and 3 are much for a
    patient); `spacing` in mm. See `poses` for how it moves. With both 0, and with one segment, the
    identity to 1e-5. After Shaw et al. (2019).
    """
    rotation, translation = poses(key, volume, axis=axis, degrees=degrees, mm=mm, segments=segments)
    kspace = acquire(volume, rotation, translation, axis=axis, spacing=spacing, segments=segments)
    return jnp.abs(fourier.to_volume(kspace))


def poses(
    key: PRNGKeyArray,
    volume: Volume,
    *,
    axis: int,
    degrees: Number,
    mm: Number,
    segments: int,
) -> tuple[Float[Array, "s 3"], Float[Array, "s 3"]]:
    """A random walk, one pose a segment: rotations (axis times angle, degrees), translations (mm).

    The segment with the centre of k-space keeps the pose 0, and the others have the mean 0, each
    counting by the power of its lines: so the image stays on its labels (a plain mean leaves it
    some tenths of a mm off, this one some hundredths). `degrees` is the largest angle and `mm` the
    largest shift. Along an axis of one voxel nothing moves, nor out of the plane of a single slice.
    """
    lines = segment_lines(volume.shape[axis], segments)
    centre = (lines == 0).any(axis=1)
    share = jnp.where(centre, 0, _power(volume, lines, axis))
    share = share / jnp.maximum(share.sum(), _TINY)
    walk = jnp.cumsum(jax.random.normal(key, (len(lines), 2, 3)), axis=0)
    walk = walk - (share[:, None, None] * walk).sum(0, keepdims=True)
    thin = np.array(volume.shape) == 1
    free = np.stack([thin.sum() == thin, ~thin])  # turns about an axis if no other one is thin
    walk = walk * (free[None] & ~centre[:, None, None])
    longest = jnp.sqrt(jnp.square(walk).sum(-1).max(0))
    walk = walk / jnp.maximum(longest, _TINY)[None, :, None]
    return degrees * walk[:, 0], mm * walk[:, 1]


def segment_lines(size: int, segments: int) -> Int[np.ndarray, "s p"]:
    """The lines (`fourier.line_numbers`) of each segment, p = ceil(size / segments) in a row.

    The line 0 lies in the middle of its segment, so there may be one segment more than asked for.
    The first and the last one reach beyond the lines that there are.
    """
    length = math.ceil(size / segments)
    half = length // 2
    below = math.ceil((size // 2 - half) / length)
    above = math.ceil((size - size // 2 - (length - half)) / length)
    return np.arange(-below * length, (above + 1) * length).reshape(-1, length) - half


def acquire(
    volume: Volume,
    rotation: Float[Array, "s 3"],
    translation: Float[Array, "s 3"],
    *,
    axis: int,
    spacing: Sequence[float],
    segments: int,
) -> Complex[Array, "x y z"]:
    """k-space whose segments along `axis` (see `segment_lines`) each see the volume in another pose.

    rotation: axis times angle in degrees, about the centre of the volume; translation in mm, after
    it. Turned volumes are interpolated linearly, the voxels at the border going on beyond it; shifts
    are exact, and what leaves the field of view comes in on its other side. One turned volume is
    held at a time, and only its own lines are transformed.
    """
    size, mm = volume.shape[axis], np.array(spacing, np.float32)
    lines = segment_lines(size, segments)
    others = [a for a in range(3) if a != axis]
    place = np.arange(size) - size // 2
    waves = np.exp(-2j * np.pi / size * lines[..., None] * place) / np.sqrt(size)
    grid = sampling.centred_grid(volume.shape)
    middle = (np.array(volume.shape, np.float32) - 1) / 2

    def turned(turn: Float[Array, "3"]) -> Volume:
        # Where each voxel comes from: the inverse turn, in voxels.
        matrix = _rotation(-jnp.radians(turn)) * (mm[None, :] / mm[:, None])
        there = sampling.affine(grid, matrix, jnp.asarray(middle))
        x, y, z = (jnp.clip(c, 0, n - 1) for c, n in zip(there, volume.shape, strict=True))
        return sampling.linear(volume[None, ..., None], 0, (x, y, z))[..., 0]

    def segment(_: None, own: tuple[Array, ...]) -> tuple[None, Array]:
        lines, waves, turn, shift = own
        # Nothing is interpolated where nothing turns; and XLA:CPU, which would fuse the gathers with
        # the product that reads them, is more than twice as fast.
        pose = lax.cond((turn != 0).any(), turned, lambda _: volume, turn)
        real, imaginary = (
            jnp.tensordot(part, pose, (1, axis), precision=lax.Precision.HIGHEST)
            for part in (waves.real, waves.imag)
        )
        kspace = fourier.to_kspace(lax.complex(real, imaginary), (1, 2))
        step = shift / (mm * np.array(volume.shape))
        numbers = [lines, *(fourier.line_numbers(volume.shape[a]) for a in others)]
        for i, a in enumerate([axis, *others]):
            ramp = jnp.exp(-2j * np.pi * step[a] * numbers[i])
            kspace = kspace * jnp.expand_dims(ramp, [b for b in range(3) if b != i])
        return None, kspace

    each = (jnp.asarray(lines), jnp.asarray(waves, jnp.complex64), rotation, translation)
    _, kspace = lax.scan(segment, None, each)
    before = _lines_before(size, lines)
    kspace = kspace.reshape(-1, *kspace.shape[2:])[before : before + size]
    return jnp.moveaxis(kspace, 0, axis)


def ghosting(
    key: PRNGKeyArray,
    volume: Volume,
    *,
    axis: int,
    ghosts: int | Int[Array, ""],
    strength: Number,
    centre: Number = 0.02,
) -> Volume:
    """Every `ghosts`-th line (2 or more) of k-space is weakened by `strength`, from 0 to 1.

    The image then stands on itself every `ghosts`-th part of the field of view, at strength / ghosts
    of its intensity: 2 gives the half-field ghost of echo-planar imaging. Which lines is random; a
    share `centre` of all lines, in the middle, is left alone, so that the mean level stays.
    Strength 0 is the identity to 1e-5.
    """
    lines = fourier.line_numbers(volume.shape[axis])
    first = jax.random.randint(key, (), 0, ghosts)
    hit = ((lines - first) % ghosts == 0) & ~_middle(volume.shape[axis], centre)
    return jnp.abs(fourier.weight_lines(volume, 1 - strength * hit, axis))


def spikes(key: PRNGKeyArray, volume: Volume, *, count: int, strength: Number) -> Volume:
    """`count` samples of k-space, anywhere, get a spurious signal: oblique stripes all over.

    `strength` is its size relative to the sample at the centre of k-space, and so the amplitude of
    each spike's stripes relative to the volume's mean. Each has a random phase. Strength 0 is the
    identity, exactly.
    """
    if count < 1:
        return volume
    place_key, phase_key = jax.random.split(key)
    spot = jax.random.uniform(place_key, (count, 3)) * np.array(volume.shape, np.float32)[None]
    spot = spot.astype(jnp.int32)
    phase = jax.random.uniform(phase_key, (count,), maxval=2 * np.pi)
    x, y, z = (  # whole turns are taken off before the sine: large arguments would lose digits
        jnp.exp(2j * np.pi / n * (spot[:, a, None] * np.arange(n)[None] % n))
        for a, n in enumerate(volume.shape)
    )
    planes = (jnp.exp(1j * phase)[:, None] * x)[:, :, None] * y[:, None, :]
    stripes = jnp.einsum("sxy,sz->xyz", planes, z, precision=lax.Precision.HIGHEST)
    return jnp.abs(volume + strength * volume.mean() * stripes)


def gibbs(volume: Volume, *, keep: Number, axis: int | None = None) -> Volume:
    """Cut k-space off at a share `keep` (0 to 1) of its extent along `axis`, or along all of them.

    The grid stays (zero-filling), so edges ring: about 9 % of the step at first, in waves of
    2 / keep voxels. A share of 1 is the identity to 1e-5.
    """
    for a in range(3) if axis is None else (axis,):
        weights = _middle(volume.shape[a], keep).astype(jnp.float32)
        volume = fourier.weight_lines(volume, weights, a).real
    return jnp.abs(volume)


def undersample(
    key: PRNGKeyArray,
    volume: Volume,
    *,
    axis: int,
    acceleration: Number,
    centre: Number = 0.1,
) -> Volume:
    """Only a random part of the lines of k-space is read (`sampled_lines`); the rest is zero.

    An `acceleration` of 1 is the identity to 1e-5.
    """
    kept = sampled_lines(key, volume.shape[axis], acceleration=acceleration, centre=centre)
    return jnp.abs(fourier.weight_lines(volume, kept.astype(jnp.float32), axis))


def sampled_lines(
    key: PRNGKeyArray, size: int, *, acceleration: Number, centre: Number
) -> Bool[Array, " n"]:
    """Random Cartesian lines: a share `centre` in the middle always, others with equal probability.

    Together a share 1 / `acceleration` on average; the middle alone where that is more.
    """
    rest = (1 / acceleration - centre) / jnp.maximum(1 - centre, _TINY)
    drawn = jax.random.uniform(key, (size,)) < rest
    return drawn | _middle(size, centre)


def _power(volume: Volume, lines: Int[np.ndarray, "s p"], axis: int) -> Float[Array, " s"]:
    """Squared magnitude of k-space, summed over each segment."""
    others = [a for a in range(3) if a != axis]
    power = jnp.square(jnp.abs(fourier.to_kspace(volume, (axis,)))).sum(others)
    before = _lines_before(volume.shape[axis], lines)
    power = jnp.pad(power, (before, lines.size - len(power) - before))
    return power.reshape(lines.shape).sum(1)


def _lines_before(size: int, lines: Int[np.ndarray, "s p"]) -> int:
    """How many lines of the first segment lie beyond the first that there is."""
    return -(size // 2) - int(lines[0, 0])


def _middle(size: int, share: Number) -> Bool[Array, " n"]:
    """The lines within a share of the extent of k-space, always with line 0; all for 1."""
    return jnp.abs(jnp.asarray(fourier.line_numbers(size))) <= share * (size / 2)


def _rotation(vector: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Rotation about `vector` by its length in radians (Rodrigues); exactly the identity for 0."""
    x, y, z = vector
    zero = jnp.zeros(())
    cross = jnp.stack([jnp.stack(row) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))])
    angle = jnp.sqrt(jnp.square(vector).sum())
    sine, cosine = jnp.sinc(angle / np.pi), 0.5 * jnp.sinc(angle / (2 * np.pi)) ** 2
    square = jnp.matmul(cross, cross, precision=lax.Precision.HIGHEST)
    return jnp.eye(3) + sine * cross + cosine * square
