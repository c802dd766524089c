"""Augmentation as pure functions on batches, compiled into the train step."""

from collections.abc import Sequence

from medjax.data.augment.chain import Augmentation, chain
from medjax.data.augment.intensity import (
    blur,
    brightness,
    contrast,
    gamma,
    intensity,
    low_resolution,
    noise,
)
from medjax.data.augment.scanner import scanner
from medjax.data.augment.spatial import spatial
from medjax.data.motion import Motion, is_planar, margin

__all__ = [
    "Augmentation",
    "Motion",
    "chain",
    "default",
    "intensity",
    "margin",
    "scanner",
    "spatial",
]


def default(
    patch: Sequence[int],
    spacing: Sequence[float],
    channels: int | None = None,
    *,
    strength: float = 1.0,
    rotation: float | Sequence[float] | None = None,
    scale: tuple[float, float] = (0.7, 1.4),
    shear: float = 0.0,
    translation: float = 0.0,
    elastic: tuple[float, float] | None = None,
    flips: Sequence[int] | None = None,
    planar: bool | None = None,
    probability_rotation: float = 0.2,
    probability_scale: float = 0.2,
    probability_elastic: float = 0.2,
    probability_noise: float = 0.1,
    probability_blur: float = 0.2,
    probability_brightness: float = 0.15,
    probability_contrast: float = 0.15,
    probability_low_resolution: float = 0.25,
    probability_gamma: float = 0.3,
    probability_gamma_inverted: float = 0.1,
    probability_scanner: float = 0.0,
) -> tuple[Augmentation, Motion | None]:
    """nnU-Net's chain for a patch (d, h, w) at `spacing` (mm), and what its loader must know of it.

    strength: factor of all probabilities, up to 1 each; 0 leaves the flips alone (and no margin).
    channels: how many channels of the image carry intensities; None for all.
    flips: axes to reverse; None for all that have more than one voxel.
    probability_scanner: of a fault of an MR scanner in a channel, all kinds alike.
    For the others see `spatial` and `intensity`.
    """

    def chance(probability: float) -> float:
        return min(1.0, strength * probability)

    planar = is_planar(patch, spacing) if planar is None else planar
    turns, grows = chance(probability_rotation), chance(probability_scale)
    bends = chance(probability_elastic)
    geometry = {
        "rotation": rotation if turns else 0.0,
        "translation": translation if turns else 0.0,
        "scale": scale if grows else (1.0, 1.0),
        "shear": shear if grows else 0.0,
        "elastic": elastic if bends else None,
        "planar": planar,
    }
    move = spatial(
        patch,
        spacing,
        **geometry,
        flips=[axis for axis in range(3) if patch[axis] > 1] if flips is None else flips,
        probability_rotation=turns,
        probability_scale=grows,
        probability_elastic=bends,
    )
    shade = intensity(
        noise(chance(probability_noise)),
        blur(chance(probability_blur)),
        brightness(chance(probability_brightness)),
        contrast(chance(probability_contrast)),
        low_resolution(chance(probability_low_resolution), axes=(1, 2) if planar else (0, 1, 2)),
        gamma(chance(probability_gamma_inverted), inverted=True),
        gamma(chance(probability_gamma)),
        channels=channels,
    )
    fault = chance(probability_scanner) / 6
    faults = scanner(
        spacing,
        motion=fault,
        ghosting=fault,
        spikes=fault,
        gibbs=fault,
        undersampling=fault,
        thick_slices=fault,
        channels=channels,
    )
    stages = (move, faults, shade) if fault else (move, shade)
    probabilities = (turns, grows, bends if elastic else 0.0)
    crop = margin(patch, spacing, **geometry)
    return chain(*stages), Motion(crop, probabilities) if max(probabilities) > 0 else None
