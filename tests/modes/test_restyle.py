"""Synthetic patients whose contrast a CycleGAN makes, learned from them and from cases of a data set."""

from pathlib import Path

import numpy as np
import pytest

from medjax import cli
from medjax.data.cache import open_cached
from medjax.modes import train as modes

pytestmark = pytest.mark.long
QUICK = str(Path(__file__).parents[2] / "experiments" / "quick.py")
FLAGS = {
    "synth.growth": "plaques",  # the quickest to compile
    "synth.pool": 2,
    "train.steps": 2,
    "train.validations": 1,
    "train.validation_batches": 0,
    "train.devices": 1,
}
GAN = {
    "train.paradigm": "cyclegan",
    "cyclegan.simulated": True,
    "cyclegan.width": 4,
    "cyclegan.blocks": 1,
    "cyclegan.layers": 1,
    "plan.patch": (1, 16, 16),
}


@pytest.fixture(scope="module")
def train(home, tmp_path_factory):
    """`train(workdir, {key: value})`: a run in this process; the folder of its prepared cases."""
    cache = tmp_path_factory.mktemp("cache")

    def train(workdir, changes):
        flags = {**FLAGS, "data.cache": cache, **changes}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_CACHE_HOME", str(home))
            patch.setattr(modes, "evaluate", lambda *run: None)  # what is trained on is looked at
            given = [f"--config.{key}={value}" for key, value in flags.items()]
            cli.run(["--config", QUICK, "--workdir", str(workdir), *given])
        return cache

    return train


@pytest.fixture(scope="module")
def gan(train, tmp_path_factory):
    """The work folder of a CycleGAN, and the patients that lent it their T1."""
    workdir = tmp_path_factory.mktemp("gan")
    return workdir, set(train(workdir, GAN).rglob("synthetic_*"))


def test_every_second_patient_has_a_made_contrast(train, gan, tmp_path):
    folder, seen = gan
    assert len(seen) == 2
    flags = {"synth.share": 1.0, "synth.translate": folder, "synth.translated": 0.5}
    (new,) = set(train(tmp_path, flags).rglob("synthetic_*")) - seen  # the other is as it was
    (old,) = [path for path in seen if path.name[:15] == new.name[:15]]
    given, made = open_cached(old), open_cached(new)
    np.testing.assert_array_equal(made.label, given.label)
    np.testing.assert_array_equal(made.image[..., :3], given.image[..., :3])
    inside = np.any(given.image != 0, axis=-1)
    assert np.all(made.image[..., 3][~inside] == 0)
    assert np.mean(made.image[..., 3][inside] != given.image[..., 3][inside]) > 0.9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.channels": ("t1", "t2", "t1ce", "flair")}, "its channels are not this run's"),
        ({"data.fold": 1}, "a test case of this run"),
        ({"synth.translated": 2.0}, "synth.translated: 2.0"),
        ({"synth.share": 1.5}, "synth.share: 1.5"),
        ({"synth.share": 0.0}, "synth.translate: changes the patients of synth.share"),
        (GAN | {"synth.share": 0.5}, "synth.share: is for segmenters"),
    ],
    ids=str,
)
def test_mistakes_end_in_one_line(changes, said, train, gan, tmp_path, capsys):
    flags = {"synth.share": 1.0, "synth.translate": gan[0], "train.workers": 0, **changes}
    with pytest.raises(SystemExit):
        train(tmp_path, flags)
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert error[0].startswith("medjax: ")
    assert said in error[0]
