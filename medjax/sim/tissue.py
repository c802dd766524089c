"""Relaxation times and proton densities of tissues at 1.5 T and 3 T, and how they vary."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.errors import UserError
from medjax.sim import draws

HEAD = ("csf", "gm", "wm", "vessel", "fat", "muscle", "skin", "skull")
LESION = ("necrosis", "nonenhancing", "enhancing", "oedema", "plaque")
TISSUES = (*HEAD, *LESION)
Number = float | Float[Array, "*tissues"]
# 1/s that a dose of gadolinium adds to 1/T1 where the barrier holds, or nearly. White matter and the
# oedema of gliomas: Blystad et al. (2020); twice that of white matter in grey, which holds more blood,
# and that of oedema in tumour that does not enhance are design priors.
UPTAKE = {"gm": 0.064, "wm": 0.032, "nonenhancing": 0.047, "oedema": 0.047}


class Tissue(NamedTuple):
    """Relaxation times in ms and proton density relative to water: numbers, or one per tissue.

    `t1_gd` is T1 after gadolinium: much shorter in blood and where the blood-brain barrier is broken,
    a little (`UPTAKE`) in brain tissue, for the blood in it.
    """

    t1: Number
    t2: Number
    t2star: Number
    pd: Number
    t1_gd: Number

    def enhanced(self) -> "Tissue":
        """The tissue after the contrast agent."""
        return self._replace(t1=self.t1_gd)


def tissues(field: float) -> dict[str, Tissue]:
    """Tissue name -> `Tissue` at 1.5 or 3.0 T, in the order of `TISSUES`.

    Normal tissue at 1.5 T is BrainWeb's table (as coded in Fessler's mirt; its class 6, skin, takes
    the values of muscle). At 3 T, T2*, CSF, fat and muscle are MRzero's; GM and WM lie within the
    ranges of PTB's mrpro, as MRzero's own put GM below WM on FLAIR. Blood has the T1 of mrpro's
    vessel, 300 ms after gadolinium, and a T2 of 50 ms, which stands for the void of what flows;
    skull gives no signal. Lesions are design priors, guided by MR fingerprinting ratios to white
    matter (de Blank) and the T1 shortening by gadolinium in glioblastoma, about 840 ms at 3 T
    (Frankfurt, 2020); the plaque of multiple sclerosis has T1, T2 and density of BrainWeb's at
    1.5 T and is a prior at 3 T. All lesions take the T2' of white matter, 1/T2* = 1/T2 + 1/T2', as
    tumours have no published T2*. Another field strength raises `UserError`.
    """
    if field == 1.5:
        normal = {
            "csf": (2569, 329, 58, 1.0),
            "gm": (833, 83, 69, 0.86),
            "wm": (500, 70, 61, 0.77),
            "vessel": (1440, 50, 50, 0.9),
            "fat": (350, 70, 58, 1.0),
            "muscle": (900, 47, 30, 1.0),
            "skin": (900, 47, 30, 1.0),
        }
        lesion = {
            "necrosis": (1800, 250, 0.95, 1800),
            "nonenhancing": (1000, 165, 0.86, 1000),
            "enhancing": (1000, 150, 0.86, 420),
            "oedema": (950, 130, 0.82, 950),
            "plaque": (752, 237, 0.76, 752),
        }
    elif field == 3.0:
        normal = {
            "csf": (4163, 1650, 57.1, 1.0),
            "gm": (1400, 95, 66.0, 0.83),
            "wm": (850, 72, 53.2, 0.70),
            "vessel": (1900, 50, 50, 0.9),
            "fat": (374, 125, 10.7, 1.0),
            "muscle": (1100, 40, 25.0, 1.0),
            "skin": (1100, 40, 25.0, 1.0),
        }
        lesion = {
            "necrosis": (2600, 300, 0.95, 2600),
            "nonenhancing": (1650, 165, 0.84, 1650),
            "enhancing": (1650, 150, 0.84, 780),
            "oedema": (1330, 130, 0.78, 1330),
            "plaque": (1250, 215, 0.72, 1250),
        }
    else:
        raise UserError(
            f"synth.fields: {field:g} T: no tissue table at this strength; use 1.5 or 3.0"
        )
    table = {name: Tissue(*values, t1_gd=values[0]) for name, values in normal.items()}
    table["vessel"] = table["vessel"]._replace(t1_gd=300.0)
    table["skull"] = Tissue(400.0, 1.0, 0.5, 0.0, 400.0)
    dephasing = 1 / table["wm"].t2star - 1 / table["wm"].t2
    for name, (t1, t2, pd, t1_gd) in lesion.items():
        table[name] = Tissue(t1, t2, 1 / (1 / t2 + dephasing), pd, t1_gd)
    for name, rate in UPTAKE.items():
        table[name] = table[name]._replace(t1_gd=1 / (1 / table[name].t1 + rate / 1000))
    return {name: table[name] for name in TISSUES}


def stack(table: dict[str, Tissue], names: Sequence[str] = TISSUES) -> Tissue:
    """The table as one `Tissue` of arrays, in the order of `names`."""
    columns = zip(*[table[name] for name in names], strict=True)
    return Tissue(*(jnp.array(column, jnp.float32) for column in columns))


def vary(key: Array, tissue: Tissue, *, normal: float = 0.05, lesion: float = 0.15) -> Tissue:
    """One subject's table: every value times a log-normal factor, within these shares (2 sd).

    T1 before and after gadolinium move apart only in the enhancing tumour.
    """
    width = jnp.array([normal] * len(HEAD) + [lesion] * len(LESION), jnp.float32)
    drawn = jnp.clip(draws.normal(key, (len(Tissue._fields), len(TISSUES))), -2, 2)
    factors = jnp.exp(drawn * width[None] / 2)
    changed = Tissue(*(jnp.asarray(v) * f for v, f in zip(tissue, factors, strict=True)))
    apart = jnp.arange(len(TISSUES)) == TISSUES.index("enhancing")
    together = jnp.asarray(tissue.t1_gd) * factors[Tissue._fields.index("t1")]
    return changed._replace(t1_gd=jnp.where(apart, changed.t1_gd, together))
