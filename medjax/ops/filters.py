"""Separable filters of channels-last volumes with traced widths and fixed shapes."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


def gaussian_blur(
    image: Float[Array, "d h w c"], sigma: Float[Array, "3 c"], *, radius: int
) -> Float[Array, "d h w c"]:
    """Gaussian blur with its own traced sigma (voxels, >= 0) for each axis and channel.

    The kernel has `2 * radius + 1` taps and sum 1, the edge voxels go on beyond the border
    (`scipy.ndimage` mode "nearest"); a radius of 3 of the largest sigma keeps 99.7 %. Sigma 0 and
    axes of one voxel are left alone.
    """
    offset = jnp.arange(-radius, radius + 1, dtype=jnp.float32)[:, None]
    for axis, size in enumerate(image.shape[:3]):
        if size == 1:
            continue
        kernel = jnp.exp(-0.5 * (offset / jnp.maximum(sigma[axis], 1e-3)[None]) ** 2)
        kernel = (kernel / kernel.sum(0, keepdims=True))[:, None, None, None, :]
        widths = [(radius, radius) if a == axis else (0, 0) for a in range(4)]
        # Fused over the axes, XLA:CPU computes each tap's taps anew: ten times slower.
        padded = lax.optimization_barrier(jnp.pad(image, widths, mode="edge"))
        taps = [
            kernel[t] * lax.slice_in_dim(padded, t, t + size, axis=axis)
            for t in range(2 * radius + 1)
        ]
        image = lax.optimization_barrier(sum(taps[1:], taps[0]))
    return image


def spread(
    image: Float[Array, "d h w"], variance: Float[Array, ""] | float, *, passes: int
) -> Float[Array, "d h w"]:
    """Blur with a kernel of exactly this traced variance (voxels^2) along each axis, however small.

    A Gaussian sampled at the voxels does nothing below a deviation of a third of one. Here it is
    `passes` times the taps v, 1 - 2 v, v with v = variance / (2 `passes`), at most 0.25 (what the
    variance has beyond `passes` / 2 is left out), the discrete Gaussian (Lindeberg, 1990)
    in the limit of many. Variance 0 is the identity; edge voxels go on beyond the border.
    """
    v = jnp.minimum(variance / (2 * passes), 0.25)
    for axis, size in enumerate(image.shape):
        for _ in range(passes):
            widths = [(1, 1) if a == axis else (0, 0) for a in range(3)]
            padded = lax.optimization_barrier(jnp.pad(image, widths, mode="edge"))
            low, high = (lax.slice_in_dim(padded, t, t + size, axis=axis) for t in (0, 2))
            image = lax.optimization_barrier(image + v * (low - 2 * image + high))
    return image


def low_resolution(image: Float[Array, "d h w"], zoom: Float[Array, "3"]) -> Float[Array, "d h w"]:
    """Nearest-neighbour reduction to `zoom` (0 to 1) of the voxels an axis, linear back.

    Both steps in the half-pixel convention with clamped edges. A zoom of 1 is the identity. The
    small volume never exists (its shape is traced): each output slice mixes two input slices.
    """
    for axis, size in enumerate(image.shape):
        if size == 1:
            continue
        low, high, fraction = _mixed(size, zoom[axis])
        if axis < 2:  # whole rows: lookups
            weight = jnp.expand_dims(fraction, (1, 2) if axis == 0 else (0, 2))
            near, far = (jnp.take(image, i, axis=axis, mode="clip") for i in (low, high))
            # Fused over the axes, XLA:CPU looks up each voxel by itself.
            image = lax.optimization_barrier(near + weight * (far - near))
        else:  # single voxels: a matrix with two entries a row is twice as fast
            near, far = (jax.nn.one_hot(i, size) for i in (low, high))
            matrix = near + fraction[:, None] * (far - near)
            image = jnp.einsum("ic,abc->abi", matrix, image, precision=lax.Precision.HIGHEST)
    return image


def _mixed(
    size: int, zoom: Float[Array, ""]
) -> tuple[Int[Array, " n"], Int[Array, " n"], Float[Array, " n"]]:
    """For each voxel the two source voxels that it mixes, and the weight of the second."""
    small = jnp.clip(jnp.round(size * zoom), 1, size)
    position = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (small / size) - 0.5
    position = jnp.clip(position, 0, small - 1)
    low = jnp.floor(position)
    high = jnp.minimum(low + 1, small - 1)

    def source(index: jax.Array) -> Int[Array, " n"]:
        found = jnp.clip(jnp.floor((index + 0.5) * (size / small)), 0, size - 1)
        return found.astype(jnp.int32)

    return source(low), source(high), position - low
