"""What the receiver does to an MR volume: coil sensitivity, thick slices, noise.

Pure functions of a magnitude volume (x, y, z) >= 0 in float32, for `jit` and `vmap`.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from medjax.ops import sampling
from medjax.sim.draws import normal

Volume = Float[Array, "x y z"]
Number = float | Float[Array, ""]

_FWHM = 2 * np.sqrt(2 * np.log(2))  # of a Gaussian with standard deviation 1


def bias_field(
    key: PRNGKeyArray,
    volume: Volume,
    *,
    strength: Number,
    spacing: Sequence[float],
    length: float = 80.0,
) -> Volume:
    """Multiply by a smooth gain: the exponential of a random cubic B-spline, of mean 1.

    The logarithm of the gain spans 2 `strength` over the volume, so 0.1 is a gain of about 0.9 to
    1.1 (BrainWeb's "20 %"); its control points lie `length` mm apart (`spacing` in mm). Strength 0 is
    the identity, and a background of 0 stays 0, both exactly.
    """
    matrices = [
        sampling.bspline_matrix(n, length / s) for n, s in zip(volume.shape, spacing, strict=True)
    ]
    control = normal(key, (1, *(matrix.shape[1] for matrix in matrices)))
    field = sampling.smooth_field(control, matrices)[0]
    low, high = field.min(), field.max()
    unit = 2 * (field - low) / jnp.maximum(high - low, 1e-6) - 1
    gain = jnp.exp(strength * unit)
    return volume * (gain / gain.mean())


def thick_slices(
    volume: Volume,
    *,
    axis: int,
    thickness: Number,
    spacing: float,
    profile: Literal["box", "gaussian"] = "box",
) -> Volume:
    """Read the volume in slices of `thickness` mm along `axis`, and bring them back to its grid.

    The slices touch one another and are centred on the volume; the outer ones may reach beyond it and
    average what there is. Each is an integral over its profile: a box, or a Gaussian whose width at
    half maximum is the thickness (less, in quadrature, that of the voxels, which are slices
    themselves). Between their centres the values are linear, as a resampling to the fine grid makes
    them; outside the outer centres constant. `spacing` in mm along the axis. At or below it, the
    thickness changes nothing, to 1e-5. The thickness may be traced: one compiled function for all.
    """
    size = volume.shape[axis]
    ratio = jnp.maximum(jnp.float32(thickness) / spacing, 1.0)
    count = jnp.ceil(size / ratio - 1e-3)  # at most `size`: further rows are never read
    start = (size - count * ratio) / 2
    number = jnp.arange(size, dtype=jnp.float32)
    edges = jnp.arange(size + 1, dtype=jnp.float32)
    if profile == "box":
        low = (start + number * ratio)[:, None]
        inside = jnp.clip(edges[None], low, low + ratio)
    else:
        width = jnp.sqrt(ratio**2 - 1) / _FWHM
        middle = (start + (number + 0.5) * ratio)[:, None]
        inside = jax.scipy.stats.norm.cdf((edges[None] - middle) / jnp.maximum(width, 1e-6))
    weights = jnp.diff(inside, axis=1)
    weights = weights / jnp.maximum(weights.sum(1, keepdims=True), 1e-6)
    place = jnp.clip((number + 0.5 - start) / ratio - 0.5, 0, count - 1)
    between = jnp.maximum(1 - jnp.abs(place[:, None] - number[None]), 0)
    matrix = jnp.matmul(between, weights, precision=lax.Precision.HIGHEST)
    product = ("ai,ijk->ajk", "aj,ijk->iak", "ak,ijk->ija")[axis]
    return jnp.einsum(product, matrix, volume, precision=lax.Precision.HIGHEST)


def rician(key: PRNGKeyArray, volume: Volume, sigma: Number) -> Volume:
    """Magnitude |volume + n1 + i n2|, n1 and n2 normal with standard deviation `sigma`.

    Where there is no signal, the mean becomes 1.253 sigma and the deviation 0.655 sigma; where there
    is much, the bias is about sigma^2 / 2 S. Sigma 0 is the identity to rounding.
    """
    noise = sigma * normal(key, (2, *volume.shape))
    return jnp.sqrt(jnp.square(volume + noise[0]) + jnp.square(noise[1]))
