"""Boxes of a volume in jnp, as many as there is room for: from instances, to heatmaps and back."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer

NARROWEST = 0.8  # voxels, the least sigma of a peak: its neighbours stay visible


class Boxes(NamedTuple):
    """Boxes along the axes of a grid, in its voxels: voxel i reaches from i - 1/2 to i + 1/2.

    `score` is 0 where there is no box.
    """

    centre: Float[Array, "n 3"]
    extent: Float[Array, "n 3"]
    score: Float[Array, " n"]

    def on(self, strides: Sequence[int]) -> "Boxes":
        """The same boxes on a grid whose voxels are blocks of `strides` voxels of this one."""
        step = jnp.array(strides, jnp.float32)
        return self._replace(
            centre=(self.centre + 0.5) / step[None] - 0.5, extent=self.extent / step[None]
        )

    def voxel(self, shape: Sequence[int]) -> Int[Array, "n 3"]:
        """The voxel of a grid of `shape` that holds the centre (the nearest where none does)."""
        most = jnp.array(shape, jnp.int32) - 1
        return jnp.clip(jnp.rint(self.centre).astype(jnp.int32), 0, most[None])


def instance_boxes(instances: Integer[Array, "d h w"], most: int) -> Boxes:
    """The boxes around the `most` largest of the instances 1 to 254 of a volume, the largest first.

    The score is 1 for those that are there; 0 is no instance, 255 unknown. Where a patch cuts an instance,
    the box is around the part that is seen.
    """
    sizes = jnp.bincount(instances.ravel(), length=256).at[jnp.array([0, 255])].set(0)
    _, numbers = lax.top_k(sizes, most)

    def box(number: Array) -> tuple[Array, Array, Array]:
        mask = instances == number
        ends = []
        for axis, size in enumerate(instances.shape):
            seen = mask.any(axis=tuple(a for a in range(3) if a != axis))
            ends.append((jnp.argmax(seen), size - 1 - jnp.argmax(seen[::-1])))
        first, last = (jnp.stack([end[i] for end in ends]).astype(jnp.float32) for i in (0, 1))
        there = sizes[number] > 0
        return (first + last) / 2, (last - first + 1) * there, there.astype(jnp.float32)

    return Boxes(*lax.map(box, numbers))


def heatmap(boxes: Boxes, shape: tuple[int, int, int]) -> Float[Array, "d h w"]:
    """1 in the voxel that holds a centre, falling off as a Gaussian; the highest where several meet.

    Sigma is a third of half the extent along each axis, and at least `NARROWEST` voxels (Zhou 2019,
    with an ellipsoid for the circle). 0 without a box.
    """
    peak = boxes.voxel(shape)
    sigma = jnp.maximum(boxes.extent / 6, NARROWEST)

    def line(axis: int) -> Float[Array, "n m"]:
        away = jnp.arange(shape[axis])[None] - peak[:, axis, None]
        return jnp.exp(-0.5 * (away / sigma[:, axis, None]) ** 2)

    def add(highest: Array, one: tuple[Array, Array, Array, Array]) -> tuple[Array, None]:
        d, h, w, there = one
        ball = d[:, None, None] * h[None, :, None] * w[None, None, :] * (there > 0)
        return jnp.maximum(highest, ball), None

    empty = jnp.zeros(shape, jnp.float32)
    return lax.scan(add, empty, (line(0), line(1), line(2), boxes.score))[0]


def decode(
    probability: Float[Array, "d h w"],
    offset: Float[Array, "d h w 3"],
    log_extent: Float[Array, "d h w 3"],
    *,
    most: int,
) -> Boxes:
    """The `most` surest local maxima of a heatmap as boxes of its grid, the surest first.

    A voxel is one where none of its 26 neighbours is higher. Where there are fewer, the score of the
    rest is 0.
    """
    around = lax.reduce_window(probability, -jnp.inf, lax.max, (3, 3, 3), (1, 1, 1), "SAME")
    alone = jnp.where(probability == around, probability, 0).ravel()
    score, place = lax.top_k(alone, min(most, alone.size))
    voxel = jnp.stack(jnp.unravel_index(place, probability.shape), axis=-1)
    shift, size = (a.reshape(-1, 3)[place] for a in (offset, log_extent))
    return Boxes(voxel + shift, jnp.exp(size), score)


def suppress(boxes: Boxes, *, overlap: float = 0.1) -> Boxes:
    """Greedy non-maximum suppression of boxes in the order of `decode`.

    A box that overlaps a surer one that stays by more than `overlap` (intersection over union) gets the
    score 0.
    """
    low, high = (boxes.centre + side * boxes.extent for side in (-0.5, 0.5))
    sides = jnp.minimum(high[:, None], high[None]) - jnp.maximum(low[:, None], low[None])
    shared = jnp.prod(jnp.maximum(sides, 0), axis=-1)
    volume = jnp.prod(boxes.extent, axis=-1)
    close = shared > overlap * (volume[:, None] + volume[None] - shared)

    def keep(row: Array, kept: Bool[Array, " n"]) -> Bool[Array, " n"]:
        surer = kept & (jnp.arange(kept.size) < row)
        return kept.at[row].set(kept[row] & ~(surer & close[row]).any())

    kept = lax.fori_loop(0, boxes.score.size, keep, boxes.score > 0)
    return boxes._replace(score=jnp.where(kept, boxes.score, 0))
