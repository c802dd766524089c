"""StableHLO for processors that are not here, and the route by TensorFlow."""

from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest

from medjax.deploy.export import tensorflow
from medjax.deploy.export.stablehlo import load, stablehlo
from medjax.deploy.providers import session
from medjax.errors import UserError
from medjax.nn.unet import UNet

IMAGE = jax.random.normal(jax.random.key(1), (1, 4, 8, 8, 2))


@pytest.fixture(scope="module")
def network(random_params):
    model = UNet(
        heads={"cls": 2, "seg": 3},
        widths=(4, 8),
        kernels=((1, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (2, 2, 2)),
        attention="sca",
    )
    return lambda p, x: model.apply({"params": p}, x, False)[0], random_params(model, IMAGE)


def test_stablehlo_is_lowered_for_processors_that_are_not_here(network):
    exported = stablehlo(*network, IMAGE)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    again = load(bytes(exported.serialize()))(IMAGE)
    for name, wanted in network[0](network[1], IMAGE).items():
        np.testing.assert_allclose(again[name], wanted, atol=1e-5 * float(jnp.abs(wanted).max()))


@pytest.mark.long
def test_the_route_by_tensorflow_gives_a_saved_model_lite_and_onnx(network, tmp_path):
    if find_spec("tf2onnx") is None:
        pytest.skip("tf2onnx is not installed")
    model = bytes(stablehlo(*network, IMAGE).serialize())
    lite = tensorflow.convert(model, ["cls", "seg"], np.asarray(IMAGE), tmp_path)
    assert (tmp_path / "saved_model" / "saved_model.pb").is_file()
    assert (tmp_path / "model.tflite").stat().st_size > 1000
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    given = session(str(tmp_path / "model.onnx"))(np.moveaxis(np.asarray(IMAGE), -1, 1))
    for name, wanted in network[0](network[1], IMAGE).items():
        first = np.moveaxis(wanted, -1, 1)
        for found in (given[name], lite[name]):
            np.testing.assert_allclose(
                found, first, rtol=0, atol=1e-4 * float(jnp.abs(wanted).max())
            )


def test_what_tensorflow_cannot_do_is_one_line(tmp_path):
    with pytest.raises(UserError, match="export by jax2tf: "):
        tensorflow.convert(b"no model", ["seg"], np.asarray(IMAGE), tmp_path)
    assert "install medjax" in tensorflow.reason("ModuleNotFoundError: No module named 'tf2onnx'")
