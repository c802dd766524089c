"""Sums of three depth taps by Winograd's minimal filtering: fewer 2-D convolutions for the same sum.

m slices of output take m + 2 convolutions instead of 3 m (Winograd 1980; for networks Lavin and Gray 2016).
Within the slices nothing is transformed, so their convolution may be any.
"""

from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Float32

TAPS = 3
# Where polynomials are evaluated for m outputs, beside infinity. With these points four outputs round to
# about 2e-6 of the spread of the result; with 0, 1, -1, 2, -2 to three times as much.
POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 0.5**0.5, -(0.5**0.5), 2**0.5, -(2**0.5))}

Convolve = Callable[[Array, Array], Array]  # (n, h, w, c) with a kernel of one tap


class Transform(NamedTuple):
    """Outputs are `output @ ((kernel @ taps) * (input @ slices))`, the product being a convolution."""

    input: Float32[np.ndarray, "n n"]
    kernel: Float32[np.ndarray, "n 3"]
    output: Float32[np.ndarray, "m n"]


@cache
def transform(outputs: int) -> Transform:
    """The three matrices for a tile of `outputs` slices, by Toom and Cook's interpolation."""
    points = np.array(POINTS[outputs])
    n = outputs + TAPS - 1
    source, taps, result = np.zeros((n, n)), np.zeros((n, TAPS)), np.zeros((outputs, n))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        source[i, : n - 1] = np.poly(others)[::-1]
        taps[i] = point ** np.arange(TAPS) / np.prod(point - others)
        result[:, i] = point ** np.arange(outputs)
    source[-1], taps[-1, -1], result[-1, -1] = np.poly(points)[::-1], 1, 1
    source[np.abs(source) < 1e-12] = 0
    return Transform(*(matrix.astype(np.float32) for matrix in (source, taps, result)))


def tile(depth: int) -> int:
    """The slices of a tile that need the fewest convolutions for `depth` slices; 1 is the plain sum."""
    cost = {1: TAPS * depth} | {m: (m + 2) * -(-depth // m) for m in POINTS}
    return min(cost, key=lambda m: (cost[m], -m))


def whole(
    x: Float[Array, "b d h w c"],
    kernel: Float[Array, "3 kh kw c o"],
    depth: int,
    convolve: Convolve,
) -> Float[Array, "b d2 h2 w2 o"]:
    """All tiles at once: `depth` slices from x, padded to `depth` + 2 slices."""
    m = tile(depth)
    source, taps, result = transform(m)
    tiles = -(-depth // m)
    padded = _filled(x, tiles * m - depth)
    slices = [
        lax.slice_in_dim(padded, k, k + (tiles - 1) * m + 1, m, axis=1).reshape(-1, *x.shape[2:])
        for k in range(m + 2)
    ]
    products = _products(source, slices, _mixed(taps, kernel), convolve)
    y = jnp.stack([_combined(row, products) for row in result], axis=1)
    return y.reshape(x.shape[0], tiles * m, *y.shape[2:])[:, :depth]


def looped(
    x: Float[Array, "b d h w c"],
    kernel: Float[Array, "3 kh kw c o"],
    depth: int,
    convolve: Convolve,
) -> Float[Array, "b d2 h2 w2 o"]:
    """As `whole`, one tile after the other: for slices so large that a tile fills the cache."""
    m = tile(depth)
    source, taps, result = transform(m)
    tiles, batch = -(-depth // m), x.shape[0]
    padded, mixed = _filled(x, tiles * m - depth), _mixed(taps, kernel)

    def one(place: Array) -> Array:
        start, size = (place[0], place[1] * m, 0, 0, 0), (1, m + 2, *x.shape[2:])
        block = lax.dynamic_slice(padded, start, size, allow_negative_indices=False)[0]
        slices = [block[k : k + 1] for k in range(m + 2)]
        products = _products(source, slices, mixed, convolve)
        return jnp.concatenate([_combined(row, products) for row in result])

    # From a table: quotients of the loop's counter would be computed anew in each of its fusions.
    y = lax.map(one, jnp.array(list(np.ndindex(batch, tiles)), jnp.int32))
    return y.reshape(batch, tiles * m, *y.shape[2:])[:, :depth]


def _filled(x: Array, slices: int) -> Array:
    """Slices of zeros at the end, which make the tiles whole."""
    return jnp.pad(x, ((0, 0), (0, slices), (0, 0), (0, 0), (0, 0)))


def _mixed(taps: np.ndarray, kernel: Array) -> Array:
    return jnp.tensordot(taps, kernel, 1, precision=lax.Precision.HIGHEST)


def _products(
    source: np.ndarray, slices: Sequence[Array], kernels: Array, convolve: Convolve
) -> list[Array]:
    return [convolve(_combined(row, slices), k) for row, k in zip(source, kernels, strict=True)]


def _combined(row: np.ndarray, arrays: Sequence[Array]) -> Array:
    """The sum of the arrays with the weights of the row, those of 0 left out."""
    return reduce(
        jnp.add, [a if w == 1 else float(w) * a for w, a in zip(row, arrays, strict=True) if w]
    )
