"""A trained run becomes a model file that says what JAX says; one with a fault never does."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import nibabel as nib
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from medjax import cli
from medjax.deploy import runtime
from medjax.errors import UserError
from medjax.modes import candidates, quantise

FLAGS = {
    "tasks.learn": ("segmentation", "classification"),
    "augment.flips": False,
    "train.steps": 60,
    "train.learning_rate": 1e-2,
    "train.validations": 1,
    "train.ema": False,
    "export.runtime": "onnxruntime",
    "export.cases": 2,
}


@pytest.fixture(scope="module")
def run_mode(make_scans, train_on, tmp_path_factory):
    """`run_mode(workdir, {key: value}, mode)` on six small cases made here."""
    root = tmp_path_factory.mktemp("export") / "scans"
    make_scans(root)
    lines = ["case,target", *(f"case{k},{('left', 'right')[k % 2]}" for k in range(6))]
    (root / "targets.csv").write_text("\n".join(lines))
    return train_on(root, FLAGS)


@pytest.fixture(scope="module")
def whole(run_mode, tmp_path_factory):
    """A trained run."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    run_mode(workdir, {})
    return workdir


@pytest.fixture
def export(run_mode, monkeypatch):
    """The export without the route by TensorFlow, which takes half a minute."""

    def none(*given):
        raise UserError("export by jax2tf: not in this test")

    monkeypatch.setattr(candidates.tensorflow, "convert", none)
    return lambda workdir, changes: run_mode(workdir, changes, "export")


def test_the_file_says_what_the_run_said(export, whole, capsys):
    export(whole, {})
    said = capsys.readouterr().out
    assert "not in this test; the other route is alone" in said
    assert "FAILS" not in said
    told = json.loads((whole / "export" / "export.json").read_text("utf-8"))
    assert told["model"] == "model.onnx"
    assert all(gate["passes"] for gate in told["gates"])
    assert {row["file"] for row in told["table"]} == {"float32"}
    page = (whole / "export" / "export.html").read_text("utf-8")
    assert "Every check is passed." in page
    assert "JAX = direct in onnxruntime-plain, largest difference" in page
    dice = json.loads((whole / "results.json").read_text("utf-8"))["metrics"]["mean"]["dice"]
    assert dice["mean"] > 0.5
    assert told["facts"]["metrics"]["dice"] == pytest.approx(dice["mean"], abs=1e-3)
    said = (whole / "classification.csv").read_text("utf-8").splitlines()[1:]
    classes = {line.split(",")[0]: [float(p) for p in line.split(",")[-2:]] for line in said}
    model = runtime.open_model(whole / "export" / "model.onnx")
    root = Path(json.loads((whole / "config.json").read_text("utf-8"))["data"]["root"])
    for case in json.loads((whole / "split.json").read_text("utf-8"))["test"]:
        output = whole / "again.nii.gz"
        (found,) = runtime.find_inputs(root / "imagesTr" / f"{case}_0000.nii.gz", ("T1",))
        line = runtime.predict(model, found, output)
        np.testing.assert_allclose([float(p) for p in line[-2:]], classes[case], atol=1e-4)
        ours, theirs = (
            np.asarray(nib.load(p).dataobj)
            for p in (output, whole / "predictions" / f"{case}.nii.gz")
        )
        assert (ours == theirs).mean() >= 0.9999


@pytest.fixture
def predict(whole):
    """`predict(workdir, output)`: the masks of all six cases, one after the other."""
    quick = str(Path(__file__).parents[2] / "experiments" / "quick.py")
    root = json.loads((whole / "config.json").read_text("utf-8"))["data"]["root"]

    def run(workdir, output):
        where = ["--mode=predict", f"--input={root}/imagesTr", f"--output={output}"]
        cli.run([f"--config={quick}", f"--workdir={workdir}", *where])
        masks = sorted(output.glob("*.nii.gz"))
        return np.stack([np.asarray(nib.load(mask).dataobj) for mask in masks])

    return run


def test_predictions_on_cpu_are_made_with_the_file(export, predict, whole, tmp_path, capsys):
    export(whole, {})
    capsys.readouterr()
    with_file = predict(whole, tmp_path / "file")
    assert "model.onnx in o" in capsys.readouterr().out
    (whole / "export" / "model.onnx").write_bytes(b"no model")
    without = predict(whole, tmp_path / "none")
    assert "cannot be read as ONNX" in capsys.readouterr().out
    assert without.any()
    assert (with_file == without).mean() >= 0.9999


def test_a_route_that_is_impossible_stops_only_who_asks_for_it(export, whole, monkeypatch, capsys):
    def none(*given):
        raise UserError("export: cumsum in UNet has no rule")

    monkeypatch.setattr(candidates, "emit", none)
    for route, said in (
        ("auto", "not in this test"),  # neither is possible
        ("direct", "cumsum in UNet has no rule"),
        ("jax2tf", "not in this test"),
    ):
        with pytest.raises(SystemExit) as stop:
            export(whole, {"export.route": route})
        assert stop.value.code == 1
        assert said in capsys.readouterr().err


def other_labels(model, facts):
    classes = {0: "background", 2: "tumour"}
    return model, replace(facts, convention=replace(facts.labels, values=classes).to_dict())


def other_targets(model, facts):
    return model, replace(facts, targets=facts.targets[::-1])


