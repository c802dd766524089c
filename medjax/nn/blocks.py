"""Convolution, norm and the blocks of every trunk; a block takes `conv`, `norm` and `act`."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.errors import UserError
from medjax.ops.conv import conv as convolve
from medjax.ops.depth import depth_to_space
from medjax.ops.whole import whole

Triple = tuple[int, int, int]
Make = Callable[..., Any]  # makes a module: a class, or a partial of one

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "leaky_relu": partial(nn.leaky_relu, negative_slope=0.01),
    "relu": nn.relu,
    "gelu": nn.gelu,
    "silu": nn.silu,
}


class Conv(nn.Module):
    """A 3-D convolution, SAME padding, He initialisation (He 2015); no bias by default."""

    features: int
    kernel: Triple = (3, 3, 3)
    strides: Triple = (1, 1, 1)
    use_bias: bool = False
    kernel_init: nn.initializers.Initializer = nn.initializers.he_normal()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 o"]:
        """Convolve in `dtype`; the parameters stay in float32."""
        shape = (*self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        y = convolve(x.astype(self.dtype), kernel.astype(self.dtype), self.strides)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            y = y + bias.astype(y.dtype).reshape(1, 1, 1, 1, -1)
        return y


class Norm(nn.Module):
    """Mean 0 and variance 1 over space per sample, then a learned scale and bias per channel.

    `group` channels share their statistics: 1 is instance norm (Ulyanov 2016), 8 the group norm of
    medjax (Wu 2018; fewer where 8 does not divide the channels). Nothing is kept between steps.
    Statistics are float32; a channel that is constant in space gives its bias.
    """

    group: int = 1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w c"]:
        """Normalise; the dtype of x is kept."""
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        group = math.gcd(self.group, channels)
        normalise = partial(_normalise, group=group, epsilon=self.epsilon)
        return whole("norm", normalise, group=group, epsilon=self.epsilon)(x, scale, bias)


def _normalise(x: Array, scale: Array, bias: Array, *, group: int, epsilon: float) -> Array:
    """What `Norm` does."""
    wide = x.astype(jnp.float32)
    mean = _share(jnp.mean(wide, (1, 2, 3), keepdims=True), group)
    square = _share(jnp.mean(wide * wide, (1, 2, 3), keepdims=True), group)
    variance = jnp.maximum(square - mean * mean, 0)
    # one multiplication and one addition per voxel, which fuse with the activation
    factor = jax.lax.rsqrt(variance + epsilon) * scale.reshape(1, 1, 1, 1, -1)
    shift = bias.reshape(1, 1, 1, 1, -1) - mean * factor
    return (wide * factor + shift).astype(x.dtype)


def _share(moment: Array, group: int) -> Array:
    """The mean of each `group` of neighbouring channels, in the place of its members."""
    if group == 1:
        return moment
    groups = moment.reshape(*moment.shape[:-1], -1, group)
    shared = jnp.broadcast_to(groups.mean(-1, keepdims=True), groups.shape)
    return shared.reshape(moment.shape)


def make_norm(kind: str) -> Make:
    """The constructor of a norm: "instance" or "group"."""
    groups = {"instance": 1, "group": 8}
    if kind not in groups:
        raise UserError(
            f"config.model.norm: unknown norm {kind!r}; choose from {', '.join(groups)}"
        )
    return partial(Norm, group=groups[kind])


class ChannelDropout(nn.Module):
    """Drops whole channels of each sample, each with the chance `rate`, and scales up the others to match.

    `axis` names the axis that replicas are mapped over: what is dropped then hangs on a sample's place in
    the whole batch and not on how many replicas share it. Needs the rng `dropout` in training.
    """

    rate: float
    axis: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"], train: bool) -> Float[Array, "b d h w c"]:
        """Drop, or pass what is not training."""
        if not train or self.rate == 0:
            return x
        key, count = self.make_rng("dropout"), x.shape[0]
        first = jax.lax.axis_index(self.axis) * count if self.axis else 0

        def drawn(row: Array) -> Array:
            return jax.random.bernoulli(jax.random.fold_in(key, row), 1 - self.rate, x.shape[-1:])

        kept = jax.vmap(drawn)(first + jnp.arange(count))
        factor = kept.astype(x.dtype) / jnp.asarray(1 - self.rate, x.dtype)
        return x * factor[:, None, None, None]


class Plain(nn.Module):
    """Convolution, norm, activation."""

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    conv: Make = Conv
    norm: Make = Norm
    act: Callable[[Array], Array] = ACTIVATIONS["leaky_relu"]

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 o"]:
        """Apply the three in turn."""
        return self.act(self.norm()(self.conv(self.features, self.kernel, self.strides)(x)))


class Residual(nn.Module):
    """Two convolutions and a skip connection (He 2016), the activation after the sum.

    The skip is a normed 1 x 1 x 1 projection where channels or resolution change.
    """

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    conv: Make = Conv
    norm: Make = Norm
    act: Callable[[Array], Array] = ACTIVATIONS["leaky_relu"]

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 o"]:
        """Apply both branches and add them."""
        y = self.act(self.norm()(self.conv(self.features, self.kernel, self.strides)(x)))
        y = self.norm()(self.conv(self.features, self.kernel)(y))
        return self.act(_skip(self, x) + y)


def _skip(block: Any, x: Array) -> Array:
    """The input of a block with the channels and the resolution of its output."""
    if x.shape[-1] == block.features and block.strides == (1, 1, 1):
        return x
    projected = block.conv(block.features, (1, 1, 1), block.strides, name="skip")(x)
    return block.norm(name="skip_norm")(projected)


class Bottleneck(nn.Module):
    """A convolution between two of 1 x 1 x 1, a fourth as wide, and a skip connection (He 2016).

    The middle one strides (as in all later ResNets); the skip is projected as in `Residual`.
    """

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    conv: Make = Conv
    norm: Make = Norm
    act: Callable[[Array], Array] = ACTIVATIONS["leaky_relu"]

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 o"]:
        """Apply both branches and add them."""
        narrow = self.features // 4
        y = self.act(self.norm()(self.conv(narrow, (1, 1, 1))(x)))
        y = self.act(self.norm()(self.conv(narrow, self.kernel, self.strides)(y)))
        y = self.norm()(self.conv(self.features, (1, 1, 1))(y))
        return self.act(_skip(self, x) + y)


class Stage(nn.Module):
    """`depth` blocks at one resolution; the first one strides."""

    block: Make
    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    depth: int = 2

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 o"]:
        """Apply the blocks in turn."""
        for i in range(self.depth):
            x = self.block(self.features, self.kernel, self.strides if i == 0 else (1, 1, 1))(x)
        return x


class Upsample(nn.Module):
    """The transposed convolution whose kernel is its stride: a dense layer, then depth to space.

    Without a bias, as every convolution of the trunk: the norm after the next one takes constants away.
    """

    features: int
    factors: Triple
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 o"]:
        """Give `factors` times as many voxels along each axis."""
        dense = Conv(self.features * math.prod(self.factors), (1, 1, 1), dtype=self.dtype)
        return depth_to_space(dense(x), self.factors)
