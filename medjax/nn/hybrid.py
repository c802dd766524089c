"""HybridConv: slices, volume and depth context side by side, for anisotropic scans."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.errors import UserError
from medjax.nn.blocks import ACTIVATIONS, Conv, Make, Norm, Triple


class HybridConv(nn.Module):
    """y = act(norm(W [K_slice x, K_volume x, up(K_slice mean_d x)])) + P(x).

    K_slice is (1, kh, kw), K_volume (kd, kh, kw), W the 1 x 1 x 1 mixer, P the identity or a
    1 x 1 x 1 projection where channels or resolution change. `ratio` of the features go through
    slices and the rest through the volume (all of them where one branch is off); the context, a
    quarter as many again, sees the mean over depth and is the same in every slice.
    Raises UserError when both branches are off or `ratio` leaves one of them empty.
    """

    features: int
    kernel: Triple
    strides: Triple = (1, 1, 1)
    conv: Make = Conv
    norm: Make = Norm
    act: Callable[[Array], Array] = ACTIVATIONS["leaky_relu"]
    slice2d: bool = True
    vol3d: bool = True
    depth_ctx: bool = True
    ratio: float = 0.5

    @nn.compact
    def __call__(self, x: Float[Array, "b d h w c"]) -> Float[Array, "b d2 h2 w2 o"]:
        """Apply the branches, mix them and add the skip."""
        flat = (1, *self.kernel[1:])
        slices, volume = self._split()
        branches = []
        if slices:
            branches.append(self.conv(slices, flat, self.strides, name="slice")(x))
        if volume:
            branches.append(self.conv(volume, self.kernel, self.strides, name="volume")(x))
        if self.depth_ctx:
            mean = jnp.mean(x, axis=1, keepdims=True, dtype=jnp.float32)
            width, strides = max(self.features // 4, 1), (1, *self.strides[1:])
            context = self.conv(width, flat, strides, name="context")(mean)
            depth = branches[0].shape[1]
            branches.append(jnp.broadcast_to(context, (x.shape[0], depth, *context.shape[2:])))
        y = self.conv(self.features, (1, 1, 1), name="mixer")(jnp.concatenate(branches, -1))
        if x.shape[-1] != self.features or self.strides != (1, 1, 1):
            x = self.conv(self.features, (1, 1, 1), self.strides, name="skip")(x)
        return x + self.act(self.norm()(y))

    def _split(self) -> tuple[int, int]:
        if not (self.slice2d or self.vol3d):
            raise UserError(
                "config.model.block: HybridConv has neither slice2d nor vol3d; keep one"
            )
        if not (self.slice2d and self.vol3d):
            return self.features * self.slice2d, self.features * self.vol3d
        slices = round(self.ratio * self.features)
        if not 0 < slices < self.features:
            raise UserError(
                f"config.model.block: HybridConv ratio {self.ratio} of {self.features} features "
                "leaves a branch empty; switch slice2d or vol3d off instead"
            )
        return slices, self.features - slices
