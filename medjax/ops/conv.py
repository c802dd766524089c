"""Every convolution of medjax: XLA's own, or on CPU the same sum written as 2-D convolutions."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from medjax.ops import gradients
from medjax.ops.planes import Geometry, Pads, Sizes, forward

Implementation: TypeAlias = Literal["auto", "native", "fast"]
Triple = tuple[int, int, int]

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
    pads = same(x.shape[1:4], kernel.shape[:3], strides, dilation)
    if impl == "native":
        return lax.conv_general_dilated(
            x, kernel, strides, pads, rhs_dilation=dilation, dimension_numbers=_LAYOUT
        )
    seen, steps, around = _drop_blind_taps(x.shape[1:4], kernel, strides, dilation, pads)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    y = _fast(x.astype(wide), seen.astype(wide), (steps, dilation, around))
    return y.astype(x.dtype)  # pyright: ignore[reportAttributeAccessIssue]


_LAYOUT = ("NDHWC", "DHWIO", "NDHWC")


def same(shape: Sizes, kernel: Sizes, strides: Sizes, dilation: Sizes) -> Pads:
    """The padding before and after each axis of XLA's SAME."""

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


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _fast(x: Array, kernel: Array, geometry: Geometry) -> Array:
    return forward(x, kernel, geometry)


def _fast_forward(x: Array, kernel: Array, geometry: Geometry) -> tuple[Array, tuple[Array, Array]]:
    return forward(x, kernel, geometry), (x, kernel)


def _fast_backward(
    geometry: Geometry, saved: tuple[Array, Array], dy: Array
) -> tuple[Array, Array]:
    x, kernel = saved
    return (
        gradients.input_gradient(dy, kernel, x.shape[1:4], geometry),
        gradients.kernel_gradient(x, dy, kernel.shape[:3], geometry),
    )


_fast.defvjp(_fast_forward, _fast_backward)
