# ruff: noqa: RUF001 (the page is written with the signs of print)
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest

from medjax.train.report import figures, page, slices, svg
from medjax.train.report.slices import ReportCase
from medjax.train.report.training import write_report

CLASSES = ("background", "anterior", "posterior")
VOID = {"meta", "link", "br", "input", "hr", "img"}
SHAPELESS = {"path", "circle", "rect", "line", "polyline", "image", "use"}


class Page(HTMLParser):
    """Checks the nesting, and gathers words, attributes and table cells."""

    def __init__(self, content):
        super().__init__()
        self.open, self.words, self.attributes, self.cells = [], [], [], []
        self.feed(content)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SHAPELESS
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)
            if {"td", "th"} & set(self.open):
                self.cells[-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def values(self, name):
        return [value for _, key, value in self.attributes if key == name]


def ball(shape, centre, radius):
    grid = np.indices(shape).reshape(3, -1).T - np.array(centre)
    return (np.linalg.norm(grid, axis=1) < radius).reshape(shape)


def case(role="best", shape=(24, 30, 12), attention=True, spacing=(1.0, 1.0, 2.5)):
    rng = np.random.default_rng(len(role))
    reference = np.zeros(shape, np.uint8)
    x, y, z = (size // 2 for size in shape)
    reference[ball(shape, (x, y - 4, z), 4)] = 1
    reference[ball(shape, (x, y + 4, z), 4)] = 2
    image = rng.normal(size=shape).astype(np.float32) + 3 * reference
    heat = rng.random(shape).astype(np.float32) if attention else None
    scores = {"dice": 0.87654, "hd95": math.inf}
    prediction = np.roll(reference, 1, axis=0)
    return ReportCase(f"{role} one", role, image, reference, prediction, spacing, scores, heat)


def summary(values):
    known = np.array([v for v in values if math.isfinite(v)])
    if not known.size:
        none = dict.fromkeys(("mean", "sd", "low", "high"), math.nan)
        return {**none, "n": 0, "undefined": len(values)}
    spread = float(known.std())
    mean = float(known.mean())
    return {
        "mean": mean,
        "sd": spread,
        "low": mean - spread,
        "high": mean + spread,
        "n": int(known.size),
        "undefined": len(values) - int(known.size),
    }


def content(cases=12):
    """Everything that a run of two classes leaves behind."""
    rng = np.random.default_rng(0)
    rows = [
        {
            "case": f"case_{i:02d}",
            "class": name,
            "dice": float(rng.uniform(0.6, 0.95)),
            "hd95": math.nan if i == 3 else float(rng.uniform(1, 9)),
            "volume_error_ml": float(rng.normal()),
        }
        for i in range(cases)
        for name in CLASSES[1:]
    ]
    metrics = {
        name: {
            key: summary([row[key] for row in rows if row["class"] == name])
            for key in ("dice", "hd95", "volume_error_ml")
        }
        for name in CLASSES[1:]
    }
    curves = [{"step": i, "loss": float(np.exp(-i / 30)), "dice": 1 - 0.9**i} for i in range(100)]
    curves[50]["validation_dice"] = 0.8
    curves[99]["validation_dice"] = 0.85
    results = {
        "experiment": "phantoms",
        "date": "2024-02-03",
        "commit": "0123456789abcdef",
        "config_sha256": "fedcba9876543210",
        "seed": 7,
        "device": "cpu",
        "versions": {"jax": "0.10.2"},
        "data": {"name": "balls", "layout": "folder", "cases": 60, "train": 40, "validation": 8}
        | {"test": cases, "split_sha256": "aa" * 32, "assumed": {}},
        "metrics": metrics,
        "timing": {"compile_seconds": 21.5, "train_seconds": 588.0, "peak_memory_gb": 1.25},
        "training": {"steps": 100, "nonfinite": 0},
    }
    return {
        "results": results,
        "config": {"train": {"steps": 100}},
        "plan": {"spacing": [1.0, 1.0, 2.5], "patch": [32, 32, 8], "batch": 2},
        "curves": curves,
        "rows": rows,
        "cases": [case("best"), case("median"), case("worst")],
        "classes": CLASSES,
    }


@pytest.fixture
def render(tmp_path):
    def write(**given):
        path = tmp_path / "report.html"
        write_report(path, **given)
        assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
        return path.read_text(encoding="utf-8")

    return write


def test_page_is_complete_well_formed_and_small(render):
    html = render(**content())
    found = Page(html)
    assert len(html) < 3_000_000
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    for name in ("src", "href"):
        for value in found.values(name):
            assert value.startswith(("data:", "#")), value
            assert not value.startswith("#") or value[1:] in ids
    assert not re.search(r"https?://|url\(|@import|<iframe|fetch\(", html)
    assert ("meta", "content") in [(tag, key) for tag, key, _ in found.attributes]
    assert re.search(r"default-src 'none'", html)


def test_same_input_gives_the_same_bytes(render):
    assert render(**content()) == render(**content())


def test_says_what_ran_on_what(render):
    words = Page(render(**content())).text
    for expected in ("phantoms", "2024-02-03", "0123456789ab", "cpu", "jax 0.10.2", "9.8 min"):
        assert expected in words
    for expected in ("balls", "Training cases 40", "Validation cases 8", "1 × 1 × 2.5", "1.25 GB"):
        assert expected in words
    assert '"steps": 100' in words


def test_every_number_of_both_tables_appears(render):
    given = content()
    cells = Page(render(**given)).cells
    decimals = {"dice": 3, "hd95": 2, "volume_error_ml": 2}

    def shown(value, key):
        return f"{value:.{decimals[key]}f}".replace("-", "−") if math.isfinite(value) else "–"

    for summaries in given["results"]["metrics"].values():
        for key, values in summaries.items():
            mean, low, high, sd = (shown(values[k], key) for k in ("mean", "low", "high", "sd"))
            count = f"{mean}{low} to {high}SD {sd}n = {values['n']}"
            assert any(cell.startswith(count) for cell in cells)
    start = cells.index("Case")
    width = 5
    table = [cells[i : i + width] for i in range(start + width, start + width * 25, width)]
    expected = [
        [row["case"], row["class"], *(shown(row[key], key) for key in decimals)]
        for row in sorted(given["rows"], key=lambda row: row["dice"])
    ]
    assert table == expected


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "nan"])
def test_undefined_scores_are_dashes_with_an_explanation(render, value):
    given = content()
    given["rows"] = [{**row, "hd95": value} for row in given["rows"]]
    given["results"]["metrics"] = {
        "anterior": {"dice": summary([0.5]), "hd95": summary([math.nan] * 4)},
        "posterior": {"dice": summary([math.nan] * 3), "hd95": summary([math.nan] * 4)},
    }
    given["results"]["metrics"]["anterior"]["hd95"]["mean"] = value
    html = render(**given).split("<h2>Settings")[0]  # the settings repeat what was given
    found = Page(html + "</section></body></html>")
    assert not re.search(r"\b(nan|inf|infinity|none)\b", found.text.replace("NaN or inf", ""), re.I)
    assert page.UNDEFINED in found.text
    assert "11 scores are undefined." in found.text
    assert "(4 undefined)" in found.text
    assert found.cells.count("–") == len(given["rows"])


