import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medjax.data.convention import Convention
from medjax.data.layouts import open_dataset
from medjax.data.verify import verify

SHAPE = (6, 7, 5)
AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -4], [0, 0, 3, 1], [0, 0, 0, 1]])
FILES = ("t1", "t2", "label")


def save(path: Path, array, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(array, affine).to_filename(path)


def image(seed):
    return np.random.default_rng(seed).normal(100, 20, SHAPE).astype(np.float32)


def mask():
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 2:5, 1:3] = 1
    return label


def put(root, case):
    """A clean case, different from every other."""
    seed = sum(map(ord, case)) * 100
    save(root / case / "t1.nii.gz", image(seed))
    save(root / case / "t2.nii.gz", image(seed + 1))
    save(root / case / "label.nii.gz", mask())


def moved(case, affine):
    for name in FILES:
        save(case / f"{name}.nii.gz", nib.load(case / f"{name}.nii.gz").get_fdata(), affine)


def with_voxel(case, name, value):
    array = image(7)
    array[1, 2, 3] = value
    save(case / f"{name}.nii.gz", array)


def missing_label(case):
    (case / "label.nii.gz").unlink()


def orphan_label(case):
    (case / "t1.nii.gz").unlink()
    (case / "t2.nii.gz").unlink()


def shape_mismatch(case):
    save(case / "t2.nii.gz", image(3)[:, :-1])


def affine_mismatch(case):
    save(case / "t2.nii.gz", image(3), AFFINE + np.eye(4, k=3) * 0.01)


def spacing_outlier(case):
    moved(case, np.diag([2.0, 2, 12, 1]))


def identity_affine(case):
    moved(case, np.eye(4))


def label_outside(case):
    save(case / "label.nii.gz", mask() * np.uint8(7))


def nan(case):
    with_voxel(case, "t2", np.nan)


def inf(case):
    with_voxel(case, "t1", -np.inf)


def empty_mask(case):
    save(case / "label.nii.gz", np.zeros(SHAPE, np.uint8))


def duplicate(case):
    for name in FILES:
        shutil.copy(case.parent / "clean1" / f"{name}.nii.gz", case / f"{name}.nii.gz")


