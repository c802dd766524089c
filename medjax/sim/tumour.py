"""One tumour in one brain: drawn, grown, pushing, and painted into the tissue it replaces."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, UInt8
from scipy import stats

from medjax.ops.sampling import centred_grid
from medjax.sim.draws import drawer
from medjax.sim.fields import smooth_noise
from medjax.sim.growth import Necrosis, grow, tissue_diffusivity
from medjax.sim.tissue import HEAD, LESION

STEP = 2.0  # mm: the grid on which tumours grow
RATE = 0.02  # 1/day, of growth; it only sets the unit of time
NEAR = (64, 80, 64)  # nodes of the grid around its site in which a tumour grows (x, y, z)
SEEDS = 4  # at most
MOST_STEPS = 600  # of each of the two growths: a brain may have no room for the volume drawn
CSF, GM, WM = (HEAD.index(name) for name in ("csf", "gm", "wm"))
Scalar = Float[Array, ""]
_GRID = np.linspace(0, 1, 129)
_BETA = (
    _GRID,
    stats.beta.ppf(_GRID, 2.4, 1.6),
)  # quantiles: `jax.random.beta` takes seconds to compile


class Tumour(NamedTuple):
    """What is drawn for one tumour: how it grows, and where its zones begin.

    `width` mm is sqrt(D / rate), how far cells run ahead of the mass; the rate is 0.02 / day in the
    mean and varies in space by exp(`roughness` x a field), as D does. Living tissue above `rim`
    enhances, dead tissue above `core` is necrosis; where living and dead tissue are above `edge`
    the fluid of the oedema begins, which spreads through white matter with its own `reach`.
    """

    volume: Scalar  # ml, all that is visible
    share: Scalar  # of it that the solid core takes before it pushes
    width: Scalar  # mm
    reach: Scalar  # mm, the softness of the oedema's border
    seeds: Float[Array, "n 4"]  # offset from the site in mm, radius in mm
    roughness: Scalar
    death: Scalar  # of the rate
    hunger: Scalar
    uptake: Scalar  # of the rate
    push: Scalar  # mm, the largest displacement
    edge: Scalar
    rim: Scalar
    core: Scalar
    quiet: Scalar  # share of the rim that does not enhance
    solid: Scalar  # share of the rim's voxels that is tumour
    swelling: Scalar  # least share of the tissue that oedema takes
    liquid: Scalar  # share of dead tissue that is fluid


class Grown(NamedTuple):
    """Densities of a tumour, and where there was room for it; `site` in mm, `days` of growth."""

    living: Float[Array, "x y z"]
    dead: Float[Array, "x y z"]
    fluid: Float[Array, "x y z"]
    room: Float[Array, "x y z"]
    site: Float[Array, "3"]
    days: Scalar


def draw_tumour(key: Array, *, necrotic: bool = True) -> Tumour:
    """A glioblastoma; without `necrotic` nothing starves (one species: Fisher and Kolmogorov)."""
    uniform = drawer(key, 33)
    volume = 12 * (250 / 12) ** jnp.interp(uniform(0, 1), *_BETA)
    share = uniform(0.12, 0.55)
    radius = (volume * share * 750 / jnp.pi) ** (1 / 3)  # mm, of a ball
    offset = (uniform(-0.5, 0.5, (SEEDS, 3)) * radius).at[0].set(0)
    present = jnp.arange(SEEDS) <= uniform(0, SEEDS)
    size = uniform(0.1, 0.45, (SEEDS,)) * radius * present
    return Tumour(
        volume=volume,
        share=share,
        width=0.8 * 3.1 ** uniform(0, 1),
        reach=1.2 * 2.5 ** uniform(0, 1),
        seeds=jnp.concatenate([offset, size[:, None]], axis=1),
        roughness=uniform(0.25, 0.75),
        death=uniform(0.1, 0.7) * necrotic,
        hunger=uniform(0.3, 0.7) * necrotic,
        uptake=uniform(0.2, 0.8) * necrotic,
        push=uniform(0.05, 0.35) * radius,
        edge=uniform(0.12, 0.2),
        rim=uniform(0.25, 0.6),
        core=uniform(0.05, 0.2),
        quiet=jnp.maximum(uniform(-0.2, 0.35), 0.0),
        solid=uniform(0.6, 0.95),
        swelling=uniform(0.45, 0.95),
        liquid=jnp.maximum(uniform(-2, 1), 0.0),
    )


def grow_in(
    key: Array,
    tumour: Tumour,
    tissue: Float[Array, "x y z tissues"],
    side: Float[Array, "x y z"],
) -> Grown:
    """The tumour in a brain (shares of `HEAD` on a grid of `STEP` mm, left of 0 and right `side`).

    Its site is a voxel deep in the white matter, above the lowest fifth of it. First the core grows
    to its volume, then fluid spreads from it until the whole has the drawn one, or as much as the
    white matter holds. Both end at the border of the box of `NEAR` around the site, which left the extent
    of 37 of 40 tumours in the template as it is in the whole head (the most that changed: 1.7 of 224 ml).
    """
    site_key, texture_key = jax.random.split(key)
    gm, wm = tissue[..., GM], tissue[..., WM]
    grid = [STEP * axis for axis in centred_grid(gm.shape)]
    centre = _site(site_key, wm)
    site = jnp.stack([grid[axis].ravel()[centre[axis]] for axis in range(3)])
    seeds = jnp.zeros_like(gm)
    for seed in tumour.seeds:
        square = sum((grid[a] - site[a] - seed[a]) ** 2 for a in range(3))
        ball = jnp.exp(-square / (2 * jnp.maximum(seed[3], 1.0) ** 2))
        seeds = jnp.maximum(seeds, 0.8 * ball * (seed[3] > 0))
    same = side * side[centre[0], centre[1], centre[2]] > 0  # only growth crosses the midline
    seeds = jnp.where(same, seeds, 0)
    coarse, fine = jax.random.split(texture_key)
    uneven = smooth_noise(coarse, gm.shape, STEP, 16.0, 2) + smooth_noise(
        fine, gm.shape, STEP, 7.0, 2
    )
    uneven = jnp.exp(jnp.clip(tumour.roughness * uneven, -1.2, 1.2))
    diffusivity = tissue_diffusivity(gm, wm, RATE * tumour.width**2) * uneven[0]
    necrosis = Necrosis(
        death=RATE * tumour.death,
        hunger=tumour.hunger,
        uptake=RATE * tumour.uptake,
        supply=RATE * tumour.width**2,
    )
    # A smaller grid fits into the cache: a step takes a third of the time.
    near = tuple(map(min, NEAR, gm.shape))
    start = [jnp.clip(c - n // 2, 0, m - n) for c, n, m in zip(centre, near, gm.shape, strict=True)]

    def cut(field: Array) -> Array:
        return lax.dynamic_slice(field, start, near)

    def paste(field: Array) -> Array:
        return lax.dynamic_update_slice(jnp.zeros_like(gm), field, start)

    core = grow(
        cut(diffusivity),
        RATE * cut(uneven[1]),
        cut(seeds),
        spacing=STEP,
        volume=tumour.volume * tumour.share,
        visible=tumour.rim,
        necrosis=necrosis,
        most_steps=MOST_STEPS,
    )
    mass = core.living + core.dead
    # Fluid runs along the fibres and hardly enters the cortex (a design prior).
    path = cut(jnp.where(gm + wm > 0.5, (wm**2 + 0.02) * uneven[0], 0))
    fluid = grow(
        RATE * tumour.reach**2 * path,
        RATE * path,
        jnp.clip((mass - tumour.edge) / 0.1, 0, 1),
        spacing=STEP,
        volume=tumour.volume,
        visible=0.5,
        most_steps=MOST_STEPS,
    )
    living, dead, spread = (paste(field) for field in (core.living, core.dead, fluid.living))
    room = (diffusivity > 0).astype(jnp.float32)
    return Grown(living, dead, spread, room, site, core.days)


def _site(key: Array, wm: Float[Array, "x y z"]) -> Array:
    """A voxel deep in the white matter of the cerebrum."""
    wide = lax.reduce_window(wm, 0.0, lax.add, (5, 5, 5), (1, 1, 1), "SAME") / 125
    below = jnp.cumsum(wm.sum(axis=(0, 1))) < 0.2 * wm.sum()  # brain stem and cerebellum
    deep = (wm > 0.8) & (wide > 0.5) & ~below[None, None]
    chance = jnp.where(deep, jax.random.uniform(key, wm.shape), wide - 2)
    return jnp.stack(jnp.unravel_index(jnp.argmax(chance), wm.shape))


def paint(
    key: Array,
    tumour: Tumour,
    cells: Float[Array, "x y z 3"],
    tissue: Float[Array, "x y z tissues"],
    spacing: float,
) -> tuple[Float[Array, "x y z all"], UInt8[Array, "x y z"]]:
    """Shares of `TISSUES` and the labels (BraTS 2023: 1 necrosis, 2 oedema, 3 enhancing).

    `cells` are the densities living, dead and fluid; `tissue` the shares of `HEAD` without a tumour.
    The core takes the whole voxel unless it is mostly fluid; oedema takes its part of the tissue. What died
    turns to fluid by the share `liquid` of the tumour, and keeps its label.
    No label lies where grey and white matter filled less than half of the voxel.
    """
    coarse, fine, patches, cloud = jax.random.split(key, 4)
    living, dead, fluid = (cells[..., c] for c in range(3))
    shape = living.shape
    rough = (
        smooth_noise(coarse, shape, spacing, 8.0)[0]
        + 0.6 * smooth_noise(fine, shape, spacing, 4.0)[0]
    )
    sharp = 1 + 0.2 * tumour.roughness * rough  # zones end unevenly
    necrotic = jax.nn.sigmoid((dead - tumour.core * sharp) / 0.02)
    core = jnp.maximum(jax.nn.sigmoid((living - tumour.rim * sharp) / 0.04), necrotic)
    oedema = jax.nn.sigmoid((fluid - 0.5 * sharp) / 0.1)
    patch = smooth_noise(patches, shape, spacing, 9.0)[0]
    limit = jax.scipy.stats.norm.ppf(1 - jnp.maximum(tumour.quiet, 1e-6))
    quiet = jax.nn.sigmoid((patch - limit) / 0.2)

    csf, gm, wm = tissue[..., CSF], tissue[..., GM], tissue[..., WM]
    core = core * jnp.clip((0.6 - csf) / 0.3, 0, 1) * (gm + wm > 0.05)
    necrotic, alive = core * necrotic, core * (1 - necrotic)
    quiet, bright = alive * quiet, alive * (1 - quiet)
    swollen = oedema * (1 - core) * (gm + wm)
    zones = jnp.stack([necrotic + quiet, swollen, bright], axis=-1)
    marked = (zones.sum(axis=-1) > 0.5) & (gm + wm > 0.5)
    label = jnp.where(marked, jnp.argmax(zones, axis=-1) + 1, 0).astype(jnp.uint8)

    uneven = jax.nn.sigmoid(1.2 * smooth_noise(cloud, shape, spacing, 10.0)[0])
    oedema = oedema * (1 - core) * (tumour.swelling + (1 - tumour.swelling) * uneven)
    bright = bright * tumour.solid
    left = 1 - necrotic - quiet - bright
    normal = (tissue * left[..., None]).at[..., CSF].add(necrotic * tumour.liquid)
    kept = jnp.ones_like(tissue).at[..., GM].set(1 - oedema).at[..., WM].set(1 - oedema)
    zones = {
        "necrosis": necrotic * (1 - tumour.liquid),
        "nonenhancing": quiet,
        "enhancing": bright,
        "oedema": left * oedema * (gm + wm),
    }
    none = jnp.zeros_like(living)
    lesion = jnp.stack([zones.get(name, none) for name in LESION], axis=-1)
    return jnp.concatenate([normal * kept, lesion], axis=-1), label
