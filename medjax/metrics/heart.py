"""How a heart pumps, from the volumes of its parts over a beat, and how well that agrees with a reference."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

PARTS = ("RV", "myocardium", "LV")


class Function(NamedTuple):
    """What the volumes of a heart say; nan where there is nothing to measure.

    lv_ef, rv_ef: ejection fractions of the ventricles in %; lv_ml, rv_ml: their largest volumes; wall: the
    volume of the myocardium over that of the left ventricle where this is largest.
    """

    lv_ef: float
    rv_ef: float
    lv_ml: float
    rv_ml: float
    wall: float


def function(scans: Sequence[Mapping[str, float]]) -> Function:
    """From the volumes of `PARTS` in ml, in two scans of a beat or more.

    End of diastole is where a ventricle is largest, end of systole where it is smallest: a part found in one
    scan alone gives 100 %.
    """
    full = max(scans, key=lambda volumes: volumes["LV"])
    lv, rv = ([volumes[part] for volumes in scans] for part in ("LV", "RV"))
    wall = full["myocardium"] / full["LV"] if full["LV"] else math.nan
    return Function(ejected(lv), ejected(rv), max(lv), max(rv), wall)


def ejected(volumes: Sequence[float]) -> float:
    """The share of the largest volume that the smallest lacks, in %; nan where all are 0."""
    return 100 * (1 - min(volumes) / max(volumes)) if max(volumes) else math.nan


def agreement(
    ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " n"]
) -> dict[str, float | int]:
    """Bias, its limits of agreement (mean and 1.96 standard deviations; Bland and Altman 1986), error, r.

    Pairs with nan are left out. nan where too few are left: limits need two, a correlation
    three.
    """
    both = np.isfinite(ours) & np.isfinite(theirs)
    a, b = ours[both], theirs[both]
    n = len(a)
    bias = float((a - b).mean()) if n else math.nan
    spread = 1.96 * float((a - b).std(ddof=1)) if n > 1 else math.nan
    varied = n > 2 and min(np.ptp(a), np.ptp(b)) > 0
    return {
        "n": n,
        "bias": bias,
        "low": bias - spread,
        "high": bias + spread,
        "mae": float(np.abs(a - b).mean()) if n else math.nan,
        "correlation": float(np.corrcoef(a, b)[0, 1]) if varied else math.nan,
    }