def truncated(case):
    content = (case / "label.nii.gz").read_bytes()
    (case / "label.nii.gz").write_bytes(content[: len(content) // 2])


FAULTS = {
    missing_label: ("missing label", "t1.nii.gz"),
    orphan_label: ("orphan label", "label.nii.gz"),
    shape_mismatch: ("shape mismatch", "t2.nii.gz"),
    affine_mismatch: ("affine mismatch", "t2.nii.gz"),
    spacing_outlier: ("spacing outlier", "t1.nii.gz"),
    identity_affine: ("identity affine", "t1.nii.gz"),
    label_outside: ("label outside the convention", "label.nii.gz"),
    nan: ("NaN", "t2.nii.gz"),
    inf: ("Inf", "t1.nii.gz"),
    empty_mask: ("empty mask", "label.nii.gz"),
    duplicate: ("duplicate case", "t1.nii.gz"),
    truncated: ("unreadable file", "label.nii.gz"),
}


def found(root, **options):
    findings = verify(open_dataset(str(root), convention="binary", **options))
    for finding in findings:
        assert "\n" not in finding.message
        assert Path(finding.file).exists()
    return [(finding.case, finding.kind, Path(finding.file).name) for finding in findings]


@pytest.fixture
def root(tmp_path):
    for case in ("clean1", "clean2", "clean3"):
        put(tmp_path, case)
    return tmp_path


def test_a_clean_set_has_no_finding(root):
    assert found(root) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_is_found_and_nothing_else(root, fault):
    put(root, "x_bad")
    assert found(root) == []
    fault(root / "x_bad")
    assert found(root) == [("x_bad", *FAULTS[fault])]


def test_all_faults_at_once(root):
    for fault in FAULTS:
        put(root, f"x_{fault.__name__}")
        fault(root / f"x_{fault.__name__}")
    expected = [(f"x_{fault.__name__}", *FAULTS[fault]) for fault in FAULTS]
    assert found(root) == sorted(expected)


def test_several_faults_of_one_case(root):
    put(root, "x")
    with_voxel(root / "x", "t2", np.nan)
    empty_mask(root / "x")
    save(root / "x" / "t1.nii.gz", image(1)[1:])
    kinds = {kind for _, kind, _ in found(root)}
    assert kinds == {"NaN", "empty mask", "shape mismatch"}


def test_values_and_counts_of_labels_outside_are_listed(root):
    label_outside(root / "clean2")
    (finding,) = verify(open_dataset(str(root), convention="binary"))
    assert "7 (12 voxels)" in finding.message


def test_an_unreadable_first_channel_leaves_the_other_files_checked(root):
    (root / "clean2" / "t1.nii.gz").write_bytes(b"")
    empty_mask(root / "clean2")
    kinds = [kind for _, kind, _ in found(root)]
    assert kinds == ["unreadable file", "empty mask"]


def test_affines_may_differ_by_rounding(root):
    save(root / "clean1" / "t2.nii.gz", image(3), AFFINE + np.eye(4, k=3) * 0.0005)
    assert found(root) == []


def test_identity_as_itk_writes_it_is_lost_too(root):
    moved(root / "clean1", np.diag([-1.0, -1, 1, 1]))
    assert found(root) == [("clean1", "identity affine", "t1.nii.gz")]


def test_spacing_is_compared_along_the_axes_of_the_body(tmp_path):
    """Sagittal files of one set have their thick axis elsewhere in the array, not in the body."""
    for case in ("a", "b", "c"):
        save(tmp_path / case / "t1.nii", image(ord(case)), np.diag([1.0, 1, 5, 1]))
        save(tmp_path / case / "label.nii", mask(), np.diag([1.0, 1, 5, 1]))
    turned = np.diag([5.0, 1, 1, 1])[[2, 1, 0, 3]]
    save(tmp_path / "d" / "t1.nii", image(9), turned)
    save(tmp_path / "d" / "label.nii", mask(), turned)
    assert found(tmp_path) == []


def test_a_copy_is_found_in_another_type_and_orientation(root):
    array = np.round(image(1))
    save(root / "clean1" / "t1.nii.gz", array)
    flipped = AFFINE.copy()
    flipped[:, 0], flipped[:, 3] = -AFFINE[:, 0], AFFINE[:, 3] + AFFINE[:, 0] * (SHAPE[0] - 1)
    for name in FILES[1:]:
        save(root / "clean2" / f"{name}.nii.gz", np.zeros(SHAPE, np.uint8) + mask(), flipped)
    save(root / "clean2" / "t1.nii.gz", array.astype(np.int16)[::-1], flipped)
    assert found(root) == [("clean2", "duplicate case", "t1.nii.gz")]


def test_nan_in_a_label_is_outside_the_convention(root):
    with_voxel(root / "clean2", "label", np.nan)
    ((_, kind, name),) = found(root)
    assert (kind, name) == ("label outside the convention", "label.nii.gz")


def test_a_label_of_ignored_voxels_alone_is_empty(root):
    ignoring = Convention("partly", {0: "background", 2: "organ"}, ignore=1)
    dataset = replace(open_dataset(str(root)), convention=ignoring)
    assert {finding.kind for finding in verify(dataset)} == {"empty mask"}


def test_sform_and_qform_that_disagree(root):
    path = root / "clean2" / "t2.nii.gz"
    picture = nib.Nifti1Image(image(5), AFFINE)
    picture.set_sform(AFFINE, 1)
    picture.set_qform(AFFINE + np.eye(4, k=3), 1)
    picture.to_filename(path)
    assert found(root) == [("clean2", "header conflict", "t2.nii.gz")]


def test_channels_inside_a_file(tmp_path):
    for case in ("a", "b", "c"):
        save(tmp_path / case / "mr.nii.gz", np.stack([image(ord(case)), image(1)], axis=-1))
        save(tmp_path / case / "label.nii.gz", mask())
    assert open_dataset(str(tmp_path)).channels == ("mr_0", "mr_1")
    assert found(tmp_path) == []
    save(tmp_path / "b" / "mr.nii.gz", image(1))
    assert found(tmp_path) == [("b", "shape mismatch", "mr.nii.gz")]


def test_a_class_that_is_said_not_to_be_drawn(root):
    dataset = open_dataset(str(root), channels=("t1", "t2"), convention="background,liver,tumour")
    first, *rest = dataset.cases
    dataset = replace(dataset, cases=(replace(first, drawn=("tumour",)), *rest))
    (finding,) = verify(dataset)
    assert (finding.case, finding.kind) == (first.id, "undrawn class")
    assert finding.message.startswith("holds liver")


def test_progress_sees_every_case(root):
    seen = []

    def progress(cases):
        for case in cases:
            seen.append(case.id)
            yield case

    verify(open_dataset(str(root)), progress=progress)
    assert seen == ["clean1", "clean2", "clean3"]


def test_real_acdc_lost_its_spacing(shared):
    """And two of its patients carry the same images."""
    dataset = open_dataset(str(shared / "acdc"))
    patients = ("patient001", "patient074", "patient076")
    kept = tuple(case for case in dataset.cases if case.patient in patients)
    findings = verify(replace(dataset, cases=kept))
    lost = [finding for finding in findings if finding.kind == "identity affine"]
    copies = [finding.case for finding in findings if finding.kind == "duplicate case"]
    assert len(lost) == len(kept) == 6
    assert copies == ["patient076_frame01", "patient076_frame12"]
    assert len(findings) == 8


@pytest.mark.parametrize("name", ["brats2015", "chase_db1", "ms"])
def test_real_sets_are_clean(shared, name):
    dataset = open_dataset(str(shared / name))
    assert verify(replace(dataset, cases=dataset.cases[:1])) == []
