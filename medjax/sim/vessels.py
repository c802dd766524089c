"""Vessels and meninges: thin bright things of a scan after gadolinium, which tumours are mistaken for."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from medjax.sim.fields import smooth_noise

BEND = 14.0  # mm, over which vessels wind
SHEET = 2.0  # mm below the surface that the meninges take


def vessels(
    key: Array, depth: Float[Array, "x y z"], fluid: Float[Array, "x y z"], spacing: float
) -> Float[Array, "x y z"]:
    """The share of blood in each voxel, 0 to 1: curves in and around the brain, patches on its surface.

    A curve is where two smooth random fields are both near 0; it is about 1 to 2 mm thick in fluid (share
    `fluid`) and near the surface (`depth` mm), and thinner in tissue. Patches of the meninges lie within
    `SHEET` mm of the surface. A design prior: no vascular tree.
    """
    curve_key, patch_key, amount_key = jax.random.split(key, 3)
    first, second = smooth_noise(curve_key, depth.shape, spacing, BEND, 2)
    amounts = jax.random.uniform(amount_key, (2,))
    outer = jnp.maximum(fluid, jax.nn.sigmoid((4.0 - depth) / 1.5))
    radius = (0.3 + 0.5 * outer) * (0.04 + 0.08 * amounts[0]) + 0.3 * spacing / BEND
    curves = jnp.exp(-(first**2 + second**2) / (2 * radius**2)) * (0.3 + 0.5 * outer)
    patch = smooth_noise(patch_key, depth.shape, spacing, BEND)[0]
    sheet = jnp.exp(-(((depth - SHEET / 2) / (SHEET / 2)) ** 2))
    sheet = sheet * jax.nn.sigmoid((patch - 2.6 + amounts[1]) / 0.15)
    return jnp.clip(jnp.maximum(curves, sheet), 0, 1)
