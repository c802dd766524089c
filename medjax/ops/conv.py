"""Every convolution of medjax: XLA's own, or on CPU the same sum written as 2-D convolutions."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, reduce
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from medjax.ops import winograd

Implementation: TypeAlias = Literal["auto", "native", "fast"]
Triple = tuple[int, int, int]
Sizes = tuple[int, ...]
Pads = tuple[tuple[int, int], ...]
Geometry = tuple[Sizes, Sizes, Pads]  # strides, dilation, zeros before and after each axis

# Measured on XLA:CPU, two AVX-512 cores.
FEW_CHANNELS = 16  # below, the depth taps are stacked on the channels
LARGE_PLANE = 32 * 32  # output pixels from which a loop over slices keeps its data in the cache
NARROW = 32  # output channels below which XLA's own weight gradient is slow in large planes
PAIRED = 16  # channels up to which two neighbouring outputs of a row are computed as one
BLOCK_BYTES = 1 << 20  # of the column matrix in one block of the weight gradient, roughly

_IMPLEMENTATION: ContextVar[Implementation] = ContextVar("convolution", default="auto")


@contextmanager
def implementation(impl: Implementation) -> Iterator[None]:
    """Set what `conv` means by "auto" while a function is traced (export sets "native").

    A function that is already compiled keeps the form it was traced with.
    """
    token = _IMPLEMENTATION.set(impl)
    try:
        yield
    finally:
        _IMPLEMENTATION.reset(token)


def conv(
    x: Float[Array, "b d h w c"],
    kernel: Float[Array, "kd kh kw c o"],
    strides: Triple = (1, 1, 1),
    dilation: Triple = (1, 1, 1),
    impl: Implementation = "auto",
) -> Float[Array, "b d2 h2 w2 o"]:
    """Convolve with XLA's SAME padding: n voxels give ceil(n / stride) along each axis.

    "native" is `lax.conv_general_dilated`; "fast" the same sum for XLA:CPU, whose 3-D convolution
    is several times slower than 2-D ones; "auto" is what `implementation` says, else fast on CPU
    and native elsewhere. The fast form computes in float32 at least and has first derivatives in
    reverse mode only. Along an axis of one voxel an odd kernel reduces to its middle tap.
    """
    if impl == "auto":
        impl = _IMPLEMENTATION.get()
    if impl == "auto":
        impl = "fast" if jax.default_backend() == "cpu" else "native"
    pads = _same(x.shape[1:4], kernel.shape[:3], strides, dilation)
    if impl == "native":
        return lax.conv_general_dilated(
            x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=_LAYOUT[3]
        )
    seen, steps, around = _drop_blind_taps(x.shape[1:4], kernel, strides, dilation, pads)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    y = _fast(x.astype(wide), seen.astype(wide), (steps, dilation, around))
    return y.astype(x.dtype)  # pyright: ignore[reportAttributeAccessIssue]


def depth_to_space(x: Float[Array, "b d h w c"], factors: Triple) -> Float[Array, "b d2 h2 w2 o"]:
    """Spread the channels, ordered (fd, fh, fw, o), over factors voxels along each axis.

    One axis at a time: no transpose above 6 axes, which edge runtimes refuse.
    """
    for axis, factor in zip((1, 2, 3), factors, strict=True):
        if factor > 1:
            *space, channels = x.shape
            x = x.reshape(*space, factor, channels // factor)
            x = jnp.moveaxis(x, 4, axis + 1)
            space[axis] *= factor
            x = x.reshape(*space, channels // factor)
    return x


_LAYOUT = {2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}


def _same(shape: Sizes, kernel: Sizes, strides: Sizes, dilation: Sizes) -> Pads:
    def pair(n: int, k: int, stride: int, step: int) -> tuple[int, int]:
        total = max((-(-n // stride) - 1) * stride + (k - 1) * step + 1 - n, 0)
        return total // 2, total - total // 2

    return tuple(map(pair, shape, kernel, strides, dilation))


def _drop_blind_taps(
    shape: Sizes, kernel: Array, strides: Sizes, dilation: Sizes, pads: Pads
) -> tuple[Array, Sizes, Pads]:
    """Along an axis of one voxel, keep the one tap that does not read padding."""
    new_strides, new_pads = list(strides), list(pads)
    for axis, (n, step) in enumerate(zip(shape, dilation, strict=True)):
        tap, off_grid = divmod(pads[axis][0], step)
        if n == 1 and not off_grid:
            kernel = lax.slice_in_dim(kernel, tap, tap + 1, axis=axis)
            new_strides[axis], new_pads[axis] = 1, (0, 0)
    return kernel, tuple(new_strides), tuple(new_pads)


def _out(shape: Sizes, kernel: Sizes, geometry: Geometry) -> Sizes:
    def length(n: int, k: int, stride: int, step: int, pad: tuple[int, int]) -> int:
        return (n + sum(pad) - (k - 1) * step - 1) // stride + 1

    return tuple(map(length, shape, kernel, *geometry))


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
        x, kernel, strides[1:], pads[1:], rhs_dilation=dilation[1:], dimension_numbers=_LAYOUT[2]
    )


def _conv2d_of_pairs(x: Array, kernel: Array, pads: Pads) -> Array:
    """Both outputs of a pair from one patch with one pixel more: XLA's cost is that of the patches."""
    first = jnp.pad(kernel, ((0, 0), (0, 1), (0, 0), (0, 0)))
    both = jnp.concatenate([first, jnp.roll(first, 1, axis=1)], axis=-1)
    y = lax.conv_general_dilated(x, both, (1, 2), pads[1:], dimension_numbers=_LAYOUT[2])
    return y.reshape(*y.shape[:2], -1, kernel.shape[-1])


