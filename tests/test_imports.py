"""The import law: a file imports only from lower floors or from its own folder."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "medjax"
FLOORS = {
    "errors": -1,
    "interrupt": -1,
    "faults": -1,
    "progress": -1,
    "space": 0,
    "ops": 0,
    "hugepages": 0,
    "io": 1,
    "sim": 1,
    "nn": 1,
    "losses": 1,
    "metrics": 1,
    "data": 2,
    "infer": 3,
    "train": 4,
    "deploy": 5,
    "federated": 5,
    "modes": 6,
    "cli": 6,
}
OUTSIDE = {"space": {"jax", "flax", "optax"}, "io": {"jax"}, "metrics": {"jax"}}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports by relative path"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def unlawful(path: Path) -> list[str]:
    """The imports of a file that the law forbids."""
    here, broken = room(path), []
    for name in imports(path):
        top, *rest = name.split(".")
        if top in OUTSIDE.get(here, ()):
            broken.append(name)
        if top != "medjax" or not rest or here == "__init__" or rest[0] == here:
            continue
        if rest[0] not in FLOORS:
            continue  # a name of medjax itself, such as __version__
        if FLOORS[rest[0]] >= FLOORS[here] and not (here == "modes" and rest[0] == "cli"):
            broken.append(name)
    return broken


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_from_below(path):
    assert room(path) == "__init__" or room(path) in FLOORS, f"{path}: name its floor"
    assert not unlawful(path)


def test_the_law_finds_a_breach(tmp_path, monkeypatch):
    bad = PACKAGE / "io" / "imaginary.py"
    text = "from medjax.data.plan import Plan\nimport jax\nfrom medjax.space.volume import Volume\n"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: text)
    assert sorted(unlawful(bad)) == ["jax", "medjax.data.plan.Plan"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_modes_read_the_config_and_nobody_reads_private_parts(path):
    names = imports(path)
    if room(path) not in ("modes", "cli"):
        assert not [n for n in names if n.startswith("ml_collections")]
    assert not [n for n in names if n.startswith("jax._src")]


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "train" / "report").glob("*.py")), ids=lambda p: p.name
)
def test_pages_know_nothing_of_training(path):
    """Plain data in, a page out: what trains and judges makes the data."""
    own = {name for name in imports(path) if name.startswith("medjax.train.")}
    assert not {name for name in own if not name.startswith("medjax.train.report")}


def test_importing_medjax_loads_nothing_heavy():
    import subprocess
    import sys

    code = (
        "import medjax, sys; print(sorted({'jax', 'numpy', 'flax', 'nibabel'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
