"""Half precision says nearly the same, and sums over space do not overflow in it."""

import jax
import numpy as np
import onnx
import pytest

from medjax.deploy.export.emit import emit
from medjax.deploy.export.half import half
from medjax.deploy.program import trace
from medjax.deploy.providers import session
from medjax.deploy.quantize.calibrate import calibrate
from medjax.deploy.quantize.scales import FLAVOURS
from medjax.nn.unet import UNet

IMAGES = [300 * jax.random.normal(jax.random.key(i), (1, 4, 8, 8, 2)) for i in range(2)]


@pytest.fixture(scope="module", params=["instance", "group"])
def network(request, random_params):
    model = UNet(
        heads={"seg": 3, "cls": 2},
        widths=(8, 16),
        kernels=((1, 3, 3), (3, 3, 3)),
        strides=((1, 1, 1), (1, 2, 2)),
        norm=request.param,
        attention="sca" if request.param == "group" else "none",
    )
    return lambda p, x: model.apply({"params": p}, x, False)[0], random_params(model, IMAGES[0])


@pytest.mark.parametrize("bits", [16, 8])
def test_it_says_nearly_what_float32_says(network, bits):
    scales = []
    if bits == 8:
        program, _ = trace(*network, IMAGES[0])
        scales = calibrate(program, network[1], IMAGES, FLAVOURS["tensorrt"], "minmax")
    whole = emit(*network, IMAGES[0], scales)
    whole.metadata_props.add(key="medjax", value="kept")
    made = half(whole)
    assert [(p.key, p.value) for p in made.metadata_props] == [("medjax", "kept")]
    image = np.moveaxis(np.asarray(IMAGES[0]), -1, 1)
    wanted, given = (session(m.SerializeToString(), optimised=False)(image) for m in (whole, made))
    assert wanted.keys() == given.keys()
    for name, array in wanted.items():
        assert given[name].dtype == np.float32
        off = np.linalg.norm(given[name] - array) / np.linalg.norm(array)
        assert 1e-6 < off < (0.01 if bits == 16 else 0.05)
    sizes = [len(m.SerializeToString()) for m in (whole, made)]
    if bits == 16:
        assert sizes[1] < 0.7 * sizes[0]
    kinds = {c.data_type for c in made.graph.initializer if len(c.dims) == 5}
    assert (onnx.TensorProto.FLOAT16 if bits == 16 else onnx.TensorProto.INT8) in kinds
    assert onnx.TensorProto.FLOAT not in kinds
