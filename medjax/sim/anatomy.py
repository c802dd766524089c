"""Tissue maps of the MNI152 template that nilearn ships, and random smooth deformations."""

import functools
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from medjax.errors import UserError
from medjax.sim.fields import smooth_noise

LOWEST = np.array([-80.0, -113.0, -73.0])  # mm, RAS corner of the field of view
EXTENT = np.array([160.0, 192.0, 160.0])  # mm: the template's brain and room for larger ones
CENTRE = LOWEST + EXTENT / 2
NODE = 8.0  # mm between the nodes of the velocity field


class Deformation(NamedTuple):
    """Subject -> template in mm of the world: x -> exp(velocity)(matrix (x - CENTRE) + CENTRE).

    A stationary velocity field of random B-splines, integrated: the inverse is exp(-velocity) and
    then the inverse matrix. `velocity` (x, y, z, 3) in mm, on nodes `NODE` mm apart in the view.
    """

    matrix: Float[np.ndarray, "3 3"]
    velocity: Float[np.ndarray, "x y z 3"]


def grid_shape(spacing: float) -> tuple[int, int, int]:
    """Voxels of the field of view at an isotropic `spacing` in mm, between 0.5 and 4."""
    if not 0.5 <= spacing <= 4.0:
        raise UserError(f"spacing={spacing:g}: phantoms are made at 0.5 to 4 mm; use for example 2")
    x, y, z = (math.ceil(length / spacing) for length in EXTENT)
    return x, y, z


def grid_affine(spacing: float) -> Float[np.ndarray, "4 4"]:
    """Voxel index -> RAS world of the MNI152 template, in mm."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = LOWEST + spacing / 2
    return affine


@functools.lru_cache(maxsize=1)
def _template() -> tuple[np.ndarray, np.ndarray]:
    """CSF, GM, WM and brain (4, x, y, z) at 1 mm around the brain, and world -> voxel."""
    from nilearn.datasets import (  # slow to import: only where phantoms are made
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )

    brain, grey, white = (
        load(resolution=1)
        for load in (load_mni152_template, load_mni152_gm_template, load_mni152_wm_template)
    )
    mask = np.asarray(brain.dataobj) > 0
    lowest = [np.flatnonzero(mask.any(axis=others))[0] for others in ((1, 2), (0, 2), (0, 1))]
    highest = [np.flatnonzero(mask.any(axis=others))[-1] for others in ((1, 2), (0, 2), (0, 1))]
    part = tuple(slice(a, b + 1) for a, b in zip(lowest, highest, strict=True))
    mask = mask[part]
    gm, wm = (np.asarray(image.dataobj, np.float32)[part] * mask for image in (grey, white))
    maps = np.stack([np.clip(mask - gm - wm, 0, 1), gm, wm, mask], dtype=np.float32)
    maps = np.pad(maps, ((0, 0), *[(6, 6)] * 3))  # for the blur
    affine = brain.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ (np.array(lowest) - 6)
    return maps, np.linalg.inv(affine)


@functools.lru_cache(maxsize=2)
def _template_at(spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """`_template` as voxels of `spacing` mm see it: blurred, still at 1 mm."""
    maps, world_to_voxel = _template()
    if spacing > 1:  # the Gaussian whose width at half maximum is the voxel
        sigma = spacing / 2.355
        maps = np.stack([ndimage.gaussian_filter(each, sigma, truncate=3) for each in maps])
    return maps, world_to_voxel


def sample_deformation(rng: np.random.Generator) -> Deformation:
    """A head: about 7 % smaller than the template, turned by some degrees, bent by some mm."""
    size = 1.08 * np.exp(rng.normal(0, 0.03) + rng.normal(0, 0.02, 3))  # of the template
    matrix = np.diag(size)
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-5, 5, 3))):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    nodes = [round(length / NODE) for length in EXTENT]
    bend = [
        4.0 * smooth_noise(rng, nodes, NODE, 48.0) + 1.2 * smooth_noise(rng, nodes, NODE, 20.0)
        for _ in range(3)
    ]
    velocity = np.stack(bend, axis=-1)
    for axis, size in enumerate(nodes):  # fading to 0 at the border, so that no brain leaves it
        edge = (np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5) * NODE
        fade = np.sin(np.pi / 2 * np.clip(edge / 28.0, 0, 1)).astype(np.float32)
        velocity *= fade.reshape([-1 if a == axis else 1 for a in range(4)])
    return Deformation(matrix, velocity)


def _read(field: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A field (x, y, z, 3) on the nodes, at points (3, ...) in mm of the world; clamped outside."""
    at = (points - LOWEST.reshape(3, *[1] * (points.ndim - 1))) / NODE - 0.5
    return np.stack(
        [ndimage.map_coordinates(field[..., c], at, order=1, mode="nearest") for c in range(3)]
    )


def integrate(velocity: Float[np.ndarray, "x y z 3"]) -> Float[np.ndarray, "x y z 3"]:
    """Displacement exp(velocity) - identity in mm on the nodes (scaling and squaring)."""
    nodes = np.stack(
        np.meshgrid(*[np.arange(size) for size in velocity.shape[:3]], indexing="ij")
    ).astype(np.float32)
    nodes = nodes * NODE + (LOWEST + NODE / 2).reshape(3, 1, 1, 1).astype(np.float32)
    displacement = velocity / np.float32(2**6)
    for _ in range(6):
        step = _read(displacement, nodes + np.moveaxis(displacement, -1, 0))
        displacement = displacement + np.moveaxis(step, 0, -1)
    return displacement


def template_points(
    deformation: Deformation, points: Float[np.ndarray, "3 *n"]
) -> Float[np.ndarray, "3 *n"]:
    """Where points of the subject (mm, RAS) lie in the template."""
    centre = CENTRE.reshape(3, *[1] * (points.ndim - 1))
    turned = np.tensordot(deformation.matrix, points - centre, axes=1) + centre
    return turned + _read(integrate(deformation.velocity), turned)


def subject_tissue(deformation: Deformation, spacing: float) -> Float[np.ndarray, "x y z 3"]:
    """Shares of CSF, GM and WM on a subject's grid: their sum is 1 in the brain and 0 outside."""
    maps, world_to_template = _template_at(spacing)
    shape, affine = grid_shape(spacing), grid_affine(spacing)
    index = np.stack(np.meshgrid(*[np.arange(size) for size in shape], indexing="ij"))
    world = index * spacing + affine[:3, 3].reshape(3, 1, 1, 1)
    points = template_points(deformation, world)
    at = np.tensordot(world_to_template[:3, :3], points, axes=1)
    at += world_to_template[:3, 3].reshape(3, 1, 1, 1)
    csf, gm, wm, brain = (ndimage.map_coordinates(each, at, order=1) for each in maps)
    # Averaging 152 brains blurred the folds: a power brings back most voxels of one tissue.
    shares = np.stack([csf, gm, wm], axis=-1) ** 1.5
    total = shares.sum(axis=-1, keepdims=True)
    inside = (brain > 0.5)[..., None] & (total > 1e-3)
    return np.where(inside, shares / np.maximum(total, 1e-3), 0).astype(np.float32)
