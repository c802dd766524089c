"""`--mode synthesize` from the command line: what lies in the folder afterwards, and what stops it."""

import json
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

import medjax.data.synthetic as writing
from medjax import cli
from medjax.data.layouts import open_dataset
from medjax.data.recipe import Patient
from medjax.data.verify import verify
from medjax.modes import synthetic
from medjax.sim.anatomy import Anatomy
from medjax.sim.tissue import HEAD
from medjax.train import realism

ROOT = Path(__file__).parents[2]
BRATS = ["--config", str(ROOT / "experiments" / "brats_synth.py"), "--mode", "synthesize"]
BRATS += ["--config.synth.spacing=4.0"]
BOTH = "--config.synth.contrasts=('FLAIR', 'T1ce')"


def head(shape, seed, channels):
    """Noise in an ellipsoid; balls of oedema 2, enhancing 3 and necrosis 1, bright in channel 0 alone."""
    middle = np.array(shape).reshape(3, 1, 1, 1) / 2
    places = np.indices(shape) - middle
    brain = ((places / (0.42 * 2 * middle)) ** 2).sum(axis=0) < 1
    label = np.zeros(shape, np.uint8)
    for value, radius in ((2, 8), (3, 5), (1, 3)):
        label[((places - 3) ** 2).sum(axis=0) < radius**2] = value
    noise = np.random.default_rng(seed).normal(0, 40, (*shape, channels))
    noise[..., 0] += 200 * (label > 0)
    image = brain[..., None] * (500 + noise)
    return image.astype(np.int16), label * brain