def test_warns_of_assumptions_few_cases_and_undone_steps(render):
    given = content(cases=4)
    given["results"]["data"]["assumed"] = {"spacing": [1.5, 1.5, 10]}
    given["results"]["training"]["nonfinite"] = 3
    words = Page(render(**given)).text
    assert "Assumed: spacing = 1.5 × 1.5 × 10 mm." in words
    assert "Few test cases (n = 4)." in words
    assert "Training steps that gave NaN or infinity: 3." in words
    given = content(cases=12)
    given["rows"] = [row for row in given["rows"] if row["case"] != "case_03"]
    for summaries in given["results"]["metrics"].values():
        summaries["hd95"]["undefined"] = 0
        # an alarm can only be false where there is nothing to find
        summaries["false_alarm"] = summary([math.nan] * 12)
    assert 'class="warning"' not in render(**given)


def test_text_is_escaped_everywhere(render):
    evil = '<script>alert("1")</script>&\'"<b>'
    given = content()
    results = given["results"]
    results["experiment"] = results["device"] = results["data"]["name"] = evil
    results["metrics"] = {evil: {evil: summary([0.5])}}
    results["data"]["assumed"] = {evil: evil}
    results["timing"] = {evil: evil}
    given["rows"] = [{"case": evil, "class": evil, "dice": 0.5, evil: 1.0}]
    given["cases"] = [replace(case(), id=evil, role=evil, scores={evil: 1.0})]
    given["classes"] = ("background", evil, "posterior")
    given["config"] = {evil: evil}
    html = render(**given)
    assert "<script>alert" not in html
    assert html.count("<script>") == 1
    found = Page(html)
    assert unescape(found.text).count("alert") >= 12
    assert "<b>" not in found.values("class")


