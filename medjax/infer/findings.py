"""What a model says of a whole scan beside its voxels: its class, and the objects in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

from medjax.data.plan import Plan
from medjax.data.prepare import Scan
from medjax.errors import UserError
from medjax.infer.restore import restore_boxes
from medjax.infer.sliding import pad
from medjax.infer.spread import spread
from medjax.metrics.detection import Objects, objects
from medjax.ops.boxes import Boxes, decode, suppress
from medjax.space.tiling import window_starts

MOST = 64  # objects of a scan that are kept, the surest; and of a window
LEAST = 0.01  # probability below which nothing is called an object
Outputs = dict[str, Any]
Triple = tuple[int, int, int]


class Findings(NamedTuple):
    """Of one scan: the probability of each class, and its objects, the surest first, in network voxels.

    None where the model has no such head.
    """

    classes: Float[np.ndarray, " k"] | None
    objects: Objects | None


def looker(model: Any, params: Any, *, tiles: int, space: int = 1) -> Callable[[Array], Outputs]:
    """Compiled windows (b, *patch, c) -> what the heads `cls` and `det` say, as probabilities and maps."""

    def apply(params: Any, image: Float[Array, "b d h w c"]) -> Outputs:
        outputs, _ = model.apply({"params": params}, image, False)
        found: Outputs = {}
        if "cls" in outputs:
            found["classes"] = jax.nn.softmax(outputs["cls"])
        if "det" in outputs:
            maps = outputs["det"]
            found["heatmap"] = jax.nn.sigmoid(maps["heatmap"])
            found |= {name: maps[name] for name in ("offset", "size")}
        return found

    return spread(apply, params, tiles=tiles, space=space)


def find(
    look: Callable[[Array], Outputs],
    image: Float32[np.ndarray, "d h w c"],
    patch: Sequence[int],
    *,
    overlap: float = 0.5,
    tiles: int = 2,
    mirror_axes: Sequence[int] = (),
) -> Findings:
    """The class of a scan and its objects, from overlapping windows and their flips.

    Class probabilities are the mean over windows. An object counts in the window whose middle is nearest,
    where it is whole if it is anywhere; what overlaps a surer one is dropped (`ops.boxes.suppress`).
    Windows of nothing but zeros are not looked at, unless all are. Raises FloatingPointError for what is
    not finite.
    """
    padded, before = pad(image, patch)
    shape = (padded.shape[0], padded.shape[1], padded.shape[2])
    size = (patch[0], patch[1], patch[2])
    starts = [
        start for start in window_starts(shape, size, overlap) if padded[_window(start, size)].any()
    ] or [(0, 0, 0)]
    axes = [axis + 1 for axis in mirror_axes if size[axis] > 1]
    flips = [chosen for n in range(len(axes) + 1) for chosen in combinations(axes, n)]
    classes: list[np.ndarray] = []
    candidates: list[np.ndarray] = []
    for first in range(0, len(starts), tiles):
        group = starts[first : first + tiles]
        full = group + group[-1:] * (tiles - len(group))
        batch = jnp.asarray(np.stack([padded[_window(start, size)] for start in full]))
        found = _mean_over_flips(look, batch, flips)
        if "classes" in found:
            classes.extend(np.asarray(found["classes"])[: len(group)])
        if "heatmap" in found:
            made = jax.device_get(_decoded(found, size))
            for row, start in enumerate(group):
                own = np.column_stack([made.centre[row], made.extent[row], made.score[row]])
                own[:, :3] += start
                candidates.append(own[_nearest(own[:, :3], starts, size) == first + row])
    table = np.concatenate(candidates) if candidates else None
    means = np.mean(classes, axis=0) if classes else None
    if not all(np.isfinite(a).all() for a in (table, means) if a is not None):
        raise FloatingPointError("what the model says of the scan is not finite")
    return Findings(means, None if table is None else _surest(table, before))


def _mean_over_flips(
    look: Callable[[Array], Outputs], batch: Array, flips: Sequence[tuple[int, ...]]
) -> Outputs:
    """The mean of what is said of each mirror image, brought back."""
    total: Outputs | None = None
    for axes in flips:
        found = look(jnp.flip(batch, axes) if axes else batch)
        for name in found.keys() & {"heatmap", "offset", "size"}:
            found[name] = jnp.flip(found[name], axes) if axes else found[name]
        if "offset" in found:
            signs = np.array([-1 if axis + 1 in axes else 1 for axis in range(3)], np.float32)
            found["offset"] = found["offset"] * signs.reshape(1, 1, 1, 1, 3)
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    return jax.tree.map(lambda a: a / len(flips), total)


@jax.jit(static_argnums=1)
def _decoded(found: Outputs, patch: tuple[int, int, int]) -> Boxes:
    """Boxes of each window in voxels of the patch."""
    grid = found["heatmap"].shape[1:4]
    strides = np.array([[n / m for n, m in zip(patch, grid, strict=True)]], np.float32)

    def one(heatmap: Array, offset: Array, size: Array) -> Boxes:
        boxes = decode(heatmap[..., 0], offset, size, most=MOST)
        return Boxes((boxes.centre + 0.5) * strides - 0.5, boxes.extent * strides, boxes.score)

    return jax.vmap(one)(found["heatmap"], found["offset"], found["size"])


def _window(start: Triple, size: Triple) -> tuple[slice, ...]:
    return tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))


def _nearest(
    places: Float[np.ndarray, "n 3"], starts: Sequence[Triple], patch: Sequence[int]
) -> Int[np.ndarray, " n"]:
    """The number of the window in whose middle each place is most nearly; of equals the first."""
    middles = np.array(starts) + (np.array(patch) - 1) / 2
    away = np.abs(places[:, None] - middles[None]) / np.array(patch)
    return away.max(axis=-1).argmin(axis=1)


def _surest(table: Float[np.ndarray, "n 7"], before: Sequence[int]) -> Objects:
    """The surest of all candidates that do not overlap, in voxels of the image without its padding."""
    kept = table[table[:, 6] >= LEAST]
    kept = kept[np.argsort(-kept[:, 6], kind="stable")][:MOST]
    rows = np.zeros((MOST, 7), np.float32)  # one shape, compiled once
    rows[: len(kept)] = kept
    parts = rows[:, :3], rows[:, 3:6], rows[:, 6]
    there = np.asarray(_suppress(Boxes(*map(jnp.asarray, parts)))) > 0
    centre, extent, score = (part[there].astype(float) for part in parts)
    return objects(centre - np.array(before), extent, score)


@jax.jit
def _suppress(boxes: Boxes) -> Array:
    return suppress(boxes).score


@dataclass(frozen=True, eq=False)
class Finder:
    """A trained model as a function from scans to `Findings`, objects in mm along the scan's RAS+ axes."""

    look: Callable[[Array], Outputs]
    plan: Plan
    overlap: float = 0.5
    tiles: int = 2
    mirror_axes: tuple[int, ...] = ()

    def __call__(self, scan: Scan, name: str) -> Findings:
        """What is found in a scan, from its first voxel on. Errors name the case."""
        image, _, geometry = self.plan.prepare(scan, name)
        try:
            found = find(
                self.look,
                image,
                self.plan.patch,
                overlap=self.overlap,
                tiles=self.tiles,
                mirror_axes=self.mirror_axes,
            )
        except FloatingPointError as error:
            raise UserError(f"case {name}: {error}; look at it with `--mode verify`") from error
        if found.objects is None:
            return found
        shape = (image.shape[0], image.shape[1], image.shape[2])
        own, mm = found.objects, np.array(scan.spacing)
        centre, extent = restore_boxes(own.centre, own.size, shape, geometry)
        return found._replace(objects=objects(centre * mm, extent * mm, own.score))
