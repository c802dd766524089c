import numpy as np
import pytest

from medjax.errors import UserError
from medjax.sim.signal import (
    CONTRASTS,
    TISSUES,
    InversionRecovery,
    SpinEcho,
    SpoiledGradientEcho,
    Tissue,
    mix,
    null_ti,
    protocols,
    signal_table,
    tissues,
)

WATER = Tissue(t1=1000.0, t2=100.0, t2star=50.0, pd=0.8, t1_gd=400.0)


def test_spin_echo_limits():
    assert SpinEcho(tr=1e6, te=0.0).signal(WATER) == pytest.approx(0.8)
    assert SpinEcho(tr=1e6, te=100.0).signal(WATER) == pytest.approx(0.8 / np.e)
    assert SpinEcho(tr=1000.0, te=0.0).signal(WATER) == pytest.approx(0.8 * (1 - 1 / np.e))


def test_gradient_echo_at_90_degrees_is_saturation_recovery():
    signal = SpoiledGradientEcho(tr=1000.0, te=50.0, flip_angle=90.0).signal(WATER)
    assert signal == pytest.approx(0.8 * (1 - 1 / np.e) / np.e)


def test_gradient_echo_is_largest_at_the_ernst_angle():
    ernst = np.rad2deg(np.arccos(np.exp(-18.0 / WATER.t1)))
    best, less, more = (
        SpoiledGradientEcho(18.0, 10.0, float(ernst + d)).signal(WATER) for d in (0, -1, 1)
    )
    assert best > max(less, more)


def test_inversion_recovery_limits():
    assert InversionRecovery(1e6, 0.0, 1e5).signal(WATER) == pytest.approx(0.8)
    assert InversionRecovery(1e6, 0.0, 0.0).signal(WATER) == pytest.approx(0.8)  # magnitude of -1
    ti = null_ti(WATER.t1, 9000.0)
    assert InversionRecovery(9000.0, 0.0, ti).signal(WATER) == pytest.approx(0, abs=1e-12)
    assert null_ti(1000.0, 1e6) == pytest.approx(1000 * np.log(2))


@pytest.mark.parametrize(("field", "ti"), [(1.5, 1705), (3.0, 2432)])
def test_flair_nulls_csf_at_the_published_time(field, ti):
    flair = protocols(field)["FLAIR"]
    assert flair.ti == pytest.approx(ti, abs=1)


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_contrasts_rank_the_tissues(field):
    table = signal_table(tissues(field), protocols(field))
    assert table.shape == (len(TISSUES), len(CONTRASTS))
    of = {
        contrast: dict(zip(TISSUES, table[:, c], strict=True))
        for c, contrast in enumerate(CONTRASTS)
    }
    t1, gd, t2, flair = (of[name] for name in CONTRASTS)
    assert t1["wm"] > t1["gm"] > t1["csf"]
    assert t1["oedema"] < t1["wm"]
    assert gd["enhancing"] > gd["wm"] > gd["gm"] > gd["necrosis"]
    for lesion in TISSUES[3:]:
        assert t2["csf"] > t2[lesion] > t2["gm"] > t2["wm"]
    assert flair["oedema"] > flair["gm"] > flair["wm"] > flair["csf"]
    assert flair["csf"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_gadolinium_changes_the_enhancing_tumour_alone(field):
    table = signal_table(tissues(field), protocols(field))
    changed = [name for name, row in zip(TISSUES, table, strict=True) if row[0] != row[1]]
    assert changed == ["enhancing"]


@pytest.mark.parametrize("field", [1.5, 3.0])
def test_tissues_are_physical(field):
    table = tissues(field)
    assert tuple(table) == TISSUES
    for tissue in table.values():
        assert 0 < tissue.t2star < tissue.t2 < tissue.t1
        assert 0 < tissue.t1_gd <= tissue.t1
        assert 0 < tissue.pd <= 1


def test_unknown_field_strength():
    with pytest.raises(UserError, match=r"field=7: .*1\.5 or 3\.0"):
        tissues(7.0)


def test_signals_mix_and_relaxation_times_do_not():
    table = {name: tissues(3.0)[name] for name in ("csf", "wm")}
    signals = signal_table(table, protocols(3.0))
    shares = np.array([[1, 0], [0, 1], [0.5, 0.5], [0, 0]], np.float32).reshape(4, 1, 1, 2)
    mixed = mix(shares, signals)[:, 0, 0]
    np.testing.assert_allclose(mixed[:2], signals, rtol=1e-6)
    np.testing.assert_allclose(mixed[2], signals.mean(axis=0), rtol=1e-6)
    assert not mixed[3].any()
    average = Tissue(*np.mean(list(table.values()), axis=0))
    assert abs(protocols(3.0)["T2"].signal(average) / mixed[2, 2] - 1) > 0.05
