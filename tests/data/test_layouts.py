import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from medjax.data.layouts import LAYOUTS, open_dataset
from medjax.errors import UserError


def put(root, *names):
    """Files whose content no layout looks at."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def label(path, values, size=(4, 5, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.resize(np.array(values, np.uint8), size)
    nib.Nifti1Image(array, np.eye(4) * 2).to_filename(path)


def describe(root, **content):
    (root / "dataset.json").write_text(json.dumps(content))


def kinds(dataset):
    return [(finding.case, finding.kind) for finding in dataset.findings]


# --- every layout ---------------------------------------------------------------------------


def make_msd(root):
    label(root / "labelsTr" / "liver_1.nii.gz", [0, 1])
    label(root / "labelsTr" / "liver_2.nii.gz", [0, 1])
    label(root / "imagesTr" / "liver_1.nii.gz", range(9))
    label(root / "imagesTr" / "liver_2.nii.gz", range(9))
    names = ("liver_2", "liver_1")
    pairs = [
        {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
        for name in names
    ]
    put(root, "imagesTs/liver_9.nii.gz", "imagesTr/._liver_1.nii.gz")
    describe(
        root,
        name="Liver",
        modality={"0": "CT"},
        labels={"0": "background", "1": "liver"},
        training=pairs,
        test=["./imagesTs/liver_9.nii.gz"],
    )


def make_nnunet(root):
    for case in ("a_1", "b_2"):
        put(root, f"imagesTr/{case}_0000.nii.gz", f"imagesTr/{case}_0001.nii.gz")
        label(root / "labelsTr" / f"{case}.nii.gz", [0, 1, 2])
    put(root, "imagesTs/c_3_0000.nii.gz", "nnUNetPlans.json")
    describe(
        root,
        channel_names={"0": "T2", "1": "ADC"},
        labels={"background": 0, "zone": 1, "gland": 2},
        numTraining=2,
        file_ending=".nii.gz",
    )


def make_brats(root):
    for case in ("BraTS20_Training_001", "BraTS20_Training_002"):
        put(root, *[f"{case}/{case}_{name}.nii" for name in ("t1", "t1ce", "t2", "flair")])
        label(root / case / f"{case}_seg.nii", [0, 1, 2, 4])
    (root / "name_mapping.csv").write_text("")


def make_acdc(root):
    for patient, group in (("patient001", "DCM"), ("patient002", "RV")):
        for name in ("frame01", "frame01_gt", "frame12", "frame12_gt", "4d"):
            put(root, f"{patient}/{patient}_{name}.nii.gz")
        (root / patient / "Info.cfg").write_text(f"ED: 1\nES: 12\nGroup: {group}\nHeight: 1.8\n")


def make_drive(root):
    for number in ("21", "22"):
        put(root, f"training/images/{number}_training.tif")
        put(root, f"training/1st_manual/{number}_manual1.gif")
        put(root, f"training/mask/{number}_training_mask.gif")
    put(root, "test/images/01_test.tif", "test/mask/01_test_mask.gif")


def make_chase(root):
    for eye in ("01L", "01R", "02L", "02R"):
        put(root, *[f"Image_{eye}{end}" for end in (".jpg", "_1stHO.png", "_2ndHO.png")])


def make_plain(root):
    for case in ("p1", "p2"):
        put(root, f"{case}/ct.mha", f"{case}/pet.nrrd")
        label(root / case / "seg.nii.gz", [0, 1])


# layout: maker, cases, patients, channels, classes, dimensions
TABLE = {
    "msd": (make_msd, 2, 2, ("CT",), ("background", "liver"), 3),
    "nnunet": (make_nnunet, 2, 2, ("T2", "ADC"), ("background", "zone", "gland"), 3),
    "brats": (
        make_brats,
        2,
        2,
        ("t1", "t1ce", "t2", "flair"),
        ("background", "necrosis", "oedema", "enhancing"),
        3,
    ),
    "acdc": (make_acdc, 4, 2, ("cine",), ("background", "RV", "myocardium", "LV"), 3),
    "drive": (make_drive, 2, 2, ("red", "green", "blue"), ("background", "vessel"), 2),
    "chase": (make_chase, 4, 2, ("red", "green", "blue"), ("background", "vessel"), 2),
    "plain": (make_plain, 2, 2, ("ct", "pet"), ("background", "foreground"), 3),
}


def test_the_table_is_complete():
    assert TABLE.keys() == LAYOUTS.keys()


@pytest.mark.parametrize("layout", TABLE)
@pytest.mark.parametrize("asked", ["auto", "by name"])
def test_a_clean_folder_of_each_layout(tmp_path, layout, asked):
    make, cases, patients, channels, classes, dimensions = TABLE[layout]
    make(tmp_path)
    put(tmp_path, ".hidden/x_1.nii.gz", ".y.png")
    (tmp_path / "LICENSE.txt").write_text("")
    dataset = open_dataset(str(tmp_path), "auto" if asked == "auto" else layout)
    assert dataset.layout == layout
    assert dataset.findings == ()
    assert len(dataset.cases) == cases
    assert len({case.patient for case in dataset.cases}) == patients
    assert dataset.channels == channels
    assert dataset.convention.classes == classes
    assert dataset.dimensions == dimensions
    assert [case.id for case in dataset.cases] == sorted({case.id for case in dataset.cases})
    for case in dataset.cases:
        assert len(case.images) in (1, len(channels))
        assert case.label is not None
        for path in (*case.images, case.label):
            assert (tmp_path / path).is_file()


@pytest.mark.parametrize("layout", TABLE)
def test_a_layout_that_does_not_fit_is_one_line(tmp_path, layout):
    put(tmp_path, "notes/readme.md", "scan.nii.gz")
    with pytest.raises(UserError, match=str(tmp_path)) as error:
        open_dataset(str(tmp_path), layout)
    assert "\n" not in str(error.value)


def test_when_nothing_fits_auto_says_what_it_looked_for(tmp_path):
    put(tmp_path, "scan.nii.gz")
    with pytest.raises(UserError) as error:
        open_dataset(str(tmp_path))
    assert all(layout.looked_for in str(error.value) for layout in LAYOUTS.values())


def test_paths_and_names_that_do_not_exist(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        open_dataset(str(tmp_path / "absent"))
    put(tmp_path, "file.nii")
    with pytest.raises(UserError, match="is a file"):
        open_dataset(str(tmp_path / "file.nii"))
    with pytest.raises(UserError, match="use auto, nnunet, msd"):
        open_dataset(str(tmp_path), "bids")


@pytest.mark.parametrize("layout", TABLE)
def test_a_convention_of_the_users_own_overrides(tmp_path, layout):
    TABLE[layout][0](tmp_path)
    dataset = open_dataset(str(tmp_path), convention="background,one,two,three,four")
    assert dataset.convention.values[4] == "four"


@pytest.mark.parametrize("layout", TABLE)
def test_channels_that_are_not_there(tmp_path, layout):
    TABLE[layout][0](tmp_path)
    with pytest.raises(UserError, match=r"config\.data\.channels=xray"):
        open_dataset(str(tmp_path), channels=("xray",))


# --- BraTS ----------------------------------------------------------------------------------


def brats(root, *cases, names=("t1ce", "flair"), values=(0, 1, 2, 4)):
    for case in cases:
        put(root, *[f"{case}/{case.split('/')[-1]}_{name}.nii.gz" for name in names])
        label(root / case / f"{case.split('/')[-1]}_seg.nii.gz", values)


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("brats_tcia_pat153_0165", "brats_tcia_pat153"),
        ("brats_2013_pat0001_1", "brats_2013_pat0001"),
        ("Brats18_TCIA01_131_1", "Brats18_TCIA01_131"),
        ("Brats18_2013_2_1", "Brats18_2013_2"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00000", "BraTS2021_00000"),
    ],
)
def test_brats_patients(tmp_path, case, patient):
    brats(tmp_path, f"HGG/{case}")
    (found,) = open_dataset(str(tmp_path)).cases
    assert (found.id, found.patient) == (case, patient)


def test_brats_2023_names_channels_patients_and_convention(tmp_path):
    for scan in ("00003-000", "00003-001", "00004-000"):
        case = f"BraTS-GLI-{scan}"
        put(tmp_path, *[f"{case}/{case}-{x}.nii.gz" for x in ("t1n", "t1c", "t2w", "t2f", "seg")])
    dataset = open_dataset(str(tmp_path))
    assert dataset.channels == ("t1", "t1ce", "t2", "flair")
    assert {case.patient for case in dataset.cases} == {"BraTS-GLI-00003", "BraTS-GLI-00004"}
    assert dataset.convention.name == "brats2023"
    assert dataset.cases[0].images[1].endswith("-t1c.nii.gz")
    chosen = open_dataset(str(tmp_path), channels=("t2f", "t1"))
    assert chosen.channels == ("flair", "t1")
    assert chosen.cases[0].images[0].endswith("-t2f.nii.gz")


@pytest.mark.parametrize(
    ("labels", "convention"),
    [
        ([(0, 1, 2, 4)], "brats2018"),
        ([(0, 1, 2, 3, 4)], "brats2015"),
        ([(0, 1, 2), (0, 3), (0, 4)], "brats2015"),
        ([(0,), (0, 2, 4)], "brats2018"),
        ([(0, 1, 2, 3)], None),
        ([(0, 1, 2)], None),
        ([(0, 1), (0, 1)], None),
    ],
)
def test_brats_convention_by_the_values_only_where_they_leave_no_doubt(
    tmp_path, labels, convention
):
    for number, values in enumerate(labels):
        brats(tmp_path, f"case{number}", values=values)
    if convention is None:
        with pytest.raises(UserError, match=r"config\.data\.convention"):
            open_dataset(str(tmp_path))
        assert open_dataset(str(tmp_path), convention="brats2015").assumed == ()
    else:
        dataset = open_dataset(str(tmp_path))
        assert dataset.convention.name == convention
        assert dataset.assumed[-1].startswith(f"label convention {convention}")


def test_brats_conventions_that_need_the_user(tmp_path):
    put(tmp_path, *[f"BraTS-PED-00001-000/BraTS-PED-00001-000-{x}.nii" for x in ("t1c", "seg")])
    with pytest.raises(UserError, match="paediatric"):
        open_dataset(str(tmp_path))
    brats(tmp_path, "BraTS2021_00001")
    with pytest.raises(UserError, match="2023"):
        open_dataset(str(tmp_path))


def test_brats_without_any_label(tmp_path):
    put(tmp_path, *[f"a/a_{name}.nii.gz" for name in ("t1", "t1ce")])
    dataset = open_dataset(str(tmp_path))
    assert kinds(dataset) == [("a", "missing label")]
    assert dataset.cases[0].label is None


def test_brats_one_bad_case_is_a_finding(tmp_path):
    """The set of 2020 really holds a label under the name of an older patient (case 355)."""
    make_brats(tmp_path)
    (tmp_path / "BraTS20_Training_001" / "BraTS20_Training_001_seg.nii").rename(
        tmp_path / "BraTS20_Training_001" / "W39_1998.09.19_Segm.nii"
    )
    brats(tmp_path, "few", names=("t1ce",))
    label(tmp_path / "alone" / "alone_seg.nii.gz", [0, 4])
    brats(tmp_path, "HGG/BraTS20_Training_002", names=("t1", "t1ce", "t2", "flair"))
    dataset = open_dataset(str(tmp_path))
    assert sorted(kinds(dataset)) == [
        ("BraTS20_Training_001", "extra file"),
        ("BraTS20_Training_001", "missing label"),
        ("BraTS20_Training_002", "duplicate name"),
        ("alone", "orphan label"),
        ("few", "missing channel"),
    ]
    assert [case.id for case in dataset.cases] == ["BraTS20_Training_001", "BraTS20_Training_002"]


def test_brats_keeps_the_channels_that_most_cases_have(tmp_path):
    brats(tmp_path, "a", "b")
    brats(tmp_path, "c", names=("t1", "t1ce", "t2", "flair"))
    dataset = open_dataset(str(tmp_path))
    assert dataset.channels == ("t1ce", "flair")
    assert len(dataset.cases) == 3
    assert any("channel t1 left aside: only 1 of 3" in line for line in dataset.assumed)
    only = open_dataset(str(tmp_path), channels=("t1", "flair"))
    assert [case.id for case in only.cases] == ["c"]
    assert kinds(only) == [("a", "missing channel"), ("b", "missing channel")]


# --- dataset.json ---------------------------------------------------------------------------


def test_msd_brain_gets_its_regions_and_counts_channels_by_modality(tmp_path):
    put(tmp_path, "imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz")
    names = ("background", "edema", "non-enhancing tumor", "enhancing tumour")
    describe(
        tmp_path,
        modality={"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        labels={str(value): name for value, name in enumerate(names)},
        training=[{"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}],
    )
    dataset = open_dataset(str(tmp_path))
    assert dataset.convention.name == "msd_brain"
    assert [region.name for region in dataset.convention.regions] == ["WT", "TC", "ET"]
    assert len(dataset.channels) == 4
    assert len(dataset.cases[0].images) == 1


def test_msd_faults_are_findings(tmp_path):
    make_msd(tmp_path)
    (tmp_path / "imagesTr" / "liver_1.nii.gz").unlink()
    put(tmp_path, "imagesTr/liver_7.nii.gz", "labelsTr/liver_8.nii.gz")
    assert sorted(kinds(open_dataset(str(tmp_path)))) == [
        ("imagesTr", "extra file"),
        ("liver_1", "orphan label"),
        ("liver_8", "orphan label"),
    ]
    (tmp_path / "labelsTr" / "liver_1.nii.gz").unlink()
    (tmp_path / "labelsTr" / "liver_2.nii.gz").unlink()
    found = kinds(open_dataset(str(tmp_path)))
    assert ("liver_1", "missing image") in found
    assert ("liver_2", "missing label") in found


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSON"),
        ("[]", "JSON object"),
        ('{"labels": {}, "training": []}', "channel_names"),
        ('{"modality": {"0": "CT"}, "training": []}', "labels"),
        ('{"modality": {"0": "CT"}, "labels": {"x": "a", "1": "b"}}', "labels"),
        ('{"modality": {"0": "CT"}, "labels": {"0": "a", "1": "b"}}', "training"),
        ('{"modality": {"1": "CT"}, "labels": {"0": "a", "1": "b"}}', "modality"),
        ('{"channel_names": {"0": "CT"}, "labels": {"background": 0, "t": [1, 2]}}', "regions"),
        (
            '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "t": [1, 2]}, '
            '"regions_class_order": [1, 2]}',
            "regions_class_order",
        ),
    ],
)
def test_a_broken_description_is_one_line_that_names_it(tmp_path, content, words):
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=words) as error:
        open_dataset(str(tmp_path))
    assert str(error.value).startswith(str(tmp_path / "dataset.json"))
    assert "\n" not in str(error.value)


def test_nnunet_regions_and_ignore(tmp_path):
    make_nnunet(tmp_path)
    describe(
        tmp_path,
        channel_names={"0": "T2", "1": "ADC"},
        labels={"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4},
        regions_class_order=[1, 2, 3],
        file_ending=".nii.gz",
    )
    convention = open_dataset(str(tmp_path)).convention
    assert convention.ignore == 4
    assert convention.classes == ("background", "label_1", "label_2", "active")
    assert convention.membership.tolist() == [
        [False, True, True, True],
        [False, False, True, True],
        [False, False, False, True],
    ]
    indices = np.arange(4, dtype=np.uint8)
    np.testing.assert_array_equal(convention.paint(convention.membership.T), indices)


def test_nnunet_chooses_and_orders_channels(tmp_path):
    make_nnunet(tmp_path)
    dataset = open_dataset(str(tmp_path), channels=("ADC",))
    assert [len(case.images) for case in dataset.cases] == [1, 1]
    assert dataset.cases[0].images[0].endswith("a_1_0001.nii.gz")


def test_nnunet_faults_are_findings(tmp_path):
    make_nnunet(tmp_path)
    put(tmp_path, "imagesTr/c_0000.nii.gz", "labelsTr/c.nii.gz", "labelsTr/d.nii.gz")
    put(tmp_path, "imagesTr/e_0000.nii.gz", "imagesTr/e_0001.nii.gz", "imagesTr/odd.nii.gz")
    put(tmp_path, "imagesTr/a_1_0002.nii.gz")
    assert sorted(kinds(open_dataset(str(tmp_path)))) == [
        ("c", "missing channel"),
        ("d", "orphan label"),
        ("e", "missing label"),
        ("imagesTr", "extra file"),
        ("imagesTr", "extra file"),
    ]


def test_nnunet_and_msd_cases_without_labels(tmp_path):
    make_nnunet(tmp_path / "nnunet")
    put(tmp_path / "nnunet", "imagesUn/u_0000.nii.gz", "imagesUn/u_0001.nii.gz")
    put(tmp_path / "nnunet", "imagesUn/half_0000.nii.gz", "imagesUn/odd.nii.gz")
    dataset = open_dataset(str(tmp_path / "nnunet"))
    assert [(case.id, case.label is None) for case in dataset.cases] == [
        ("a_1", False),
        ("b_2", False),
        ("u", True),
    ]
    assert kinds(dataset) == [("half", "missing channel"), ("imagesUn", "extra file")]
    make_msd(tmp_path / "msd")
    put(tmp_path / "msd", "imagesUn/liver_7.nii.gz")
    dataset = open_dataset(str(tmp_path / "msd"))
    assert [case.id for case in dataset.cases if case.label is None] == ["liver_7"]
    assert not dataset.findings


def test_nnunet_version_1_and_colour_pictures(tmp_path):
    one = tmp_path / "one"
    put(one, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    describe(
        one,
        modality={"0": "MR"},
        labels={"0": "background", "1": "heart"},
        training=[{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    )
    dataset = open_dataset(str(one))
    assert (dataset.layout, dataset.findings, len(dataset.cases)) == ("nnunet", (), 1)
    two = tmp_path / "two"
    put(two, "labelsTr/a.png")
    (two / "imagesTr").mkdir()
    Image.new("RGB", (4, 3)).save(two / "imagesTr" / "a_0000.png")
    describe(
        two,
        channel_names={"0": "R", "1": "G", "2": "B"},
        labels={"background": 0, "road": 1},
        file_ending=".png",
    )
    dataset = open_dataset(str(two))
    assert dataset.channels == ("R", "G", "B")
    assert (len(dataset.cases[0].images), dataset.dimensions, dataset.findings) == (1, 2, ())


def test_nnunet_list_of_a_dataset(tmp_path):
    put(tmp_path, "elsewhere/x.nii.gz", "elsewhere/y.nii.gz", "masks/x.nii.gz")
    describe(
        tmp_path,
        channel_names={"0": "CT"},
        labels={"background": 0, "road": 1},
        dataset={
            "x": {"images": ["elsewhere/x.nii.gz"], "label": "masks/x.nii.gz"},
            "y": {"images": ["elsewhere/y.nii.gz"], "label": "masks/y.nii.gz"},
        },
    )
    dataset = open_dataset(str(tmp_path))
    assert [case.id for case in dataset.cases] == ["x", "y"]
    assert kinds(dataset) == [("y", "missing label")]


def test_msd_cases_with_four_digits_are_not_nnunet(tmp_path):
    put(tmp_path, "imagesTr/case_0001.nii.gz", "labelsTr/case_0001.nii.gz")
    describe(
        tmp_path,
        modality={"0": "CT"},
        labels={"0": "background", "1": "liver"},
        training=[{"image": "./imagesTr/case_0001.nii.gz", "label": "./labelsTr/case_0001.nii.gz"}],
    )
    assert open_dataset(str(tmp_path)).layout == "msd"


# --- ACDC, DRIVE, CHASE_DB1 -----------------------------------------------------------------


def test_acdc_diagnosis_patients_and_the_official_root(tmp_path):
    make_acdc(tmp_path / "training")
    make_acdc(tmp_path / "testing")
    dataset = open_dataset(str(tmp_path))
    assert dataset.targets == ("DCM", "HCM", "MINF", "NOR", "RV")
    assert [case.target for case in dataset.cases] == [0, 0, 4, 4]
    assert all("training" in case.images[0] for case in dataset.cases)
    assert dataset.findings == ()
    assert "testing left aside" in dataset.assumed[0]


def test_acdc_faults_are_findings(tmp_path):
    make_acdc(tmp_path)
    (tmp_path / "patient001" / "Info.cfg").unlink()
    (tmp_path / "patient001" / "patient001_frame01_gt.nii.gz").unlink()
    (tmp_path / "patient002" / "patient002_frame12.nii.gz").unlink()
    put(tmp_path, "patient002/patient001_frame03.nii.gz")
    dataset = open_dataset(str(tmp_path))
    assert sorted(kinds(dataset)) == [
        ("patient001", "missing diagnosis"),
        ("patient001_frame01", "missing label"),
        ("patient002", "extra file"),
        ("patient002_frame12", "orphan label"),
    ]
    assert dataset.cases[0].target is None


def test_acdc_scribbles_are_labels_where_there_are_no_others(tmp_path):
    make_acdc(tmp_path)
    assert open_dataset(str(tmp_path)).convention.ignore is None
    frames = [tmp_path / "patient001" / f"patient001_{name}" for name in ("frame01", "frame12")]
    for frame in frames:
        put(tmp_path, f"patient001/{frame.name}_scribble.nii.gz")
    assert open_dataset(str(tmp_path)).convention.ignore is None
    assert "scribbles of 2 frames left aside" in open_dataset(str(tmp_path)).assumed[0]
    Path(f"{frames[0]}_gt.nii.gz").unlink()
    dataset = open_dataset(str(tmp_path))
    assert dataset.convention.ignore == 4
    assert dataset.cases[0].label == f"{frames[0]}_scribble.nii.gz"
    assert dataset.cases[1].label == f"{frames[1]}_gt.nii.gz"
    assert dataset.findings == ()


def test_drive_folders_and_faults(tmp_path):
    make_drive(tmp_path)
    dataset = open_dataset(str(tmp_path))
    assert [case.id for case in dataset.cases] == ["21_training", "22_training"]
    assert "test left aside" in dataset.assumed[0]
    (tmp_path / "training" / "1st_manual" / "21_manual1.gif").unlink()
    put(tmp_path, "training/1st_manual/39_manual1.gif", "training/images/odd.tif")
    assert sorted(kinds(open_dataset(str(tmp_path / "training")))) == [
        ("21_training", "missing label"),
        ("39", "orphan label"),
        ("images", "extra file"),
    ]
    test = open_dataset(str(tmp_path / "test"))
    assert test.cases[0].label is None
    assert test.findings == ()


def test_chase_children_and_faults(tmp_path):
    make_chase(tmp_path)
    assert open_dataset(str(tmp_path)).cases[2].patient == "02"
    (tmp_path / "Image_01L_1stHO.png").unlink()
    (tmp_path / "Image_02L.jpg").unlink()
    put(tmp_path, "montage.png")
    assert [kind for _, kind in kinds(open_dataset(str(tmp_path)))] == [
        "missing label",
        "orphan label",
        "extra file",
    ]


# --- plain ----------------------------------------------------------------------------------


def test_plain_needs_names_for_other_values_than_0_and_1(tmp_path):
    make_plain(tmp_path)
    label(tmp_path / "p2" / "seg.nii.gz", [0, 1, 2])
    with pytest.raises(UserError, match="background,liver,tumour") as error:
        open_dataset(str(tmp_path))
    assert "0, 1, 2" in str(error.value)
    dataset = open_dataset(str(tmp_path), convention="background,liver,tumour")
    assert dataset.convention.classes == ("background", "liver", "tumour")


def test_plain_channels(tmp_path):
    make_plain(tmp_path)
    put(tmp_path, "p3/p3_ct.nii.gz", "p3/p3_pet.nii.gz", "p3/p3_extra.nii.gz", "p3/p3_mask.nii.gz")
    dataset = open_dataset(str(tmp_path))
    assert dataset.channels == ("ct", "pet")
    assert len(dataset.cases) == 3
    assert dataset.findings == ()
    assert any("extra left aside" in line for line in dataset.assumed)
    ordered = open_dataset(str(tmp_path), channels=("pet", "ct"))
    assert ordered.cases[0].images[0].endswith("pet.nrrd")


def test_plain_masks_are_never_channels(tmp_path):
    for case in ("a", "b"):
        put(tmp_path, *[f"{case}/{m}_{k}.nii.gz" for m in ("ct", "pet") for k in ("image", "mask")])
    dataset = open_dataset(str(tmp_path))
    assert dataset.channels == ("ct_image", "pet_image")
    assert kinds(dataset) == [("a", "ambiguous label"), ("b", "ambiguous label")]
    dataset = open_dataset(str(tmp_path), channels=("pet_image",))
    assert all((case.label or "").endswith("pet_mask.nii.gz") for case in dataset.cases)
    assert dataset.findings == ()


def test_plain_files_side_by_side(tmp_path):
    for case in ("x_1", "x_2"):
        put(tmp_path, f"{case}_t1_post.nii.gz", f"{case}_flair.nii.gz", f"{case}_seg.nii.gz")
    dataset = open_dataset(str(tmp_path), channels=("t1_post", "flair"))
    assert [case.id for case in dataset.cases] == ["x_1", "x_2"]
    assert dataset.findings == ()


def test_plain_faults_are_findings(tmp_path):
    make_plain(tmp_path)
    put(tmp_path, "p3/ct.mha", "p3/pet.nrrd", "p4/seg.nii.gz", "p5/ct.mha", "p5/seg.mha")
    put(tmp_path, "atlas.nii.gz")
    dataset = open_dataset(str(tmp_path))
    assert [kind for _, kind in kinds(dataset)] == [
        "missing label",
        "orphan label",
        "missing channel",
        "extra file",
    ]
    assert [case.id for case in dataset.cases] == ["p1", "p2", "p3"]


def test_plain_names_that_no_two_cases_share(tmp_path):
    put(tmp_path, "p1/scan7.nii", "p1/seg.nii", "p2/scan9.nii", "p2/seg.nii")
    with pytest.raises(UserError, match="scan7, scan9"):
        open_dataset(str(tmp_path))


# --- real scans -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layout", "cases", "patients", "channels", "convention"),
    [
        ("Task04_Hippocampus", "msd", 208, 208, ("MRI",), "Hippocampus"),
        ("brats2015", "brats", 6, 6, ("t1ce", "flair"), "brats2015"),
        ("acdc", "acdc", 80, 40, ("cine",), "acdc"),
        ("chase_db1", "chase", 28, 14, ("red", "green", "blue"), "vessel"),
        ("ms", "plain", 3, 3, ("FLAIR", "T1", "T1POST", "T2"), "binary"),
        ("spleen_crop", "plain", 1, 1, ("ct",), "binary"),
    ],
)
def test_real_folders(shared, name, layout, cases, patients, channels, convention):
    dataset = open_dataset(str(shared / name))
    assert dataset.layout == layout
    assert len(dataset.cases) == cases
    assert len({case.patient for case in dataset.cases}) == patients
    assert dataset.channels == channels
    assert dataset.convention.name == convention
    assert dataset.findings == ()
    if name == "acdc":
        counts = np.bincount([case.target for case in dataset.cases])
        np.testing.assert_array_equal(counts, [16] * 5)
