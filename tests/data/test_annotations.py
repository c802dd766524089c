"""Tables beside the label maps: classes of cases, objects, and which classes were drawn at all."""

import pytest

from medjax.data.annotations import annotated, with_drawn
from medjax.data.cases import Case, Dataset, Object
from medjax.data.convention import Convention
from medjax.errors import UserError

CONVENTION = Convention("two", {0: "background", 1: "core", 2: "rim"})


def dataset():
    cases = tuple(Case(name, name, (f"{name}.nii.gz",), None) for name in ("a", "b", "c", "d"))
    return Dataset("set", "plain", cases, ("0",), CONVENTION)


def test_tables_say_more_of_the_cases(tmp_path):
    (tmp_path / "targets.csv").write_text("case,target\na,benign\nb, cancer \nc,\n")
    (tmp_path / "objects.csv").write_text(
        "case,x,y,z,diameter\na,1,-2,3.5,4\na,0,0,0,2\nb,,,,\n", "utf-8-sig"
    )
    found = annotated(dataset(), tmp_path)
    assert found.targets == ("benign", "cancer")
    assert [case.target for case in found.cases] == [0, 1, None, None]
    a, b, c, d = (case.objects for case in found.cases)
    assert a == (Object((1, -2, 3.5), (4, 4, 4)), Object((0, 0, 0), (2, 2, 2)))
    assert b == ()
    assert c is None
    assert d is None
    (tmp_path / "objects.csv").write_text("case,x,y,z,size_x,size_y,size_z\nd,1,2,3,4,5,6\n")
    assert annotated(dataset(), tmp_path).cases[3].objects == (Object((1, 2, 3), (4, 5, 6)),)


def test_without_tables_nothing_changes(tmp_path):
    assert annotated(dataset(), tmp_path) == dataset()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("targets.csv", "case,class\na,x\n", "targets.csv: has no column target"),
        ("targets.csv", "case,target\nz,x\n", "targets.csv: line 2: no case 'z'"),
        ("targets.csv", "case,target\na,x\na,y\n", "targets.csv: line 3: a second class of a"),
        ("objects.csv", "case,x,y,z\na,1,2,3\n", "objects.csv: line 2: size_x is None; give a"),
        ("objects.csv", "case,x,y,z,diameter\na,1,2,?,3\n", "objects.csv: line 2: z is '\\?'"),
        ("objects.csv", "case,x,y,z,diameter\na,1,2,nan,3\n", "objects.csv: line 2: z is 'nan'"),
        ("objects.csv", "case,x,y,z,diameter\na,1,2,3,-3\n", "line 2: a size of -3 mm"),
        ("objects.csv", "case,x,y,z,diameter\na,1,2\n", "line 2: z is ''; give a number in mm"),
    ],
)
def test_faults_of_a_table_name_its_line(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=said):
        annotated(dataset(), tmp_path)


def test_a_table_that_is_no_text_is_named(tmp_path):
    (tmp_path / "targets.csv").write_bytes(b"\xff\xfe\x00c")
    with pytest.raises(UserError, match=r"targets\.csv: cannot be read .* save it as UTF-8"):
        annotated(dataset(), tmp_path)


def test_what_was_drawn_stands_in_the_order_of_the_classes(tmp_path):
    (tmp_path / "drawn.csv").write_text("case,drawn\na,rim\nb, rim ; core \n")
    found = with_drawn(dataset(), tmp_path)
    assert [case.drawn for case in found.cases] == [("rim",), None, None, None]
    assert found.convention.partial == (("rim",),)
    assert with_drawn(dataset(), tmp_path / "elsewhere") == dataset()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case,class\na,rim\n", "drawn.csv: has no column drawn"),
        (
            "case,drawn\na,rim;shell\n",
            "drawn.csv: line 2: 'shell' is no class; choose among core, rim",
        ),
        ("case,drawn\na,rim\nb, ; \n", "drawn.csv: line 3: names no class of b; take the line out"),
        ("case,drawn\na,rim\na,core\n", "drawn.csv: line 3: a second line of a"),
    ],
)
def test_faults_of_what_was_drawn_name_its_line(tmp_path, text, said):
    (tmp_path / "drawn.csv").write_text(text)
    with pytest.raises(UserError, match=said):
        with_drawn(dataset(), tmp_path)
