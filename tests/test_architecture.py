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
    "processes",
    "data",
    "distributions",
    "sampling",
    "statistics",
    "sweep_tables",
    "curve_tables",
    "feed",
    "provenance",
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
    (
        {
            "plot",
            "plot_circuit",
            "plot_comparison",
            "plot_displacement",
            "plot_elution",
            "plot_dynamic",
            "plot_isotherms",
            "plot_design",
            "plot_sweep",
            "report",
            "report_page",
            "report_words",
            "report_design",
            "report_engine",
            "report_fit",
            "report_curve",
            "plot_curve",
            "plot_column",
            "report_sweep",
            "kinds",
            "doctor",
        },
        BASE | TECHNOLOGIES | {"plant", "case", "run", "study"},
    ),
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


# Numbers in the code that are neither nature nor process, beside small integers, one half, powers
# of ten and of two: (file, number) -> why it is no constant somebody could argue about.
NUMBERS = {
    ("study/curve_fit.py", 0.95): "usual level of confidence",
    ("curve_tables.py", 40): "rounds of an iteration",
    ("study/fit.py", 0.95): "usual level of confidence",
    ("study/fit_statistics.py", 0.95): "correlation worth naming",
    ("data.py", 1.6448536269514722): "95 % point of the standard normal distribution",
    ("distributions.py", 1.6448536269514722): "95 % point of the standard normal distribution",
    ("sampling.py", 30): "inputs whose pairs a Sobol' sample keeps apart",
    ("sampling.py", 21201): "dimensions scipy has direction numbers for",
    ("statistics.py", 1.959963984540054): "97.5 % point of the standard normal distribution",
    ("statistics.py", 0.025): "tail of a 95 % interval",
    ("statistics.py", 0.05): "lower end of the usual interval",
    ("statistics.py", 0.95): "upper end of the usual interval",
    ("study/tornado.py", 0.2): "swings that differ by less are told as agreeing",
    ("study/tornado.py", 0.05): "swings that are too small to be ranked",
    ("study/sensitivity.py", 0.025): "lower end of a 95 % interval",
    ("study/sensitivity.py", 0.975): "upper end of a 95 % interval",
    ("data.py", 300_000): "largest file read, bytes",
    ("data.py", 273.15): "definition of the degree Celsius",
    ("units.py", 273.15): "definition of the degree Celsius",
    ("units.py", 1990): "first year of money",
    ("units.py", 2051): "last year of money",
    ("errors.py", 60): "characters shown of a refused value",
    ("fields.py", 50): "characters compared for a spelling hint",
    ("files.py", 0o666): "permissions of a new file",
    ("result.py", 20): "names shown in a message",
    ("provenance.py", 80): "columns of a terminal",
    ("chromatography/protein_march.py", 200): "cells of a bed",
    ("chromatography/protein_engine.py", 60): "cells of a bed",
    ("chromatography/protein_engine.py", 0.2): "grid of a search",
    ("chromatography/protein_engine.py", 12.0): "bed volumes waited for",
    ("chromatography/protein_checks.py", 60): "bed volumes waited for",
    ("chromatography/protein_checks.py", 1.5): "bed volumes waited for, over the capacity",
    ("chromatography/protein_checks.py", 3.0): "pH of published loading",
    ("chromatography/column_pools.py", 0.9): "purities of a table",
    ("chromatography/column_pools.py", 0.95): "purities of a table",
    ("chromatography/column_pools.py", 0.98): "purities of a table",
    ("chromatography/column_pools.py", 0.99): "purities of a table",
    ("chromatography/column_pools.py", 0.995): "purities of a table",
    ("chromatography/column_pools.py", 0.999): "purities of a table",
    ("report_train.py", 80): "columns of a terminal",
    ("case.py", 20): "deepest nesting of a case file",
    ("case.py", 60): "characters compared for a spelling hint",
    ("chromatography/affinity.py", 0.2): "grid of dilutions tried in a search",
    ("chromatography/affinity_built.py", 320): "columns that march together, a processor's cache",
    ("chromatography/proton_stages.py", 48): "half steps of a fixed point, 1e-12 left",
    ("chromatography/series.py", 12): "bed volumes of elution waited for",
    ("chromatography/constant_pattern.py", 200): "halvings and iterations",
    ("chromatography/constant_pattern.py", 20): "ends of a boundary at 5 % and 95 %",
    ("chromatography/column.py", 257): "ends of 256 equal intervals",
    ("chromatography/isotachic.py", 48): "cells of a grid",
    ("chromatography/isotachic.py", 40): "decay lengths ahead of a front",
    ("chromatography/isotachic.py", 24): "decay lengths behind a front",
    ("extraction/isotherm_inputs.py", 400): "most points of a curve",
    ("extraction/isotherm_inputs.py", 40): "points of a curve; most of a map",
    ("extraction/isotherm_inputs.py", 12): "points of a map along each axis",
    ("extraction/isotherm_inputs.py", 24): "most components",
    ("extraction/isotherm_inputs.py", 100): "most stages stepped off",
    ("extraction/isotherm_solve.py", 0.01): "share of extraction worth a warning",
    ("extraction/circuit_levels.py", 0.2): "how far a coarser circuit is solved",
    ("chromatography/displacement_result.py", 400): "points of a profile",
    ("extraction/shortcut.py", 200): "halvings of an interval",
    ("plant/circuit_search.py", 40): "rounds of a search",
    ("plant/compare/results.py", 20): "draws of which 5 and 95 % mean something",
    ("plant/compare/members.py", 48): "plants of routes that take longest to compute",
    ("extraction/steered.py", 24): "most iterations of Newton's method",
    ("extraction/steered.py", 50.0): "unknowns beyond which nothing is looked at, ln",
    ("extraction/steered.py", 20.0): "flows beyond which nothing is looked at, ln",
    ("plant/circuit_trims.py", 16): "rounds of extraction and strip in turn",
    ("plant/circuit_trims.py", 0.9): "share of the first secant's denominator, at most",
    ("plant/circuit_strips.py", 0.3): "where a strip's acid is sought again, ln",
    ("plant/circuit_strips.py", 0.8): "where a strip's acid is sought again, ln",
    ("plant/circuit_search.py", 12): "points of a grid",
    ("plant/circuit_search.py", 0.375): "end of a row of first guesses",
    ("plant/circuit_search.py", 0.125): "end of a row of first guesses",
    ("plant/circuit_search.py", 0.15): "a grid around a former answer",
    ("plant/circuit_search.py", 0.05): "a grid around a former answer",
    ("plant/circuit_search.py", 0.02): "distance of grid points that may be interpolated",
    ("extraction/design.py", 40): "rounds of an iteration",
    ("extraction/design.py", 700): "largest exponent of a float",
}
# Modules that hold nothing but the coefficients of a published numerical method; their own tests
# check what defines them (order conditions).
TABLES: set[str] = set()
# Layout, not physics: figure sizes, column widths, colours.
PRESENTATION = {
    "plot",
    "plot_circuit",
    "plot_comparison",
    "plot_dynamic",
    "plot_isotherms",
    "plot_design",
    "plot_sweep",
    "report",
    "report_page",
    "report_words",
    "report_design",
    "report_fit",
    "report_curve",
    "plot_curve",
    "plot_column",
    "report_sweep",
    "cli",
    "targets",
    "terminal",
    "plot_displacement",
    "plot_elution",
}


