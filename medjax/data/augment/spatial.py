"""Rotation, scale, shear, translation, elastic deformation and flips by one resampling, in mm.

For samples that move the loader reads a crop larger than the patch (`motion.margin`), so that a
turned patch is full of image. Images are interpolated linearly, labels and instances take the
nearest voxel; what lies outside the crop is 0 and background, as in the loader's own padding, or ignored
where nothing is known of all of the crop.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, PRNGKeyArray, Shaped, UInt32

from medjax.data.augment.chain import (
    Augmentation,
    Batch,
    Parameters,
    around_one,
    chosen,
    random_words,
    uniform,
)
from medjax.data.convention import IGNORE
from medjax.data.motion import is_planar, rotation_limits
from medjax.errors import UserError
from medjax.ops import sampling

MOVED = ("image", "label", "instances")
_HIGHEST = lax.Precision.HIGHEST


def spatial(
    patch: Sequence[int],
    spacing: Sequence[float],
    *,
    rotation: float | Sequence[float] | None = None,
    scale: tuple[float, float] = (0.7, 1.4),
    shear: float = 0.0,
    translation: float = 0.0,
    elastic: tuple[float, float] | None = None,
    flips: Sequence[int] = (0, 1, 2),
    planar: bool | None = None,
    probability_rotation: float = 0.2,
    probability_scale: float = 0.2,
    probability_elastic: float = 0.2,
) -> Augmentation:
    """Move a crop about its centre and cut the patch out of its middle.

    rotation: largest angle in degrees, one or three (about d, h, w); None: see `rotation_limits`.
        A rotation is rigid in mm whatever the spacing (mm, along d, h, w).
    scale: range of the magnification, one for all axes (above 1, things grow).
    shear: largest tangent, drawn with the scale.
    translation: largest shift in mm along each axis, drawn with the rotation.
    elastic: (largest displacement along each axis, distance of control points) in mm: a cubic
        B-spline field with random control points. The displacement must stay below 0.4 of the
        distance, which rules out folding (Choi and Lee, 2000).
    flips: axes that are reversed, each with probability 0.5; leave out left-right where it matters.
    planar: move within slices, alike in all; None: see `is_planar`.

    The batch's arrays are the crops; or, from a loader that knows the draw (`data.motion`), `moves`
    says what each sample does and `wide` holds the crops of those that move.
    A sample for which nothing but flips is drawn is cropped, bit for bit, and not resampled. The
    batch is walked by `lax.map` with `lax.cond`: a GPU does the same, sample after sample (each
    fills it), with one small read-back for the decision; under `vmap` both branches are computed.
    `invert` undoes everything up to interpolation, elastic fields by a fixed point iteration.
    """
    patch, mm = tuple(patch), np.array(spacing, np.float32)
    planar = is_planar(patch, spacing) if planar is None else planar
    limits = np.radians(rotation_limits(patch, rotation, planar)).astype(np.float32)
    moving = np.array([not planar, True, True])
    ratio = mm[None, :] / mm[:, None]  # brings a matrix in mm to voxels; exactly 1 on the diagonal
    if elastic and not 0 <= elastic[0] < 0.4 * elastic[1]:
        raise UserError(
            f"elastic: a displacement of {elastic[0]} mm folds space with control points "
            f"{elastic[1]} mm apart; keep it below {0.4 * elastic[1]:g} mm"
        )
    splines = (
        [
            sampling.bspline_matrix(n, elastic[1] / s) if moves else np.ones((1, 1), np.float32)
            for n, s, moves in zip(patch, spacing, moving, strict=True)
        ]
        if elastic and probability_elastic > 0
        else []
    )
    knots = [spline.shape[1] for spline in splines] or [0]
    elastics = probability_elastic if splines else 0.0
    probabilities = np.array([probability_rotation, probability_scale, elastics], np.float32)
    resamples = bool(max(probabilities) > 0)

    def sample(key: PRNGKeyArray, batch: Batch) -> Parameters:
        words = random_words(key, batch, (24 + 3 * math.prod(knots),))
        if "wide" in batch and "moves" not in batch:
            raise ValueError("wide: the loader fills it for some samples; moves must say for which")
        moves = batch["moves"] if "moves" in batch else uniform(words[:, 3:6]) < probabilities[None]
        return jax.vmap(one_sample)(words, moves)

    def one_sample(words: UInt32[Array, "n"], moves: Bool[Array, "3"]) -> Parameters:
        flip = chosen(words[:3], 0.5) & np.isin(range(3), flips)
        turned, scaled, bent = moves
        factor = jnp.where(moving & scaled, around_one(words[6:8], scale), 1.0)
        size = uniform(words[8])
        angles = uniform(words[9:12], -1.0, 1.0) * limits
        shift = uniform(words[12:15], -1.0, 1.0) * translation * moving
        slant = uniform(words[15:24].reshape(3, 3), -1.0, 1.0) * shear
        slant = jnp.triu(jnp.where(moving[:, None] & moving[None] & scaled, slant, 0), 1)
        # From the patch to the crop: the inverse of growing by `factor` and then turning.
        turn = _rotation(jnp.where(turned, angles, 0))
        matrix = jnp.matmul(turn, jnp.eye(3) + slant, precision=_HIGHEST) / factor[:, None]
        parameters = {
            "drawn": turned | scaled | bent,
            "flip": flip,
            "matrix": matrix,
            "shift": jnp.where(turned, shift, 0),
        }
        if elastic and splines:
            control = uniform(words[24:].reshape(3, *knots), -1.0, 1.0)
            size = jnp.where(bent, size * elastic[0], 0) * moving
            parameters["control"] = control * size[:, None, None, None]
        return parameters

    def displacement(parameters: Parameters) -> sampling.Coordinates:
        """Elastic displacement at each voxel of the patch, in voxels."""
        field = sampling.smooth_field(parameters["control"], splines)
        z, y, x = (field[axis] / mm[axis] for axis in range(3))
        return z, y, x

    def forward(parameters: Parameters, crop: Sequence[int]) -> sampling.Coordinates:
        """Where in the crop each voxel of the patch comes from."""
        place = _reverse(sampling.centred_grid(patch), parameters["flip"])
        if splines:
            place = _add(place, displacement(parameters))
        centre = _centre(patch, crop)
        offset = parameters["shift"] / mm + centre
        return sampling.affine(place, parameters["matrix"] * ratio, offset)

    def backward(parameters: Parameters) -> sampling.Coordinates:
        """Where in the augmented patch each voxel of the original patch went."""
        matrix = _inverse(parameters["matrix"])
        offset = -jnp.matmul(matrix, parameters["shift"], precision=_HIGHEST)
        start = sampling.affine(sampling.centred_grid(patch), matrix * ratio, offset / mm)
        place = _reverse(start, parameters["flip"])
        centre = _centre(patch, patch)
        if splines:
            field = jnp.stack(displacement(parameters), -1)[None]

            def closer(_: Array, place: sampling.Coordinates) -> sampling.Coordinates:
                here = _clip(_add(place, tuple(centre)), field.shape[1:4])
                step = sampling.linear(field, 0, here, planar=planar)
                back = _add(start, [-step[..., axis] for axis in range(3)])
                return _reverse(back, parameters["flip"])

            place = lax.fori_loop(0, 8, closer, place)
        return _add(place, tuple(centre))

    def resample(array: Array, number: Array, coordinates: sampling.Coordinates) -> Array:
        if jnp.issubdtype(array.dtype, jnp.floating):
            return sampling.linear(array, number, coordinates, planar=planar)
        unknown = jnp.all(array[number] == IGNORE)
        outside = jnp.where(unknown, IGNORE, 0)
        return sampling.nearest(array, number, coordinates, outside=outside)

    def apply(parameters: Parameters, batch: Batch) -> Batch:
        rest = {name: value for name, value in batch.items() if name not in ("wide", "moves")}
        arrays = {name: jnp.asarray(batch[name]) for name in MOVED if name in batch}
        wide = {name: jnp.asarray(batch.get("wide", batch)[name]) for name in arrays}
        crop = wide["image"].shape[1:4]
        if any(n < p for n, p in zip(crop, patch, strict=True)):
            raise UserError(f"patch: the crop {crop} is smaller than the patch {patch}")

        def moved(number: Array, parameters: Parameters) -> Batch:
            coordinates = forward(parameters, crop)
            return {n: resample(array, number, coordinates) for n, array in wide.items()}

        def still(number: Array, parameters: Parameters) -> Batch:
            return {
                name: _flip(_centre_crop(array, number, patch), parameters["flip"], flips)
                for name, array in arrays.items()
            }

        return {**rest, **_each(moved if resamples else None, still, parameters)}

    def move(parameters: Parameters, array: Float[Array, "b d h w c"]) -> Array:
        return apply(parameters, {"image": array})["image"]

    def invert(parameters: Parameters, array: Float[Array, "b d h w c"]) -> Array:
        def moved(number: Array, parameters: Parameters) -> Array:
            return sampling.linear(array, number, backward(parameters), planar=planar)

        def still(number: Array, parameters: Parameters) -> Array:
            return _flip(_centre_crop(array, number, patch), parameters["flip"], flips)

        return _each(moved if resamples else None, still, parameters)

    return Augmentation(sample, apply, move, invert)


def _each(moved: Callable | None, still: Callable, parameters: Parameters) -> Any:
    """For each number of a sample and its parameters: `moved` where something is drawn."""

    def one(pair: tuple[Array, Parameters]) -> Any:
        if moved is None:
            return still(*pair)
        return lax.cond(pair[1]["drawn"], moved, still, *pair)

    return lax.map(one, (jnp.arange(parameters["drawn"].shape[0]), parameters))


def _rotation(angles: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Rotation about d, then h, then w by angles in radians."""
    (a, b, c), (p, q, r) = jnp.cos(angles), jnp.sin(angles)
    about_d = [[1, 0, 0], [0, a, -p], [0, p, a]]
    about_h = [[b, 0, q], [0, 1, 0], [-q, 0, b]]
    about_w = [[c, -r, 0], [r, c, 0], [0, 0, 1]]
    matrix = about_d
    for turn in (about_h, about_w):  # scalar sums: matrix products and scatters compile slowly
        matrix = [
            [sum(turn[i][k] * matrix[k][j] for k in range(3)) for j in range(3)] for i in range(3)
        ]
    return jnp.stack([jnp.stack([jnp.float32(m) for m in row]) for row in matrix])


