"""What an export must show: a figure that is no number fails, and so does every fault that is planted."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from medjax.data.convention import Convention
from medjax.deploy import gates, prove
from medjax.deploy.export.describe import write_model
from medjax.deploy.export.emit import emit
from medjax.deploy.facts import Facts
from medjax.deploy.gates import Gate, Parity
from medjax.deploy.program import trace
from medjax.deploy.prune import choice
from medjax.deploy.prune import pruned as pruned_module
from medjax.deploy.prune.pruned import Pruned, structure_of
from medjax.deploy.prune.structure import cut
from medjax.deploy.quantize.calibrate import calibrate
from medjax.deploy.quantize.scales import FLAVOURS
from medjax.nn.unet import UNet

FACTS = Facts(
    channels=("a", "b"),
    spacing=(1.0, 1.0, 1.0),
    axes=(2, 1, 0),
    coarse_axis=None,
    normalisation=({"scheme": "zscore"}, {"scheme": "zscore"}),
    convention=Convention("two", {0: "background", 3: "first", 7: "second"}).to_dict(),
    patch=(4, 8, 8),
    divisor=(1, 2, 2),
)
IMAGES = [np.asarray(jax.random.normal(jax.random.key(i), (1, 4, 8, 8, 2))) for i in range(2)]
MODEL = UNet({"seg": 3}, (8, 16), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)))


@pytest.fixture(scope="module")
def net(random_params):
    params = random_params(MODEL, IMAGES[0])
    return prove.Net(lambda p, x: MODEL.apply({"params": p}, x, False)[0], params, True, (1, 2, 2))


@pytest.fixture(scope="module")
def model(net):
    return emit(net.fn, net.params, IMAGES[0])


def test_what_is_no_number_never_passes():
    assert Gate("a", 1.0, 1.0).passes
    assert Gate("a", 1.0, 1.0, "least").passes
    assert not Gate("a", 1.1, 1.0).passes
    assert not Gate("a", 0.9, 1.0, "least").passes
    for bad in (math.nan, math.inf, -math.inf):
        assert not Gate("a", bad, 1.0).passes
        assert not Gate("a", bad, 1.0, "least").passes
    assert str(Gate("a", 2.0, 1.0)) == "FAILS: a: 2 (at most 1)"


def test_parity_is_the_worst_of_outputs_and_images():
    a = {"seg": np.array([[2.0, 0.0], [0.0, 4.0]]).reshape(1, 2, 1, 1, 2)}
    b = {"seg": a["seg"] + np.array([0, 0, 3.0, 0]).reshape(1, 2, 1, 1, 2)}
    found = gates.parity(a, b, exclusive=True)
    assert found.error == pytest.approx(3 / 4)
    assert found.distance == pytest.approx(3 / math.sqrt(20))
    assert found.agreement == 0.5
    assert gates.parity(a, b, exclusive=False).agreement == 0.5
    assert gates.parity(a, a, exclusive=True) == Parity()
    assert (found | Parity(math.nan, 0.0, 1.0)).error != 1  # what is no number is the worst
    assert math.isnan((Parity(math.nan) | found).error)
    for other in ({"cls": a["seg"]}, {"seg": a["seg"][:, :1]}):
        assert gates.parity(a, other, exclusive=True).error == math.inf


def test_label_maps_are_compared_where_they_say_something():
    a = np.zeros((10, 10, 100), np.uint8)
    a[0, 0, :10] = 3
    b = np.where(a == 3, 7, a)  # a wrong label map: of all voxels one in a thousand
    wide, inside = gates.same_masks("x", [(a, a), (a, b)])
    assert wide.figure == pytest.approx(0.999)
    assert inside.figure == 0
    assert not inside.passes
    assert all(g.passes for g in gates.same_masks("x", [(a, a), (0 * a, 0 * a)]))


def test_a_score_may_fall_a_little():
    def scores(mean, first, second, hd95):
        means = {"mean": mean, "first": first, "second": second}
        return {k: {"dice": {"mean": v}, "hd95": {"mean": hd95}} for k, v in means.items()}

    before = scores(0.9, 0.9, 0.9, 2.0)
    assert all(
        g.passes for g in gates.judged("x", before, scores(0.89, 0.91, 0.88, 2.1), 0.012, 0.1)
    )
    for after in (
        scores(0.88, 0.88, 0.88, 2.0),
        scores(0.89, 0.92, 0.86, 2.0),
        scores(0.9, 0.9, 0.9, 2.3),
        scores(math.nan, 0.9, 0.9, 2.0),
    ):
        assert not all(g.passes for g in gates.judged("x", before, after, 0.012, 0.1))


def test_cases_that_judge_may_not_calibrate_under_another_name_either():
    held = {"c": "3", "d": "4"}
    assert gates.apart({"a": "1", "b": "2"}, held).passes
    assert not gates.apart({"a": "1", "c": "9"}, held).passes
    assert not gates.apart({"a": "1", "copy": "4"}, held).passes


def passes(net, model, path):
    write_model(model, FACTS, path)
    found = prove.prove_file("x", net, path, IMAGES, ["onnxruntime-plain", "onnxruntime"])
    return all(gate.passes for gate in found)


def test_a_graph_of_other_weights_or_channels_is_caught(net, model, tmp_path):
    path = tmp_path / "model.onnx"
    assert passes(net, model, path)
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    weights = next(c for c in wrong.graph.initializer if len(c.dims) == 5)
    array = numpy_helper.to_array(weights).copy()
    array.flat[0] += 0.05
    weights.CopyFrom(numpy_helper.from_array(array, weights.name))
    assert not passes(net, wrong, path)
    swapped = onnx.ModelProto()
    swapped.CopyFrom(model)
    swapped.graph.initializer.append(numpy_helper.from_array(np.array([1, 0]), "swap"))
    for node in swapped.graph.node:
        node.input[:] = ["turned" if name == "image" else name for name in node.input]
    swapped.graph.node.insert(0, helper.make_node("Gather", ["image", "swap"], ["turned"], axis=1))
    assert not passes(net, swapped, path)


def test_a_pruned_network_is_the_whole_one_with_zeros(net, monkeypatch):
    structure = structure_of(MODEL, IMAGES[0])
    scores = choice.magnitude(structure, net.params)
    removed = choice.choose(structure, scores, 0.5, multiple=1)
    pruned = Pruned(MODEL, structure.entries(removed))
    small = cut(structure, net.params, removed)
    assert prove.prove_pruned(pruned, small, IMAGES).passes
    right = pruned_module.smaller

    def wrong(*args):
        return lambda *given: jax.tree.map(lambda y: 1.001 * y, right(*args)(*given))

    monkeypatch.setattr(pruned_module, "smaller", wrong)
    broken = Pruned(MODEL, pruned.entries)
    assert not prove.prove_pruned(broken, small, IMAGES).passes


def test_eight_bits_are_proven_layer_by_layer_and_runtime_by_runtime(net, tmp_path):
    program, _ = trace(net.fn, net.params, jnp.asarray(IMAGES[0]))
    scales = calibrate(program, net.params, IMAGES, FLAVOURS["cpu"], "minmax")
    path = tmp_path / "int8.onnx"
    write_model(emit(net.fn, net.params, IMAGES[0], scales), FACTS, path)
    assert prove.prove_layers(net, path, IMAGES[0], scales).passes
    found = prove.prove_runtimes("x", path, IMAGES, ["onnxruntime"], exclusive=True)
    assert all(gate.passes for gate in found)
    write_model(emit(net.fn, net.params, IMAGES[0], scales[::-1]), FACTS, path)
    assert not prove.prove_layers(net, path, IMAGES[0], scales).passes
