"""Smooth random fields."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from medjax.ops.sampling import bspline_matrix, smooth_field
from medjax.sim.draws import normal


def smooth_noise(
    key: Array,
    shape: Sequence[int],
    spacing: float | Sequence[float],
    length: float,
    count: int = 1,
) -> Float[Array, "n x y z"]:
    """`count` random fields of mean 0 and variance 1 that vary over about `length` mm.

    Uniform cubic B-splines on normal control points `length` mm apart, so the same key gives the
    same fields in space at every `spacing` (mm; one number or one for each axis) of one field of view. The
    variance is that over keys; a view of few lengths shows less of it.
    """
    steps = np.broadcast_to(spacing, len(shape)).tolist()
    matrices = [bspline_matrix(n, length / step) for n, step in zip(shape, steps, strict=True)]
    control = normal(key, (count, *[m.shape[1] for m in matrices]))
    power = np.prod([float((m**2).sum(axis=1).mean()) for m in matrices])
    return smooth_field(control, matrices) / jnp.float32(np.sqrt(power))