def _depth_taps(x: Array, kernel: Array, geometry: Geometry) -> list[Array]:
    """For each depth tap, the slices it reads: (b, d', h, w, c)."""
    (stride, *_), (step, *_), (pad, *_) = geometry
    out = _out(x.shape[1:4], kernel.shape[:3], geometry)[0]
    padded = jnp.pad(x, ((0, 0), pad, (0, 0), (0, 0), (0, 0)))
    return [
        lax.slice_in_dim(padded, k * step, k * step + (out - 1) * stride + 1, stride, axis=1)
        for k in range(kernel.shape[0])
    ]


def _sum_of_taps(x: Array, kernel: Array, geometry: Geometry) -> Array:
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
    depth, height, width = _out((x.shape[1], h, w), kernel.shape[:3], geometry)
    padded = jnp.pad(x, ((0, 0), pad, (0, 0), (0, 0), (0, 0)))
    slab = (1, (kernel.shape[0] - 1) * step + 1, h, w, c)

    def one(i: Array) -> Array:
        taps = lax.dynamic_slice(padded, (i // depth, i % depth * stride, 0, 0, 0), slab)[0]
        terms = [_conv2d(taps[k * step][None], t, geometry) for k, t in enumerate(kernel)]
        return reduce(jnp.add, terms)[0]

    y = lax.map(one, jnp.arange(b * depth))
    return y.reshape(b, depth, height, width, -1)


def _tiles_apply(x: Array, kernel: Array, geometry: Geometry) -> bool:
    """Whether Winograd's tiles save convolutions: three dense depth taps at stride 1."""
    (stride, *_), (step, *_), _ = geometry
    depth = _out(x.shape[1:4], kernel.shape[:3], geometry)[0]
    return (kernel.shape[0], stride, step) == (winograd.TAPS, 1, 1) and winograd.tile(depth) > 1


def _by_tiles(x: Array, kernel: Array, geometry: Geometry, *, loop: bool) -> Array:
    depth = _out(x.shape[1:4], kernel.shape[:3], geometry)[0]
    padded = jnp.pad(x, ((0, 0), geometry[2][0], (0, 0), (0, 0), (0, 0)))
    run = winograd.looped if loop else winograd.whole
    return run(padded, kernel, depth, partial(_conv2d, geometry=geometry))


def _forward(x: Array, kernel: Array, geometry: Geometry) -> Array:
    _, height, width = _out(x.shape[1:4], kernel.shape[:3], geometry)
    if _tiles_apply(x, kernel, geometry):
        return _by_tiles(x, kernel, geometry, loop=height * width >= LARGE_PLANE)
    if kernel.shape[0] == 1:
        return _sum_of_taps(x, kernel, geometry)
    if x.shape[-1] < FEW_CHANNELS:
        return _stacked_taps(x, kernel, geometry)
    if height * width >= LARGE_PLANE:
        return _slice_by_slice(x, kernel, geometry)
    return _sum_of_taps(x, kernel, geometry)


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


def _kernel_gradient(x: Array, dy: Array, kernel: Sizes, geometry: Geometry) -> Array:
    """Accumulate dy^T x columns over blocks of rows whose columns fit in the cache."""
    strides, dilation, pads = geometry
    c, (b, depth, height, width, o) = x.shape[-1], dy.shape
    taps = kernel[0] * kernel[1] * kernel[2]
    blocks = max(1, min(height, taps * c * width * height * x.dtype.itemsize // BLOCK_BYTES))
    rows = -(-height // blocks)
    reach = [(k - 1) * step + 1 for k, step in zip(kernel, dilation, strict=True)]
    high = (rows * blocks - 1) * strides[1] + reach[1]  # rows that the last block reads up to
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    x = jnp.pad(x, ((0, 0), (0, 0), (0, max(0, high - x.shape[2])), (0, 0), (0, 0)))
    dy = jnp.pad(dy, ((0, 0), (0, 0), (0, rows * blocks - height), (0, 0), (0, 0)))
    slab = (1, reach[0], (rows - 1) * strides[1] + reach[1], x.shape[3], c)

    def add(total: Array, i: Array) -> tuple[Array, None]:
        n, d, r = i // (depth * blocks), i // blocks % depth, i % blocks * rows
        block = lax.dynamic_slice(x, (n, d * strides[0], r * strides[1], 0, 0), slab)[0]
        columns = _columns(block, kernel, (1, rows, width), strides, dilation)
        g = lax.dynamic_slice(dy, (n, d, r, 0, 0), (1, 1, rows, width, o)).reshape(-1, o)
        return total + g.T @ columns, None

    total = jnp.zeros((o, taps * c), dy.dtype)
    total, _ = lax.scan(add, total, jnp.arange(b * depth * blocks))
    return total.T.reshape(*kernel, c, o)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fast(x: Array, kernel: Array, geometry: Geometry) -> Array:
    return _forward(x, kernel, geometry)


def _fast_forward(x: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    return _forward(x, kernel, geometry), (x, kernel)


def _fast_backward(
    geometry: Geometry, saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    strides, dilation, pads = geometry
    by_taps = partial(_sum_of_taps, geometry=geometry)
    size = kernel.shape[:3]
    reach = [(k - 1) * step for k, step in zip(size, dilation, strict=True)]
    around = tuple((r - low, r - high) for r, (low, high) in zip(reach, pads, strict=True))
    if strides == (1, 1, 1):  # the input gradient is a convolution with the flipped kernel
        flipped = jnp.flip(kernel, (0, 1, 2)).transpose(0, 1, 2, 4, 3)
        dx = _forward(dy, flipped, (strides, dilation, around))
    else:
        dx = jax.vjp(lambda v: by_taps(v, kernel), x)[1](dy)[0]
    _, _, height, width, outputs = dy.shape
    channels, large = x.shape[-1], height * width >= LARGE_PLANE
    if large and size != (1, 1, 1) and channels >= FEW_CHANNELS and outputs < NARROW:
        if outputs < channels and strides == (1, 1, 1):  # fewer columns from the other side
            swapped = _kernel_gradient(dy, x, size, (strides, dilation, around))
            dkernel = jnp.flip(swapped, (0, 1, 2)).transpose(0, 1, 2, 4, 3)
        else:
            dkernel = _kernel_gradient(x, dy, size, geometry)
    elif _tiles_apply(x, kernel, geometry):
        by_tiles = partial(_by_tiles, geometry=geometry, loop=False)
        dkernel = jax.vjp(lambda v: by_tiles(x, v), kernel)[1](dy)[0]
    else:
        dkernel = jax.vjp(lambda v: by_taps(x, v), kernel)[1](dy)[0]
    return dx, dkernel


_fast.defvjp(_fast_forward, _fast_backward)
