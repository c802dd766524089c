"""Every score of one case and one structure, with one rule for empty masks.

| score                         | both empty | prediction empty | reference empty |
|-------------------------------|------------|------------------|-----------------|
| dice, iou                     | nan        | 0                | 0               |
| sensitivity                   | nan        | 0                | nan             |
| precision                     | nan        | 0                | 0               |
| hd95, hd100, assd             | nan        | image diagonal   | image diagonal  |
| nsd                           | nan        | 0                | 0               |
| volume_error_ml               | 0          | reference_ml     | volume_ml       |
| volume_bias_ml                | 0          | -reference_ml    | volume_ml       |
| volume_error_relative         | nan        | 1                | nan             |
| lesion_dice, lesion_f1        | nan        | 0                | 0               |
| missed                        | nan        | 1                | nan             |
| false_alarm                   | 0          | nan              | 1               |

Why: a mean must count what went wrong, so one empty mask gives the worst value. For distances that
is the diagonal of the image in mm (as BraTS: 374 mm for 240 x 240 x 155), more than two voxels of
the grid can be apart; a silent nan or 0 would reward the model that predicts nothing. Both empty is
nan (as nnU-Net and MONAI; BraTS gives 1): were it 1, a model that always answers "nothing" would
score the share of healthy cases. Right answers on healthy cases are seen in `false_alarm`, whose
mean is the false alarm rate among cases without the structure; the mean of `missed` is the rate of
structures missed altogether. `statistics.aggregate` leaves nan out of the means and counts it.
"""

import math
from collections.abc import Sequence

import numpy as np

from medjax.metrics import lesion, overlap, surface
from medjax.metrics.overlap import Mask


def score(
    prediction: Mask,
    reference: Mask,
    spacing: Sequence[float],
    *,
    tolerance: float = 1.0,
    minimum_lesion_mm3: float = 0.0,
) -> dict[str, float]:
    """Compare two masks (x, y, z) on one grid; empty masks by the table of this module.

    spacing: mm along x, y, z. tolerance: mm, for nsd. minimum_lesion_mm3: smaller reference lesions
    are left out of the lesion-wise scores, which may then be nan with a mask that is not empty.

    dice, iou, sensitivity, precision, nsd, lesion_dice, lesion_f1: [0, 1], 1 is best. hd95, hd100,
    assd: mm, 0 is best. volume_ml (of the prediction), reference_ml; volume_error_ml is the
    absolute, volume_bias_ml the signed difference (prediction - reference), volume_error_relative
    the absolute one over the reference's volume. lesions_found, lesions_missed, lesions_false:
    counts. missed, false_alarm: 0 or 1.

    Raises ValueError for masks of different shapes, a spacing or a tolerance that makes no sense.
    """
    counts = overlap.count(prediction, reference)
    distances = surface.surface_distances(prediction, reference, spacing)
    lesions = lesion.lesion_scores(prediction, reference, spacing, minimum_mm3=minimum_lesion_mm3)
    diagonal = float(np.linalg.norm(np.multiply(prediction.shape, spacing)))
    ml = float(np.prod(spacing)) / 1000
    bias = (counts.prediction - counts.reference) * ml
    nan = math.nan

    def finite(distance: float) -> float:
        return diagonal if math.isinf(distance) else distance

    return {
        "dice": overlap.dice(counts),
        "iou": overlap.iou(counts),
        "sensitivity": overlap.sensitivity(counts),
        "precision": overlap.precision(counts),
        "hd95": finite(surface.hausdorff(distances, 95.0)),
        "hd100": finite(surface.hausdorff(distances, 100.0)),
        "assd": finite(surface.assd(distances)),
        "nsd": surface.nsd(distances, tolerance),
        "volume_ml": counts.prediction * ml,
        "reference_ml": counts.reference * ml,
        "volume_error_ml": abs(bias),
        "volume_bias_ml": bias,
        "volume_error_relative": abs(bias) / (counts.reference * ml) if counts.reference else nan,
        "lesion_dice": lesions.dice,
        "lesion_f1": lesions.f1,
        "lesions_found": float(lesions.found),
        "lesions_missed": float(lesions.missed),
        "lesions_false": float(lesions.false),
        "missed": float(not counts.prediction) if counts.reference else nan,
        "false_alarm": nan if counts.reference else float(counts.prediction > 0),
    }
