import math

import numpy as np
import pytest

from medjax.metrics.heart import agreement, function


def volumes(rv, myocardium, lv):
    return {"RV": rv, "myocardium": myocardium, "LV": lv}


def test_a_heart_worked_by_hand():
    small, large, between = volumes(80, 110, 60), volumes(200, 100, 150), volumes(150, 105, 90)
    for order in ([small, large, between], [between, large, small]):
        found = function(order)
        assert found.lv_ef == pytest.approx(60)
        assert found.rv_ef == pytest.approx(60)
        assert (found.lv_ml, found.rv_ml) == (150, 200)
        assert found.wall == pytest.approx(100 / 150)


def test_each_ventricle_has_its_own_phases():
    found = function([volumes(100, 90, 50), volumes(50, 90, 100)])
    assert found.lv_ef == found.rv_ef == 50


def test_what_is_not_there_pumps_nothing():
    found = function([volumes(0, 90, 0), volumes(0, 80, 0)])
    assert math.isnan(found.lv_ef)
    assert math.isnan(found.rv_ef)
    assert math.isnan(found.wall)
    assert function([volumes(0, 90, 0), volumes(30, 80, 40)]).lv_ef == 100


def test_agreement_is_bias_and_spread():
    theirs = np.array([50.0, 60.0, 70.0, 40.0])
    found = agreement(theirs + np.array([1.0, -1.0, 3.0, 1.0]), theirs)
    assert found["n"] == 4
    assert found["bias"] == pytest.approx(1)
    assert found["mae"] == pytest.approx(1.5)
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * np.sqrt(8 / 3))
    assert found["high"] + found["low"] == pytest.approx(2)
    assert found["correlation"] == pytest.approx(np.corrcoef([51, 59, 73, 41], theirs)[0, 1])


def test_agreement_leaves_out_what_is_undefined():
    found = agreement(np.array([50.0, np.nan, 40.0]), np.array([52.0, 60.0, np.nan]))
    assert (found["n"], found["bias"]) == (1, -2)
    assert math.isnan(found["high"])
    assert math.isnan(found["correlation"])
    assert agreement(np.array([np.nan]), np.array([1.0]))["n"] == 0
    assert math.isnan(agreement(np.array([5.0, 6.0]), np.array([5.0, 6.0]))["correlation"])
    same = agreement(np.array([5.0, 5.0, 5.0]), np.array([5.0, 6.0, 7.0]))
    assert math.isnan(same["correlation"])
