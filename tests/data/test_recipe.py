import json

import jax.numpy as jnp
import numpy as np
import pytest

from medjax.data import recipe as recipes
from medjax.data.recipe import LARGE, Recipe, maker, plain
from medjax.errors import UserError
from medjax.sim.subject import Subject


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"spacing": 0.0}, "synth.spacing: 0 mm; .* 0.5 to 4 mm"),
        ({"fields": ()}, r"synth\.fields: is empty"),
        ({"fields": (1.5, 2.0)}, r"synth.fields: 2 T: .* 1\.5 or 3\.0"),
        ({"contrasts": ()}, r"synth\.contrasts: .* choose of T1, T1ce, T2, FLAIR, PD, bSSFP"),
        ({"contrasts": ("T1", "DWI")}, r"synth\.contrasts: .*DWI.* is unknown"),
        ({"contrasts": ("T1", "T2", "T1")}, r"synth\.contrasts: .* names one twice"),
        ({"growth": "linear"}, r"synth\.growth: .* choose of two_species, one_species"),
        ({"style": "cubist"}, r"synth\.style: .* choose of physics, random"),
        ({"slices": "oblique"}, r"synth\.slices: .* choose of any, sagittal, coronal, axial"),
        ({"faults": 1.5}, r"synth\.faults: 1\.5 is no probability"),
        ({"faults": -0.1}, r"synth\.faults"),
        ({"faults": float("nan")}, r"synth\.faults"),
    ],
)
def test_values_that_cannot_be(bad, message):
    with pytest.raises(UserError, match=message) as caught:
        Recipe(**bad)
    assert "\n" not in str(caught.value)


def test_grid():
    assert Recipe().shape == (80, 96, 80)
    assert Recipe(head=True, spacing=4.0).shape == (52, 64, 56)
    assert np.array_equal(np.diag(Recipe(spacing=1.0).affine), [1, 1, 1, 1])


def test_facts_are_plain_and_whole():
    facts = Recipe(fields=(3.0,), faults=0.25).facts()
    assert json.loads(json.dumps(facts)) == facts
    back = {key: tuple(v) if isinstance(v, list) else v for key, v in facts.items()}
    assert Recipe(**back) == Recipe(fields=(3.0,), faults=0.25)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"growth": "two_species", "randomised": False, "head": False, "faults": 0.1}),
        ({"growth": "plaques"}, {"growth": "plaques", "randomised": False}),
        ({"style": "random", "faults": 0.5}, {"randomised": True, "faults": 0.5}),
        ({"slices": "coronal"}, {"plane": "coronal"}),
        ({"head": True}, {"head": True, "shape": (104, 128, 112)}),
        ({"fields": (3.0,), "contrasts": ("PD", "T1")}, {"fields": (3.0,), "spacing": 2.0}),
    ],
)
def test_every_choice_reaches_the_maker(monkeypatch, egg, changed, expected):
    seen = []

    def fake(key, parent, **settings):
        seen.append(settings)
        image = jnp.full((1, 2, 3, len(settings["contrasts"])), 40_000.0).at[0].set(-3.0)
        return Subject(image, jnp.zeros((1, 2, 3), jnp.uint8), {"depth": parent.depth.mean()})

    monkeypatch.setattr(recipes, "make_subject", fake)
    recipe = Recipe(**changed)
    make = maker.__wrapped__(recipe)  # not kept for other tests
    other = egg._replace(depth=egg.depth - 1, name="another")
    patients = [make(*numbers) for numbers in ((0, 0, egg), (0, 1, egg), (1, 0, other))]
    assert len(seen) == 1  # compiled once, for all parents of one shape
    assert seen[0]["contrasts"] == recipe.contrasts
    assert seen[0].items() >= expected.items()
    assert patients[0].image.dtype == np.int16
    assert patients[0].image.max() <= 2**15 - 1
    assert patients[0].image.min() >= 0
    for patient, parent in zip(patients[1:], (egg, other), strict=True):
        assert patient.drawn["depth"] == pytest.approx(float(parent.depth.mean()), rel=1e-3)


def test_seed_index_and_parent_make_the_key(monkeypatch, egg):
    import jax

    def fake(key, parent, **settings):
        bits = jax.random.randint(key, (1, 1, 1, 4), 0, 1000).astype(jnp.float32)
        return Subject(bits, jnp.zeros((1, 1, 1), jnp.uint8), {})

    monkeypatch.setattr(recipes, "make_subject", fake)
    make = maker.__wrapped__(Recipe())
    found = [tuple(make(seed, index, egg).image.ravel()) for seed in range(4) for index in range(4)]
    assert len(set(found)) == 16
    assert found[5] == tuple(make(1, 1, egg).image.ravel())


def test_plain_keeps_numbers_and_describes_fields():
    tree = {"a": np.float32(1.5), "b": {"c": np.arange(3)}, "d": np.zeros(LARGE + 1) - 2, "e": True}
    made = plain(tree)
    assert made == {
        "a": 1.5,
        "b": {"c": [0, 1, 2]},
        "d": {"shape": [LARGE + 1], "range": [-2.0, -2.0]},
        "e": True,
    }
    assert json.loads(json.dumps(made)) == made