def unexplained_numbers(path, tree):
    name = path.relative_to(PACKAGE).as_posix()
    shortened = {
        id(leaf)
        for node in ast.walk(tree)
        if isinstance(node, ast.Slice)
        for leaf in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float | complex):
            number = node.value
            if isinstance(number, bool) or id(node) in shortened or harmless(number):
                continue
            if (name, number) not in NUMBERS:
                yield f"{name}:{node.lineno}: {number!r}"


def harmless(number):
    """Small whole numbers, one half, three halves, powers of ten, powers of two."""
    if isinstance(number, complex):
        return number.real == 0 and abs(number.imag) <= 1
    if number == int(number) and (abs(number) <= 10 or int(abs(number)).bit_count() == 1):
        return True
    return abs(number) in (0.5, 1.5) or f"{abs(number):e}".startswith("1.000000e")


@pytest.mark.parametrize(
    "path",
    [
        p
        for p in FILES
        if room(p) not in PRESENTATION and p.relative_to(PACKAGE).as_posix() not in TABLES
    ],
    ids=lambda p: p.relative_to(PACKAGE).as_posix(),
)
def test_no_constant_of_nature_or_process_in_the_code(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not list(unexplained_numbers(path, tree)), (
        "a number somebody could argue about belongs into models/data with its source; a number of "
        "mathematics or layout into NUMBERS above, with the reason"
    )


def test_the_test_of_numbers_can_fail():
    tree = ast.parse("FARADAY = 96485.33\nx = 0.65 * y\nz = w[:80] + 1e-12 + 2 * 0.5")
    path = PACKAGE / "units.py"
    assert len(list(unexplained_numbers(path, tree))) == 2
