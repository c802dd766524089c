"""A model file is all that a device needs: the same masks as JAX, and no mask where something is wrong."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import jax.numpy as jnp
import nibabel as nib
import numpy as np
import onnx
import pytest

from medjax.data.cases import Case
from medjax.data.convention import Convention, Region
from medjax.data.plan import Plan
from medjax.data.prepare import load
from medjax.deploy import runtime
from medjax.deploy.export.describe import facts_of, write_model
from medjax.deploy.export.emit import emit
from medjax.deploy.facts import KEY
from medjax.errors import UserError
from medjax.infer.predictor import Predictor, forward, native
from medjax.nn.unet import UNet

CLASSES = Convention("two", {0: "background", 3: "first", 7: "second"})
REGIONS = replace(
    CLASSES,
    regions=(Region("both", ("first", "second"), "first"), Region("inner", ("second",), "second")),
)
PLAN = Plan(
    dimensions=3,
    spacing=(3.0, 1.5, 1.5),
    axes=(2, 1, 0),
    coarse_axis=0,
    channels=("a", "b"),
    normalisation=({"scheme": "zscore"}, {"scheme": "zscore"}),
    convention=CLASSES.to_dict(),
    patch=(4, 16, 16),
    batch=2,
    strides=((1, 1, 1), (1, 2, 2)),
    kernels=((1, 3, 3), (3, 3, 3)),
    widths=(4, 8),
    step_gb=0.1,
    case_gb=0.1,
    largest_gb=0.1,
    assumed={},
)
UNUSED = (
    "jax",
    "jaxlib",
    "flax",
    "jaxtyping",
    "beartype",
    "SimpleITK",
    "PIL",
    "cc3d",
    "rich",
    "onnx",
)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """Two channels on a turned, anisotropic grid."""
    folder = tmp_path_factory.mktemp("scan")
    rng, affine = np.random.default_rng(0), np.diag([-1.0, 2.0, 4.0, 1.0])
    affine[:3, 3] = 30, -20, 5
    for k in range(2):
        array = rng.normal(size=(31, 18, 7)).astype(np.float32).cumsum(0) + 5 * k
        nib.save(nib.Nifti1Image(array, affine), folder / f"case_000{k}.nii.gz")
    return folder


@pytest.fixture(scope="module", params=["classes", "regions"])
def trained(request, random_params, tmp_path_factory):
    """A plan, a predictor of JAX, and the model file of the same weights."""
    convention = CLASSES if request.param == "classes" else REGIONS
    plan = replace(PLAN, convention=convention.to_dict())
    outputs = 3 if plan.exclusive else 2
    model = UNet({"seg": outputs}, plan.widths, plan.kernels, plan.strides)
    image = jnp.zeros((1, *plan.patch, 2))
    params = random_params(model, image, scale=0.4)
    predictor = Predictor(
        forward(model, params, exclusive=plan.exclusive, tiles=2),
        plan,
        mirror_axes=(1,),
        keep_largest=(1,),
    )
    graph = emit(lambda p, x: model.apply({"params": p}, x, False)[0], params, image)
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    write_model(graph, facts_of(plan, mirror_axes=(1,), keep_largest=(1,)), path)
    return plan, predictor, path


def case(folder: Path) -> Case:
    images = tuple(str(folder / f"case_000{k}.nii.gz") for k in range(2))
    return Case("case", "case", images, None)


@pytest.mark.parametrize("provider", ["onnxruntime", "openvino"])
def test_masks_are_those_of_jax(provider, trained, scan, tmp_path):
    if find_spec(provider) is None:
        pytest.skip(f"{provider} is not installed")
    plan, predictor, path = trained
    model = runtime.open_model(path, provider)
    assert model.batch is None
    runtime.predict(model, case(scan), tmp_path / "mask.nii.gz")
    found = nib.load(tmp_path / "mask.nii.gz")
    loaded = load(case(scan), plan.labels, 2)
    wanted = native(predictor.labels(loaded, "case"), loaded, plan)
    mask = np.asarray(found.dataobj)
    assert (mask == wanted.array).mean() >= 0.9999
    assert {0} < set(np.unique(mask).tolist()) <= {0, 3, 7}
    np.testing.assert_allclose(found.affine, wanted.affine)


def test_a_device_needs_no_more_than_numpy_scipy_nibabel_and_the_runtime(trained, scan, tmp_path):
    _, _, path = trained
    lines = (
        "import sys, runpy",
        "class Missing:",
        "    def find_spec(self, name, path=None, target=None):",
        f"        if name.split('.')[0] in {UNUSED}: raise ModuleNotFoundError(name, name=name)",
        "sys.meta_path.insert(0, Missing())",
        "runpy.run_module('medjax.deploy.runtime', run_name='__main__')",
    )
    root = str(Path(__file__).parents[2])
    output = tmp_path / "masks"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), str(path), str(scan), str(output)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    model = runtime.open_model(path)
    runtime.predict(model, case(scan), tmp_path / "here.nii.gz")
    masks = [
        np.asarray(nib.load(p).dataobj) for p in (output / "case.nii.gz", tmp_path / "here.nii.gz")
    ]
    np.testing.assert_array_equal(*masks)


def altered(path: Path, output: Path, **changes) -> Path:
    """The model file with another description."""
    model = onnx.load(path)
    stored = {p.key: p.value for p in model.metadata_props}
    stored[KEY] = json.dumps({**json.loads(stored[KEY]), **changes})
    onnx.helper.set_model_props(model, stored)
    onnx.save(model, output)
    return output


def test_files_that_are_no_models_of_ours_are_refused(trained, tmp_path):
    _, _, path = trained
    bare = onnx.load(path)
    del bare.metadata_props[:]
    onnx.save(bare, tmp_path / "bare.onnx")
    (tmp_path / "half.onnx").write_bytes(path.read_bytes()[:2000])
    wrong = {
        tmp_path / "none.onnx": "no such file",
        tmp_path / "bare.onnx": "says nothing of how to prepare a scan",
        tmp_path / "half.onnx": "cannot be read as ONNX",
        altered(path, tmp_path / "new.onnx", schema=2): "newer than 1; update medjax",
        altered(path, tmp_path / "odd.onnx", patches=3): "its description is broken",
        altered(path, tmp_path / "three.onnx", channels=["a", "b", "c"]): "contradicts itself",
        altered(
            path,
            tmp_path / "one.onnx",
            channels=["a"],
            normalisation=[{"scheme": "zscore"}],
        ): "does not fit its graph",
    }
    for file, said in wrong.items():
        with pytest.raises(UserError, match=said):
            runtime.open_model(file)
    with pytest.raises(UserError, match="choose one of onnxruntime, "):
        runtime.open_model(path, "tflite")


def test_scans_that_do_not_fit_get_no_mask(trained, scan, tmp_path, capsys):
    _, _, path = trained
    for name, change, said in (
        ("nan", lambda a: np.where(a > 0, np.nan, a), "nan"),
        ("far", lambda a: a, "correct the header"),
        ("alone", None, "channel"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for k in range(2 if change else 1):
            image = nib.load(scan / f"case_000{k}.nii.gz")
            array, affine = np.asarray(image.dataobj), image.affine * 1.0
            if name == "far":
                affine[:3, :3] *= 10
            nib.save(
                nib.Nifti1Image(change(array) if change else array, affine),
                folder / f"x_000{k}.nii.gz",
            )
        assert runtime.main([str(path), str(folder), str(tmp_path / f"{name}.nii.gz")]) == 1
        error = capsys.readouterr().err
        assert said in error.lower(), error
        assert "Traceback" not in error
        assert not (tmp_path / f"{name}.nii.gz").exists()
    assert runtime.main(["model.onnx"]) == 2


def test_the_description_says_what_the_plan_says(trained):
    plan, _, path = trained
    facts = runtime.open_model(path).facts
    assert facts == facts_of(plan, mirror_axes=(1,), keep_largest=(1,))
    assert facts.activation == ("softmax" if plan.exclusive else "sigmoid")
    assert facts.divisor == (1, 2, 2)
    assert asdict(facts)["normalisation"] == plan.normalisation
