"""Fingerprint -> plan: spacing, axes, normalisation, patch, batch, pooling and kernels, by stated rules."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from medjax.data.cases import Dataset
from medjax.data.convention import Convention
from medjax.data.fingerprint import Fingerprint
from medjax.data.prepare import Geometry, Scan, prepare
from medjax.errors import UserError
from medjax.io.atomic import atomic
from medjax.nn.unet import divisor

Triple = tuple[int, int, int]
STRONG_ANISOTROPY = (
    3.0  # coarsest over finest spacing from which nothing is interpolated between slices
)
SIMILAR = 2.0  # spacings within this factor are pooled and convolved together (nnU-Net's rule)
SMALLEST_MAP = 4  # voxels an axis keeps at least after pooling
HELD_TENSORS = 18  # feature-sized float32 arrays alive per stage in one training step, measured


@dataclass(frozen=True)
class Plan:
    """How a data set is turned into batches and which network shape fits it. Human-readable as plan.json.

    Everything is in network order: d is the axis of the coarsest spacing (the last of equal ones),
    h and w follow from last to first; `axes[i]` is the RAS+ axis of network axis i. kernels,
    strides and widths are per stage, the first stride is 1. coarse_axis: the network axis along
    which nothing is interpolated. Memory in GiB: step_gb of a training step's features, case_gb of
    the mean prepared case, largest_gb of the largest case as it is read. targets: the classes of cases;
    objects: the class or region whose parts are to be found, or "". pruned: entries of parameters that the
    network has lost, by path and axis (`deploy.prune`).
    """

    dimensions: int
    spacing: tuple[float, float, float]
    axes: Triple
    coarse_axis: int | None
    channels: tuple[str, ...]
    normalisation: tuple[dict[str, Any], ...]
    convention: dict[str, Any]
    patch: Triple
    batch: int
    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    widths: tuple[int, ...]
    step_gb: float
    case_gb: float
    largest_gb: float
    assumed: dict[str, Any]
    targets: tuple[str, ...] = ()
    objects: str = ""
    pruned: dict[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> Convention:
        """The label convention."""
        return Convention.from_dict(self.convention)

    def prepare(
        self, scan: Scan, name: str
    ) -> tuple[Float32[np.ndarray, "d h w c"], UInt8[np.ndarray, "d h w"] | None, Geometry]:
        """The scan as the network sees it, its label, and the way back. Errors name the case."""
        return prepare(
            scan,
            spacing=self.spacing,
            axes=self.axes,
            coarse_axis=self.coarse_axis,
            normalisation=self.normalisation,
            name=name,
        )

    @property
    def exclusive(self) -> bool:
        """Whether a voxel has one class (softmax) or may lie in several regions (sigmoid)."""
        return not self.labels.regions

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The class indices of each output channel: one each, or those of a region."""
        labels = self.labels
        if self.exclusive:
            return tuple((index,) for index in range(len(labels.classes)))
        return tuple(tuple(np.flatnonzero(row).tolist()) for row in labels.membership)

    @property
    def undecided(self) -> tuple[tuple[int, ...], ...]:
        """For each output channel the indices of a background that may be of it (`Convention.partial`)."""
        labels = self.labels
        every = tuple(map(labels.background, labels.partial))
        return (every, *labels.undecided) if self.exclusive else labels.undecided

    @property
    def names(self) -> tuple[str, ...]:
        """What is judged: the foreground classes, or the regions."""
        return self.labels.judged

    def write(self, path: Path) -> None:
        """Writes plan.json."""
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")


def read_plan(path: Path) -> Plan:
    """Reads plan.json, edited by hand or not. Errors name the file and the key."""
    try:
        stored = json.loads(path.read_text("utf-8"))
        plan = Plan(**{key: _frozen(value) for key, value in stored.items()})
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: {error}; correct it or remove it to plan anew") from error
    stages = len(plan.widths)
    if len(plan.strides) != stages or len(plan.kernels) != stages:
        raise UserError(f"{path}: strides, kernels and widths differ in length; give one per stage")
    factor = divisor(plan.strides)
    if np.any(np.array(plan.patch) % factor):
        raise UserError(f"{path}: patch {plan.patch} is not divisible by the strides' {factor}")
    return plan


