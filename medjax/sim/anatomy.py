"""Parents: maps of what each place in a head consists of, from three kinds of sources."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer
from scipy import ndimage

from medjax.errors import UserError
from medjax.sim.tissue import HEAD
from medjax.space.components import Box, bounding_box, largest_component

EXTENT = (160.0, 192.0, 160.0)  # mm along x, y, z: any brain, and some room
VIEW = (208.0, 256.0, 224.0)  # mm: any head down to the chin
SHARPNESS = 0.6  # mm: sigma of the blur that gives label maps partial volumes
CSF, GM, WM = (HEAD.index(name) for name in ("csf", "gm", "wm"))
CLOSED = 0.4  # `fuller`, but for the template: maps of one brain show more fluid than real patients
Shares = Mapping[str, float]

# FreeSurfer's ids, and those that SynthSeg's label maps add outside the brain (named by where they
# lie in the ten published maps). Deep grey matter is a mixture, as its T1 lies between both.
FREESURFER: Mapping[int, Shares] = (
    {i: {"wm": 1.0} for i in (2, 41, 7, 46, 25, 57, 77, 78, 79, 85, 251, 252, 253, 254, 255, 530)}
    | {i: {"gm": 1.0} for i in (3, 42, 17, 18, 53, 54)}
    | {i: {"gm": 0.85, "wm": 0.15} for i in (8, 47, 11, 50, 12, 51, 26, 58, 172)}
    | {i: {"gm": 0.5, "wm": 0.5} for i in (10, 49, 28, 60)}
    | {i: {"gm": 0.3, "wm": 0.7} for i in (13, 52, 16, 512)}
    | {i: {"csf": 1.0} for i in (4, 43, 5, 44, 14, 15, 24, 72, 506)}
    | {i: {"vessel": 0.5, "csf": 0.5} for i in (31, 63, 136, 163, 137, 164)}  # choroid plexus
    | {i: {"vessel": 1.0} for i in (30, 62, 502, 514)}
    | {507: {"muscle": 0.6, "fat": 0.4}, 508: {"muscle": 1.0}, 509: {"muscle": 1.0}}
    | {511: {"skin": 0.6, "fat": 0.4}, 515: {"skull": 1.0}, 516: {"fat": 0.6, "skull": 0.4}}
)
CORTEX = (3, 42)  # left and right
CORD = 600  # mm^2
LEAST = 3e5  # mm^3
BRAINWEB: Mapping[int, Shares] = {
    1: {"csf": 1.0},
    2: {"gm": 1.0},
    3: {"wm": 1.0},
    4: {"fat": 1.0},
    5: {"muscle": 1.0},
    6: {"skin": 1.0},
    7: {"skull": 1.0},
    8: {"gm": 1.0},  # glial
    9: {"muscle": 1.0},  # connective
}
# The twenty normal models (Aubert-Broche et al., 2006): their own classes, by file name as well.
BRAINWEB_20: Mapping[int, Shares] = {i: BRAINWEB[i] for i in range(1, 8)} | {
    8: {"vessel": 1.0},
    9: {"fat": 0.5, "muscle": 0.5},
    10: {"skull": 0.5, "csf": 0.5},  # dura
    11: {"fat": 0.6, "skull": 0.4},  # marrow
}
FUZZY = [
    "csf",
    "gm",
    "wm",
    "fat",
    "muscles",
    "muscles_skin",
    "skull",
    "vessels",
    "fat2",
    "dura",
    "marrow",
]
TABLES = {"freesurfer": FREESURFER, "brainweb": BRAINWEB, "brainweb20": BRAINWEB_20}


class Anatomy(NamedTuple):
    """A parent at 1 mm, RAS axes; the centre of its grid is the centre of the brain.

    `shares` of the tissues of `tissue.HEAD`, sum 1 inside the head and 0 outside; `depth` mm inside
    (+) or outside (-) the surface of the brain, so that a skull can be stripped more or less
    closely, within 12 mm. `name` says where it comes from.
    """

    shares: Float[np.ndarray, "x y z tissues"] | Float[Array, "x y z tissues"]
    depth: Float[np.ndarray, "x y z"] | Float[Array, "x y z"]
    name: str


def mni152(*, head: bool = False) -> Anatomy:
    """The MNI152 template (Fonov et al., 2011) that nilearn ships: CSF, GM and WM, no skull.

    Averaging 152 brains blurred the folds: a power brings back most voxels of one tissue.
    """
    if head:
        raise UserError("synth.head: the MNI152 template has no skull; give synth.label_maps too")
    csf, gm, wm, brain = _template()
    maps = np.stack([csf, gm, wm], axis=-1) ** 1.5
    total = maps.sum(axis=-1, keepdims=True)
    maps = np.where((brain > 0.5)[..., None] & (total > 1e-3), maps / np.maximum(total, 1e-3), 0)
    shares = np.zeros((*brain.shape, len(HEAD)), np.float32)
    shares[..., :3] = maps
    return _centred(shares, brain > 0.5, "MNI152 2009a symmetric", EXTENT)


def from_labels(
    ids: Integer[np.ndarray, "x y z"],
    spacing: Sequence[float],
    *,
    name: str,
    table: str = "auto",
    head: bool = False,
) -> Anatomy:
    """A parent from a label map (RAS axes, about 1 mm) with the ids of one of `TABLES`.

    `table` freesurfer, brainweb, brainweb20, or auto: freesurfer where an id is above 11. Without
    `head` all but 4 mm around the brain is left out. Errors begin with `name`: an id that the table
    lacks, no brain, other spacings.
    """
    lookup = _lookup(np.unique(ids), table, name)
    brain = _brain(lookup[ids, GM] + lookup[ids, WM] > 0.5, spacing, name)
    if not head:  # what lies around is never looked at
        box = _box(brain)
        ids, brain = ids[box], brain[box]
    return _parent(_soften(ids, lookup), brain, spacing, name, head)


def from_shares(
    maps: Mapping[str, Float[np.ndarray, "x y z"]],
    spacing: Sequence[float],
    *,
    name: str,
    head: bool = False,
) -> Anatomy:
    """A parent from one map a class, by the names of `FUZZY`, in shares or in 255ths.

    Errors begin with `name`: csf, gm or wm is not there, maps of several shapes.
    """
    missing = [name for name in FUZZY[:3] if name not in maps]
    if missing or len({m.shape for m in maps.values()}) > 1:
        raise UserError(f"{name}: needs maps of one shape; missing: {', '.join(missing) or '-'}")
    top = max(1.0, *(float(m.max()) for m in maps.values()))
    shares = np.zeros((*maps["gm"].shape, len(HEAD)), np.float32)
    for kind, share in maps.items():
        for tissue, part in BRAINWEB_20[FUZZY.index(kind) + 1].items():
            shares[..., HEAD.index(tissue)] += part / top * share
    brain = _brain(shares[..., GM] + shares[..., WM] > 0.5, spacing, name)
    return _parent(shares, brain, spacing, name, head)


def fuller(
    shares: Float[Array, "x y z tissues"], youth: Float[Array, ""] | float
) -> Float[Array, "x y z tissues"]:
    """Folds narrower: fluid that fills no more than a share `youth` (below 1) of a voxel is tissue.

    The other fluid loses as much in proportion, so that 1 stays 1 and sums are kept; grey and white
    matter share the place.
    """
    fluid = jnp.maximum(shares[..., CSF] - youth, 0) / (1 - youth)
    solid = shares[..., GM] + shares[..., WM]
    fluid = jnp.where(solid > 1e-3, fluid, shares[..., CSF])
    gain = 1 + (shares[..., CSF] - fluid) / jnp.maximum(solid, 1e-3)
    rest = shares.at[..., GM].multiply(gain).at[..., WM].multiply(gain)
    return rest.at[..., CSF].set(fluid)


def _parent(
    shares: np.ndarray, brain: np.ndarray, spacing: Sequence[float], name: str, head: bool
) -> Anatomy:
    if not np.allclose(spacing, 1, atol=0.01):
        both = np.concatenate([shares, brain[..., None]], axis=-1)
        both = np.asarray(
            ndimage.zoom(both, (*spacing, 1), order=1, grid_mode=True, mode="nearest")
        )
        shares, brain = both[..., :-1], both[..., -1] > 0.5
    shares = np.asarray(fuller(jnp.asarray(shares, jnp.float32), CLOSED))
    if not head:
        shares = shares * ndimage.binary_dilation(brain, iterations=4)[..., None]
    return _centred(shares, brain, name, VIEW if head else EXTENT)


def _box(brain: Bool[np.ndarray, "x y z"]) -> Box:
    """The brain and 14 voxels around it."""
    x, y, z = (slice(max(side.start - 14, 0), side.stop + 14) for side in bounding_box(brain))
    return x, y, z


def _lookup(
    found: Integer[np.ndarray, " n"], table: str, name: str
) -> Float[np.ndarray, "ids tissues"]:
    """The shares of each id of a discrete map; id 0 has none."""
    if table == "auto":
        table = "freesurfer" if found[-1] > 11 else "brainweb"
    if table not in TABLES:
        raise UserError(f"synth.table: {table!r} is unknown; choose auto or {', '.join(TABLES)}")
    unknown = [int(i) for i in found if i and i not in TABLES[table]]
    if unknown or found[0] < 0:
        raise UserError(f"{name}: ids {unknown} are not in the table {table}; see synth.table")
    lookup = np.zeros((found[-1] + 1, len(HEAD)), np.float32)
    for index in found[found > 0]:
        for tissue, share in TABLES[table][int(index)].items():
            lookup[index, HEAD.index(tissue)] = share
    return lookup


def _soften(
    ids: Integer[np.ndarray, "x y z"], lookup: Float[np.ndarray, "ids tissues"]
) -> Float[np.ndarray, "x y z tissues"]:
    """The share of each tissue in each voxel of a discrete map, with soft borders.

    Where the two cortices of FreeSurfer's ids touch lies a fissure, thinner than a voxel: fluid.
    """
    shares = np.stack(
        [ndimage.gaussian_filter(lookup[ids, t], SHARPNESS) for t in range(len(HEAD))], axis=-1
    )
    if len(lookup) > max(CORTEX):
        touching = np.logical_and(*(ndimage.binary_dilation(ids == i) for i in CORTEX))
        shares[touching] = np.eye(len(HEAD), dtype=np.float32)[CSF]
    return shares


@functools.lru_cache(maxsize=1)
def _template() -> Float[np.ndarray, "4 x y z"]:
    """CSF, GM, WM and the brain's mask, cut to the brain."""
    from nilearn.datasets import (  # slow to import: only where it is the parent
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )

    brain, grey, white = (
        np.asarray(load(resolution=1).dataobj, np.float32)
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    )
    mask = brain > 0
    gm, wm = grey * mask, white * mask
    csf = np.clip(mask - gm - wm, 0, 1)
    middle = (gm.shape[0] - 1) // 2  # x = 0: averaging closed the fissure between the hemispheres
    fissure = np.s_[middle - 1 : middle + 2]
    closed = np.where(gm[fissure] > wm[fissure], 0.9 * gm[fissure], 0)
    gm[fissure] -= closed
    csf[fissure] += closed
    box = _box(mask)
    return np.stack([csf[box], gm[box], wm[box], mask[box]], dtype=np.float32)


