"""SCA: spatial-channel joint attention."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.nn.blocks import ACTIVATIONS, Conv, Make, Triple


class SCA(nn.Module):
    """y = x + x (2 c s - 1/2): a channel gate c and a spatial map s, both in (0, 1).

    c is squeeze-and-excitation (Hu 2018) with max(channels / reduction, 4) hidden units; s is one
    convolution over the mean and the maximum of the channels (Woo 2018), 7 x 7 in 2-D (depth 1)
    and `kernel` in 3-D. The last layer of each gate starts at zero: exactly the identity.
    """

    reduction: int = 16
    kernel: Triple = (3, 3, 3)
    conv: Make = Conv
    act: Callable[[Array], Array] = ACTIVATIONS["leaky_relu"]

    @nn.compact
    def __call__(
        self, x: Float[Array, "b d h w c"]
    ) -> tuple[Float[Array, "b d h w c"], Float[Array, "b d h w 1"]]:
        """Gate x; gives the spatial map too, in float32."""
        channels, zeros = x.shape[-1], nn.initializers.zeros
        squeezed = jnp.mean(x, (1, 2, 3), dtype=jnp.float32)
        hidden = self.act(nn.Dense(max(channels // self.reduction, 4), name="squeeze")(squeezed))
        gate = nn.Dense(channels, kernel_init=zeros, name="excite")(hidden)
        c = jax.nn.sigmoid(gate)[:, None, None, None]
        pooled = [jnp.mean(x, -1, keepdims=True), jnp.max(x, -1, keepdims=True)]
        kernel = (1, 7, 7) if x.shape[1] == 1 else self.kernel
        spatial = self.conv(1, kernel, use_bias=True, kernel_init=zeros, name="spatial")
        s = jax.nn.sigmoid(spatial(jnp.concatenate(pooled, -1)).astype(jnp.float32))
        return x + (x * (2 * c * s - 0.5)).astype(x.dtype), s
