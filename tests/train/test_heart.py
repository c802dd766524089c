import csv

import nibabel as nib
import numpy as np
import pytest

from medjax.data.cases import Case
from medjax.data.convention import Convention, Region
from medjax.data.layouts.conventions import CONVENTIONS
from medjax.metrics.heart import PARTS, Function
from medjax.train.heart import Heart, applies, content, hearts, known_hearts, write_hearts


def case(patient, frame, target=None, **files):
    return Case(f"{patient}_{frame}", patient, ("image",), "label", target, **files)


def rows(case, ours, theirs):
    return [
        {"case": case.id, "class": part, "volume_ml": a, "reference_ml": b}
        for part, a, b in zip(PARTS, ours, theirs, strict=True)
    ]


def test_a_patient_is_all_of_its_scans():
    cases = [
        case("one", 1, 2),
        case("one", 8, 2),
        case("two", 1),
        case("three", 1),
        case("three", 5),
    ]
    table = [
        *rows(cases[0], (100, 90, 120), (110, 95, 100)),
        *rows(cases[1], (60, 95, 60), (55, 90, 40)),
        *rows(cases[2], (100, 90, 120), (110, 95, 100)),  # one scan is no beat
        *rows(cases[3], (100, 90, 120), (110, 95, 100)),
        *rows(cases[4], (100, 90, 120), (110, 95, 100))[:2],  # not judged in all parts
    ]
    (found,) = hearts(table, cases)
    assert (found.patient, found.target) == ("one", 2)
    assert found.found == pytest.approx(Function(50, 40, 120, 100, 0.75))
    assert found.true == pytest.approx(Function(60, 50, 100, 110, 0.95))


def test_known_hearts_are_measured_in_ml(tmp_path):
    """From label files, with the spacing that is given where the files lost theirs."""
    cases = []
    for frame, size in ((1, 4), (8, 2)):
        label = np.zeros((10, 12, 6), np.uint8)
        label[:size, 0], label[:3, 1], label[:size, 2, :3] = 1, 2, 3
        for name, array in (("image", label.astype(np.float32)), ("label", label)):
            nib.Nifti1Image(array, np.eye(4)).to_filename(tmp_path / f"{name}{frame}.nii.gz")
        image, path = (str(tmp_path / f"{name}{frame}.nii.gz") for name in ("image", "label"))
        cases += [
            Case(f"p_{frame}", "p", (image,), path, 4),
            Case(f"q_{frame}", "q", (image,), path, None),  # nobody knows the class
            Case(f"r_{frame}", "r", (image,), None, 4),
        ]
    classes = {0: "background", 1: "RV", 2: "wall", 3: "blood"}
    regions = [Region(n, (c,), c) for n, c in zip(PARTS, ("RV", "wall", "blood"), strict=True)]
    for convention in (CONVENTIONS["acdc"], Convention("regions", classes, tuple(regions))):
        (found,) = known_hearts(cases, convention, 1, spacing=(2.0, 5.0, 10.0))
        assert (found.patient, found.target) == ("p", 4)
        assert found.found == found.true == pytest.approx(Function(50, 50, 1.2, 2.4, 1.5))


def patients(generator, count, spoil=0.0):
    """Of three classes, told apart by how they pump."""
    made = []
    for number in range(count):
        target = number % 3
        true = Function(*(generator.normal((60, 25, 55)[target], 3), 55, 100, 110, 0.8))
        made.append(Heart(f"p{number}", target, true._replace(lv_ef=true.lv_ef + spoil), true))
    return made


def test_a_diagnosis_follows_from_the_figures():
    generator = np.random.default_rng(0)
    known, judged = patients(generator, 30), patients(generator, 30, spoil=-30.0)
    told = content(judged, known, ("NOR", "DCM", "RV"))["diagnosis"]
    assert told["learned_from"] == 30
    assert told["references"]["mean"] > 0.75 > 0.45 > told["predictions"]["mean"]
    found = content(judged, known, ("NOR", "DCM", "RV"))
    assert found["patients"] == found["lv_ef"]["n"] == 30
    assert found["lv_ef"]["bias"] == pytest.approx(-30)
    assert found["rv_ef"]["bias"] == 0


def test_no_diagnosis_where_none_can_be_learned():
    generator = np.random.default_rng(0)
    judged = patients(generator, 6)
    assert "diagnosis" not in content(judged, [], ())
    assert "diagnosis" not in content(judged, judged[::3], ("NOR", "DCM", "RV"))  # one class
    nobody = [heart._replace(target=None) for heart in judged]
    assert "diagnosis" not in content(nobody, judged, ("NOR", "DCM", "RV"))


def test_the_table_has_a_line_for_each_patient(tmp_path):
    judged = patients(np.random.default_rng(0), 2)
    missed = Heart("p2", None, Function(np.nan, 0.0, 0.0, 0.0, np.nan), judged[0].true)
    assert write_hearts(tmp_path / "heart.csv", [*judged, missed], ("NOR", "DCM")) == "heart.csv"
    with (tmp_path / "heart.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["patient"] for line in lines] == ["p0", "p1", "p2"]
    assert [line["target"] for line in lines] == ["NOR", "DCM", ""]
    assert float(lines[0]["lv_ef_reference"]) == pytest.approx(judged[0].true.lv_ef)
    assert lines[2]["lv_ef"] == "nan"


def test_it_applies_to_hearts_alone():
    assert applies(("LV", "RV", "myocardium"))
    assert not applies(("LV", "background"))
