"""U-Net in 2-D, 3-D and anything between: the strides and kernels of its stages say which."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from medjax.errors import UserError
from medjax.nn.attention import SCA
from medjax.nn.blocks import (
    ACTIVATIONS,
    ChannelDropout,
    Conv,
    Plain,
    Residual,
    Stage,
    Triple,
    Upsample,
    make_norm,
)
from medjax.nn.heads import Classification, Detection, Segmentation
from medjax.nn.hybrid import HybridConv
from medjax.ops.sharing import share

BLOCKS = {"plain": Plain, "residual": Residual, "hybrid": HybridConv}
DECODER_BLOCKS = {"plain": Plain, "residual": Plain, "hybrid": HybridConv}
HEADS = ("seg", "cls", "det")


def divisor(strides: Sequence[Sequence[int]]) -> Triple:
    """What the patch must be divisible by along (d, h, w)."""
    d, h, w = (math.prod(axis) for axis in zip(*strides, strict=True))
    return d, h, w


class UNet(nn.Module):
    """Encoder, decoder and heads (Ronneberger 2015; planned by stages as nnU-Net, Isensee 2021).

    One entry of `widths`, `kernels`, `strides` and `depths` per stage, the finest first; the first
    stride is (1, 1, 1) and a kernel of depth 1 is a 2-D convolution. `depths` are the blocks of
    each encoder stage (two each when empty), `decoder_depth` those of each decoder stage; a
    residual encoder has a plain decoder. `attention="sca"` gates the output of each encoder stage.
    `heads` gives the outputs and their classes: `seg` at full resolution, `cls` per sample from
    the bottleneck, `det` at decoder level `detection_level`. `dropout` drops whole channels of the
    bottleneck (needs the rng `dropout` in training), `tearing` those of what every encoder stage
    hands over (UniMatch's perturbation of features, Yang 2023); `axis` is that of the replicas.
    `remat` recomputes each stage in the backward pass. Parameters are float32, the work is in
    `dtype`, outputs are float32.

    aux: `features` (b, d', h', w', c) the bottleneck, marked by `perturb`; `attention/i` the
    spatial maps (b, d_i, h_i, w_i, 1) of encoder stage i; with `deep_supervision`, `logits/i` of
    `seg` at the decoder levels 1 and coarser. `init` gives a collection `perturbations` beside
    `params`; only Grad-CAM passes it back.
    Raises UserError that names the key whose value does not fit.
    """

    heads: Mapping[str, int]
    widths: Sequence[int]
    kernels: Sequence[Sequence[int]]
    strides: Sequence[Sequence[int]]
    block: str = "plain"
    depths: Sequence[int] = ()
    decoder_depth: int = 2
    attention: str = "none"
    norm: str = "instance"
    act: str = "leaky_relu"
    deep_supervision: bool = False
    detection_level: int = 1
    dropout: float = 0.0
    tearing: float = 0.0
    axis: str | None = None
    remat: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self,
        image: Float[Array, "b d h w c"],
        train: bool,
        present: Bool[Array, "b c"] | None = None,
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Give the outputs by head and the named intermediates; channels not `present` are read as 0."""
        self._check(image.shape[1:4])
        image = share(image)
        conv = partial(Conv, dtype=jnp.dtype(self.dtype))
        parts = {"conv": conv, "norm": make_norm(self.norm), "act": ACTIVATIONS[self.act]}
        stage = nn.remat(Stage) if self.remat else Stage
        kernels, strides = _triples(self.kernels), _triples(self.strides)
        if present is not None:
            image = jnp.where(present[:, None, None, None], image, 0)
        levels = len(self.widths)
        aux: dict[str, Array] = {}

        x, skips = image, []
        block = partial(BLOCKS[self.block], **parts)
        for i, depth in enumerate(self.depths or (2,) * levels):
            name = f"encoder{i}"
            x = stage(block, self.widths[i], kernels[i], strides[i], depth, name=name)(x)
            if self.attention == "sca":
                gate = SCA(conv=conv, act=parts["act"], name=f"attention{i}")
                x, aux[f"attention/{i}"] = gate(x)
            skips.append(x)
        if self.tearing:
            skips = [ChannelDropout(self.tearing, self.axis)(skip, train) for skip in skips]
        x = ChannelDropout(self.dropout, self.axis)(skips[-1], train)
        x = aux["features"] = self.perturb("features", x)

        outputs: dict[str, Any] = {}
        if "cls" in self.heads:
            outputs["cls"] = Classification(self.heads["cls"], name="cls")(x)
        decoded = {levels - 1: x}
        block = partial(DECODER_BLOCKS[self.block], **parts)
        for i in reversed(range(self._lowest_level(), levels - 1)):
            up = Upsample(self.widths[i], strides[i + 1], conv.keywords["dtype"], name=f"up{i}")
            x = jnp.concatenate([up(x), skips[i]], axis=-1)
            depth, name = self.decoder_depth, f"decoder{i}"
            x = decoded[i] = stage(block, self.widths[i], kernels[i], depth=depth, name=name)(x)
        if "det" in self.heads:
            head = Detection(self.heads["det"], **parts, name="det")
            outputs["det"] = head(decoded[self.detection_level])
        if "seg" in self.heads:
            outputs["seg"] = Segmentation(self.heads["seg"], conv, name="seg")(decoded[0])
            for i in range(1, levels - 1) if self.deep_supervision else ():
                head = Segmentation(self.heads["seg"], conv, name=f"seg{i}")
                aux[f"logits/{i}"] = head(decoded[i])
        return outputs, aux

    def _lowest_level(self) -> int:
        """The finest decoder level that a head reads."""
        if "seg" in self.heads:
            return 0
        return self.detection_level if "det" in self.heads else len(self.widths) - 1

    def _check(self, shape: tuple[int, ...]) -> None:
        levels = len(self.widths)
        for key, entries in {"kernels": self.kernels, "strides": self.strides}.items():
            _require(len(entries) == levels, key, f"{len(entries)} entries for {levels} widths")
            _require(all(len(e) == 3 for e in entries), key, "an entry is not (d, h, w)")
        _require(levels > 0, "widths", "no stage")
        _require(tuple(self.strides[0]) == (1, 1, 1), "strides", "the first is not (1, 1, 1)")
        enough = len(self.depths) in (0, levels)
        _require(enough, "depths", f"{len(self.depths)} entries for {levels} widths")
        _require(min(self.depths, default=1) > 0, "depths", "a stage has no block")
        _require(self.decoder_depth > 0, "decoder_depth", "no block")
        for key, value, known in (
            ("block", self.block, BLOCKS),
            ("attention", self.attention, ("none", "sca")),
            ("act", self.act, ACTIVATIONS),
        ):
            _require(
                value in known, key, f"unknown value {value!r}; choose from {', '.join(known)}"
            )
        _require(bool(self.heads), "heads", "no head")
        for head in self.heads:
            _require(head in HEADS, "heads", f"unknown {head!r}; choose from {', '.join(HEADS)}")
        reachable = "det" not in self.heads or 0 <= self.detection_level < levels
        _require(reachable, "detection_level", f"{self.detection_level} of {levels} levels")
        fits = all(n % by == 0 for n, by in zip(shape, divisor(self.strides), strict=True))
        _require(fits, "strides", f"patch {shape} is not divisible by {divisor(self.strides)}")


def _triples(entries: Sequence[Sequence[int]]) -> list[Triple]:
    return [(d, h, w) for d, h, w in entries]


def _require(condition: bool, key: str, problem: str) -> None:
    if not condition:
        raise UserError(f"config.model.{key}: {problem}; correct the model or its plan")
