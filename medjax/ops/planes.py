"""A 3-D convolution as 2-D convolutions, in the form that is fastest on XLA:CPU for its shape."""

import math
from functools import partial, reduce

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from medjax.ops import winograd

Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
Geometry = tuple[Sizes, Sizes, Pads]  # strides, dilation, zeros before and after each axis

# Multiplications up to which the form is taken that compiles fastest: about two seconds of CPU sooner for a
# convolution with its gradients, which of the shapes measured on two AVX2 cores lost below 5 ms a step.
SMALL = 1 << 24
# Measured on XLA:CPU, two AVX-512 cores.
FEW_CHANNELS = 16  # below, the depth taps are stacked on the channels
LARGE_PLANE = 32 * 32  # output pixels from which a loop over slices keeps its data in the cache
PAIRED = 16  # channels up to which two neighbouring outputs of a row are computed as one


_LAYOUT = ("NHWC", "HWIO", "NHWC")


def output_shape(shape: Sizes, kernel: Sizes, geometry: Geometry) -> Sizes:
    """Voxels along each axis of the result."""

    def length(n: int, k: int, stride: int, step: int, pad: tuple[int, int]) -> int:
        return (n + sum(pad) - (k - 1) * step - 1) // stride + 1

    return tuple(map(length, shape, kernel, *geometry))


def forward(
    x: Float[Array, "b d h w c"], kernel: Float[Array, "kd kh kw c o"], geometry: Geometry
) -> Float[Array, "b d2 h2 w2 o"]:
    """Convolve, any strides, dilation and pads; pads may not be negative."""
    depth, height, width = output_shape(x.shape[1:4], kernel.shape[:3], geometry)
    small = is_small(x.shape[0] * depth * height * width, kernel.shape)
    if not small and _tiles_apply(kernel, geometry, depth):
        return _by_tiles(x, kernel, geometry, depth, loop=height * width >= LARGE_PLANE)
    if kernel.shape[0] == 1:
        return _sum_of_taps(x, kernel, geometry)
    if small or x.shape[-1] < FEW_CHANNELS:
        return _stacked_taps(x, kernel, geometry)
    if height * width >= LARGE_PLANE:
        return _slice_by_slice(x, kernel, geometry)
    return _sum_of_taps(x, kernel, geometry)


def is_small(voxels: int, kernel: Sizes) -> bool:
    """Whether an output of so many voxels takes no more than `SMALL` multiplications."""
    return voxels * math.prod(kernel) <= SMALL


def _conv2d(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """(n, h, w, c) with (kh, kw, c, o); a kernel of one pixel is a matrix product."""
    strides, dilation, pads = geometry
    if kernel.shape[:2] == (1, 1) and strides[1:] == (1, 1) and pads[1:] == ((0, 0), (0, 0)):
        return x @ kernel.reshape((1,) * (x.ndim - 2) + kernel.shape[2:])
    width = x.shape[2] + sum(pads[2]) - kernel.shape[1] + 1
    plain = strides[1:] == dilation[1:] == (1, 1) and width % 2 == 0
    if plain and kernel.shape[1] == 3 and max(kernel.shape[2:]) <= PAIRED:
        return _conv2d_of_pairs(x, kernel, pads)
    return lax.conv_general_dilated(
        x, kernel, strides[1:], pads[1:], rhs_dilation=dilation[1:], dimension_numbers=_LAYOUT
    )


def _conv2d_of_pairs(x: Array, kernel: Array, pads: Pads) -> Array:
    """Both outputs of a pair from one patch with one pixel more: XLA's cost is that of the patches."""
    first = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0), (0, 0)))
    both = jnp.concatenate([first, jnp.roll(first, 1, axis=1)], axis=-1)
    y = lax.conv_general_dilated(x, both, (1, 2), pads[1:], dimension_numbers=_LAYOUT)
    return y.reshape(*y.shape[:2], -1, kernel.shape[-1])


def _depth_taps(x: Array, kernel: Array, geometry: Geometry) -> list[Array]:
    """For each depth tap, the slices it reads: (b, d', h, w, c)."""
    (stride, *_), (step, *_), (pad, *_) = geometry
    out = output_shape(x.shape[1:4], kernel.shape[:3], geometry)[0]
    padded = jnp.pad(x, ((0, 0), pad, (0, 0), (0, 0), (0, 0)))
    return [
        lax.slice_in_dim(padded, k * step, k * step + (out - 1) * stride + 1, stride, axis=1)
        for k in range(kernel.shape[0])
    ]


def _sum_of_taps(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """One 2-D convolution a depth tap over all slices, and their sum."""
    taps = [t.reshape(-1, *t.shape[2:]) for t in _depth_taps(x, kernel, geometry)]
    terms = [_conv2d(t, k, geometry) for t, k in zip(taps, kernel, strict=True)]
    y = reduce(jnp.add, terms)
    return y.reshape(x.shape[0], -1, *y.shape[1:])


def _stacked_taps(x: Array, kernel: Array, geometry: Geometry) -> Array:
    kd, kh, kw, c, o = kernel.shape
    stack = jnp.concatenate(_depth_taps(x, kernel, geometry), axis=-1)
    flat = kernel.transpose(1, 2, 0, 3, 4).reshape(kh, kw, kd * c, o)
    y = _conv2d(stack.reshape(-1, *stack.shape[2:]), flat, geometry)
    return y.reshape(x.shape[0], -1, *y.shape[1:])


def _slice_by_slice(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """The sum of depth taps for one output slice at a time: the partial sums stay in the cache."""
    (stride, *_), (step, *_), (pad, *_) = geometry
    b, _, h, w, c = x.shape
    depth, height, width = output_shape((x.shape[1], h, w), kernel.shape[:3], geometry)
    padded = jnp.pad(x, ((0, 0), pad, (0, 0), (0, 0), (0, 0)))
    slab = (1, (kernel.shape[0] - 1) * step + 1, h, w, c)

    def one(place: Array) -> Array:
        start = (place[0], place[1] * stride, 0, 0, 0)
        taps = lax.dynamic_slice(padded, start, slab, allow_negative_indices=False)[0]
        terms = [_conv2d(taps[k * step][None], t, geometry) for k, t in enumerate(kernel)]
        return reduce(jnp.add, terms)[0]

    y = lax.map(one, jnp.array(list(np.ndindex(b, depth)), jnp.int32))
    return y.reshape(b, depth, height, width, -1)


def _tiles_apply(kernel: Array, geometry: Geometry, depth: int) -> bool:
    """Whether Winograd's tiles save convolutions: three dense depth taps at stride 1."""
    (stride, *_), (step, *_), _ = geometry
    return (kernel.shape[0], stride, step) == (winograd.TAPS, 1, 1) and winograd.tile(depth) > 1


def _by_tiles(x: Array, kernel: Array, geometry: Geometry, depth: int, *, loop: bool) -> Array:
    """Winograd's filtering along depth, where `_tiles_apply`: one tile after the other, or all at once."""
    padded = jnp.pad(x, ((0, 0), geometry[2][0], (0, 0), (0, 0), (0, 0)))
    run = winograd.looped if loop else winograd.whole
    return run(padded, kernel, depth, partial(_conv2d, geometry=geometry))
