import jax
import numpy as np
import pytest

from medjax.sim.signal import (
    CONTRASTS,
    INVERTED,
    PRESETS,
    BalancedSsfp,
    InversionRecovery,
    SpinEcho,
    SpoiledGradientEcho,
    null_ti,
    protocols,
    signal_table,
    vary_protocols,
)
from medjax.sim.tissue import LESION, TISSUES, UPTAKE, Tissue, stack, tissues

WATER = Tissue(t1=1000.0, t2=100.0, t2star=50.0, pd=0.8, t1_gd=400.0)
FIELDS = (1.5, 3.0)


def table(field):
    """Contrast -> tissue -> signal."""
    sequences = protocols(field)
    signals = signal_table(stack(tissues(field)), sequences)
    assert signals.shape == (len(TISSUES), len(sequences))
    return {c: dict(zip(TISSUES, signals[:, i], strict=True)) for i, c in enumerate(sequences)}


def test_spin_echo_limits():
    assert SpinEcho(tr=1e6, te=0.0).signal(WATER) == pytest.approx(0.8)
    assert SpinEcho(tr=1e6, te=100.0).signal(WATER) == pytest.approx(0.8 / np.e)
    assert SpinEcho(tr=1000.0, te=0.0).signal(WATER) == pytest.approx(0.8 * (1 - 1 / np.e))
    assert SpinEcho(tr=0.0, te=0.0).signal(WATER) == 0


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
    assert InversionRecovery(9000.0, 0.0, ti).signal(WATER) == pytest.approx(0, abs=1e-6)
    assert null_ti(1000.0, 1e6) == pytest.approx(1000 * np.log(2))
    saturated = InversionRecovery(1e6, 0.0, 1000.0, efficiency=0.0)
    assert saturated.signal(WATER) == pytest.approx(SpinEcho(1000.0, 0.0).signal(WATER))


@pytest.mark.parametrize("angle", [180.0, 150.0, 120.0])
def test_an_inversion_of_any_angle_is_that_of_blochs_equations(angle):
    """Turned, recovering for TI, read out, recovering again, until nothing changes."""
    tr, ti, z = 2000.0, 500.0, 1.0
    for _ in range(50):
        z = 1 + np.exp(-ti / WATER.t1) * (np.cos(np.deg2rad(angle)) * z - 1)
        read, z = z, 1 - np.exp(-(tr - ti) / WATER.t1)  # the read-out takes all of it
    sequence = InversionRecovery(tr, 0.0, ti, efficiency=-np.cos(np.deg2rad(angle)))
    assert sequence.signal(WATER) == pytest.approx(0.8 * abs(read), rel=1e-5)


@pytest.mark.parametrize("field", FIELDS)
def test_fluid_is_darkest_where_inversions_are_poor_too(field):
    perfect = protocols(field)["FLAIR"]
    table = tissues(field)
    for efficiency in INVERTED:
        poor = perfect._replace(efficiency=efficiency)
        assert 0 < poor.signal(table["csf"]) < 0.9 * poor.signal(table["wm"])


def test_oedema_stands_out_in_flair_alike_at_both_strengths():
    """As in six patients of BraTS 2015, whose median over that of the other tissue is 1.27 to 1.47."""
    ratios = []
    for field in FIELDS:
        flair = protocols(field)["FLAIR"]
        signal = {name: flair.signal(values) for name, values in tissues(field).items()}
        ratios.append(float(2 * signal["oedema"] / (signal["gm"] + signal["wm"])))
    assert all(1.4 < ratio < 1.8 for ratio in ratios)  # before other tissue is mixed in
    assert ratios[0] == pytest.approx(ratios[1], rel=0.1)


@pytest.mark.parametrize("angle", [10.0, 45.0, 90.0, 180.0])
def test_balanced_ssfp_of_fast_pulses(angle):
    """Its steady state for TR far below T1 and T2 knows their ratio alone."""
    cosine, ratio = np.cos(np.deg2rad(angle)), WATER.t1 / WATER.t2
    expected = 0.8 * np.sin(np.deg2rad(angle)) / (1 + cosine + (1 - cosine) * ratio)
    assert BalancedSsfp(0.1, angle).signal(WATER) == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_balanced_ssfp_has_its_best_angle():
    ratio = WATER.t1 / WATER.t2
    best = np.rad2deg(np.arccos((ratio - 1) / (ratio + 1)))
    top, less, more = (BalancedSsfp(0.5, float(best + d)).signal(WATER) for d in (0, -2, 2))
    assert top > max(less, more)
    assert top == pytest.approx(0.8 / 2 / np.sqrt(ratio), rel=0.01)
    assert BalancedSsfp(5.0, 0.0).signal(WATER) == 0