def test_survives_a_run_with_nothing_to_show(render):
    nothing = {"results": {}, "config": {}, "plan": {}, "curves": [], "rows": [], "cases": []}
    words = Page(render(**nothing, classes=[])).text
    assert "No case was judged." in words
    for absent in ("Learning curves", "Scores", "Every case", "Best, median", "Time and memory"):
        assert absent not in words


@pytest.mark.parametrize(
    ("curves", "charts"),
    [
        ([{"step": 1, "loss": math.nan}], []),
        ([{"step": 1, "loss": 0.5}], ["Loss"]),
        ([{"step": 1, "validation_dice": 0.5, "loss": None}], ["Dice"]),
        (
            [{"step": 1, "strong": 0.5, "features": 0.4, "sure": 0.9}],
            ["Without labels", "Voxels that teach"],
        ),
        (
            [
                {"step": i, "loss": 2.0, "dice": 0.1, "learning_rate": 1e-3 / (i + 1)}
                for i in range(3)
            ],
            None,
        ),
    ],
)
def test_curves_show_what_is_there(render, curves, charts):
    html = render(**{**content(), "curves": curves})
    shown = re.findall(r'class="curve"><figcaption><b>(.*?)</b>', html)
    assert shown == (["Loss", "Dice", "Learning rate"] if charts is None else charts)
    assert not re.search(r'points="[^"]*(nan|inf)', html)


def test_long_tables_and_curves_are_thinned(render):
    rows = [{"case": f"c{i}", "class": "a", "dice": i / 9000} for i in range(9000)]
    curves = [{"step": i, "loss": 1 / (i + 1)} for i in range(20_000)]
    html = render(**{**content(), "rows": rows, "curves": curves})
    assert "The first 1500 of 9000 rows" in html
    assert '<td class="name">c0</td>' in html
    assert '<td class="name">c8999</td>' not in html
    assert len(html) < 1_000_000


def test_objects_have_a_section_and_slices_of_their_own(render):
    one = replace(case("surest hit", attention=False), focus=ball((24, 30, 12), (20, 3, 9), 0.5))
    html = render(**{**content(), "objects": [one]})
    assert "<h2>Objects</h2>" in html
    assert "<h2>Objects</h2>" not in render(**content())
    page = html[html.index("<h2>Objects</h2>") :]
    for plane, number in (("Axial", "10 of 12"), ("Coronal", "4 of 30"), ("Sagittal", "21 of 24")):
        assert f"{plane}, slice {number}" in page
    keys = re.findall(r'id="([^"]+)"', html)
    assert len(keys) == len(set(keys))


def test_a_line_of_one_point_is_seen():
    for style in ("bold", "faint", "dots"):
        chart = figures.line_chart(
            [figures.Line("a", np.array([3.0]), np.array([0.5]), style, 3)], "Loss"
        )
        assert chart.count('<circle class="c3"') == 1
    many = figures.Line("a", np.arange(5.0), np.arange(5.0), "bold", 3)
    assert "<circle" not in figures.line_chart([many], "Loss")


