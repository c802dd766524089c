"""The script for TensorRT on a trtexec that is none: the real one needs a GPU."""

import json
import stat
import sys

import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import tensorrt
from medjax.data.convention import Convention
from medjax.deploy.export.describe import write_model
from medjax.deploy.facts import Facts
from medjax.errors import UserError

FACTS = Facts(
    channels=("a", "b"),
    spacing=(1.0, 1.0, 1.0),
    axes=(2, 1, 0),
    coarse_axis=None,
    normalisation=({"scheme": "zscore"}, {"scheme": "zscore"}),
    convention=Convention("one", {0: "background", 1: "a"}).to_dict(),
    patch=(4, 8, 16),
    divisor=(1, 1, 1),
)
FAKE = """#!{python}
import json, sys
given = dict(a[2:].split("=", 1) for a in sys.argv[1:] if "=" in a)
if given["shapes"] != "image:1x2x4x8x16" or "--stronglyTyped" not in sys.argv:
    print("[E] wrong shapes"); sys.exit(1)
open(given["saveEngine"], "wb").write(bytes(2000000))
open(given["exportTimes"], "w").write(json.dumps([{{"latencyMs": 1 + k / 100}} for k in range(101)]))
"""


@pytest.fixture
def model(tmp_path):
    """A graph that does nothing, described."""
    sizes = ["N", 2, "D", "H", "W"]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, sizes) for n in ("image", "seg")]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["seg"])], "g", ports[:1], ports[1:]
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(made)
    write_model(made, FACTS, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_models_are_timed_one_after_the_other(model, tmp_path, monkeypatch, capsys):
    fake = tmp_path / "trtexec"
    fake.write_text(FAKE.format(python=sys.executable))
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    given = ["tensorrt", str(model), str(model), f"--trtexec={fake}"]
    monkeypatch.setattr(sys, "argv", given)
    tensorrt.main()
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2
    assert "p50 1.50 ms, p95 1.95 ms over 101 queries, engine 2.00 MB, 1.00 times" in rows[1]
    fake.write_text(FAKE.format(python=sys.executable).replace("16", "17"))
    with pytest.raises(SystemExit, match="wrong shapes"):
        tensorrt.main()
    monkeypatch.setattr(sys, "argv", ["tensorrt", str(model), "--trtexec=nowhere"])
    with pytest.raises(SystemExit, match="nowhere: is not there"):
        tensorrt.main()


@pytest.mark.parametrize("text", ["no json", "[]", json.dumps([{"computeMs": 1.0}]), "{}"])
def test_other_files_of_times_are_refused(text):
    with pytest.raises(UserError, match="exportTimes"):
        tensorrt.read_times(text)