def _brain(
    solid: Bool[np.ndarray, "x y z"], spacing: Sequence[float], name: str
) -> Bool[np.ndarray, "x y z"]:
    """The largest piece of grey and white matter, with the fluid in its folds and ventricles.

    It ends where the spinal cord begins: below, the slices have less than `CORD` of it.
    """
    if max(spacing) > 1.5 or min(spacing) < 0.5:
        raise UserError(f"{name}: voxels of {tuple(spacing)} mm; resample the map to 1 mm")
    largest = largest_component(solid)
    if largest.sum() * np.prod(spacing) < LEAST:
        raise UserError(f"{name}: no brain of {LEAST / 1000:.0f} ml; is synth.table another one?")
    largest = np.pad(largest, 8)
    wide = np.flatnonzero(largest.sum(axis=(0, 1)) * spacing[0] * spacing[1] > CORD)
    largest[..., : wide[0] if wide.size else 0] = False
    near = np.asarray(ndimage.distance_transform_edt(~largest))
    closed = np.asarray(ndimage.distance_transform_edt(near < 7)) > 6
    return np.asarray(ndimage.binary_fill_holes(closed | largest))[8:-8, 8:-8, 8:-8]


def _centred(
    shares: np.ndarray, brain: np.ndarray, name: str, extent: tuple[float, float, float]
) -> Anatomy:
    """Cut or padded to `extent` around the middle of the brain's box."""
    inside, outside = (np.asarray(ndimage.distance_transform_edt(m)) for m in (brain, ~brain))
    depth = np.clip(inside - outside, -12, 12).astype(np.float32)
    source, goal = [], []
    for axis, length in enumerate(extent):
        line = np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))
        start = (line[0] + line[-1] + 1 - int(length)) // 2
        low, high = max(start, 0), min(start + int(length), brain.shape[axis])
        source.append(slice(low, high))
        goal.append(slice(low - start, high - start))
    size = tuple(int(length) for length in extent)
    view, deep = np.zeros((*size, shares.shape[-1]), np.float32), np.full(size, -12, np.float32)
    view[tuple(goal)], deep[tuple(goal)] = shares[tuple(source)], depth[tuple(source)]
    return Anatomy(view, deep, name)
