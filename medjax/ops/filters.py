"""Separable filters of channels-last volumes with traced widths and fixed shapes."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


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


def low_resolution(image: Float[Array, "d h w"], zoom: Float[Array, "3"]) -> Float[Array, "d h w"]:
    """Nearest-neighbour reduction to `zoom` (0 to 1) of the voxels an axis, linear back.

    Both steps in the half-pixel convention with clamped edges. A zoom of 1 is the identity. The
    small volume never exists (its shape is traced): each output slice mixes two input slices.
    """
    products = ("ia,abc->ibc", "ib,abc->aic", "ic,abc->abi")
    for axis, (size, subscripts) in enumerate(zip(image.shape, products, strict=True)):
        if size > 1:  # a matrix with two entries a row: on a CPU three times faster than lookups
            matrix = _low_resolution_matrix(size, zoom[axis])
            image = jnp.einsum(subscripts, matrix, image, precision=lax.Precision.HIGHEST)
    return image


def _low_resolution_matrix(size: int, zoom: Float[Array, ""]) -> Float[Array, "n n"]:
    """For each voxel the weights of the two source voxels that it mixes."""
    small = jnp.clip(jnp.round(size * zoom), 1, size)
    position = (jnp.arange(size, dtype=jnp.float32) + 0.5) * (small / size) - 0.5
    position = jnp.clip(position, 0, small - 1)
    low = jnp.floor(position)
    high = jnp.minimum(low + 1, small - 1)

    def source(index: jax.Array) -> jax.Array:
        found = jnp.clip(jnp.floor((index + 0.5) * (size / small)), 0, size - 1)
        return jax.nn.one_hot(found.astype(jnp.int32), size)

    fraction = (position - low)[:, None]
    return source(low) * (1 - fraction) + source(high) * fraction
