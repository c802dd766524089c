import jax
import numpy as np
import pytest

from medjax.errors import UserError
from medjax.sim.tissue import HEAD, LESION, TISSUES, UPTAKE, stack, tissues, vary

FIELDS = (1.5, 3.0)


@pytest.mark.parametrize("field", FIELDS)
def test_tissues_are_physical(field):
    table = tissues(field)
    assert tuple(table) == TISSUES
    for name, tissue in table.items():
        assert 0 < tissue.t2star <= tissue.t2 < tissue.t1
        assert 0 < tissue.t1_gd <= tissue.t1
        assert (tissue.pd == 0) == (name == "skull")
        assert tissue.pd <= 1


def test_relaxation_slows_with_field_strength():
    weak, strong = (tissues(field) for field in FIELDS)
    for name in ("csf", "gm", "wm", *LESION):
        assert strong[name].t1 > weak[name].t1


@pytest.mark.parametrize("field", FIELDS)
def test_gadolinium_is_in_blood_and_where_the_barrier_is_broken(field):
    table = tissues(field)
    uptake = {name: 1000 / tissue.t1_gd - 1000 / tissue.t1 for name, tissue in table.items()}
    assert {name for name in uptake if uptake[name] > 0.3} == {"vessel", "enhancing"}
    for name in set(TISSUES) - {"vessel", "enhancing"}:
        assert uptake[name] == pytest.approx(UPTAKE.get(name, 0), abs=1e-9)
    after = tissues(field)["enhancing"].enhanced()
    assert after.t1 == tissues(field)["enhancing"].t1_gd
    # In ms at 3 T, mean and standard deviation in glioblastoma, its oedema and normal tissue.
    for name, mean, deviation in (("enhancing", 838, 210), ("oedema", 123, 74), ("wm", 32, 35)):
        strong = tissues(3.0)[name]
        assert abs(strong.t1 - strong.t1_gd - mean) < deviation


@pytest.mark.parametrize("field", [0.0, 7.0, float("nan")])
def test_unknown_field_strength(field):
    with pytest.raises(UserError, match=r"synth\.fields: .*: .*1\.5 or 3\.0"):
        tissues(field)


def test_stack_keeps_the_order_of_the_names():
    table, names = tissues(3.0), ("wm", "csf")
    some = stack(table, names)
    np.testing.assert_allclose(some.t2, [table[name].t2 for name in names])
    np.testing.assert_allclose(stack(table).pd, [tissue.pd for tissue in table.values()])


@pytest.mark.parametrize(("normal", "lesion"), [(0.05, 0.15), (0.08, 0.3), (0.0, 0.0)])
def test_a_subject_varies_within_its_shares(normal, lesion):
    table = stack(tissues(3.0))
    many = jax.vmap(lambda key: vary(key, table, normal=normal, lesion=lesion))(
        jax.random.split(jax.random.key(0), 400)
    )
    widths = np.array([normal] * len(HEAD) + [lesion] * len(LESION))
    same = np.array(TISSUES) != "enhancing"
    assert not many.pd[:, TISSUES.index("skull")].any()
    for drawn, mean in zip(many, table, strict=True):
        some = np.asarray(mean) > 0
        logs = np.log(np.asarray(drawn)[:, some] / np.asarray(mean)[some])
        assert (np.abs(logs) <= widths[some] + 1e-6).all()
        np.testing.assert_allclose(logs.std(axis=0), widths[some] / 2, rtol=0.15, atol=1e-6)
        np.testing.assert_allclose(logs.mean(axis=0), 0, atol=0.1 * lesion + 1e-6)
    ratio = np.asarray(many.t1_gd / many.t1)[:, same]
    np.testing.assert_allclose(
        ratio, np.broadcast_to((table.t1_gd / table.t1)[same], ratio.shape), rtol=1e-5
    )
    for gd, before in zip(many.t1_gd[:, ~same].T, many.t1[:, ~same].T, strict=True):
        assert not lesion or abs(np.corrcoef(gd, before)[0, 1]) < 0.2
