"""The networks of a CycleGAN: a residual generator and a PatchGAN discriminator (Zhu 2017)."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.nn.blocks import ACTIVATIONS, Conv, Make, Norm, Plain, Triple

LEAKY = partial(nn.leaky_relu, negative_slope=0.2)


class EdgeConv(nn.Module):
    """A convolution of stride 1 over a volume whose outermost voxels are repeated beyond its edge.

    Padding with zeros would draw a frame into a generated image. Odd kernels only.
    """

    features: int
    kernel: Triple
    use_bias: bool = False
    conv: Make = Conv

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w o"]:
        """Pad, convolve, and cut off what the padding added."""
        margins = [k // 2 for k in self.kernel]
        wide = jnp.pad(x, [(0, 0), *((m, m) for m in margins), (0, 0)], mode="edge")
        y = self.conv(self.features, self.kernel, use_bias=self.use_bias)(wide)
        inner = (slice(m, m + n) for m, n in zip(margins, x.shape[1:4], strict=True))
        return y[(slice(None), *inner)]


class Kept(nn.Module):
    """A residual block without an activation after the sum, so that an image can pass as it is."""

    kernel: Triple
    conv: Make = Conv
    norm: Make = Norm
    act: Callable[[Array], Array] = ACTIVATIONS["relu"]

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w c"]:
        """Add what two convolutions find."""
        conv = partial(EdgeConv, x.shape[-1], self.kernel, conv=self.conv)
        y = self.act(self.norm()(conv()(x)))
        return x + self.norm()(conv()(y))


class Generator(nn.Module):
    """Image to image on one grid: what is added to the first `out` channels to make the other kind.

    (b, d, h, w, c) to (b, d, h, w, out), float32 and linear: intensities are z-scores, which know no
    bounds. Halved twice, `blocks` residual blocks, doubled twice by nearest neighbour and a
    convolution, which leaves no checkerboard (Odena 2016). Axes of one voxel are left alone, so a
    slice (d = 1) has 2-D convolutions; the others must be divisible by 4.

    Unlike Zhu's, for images of 64 instead of 256 voxels an axis, where a fold is one voxel wide: the
    levels that were halved are added to those that are doubled, the first and last kernels are 3
    wide, and the image itself is added, so that training starts near the same anatomy.
    """

    out: int = 1
    width: int = 16
    blocks: int = 3
    conv: Make = Conv
    norm: Make = Norm
    act: Callable[[Array], Array] = ACTIVATIONS["relu"]

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w o"]:
        """Translate a batch of patches."""
        deep = x.shape[1] > 1
        kernel, halves = (3 if deep else 1, 3, 3), (2 if deep else 1, 2, 2)
        layer = partial(Plain, conv=self.conv, norm=self.norm, act=self.act)
        image = x[..., : self.out].astype(jnp.float32)
        first = EdgeConv(self.width, kernel, conv=self.conv, name="first")
        x = self.act(self.norm(name="first_norm")(first(x)))
        levels = []
        for i in (1, 2):
            levels.append(x)
            x = layer(self.width * 2**i, kernel, halves, name=f"down{i}")(x)
        for i in range(self.blocks):
            x = Kept(kernel, self.conv, self.norm, self.act, name=f"block{i}")(x)
        for i in (1, 0):
            for axis, factor in enumerate(halves, start=1):
                x = jnp.repeat(x, factor, axis)
            x = levels[i] + layer(self.width * 2**i, kernel, name=f"up{i}")(x)
        last = EdgeConv(self.out, kernel, use_bias=True, conv=self.conv, name="last")
        return image + last(x).astype(jnp.float32)


class Discriminator(nn.Module):
    """PatchGAN (Isola 2017): one score for every overlapping patch of the image, float32, no sigmoid.

    `layers` convolutions of stride 2 and two of stride 1, all of 4 voxels an axis: a score sees 16,
    34 or 70 voxels an axis for 1, 2 or 3 layers. Axes of one voxel are left alone. Unlike Zhu's it has
    no norm, which would take away the level and the spread of intensities: what tells contrasts apart.
    """

    width: int = 16
    layers: int = 2
    conv: Make = Conv
    act: Callable[[Array], Array] = LEAKY

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 1"]:
        """Judge a batch of patches: 1 is real, 0 is made (least squares)."""
        deep = x.shape[1] > 1
        kernel, halves = (4 if deep else 1, 4, 4), (2 if deep else 1, 2, 2)
        conv = partial(self.conv, kernel=kernel, use_bias=True)
        for i in range(self.layers + 1):
            strides = halves if i < self.layers else (1, 1, 1)
            x = self.act(conv(self.width * 2 ** min(i, 3), strides=strides, name=f"layer{i}")(x))
        return conv(1, name="last")(x).astype(jnp.float32)
