"""k-space of volumes: a centred, orthonormal pair of transforms, and weights on its lines."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Complex, Inexact, Int


def line_numbers(size: int) -> Int[np.ndarray, " n"]:
    """Frequencies along an axis of `size` voxels, in cycles over the field of view; 0 at size // 2."""
    return np.arange(size) - size // 2


def to_kspace(
    volume: Inexact[Array, "x y z"], axes: Sequence[int] = (0, 1, 2)
) -> Complex[Array, "x y z"]:
    """Fourier transform along `axes`: frequencies in the order of `line_numbers`, energy kept.

    Voxel size // 2 is the origin of space. Any size, odd or even.
    """
    centred = jnp.fft.ifftshift(volume, axes)
    return jnp.fft.fftshift(jnp.fft.fftn(centred, axes=axes, norm="ortho"), axes)


def to_volume(
    kspace: Complex[Array, "x y z"], axes: Sequence[int] = (0, 1, 2)
) -> Complex[Array, "x y z"]:
    """The inverse of `to_kspace`."""
    centred = jnp.fft.ifftshift(kspace, axes)
    return jnp.fft.fftshift(jnp.fft.ifftn(centred, axes=axes, norm="ortho"), axes)


def weight_lines(
    volume: Inexact[Array, "x y z"], weights: Inexact[Array, " n"], axis: int
) -> Complex[Array, "x y z"]:
    """Multiply the k-space lines along `axis` by `weights` (ordered as `line_numbers`).

    A circular convolution with the transform of the weights, done as one matrix product: on a CPU
    several times faster than transforms along one axis, and no k-space is ever held. The real part
    alone, where it is all that is used, costs half.
    """
    spread = jnp.fft.ifft(jnp.fft.ifftshift(weights))
    number = np.arange(volume.shape[axis])
    matrix = spread[(number[:, None] - number) % volume.shape[axis]]
    product = ("ai,ijk->ajk", "aj,ijk->iak", "ak,ijk->ija")[axis]
    real, imaginary = (
        jnp.einsum(product, part, volume, precision=lax.Precision.HIGHEST)
        for part in (matrix.real, matrix.imag)
    )
    return lax.complex(real, imaginary)
