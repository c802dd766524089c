"""MR signal equations (ms, degrees), tissues at 1.5 T and 3 T, and the four BraTS contrasts."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from medjax.errors import UserError

TISSUES = ("csf", "gm", "wm", "necrosis", "nonenhancing", "enhancing", "oedema")
CONTRASTS = ("T1", "T1ce", "T2", "FLAIR")


class Tissue(NamedTuple):
    """Relaxation times in ms and proton density relative to water.

    `t1_gd` is T1 after gadolinium; equal to `t1` where the blood-brain barrier holds.
    """

    t1: float
    t2: float
    t2star: float
    pd: float
    t1_gd: float

    def enhanced(self) -> "Tissue":
        """The tissue after the contrast agent."""
        return self._replace(t1=self.t1_gd)


class SpinEcho(NamedTuple):
    """PD (1 - e^(-TR/T1)) e^(-TE/T2); `tr` and `te` in ms."""

    tr: float
    te: float

    def signal(self, tissue: Tissue) -> float:
        """Magnitude, in units of the proton density."""
        return tissue.pd * (1 - np.exp(-self.tr / tissue.t1)) * np.exp(-self.te / tissue.t2)


class SpoiledGradientEcho(NamedTuple):
    """PD sin(a) (1 - E1) / (1 - cos(a) E1) e^(-TE/T2*) with E1 = e^(-TR/T1), a in degrees."""

    tr: float
    te: float
    flip_angle: float

    def signal(self, tissue: Tissue) -> float:
        """Magnitude, in units of the proton density."""
        angle, e1 = np.deg2rad(self.flip_angle), np.exp(-self.tr / tissue.t1)
        steady = np.sin(angle) * (1 - e1) / (1 - np.cos(angle) * e1)
        return tissue.pd * steady * np.exp(-self.te / tissue.t2star)


class InversionRecovery(NamedTuple):
    """PD |1 - 2 e^(-TI/T1) + e^(-TR/T1)| e^(-TE/T2), magnitude; FLAIR where `ti` nulls CSF."""

    tr: float
    te: float
    ti: float

    def signal(self, tissue: Tissue) -> float:
        """Magnitude, in units of the proton density."""
        recovery = 1 - 2 * np.exp(-self.ti / tissue.t1) + np.exp(-self.tr / tissue.t1)
        return tissue.pd * abs(recovery) * np.exp(-self.te / tissue.t2)


Protocol = SpinEcho | SpoiledGradientEcho | InversionRecovery


def null_ti(t1: float, tr: float) -> float:
    """Inversion time (ms) at which a tissue of this T1 gives no signal."""
    return t1 * (np.log(2) - np.log1p(np.exp(-tr / t1)))


def tissues(field: float) -> dict[str, Tissue]:
    """Tissue name -> `Tissue` at 1.5 or 3.0 T, in the order of `TISSUES`.

    Normal tissue at 1.5 T is BrainWeb's table (as coded in Fessler's mirt). At 3 T, T2* and CSF are
    MRzero's; GM and WM lie within the ranges of PTB's mrpro, as MRzero's own put GM below WM on
    FLAIR. Lesions are design priors, guided by MR fingerprinting ratios to white matter (de Blank)
    and the T1 shortening by gadolinium in glioblastoma, about 840 ms at 3 T (Frankfurt, 2020).
    Their T2* is not published: they take the T2' of white matter, 1/T2* = 1/T2 + 1/T2'.
    Another field strength raises `UserError`.
    """
    if field == 1.5:
        normal = {"csf": (2569, 329, 58, 1.0), "gm": (833, 83, 69, 0.86), "wm": (500, 70, 61, 0.77)}
        lesion = {
            "necrosis": (1800, 250, 0.95, 1800),
            "nonenhancing": (1000, 165, 0.86, 1000),
            "enhancing": (1000, 150, 0.86, 420),
            "oedema": (800, 130, 0.82, 800),
        }
    elif field == 3.0:
        normal = {
            "csf": (4163, 1650, 57.1, 1.0),
            "gm": (1400, 95, 66.0, 0.83),
            "wm": (850, 72, 53.2, 0.70),
        }
        lesion = {
            "necrosis": (2600, 300, 0.95, 2600),
            "nonenhancing": (1650, 165, 0.84, 1650),
            "enhancing": (1650, 150, 0.84, 780),
            "oedema": (1330, 130, 0.78, 1330),
        }
    else:
        raise UserError(
            f"field={field:g}: no tissue table at this strength; use 1.5 or 3.0 (tesla)"
        )
    table = {name: Tissue(*values, t1_gd=values[0]) for name, values in normal.items()}
    dephasing = 1 / table["wm"].t2star - 1 / table["wm"].t2
    for name, (t1, t2, pd, t1_gd) in lesion.items():
        table[name] = Tissue(t1, t2, 1 / (1 / t2 + dephasing), pd, t1_gd)
    return table


def protocols(field: float) -> dict[str, Protocol]:
    """Contrast name -> sequence at 1.5 or 3.0 T, in the order of `CONTRASTS`.

    T1 before and after gadolinium is BrainWeb's spoiled FLASH (18 / 10 ms / 30 degrees).
    """
    t1 = SpoiledGradientEcho(tr=18.0, te=10.0, flip_angle=30.0)
    ti = null_ti(tissues(field)["csf"].t1, 9000.0)
    return {
        "T1": t1,
        "T1ce": t1,
        "T2": SpinEcho(tr=4000.0, te=100.0),
        "FLAIR": InversionRecovery(tr=9000.0, te=120.0, ti=ti),
    }


def signal_table(
    table: Mapping[str, Tissue], sequences: Mapping[str, Protocol]
) -> Float[np.ndarray, "tissues contrasts"]:
    """Signal of every tissue in every contrast; the one named T1ce is after gadolinium."""
    rows: Sequence[Sequence[float]] = [
        [
            sequence.signal(tissue.enhanced() if contrast == "T1ce" else tissue)
            for contrast, sequence in sequences.items()
        ]
        for tissue in table.values()
    ]
    return np.array(rows)


def mix(
    fractions: Float[np.ndarray, "x y z tissues"], signals: Float[np.ndarray, "tissues contrasts"]
) -> Float[np.ndarray, "x y z contrasts"]:
    """Signals weighted by the share of each tissue in the voxel: relaxation times never mix."""
    return fractions @ signals.astype(fractions.dtype)
