import json

import numpy as np
import pytest

from medjax.data import phantoms
from medjax.data.layouts import open_dataset
from medjax.data.phantoms import make_phantoms
from medjax.errors import UserError
from medjax.io.files import read
from medjax.sim.phantom import phantom

NAMES = ("t1n", "t1c", "t2w", "t2f", "seg")
MADE = {"seed": 4, "spacing": 4.0}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_phantoms(tmp_path_factory.mktemp("phantoms") / "new" / "set", cases=2, **MADE)


def files(root):
    return {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*")) if path.is_file()}


def test_layout(root):
    cases = [f"BraTS-SYN-{index:05d}-000" for index in range(2)]
    assert sorted(path.name for path in root.iterdir()) == cases
    for case in cases:
        wanted = {f"{case}-{name}.nii.gz" for name in NAMES} | {"provenance.json"}
        assert {path.name for path in (root / case).iterdir()} == wanted


def test_it_opens_as_brats_2023(root):
    dataset = open_dataset(str(root))
    assert dataset.convention.name == "brats2023"
    assert len(dataset.cases) == 2
    assert len({case.patient for case in dataset.cases}) == 2
    assert all(len(case.images) == 4 and case.label for case in dataset.cases)


def test_files_hold_the_phantom_in_lps(root):
    made = phantom(4, 1, spacing=4.0)
    folder = root / "BraTS-SYN-00001-000"
    for c, name in enumerate(NAMES):
        volume = read(folder / f"{folder.name}-{name}.nii.gz")
        assert volume.orientation == "LPS"
        assert volume.spacing == (4.0, 4.0, 4.0)
        assert volume.array.dtype == (np.uint8 if name == "seg" else np.int16)
        straight, _ = volume.canonical()
        np.testing.assert_allclose(straight.affine, made.affine)
        expected = made.labels if name == "seg" else made.image[..., c]
        assert np.array_equal(straight.array, expected)


def test_provenance_says_how_to_make_it_again(root):
    folder = root / "BraTS-SYN-00000-000"
    record = json.loads((folder / "provenance.json").read_text("utf-8"))
    again = phantom(
        record["seed"], record["index"], spacing=record["spacing"], field=record["field"]
    )
    assert again.parameters == record["parameters"]
    labels = read(folder / f"{folder.name}-seg.nii.gz").array
    for label, name in enumerate(("necrosis", "oedema", "enhancing"), start=1):
        assert record["volumes_ml"][name] == pytest.approx((labels == label).sum() * 0.064)


def test_complete_cases_are_kept_and_more_are_added(tmp_path):
    make_phantoms(tmp_path, cases=1, **MADE)
    before = files(tmp_path)
    seen = []
    make_phantoms(
        tmp_path, cases=2, progress=lambda done, total: seen.append((done, total)), **MADE
    )
    after = files(tmp_path)
    assert len(after) == 12
    assert {path: after[path] for path in before} == before
    assert seen == [(1, 2), (2, 2)]


def test_an_incomplete_case_is_made_again(root, tmp_path):
    make_phantoms(tmp_path, cases=1, **MADE)
    name = "BraTS-SYN-00000-000/BraTS-SYN-00000-000-t1c.nii.gz"
    (tmp_path / name).unlink()
    make_phantoms(tmp_path, cases=1, **MADE)
    assert (tmp_path / name).read_bytes() == (root / name).read_bytes()


def test_a_case_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    written = []

    def stop(volume, path):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    monkeypatch.setattr(phantoms, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        make_phantoms(tmp_path, cases=1, **MADE)
    assert len(written) == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [{"seed": 5}, {"spacing": 3.5}, {"field": 1.5}])
def test_cases_made_otherwise_are_not_mixed_in(root, other):
    before = files(root)
    key = next(iter(other))
    with pytest.raises(UserError, match=rf"provenance\.json: made with {key} .*, asked for"):
        make_phantoms(root, cases=1, **(MADE | other))
    assert files(root) == before


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"cases": 0}, "cases=0"),
        ({"seed": -1}, "seed=-1"),
        ({"spacing": 0.0}, "spacing=0"),
        ({"field": 2.0}, "field=2"),
    ],
)
def test_bad_values_write_nothing(tmp_path, bad, named):
    with pytest.raises(UserError, match=named):
        make_phantoms(tmp_path / "set", **({"cases": 1, "seed": 0} | bad))
    assert not list(tmp_path.iterdir())


def test_the_root_must_be_a_folder(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(UserError, match="this is a file"):
        make_phantoms(path, cases=1, seed=0)
