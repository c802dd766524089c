"""The route by TensorFlow, in a process of its own: jax2tf, a SavedModel, LiteRT, and ONNX made of that.

    python -m medjax.deploy.export.tensorflow FOLDER

makes saved_model/, model.tflite and model.onnx of the model.stablehlo in FOLDER, and lite.npz: what LiteRT
says of image.npy. TensorFlow and JAX share neither threads nor memory well, and a fork of both may hang: so
the model goes over as a file.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from jaxtyping import Float32

from medjax.deploy.export.emitter import channels_first
from medjax.deploy.export.ends import with_ends
from medjax.errors import UserError

NEEDED = ("tensorflow", "tf2onnx")


def convert(
    model: bytes, names: Sequence[str], image: Float32[Any, "n d h w c"], folder: Path
) -> dict[str, np.ndarray]:
    """StableHLO by TensorFlow into `folder`; gives what LiteRT says of the image, channels first, by name.

    names: of the outputs in turn. The ONNX model has the ends of `emit`, for one size of image. Errors:
    TensorFlow is not installed, or an operation that LiteRT does not know.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.stablehlo").write_bytes(model)
    (folder / "names.json").write_text(json.dumps(list(names)), "utf-8")
    np.save(folder / "image.npy", image)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, str(folder)],
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"export by jax2tf: {reason(done.stderr)}")
    with np.load(folder / "lite.npz") as said:
        return {name: said[f"out{k}"] for k, name in enumerate(names)}


def reason(said: str) -> str:
    """The line of an error that says most."""
    if any(f"No module named '{name}'" in said for name in NEEDED):
        return "needs TensorFlow and tf2onnx; install medjax[edge]"
    lines = [line.strip() for line in said.splitlines() if "error:" in line or "Error:" in line]
    return lines[0] if lines else (said.strip().splitlines() or ["it ended without a word"])[-1]


def _main(folder: Path) -> None:
    from medjax.deploy.export.stablehlo import load

    exported = load((folder / "model.stablehlo").read_bytes())
    import tensorflow as tf  # slow, and here alone
    import tf2onnx
    from jax.experimental import jax2tf

    image, names = np.load(folder / "image.npy"), json.loads((folder / "names.json").read_text())
    called = jax2tf.convert(exported, with_gradient=False)

    def flat(x: Any) -> dict[str, Any]:
        return {f"out{k}": y for k, y in enumerate(tf.nest.flatten(called(x)))}

    spec = tf.TensorSpec(image.shape, tf.float32, name="image")
    call = tf.function(flat, input_signature=[spec], autograph=False)
    module = tf.Module()
    module.call = call  # pyright: ignore[reportAttributeAccessIssue]
    saved = str(folder / "saved_model")
    tf.saved_model.save(module, saved, signatures=call.get_concrete_function())
    lite = folder / "model.tflite"
    lite.write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())

    runner = tf.lite.Interpreter(str(lite)).get_signature_runner()
    said = runner(image=image)
    turned = {name: y.transpose(channels_first(y.ndim)) for name, y in said.items()}
    np.savez(folder / "lite.npz", **turned)
    tensors = {name: detail["name"] for name, detail in runner.get_output_details().items()}
    whole = folder / "model.onnx"
    made, _ = tf2onnx.convert.from_tflite(str(lite), opset=18)
    onnx.save(with_ends(made, {n: tensors[f"out{k}"] for k, n in enumerate(names)}), str(whole))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
