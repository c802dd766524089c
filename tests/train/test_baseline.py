"""A run beside its baseline: a hand-worked table, gaps, and the section of the report."""

import math

import pytest

from medjax.errors import UserError
from medjax.train.baseline import against, compare
from medjax.train.evaluate import write_rows
from medjax.train.report.baseline import against_section, baseline_section


def row(case, dice, hd95=1.0, name="tumour"):
    return {"case": case, "class": name, "dice": dice, "hd95": hd95}


def test_only_cases_that_both_scored_are_compared():
    ours = [row("a", 0.9), row("b", 0.7), row("c", 0.8), row("d", 0.1)]
    theirs = [row("b", 0.6), row("a", 0.6), row("c", math.nan, 3.0), row("e", 0.0)]
    found = compare(ours, theirs, ["tumour", "nothing"])
    dice = found["tumour"]["dice"]
    assert dice["n"] == 2
    assert dice["ours"] == pytest.approx(0.8)
    assert dice["baseline"] == pytest.approx(0.6)
    assert dice["gain"] == pytest.approx(0.2)
    assert dice["low"] == pytest.approx(0.1)
    assert dice["high"] == pytest.approx(0.3)
    assert found["tumour"]["hd95"]["gain"] == pytest.approx(-2 / 3)
    assert found["nothing"]["dice"]["n"] == 0
    assert math.isnan(found["nothing"]["dice"]["gain"])


def test_any_other_run_is_compared_by_what_both_say(tmp_path):
    assert against([row("a", 0.9)], "") == {}
    with pytest.raises(UserError, match=r"eval\.against: .*run: holds no metrics\.csv"):
        against([row("a", 0.9)], str(tmp_path / "run"))
    theirs = [row("a", 0.6), row("b", 0.5)]
    write_rows(tmp_path / "run" / "metrics.csv", theirs)
    with pytest.raises(UserError, match="on none of the cases"):
        against([row("c", 0.9)], str(tmp_path / "run"))
    ours = [row("a", 0.9), row("b", 0.8)]
    found = against(ours, str(tmp_path / "run"))["against"]
    assert found["classes"] == compare(ours, theirs, ["tumour"])
    assert found["classes"]["tumour"]["dice"]["p"] == 0.5  # of two pairs, the least that there is
    page = against_section(found)
    assert f"Against {tmp_path / 'run'}" in page
    assert "p = 0.5, n = 2" in page
    assert against_section({}) == ""
    told = [{"case": "a", "class": "classification", "accuracy": 1.0, "brier": 0.1}]
    write_rows(tmp_path / "told" / "metrics.csv", told)
    (scores,) = against(told, str(tmp_path / "told"))["against"]["classes"].values()
    assert list(scores) == ["accuracy", "brier"]


def test_the_section_shows_both_and_is_absent_without():
    assert baseline_section({}) == ""
    page = baseline_section(
        compare([row("a", 0.9), row("b", 0.7)], [row("a", 0.6), row("b", 0.5)], ["tumour"])
    )
    for shown in ("tumour", "0.800", "0.550", "0.250", "n = 2"):
        assert shown in page