def _inverse(matrix: Float[Array, "3 3"]) -> Float[Array, "3 3"]:
    """Inverse by cofactors: `jnp.linalg.inv` would compile an LU factorisation."""
    cofactors = jnp.stack([jnp.cross(matrix[i - 2], matrix[i - 1]) for i in range(3)])
    return cofactors.T / (matrix[0] * cofactors[0]).sum()


def _centre(patch: Sequence[int], crop: Sequence[int]) -> Float[np.ndarray, "3"]:
    """Centre of the patch in crop coordinates: whole shifts, also where the margin is odd."""
    return np.array(
        [(p - 1) / 2 + (n - p) // 2 for p, n in zip(patch, crop, strict=True)], np.float32
    )


def _centre_crop(
    array: Shaped[Array, "b d h w *c"], number: Array, patch: Sequence[int]
) -> Shaped[Array, "p q r *c"]:
    """The patch amid volume `number`, without a copy of the volume."""
    starts = [(n - p) // 2 for p, n in zip(patch, array.shape[1:4], strict=True)]
    rest = array.shape[4:]
    starts = (number, *starts, *(0 for _ in rest))
    return lax.dynamic_slice(array, starts, (1, *patch, *rest))[0]


def _flip(
    array: Shaped[Array, "..."], flip: Bool[Array, "3"], flips: Sequence[int]
) -> Shaped[Array, "..."]:
    """Reverse axes, one branch for each set of them: lookups would pass over the array axis by axis."""
    subsets = [[a for bit, a in enumerate(flips) if n >> bit & 1] for n in range(2 ** len(flips))]
    number = sum((flip[axis].astype(jnp.int32) << bit for bit, axis in enumerate(flips)), start=0)
    return lax.switch(number, [partial(lax.rev, dimensions=axes) for axes in subsets], array)


def _reverse(place: sampling.Coordinates, flip: Bool[Array, "3"]) -> sampling.Coordinates:
    z, y, x = (jnp.where(flip[axis], -a, a) for axis, a in enumerate(place))
    return z, y, x


def _add(place: sampling.Coordinates, step: Sequence) -> sampling.Coordinates:
    z, y, x = (a + b for a, b in zip(place, step, strict=True))
    return z, y, x


def _clip(place: sampling.Coordinates, shape: Sequence[int]) -> sampling.Coordinates:
    z, y, x = (jnp.clip(a, 0, n - 1) for a, n in zip(place, shape, strict=True))
    return z, y, x
