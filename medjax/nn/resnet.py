"""ResNet-50 (He 2016) of volumes, and of slices where they are one voxel thick: a class of the whole."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.errors import UserError
from medjax.nn.blocks import (
    ACTIVATIONS,
    Bottleneck,
    ChannelDropout,
    Conv,
    Stage,
    Triple,
    make_norm,
)
from medjax.nn.heads import Classification
from medjax.ops.sharing import share

DEPTHS = (3, 4, 6, 3)
STRIDES = 2 + len(DEPTHS) - 1  # of the stem, its pooling, and the stages but the first


class ResNet(nn.Module):
    """Stem, four stages of bottlenecks and a class for each sample.

    `strides` are those of the stem, of its pooling and of the stages after the first, as far as there are so
    many; along an axis of one voxel kernels are one voxel long. `width`: channels of the stem, 64 in the
    article; the last stage has 32 times as many. `dropout` drops channels of the last features (needs the rng
    `dropout` in training), `axis` is that of the replicas. Parameters are float32, the work is in `dtype`,
    outputs are float32.

    aux: `features` (b, d', h', w', c), those before pooling, marked by `perturb`.
    """

    heads: Mapping[str, int]
    strides: Sequence[Sequence[int]]
    width: int = 64
    norm: str = "group"
    act: str = "relu"
    dropout: float = 0.0
    axis: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "b d h w c"],
        train: bool,
        present: Bool[Array, "b c"] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Give the outputs by head and the features; channels not `present` are read as 0."""
        if set(self.heads) != {"cls"}:
            raise UserError(f"heads: {', '.join(self.heads)}; a ResNet has the head cls alone")
        image = share(image)
        conv = partial(Conv, dtype=jnp.dtype(self.dtype))
        parts = {"conv": conv, "norm": make_norm(self.norm), "act": ACTIVATIONS[self.act]}
        given = [(d, h, w) for d, h, w in self.strides][:STRIDES]
        strides = [*given, *[(1, 1, 1)] * (STRIDES - len(given))]
        if present is not None:
            image = jnp.where(present[:, None, None, None], image, 0)

        stem = conv(self.width, _within(image, 7), strides[0], name="stem")(image)
        x = parts["act"](parts["norm"](name="stem_norm")(stem))
        if strides[1] != (1, 1, 1):
            x = nn.max_pool(x, _within(x, 3), strides[1], padding="SAME")
        for i, (depth, stride) in enumerate(zip(DEPTHS, [(1, 1, 1), *strides[2:]], strict=True)):
            features = 4 * self.width * 2**i
            block = partial(Bottleneck, **parts)
            x = Stage(block, features, _within(x, 3), stride, depth, name=f"stage{i}")(x)
        x = ChannelDropout(self.dropout, self.axis)(x, train)
        x = self.perturb("features", x)
        return {"cls": Classification(self.heads["cls"], name="cls")(x)}, {"features": x}


def _within(x: Array, size: int) -> Triple:
    """A kernel of that size along axes of more than one voxel."""
    d, h, w = (size if n > 1 else 1 for n in x.shape[1:4])
    return d, h, w
