"""How a made image compares with the true one on the same grid: error, likeness, contrast of a structure."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Image = Float[np.ndarray, "x y z"]
Mask = Bool[np.ndarray, "x y z"]
SIGMA, TRUNCATE = 1.5, 3.5  # of the Gaussian window in voxels; 11 voxels wide (Wang 2004)


def mae(made: Image, true: Image, mask: Mask) -> float:
    """Mean absolute error under the mask, in the unit of the images; nan if the mask is empty."""
    return float(np.abs(made - true)[mask].mean()) if mask.any() else math.nan


def ssim(made: Image, true: Image, mask: Mask) -> float:
    """Mean structural similarity under the mask (Wang 2004), at most 1; nan if the mask is empty.

    A Gaussian window in three dimensions, K1 = 0.01, K2 = 0.03; the range is that of the true image
    under the mask. What lies outside the mask enters through the window: set it alike in both.
    """
    if not mask.any():
        return math.nan
    span = float(true[mask].max() - true[mask].min())
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2

    def local(image: Image) -> Image:
        return ndimage.gaussian_filter(image.astype(np.float64), SIGMA, truncate=TRUNCATE)

    mean_made, mean_true = local(made), local(true)
    var_made = local(made.astype(np.float64) ** 2) - mean_made**2
    var_true = local(true.astype(np.float64) ** 2) - mean_true**2
    both = local(made.astype(np.float64) * true) - mean_made * mean_true
    top = (2 * mean_made * mean_true + c1) * (2 * both + c2)
    bottom = (mean_made**2 + mean_true**2 + c1) * (var_made + var_true + c2)
    likeness = np.ones_like(top)  # two black images are alike
    np.divide(top, bottom, out=likeness, where=bottom > 0)
    return float(likeness[mask].mean())


def surroundings(
    structure: Mask, within: Mask, spacing: Sequence[float], *, reach: float = 10.0
) -> Mask:
    """The voxels of `within` at most `reach` mm from the structure, without it; none if it is empty."""
    if not structure.any():
        return np.zeros_like(structure)
    far = np.asarray(ndimage.distance_transform_edt(~structure, sampling=spacing))
    return (far <= reach) & within & ~structure


def contrast(image: Image, structure: Mask, around: Mask) -> float:
    """Contrast-to-noise ratio: the structure's mean above that around it, over the deviation there.

    nan where one of the masks is empty or the surroundings are constant. Unchanged by any rescaling
    of the image with a positive factor.
    """
    if not structure.any() or not around.any():
        return math.nan
    spread = float(image[around].std())
    return float(image[structure].mean() - image[around].mean()) / spread if spread else math.nan
