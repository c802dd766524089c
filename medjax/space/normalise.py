"""Intensity normalisation as data: a mapping says what is done to one channel."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from medjax.errors import UserError

SCHEMES = ("zscore", "zscore_mask", "ct", "rescale", "none")
_MINIMUM = 1e-8  # of a standard deviation or range: a constant image becomes 0, not nan


def normalise(
    image: Float32[np.ndarray, "..."],
    scheme: Mapping[str, Any],
    mask: Bool[np.ndarray, "..."] | None = None,
) -> Float32[np.ndarray, "..."]:
    """One channel, normalised as `scheme` says; the input stays as it is.

    `{"scheme": NAME, "clip": [lo, hi]?, "mean": m?, "std": s?}`; `clip`, where given, comes first:

    - `zscore`: minus mean, over standard deviation, of the whole image.
    - `zscore_mask`: the same with the mean and deviation under `mask`; 0 outside, and everywhere
      where the mask is empty.
    - `ct`: minus the given `mean`, over the given `std`, after the `clip` (all three required: HU,
      with clip at the 0.5 and 99.5 percentiles of the foreground in nnU-Net, Isensee et al. 2021).
    - `rescale`: `clip`, or without it the image's minimum and maximum, to 0 and 1.
    - `none`: as it is.

    A deviation or range below 1e-8 counts as 1e-8. Raises `UserError` for a scheme with an unknown,
    missing or idle key, `zscore_mask` without a mask, and an image with nan or infinite voxels.
    """
    name, clip, given = _checked(scheme)
    if name == "zscore_mask" and (mask is None or mask.shape != image.shape):
        raise UserError("normalisation.scheme: zscore_mask needs a mask on the grid of the image")
    if not np.isfinite(image).all():
        raise UserError("image: it has nan or infinite voxels; repair or leave out the file")
    image = image.copy() if clip is None else np.clip(image, *clip)
    if name == "none" or image.size == 0:
        return image
    if name == "zscore":
        return _standardised(image)
    if name == "ct" and given is not None:
        return (image - np.float32(given[0])) / np.float32(max(given[1], _MINIMUM))
    if name == "rescale":
        low, high = clip or (float(image.min()), float(image.max()))
        return (image - np.float32(low)) / np.float32(max(high - low, _MINIMUM))
    result = np.zeros_like(image)
    if mask is not None and mask.any():
        result[mask] = _standardised(image[mask])
    return result


def _standardised(values: Float32[np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
    """Minus mean, over standard deviation; both summed in float64."""
    centred = values - np.float32(values.mean(dtype=np.float64))
    deviation = np.sqrt(np.square(centred).mean(dtype=np.float64))
    return centred / np.float32(max(deviation, _MINIMUM))


def _checked(
    scheme: Mapping[str, Any],
) -> tuple[str, tuple[float, float] | None, tuple[float, float] | None]:
    """Name, clip, (mean, std); a key that is None counts as absent."""
    present = {key: value for key, value in scheme.items() if value is not None}
    name = present.pop("scheme", None)
    if name not in SCHEMES:
        raise UserError(f"normalisation.scheme: {name!r}; use one of {', '.join(SCHEMES)}")
    known = {"clip", "mean", "std"} if name == "ct" else {"clip"}
    for key in present.keys() - known:
        raise UserError(f"normalisation.{key}: does nothing under {name!r}; leave it out")
    for key in known - present.keys():
        if name == "ct":
            raise UserError(f"normalisation.{key}: missing; 'ct' needs clip, mean and std")
    clip = present.get("clip")
    try:
        clip = None if clip is None else (float(clip[0]), float(clip[1]))
        given = (float(present["mean"]), float(present["std"])) if name == "ct" else None
    except (TypeError, ValueError, IndexError) as error:
        raise UserError(f"normalisation: {dict(scheme)} holds what is no number") from error
    if not np.isfinite([*(clip or ()), *(given or ())]).all():
        raise UserError(f"normalisation: {dict(scheme)} holds nan or infinity; give finite numbers")
    if clip is not None and not clip[0] < clip[1]:
        raise UserError(f"normalisation.clip: {list(clip)}; give [low, high] with low < high")
    return name, clip, given