def _frozen(value: Any) -> Any:
    """JSON lists as the tuples that the plan holds; dicts stay as they are."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value


def normalisation(channel: str, stats: dict[str, float], *, kept: float) -> dict[str, Any]:
    """The scheme of one channel (Isensee 2021).

    CT (named so, or with values below -500) is clipped to the 0.5 and 99.5 percentile of the
    foreground's HU and standardised by its mean and spread, the same for all cases. Everything else
    is standardised per case: under the nonzero mask where cropping to it takes away a quarter of
    the volume, else as a whole. Colour channels (red, green, blue) are scaled from 0-255 to 0-1.
    """
    name = channel.lower()
    if name in ("red", "green", "blue", "r", "g", "b"):
        return {"scheme": "rescale", "clip": [0.0, 255.0]}
    if "ct" in name.replace("-", "_").split("_") or stats["minimum"] < -500:
        clip = [stats["percentile_00_5"], stats["percentile_99_5"]]
        return {"scheme": "ct", "clip": clip, "mean": stats["mean"], "std": stats["std"]}
    return {"scheme": "zscore_mask" if kept < 0.75 else "zscore"}


def target_spacing(fingerprint: Fingerprint) -> tuple[float, float, float]:
    """The median spacing in RAS+ order; its 10th percentile along a strongly anisotropic axis (nnU-Net)."""
    spacings = np.array(fingerprint.spacings)
    target = np.median(spacings, axis=0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(3) if axis != coarse]
    sizes = np.median(np.array(fingerprint.shapes), axis=0)
    strong = target[coarse] > STRONG_ANISOTROPY * target[others].max()
    if strong and sizes[coarse] * STRONG_ANISOTROPY < sizes[others].min():
        finer = float(np.percentile(spacings[:, coarse], 10))
        target[coarse] = max(finer, float(target[others].max()) + 1e-5)
    return float(target[0]), float(target[1]), float(target[2])


def network_axes(spacing: Sequence[float]) -> Triple:
    """The RAS+ axis of d (coarsest; the last of equals), h and w (the others from last to first)."""
    d = max(range(3), key=lambda axis: (round(spacing[axis], 4), axis))
    h, w = (axis for axis in (2, 1, 0) if axis != d)
    return d, h, w


def topology(
    patch: Sequence[int], spacing: Sequence[float], stages: int
) -> tuple[list[Triple], list[Triple]]:
    """Strides and kernels per stage for at most `stages` stages (nnU-Net's rules).

    An axis is pooled while its spacing is within twice the finest and at least 8 voxels are left of
    it; its kernel stays 1 until its spacing has once been within twice the finest.
    """
    sizes, now = [int(n) for n in patch], [float(s) for s in spacing]
    wide = [False] * 3
    strides: list[Triple] = []
    kernels: list[Triple] = []
    stride = [1, 1, 1]
    for _ in range(stages):
        fine = min(s for s, n in zip(now, sizes, strict=True) if n > 1)
        wide = [
            w or (n > 1 and s < SIMILAR * fine) for w, s, n in zip(wide, now, sizes, strict=True)
        ]
        kernels.append(_triple([3 if w else 1 for w in wide]))
        strides.append(_triple(stride))
        able = [axis for axis in range(3) if sizes[axis] >= 2 * SMALLEST_MAP]
        if not able:
            break
        fine = min(now[axis] for axis in able)
        stride = [2 if axis in able and now[axis] < SIMILAR * fine else 1 for axis in range(3)]
        sizes = [-(-n // s) for n, s in zip(sizes, stride, strict=True)]
        now = [a * s for a, s in zip(now, stride, strict=True)]
    return strides, kernels


def _triple(values: Sequence[int]) -> Triple:
    return int(values[0]), int(values[1]), int(values[2])


def step_bytes(patch: Sequence[int], strides: Sequence[Triple], widths: Sequence[int]) -> int:
    """Memory that one sample takes in a training step: features and their gradients, float32."""
    voxels, total = prod(patch), 0.0
    for stride, width in zip(strides, widths, strict=True):
        voxels /= prod(stride)
        total += 4 * HELD_TENSORS * voxels * width
    return int(total)


def _fit(
    shape: Sequence[int],
    spacing: Sequence[float],
    *,
    stages: int,
    widths: Sequence[int],
    budget: float,
) -> tuple[Triple, list[Triple], list[Triple]]:
    """The largest patch of the median shape's proportions whose step fits the budget (bytes a sample)."""
    patch = [int(n) for n in shape]
    while True:
        strides, kernels = topology(patch, spacing, stages)
        factor = divisor(strides)
        whole = _triple([max(1, -(-n // f)) * f for n, f in zip(patch, factor, strict=True)])
        if step_bytes(whole, strides, widths[: len(strides)]) <= budget:
            return whole, strides, kernels
        able = [axis for axis in range(3) if patch[axis] > 2 * SMALLEST_MAP]
        if not able:
            raise UserError(
                "plan.memory_gb: not even the smallest patch fits; give more memory or less plan.width"
            )
        # shorten the axis that covers most of the typical case
        axis = max(able, key=lambda a: (patch[a] / shape[a], patch[a]))
        patch[axis] -= max(1, int(min(factor[axis], patch[axis] - 2 * SMALLEST_MAP)))


def _mean_voxels(fingerprint: Fingerprint, spacing: Sequence[float]) -> float:
    """Voxels of the mean case at a spacing in RAS+ order."""
    grown = np.array(fingerprint.spacings) / np.array(spacing)
    return float(np.mean(np.prod(np.array(fingerprint.shapes) * grown, axis=1)))


def make_plan(
    fingerprint: Fingerprint,
    dataset: Dataset,
    *,
    memory_gb: float = 2.0,
    width: int = 32,
    stages: int = 6,
    batch: int = 0,
    patch: Sequence[int] = (),
    spacing: Sequence[float] = (),
    objects: str = "",
    assumed: dict[str, Any] | None = None,
) -> Plan:
    """The plan by the rules of this file; what is given (network order, batch 0 = by rule) is kept.

    The patch is the median case as far as a batch of two fits `memory_gb`; the rest of the budget
    goes into the batch, up to 5 % of the training voxels (Isensee 2021). Widths double per stage,
    to 320 (2-D: 512).

    Errors: a budget that nothing fits, a given patch that the strides do not divide.
    """
    wanted = target_spacing(fingerprint)
    axes = network_axes(wanted)
    d, h, w = axes
    given = tuple(float(s) for s in spacing)
    resolution = (wanted[d], wanted[h], wanted[w]) if not given else (given[0], given[1], given[2])
    by_axis = [0.0, 0.0, 0.0]
    for network, axis in enumerate(axes):
        by_axis[axis] = resolution[network]
    median = fingerprint.median_shape(by_axis)
    shape = [median[axis] for axis in axes]
    strong = resolution[0] > STRONG_ANISOTROPY * max(resolution[1:]) and dataset.dimensions == 3
    top = 320 if dataset.dimensions == 3 else 512
    widths = [min(width * 2**stage, top) for stage in range(stages)]
    budget = memory_gb * 2**30
    if patch:
        chosen = _triple(patch)
        strides, kernels = topology(chosen, resolution, stages)
        factor = divisor(strides)
        if np.any(np.array(chosen) % factor):
            raise UserError(f"plan.patch: {chosen} is not divisible by {factor}; round it")
    else:
        chosen, strides, kernels = _fit(
            shape, resolution, stages=stages, widths=widths, budget=budget / max(batch, 2)
        )
    widths, channels = widths[: len(strides)], len(dataset.channels)
    per_sample = step_bytes(chosen, strides, widths)
    if not batch:
        every = prod(shape) * len(fingerprint.shapes)
        batch = max(2, min(int(budget // per_sample), int(0.05 * every / prod(chosen))))
    return Plan(
        dimensions=dataset.dimensions,
        spacing=resolution,
        axes=axes,
        coarse_axis=0 if strong else None,
        channels=dataset.channels,
        normalisation=tuple(
            normalisation(name, stats, kept=fingerprint.kept)
            for name, stats in zip(dataset.channels, fingerprint.intensities, strict=True)
        ),
        convention=dataset.convention.to_dict(),
        patch=chosen,
        batch=batch,
        strides=tuple(strides),
        kernels=tuple(kernels),
        widths=tuple(widths),
        step_gb=round(batch * per_sample / 2**30, 3),
        case_gb=round(_mean_voxels(fingerprint, by_axis) * (4 * channels + 1) / 2**30, 6),
        largest_gb=round(fingerprint.native_gb, 6),
        assumed=dict(assumed or {}),
        targets=dataset.targets,
        objects=objects,
    )
