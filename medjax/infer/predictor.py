"""A trained model as a function from scans to label maps on their own grid."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, UInt8

from medjax.data.cases import Case
from medjax.data.plan import Plan
from medjax.data.prepare import Geometry, Scan
from medjax.errors import UserError
from medjax.infer.restore import restore_channel, restore_labels
from medjax.infer.sliding import sliding_window
from medjax.infer.spread import spread
from medjax.io.files import RASTER
from medjax.losses.segmentation import probabilities
from medjax.space.volume import Volume

Forward = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model as a function of scans: the plan's preparing, tiles, and the way back.

    `forward` maps (tiles, *window, c) to probabilities and is compiled once for all windows of a size: those
    of the plan's patch, or with `divisor` whole scans, padded to its multiples.
    mirror_axes are network axes. keep_largest: output channels cut down to their largest component.
    """

    forward: Forward
    plan: Plan
    overlap: float = 0.5
    tiles: int = 2
    mirror_axes: tuple[int, ...] = ()
    keep_largest: tuple[int, ...] = ()
    divisor: tuple[int, int, int] | None = None

    def window(self, image: Float32[np.ndarray, "d h w c"]) -> tuple[int, int, int]:
        """What of a prepared scan the network sees at once."""
        if self.divisor is None:
            return self.plan.patch
        d, h, w = (-(-n // f) * f for n, f in zip(image.shape, self.divisor, strict=False))
        return d, h, w

    def prepared(self, scan: Scan, name: str) -> tuple[Float32[np.ndarray, "d h w c"], Geometry]:
        """The scan as the network sees it."""
        image, _, geometry = self.plan.prepare(scan, name)
        return image, geometry

    def __call__(self, scan: Scan, name: str) -> tuple[Float32[np.ndarray, "d h w k"], Geometry]:
        """Probabilities at network resolution. Errors name the case."""
        image, geometry = self.prepared(scan, name)
        try:
            found = sliding_window(
                self.forward,
                image,
                self.window(image),
                overlap=self.overlap,
                tiles=self.tiles,
                mirror_axes=self.mirror_axes,
            )
        except FloatingPointError as error:
            raise UserError(f"case {name}: {error}; look at it with `--mode verify`") from error
        return found, geometry

    def labels(self, scan: Scan, name: str) -> UInt8[np.ndarray, "x y z"]:
        """Class indices on the RAS+ grid of the scan."""
        found, geometry = self(scan, name)
        return restore_labels(found, geometry, self.plan.labels, keep_largest=self.keep_largest)


def forward(model: Any, params: Any, *, exclusive: bool, tiles: int, space: int = 1) -> Forward:
    """Compiled windows -> probabilities."""

    def apply(params: Any, image: Float[Array, "b d h w c"]) -> Float[Array, "b d h w k"]:
        outputs, _ = model.apply({"params": params}, image, False)
        return probabilities(outputs["seg"].astype(jnp.float32), exclusive=exclusive)

    return spread(apply, params, tiles=tiles, space=space)


def attention(model: Any, params: Any, plan: Plan, *, tiles: int, space: int = 1) -> Forward | None:
    """Compiled windows -> the finest attention map of the model, or None where it has none."""

    def finest(params: Any, image: Float[Array, "b d h w c"]) -> Float[Array, "b d h w 1"] | None:
        _, aux = model.apply({"params": params}, image, False)
        return aux.get("attention/0")

    if jax.eval_shape(finest, params, jnp.zeros((1, *plan.patch, len(plan.channels)))) is None:
        return None
    return spread(finest, params, tiles=tiles, space=space)


def native(labels: UInt8[np.ndarray, "x y z"], scan: Scan, plan: Plan) -> Volume:
    """A label map in the file's own values, axes and affine."""
    decoded = plan.labels.decode(labels)
    return scan.orientation.undo(Volume(decoded, scan.affine))


def suffix(case: Case, scan: Scan) -> str:
    """What a prediction of the case is stored as: a picture for pictures, NIfTI for volumes."""
    picture = case.images[0].lower().endswith(RASTER) and scan.image.shape[2] == 1
    return ".png" if picture else ".nii.gz"


def attention_map(
    look: Forward | None, predictor: Predictor, scan: Scan, name: str
) -> Float32[np.ndarray, "x y z"] | None:
    """The attention map of a whole scan on its RAS+ grid, stitched like a prediction."""
    if look is None:
        return None
    image, geometry = predictor.prepared(scan, name)
    found = sliding_window(
        look, image, predictor.window(image), overlap=predictor.overlap, tiles=predictor.tiles
    )
    return restore_channel(found[..., 0], geometry)
