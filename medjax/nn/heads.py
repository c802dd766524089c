"""Task heads: what turns the features of a trunk into float32 outputs."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.nn.blocks import ACTIVATIONS, Conv, Make, Norm

HEATMAP_BIAS = -math.log((1 - 0.1) / 0.1)  # -2.19: every voxel starts at a probability of 0.1


class Segmentation(nn.Module):
    """Logits per voxel."""

    classes: int
    conv: Make = Conv

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d h w k"]:
        """One 1 x 1 x 1 convolution."""
        return self.conv(self.classes, (1, 1, 1), use_bias=True)(x).astype(jnp.float32)


class Classification(nn.Module):
    """Logits per sample, from the mean of the features over space."""

    classes: int

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b k"]:
        """Pool, then one dense layer in float32."""
        return nn.Dense(self.classes)(jnp.mean(x, (1, 2, 3), dtype=jnp.float32))


class Detection(nn.Module):
    """CenterNet (Zhou 2019) in 3-D, on the grid of its features.

    `heatmap`: logits of a centre of each class; `offset` (d, h, w): of the centre from that voxel,
    in voxels of this grid; `size` (d, h, w): log of the extent, in the same voxels.
    """

    classes: int
    conv: Make = Conv
    norm: Make = Norm
    act: Callable[[Array], Array] = ACTIVATIONS["leaky_relu"]

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> dict[str, Float[Array, "b d h w _"]]:
        """A shared convolution, then one 1 x 1 x 1 each."""
        kernel = (1 if x.shape[1] == 1 else 3, 3, 3)
        x = self.act(self.norm()(self.conv(x.shape[-1], kernel)(x)))
        bias = nn.initializers.constant(HEATMAP_BIAS)
        layers = {
            "heatmap": self.conv(
                self.classes, (1, 1, 1), use_bias=True, bias_init=bias, name="heatmap"
            ),
            "offset": self.conv(3, (1, 1, 1), use_bias=True, name="offset"),
            "size": self.conv(3, (1, 1, 1), use_bias=True, name="size"),
        }
        return {name: layer(x).astype(jnp.float32) for name, layer in layers.items()}
