"""Painted tumours: an irregular core in the white matter with necrosis, rim and oedema."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from scipy.special import expit

from medjax.sim.fields import arrival_time, smooth_noise
from medjax.sim.signal import TISSUES

REACH = 60.0  # mm from the centre within which everything is painted
Share = Float[np.ndarray, "x y z"]


class Painted(NamedTuple):
    """A brain with a tumour.

    `fractions` in the order of `signal.TISSUES`, sum 1 in the brain and 0 outside; `labels` by the
    BraTS 2023 convention; `parameters` is what was drawn, and plain enough for JSON.
    """

    fractions: Float[np.ndarray, "x y z tissues"]
    labels: UInt8[np.ndarray, "x y z"]
    parameters: dict[str, Any]


def paint(
    rng: np.random.Generator,
    tissue: Float[np.ndarray, "x y z 3"],
    affine: Float[np.ndarray, "4 4"],
) -> Painted:
    """Put one tumour into the white matter of a brain (shares of CSF, GM, WM; RAS, isotropic).

    The core is what a front reaches first from one to three seeds through tissue of random
    conductance; oedema is what a second front reaches from the core, ten times faster through WM
    than through GM. Fronts hardly pass CSF, and no label lies where CSF fills half of a voxel. The
    whole tumour has 10 to 120 ml (median 49), its core 25 to 60 % of that; less where the brain
    leaves no room.
    """
    spacing = float(affine[0, 0])
    centre = _site(rng, tissue[..., 2], affine)
    drawn = {"centre_mm": (affine[:3, :3] @ centre + affine[:3, 3]).round(2).tolist()} | {
        "whole_ml": float(10 * 12 ** rng.beta(2.5, 1.5)),
        "core_share": float(rng.uniform(0.25, 0.6)),
        "necrosis_share_of_core": float(rng.uniform(0.15, 0.65)),
        "nonenhancing_share_of_rim": float(rng.uniform(0.02, 0.3)),
        "rim_density": float(rng.uniform(0.55, 0.9)),
        "seeds": int(rng.integers(1, 4)),
        "roughness": float(rng.uniform(0.3, 0.6)),
        "oedema_border_mm": float(rng.uniform(1.5, 4.0)),
        "oedema_least": float(rng.uniform(0.05, 0.4)),
    }
    start = np.maximum(centre - round(REACH / spacing), 0)
    box = tuple(
        slice(a, c + round(REACH / spacing) + 1) for a, c in zip(start, centre, strict=True)
    )
    local = tissue[box]
    csf, gm, wm = np.moveaxis(local, -1, 0)
    solid = gm + wm > 0.5
    core, inside = _core(rng, local, centre - start, spacing, drawn)
    dead, quiet = _split(rng, inside, spacing, drawn)
    oedema = _oedema(rng, local, inside, centre - start, spacing, drawn)

    # The core takes the whole voxel unless it is mostly CSF; oedema takes its part of the tissue.
    # Labels follow these borders; the living rim and oedema then leave some tissue in place.
    core = core * np.clip((0.6 - csf) / 0.3, 0, 1) * (csf + gm + wm > 0)
    dead, alive = core * dead, core * (1 - dead)
    quiet, bright = alive * quiet, alive * (1 - quiet)
    labels = np.zeros(tissue.shape[:3], np.uint8)
    labels[box] = _labels(dead + quiet, oedema * (1 - core) * (gm + wm), bright) * solid
    least = drawn["oedema_least"]
    uneven = 1.2 * smooth_noise(rng, solid.shape, spacing, 12.0)
    uneven += 0.8 * smooth_noise(rng, solid.shape, spacing, 5.0)
    oedema = oedema * (1 - core) * (least + (1 - least) * expit(uneven))
    bright = bright * drawn["rim_density"]
    spared = 1 - dead - quiet - bright
    shares = {
        "csf": spared * csf,
        "gm": spared * (1 - oedema) * gm,
        "wm": spared * (1 - oedema) * wm,
        "necrosis": dead,
        "nonenhancing": quiet,
        "enhancing": bright,
        "oedema": spared * oedema * (gm + wm),
    }
    fractions = np.zeros((*tissue.shape[:3], len(TISSUES)), np.float32)
    fractions[..., :3] = tissue
    fractions[box] = np.stack([shares[name] for name in TISSUES], axis=-1)
    return Painted(fractions, labels, drawn)


def _site(rng: np.random.Generator, white: Share, affine: Float[np.ndarray, "4 4"]) -> np.ndarray:
    """A voxel deep in the white matter of the cerebrum."""
    deep = (white > 0.8) & (ndimage.gaussian_filter(white, 4.0 / affine[0, 0]) > 0.5)
    x, y, z = (
        affine[axis, axis] * np.arange(size) + affine[axis, 3]
        for axis, size in enumerate(white.shape)
    )
    x, y, z = np.meshgrid(x, y, z, indexing="ij", sparse=True)
    temporal = (np.abs(x) > 25) & (y > -30) & (z > -40)  # lower down lie brain stem and cerebellum
    places = np.argwhere(deep & ((z > -5) | temporal))
    return places[rng.integers(len(places))]


def _core(
    rng: np.random.Generator,
    tissue: Float[np.ndarray, "x y z 3"],
    centre: np.ndarray,
    spacing: float,
    drawn: dict[str, Any],
) -> tuple[Share, Bool[np.ndarray, "x y z"]]:
    """The tumour core as a share with a border of about 1 mm, and the voxels inside it."""
    csf, gm, wm = np.moveaxis(tissue, -1, 0)
    solid = gm + wm > 0.5
    ml = drawn["whole_ml"] * drawn["core_share"]
    radius = (ml * 750 / np.pi) ** (1 / 3)  # mm, of the ball
    source = np.zeros(csf.shape, bool)
    source[tuple(centre)] = True
    for _ in range(drawn["seeds"] - 1):
        offset = np.rint(rng.uniform(-0.7, 0.7, 3) * radius / spacing).astype(int)
        seed = tuple(np.clip(centre + offset, 0, np.array(csf.shape) - 1))
        source[seed] |= solid[seed]
    speed = _conductance(rng, tissue, 0.7, spacing, drawn["roughness"], (14.0, 6.0))
    voxels = round(ml * 1000 / spacing**3)
    time = arrival_time(speed, source, spacing, 4 * voxels)
    end = _level(time, solid, voxels)
    return expit((end - time) / 0.6), solid & (time < end)


def _split(
    rng: np.random.Generator,
    inside: Bool[np.ndarray, "x y z"],
    spacing: float,
    drawn: dict[str, Any],
) -> tuple[Share, Share]:
    """Of the core, the necrotic share (deep, in a rim of uneven thickness); of the rest, the quiet.

    Quiet are the patches that do not enhance.
    """
    depth = spacing * np.asarray(ndimage.distance_transform_edt(inside))
    depth = depth + 1.2 * smooth_noise(rng, inside.shape, spacing, 8.0)
    depth = depth + 0.6 * smooth_noise(rng, inside.shape, spacing, 4.0)
    rim = np.quantile(depth[inside], 1 - drawn["necrosis_share_of_core"])
    patch = smooth_noise(rng, inside.shape, spacing, 9.0)
    limit = np.quantile(patch[inside], 1 - drawn["nonenhancing_share_of_rim"])
    return expit((depth - rim) / 0.5), expit((patch - limit) / 0.3)


def _oedema(
    rng: np.random.Generator,
    tissue: Float[np.ndarray, "x y z 3"],
    inside: Bool[np.ndarray, "x y z"],
    centre: np.ndarray,
    spacing: float,
    drawn: dict[str, Any],
) -> Share:
    """The share of tissue that swells, from the core outwards along the white matter."""
    speed = _conductance(rng, tissue, 0.1, spacing, drawn["roughness"], (20.0, 7.0))
    axes = (spacing * (np.arange(n) - c) for n, c in zip(inside.shape, centre, strict=True))
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    fading = np.exp(-(x**2 + y**2 + z**2) / (0.65 * REACH) ** 2)  # the box must never cut it
    voxels = round(drawn["whole_ml"] * 1000 / spacing**3)
    time = arrival_time(speed * fading, inside, spacing, 2 * voxels)
    end = _level(time, tissue[..., 1] + tissue[..., 2] > 0.5, voxels)
    return expit((end - time) / drawn["oedema_border_mm"])


def _conductance(
    rng: np.random.Generator,
    tissue: Float[np.ndarray, "x y z 3"],
    grey: float,
    spacing: float,
    roughness: float,
    lengths: tuple[float, float],
) -> Share:
    """Speed of a front: about 1 in WM, `grey` in GM, 0.02 or less in CSF and outside the brain."""
    csf, gm, wm = np.moveaxis(tissue, -1, 0)
    passable = np.where(csf + gm + wm > 0.5, np.clip(1 - 2 * csf, 0.02, 1), 0.02)
    coarse, fine = (smooth_noise(rng, csf.shape, spacing, length) for length in lengths)
    return passable * (wm + grey * gm + 0.01) * np.exp(roughness * (coarse + 0.6 * fine))


def _level(time: Share, within: Bool[np.ndarray, "x y z"], voxels: int) -> float:
    """The time at which a front has covered that many of the voxels `within`."""
    times = time[within]
    voxels = min(voxels, times.size - 1)
    return float(np.partition(times, voxels)[voxels])


def _labels(dead: Share, oedema: Share, bright: Share) -> UInt8[np.ndarray, "x y z"]:
    """BraTS 2023 classes where the lesion fills most of the voxel: the largest zone."""
    zones = np.stack([dead, oedema, bright], axis=-1)
    return np.where(zones.sum(axis=-1) > 0.5, zones.argmax(axis=-1) + 1, 0).astype(np.uint8)