@pytest.fixture(scope="module", autouse=True)
def quick(home):
    """The home of the tests, and instead of the generator, which has its own tests, noise."""

    def maker(recipe):
        def make(seed, index, parent):
            return Patient(*head(recipe.shape, index, len(recipe.contrasts)), {})

        return make

    empty = np.zeros((2, 2, 2, len(HEAD)), np.float32)
    nobody = Anatomy(empty, empty[..., 0], "nobody")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        patch.setattr(writing, "maker", maker)
        patch.setattr(synthetic, "parents", lambda config: [nobody])
        patch.setattr(realism, "tell_apart", partial(realism.tell_apart, steps=2))
        yield


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Three labelled heads in the layout and convention of 2018."""
    root = tmp_path_factory.mktemp("real") / "hospital"
    for number in range(3):
        image, label = head((40, 48, 36), 100 + number, 2)
        arrays = {"flair": image[..., 0], "t1ce": image[..., 1]}
        arrays["seg"] = np.where(label == 3, 4, label).astype(np.uint8)
        for name, array in arrays.items():
            path = root / f"case{number}" / f"case{number}_{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.Nifti1Image(array, np.diag([-4.0, -4.0, 4.0, 1.0])).to_filename(path)
    return root


@pytest.fixture(scope="module")
def finished(real, tmp_path_factory):
    """A run that was stopped after its first case, the files of that case, and the run gone on with."""
    workdir = tmp_path_factory.mktemp("synthesize") / "made"
    command = [*BRATS, BOTH, "--workdir", str(workdir), "--config.synth.cases=3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "counter", stopping)
        with pytest.raises(SystemExit) as stopped:
            cli.run(command)
    assert stopped.value.code == 130
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*.*")}
    cli.run([*command, f"--config.synth.beside={real}"])
    return workdir, before


@contextmanager
def stopping(description):
    """Ctrl-C when the first case is made."""

    def show(done, total):
        raise KeyboardInterrupt

    yield show


def test_the_folder_is_a_data_set_without_findings(finished):
    workdir, _ = finished
    dataset = open_dataset(str(workdir))
    assert dataset.layout == "brats"
    assert dataset.channels == ("t1ce", "flair")
    assert len({case.patient for case in dataset.cases}) == 3
    assert verify(dataset) == []
    for case in dataset.cases:
        assert json.loads((workdir / case.id / "provenance.json").read_text("utf-8"))["seed"] == 0


def test_an_interrupted_run_leaves_whole_cases_and_goes_on(finished):
    _, before = finished
    assert len(before) == 4  # two contrasts, a label, provenance
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_the_sheet_shows_both_sets(finished):
    with Image.open(finished[0] / "contact_sheet.png") as sheet:
        picture = np.asarray(sheet)
    for half in np.array_split(picture[50:-20], 2, axis=1):
        assert (np.ptp(half.astype(int), axis=-1) > 100).any()  # outlines in colour
        assert (half > 150).all(axis=-1).any()  # and something grey below


def test_realism_is_judged_by_patient(finished):
    found = json.loads((finished[0] / "realism.json").read_text("utf-8"))
    assert found["patients"] == {"real": 3, "synthetic": 3}
    assert found["contrasts"] == ["FLAIR", "T1ce"]
    assert found["beside"] == {"name": "hospital", "cases": 3}
    assert set(found["logits"]["real"]) == {"case0", "case1", "case2"}
    assert set(found["auc"]) == {"patients", "slices"}
    assert all(0 <= part["auc"] <= 1 for part in found["auc"].values())
    assert found["recipe"]["spacing"] == 4.0
    names = [row["figure"] for row in found["statistics"]]
    assert {"volume of enhancing", "T1ce: contrast of oedema", "FLAIR: bright rim"} <= set(names)
    means = {
        row["figure"]: (row["real"]["mean"], row["made"]["mean"]) for row in found["statistics"]
    }
    assert min(means["FLAIR: contrast of lesion"]) > 1 > 5 * max(means["T1ce: contrast of lesion"])
    gaps = [abs(row["difference"] or 0) for row in found["statistics"]]
    assert gaps == sorted(gaps, reverse=True)


class Page(HTMLParser):
    """Checks the nesting, and gathers the words and whatever would be loaded."""

    def __init__(self, content):
        super().__init__()
        self.open, self.words, self.loaded = [], "", []
        self.feed(content)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.loaded += [value for key, value in attrs if key in ("src", "href") and value]
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words += data


def test_the_page_is_one_file_and_says_what_was_found(finished):
    page = Page((finished[0] / "synthesis.html").read_text("utf-8"))
    assert all(source.startswith("data:") for source in page.loaded)
    assert any(source.startswith("data:image/png") for source in page.loaded)
    found = json.loads((finished[0] / "realism.json").read_text("utf-8"))
    for part in found["auc"].values():
        assert f"{part['auc']:.3f}" in page.words
    for words in (
        "3 real and 3 synthetic patients",
        "What differs",
        "Recipe",
        "necrosis",
        "MNI152",
    ):
        assert words in page.words


def test_alone_it_makes_the_sheet_and_the_page(tmp_path, capsys):
    cli.run([*BRATS, BOTH, "--workdir", str(tmp_path), "--config.synth.cases=2"])
    said = capsys.readouterr().out.strip().splitlines()
    assert "AUC" not in "".join(said)
    assert said[-1].startswith(f"made 2 cases in {tmp_path}")
    page = Page((tmp_path / "synthesis.html").read_text("utf-8"))
    assert "What differs" not in page.words
    assert "Volumes" in page.words
    assert len(list(tmp_path.iterdir())) == 4


def test_beside_one_patient_figures_are_compared_but_nothing_is_judged(real, tmp_path, capsys):
    few, made = tmp_path / "few", tmp_path / "made"
    few.mkdir()
    (few / "case1").symlink_to(real / "case1")
    command = [*BRATS, BOTH, "--workdir", str(made), "--config.synth.cases=2"]
    cli.run([*command, f"--config.synth.beside={few}"])
    assert "too few" in capsys.readouterr().out
    page = Page((made / "synthesis.html").read_text("utf-8"))
    assert "What differs" in page.words
    assert "AUC over" not in page.words
    assert (made / "realism.json").is_file()
    cli.run(command)  # the same cases beside nothing
    assert not (made / "realism.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([BOTH, "--config.synth.cases=0"], "synth.cases"),
        ([BOTH, "--config.synth.beside=/nowhere"], "/nowhere"),
        (["--config.synth.contrasts=('T1', 'PD')"], "synth.beside"),
        (["--config.synth.contrasts=('T3',)"], "synth.contrasts"),
        ([BOTH, "--config.synth.spacing=3.0"], "choose another"),
        ([BOTH, "--config.data.spacing=(1.0, 1.0, 1.0)"], "data.spacing"),
    ],
)
def test_every_mistake_ends_in_one_line(arguments, said, finished, real, capsys):
    command = [*BRATS, "--workdir", str(finished[0]), "--config.synth.cases=1"]
    with pytest.raises(SystemExit) as stopped:
        cli.run([*command, f"--config.synth.beside={real}", *arguments])
    assert stopped.value.code == 1
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.startswith("medjax: ")
    assert len(error.splitlines()) == 1
    assert "unexpected" not in error
