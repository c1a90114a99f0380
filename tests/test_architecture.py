"""The rules of the house that can be read off the source."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sepmodel"
FILES = sorted(PACKAGE.rglob("*.py"))
BASE = {
    "units",
    "species",
    "products",
    "stream",
    "balance",
    "errors",
    "solvers",
    "data",
    "chemistry",
    "fields",
    "files",
    "result",
}
TECHNOLOGIES = {"extraction", "chromatography", "finishing"}
# What each layer may import beside itself.
LAYERS = [
    (BASE, set()),
    (TECHNOLOGIES, BASE),
    ({"plant"}, BASE | TECHNOLOGIES),
    ({"case", "run"}, BASE | TECHNOLOGIES | {"plant"}),
    ({"study"}, BASE | TECHNOLOGIES | {"plant", "case", "run"}),
    ({"plot", "report"}, BASE | TECHNOLOGIES | {"plant", "case", "run", "study"}),
]


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            if node.module and node.module.split(".")[0] == "sepmodel":
                parts = node.module.split(".")
                yield from [parts[1]] if len(parts) > 1 else [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("sepmodel."))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_layers(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    here = room(path)
    for members, below in LAYERS:
        if here in members:
            allowed = below | (members if here not in TECHNOLOGIES else {here})
            assert set(imported_rooms(tree)) <= allowed | {"__version__"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_pint_stays_in_units_and_nothing_is_star_imported(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names]
            if isinstance(node, ast.ImportFrom):
                assert "*" not in modules
                modules.append(node.module or "")
            assert path.name == "units.py" or not any(m.split(".")[0] == "pint" for m in modules)
