from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medjax.data.convention import IGNORE, Convention, Region
from medjax.data.layouts.conventions import CONVENTIONS, named
from medjax.errors import UserError

IGNORING = Convention("partly", {0: "background", 5: "liver", 3: "tumour"}, ignore=9)


@pytest.mark.parametrize("convention", [*CONVENTIONS.values(), IGNORING], ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_decode_undoes_encode(convention, dtype):
    indices = np.arange(len(convention.classes), dtype=np.uint8).repeat(8).reshape(-1, 2, 4)
    if convention.ignore is not None:
        indices[0, 0, 0] = IGNORE
    values = convention.decode(indices, dtype)
    assert values.dtype == dtype
    assert set(np.unique(values)) <= {*convention.values, convention.ignore}
    encoded = convention.encode(values)
    assert encoded.dtype == np.uint8
    np.testing.assert_array_equal(encoded, indices)
    np.testing.assert_array_equal(convention.encode(np.asfortranarray(values)), indices)


def test_class_index_is_the_position_of_the_name():
    array = np.array([[[0, 5, 3, 9]]])
    np.testing.assert_array_equal(IGNORING.encode(array), [[[0, 1, 2, IGNORE]]])
    assert IGNORING.classes == ("background", "liver", "tumour")


def test_values_that_share_a_name_are_one_class_and_the_first_is_written():
    vessel = CONVENTIONS["vessel"]
    assert vessel.classes == ("background", "vessel")
    np.testing.assert_array_equal(vessel.encode(np.array([0, 1, 255], np.uint8)), [0, 1, 1])
    np.testing.assert_array_equal(vessel.encode(np.array([False, True])), [0, 1])
    np.testing.assert_array_equal(vessel.decode(np.array([0, 1])), [0, 255])


@pytest.mark.parametrize(
    ("array", "outside"),
    [
        (np.array([0, 3, 4, 3], np.uint8), {3: 2}),
        (np.array([-1, 0, 70000], np.int32), {-1: 1, 70000: 1}),
        (np.array([0.0, 1.5, np.inf, -np.inf]), {1.5: 1, np.inf: 1, -np.inf: 1}),
        (np.array([2**63], np.uint64), {float(2**63): 1}),
    ],
)
def test_values_outside_are_an_error_that_lists_them_with_counts(array, outside):
    convention = CONVENTIONS["brats2018"]
    assert convention.outside(array) == outside
    with pytest.raises(UserError, match="brats2018") as error:
        convention.encode(array)
    for value, count in outside.items():
        assert f"{value:g} ({count} voxels)" in str(error.value)


def test_nan_is_outside_and_rounding_of_scaled_files_is_not():
    convention = CONVENTIONS["brats2018"]
    assert list(convention.outside(np.array([np.nan, np.nan])).values()) == [2]
    np.testing.assert_array_equal(convention.encode(np.array([0.9999, 4.0005])), [1, 3])
    with pytest.raises(UserError):
        convention.encode(np.array([1.01]))
    with pytest.raises(UserError, match="complex"):
        convention.encode(np.zeros(3, np.complex64))


@pytest.mark.parametrize("indices", [[4], [IGNORE], [-1], [300]])
def test_decode_refuses_an_index_without_meaning(indices):
    with pytest.raises(UserError, match=str(indices[0])):
        CONVENTIONS["acdc"].decode(np.array(indices))


def test_decode_refuses_a_type_that_cannot_hold_the_values():
    wide = Convention("wide", {0: "background", 1000: "cortex"})
    assert wide.decode(np.array([0, 1]), np.int16).tolist() == [0, 1000]
    with pytest.raises(UserError, match="1000"):
        wide.decode(np.array([0, 1]), np.uint8)


@pytest.mark.parametrize("name", ["brats2015", "brats2018", "brats2023", "msd_brain"])
def test_tumour_regions(name):
    convention = CONVENTIONS[name]
    whole, core, enhancing = convention.membership
    names = np.array(convention.classes)
    assert set(names[~whole]) == {"background"}
    assert set(names[whole & ~core]) == {"oedema"}
    assert set(names[enhancing]) == {"enhancing"}


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_painted_regions(masks):
    convention = CONVENTIONS["brats2018"]
    painted = convention.paint(np.array(masks))
    for (whole, core, enhancing), index in zip(masks, painted, strict=True):
        name = "enhancing" if enhancing else "necrosis" if core else "oedema" if whole else None
        assert convention.classes[index] == (name or "background")


def test_painting_the_regions_of_a_label_gives_the_label():
    for name in ("brats2018", "brats2023", "msd_brain"):
        convention = CONVENTIONS[name]
        indices = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
        regions = np.moveaxis(convention.membership[:, indices], 0, -1)
        np.testing.assert_array_equal(convention.paint(regions), indices)


@pytest.mark.parametrize("convention", [*CONVENTIONS.values(), IGNORING], ids=lambda c: c.name)
def test_stored_and_restored(convention):
    assert Convention.from_dict(convention.to_dict()) == convention


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": {0: "background"}}, "1 classes"),
        ({"values": dict(enumerate(map(str, range(255))))}, "255 classes"),
        ({"ignore": 1}, "ignored"),
        ({"values": {0: "background", 1 << 20: "x"}}, "span"),
        ({"regions": (Region("WT", ("absent",), "absent"),)}, "WT"),
        ({"regions": (Region("WT", ("tumour",), "background"),)}, "WT"),
    ],
)
def test_a_convention_without_sense_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        Convention(**{"name": "own", "values": {0: "background", 1: "tumour"}, **change})


def test_conventions_by_text():
    assert named("") is None
    assert named("acdc") is CONVENTIONS["acdc"]
    own = named("background, liver,tumour")
    assert own is not None
    assert own.values == {0: "background", 1: "liver", 2: "tumour"}
    gaps = named("0=background,255=lesion,-1=edge")
    assert gaps is not None
    assert gaps.values == {0: "background", 255: "lesion", -1: "edge"}
    scribbles = named("background,liver,ignore")
    assert scribbles is not None
    assert (scribbles.classes, scribbles.ignore) == (("background", "liver"), 2)


@pytest.mark.parametrize(
    "text", ["brats2016", "a,,b", "x=a,1=b", "0=a,0=b", "3=a,=b", "a,ignore,b,ignore"]
)
def test_a_convention_that_cannot_be_read_says_how_to_write_one(text):
    with pytest.raises(UserError, match="background,liver,tumour"):
        named(text)


def test_a_case_of_few_drawn_classes_decides_few():
    """Regions are decided where all of their classes were drawn, classes where they were."""
    own = (("enhancing",), ("necrosis", "enhancing"))
    regions = replace(CONVENTIONS["brats2023"], partial=own)
    assert regions.decided(None) == ("WT", "TC", "ET")
    assert [regions.decided(some) for some in own] == [("ET",), ("TC", "ET")]
    assert [regions.background(some) for some in (None, *own)] == [0, 4, 5]
    assert regions.undecided == ((4, 5), (4,), ())
    assert Convention.from_dict(regions.to_dict()) == regions
    classes = replace(CONVENTIONS["acdc"], partial=(("LV",),))
    assert classes.undecided == ((4,), (4,), ())
    with pytest.raises(UserError, match="only RV is drawn when this run was planned"):
        classes.background(("RV",))