@pytest.mark.parametrize("spoiled", [True, False])
@pytest.mark.parametrize(("tr", "angle"), [(5.0, 30.0), (18.0, 45.0), (100.0, 90.0)])
def test_steady_states_are_those_of_blochs_equations(tr, angle, spoiled):
    """Pulses about x, of alternating sign, and relaxation between them, until nothing changes."""
    e1, e2, turn = np.exp(-tr / WATER.t1), np.exp(-tr / WATER.t2), np.deg2rad(angle)
    y, z = 0.0, 1.0
    for _ in range(3000):
        turn = -turn
        y, z = (0.0 if spoiled else e2 * y), 1 + e1 * (z - 1)
        y, z = np.cos(turn) * y + np.sin(turn) * z, np.cos(turn) * z - np.sin(turn) * y
    if spoiled:
        signal, decay = SpoiledGradientEcho(tr, tr / 2, angle).signal(WATER), WATER.t2star
    else:
        signal, decay = BalancedSsfp(tr, angle).signal(WATER), WATER.t2
    assert signal == pytest.approx(0.8 * abs(y) * np.exp(-tr / 2 / decay), rel=1e-4)


@pytest.mark.parametrize(("field", "ti"), [(1.5, 1705), (3.0, 2432)])
def test_flair_nulls_csf_at_the_published_time(field, ti):
    assert protocols(field)["FLAIR"].ti == pytest.approx(ti, abs=1)


@pytest.mark.parametrize("field", FIELDS)
def test_contrasts_rank_the_tissues(field):
    of = table(field)
    assert tuple(of) == PRESETS
    t1, gd, t2, flair = (of[name] for name in CONTRASTS)
    assert t1["fat"] > t1["wm"] > t1["gm"] > t1["csf"]
    assert t1["oedema"] < t1["wm"]
    inside = {"csf", "gm", "wm", "vessel", *LESION}
    assert max(inside, key=gd.__getitem__) == "vessel"
    assert gd["vessel"] > gd["enhancing"] > gd["wm"] > gd["gm"] > gd["necrosis"]
    for lesion in LESION:
        assert t2["csf"] > t2[lesion] > t2["gm"] > t2["wm"] > t2["vessel"]
    assert flair["oedema"] > flair["gm"] > flair["wm"] > flair["csf"]
    assert flair["csf"] == pytest.approx(0, abs=1e-6)
    assert of["PD"]["csf"] > of["PD"]["gm"] > of["PD"]["wm"]
    assert of["bSSFP"]["csf"] > of["bSSFP"]["gm"]  # by T2 / T1
    assert all(signals["skull"] == 0 for signals in of.values())


@pytest.mark.parametrize("field", FIELDS)
def test_gadolinium_brightens_vessels_and_the_enhancing_tumour_most(field):
    before, after = (table(field)[name] for name in ("T1", "T1ce"))
    gain = {name: after[name] / before[name] for name in TISSUES if before[name]}
    assert min(gain.values()) >= 1
    assert {name for name in gain if gain[name] > 1.2} == {"vessel", "enhancing"}
    assert {name for name in gain if 1 < gain[name] < 1.1} == set(UPTAKE)
    assert after["wm"] - after["gm"] < before["wm"] - before["gm"]  # grey matter has more blood


def test_settings_vary_within_their_share_and_keep_their_names():
    sequences = {name: protocols(1.5)[name] for name in ("T2", "bSSFP", "FLAIR", "T1", "PD")}
    changes, efficiency = [], []
    for seed in range(40):
        drawn = vary_protocols(jax.random.key(seed), sequences, 0.1)
        assert list(drawn) == list(sequences)  # the order of the columns of `signal_table`
        for name, sequence in sequences.items():
            assert type(drawn[name]) is type(sequence)
        efficiency.append(drawn["FLAIR"].efficiency)
        drawn["FLAIR"] = drawn["FLAIR"]._replace(efficiency=1.0)
        changes.append(
            [v / s for name in sequences for v, s in zip(drawn[name], sequences[name], strict=True)]
        )
    changes = np.array(changes)
    assert (np.abs(changes - 1) <= 0.1 + 1e-6).all()
    changes = changes[:, changes.std(axis=0) > 0]
    assert changes.shape[1] == sum(map(len, sequences.values())) - 1
    assert (changes.std(axis=0) > 0.03).all()
    assert INVERTED[0] <= min(efficiency) < max(efficiency) < INVERTED[1]
    assert np.ptp(efficiency) > 0.8 * np.ptp(INVERTED)
    changes = np.concatenate([changes, np.array(efficiency)[:, None]], axis=1)
    off_diagonal = np.corrcoef(changes.T) - np.eye(changes.shape[1])
    assert np.abs(off_diagonal).max() < 0.7  # each for itself
