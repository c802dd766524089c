import json
from dataclasses import replace

import numpy as np
import pytest

from medjax.data import synthetic
from medjax.data.layouts import open_dataset
from medjax.data.recipe import VERSION, Recipe, maker
from medjax.data.splits import split
from medjax.data.synthetic import case_name, make_cases
from medjax.errors import UserError
from medjax.io.files import read

NAMES = ("t1n", "t1c", "t2w", "t2f", "seg")
RECIPE = Recipe(spacing=4.0)
MADE = {"cases": 2, "seed": 4}


@pytest.fixture(scope="module")
def anatomies(egg):
    """Two parents of one shape."""
    small = egg._replace(shares=egg.shares[:, ::-1].copy(), depth=egg.depth - 1, name="small egg")
    return [egg, small]


@pytest.fixture(scope="module")
def root(tmp_path_factory, anatomies):
    return make_cases(tmp_path_factory.mktemp("cases") / "new" / "set", anatomies, RECIPE, **MADE)


def files(root):
    return {path: path.stat().st_mtime_ns for path in sorted(root.rglob("*")) if path.is_file()}


def test_layout(root, anatomies):
    cases = [f"BraTS-SYN-{index:05d}-000" for index in range(2)]
    assert sorted(path.name for path in root.iterdir()) == cases
    for case in cases:
        wanted = {f"{case}-{name}.nii.gz" for name in NAMES} | {"provenance.json"}
        assert {path.name for path in (root / case).iterdir()} == wanted


def test_it_opens_as_brats_2023(root):
    dataset = open_dataset(str(root))
    assert dataset.convention.name == "brats2023"
    assert len({case.patient for case in dataset.cases}) == len(dataset.cases) == 2
    assert all(len(case.images) == 4 and case.label for case in dataset.cases)


def test_files_hold_the_patient_in_lps(root, anatomies):
    made = maker(RECIPE)(4, 1, anatomies[1])
    folder = root / "BraTS-SYN-00001-000"
    for c, name in enumerate(NAMES):
        volume = read(folder / f"{folder.name}-{name}.nii.gz")
        assert volume.orientation == "LPS"
        assert volume.spacing == (4.0, 4.0, 4.0)
        assert volume.array.dtype == (np.uint8 if name == "seg" else np.int16)
        straight, _ = volume.canonical()
        np.testing.assert_allclose(straight.affine, RECIPE.affine)
        expected = made.label if name == "seg" else made.image[..., c]
        assert np.array_equal(straight.array, expected)
        assert straight.array.any()


def test_plaques_are_known_by_the_names_of_their_cases(tmp_path, anatomies):
    recipe = replace(RECIPE, growth="plaques")
    make_cases(tmp_path, anatomies, recipe, cases=2, seed=0)
    dataset = open_dataset(str(tmp_path))
    assert dataset.convention.name == "plaque"
    assert len({case.patient for case in dataset.cases}) == 2
    for case in dataset.cases:
        assert set(np.unique(read(case.label).array)) == {0, 1}


def test_images_show_the_brain_and_labels_lie_in_it(root, anatomies):
    for folder, parent in zip(sorted(root.iterdir()), anatomies, strict=True):
        *images, label = (read(folder / f"{folder.name}-{name}.nii.gz").array for name in NAMES)
        brain = images[0] > 0
        for image in images:
            assert np.array_equal(image > 0, brain)
            assert image.min() == 0
        assert not label[~brain].any()
        assert {2, 3} <= set(np.unique(label)) <= {0, 1, 2, 3}
        assert 0.7 < brain.sum() * 64 / (parent.depth > 0).sum() < 1.4
        assert len({tuple(image[brain]) for image in images}) == 4


def test_contrasts_are_in_their_files(root):
    """What enhances is brighter after gadolinium, and oedema in T2 and FLAIR: relative to the brain.

    Oedema in the mean of the patients: where coil or thick slices darken it, it may be as dark as the brain.
    """
    oedema = []
    for folder in root.iterdir():
        t1n, t1c, t2w, t2f, label = (
            np.float32(read(folder / f"{folder.name}-{name}.nii.gz").array) for name in NAMES
        )
        healthy = (t1n > 0) & (label == 0)
        before, after = (
            image[label == 3].mean() / np.median(image[healthy]) for image in (t1n, t1c)
        )
        assert after > 1.2 * before
        oedema.append(
            [image[label == 2].mean() / np.median(image[healthy]) for image in (t2w, t2f)]
        )
    assert np.all(np.mean(oedema, axis=0) > 1.1)


