"""Gradients of a 3-D convolution with respect to its input and its kernel, in forms fast on XLA:CPU."""

import itertools
import math
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from medjax.ops.planes import Geometry, Sizes, forward, is_small

# Measured on XLA:CPU: the first on two AVX2 cores, the second on two AVX-512 cores.
TOTAL_BYTES = 1 << 21  # of a weight gradient above which it is not added up block by block
BLOCK_BYTES = 1 << 20  # of the two factors in one block of the weight gradient, roughly


def input_gradient(
    dy: Float[Array, "b d2 h2 w2 o"],
    kernel: Float[Array, "kd kh kw c o"],
    shape: Sizes,
    geometry: Geometry,
) -> Float[Array, "b d h w c"]:
    """The convolution of dy with the flipped kernel, voxels that meet the same taps together.

    Under a stride s, voxels s apart meet the same taps: s phases an axis, each a convolution without
    stride, which are interleaved; XLA's own would put zeros between the voxels of dy. `shape` is the
    input's.
    """
    strides, dilation, pads = geometry
    axes = [
        [_phase(p, *rest) for p in range(rest[0])]
        for rest in zip(strides, kernel.shape[:3], dilation, pads, strict=True)
    ]
    counts = tuple(-(-n // s) for n, s in zip(shape, strides, strict=True))
    turned = kernel.swapaxes(-1, -2)
    found = [_one_phase(dy, turned, phases, counts) for phases in itertools.product(*axes)]
    if len(found) == 1:
        return found[0]
    b, c = dy.shape[0], kernel.shape[3]
    whole = jnp.stack(found).reshape(*strides, b, *counts, c).transpose(3, 4, 0, 5, 1, 6, 2, 7)
    whole = whole.reshape(b, *(n * s for n, s in zip(counts, strides, strict=True)), c)
    return lax.slice(whole, (0,) * 5, (b, *shape, c))


class _Phase(NamedTuple):
    """Along one axis: the taps that its voxels meet, from last to first, and where in dy."""

    taps: range
    dilation: int
    first: int  # voxel 0 of the phase meets dy here with the last of its taps


def _phase(phase: int, stride: int, size: int, dilation: int, pad: tuple[int, int]) -> _Phase:
    """The voxels stride * m + phase: output n reads voxel stride * n - pad + t * dilation through tap t."""
    reach = phase + pad[0]
    taps = [t for t in range(size) if (reach - t * dilation) % stride == 0]
    if not taps:
        return _Phase(range(0), 1, 0)
    common = math.gcd(stride, dilation)
    return _Phase(
        range(taps[-1], -1, -stride // common),
        dilation // common,
        (reach - taps[-1] * dilation) // stride,
    )


def _one_phase(dy: Array, turned: Array, phases: tuple[_Phase, ...], counts: Sizes) -> Array:
    """The gradient at the voxels of one phase an axis."""
    if not all(p.taps for p in phases):
        return jnp.zeros((dy.shape[0], *counts, turned.shape[-1]), dy.dtype)
    around = []
    for axis, (p, count) in enumerate(zip(phases, counts, strict=True)):
        last = p.first + (len(p.taps) - 1) * p.dilation + count
        n = dy.shape[axis + 1]
        dy = lax.slice_in_dim(dy, max(p.first, 0), min(last, n), axis=axis + 1)
        around.append((max(-p.first, 0), max(last - n, 0)))
        turned = jnp.take(turned, np.array(p.taps), axis=axis)
    return forward(dy, turned, ((1, 1, 1), tuple(p.dilation for p in phases), tuple(around)))


def kernel_gradient(
    x: Float[Array, "b d h w c"],
    dy: Float[Array, "b d2 h2 w2 o"],
    kernel: Sizes,
    geometry: Geometry,
) -> Float[Array, "kd kh kw c o"]:
    """The correlation of x and dy at each tap of a kernel of this size.

    XLA's own takes up to nine times as long (64 channels in and out at 2 x 40 x 48 x 40 voxels).
    """
    c, o = x.shape[-1], dy.shape[-1]
    if kernel == geometry[0] == (1, 1, 1):
        product = _rows_product(dy.reshape(-1, o), x.reshape(-1, c))
        return product.T.reshape(1, 1, 1, c, o)
    total = math.prod(kernel) * c * o * x.dtype.itemsize
    if total > TOTAL_BYTES or is_small(dy.size // o, (*kernel, c, o)):
        return _tap_by_tap(x, dy, kernel, geometry)
    return _by_columns(x, dy, kernel, geometry)


def _rows_product(a: Float[Array, "n i"], b: Float[Array, "n j"]) -> Float[Array, "i j"]:
    """a^T b, both read row by row; fastest with the wider one on the right."""
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())))


def _tap_by_tap(x: Array, dy: Array, kernel: Sizes, geometry: Geometry) -> Array:
    """One product a tap over all voxels."""
    strides, dilation, pads = geometry
    c, (b, *out, o) = x.shape[-1], dy.shape
    x, flat = jnp.pad(x, ((0, 0), *pads, (0, 0))), dy.reshape(-1, o)
    block = (b, *((n - 1) * s + 1 for n, s in zip(out, strides, strict=True)), c)

    def one(start: Array) -> Array:
        place = (0, start[0], start[1], start[2], 0)
        seen = lax.dynamic_slice(x, place, block, allow_negative_indices=False)
        seen = lax.slice(seen, (0,) * 5, block, (1, *strides, 1))
        return _rows_product(seen.reshape(-1, c), flat)

    starts = np.array(list(np.ndindex(*kernel))) * dilation
    return lax.map(one, jnp.asarray(starts, jnp.int32)).reshape(*kernel, c, o)


def _columns(x: Array, kernel: Sizes, out: Sizes, strides: Sizes, dilation: Sizes) -> Array:
    """Im2col of a padded block: (d, h, w, c) to (d' h' w', kd kh kw c)."""
    views = []
    for tap in [
        (i, j, k) for i in range(kernel[0]) for j in range(kernel[1]) for k in range(kernel[2])
    ]:
        start = [t * step for t, step in zip(tap, dilation, strict=True)]
        stop = [s + (n - 1) * stride + 1 for s, n, stride in zip(start, out, strides, strict=True)]
        views.append(lax.slice(x, (*start, 0), (*stop, x.shape[-1]), (*strides, 1)))
    return jnp.concatenate(views, axis=-1).reshape(out[0] * out[1] * out[2], -1)


def _by_columns(x: Array, dy: Array, kernel: Sizes, geometry: Geometry) -> Array:
    """Accumulate dy^T x columns over blocks of rows whose columns fit in the cache.

    At stride 1 along depth a slice of x is cut into columns once, for the taps within it, and meets the
    output slices of all depth taps side by side; else the columns hold the depth taps too.
    """
    strides, dilation, pads = geometry
    c, (b, depth, height, width, o) = x.shape[-1], dy.shape
    beside = kernel[0] if strides[0] == 1 else 1
    within = (kernel[0] // beside, *kernel[1:])
    taps = math.prod(within)
    row = (taps * c + beside * o) * width * x.dtype.itemsize
    blocks = max(1, min(height, -(-height * row // BLOCK_BYTES)))
    rows = -(-height // blocks)
    reach = [(k - 1) * step + 1 for k, step in zip(within, dilation, strict=True)]
    high = (rows * blocks - 1) * strides[1] + reach[1]  # rows that the last block reads up to
    # Slice i of x, not padded, is read through tap k by output i + low - k * dilation.
    steps, low, ahead = depth, pads[0][0], 0
    around = (0, 0)
    if beside > 1:
        steps, ahead = x.shape[1], (beside - 1) * dilation[0] - low
        around, pads = (ahead, max(0, steps + low - depth)), ((0, 0), *pads[1:])
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    x = jnp.pad(x, ((0, 0), (0, 0), (0, max(0, high - x.shape[2])), (0, 0), (0, 0)))
    dy = jnp.pad(dy, ((0, 0), around, (0, rows * blocks - height), (0, 0), (0, 0)))
    slab = (1, reach[0], (rows - 1) * strides[1] + reach[1], x.shape[3], c)

    cut = partial(lax.dynamic_slice, allow_negative_indices=False)

    def add(total: Array, place: Array) -> tuple[Array, None]:
        n, d, r = place[0], place[1], place[2] * rows
        block = cut(x, (n, d * strides[0], r * strides[1], 0, 0), slab)[0]
        columns = _columns(block, within, (1, rows, width), strides, dilation)
        last = d + (beside - 1) * dilation[0]  # of the output slices, that of tap 0
        outputs = [
            cut(dy, (n, last - k * dilation[0], r, 0, 0), (1, 1, rows, width, o))
            for k in range(beside)
        ]
        side = jnp.concatenate(outputs, -1).reshape(-1, beside * o)
        return total + _rows_product(side, columns), None

    total = jnp.zeros((beside * o, taps * c), dy.dtype)
    total, _ = lax.scan(add, total, jnp.array(list(np.ndindex(b, steps, blocks)), jnp.int32))
    return jnp.moveaxis(total.reshape(beside, o, -1), 1, -1).reshape(*kernel, c, o)
