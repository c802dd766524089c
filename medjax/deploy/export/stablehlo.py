"""A network as StableHLO: what every compiler of JAX reads, for processors that are not here too."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import export

from medjax.ops.conv import implementation

PLATFORMS = ("cpu", "cuda", "tpu")


def stablehlo(
    fn: Callable[..., Any], params: Any, image: Any, platforms: Sequence[str] = PLATFORMS
) -> export.Exported:
    """fn(params, image) at one size of image, with the parameters inside and XLA's own convolutions.

    `serialize()` gives its bytes, `medjax.deploy.export.stablehlo.load` reads them. Errors: what cannot be
    lowered for one of the platforms.
    """
    whole = jax.ShapeDtypeStruct(image.shape, image.dtype)
    with implementation("native"):
        return export.export(jax.jit(lambda x: fn(params, x)), platforms=platforms)(whole)


def load(data: bytes) -> Callable[[Any], Any]:
    """The function of serialised StableHLO."""
    return export.deserialize(bytearray(data)).call
