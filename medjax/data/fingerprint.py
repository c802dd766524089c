"""What the training cases are like: sizes, spacings and intensities, one case in memory at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medjax.data.cases import Case, Dataset
from medjax.data.prepare import load, nonzero_box

SAMPLES = 10_000  # voxels per case and channel that stand for its intensities


@dataclass(frozen=True)
class Fingerprint:
    """Facts of the training cases, from which the plan follows; no image is kept.

    shapes, spacings: per case, of the nonzero box, along RAS+ x, y, z. kept: the median share of
    the volume inside that box. intensities: per channel `minimum` over all voxels, and of the
    voxels under the label `mean`, `std`, `percentile_00_5`, `percentile_99_5` (of all nonzero
    voxels where nothing is labelled). `native_gb`: the largest case as float32.
    """

    shapes: tuple[tuple[int, int, int], ...]
    spacings: tuple[tuple[float, float, float], ...]
    kept: float
    intensities: tuple[dict[str, float], ...]
    native_gb: float

    def median_shape(self, spacing: Sequence[float]) -> tuple[int, ...]:
        """The median size in voxels of `spacing` (RAS+ order)."""
        sizes = np.array(self.shapes) * np.array(self.spacings) / np.array(spacing)
        return tuple(max(1, round(float(s))) for s in np.median(sizes, axis=0))

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def fingerprint(
    cases: Sequence[Case],
    dataset: Dataset,
    *,
    spacing: Sequence[float] = (),
    seed: int = 0,
    progress: Callable[[Iterable], Iterable] = iter,
) -> Fingerprint:
    """Reads each training case once. `spacing` as in `prepare.load`; errors name the file."""
    shapes, spacings, kept, native = [], [], [], 0
    samples: list[list[np.ndarray]] = [[] for _ in dataset.channels]
    minimum = [np.inf] * len(dataset.channels)
    for index, case in enumerate(progress(cases)):
        scan = load(case, dataset.convention, len(dataset.channels), spacing=spacing)
        box = nonzero_box(scan.image)
        image = scan.image[box]
        shapes.append(image.shape[:3])
        spacings.append(tuple(round(float(s), 5) for s in scan.spacing))
        kept.append(image[..., 0].size / scan.image[..., 0].size)
        native = max(native, scan.image.nbytes)
        under = None if scan.label is None else (scan.label[box] > 0)
        if under is None or not under.any():
            under = np.any(image != 0, axis=-1)
        rng = np.random.default_rng((seed, index))
        for channel in range(image.shape[-1]):
            minimum[channel] = min(minimum[channel], float(scan.image[..., channel].min()))
            values = image[..., channel][under]
            if values.size:
                samples[channel].append(
                    rng.choice(values, min(SAMPLES, values.size), replace=False)
                )
    intensities = []
    for channel, low in enumerate(minimum):
        values = np.concatenate(samples[channel]) if samples[channel] else np.zeros(1, np.float32)
        bottom, top = np.percentile(values, [0.5, 99.5])
        intensities.append(
            {
                "minimum": low,
                "mean": float(values.mean(dtype=np.float64)),
                "std": float(values.std(dtype=np.float64)),
                "percentile_00_5": float(bottom),
                "percentile_99_5": float(top),
            }
        )
    return Fingerprint(
        tuple(shapes), tuple(spacings), float(np.median(kept)), tuple(intensities), native / 2**30
    )
