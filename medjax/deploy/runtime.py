"""An exported model without JAX: from a scan to a label map on its own grid, by the model file alone.

    python -m medjax.deploy.runtime model.onnx INPUT OUTPUT [openvino]

INPUT is a scan or a folder of scans, OUTPUT a file or a folder; what a model says of whole scans stands there
in classification.csv. Needs NumPy, SciPy, NiBabel and ONNX Runtime (or OpenVINO); other formats than NIfTI
need their libraries.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from medjax.data.cases import Case
from medjax.data.inputs import find_inputs
from medjax.data.prepare import Geometry, Scan, load, prepare
from medjax.deploy.facts import Facts, read_facts
from medjax.deploy.providers import PROVIDERS, Outputs
from medjax.errors import UserError
from medjax.infer.classify import classify
from medjax.infer.restore import restore_labels
from medjax.infer.sliding import sliding_window
from medjax.io.atomic import atomic
from medjax.io.files import write
from medjax.space.volume import Volume

MOST_STRETCH = 5.0  # of a scan's spacing against the model's, beyond which nothing is resampled
HEADS = {"seg", "cls"}
TILES = 2  # at a time, where the model takes any number


@dataclass(frozen=True)
class Model:
    """A model file: `run` maps images (n, c, d, h, w) to its outputs by name."""

    run: Callable[[Float32[np.ndarray, "n c d h w"]], Outputs]
    facts: Facts
    batch: int | None  # images at a time, None for any number
    heads: frozenset[str]  # seg, cls: what it says of voxels and of scans

    def forward(
        self, windows: Float32[np.ndarray, "n d h w c"]
    ) -> Float32[np.ndarray, "n d h w k"]:
        """Probabilities of windows, channels last."""
        logits = self.run(np.ascontiguousarray(np.moveaxis(windows, -1, 1)))["seg"]
        return np.moveaxis(ACTIVATIONS[self.facts.activation](logits), 1, -1)

    def prepared(self, scan: Scan, name: str) -> tuple[Float32[np.ndarray, "d h w c"], Geometry]:
        """The scan as the network sees it. Errors name the case."""
        facts = self.facts
        _check_spacing(scan, facts, name)
        image, _, geometry = prepare(
            scan,
            spacing=facts.spacing,
            axes=facts.axes,
            coarse_axis=facts.coarse_axis,
            normalisation=facts.normalisation,
            name=name,
        )
        return image, geometry

    def labels(self, scan: Scan, name: str) -> UInt8[np.ndarray, "x y z"]:
        """Class indices on the RAS+ grid of the scan. Errors name the case."""
        image, geometry = self.prepared(scan, name)
        with _finite(name):
            found = sliding_window(self.forward, image, self.facts.patch, **self._windows())
        kept = self.facts.keep_largest
        return restore_labels(found, geometry, self.facts.labels, keep_largest=kept)

    def classes(self, scan: Scan, name: str) -> Float32[np.ndarray, " k"]:
        """The probability of each of `facts.targets`. Errors name the case."""
        image, _ = self.prepared(scan, name)

        def forward(windows: Float32[np.ndarray, "n d h w c"]) -> Float32[np.ndarray, "n k"]:
            return _softmax(self.run(np.ascontiguousarray(np.moveaxis(windows, -1, 1)))["cls"])

        with _finite(name):
            return classify(forward, image, self.facts.patch, **self._windows())

    def _windows(self) -> dict[str, Any]:
        own = self.facts
        tiles = self.batch or TILES
        return {"overlap": own.overlap, "tiles": tiles, "mirror_axes": own.mirror_axes}


@contextmanager
def _finite(name: str) -> Iterator[None]:
    """What is no number is an error that names the case."""
    try:
        yield
    except FloatingPointError as error:
        raise UserError(f"case {name}: {error}; look for voxels that are no numbers") from error


def _softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max(1, keepdims=True))
    return grown / grown.sum(1, keepdims=True)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))


ACTIVATIONS = {"softmax": _softmax, "sigmoid": _sigmoid}


def _check_spacing(scan: Scan, facts: Facts, name: str) -> None:
    """A spacing far from the model's is an error of the file more often than not."""
    own = [scan.spacing[axis] for axis in facts.axes]
    for ours, theirs in zip(own, facts.spacing, strict=True):
        if not 1 / MOST_STRETCH <= ours / theirs <= MOST_STRETCH:
            raise UserError(
                f"case {name}: spacing {' x '.join(f'{s:.3g}' for s in own)} mm, and the model's is "
                f"{' x '.join(f'{s:.3g}' for s in facts.spacing)}; correct the header, or resample the scan"
            )


def open_model(path: str | Path, provider: str = "onnxruntime", threads: int = 0) -> Model:
    """A model file in one of PROVIDERS, in float32 but for what is quantised or said. `threads`: 0 for all.

    Errors: no such file, no ONNX, no description, or one that does not fit the graph; a runtime that
    is not installed.
    """
    if provider not in PROVIDERS:
        raise UserError(f"runtime {provider!r} is unknown; choose one of {', '.join(PROVIDERS)}")
    if not Path(path).is_file():
        raise UserError(f"{path}: no such file; give a model that medjax exported")
    try:
        run, metadata, shape, outputs = PROVIDERS[provider](str(path), threads)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; install it, or choose another") from error
    except Exception as error:  # each runtime has errors of its own for a broken file
        raise UserError(
            f"{path}: cannot be read as ONNX ({_line(error)}); copy it again"
        ) from error
    facts = read_facts(metadata, str(path))
    heads = frozenset(HEADS & {*outputs})
    if len(shape) != 5 or shape[1] != len(facts.channels) or not heads:
        raise UserError(f"{path}: its description does not fit its graph; export it again")
    batch = shape[0] if isinstance(shape[0], int) else None
    return Model(run, facts, batch, heads)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def predict(model: Model, case: Case, output: Path) -> list[str] | None:
    """The label map of a case, in the values and on the grid of its file, where the model segments.

    Gives the line of classification.csv where it classifies. Errors name the file.
    """
    facts = model.facts
    scan = load(case, facts.labels, len(facts.channels), spacing=facts.given_spacing)
    if "seg" in model.heads:
        labels = facts.labels.decode(model.labels(scan, case.id))
        write(scan.orientation.undo(Volume(labels, scan.affine)), output)
    if "cls" not in model.heads:
        return None
    p = model.classes(scan, case.id)
    return [case.id, facts.targets[int(p.argmax())], *(f"{v:.6g}" for v in p)]


def main(arguments: list[str]) -> int:
    """The command line; gives the exit code. One bad file does not stop the others."""
    if len(arguments) not in (3, 4):
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    source, output = Path(arguments[1]), Path(arguments[2])
    failed, said = 0, []
    try:
        model = open_model(arguments[0], provider=(*arguments, "onnxruntime")[3])
        cases = find_inputs(source, model.facts.channels)
        single = len(cases) == 1 and output.name.endswith((".nii", ".nii.gz"))
        for case in cases:
            try:
                line = predict(model, case, output if single else output / f"{case.id}.nii.gz")
                said += [line] if line else []
            except UserError as error:
                failed += 1
                print(error, file=sys.stderr)
        if said:
            folder = output.parent if single else output
            head = ["case", "predicted", *model.facts.targets]
            with atomic(folder / "classification.csv") as path:
                path.write_text("\n".join(map(",".join, [head, *said])) + "\n", "utf-8")
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
