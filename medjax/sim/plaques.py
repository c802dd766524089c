"""Multiple sclerosis: many small lesions of the white matter, most of them around the ventricles."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt8

from medjax.ops.filters import gaussian_blur
from medjax.sim.draws import drawer
from medjax.sim.fields import smooth_noise
from medjax.sim.tissue import HEAD, LESION

SIZES = (4.0, 7.0)  # mm, over which the fields vary whose peaks are plaques
NEAR = 6.0  # mm, sigma: how far the neighbourhood of the ventricles reaches
DEEP = 8.0  # mm below the surface of the brain: fluid there is a ventricle's
HALVINGS = 20
CSF, GM, WM = (HEAD.index(name) for name in ("csf", "gm", "wm"))
Scalar = Float[Array, ""]


class Plaques(NamedTuple):
    """What is drawn for one patient: `load` ml of labels, `coarse` the share of the larger ones (0 to 1),
    `inner` how much the neighbourhood of the ventricles is preferred, `softness` of the borders, `density`
    the share of the tissue that a plaque takes."""

    load: Scalar
    coarse: Scalar
    inner: Scalar
    softness: Scalar
    density: Scalar


def draw_plaques(key: Array) -> Plaques:
    """All design priors; the load is 1 to 40 ml (three patients of Lesjak et al., 2017: 1.3, 8.2, 50)."""
    draw = drawer(key, 5)
    return Plaques(
        load=40 ** draw(0, 1),
        coarse=draw(0, 1),
        inner=draw(1.5, 4.0),
        softness=draw(0.05, 0.3),
        density=draw(0.35, 0.9),
    )


def paint_plaques(
    key: Array,
    drawn: Plaques,
    tissue: Float[Array, "x y z tissues"],
    depth: Float[Array, "x y z"],
    spacing: float,
) -> tuple[Float[Array, "x y z all"], UInt8[Array, "x y z"]]:
    """Shares of `TISSUES`, and the label: 1 where a plaque reaches over more than half of the voxel.

    `tissue` are the shares of `HEAD`, `depth` mm below the surface of the brain. Plaques take the place of
    white matter, and of the grey beside it: where they are likelier than a limit that the load decides.
    """
    shape = depth.shape
    small, large = (
        smooth_noise(k, shape, spacing, size)[0]
        for k, size in zip(jax.random.split(key), SIZES, strict=True)
    )
    ventricle = tissue[..., CSF] * jax.nn.sigmoid(depth - DEEP)
    sigma = jnp.full((3, 1), NEAR / spacing)
    blurred = gaussian_blur(ventricle[..., None], sigma, radius=round(3 * NEAR / spacing))[..., 0]
    angle = drawn.coarse * jnp.pi / 2
    likely = jnp.cos(angle) * small + jnp.sin(angle) * large
    likely += drawn.inner * jnp.clip(3 * blurred, 0, 1)
    gm, wm = tissue[..., GM], tissue[..., WM]
    room = jnp.clip(wm + 0.3 * gm, 0, 1) * (depth > 0)

    def filled(limit: Scalar) -> Float[Array, "x y z"]:
        return room * jax.nn.sigmoid((likely - limit) / drawn.softness)

    def halve(_: Array, span: tuple[Scalar, Scalar]) -> tuple[Scalar, Scalar]:
        low, high = span
        middle = (low + high) / 2
        much = jnp.sum(filled(middle) * (gm + wm) > 0.5) * spacing**3 / 1000 > drawn.load
        return jnp.where(much, middle, low), jnp.where(much, high, middle)

    start = (jnp.float32(-8), jnp.float32(8))
    share = filled(lax.fori_loop(0, HALVINGS, halve, start)[1])
    label = (share * (gm + wm) > 0.5).astype(jnp.uint8)
    share = drawn.density * share
    kept = jnp.ones_like(tissue).at[..., GM].set(1 - share).at[..., WM].set(1 - share)
    plaque = share * (gm + wm)
    none = jnp.zeros_like(plaque)
    lesion = jnp.stack([plaque if name == "plaque" else none for name in LESION], axis=-1)
    return jnp.concatenate([tissue * kept, lesion], axis=-1), label
