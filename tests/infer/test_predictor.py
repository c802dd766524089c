import flax.linen as nn
import jax
import numpy as np
import pytest

from medjax.errors import UserError
from medjax.infer.predictor import forward
from medjax.infer.sliding import sliding_window
from medjax.nn.unet import UNet


class Tiny(nn.Module):
    @nn.compact
    def __call__(self, image, train):
        return {"seg": nn.Dense(3)(image)}, {}


@pytest.mark.parametrize("exclusive", [True, False])
def test_windows_spread_over_devices_give_the_same(exclusive):
    image = np.random.default_rng(0).normal(size=(4, 2, 3, 4, 2)).astype(np.float32)
    params = Tiny().init(jax.random.key(0), image, False)["params"]
    logits = np.asarray(Tiny().apply({"params": params}, image, False)[0]["seg"])
    odds = np.exp(logits)
    wanted = odds / odds.sum(-1, keepdims=True) if exclusive else odds / (1 + odds)
    for tiles in (1, 2, 3, 4):
        run = forward(Tiny(), params, exclusive=exclusive, tiles=tiles)
        found = run(jax.numpy.asarray(image[:tiles]))
        assert len(found.sharding.device_set) == {1: 1, 2: 2, 3: 1, 4: 4}[tiles]
        np.testing.assert_allclose(found, wanted[:tiles], rtol=1e-5)
        whole = sliding_window(run, image[0], (2, 2, 2), tiles=tiles)
        np.testing.assert_allclose(whole, wanted[0], rtol=1e-5)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_devices_that_share_windows_give_the_same(norm):
    image = np.random.default_rng(0).normal(size=(2, 8, 16, 8, 2)).astype(np.float32)
    model = UNet({"seg": 3}, (4, 8), [(3, 3, 3)] * 2, [(1, 1, 1), (2, 2, 2)], norm=norm)
    params = model.init(jax.random.key(0), jax.numpy.asarray(image), False)["params"]
    wanted = forward(model, params, exclusive=True, tiles=1)(image[:1])
    for tiles, space, devices in ((1, 2, 2), (1, 4, 4), (2, 2, 4)):
        run = forward(model, params, exclusive=True, tiles=tiles, space=space)
        found = run(image[:tiles])
        assert len(found.sharding.device_set) == devices
        np.testing.assert_allclose(found[:1], wanted, atol=1e-5)


@pytest.mark.parametrize("space", [0, 5])
def test_more_devices_for_a_window_than_there_are(space):
    with pytest.raises(UserError, match=r"eval.space: .* give 1 up to"):
        forward(Tiny(), {}, exclusive=True, tiles=1, space=space)
