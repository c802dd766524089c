"""An exported model without JAX: from a scan to a label map on its own grid, by the model file alone.

    python -m medjax.deploy.runtime model.onnx INPUT OUTPUT [openvino]

INPUT is a scan or a folder of scans, OUTPUT a file or a folder. Needs NumPy, SciPy, NiBabel and ONNX Runtime
(or OpenVINO); formats other than NIfTI need their libraries.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from medjax.data.cases import Case
from medjax.data.inputs import find_inputs
from medjax.data.prepare import Scan, load, prepare
from medjax.deploy.facts import Facts, read_facts
from medjax.errors import UserError
from medjax.infer.restore import restore_labels
from medjax.infer.sliding import sliding_window
from medjax.io.files import write
from medjax.space.volume import Volume

MOST_STRETCH = (
    5.0  # factor between the spacing of a scan and the model's beyond which nothing is resampled
)
TILES = 2  # at a time, where the model takes any number
Outputs = Mapping[str, Any]
Opened = tuple[Any, dict[str, str], list[Any], list[str]]  # run, metadata, shape, names of outputs


@dataclass(frozen=True)
class Model:
    """A model file: `run` maps images (n, c, d, h, w) to its outputs by name."""

    run: Callable[[Float32[np.ndarray, "n c d h w"]], Outputs]
    facts: Facts
    batch: int | None  # images at a time, None for any number

    def forward(
        self, windows: Float32[np.ndarray, "n d h w c"]
    ) -> Float32[np.ndarray, "n d h w k"]:
        """Probabilities of windows, channels last."""
        logits = self.run(np.ascontiguousarray(np.moveaxis(windows, -1, 1)))["seg"]
        return np.moveaxis(ACTIVATIONS[self.facts.activation](logits), 1, -1)

    def labels(self, scan: Scan, name: str) -> UInt8[np.ndarray, "x y z"]:
        """Class indices on the RAS+ grid of the scan. Errors name the case."""
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
        try:
            found = sliding_window(
                self.forward,
                image,
                facts.patch,
                overlap=facts.overlap,
                tiles=self.batch or TILES,
                mirror_axes=facts.mirror_axes,
            )
        except FloatingPointError as error:
            raise UserError(f"case {name}: {error}; look for voxels that are no numbers") from error
        return restore_labels(found, geometry, facts.labels, keep_largest=facts.keep_largest)


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
    if len(shape) != 5 or shape[1] != len(facts.channels) or "seg" not in outputs:
        raise UserError(f"{path}: its description does not fit its graph; export it again")
    batch = shape[0] if isinstance(shape[0], int) else None
    return Model(run, facts, batch)


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def session(model: str | bytes, *, threads: int = 0, optimised: bool = True) -> Any:
    """ONNX Runtime's session of a file or its bytes, as a function of images; `threads`: 0 for all."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return _Session(
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    )


class _Session:
    """Images (n, c, d, h, w) to outputs by name."""

    def __init__(self, opened: Any):
        self.opened = opened
        self.names = [output.name for output in opened.get_outputs()]

    def __call__(self, image: np.ndarray) -> Outputs:
        return dict(zip(self.names, self.opened.run(None, {"image": image}), strict=True))


def _onnxruntime(path: str, threads: int, *, optimised: bool = True) -> Opened:
    run = session(path, threads=threads, optimised=optimised)
    metadata = run.opened.get_modelmeta().custom_metadata_map
    return run, dict(metadata), run.opened.get_inputs()[0].shape, run.names


def _openvino(path: str, threads: int, *, precision: str = "f32") -> Opened:
    # It would tell its makers, from a process that it forks; nothing leaves a hospital.
    sys.modules.setdefault("openvino_telemetry", None)  # pyright: ignore[reportArgumentType]
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    # its own choice is bfloat16 wherever the processor has it
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = threads
    compiled = core.compile_model(model, "CPU", settings)
    # a tensor that an operation without effect was cut off from has the names of both
    names = [min(output.get_names(), key=len) for output in compiled.outputs]
    request = compiled.create_infer_request()

    def run(image: np.ndarray) -> Outputs:
        found = request.infer({"image": image}, share_inputs=False)
        return {name: np.array(found[name]) for name in names}

    told = dict(model.rt_info.items()).get("framework", {})
    metadata = {key: str(value.value) for key, value in told.items()}
    sizes = model.inputs[0].get_partial_shape()
    shape = [n.get_length() if n.is_static else str(n) for n in sizes]
    return run, metadata, shape, names


PROVIDERS = {
    "onnxruntime": _onnxruntime,
    "onnxruntime-plain": partial(_onnxruntime, optimised=False),  # to compare with
    "openvino": _openvino,
    "openvino-bf16": partial(_openvino, precision="bf16"),
}


def predict(model: Model, case: Case, output: Path) -> None:
    """The label map of a case, in the values and on the grid of its file. Errors name the file."""
    facts = model.facts
    scan = load(case, facts.labels, len(facts.channels), spacing=facts.given_spacing)
    labels = facts.labels.decode(model.labels(scan, case.id))
    write(scan.orientation.undo(Volume(labels, scan.affine)), output)


def main(arguments: list[str]) -> int:
    """The command line; gives the exit code. One bad file does not stop the others."""
    if len(arguments) not in (3, 4):
        print((__doc__ or "").split("\n\n")[1].strip(), file=sys.stderr)
        return 2
    source, output = Path(arguments[1]), Path(arguments[2])
    failed = 0
    try:
        model = open_model(arguments[0], provider=(*arguments, "onnxruntime")[3])
        cases = find_inputs(source, model.facts.channels)
        single = len(cases) == 1 and output.name.endswith((".nii", ".nii.gz"))
        for case in cases:
            try:
                predict(model, case, output if single else output / f"{case.id}.nii.gz")
            except UserError as error:
                failed += 1
                print(error, file=sys.stderr)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
