"""One synthetic subject, compiled: a parent bent to a new head, a disease, four MR contrasts."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from medjax.ops.sampling import Coordinates, centred_grid, smooth_field
from medjax.sim.anatomy import Anatomy, fuller
from medjax.sim.fields import smooth_noise
from medjax.sim.mass import push
from medjax.sim.plaques import draw_plaques, paint_plaques
from medjax.sim.scan import draw_physics, draw_random, in_plane, scan
from medjax.sim.shape import draw_deformation, grid_shape, parent_points, read_apart, read_field
from medjax.sim.signal import CONTRASTS
from medjax.sim.tissue import HEAD
from medjax.sim.tumour import CSF, STEP, draw_tumour, grow_in, paint
from medjax.sim.vessels import vessels

GROWTHS = ("two_species", "one_species", "plaques")  # tumours with necrosis, without; sclerosis
LARGEST = 1500.0  # ml: the heads of a larger brain, as templates have, are this large in the mean
VESSEL = HEAD.index("vessel")
YOUNGEST = 0.7  # share of fluid in a voxel that counts as tissue
STRIP = (-0.5, 2.0)  # mm below the surface of the brain: where a skull-stripped image begins


class Body(NamedTuple):
    """What there is to scan: `shares` of `TISSUES`, sum 1 inside and 0 outside; `label`s (of tumours
    BraTS 2023's, 1 of plaques);
    `depth` mm below the surface of the brain; all that was `drawn`."""

    shares: Float[Array, "x y z tissues"]
    label: UInt8[Array, "x y z"]
    depth: Float[Array, "x y z"]
    drawn: dict[str, Any]


def make_body(
    key: Array,
    parent: Anatomy,
    *,
    shape: Sequence[int],
    spacing: float,
    growth: str = "two_species",
) -> Body:
    """A head with what grew in it (of `GROWTHS`), on an isotropic grid around the centre of the brain."""
    shape_key, youth_key, blood_key, drawn_key, grow_key, paint_key = jax.random.split(key, 6)
    extent = parent.depth.shape
    youth = jax.random.uniform(youth_key, minval=0.0, maxval=YOUNGEST)
    size = jnp.maximum(1.0, jnp.cbrt((jnp.asarray(parent.depth) > 0).sum() / 1000 / LARGEST))
    deformation = draw_deformation(shape_key, extent, size=size)

    coarse = grid_shape(extent, STEP)
    grid = [STEP * axis for axis in centred_grid(coarse)]
    healthy = parent_points(deformation, (grid[0], grid[1], grid[2]))
    still = jnp.broadcast_arrays(*grid)
    before, bent, tumour, grown = still, healthy, None, None
    if growth != "plaques":
        tumour = draw_tumour(drawn_key, necrotic=growth == "two_species")
        grown = grow_in(grow_key, tumour, fuller(_read(parent.shares, healthy), youth), healthy[0])
        # From here on the tissue is where the tumour has pushed it, and the skull where it was.
        moved = push(grown.living + grown.dead, spacing=STEP, most=tumour.push)
        before = (grid[0] - moved[..., 0], grid[1] - moved[..., 1], grid[2] - moved[..., 2])
        bent = parent_points(deformation, before)
    moves = jnp.stack([*before, *bent, *healthy]) - jnp.stack(still * 3)

    fine = [spacing * axis for axis in centred_grid(shape)] * 3
    moves = smooth_field(
        moves, [_finer(*sizes, spacing) for sizes in zip(coarse, shape, strict=True)]
    )
    points = [grid + move for grid, move in zip(fine, moves, strict=True)]
    shares = _read(parent.shares, (points[3], points[4], points[5]))
    # Read above 0, as the maps count as 0 beyond their border.
    depth = read_apart(jnp.asarray(parent.depth)[..., None] + 12, points[6:], 1.0)[..., 0] - 12
    fluid = jnp.where(depth > 0, jnp.clip(1 - shares.sum(axis=-1), 0, 1), 0)
    shares = fuller(shares.at[..., CSF].add(fluid), youth)
    blood = vessels(blood_key, depth, shares[..., CSF], spacing) * (shares.sum(axis=-1) > 0.5)
    shares = (shares * (1 - blood)[..., None]).at[..., VESSEL].add(blood)
    drawn: dict[str, Any] = {"deformation": deformation._asdict(), "youth": youth}
    if tumour is None or grown is None:
        plaques = draw_plaques(drawn_key)
        painted, label = paint_plaques(paint_key, plaques, shares, depth, spacing)
        return Body(painted, label, depth, drawn | {"plaques": plaques._asdict()})
    cells = jnp.stack([grown.living, grown.dead, grown.fluid, grown.room], axis=-1)
    cells = read_apart(cells, points[:3], STEP)
    cells = cells[..., :3] / jnp.maximum(cells[..., 3:], 0.1)  # no fading towards the walls
    painted, label = paint(paint_key, tumour, cells, shares, spacing)
    facts = tumour._asdict() | {"site_mm": grown.site, "days": grown.days}
    return Body(painted, label, depth, drawn | {"tumour": facts})


def _read(maps: Any, points: Coordinates) -> Float[Array, "p q r c"]:
    """The parent's maps at points in mm from its centre."""
    return read_field(jnp.asarray(maps), points, 1.0)


def _finer(nodes: int, size: int, spacing: float) -> Float[np.ndarray, "n k"]:
    """Weights of nodes `STEP` mm apart at each of `size` voxels of a finer grid with the same centre."""
    place = (np.arange(size) - (size - 1) / 2) * spacing / STEP + (nodes - 1) / 2
    place = np.clip(place, 0, nodes - 1)[:, None]
    return np.maximum(1 - np.abs(place - np.arange(nodes)), 0).astype(np.float32)


class Subject(NamedTuple):
    """A patient as a file holds it: `image` 0 outside the brain and only there (unless with head),
    `label` as the body's, and all that was `drawn`."""

    image: Float[Array, "x y z c"]
    label: UInt8[Array, "x y z"]
    drawn: dict[str, Any]


def make_subject(
    key: Array,
    parent: Anatomy,
    *,
    shape: Sequence[int],
    spacing: float,
    contrasts: Sequence[str] = CONTRASTS,
    fields: Sequence[float] = (1.5, 3.0),
    faults: float = 0.1,
    plane: str = "any",
    growth: str = "two_species",
    randomised: bool = False,
    head: bool = False,
) -> Subject:
    """One patient: a function of the key and the parent, the same bits for the same arguments.

    `shape` voxels of `spacing` mm around the centre of the brain; `contrasts` of `signal.PRESETS`;
    `fields` the strengths to draw from; `faults` the chance of an artefact in each image; `plane` that
    of thick slices, of `scan.PLANES` or any; `growth` of `GROWTHS`; `randomised` contrasts as in
    SynthSeg, not of physics; `head` keeps what lies around the brain.
    """
    body_key, look_key, scan_key, strip_key = jax.random.split(key, 4)
    body = make_body(body_key, parent, shape=shape, spacing=spacing, growth=growth)
    if randomised:
        look, drawn = draw_random(look_key, contrasts, faults=faults)
    else:
        look, drawn = draw_physics(look_key, contrasts, fields=fields, faults=faults)
    look = in_plane(look, plane)
    image = scan(scan_key, body.shares, look, spacing=spacing)
    drawn = {**body.drawn, "scan": look._asdict() | drawn}
    if head:
        return Subject(jnp.rint(image), body.label, drawn)
    mean_key, rough_key = jax.random.split(strip_key)
    strip = jax.random.uniform(mean_key, minval=STRIP[0], maxval=STRIP[1])
    rough = smooth_noise(rough_key, shape, spacing, 15.0)[0]
    kept = (body.depth > strip + 0.5 * rough) & (body.shares.sum(axis=-1) > 0.3)
    image = jnp.where(kept[..., None], jnp.maximum(jnp.rint(image), 1), 0)
    return Subject(image, jnp.where(kept, body.label, 0), drawn | {"strip_mm": strip})
