"""An image on its grid in the world, and the way to RAS+ axes and back."""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from jaxtyping import Float64, Shaped

Affine = Float64[np.ndarray, "4 4"]


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels with the file's own axes, and the affine from voxel index to world mm (RAS+).

    `array` is (x, y, z) or, with channels, (x, y, z, c); a 2-D picture is (x, y, 1[, c]). `affine`
    maps (i, j, k, 1) to (right, anterior, superior, 1) in mm; it is finite and invertible.
    """

    array: Shaped[np.ndarray, "x y z *c"]
    affine: Affine

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbours along each of the first three array axes."""
        return affine_spacing(self.affine)

    @property
    def orientation(self) -> str:
        """Where the array axes point, to the closest world axis: "RAS", "LPS", "LIA"..."""
        return affine_orientation(self.affine)

    def canonical(self) -> tuple["Volume", "Reorientation"]:
        """The same voxels with axes closest to RAS+, and the way back.

        Only permutes and flips axes (the array is a view, nothing is interpolated): an oblique
        image stays oblique. The affine follows, so every voxel keeps its place in the world.
        """
        axes, flips = closest_axes(self.affine)
        reorientation = Reorientation(axes, flips, self.affine)
        affine = self.affine.copy()
        for axis, (source, flip) in enumerate(zip(axes, flips, strict=True)):
            column = self.affine[:, source]
            affine[:, axis] = -column if flip else column
            if flip:
                affine[:, 3] += column * (self.array.shape[source] - 1)
        return Volume(reorientation.apply_array(self.array), affine), reorientation


@dataclass(frozen=True, eq=False)
class Reorientation:
    """A permutation and flips of the three spatial axes; further axes stay.

    New axis i is old axis `axes[i]`, reversed where `flips[i]`. `affine` is that of the old grid.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    affine: Affine

    def apply_array(self, array: Shaped[np.ndarray, "x y z *c"]) -> Shaped[np.ndarray, "..."]:
        """An array on the old grid, on the new one. A view."""
        array = np.transpose(array, (*self.axes, *range(3, array.ndim)))
        return np.flip(array, tuple(axis for axis in range(3) if self.flips[axis]))

    def undo_array(self, array: Shaped[np.ndarray, "x y z *c"]) -> Shaped[np.ndarray, "..."]:
        """An array on the new grid, on the old one; bit for bit. A view."""
        array = np.flip(array, tuple(axis for axis in range(3) if self.flips[axis]))
        inverse = (self.axes.index(0), self.axes.index(1), self.axes.index(2))
        return np.transpose(array, (*inverse, *range(3, array.ndim)))

    def undo(self, volume: Volume) -> Volume:
        """A volume on the new grid, on the old one: array and affine bit for bit as they were."""
        return Volume(self.undo_array(volume.array), self.affine)


@dataclass(frozen=True, eq=False)
class Header:
    """What `read` would give, without the voxels: shape (x, y, z[, c]), affine, voxel type."""

    shape: tuple[int, ...]
    affine: Affine
    dtype: np.dtype

    @property
    def spacing(self) -> tuple[float, float, float]:
        """As `Volume.spacing`."""
        return affine_spacing(self.affine)

    @property
    def orientation(self) -> str:
        """As `Volume.orientation`."""
        return affine_orientation(self.affine)


def affine_spacing(affine: Affine) -> tuple[float, float, float]:
    """Lengths of the affine's first three columns, mm."""
    x, y, z = np.linalg.norm(affine[:3, :3], axis=0)
    return float(x), float(y), float(z)


def affine_orientation(affine: Affine) -> str:
    """For each array axis the closest world direction: one of R L, A P, S I."""
    axes, flips = closest_axes(affine)
    letters = [("LPI" if flips[axes.index(a)] else "RAS")[axes.index(a)] for a in range(3)]
    return "".join(letters)


def closest_axes(affine: Affine) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """For each world axis R, A, S the array axis closest to it, and whether that points away.

    The assignment of largest total cosine over the rotation nearest to the affine (shears count
    for no axis); on an exact tie the one that permutes least.
    """
    left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    cosines = left @ right
    world = np.arange(3)
    # Rounding: cosines that are equal on paper must not be told apart by the last bit.
    best = max(permutations(range(3)), key=lambda p: round(np.abs(cosines[world, p]).sum(), 9))
    i, j, k = best
    return (i, j, k), (bool(cosines[0, i] < 0), bool(cosines[1, j] < 0), bool(cosines[2, k] < 0))


def displacement(first: Affine, second: Affine, shape: tuple[int, ...]) -> float:
    """Largest distance in mm between the places two affines give to a voxel of the grid.

    `shape` is that of the array; only its first three axes count. The largest lies at a corner.
    """
    corners = np.stack(np.meshgrid(*[(0.0, n - 1.0) for n in shape[:3]], [1.0])).reshape(4, -1)
    return float(np.linalg.norm(((first - second) @ corners)[:3], axis=0).max())