def test_provenance_says_how_to_make_it_again(root, anatomies):
    folder = root / "BraTS-SYN-00000-000"
    record = json.loads((folder / "provenance.json").read_text("utf-8"))
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in record["recipe"].items()}
    parent = next(parent for parent in anatomies if parent.name == record["parent"])
    again = maker(Recipe(**tuples))(record["seed"], record["index"], parent)
    assert again.drawn == record["parameters"]
    assert record["version"] == VERSION
    assert set(record["versions"]) == {"jax", "numpy", "nilearn"}
    label = read(folder / f"{folder.name}-seg.nii.gz").array
    assert np.array_equal(np.flip(label, (0, 1)), again.label)
    for number, name in enumerate(("necrosis", "oedema", "enhancing"), start=1):
        assert record["volumes_ml"][name] == pytest.approx((label == number).sum() * 0.064)


def test_complete_cases_are_kept_and_more_are_added(root, anatomies):
    before, seen = files(root), []
    settings = MADE | {"cases": 3, "progress": lambda done, total: seen.append((done, total))}
    try:
        make_cases(root, anatomies, RECIPE, **settings)
        after = files(root)
        assert len(after) == 18
        assert {path: after[path] for path in before} == before
        assert seen == [(1, 3), (2, 3), (3, 3)]
    finally:
        for path in (root / "BraTS-SYN-00000-001").iterdir():
            path.unlink()
        (root / "BraTS-SYN-00000-001").rmdir()


@pytest.mark.parametrize("lost", ["-t1c.nii.gz", "provenance.json"])
def test_an_incomplete_case_is_made_again(root, anatomies, lost):
    case = root / "BraTS-SYN-00000-000"
    path = case / (lost if lost == "provenance.json" else case.name + lost)
    content, others = path.read_bytes(), files(root / "BraTS-SYN-00001-000")
    path.unlink() if lost != "provenance.json" else path.write_text("{", "utf-8")
    make_cases(root, anatomies, RECIPE, **MADE)
    assert path.read_bytes() == content
    assert files(root / "BraTS-SYN-00001-000") == others


def test_a_case_appears_whole_or_not_at_all(tmp_path, anatomies, monkeypatch):
    written = []

    def stop(volume, path):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    monkeypatch.setattr(synthetic, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        make_cases(tmp_path, anatomies, RECIPE, cases=1, seed=0)
    assert len(written) == 3
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"spacing": 3.5}, "spacing"),
        ({"fields": (1.5,)}, "fields"),
        ({"contrasts": ("T1", "T2")}, "contrasts"),
        ({"growth": "one_species"}, "growth"),
        ({"style": "random"}, "style"),
        ({"faults": 0.3}, "faults"),
        ({"head": True}, "head"),
        (None, "seed"),
        (None, "parent"),
        (None, "version"),
    ],
)
def test_cases_made_otherwise_are_not_mixed_in(root, anatomies, monkeypatch, changed, key):
    before = files(root)
    recipe = Recipe(**(RECIPE.__dict__ | (changed or {})))
    if key == "version":
        monkeypatch.setattr(synthetic, "VERSION", VERSION + 1)
    parents = anatomies[::-1] if key == "parent" else anatomies
    seed = 5 if key == "seed" else 4
    with pytest.raises(UserError, match=rf"provenance\.json: made with {key} .*, asked for"):
        make_cases(root, parents, recipe, cases=1, seed=seed)
    assert files(root) == before


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"cases": 0}, r"synth\.cases: 0"), ({"seed": -1}, "seed: -1: .* not negative")],
)
def test_bad_values_write_nothing(tmp_path, anatomies, bad, message):
    with pytest.raises(UserError, match=message):
        make_cases(tmp_path / "set", anatomies, RECIPE, **({"cases": 1, "seed": 0} | bad))
    assert not list(tmp_path.iterdir())


def test_the_root_must_be_a_folder(tmp_path, anatomies):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(UserError, match="this is a file"):
        make_cases(path, anatomies, RECIPE, cases=1, seed=0)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_split_never_parts_an_anatomy(tmp_path, egg, count):
    """A parent is a patient; where there is but one, each case is."""
    parents, total = [egg] * count, 15
    names = [case_name(index, parents, RECIPE) for index in range(total)]
    assert len(set(names)) == total
    for name in names:
        (tmp_path / name).mkdir()
        for suffix in NAMES:
            (tmp_path / name / f"{name}-{suffix}.nii.gz").write_bytes(b"")
    cases = open_dataset(str(tmp_path)).cases
    patients = {case.id: case.patient for case in cases}
    assert len(set(patients.values())) == (total if count == 1 else count)
    parent = {names[index]: index % count for index in range(total)}
    if count == 1:
        return
    for fold in range(count):
        parts = split(cases, folds=count, fold=fold, validation=0.3, seed=fold)
        sides = [{parent[case] for case in part} for part in
                 (parts.train, parts.validation, parts.test)]  # fmt: skip
        assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
        assert sides[0] | sides[1] | sides[2] == set(range(count))