def test_smoothing_keeps_a_constant_and_its_start():
    line = figures.Line("a", np.arange(300.0), np.full(300, 0.7), "faint", 1)
    assert figures.smooth(line, "b").y == pytest.approx(line.y)
    rising = replace(line, y=np.arange(300.0))
    smooth = figures.smooth(rising, "b").y
    assert smooth[0] == 0
    assert np.all(np.diff(smooth) > 0)
    assert np.all(smooth[1:] < rising.y[1:])


# ---------------------------------------------------------------- slices


def test_planes_follow_the_radiological_convention():
    volume = np.zeros((5, 6, 7), np.uint8)
    volume[4, 0, 6] = 1  # right, posterior, superior of an RAS+ volume
    shown = replace(case(shape=(5, 6, 7)), reference=volume, spacing=(1.0, 2.0, 3.0))
    axial, coronal, sagittal = slices.planes(shown, volume > 0)
    assert [p.index for p in (axial, coronal, sagittal)] == [6, 0, 4]
    assert np.argwhere(axial.cut(volume)).tolist() == [[5, 0]]  # bottom (P), left (R)
    assert np.argwhere(coronal.cut(volume)).tolist() == [[0, 0]]  # top (S), left (R)
    assert np.argwhere(sagittal.cut(volume)).tolist() == [[0, 5]]  # top (S), right (P)
    assert [p.letters for p in (axial, coronal, sagittal)] == ["RLAP", "RLSI", "APSI"]
    assert [p.spacing for p in (axial, coronal, sagittal)] == [(2, 1), (3, 1), (3, 2)]


def test_planes_meet_the_reference_even_where_its_centre_does_not():
    found = np.zeros((9, 9, 9), bool)
    found[[0, 8], 4, 4] = True
    assert [p.index for p in slices.planes(case(shape=found.shape), found)] == [4, 4, 0]
    nothing = slices.planes(case(shape=found.shape), np.zeros_like(found))
    assert [p.index for p in nothing] == [4, 4, 4]


def test_proportions_are_those_of_the_patient(render):
    given = content()
    given["cases"] = [case(shape=(40, 40, 6), spacing=(1.5, 1.5, 10.0))]
    found = Page(render(**given))
    images = [v for t, k, v in found.attributes if t == "image" and k in ("width", "height")]
    assert images[:6] == ["60"] * 6
    assert "Voxels of 1.5 × 1.5 × 10 mm." in found.text
    assert "Shown:" not in found.text  # one channel needs no name
    given["cases"] = [case(shape=(40, 40, 3), spacing=(1.5, 1.5, 10.0))]
    images = [v for t, k, v in Page(render(**given)).attributes if t == "image" and k == "height"]
    assert images[:3] == ["60", "30", "30"]


def test_the_channel_that_is_shown_has_its_name(render):
    given = content()
    given["cases"] = [replace(case(), channel="T1 & FLAIR")]
    assert "Shown: T1 & FLAIR. Voxels of" in Page(render(**given)).text


def test_letters_legend_and_attention_are_drawn(render):
    given = content()
    html = render(**given)
    letters = re.findall(r'<b class="(?:left|right|top|bottom)">(.)</b>', html)
    assert letters == list("RLAPRLSIAPSI") * 2 * 3
    assert html.count("Spatial attention over the whole slice") == 3
    assert 'id="show-prediction"' in html
    given["cases"] = [case(attention=False)]
    html = render(**given)
    assert "Spatial attention" not in html
    assert html.count("<image") == 3


def test_a_picture_is_one_plane_as_it_is(render):
    shown = case(shape=(64, 48, 1), spacing=(1.0, 1.0, 1.0))
    html = render(**{**content(), "cases": [shown]})
    assert "Picture, 64 × 48 pixels" in html
    assert '<b class="left">' not in html
    assert html.count("<image") == 2  # the picture and its attention; the detail reuses them
    (plane,) = slices.planes(shown, shown.reference > 0)
    np.testing.assert_array_equal(plane.cut(shown.image), shown.image[:, :, 0].T)


