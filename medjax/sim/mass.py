"""Mass effect: how far a growing tumour pushes the tissue around it."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def push(
    density: Float[Array, "x y z"], *, spacing: float, most: float | Float[Array, ""]
) -> Float[Array, "x y z 3"]:
    """Displacement in mm of an elastic medium that swells with `density`, at most `most` mm.

    The balance mu lap u + (mu + lambda) grad div u = gamma grad c of a uniform medium makes u the
    gradient of a potential: lap phi = c, solved by Fourier transform on the periodic grid (so leave
    some room around). Inside the tumour the medium swells, outside it moves without change of
    volume, as one over the square of the distance. The strength gamma is given through `most`.
    0 where the density is 0. The solution of Hogea et al. (2007) in the simplest case.
    """
    shape = density.shape
    x, y, z = (
        2 * jnp.pi * f(n, d=spacing)
        for f, n in zip((jnp.fft.fftfreq, jnp.fft.fftfreq, jnp.fft.rfftfreq), shape, strict=True)
    )
    waves = x[:, None, None], y[None, :, None], z[None, None, :]
    square = waves[0] ** 2 + waves[1] ** 2 + waves[2] ** 2
    potential = jnp.where(square > 0, jnp.fft.rfftn(density) / jnp.where(square > 0, square, 1), 0)
    moved = jnp.stack([jnp.fft.irfftn(-1j * wave * potential, s=shape) for wave in waves], axis=-1)
    largest = jnp.sqrt((moved**2).sum(axis=-1)).max()
    return moved * jnp.where(largest > 0, most / jnp.where(largest > 0, largest, 1), 0)
