"""What an export must show before it is one: each check a figure, its bound, and whether it holds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Outputs = Mapping[str, Any]  # by name, channels first, as the model file has them

PRUNED = 1e-5  # relative distance: the network without channels, and the whole one with zeros there
FLOAT = 1e-4  # largest difference of two float32 runs, over the largest output
# The same where a runtime adds up a channel's voxels one after the other, as OpenVINO and LiteRT do in norms:
# on brains in a constant background OpenVINO was up to 5e-5 from float64 (JAX 5e-7, ONNX Runtime 1e-5), and
# both up to 1.3e-4 from JAX. What is wrong with a file shows in ONNX Runtime, which has the bound above.
SUMMED = 1e-3
ALIKE = 0.9999  # share of voxels of which two float32 runs say the same
LAYER = (
    1e-5  # largest difference of a layer in the graph and in JAX, over the layer's largest number
)
EIGHT_BITS = 0.02  # relative distance of eight bits in one runtime and in another
ALIKE_EIGHT_BITS = 0.995
WORST_CLASS = 2.5  # times what may be lost in the mean: lost by one class


@dataclass(frozen=True)
class Gate:
    """A check: its figure, and the bound that is the most or the least of what may be found."""

    name: str
    figure: float
    bound: float
    kind: Literal["most", "least"] = "most"

    @property
    def passes(self) -> bool:
        """Whether the bound holds; what is no number never does."""
        if not math.isfinite(self.figure):
            return False
        return self.figure <= self.bound if self.kind == "most" else self.figure >= self.bound

    def __str__(self) -> str:
        verdict = "ok" if self.passes else "FAILS"
        return f"{verdict}: {self.name}: {self.figure:.4g} (at {self.kind} {self.bound:g})"


@dataclass(frozen=True)
class Parity:
    """How far one answer is from another.

    error: the largest difference over the largest number of the same output. distance: the norm of the
    difference over that of the output. agreement: of the segmentation, the share of voxels of one opinion (1
    where there is none). Of several outputs and images the worst.
    """

    error: float = 0.0
    distance: float = 0.0
    agreement: float = 1.0

    def __or__(self, other: "Parity") -> "Parity":
        return Parity(
            _worst(self.error, other.error),
            _worst(self.distance, other.distance),
            min(self.agreement, other.agreement),
        )


def _worst(a: float, b: float) -> float:
    """The larger; what is no number is larger than any."""
    return a if math.isnan(a) else b if math.isnan(b) else max(a, b)


def parity(wanted: Outputs, given: Outputs, *, exclusive: bool) -> Parity:
    """How far `given` is from what was `wanted`. Another name or shape is infinitely far."""
    if wanted.keys() != given.keys():
        return Parity(math.inf, math.inf, 0.0)
    worst = Parity()
    for name, ours in wanted.items():
        a, b = np.asarray(ours, np.float64), np.asarray(given[name], np.float64)
        if a.shape != b.shape:
            return Parity(math.inf, math.inf, 0.0)
        off, size = np.abs(a - b), np.abs(a)
        found = Parity(
            float(off.max() / max(size.max(), 1e-30)),
            float(np.linalg.norm(off) / max(np.linalg.norm(size), 1e-30)),
        )
        if name == "seg":
            found |= Parity(
                agreement=float((opinion(a, exclusive) == opinion(b, exclusive)).mean())
            )
        worst |= found
    return worst


def opinion(logits: np.ndarray, exclusive: bool) -> np.ndarray:
    """What logits (n, k, d, h, w) say: the class of each voxel, or the regions, as a number of bits."""
    if exclusive:
        return logits.argmax(1)
    return np.tensordot(1 << np.arange(logits.shape[1]), logits > 0, (0, 1))


def equal(name: str, found: Parity, bound: float = FLOAT) -> list[Gate]:
    """Two runs of float32 must be one but for rounding."""
    return [
        Gate(f"{name}, largest difference", found.error, bound),
        Gate(f"{name}, voxels alike", found.agreement, ALIKE, "least"),
    ]


def close(name: str, found: Parity) -> list[Gate]:
    """Two runs of eight bits, of which some round the other way."""
    return [
        Gate(f"{name}, distance", found.distance, EIGHT_BITS),
        Gate(f"{name}, voxels alike", found.agreement, ALIKE_EIGHT_BITS, "least"),
    ]


def same_masks(name: str, masks: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[Gate]:
    """Label maps in the values of their files: of all voxels, and of those that either calls something."""
    alike = [float((a == b).mean()) for a, b in masks]
    either = [(a != 0) | (b != 0) for a, b in masks]
    inside = [
        float((a == b)[e].mean()) if e.any() else 1.0
        for (a, b), e in zip(masks, either, strict=True)
    ]
    return [
        Gate(f"{name}, voxels alike", min(alike), ALIKE, "least"),
        Gate(f"{name}, labelled voxels alike", min(inside), 0.998, "least"),
    ]


def judged(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], most: float, farther: float
) -> list[Gate]:
    """Scores (`train.evaluate.summary`) may fall by `most` in the mean Dice, by 2.5 times as much of a class.

    The mean HD95 may grow by the share `farther`.
    """
    lost = {key: before[key]["dice"]["mean"] - after[key]["dice"]["mean"] for key in before}
    worst = max((key for key in lost if key != "mean"), key=lambda key: lost[key], default="mean")
    far = [scores["mean"]["hd95"]["mean"] for scores in (before, after)]
    return [
        Gate(f"{name}, mean Dice lost", lost["mean"], most),
        Gate(f"{name}, Dice lost of {worst}", lost[worst], WORST_CLASS * most),
        Gate(f"{name}, HD95 grown by", far[1] / max(far[0], 1e-30) - 1, farther),
    ]


def judged_classes(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], most: float
) -> list[Gate]:
    """Accuracy (`train.findings.classification`) may fall by `most`, and the Brier score grow by as much."""
    accuracy, brier = ([s[key]["mean"] for s in (before, after)] for key in ("accuracy", "brier"))
    return [
        Gate(f"{name}, accuracy lost", accuracy[0] - accuracy[1], most),
        Gate(f"{name}, Brier score grown by", brier[1] - brier[0], most),
    ]


def apart(used: Mapping[str, str], held: Mapping[str, str]) -> Gate:
    """No scan that calibrates may be one that judges: neither by its name nor by its content.

    Both map names of cases to the content of their images (`data.identity.content_key`).
    """
    contents = {*held.values()}
    met = [name for name, content in used.items() if name in held or content in contents]
    return Gate("calibration on cases that judge", float(len(met)), 0.0)
