"""MR signal equations (ms, degrees), and the protocols of the usual contrasts."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.sim.draws import drawer
from medjax.sim.tissue import Number, Tissue, tissues


class SpinEcho(NamedTuple):
    """PD (1 - e^(-TR/T1)) e^(-TE/T2); `tr` and `te` in ms."""

    tr: Number
    te: Number

    def signal(self, tissue: Tissue) -> Number:
        """Magnitude, in units of the proton density."""
        return tissue.pd * (1 - jnp.exp(-self.tr / tissue.t1)) * jnp.exp(-self.te / tissue.t2)


class SpoiledGradientEcho(NamedTuple):
    """PD sin(a) (1 - E1) / (1 - cos(a) E1) e^(-TE/T2*) with E1 = e^(-TR/T1), a in degrees."""

    tr: Number
    te: Number
    flip_angle: Number

    def signal(self, tissue: Tissue) -> Number:
        """Magnitude, in units of the proton density."""
        angle, e1 = jnp.deg2rad(self.flip_angle), jnp.exp(-self.tr / tissue.t1)
        steady = jnp.sin(angle) * (1 - e1) / (1 - jnp.cos(angle) * e1)
        return tissue.pd * steady * jnp.exp(-self.te / tissue.t2star)


class InversionRecovery(NamedTuple):
    """PD |1 - (1 + e) e^(-TI/T1) + e e^(-TR/T1)| e^(-TE/T2), magnitude; FLAIR where `ti` nulls CSF.

    `efficiency` e: minus the cosine of the angle by which the pulse turns the magnetisation, 1 where
    it is perfect.
    """

    tr: Number
    te: Number
    ti: Number
    efficiency: Number = 1.0

    def signal(self, tissue: Tissue) -> Number:
        """Magnitude, in units of the proton density."""
        e = self.efficiency
        recovery = 1 - (1 + e) * jnp.exp(-self.ti / tissue.t1) + e * jnp.exp(-self.tr / tissue.t1)
        return tissue.pd * jnp.abs(recovery) * jnp.exp(-self.te / tissue.t2)


class BalancedSsfp(NamedTuple):
    """PD sin(a) (1 - E1) / (1 - (E1 - E2) cos(a) - E1 E2) e^(-TE/T2), on resonance, TE = TR/2."""

    tr: Number
    flip_angle: Number

    def signal(self, tissue: Tissue) -> Number:
        """Magnitude, in units of the proton density."""
        angle = jnp.deg2rad(self.flip_angle)
        e1, e2 = jnp.exp(-self.tr / tissue.t1), jnp.exp(-self.tr / tissue.t2)
        steady = jnp.sin(angle) * (1 - e1) / (1 - (e1 - e2) * jnp.cos(angle) - e1 * e2)
        return tissue.pd * steady * jnp.exp(-self.tr / 2 / tissue.t2)


Protocol = SpinEcho | SpoiledGradientEcho | InversionRecovery | BalancedSsfp
CONTRASTS = ("T1", "T1ce", "T2", "FLAIR")
PRESETS = (*CONTRASTS, "PD", "bSSFP")
INVERTED = (0.78, 0.92)  # efficiency of an inversion


def null_ti(t1: Number, tr: Number) -> Number:
    """Inversion time (ms) at which a tissue of this T1 gives no signal."""
    return t1 * (jnp.log(2.0) - jnp.log1p(jnp.exp(-tr / t1)))


def protocols(field: float) -> dict[str, Protocol]:
    """Contrast name -> sequence at 1.5 or 3.0 T, in the order of `PRESETS`.

    T1 before and after gadolinium is BrainWeb's spoiled FLASH (18 / 10 ms / 30 degrees), PD its
    early echo (3300 / 35 ms).
    """
    t1 = SpoiledGradientEcho(tr=18.0, te=10.0, flip_angle=30.0)
    ti = null_ti(tissues(field)["csf"].t1, 9000.0)
    return {
        "T1": t1,
        "T1ce": t1,
        "T2": SpinEcho(tr=4000.0, te=100.0),
        "FLAIR": InversionRecovery(tr=9000.0, te=120.0, ti=ti),
        "PD": SpinEcho(tr=3300.0, te=35.0),
        "bSSFP": BalancedSsfp(tr=5.0, flip_angle=45.0),
    }


def vary_protocols(
    key: Array, sequences: Mapping[str, Protocol], width: float = 0.04
) -> dict[str, Protocol]:
    """Scanner settings of one subject: every time and angle within this share.

    Inversions are as good as `INVERTED`: what fluid flows in was not inverted, and no scan nulls it.
    """
    leaves, form = jax.tree.flatten(dict(sequences))
    draw = drawer(key, len(leaves) + 1)
    drawn = draw(1 - width, 1 + width, (len(leaves),))
    varied = jax.tree.unflatten(form, [leaf * drawn[i] for i, leaf in enumerate(leaves)])
    inverted = draw(*INVERTED)
    for name, sequence in varied.items():
        if isinstance(sequence, InversionRecovery):
            varied[name] = sequence._replace(efficiency=inverted)
    return {name: varied[name] for name in sequences}  # a tree sorts its keys


def signal_table(
    tissue: Tissue, sequences: Mapping[str, Protocol]
) -> Float[Array, "tissues contrasts"]:
    """Signal of every tissue in every contrast; the one named T1ce is after gadolinium."""
    columns = [
        sequence.signal(tissue.enhanced() if contrast == "T1ce" else tissue)
        for contrast, sequence in sequences.items()
    ]
    return jnp.stack([jnp.asarray(column) for column in columns], axis=-1)
