"""Runtimes of ONNX files: each opens one and gives it as a function, with what the file says of itself."""

import sys
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

Outputs = Mapping[str, Any]
Opened = tuple[Any, dict[str, str], list[Any], list[str]]  # run, metadata, shape, names of outputs


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
