"""Growth of an infiltrating tumour: reaction and diffusion of living, dead and fed tissue."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

Field = Float[Array, "x y z"]
CHECKED = 4  # steps between two looks at the volume


class Necrosis(NamedTuple):
    """How tissue starves.

    `death` 1/day, of living tissue whose nutrient is below `hunger` (a share of the healthy level);
    `uptake` 1/day, of nutrient by living tissue; `supply` mm^2/day, diffusivity of the nutrient.
    """

    death: float | Float[Array, ""] = 0.0
    hunger: float | Float[Array, ""] = 0.0
    uptake: float | Float[Array, ""] = 0.0
    supply: float | Float[Array, ""] = 0.0


class Growth(NamedTuple):
    """Shares of each voxel's tissue that are `living` and `dead` tumour, after so many `days`."""

    living: Field
    dead: Field
    nutrient: Field
    days: Float[Array, ""]


def tissue_diffusivity(gm: Field, wm: Field, white: Float[Array, ""] | float) -> Field:
    """D in mm^2/day: `white` in white matter, a tenth of it in grey (Swanson et al., 2000).

    0, and so a wall, where grey and white matter fill no more than half of the voxel: cells enter
    neither CSF nor skull.
    """
    return jnp.where(gm + wm > 0.5, white * (wm + gm / 10) / jnp.maximum(gm + wm, 1e-6), 0)


def grow(
    diffusivity: Field,
    rate: Field,
    seeds: Field,
    *,
    spacing: float,
    volume: float | Float[Array, ""],
    visible: float | Float[Array, ""] = 0.15,
    necrosis: Necrosis | None = None,
    most_steps: int = 2000,
    most_days: float | Float[Array, ""] = jnp.inf,
) -> Growth:
    """Grow from `seeds` (shares, 0 to 1) until what is visible fills `volume` ml.

        dP/dt = div(D ((1 - N) grad P + P grad N)) + rate S P (1 - P - N) - death P H(S)
        dN/dt = death P H(S)
        dS/dt = div(supply grad S) - uptake S P

    P is living, N dead, S nutrient (1 at first) and H rises from 0 to 1 where S falls below
    `hunger`. Without `necrosis` nothing dies: the model is Fisher's and Kolmogorov's. Cells
    move into what is not dead (volume filling: Painter and Hillen, 2002), so P + N stays at most 1.
    `diffusivity` mm^2/day, 0 outside the tissue; `rate` 1/day; `spacing` mm, isotropic; visible is
    P + N > `visible`. Explicit steps of at most 0.8 of the limit of stability and a fifth
    of the fastest reaction, fluxes through faces with the harmonic mean of both voxels, none through
    a face of a voxel without diffusivity. It also ends after `most_steps` or `most_days`.
    """
    tissue = diffusivity > 0
    moved = _conductances(diffusivity, spacing)
    death, hunger, uptake, supply = necrosis or Necrosis()
    fed = _conductances(tissue * jnp.float32(supply), spacing)
    fastest = jnp.maximum(diffusivity.max(), supply)
    reaction = jnp.maximum(rate.max(), jnp.maximum(death, uptake))
    step = jnp.minimum(
        0.8 * spacing**2 / (6 * jnp.maximum(fastest, 1e-9)), 0.2 / jnp.maximum(reaction, 1e-9)
    )
    wanted = volume * 1000 / spacing**3

    def advance(_: Array, state: Growth) -> Growth:
        living, dead, nutrient, days = state
        if necrosis is None:
            change = _divergence(living, moved) + rate * living * (1 - living)
            return Growth(living + step * change, dead, nutrient, days + step)
        starving = jax.nn.sigmoid((hunger - nutrient) / 0.05) * death
        dying = starving * living
        born = rate * nutrient * living * (1 - living - dead)
        return Growth(
            living + step * (_divergence(living, moved, 1 - dead) + born - dying),
            dead + step * dying,
            nutrient + step * (_divergence(nutrient, fed) - uptake * nutrient * living),
            days + step,
        )

    def unfinished(carry: tuple[Growth, Array]) -> Bool[Array, ""]:
        state, count = carry
        seen = jnp.sum((state.living + state.dead > visible) & tissue)
        return (seen < wanted) & (count < most_steps) & (state.days < most_days)

    def some(carry: tuple[Growth, Array]) -> tuple[Growth, Array]:
        state, count = carry
        return lax.fori_loop(0, CHECKED, advance, state), count + CHECKED

    zeros = jnp.zeros_like(diffusivity)
    start = Growth(seeds * tissue, zeros, zeros + 1, jnp.float32(0))
    return lax.while_loop(unfinished, some, (start, jnp.int32(0)))[0]


def _conductances(diffusivity: Field, spacing: float) -> list[Array]:
    """Per axis, of the faces between neighbours: the harmonic mean, in 1/day."""
    faces = []
    for axis, size in enumerate(diffusivity.shape):
        low = lax.slice_in_dim(diffusivity, 0, size - 1, axis=axis)
        high = lax.slice_in_dim(diffusivity, 1, size, axis=axis)
        faces.append(2 * low * high / jnp.maximum(low + high, 1e-12) / spacing**2)
    return faces


def _divergence(field: Field, faces: list[Array], free: Field | None = None) -> Field:
    """What flows into each voxel through its faces; none through the border of the grid.

    Where only a share of each voxel is `free`, what leaves for it is less by that share.
    """
    total = jnp.zeros_like(field)
    for axis, face in enumerate(faces):
        size = field.shape[axis]
        low = lax.slice_in_dim(field, 0, size - 1, axis=axis)
        high = lax.slice_in_dim(field, 1, size, axis=axis)
        widths = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        if free is not None:
            to_low = lax.slice_in_dim(free, 0, size - 1, axis=axis)
            to_high = lax.slice_in_dim(free, 1, size, axis=axis)
            high, low = high * to_low, low * to_high
        flux = jnp.pad(face * (high - low), widths)
        total += lax.slice_in_dim(flux, 1, size + 1, axis=axis)
        total -= lax.slice_in_dim(flux, 0, size, axis=axis)
    return total
