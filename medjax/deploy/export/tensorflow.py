"""The route by TensorFlow, in a process of its own: jax2tf, a SavedModel, LiteRT, and ONNX made of that.

    python -m medjax.deploy.export.tensorflow MODEL.stablehlo FOLDER

leaves saved_model/, model.tflite and model.onnx in FOLDER. TensorFlow and JAX share neither threads nor
memory well, and a fork of both may hang: so the model goes over as a file.
"""

import os
import subprocess
import sys
from pathlib import Path

from medjax.errors import UserError

NEEDED = ("tensorflow", "tf2onnx")


def convert(model: bytes, folder: Path) -> None:
    """StableHLO by TensorFlow. Errors: it is not installed, or an operation that LiteRT does not know."""
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "model.stablehlo"
    source.write_bytes(model)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", __name__, str(source), str(folder)],
        env={**os.environ, **quiet},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"export by jax2tf: {reason(done.stderr)}")


def reason(said: str) -> str:
    """The line of an error that says most."""
    if any(f"No module named '{name}'" in said for name in NEEDED):
        return "needs TensorFlow and tf2onnx; install medjax[edge]"
    lines = [line.strip() for line in said.splitlines() if "error:" in line or "Error:" in line]
    return lines[0] if lines else (said.strip().splitlines() or ["it ended without a word"])[-1]


def _main(source: str, folder: str) -> None:
    from medjax.deploy.export.stablehlo import load

    exported = load(Path(source).read_bytes())
    import tensorflow as tf  # slow, and here alone
    import tf2onnx
    from jax.experimental import jax2tf

    (shape,) = (a.shape for a in exported.__self__.in_avals)  # pyright: ignore[reportFunctionMemberAccess]
    spec = tf.TensorSpec(shape, tf.float32, name="image")
    call = tf.function(
        jax2tf.convert(exported, with_gradient=False), input_signature=[spec], autograph=False
    )
    module = tf.Module()
    module.call = call  # pyright: ignore[reportAttributeAccessIssue]
    saved = str(Path(folder) / "saved_model")
    tf.saved_model.save(module, saved, signatures=call.get_concrete_function())
    lite = Path(folder) / "model.tflite"
    lite.write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())
    tf2onnx.convert.from_tflite(str(lite), opset=18, output_path=str(Path(folder) / "model.onnx"))


if __name__ == "__main__":
    _main(*sys.argv[1:])