def test_a_single_slice_of_known_directions_keeps_its_letters(render):
    shown = case(shape=(64, 48, 1), spacing=(1.0, 1.0, 1.0))
    arrays = ("image", "reference", "prediction", "attention")
    turned = replace(shown, **{name: getattr(shown, name).swapaxes(1, 2) for name in arrays})
    html = render(**{**content(), "cases": [turned]})
    assert "Coronal, slice 1 of 1, whole slice 64 × 48 mm" in html
    assert re.findall(r'<b class="(?:left|right|top|bottom)">(.)</b>', html) == list("RLSI") * 2
    html = render(**{**content(), "cases": [replace(shown, picture=False)]})
    assert "Axial, slice 1 of 1" in html


def test_detail_shows_where_most_pixels_differ():
    differing = np.zeros((200, 400), bool)
    differing[150:160, 300:320] = True
    box = re.search(r'viewBox="([^"]*)"', svg.detail_svg("k", differing, (1.0, 2.0)))
    assert box is not None
    left, top, wide, high = (float(v) for v in box[1].split())
    assert (wide, high) == (200, 50)
    assert left <= 600
    assert left + wide >= 640
    assert top <= 150
    assert top + high >= 160
    assert 'viewBox="0 0 1 1"' in svg.detail_svg("k", np.zeros((1, 1), bool), (1.0, 1.0))


def test_small_structures_are_cropped_around():
    mask = np.zeros((200, 200), bool)
    mask[190:198, 20:30] = True
    grey = np.zeros(mask.shape, np.uint8)
    shown = svg.slice_svg("k", grey, [("reference", 0, mask)], (1.0, 1.0), "name")
    assert 'viewBox="0 150 50 50" data-other="0 0 200 200"' in shown
    everything = svg.slice_svg("k", grey, [("reference", 0, ~mask)], (1.0, 1.0), "name")
    assert 'viewBox="0 0 200 200" role' in everything


def test_contour_runs_midway_between_inside_and_outside():
    mask = np.zeros((5, 6), bool)
    mask[1:3, 2:5] = True
    path = svg.contour(mask)
    numbers = [int(n) for n in re.findall(r"-?\d+", path)]
    points = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0) / 2
    assert (points[:, 0].min(), points[:, 0].max()) == (1.5 + 0.5, 4.5 + 0.5)
    assert (points[:, 1].min(), points[:, 1].max()) == (0.5 + 0.5, 2.5 + 0.5)
    assert path.endswith("z")
    assert svg.contour(np.zeros((3, 3), bool)) == ""
    full = svg.contour(np.ones((3, 3), bool))
    assert full.count("M") == 1  # closed at the border of the picture


def test_grey_levels_come_from_around_the_segmentation():
    image = np.zeros((30, 30, 30), np.float32)
    image[10:20, 10:20, 10:20] = np.linspace(50, 60, 1000).reshape(10, 10, 10)
    image[0, 0, 0] = 1e6
    found = np.zeros(image.shape, bool)
    found[13:17, 13:17, 13:17] = True
    low, high = slices.window(image, found)
    assert 0 <= low < 52
    assert 58 < high <= 60
    assert slices.window(np.full((3, 3, 3), 7.0), np.zeros((3, 3, 3), bool)) == (7.0, 8.0)
    assert slices.window(np.full((3, 3, 3), np.nan), np.zeros((3, 3, 3), bool)) == (0.0, 1.0)
    grey = slices.greys(np.array([[np.nan, -np.inf, 0.0, 0.5, 1.0, np.inf]]), 0.0, 1.0)
    assert grey.tolist() == [[0, 0, 0, 128, 255, 255]]


def test_ignored_voxels_and_empty_cases_are_drawn_without_contours(render):
    empty = case()
    nothing = np.zeros_like(empty.reference)
    ignored = np.full_like(nothing, 255)
    nan = np.full(empty.image.shape, np.nan, np.float32)
    cases = [replace(empty, reference=ignored, prediction=nothing, image=nan, attention=nan)]
    html = render(**{**content(), "cases": cases})
    Page(html)
    assert not re.search(r'<path class="(reference|prediction)', html)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0123, "12.3 ms"), (5, "5 s"), (588, "9.8 min"), (7201, "2 h"), (None, None)],
)
def test_durations_are_written_in_their_unit(seconds, written):
    assert page.duration(seconds) == written