def no_normalisation(model, facts):
    return model, replace(facts, normalisation=({"scheme": "none"},))


def other_spacing(model, facts):
    return model, replace(facts, spacing=(1.0, 1.3, 1.0))


def one_weight(model, facts):
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    weights = next(c for c in wrong.graph.initializer if len(c.dims) == 5)
    array = numpy_helper.to_array(weights).copy()
    array.flat[0] = 127 if array.dtype == np.int8 else 1
    weights.CopyFrom(numpy_helper.from_array(array, weights.name))
    return wrong, facts


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=pytest.mark.long)])
@pytest.mark.parametrize(
    "fault", [other_labels, other_targets, no_normalisation, other_spacing, one_weight]
)
def test_a_file_with_a_fault_is_rejected(fault, precision, export, whole, monkeypatch, capsys):
    if precision == "int8" and fault in (other_targets, no_normalisation, other_spacing):
        pytest.skip("of the description, which both files share")
    right = candidates.write_model
    monkeypatch.setattr(
        candidates,
        "write_model",
        lambda model, facts, path: right(
            *(
                fault(model, facts)
                if precision in path.name or "direct" in path.name
                else (model, facts)
            ),
            path,
        ),
    )
    with pytest.raises(SystemExit) as stop:
        export(whole, {"export.precision": precision})
    assert stop.value.code == 3
    assert "is not for use" in capsys.readouterr().err
    assert "Not for use" in (whole / "export" / "export.html").read_text("utf-8")
    assert (whole / "export" / "model.rejected.onnx").is_file()
    assert not (whole / "export" / "model.onnx").exists()


def test_calibration_on_test_cases_is_rejected(export, whole, monkeypatch, capsys):
    monkeypatch.setattr(
        quantise, "calibrating", lambda run, count: run.cases(run.split.test)[:count]
    )
    with pytest.raises(SystemExit) as stop:
        export(whole, {"export.precision": "int8"})
    assert stop.value.code == 3
    assert "FAILS: calibration on cases that judge: 2" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.parametrize(
    "asked",
    [
        {"export.precision": "float16"},
        {"export.precision": "int8", "export.flavour": "tensorrt", "export.runtime": "auto"},
    ],
)
def test_float16_for_gpus_is_checked_too(asked, export, whole, capsys):
    export(whole, {**asked, "export.lost": 0.1})
    said = capsys.readouterr().out
    assert "ok: float16 in onnxruntime" in said
    assert "FAILS" not in said
    graph = onnx.load(whole / "export" / "model.onnx").graph
    assert onnx.TensorProto.FLOAT16 in {c.data_type for c in graph.initializer}


@pytest.mark.long
def test_a_run_that_is_not_there_is_trained_pruned_and_exported(
    export, predict, whole, tmp_path, capsys
):
    changes = {"train.start_from": str(whole), "prune.ratio": 0.5, "prune.multiple": 1}
    asked = {"export.precision": "int8", "export.smaller": 4.0, "export.lost": 1.0}
    export(tmp_path / "run", {**changes, **asked})
    said = capsys.readouterr().out
    assert "ok: pruned = whole with zeros" in said
    assert "ok: times as small as before pruning" in said
    facts = runtime.open_model(tmp_path / "run" / "export" / "model.onnx").facts
    assert facts.quantisation["cases"]
    before, after = facts.pruning["parameters"]
    assert after < 0.4 * before
    predict(tmp_path / "run", tmp_path / "masks")
    assert "model.onnx in" not in capsys.readouterr().out  # eight bits are not the network itself


def test_a_folder_without_a_run_is_not_trained(export, tmp_path, capsys):
    with pytest.raises(SystemExit):
        export(tmp_path / "nothing", {})
    assert "holds no trained run; train first" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"export.precision": "int4"}, "export.precision: 'int4' is unknown"),
        ({"export.precision": "int8", "export.route": "jax2tf"}, "jax2tf makes no int8"),
        ({"export.runtime": "tflite"}, "choose auto, onnxruntime, openvino"),
        (
            {
                "export.precision": "int8",
                "export.flavour": "tensorrt",
                "export.runtime": "openvino",
            },
            "OpenVINO",
        ),
    ],
)
def test_mistakes_end_in_one_line(changes, said, export, whole, capsys):
    with pytest.raises(SystemExit) as stop:
        export(whole, changes)
    assert stop.value.code == 1
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


IN_EIGHT_BITS = {
    "train.precision": "int8",
    "train.steps": 4,
    "train.validations": 2,
    "train.learning_rate": 1e-3,
}


@pytest.mark.long
def test_a_run_in_eight_bits_goes_on_with_its_scales(
    run_mode, whole, last_state, cut_and_resume, tmp_path
):
    changes = {**IN_EIGHT_BITS, "train.start_from": str(whole)}
    run_mode(tmp_path / "at once", changes)
    cut_and_resume(run_mode, tmp_path / "cut", changes, 3)
    states = [last_state(tmp_path / name)["params"] for name in ("at once", "cut")]
    jax.tree.map(np.testing.assert_array_equal, *states)


@pytest.mark.long
def test_a_run_in_eight_bits_is_exported(export, whole, tmp_path, capsys):
    changes = {**IN_EIGHT_BITS, "train.start_from": str(whole)}
    export(tmp_path / "run", {**changes, "export.precision": "int8", "export.lost": 0.1})
    assert "ok: int8" in capsys.readouterr().out
