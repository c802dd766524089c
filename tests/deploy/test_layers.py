"""A graph against its program, layer by layer: what is wrong in one layer is found there."""

import jax
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from medjax.deploy.export.emit import graph
from medjax.deploy.layers import layer_errors
from medjax.deploy.program import trace
from medjax.deploy.quantize.calibrate import calibrate
from medjax.deploy.quantize.scales import FLAVOURS
from medjax.nn.unet import UNet

IMAGES = [jax.random.normal(jax.random.key(i), (1, 4, 8, 8, 2)) for i in range(2)]


@pytest.fixture(scope="module")
def network(random_params):
    model = UNet(
        heads={"seg": 3},
        widths=(4, 8),
        kernels=((1, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2)),
        block="residual",
    )
    params = random_params(model, IMAGES[0])
    return lambda p, x: model.apply({"params": p}, x, False)[0], params


@pytest.fixture(scope="module", params=["float32", *FLAVOURS])
def made(network, request):
    """The graph of the network, and its scales."""
    if request.param == "float32":
        return graph(*network, IMAGES[0]), []
    program, _ = trace(*network, IMAGES[0])
    scales = calibrate(program, network[1], IMAGES, FLAVOURS[request.param], "minmax")
    return graph(*network, IMAGES[0], scales), scales


def test_every_layer_of_a_network_is_that_of_jax(made, network):
    found, scales = made
    errors = layer_errors(found, network[1], IMAGES[1], scales)
    assert len(errors) > 30
    assert {"seg"} < errors.keys()
    assert max(errors.values()) < 1e-5, max(errors.items(), key=lambda e: e[1])


def test_a_file_for_another_size_has_the_same_layers(made, network):
    found, scales = made
    other = IMAGES[1][:, :, :6, :4]
    small = graph(*network, other, scales)
    assert max(layer_errors(small, network[1], other, scales, found.model).values()) < 1e-5


def test_one_wrong_weight_is_found_where_it_is(made, network):
    found, scales = made
    wrong = onnx.ModelProto()
    wrong.CopyFrom(found.model)
    weights = next(c for c in wrong.graph.initializer if len(c.dims) == 5)
    array = numpy_helper.to_array(weights).copy()
    array.flat[3] = -array.flat[3] or 5
    weights.CopyFrom(numpy_helper.from_array(array, weights.name))
    errors = layer_errors(found, network[1], IMAGES[1], scales, wrong)
    assert [name for name, error in errors.items() if error > 1e-5] == [
        next(name for name in errors if "Conv" in name)
    ]


def test_scales_of_another_calibration_are_found(made, network):
    found, scales = made
    if not scales:
        pytest.skip("float32 has no scales")
    program, _ = trace(*network, IMAGES[0])
    flavour = "cpu" if scales[0].low == 0 else "tensorrt"
    others = calibrate(program, network[1], [2 * i for i in IMAGES], FLAVOURS[flavour], "minmax")
    errors = layer_errors(found, network[1], IMAGES[1], others)
    assert np.max(list(errors.values())) > 1e-3
