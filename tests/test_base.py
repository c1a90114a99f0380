"""Units, data records, species and streams: the edges of every calculation."""

import doctest
import importlib
import os
import pickle
import re
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

from sepmodel import balance, data, errors, products, species, stream, units
from sepmodel.errors import ConvergenceError, InputError, SepmodelError
from sepmodel.processes import helpers, processors, shared_out

MODULES = ["units", "species", "products", "stream", "balance", "data", "feed", "provenance"]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples(name):
    module = importlib.import_module(f"sepmodel.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("text", "expected", "value"),
    [
        ("1.5 mol/L", "mol/m^3", 1500.0),
        ("1.5 M", "mol/m^3", 1500.0),
        ("6 L/h", "m^3/s", 6e-3 / 3600),
        ("25 degC", "K", 298.15),
        ("1e3 t_REO/year", "kg_REO/s", 1e6 / 31557600.0),
        ("0.0804 USD2023/kWh", "USD2023/J", 0.0804 / 3.6e6),
        ("5.77 umol/mL", "mol/m^3", 5.77),
        ("2 kg*m^2/s", "kg*m**2/s", 2.0),
    ],
)
def test_quantities_become_si(text, expected, value):
    assert units.si(text, expected) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7 pH", "mol/m^3"),
        ("5 vol%", "1"),
        ("10**10**10", "m"),
        ("1 m**999999999", "m"),
        ("9" * 500, "m"),
        ("1 " + "(" * 90, "m"),
        ("1 __import__('os')", "m"),
        ("5 kg", "m^3"),
        ("5", "m^3"),
        ("nan m", "m"),
        ("inf m", "m"),
        ("1 USD2019/kg", "USD2025/kg"),
        ("1 kg", "kg_REO"),
        ("m", "m"),
        ("", "m"),
    ],
)
def test_wrong_quantities_are_refused_at_once(text, expected):
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        units.si(text, expected, file="case.toml", key="inlet.flow")
    assert time.perf_counter() - start < 2
    assert caught.value.problems[0].key == "inlet.flow"


def test_a_book_records_what_was_read_and_takes_overrides():
    book = data.Book({"elements:Nd": 1.0})
    assert book["elements:Nd"] == 1.0
    assert book["elements:Pr"] == pytest.approx(0.14090766)
    assert set(book.used) == {"elements:Nd", "elements:Pr"}
    with pytest.raises(InputError, match="no such constant"):
        book["elements:Xx"]
    with pytest.raises(InputError, match="no such data set"):
        book["elementz:Nd"]
    with pytest.raises(InputError, match="no such constant"):
        data.Book({"elements:Xx": 1.0})
    varied = book.with_values({"elements:Pr": 2.0})
    assert (varied["elements:Nd"], varied["elements:Pr"], list(book.used)) == (
        1.0,
        2.0,
        ["elements:Nd", "elements:Pr"],
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": ""}, "missing source"),
        ({"class": "guess"}, "class"),
        ({"class": "estimated"}, "needs a range"),
        ({"distribution": "normal"}, "range goes with"),
        ({"colour": "red"}, "unknown field"),
        ({"value": "nan"}, "not finite"),
        ({"low": 2.0, "high": 3.0, "distribution": "uniform"}, "outside its range"),
        ({"unit": "furlongs_per_pint"}, "unknown unit"),
    ],
)
def test_a_constant_without_its_provenance_is_refused(change, message):
    good = {
        "value": 1.0,
        "unit": "1",
        "basis": "b",
        "source": "s",
        "locator": "l",
        "conditions": "c",
        "class": "measured",
        "distribution": "not stated",
    }
    data._constant("x:y", good)
    with pytest.raises(ValueError, match=message):
        data._constant("x:y", {**good, **change})


def test_oxide_factors_agree_with_the_published_ones():
    # Oxide mass per metal mass; data-independent check against widely used conversion factors.
    for element, factor in {"Nd": 1.1664, "Pr": 1.2082, "Dy": 1.1477, "Tb": 1.1762}.items():
        ratio = species.oxide_mass_per_mole(element) / species.molar_mass(element)
        assert ratio == pytest.approx(factor, abs=6e-5)


@pytest.mark.parametrize("formula", ["Nd2(", "2Nd", "Nd)", "", "nd", "Nd2O3)("])
def test_nonsense_formulas_are_refused(formula):
    with pytest.raises(InputError):
        species.molar_mass(formula)


def test_mixing_and_splitting_conserve():
    a = stream.Stream(names=("Nd", "Pr"), flow=1e-3, moles=np.array([0.3, 0.1]))
    b = stream.Stream(names=("Pr", "Dy"), flow=2e-3, moles=np.array([0.2, 0.05]))
    m = stream.mix([a, b])
    assert m.names == ("Nd", "Pr", "Dy")
    assert m["Pr"] == pytest.approx(0.3)
    first, second = m.split({"Nd": 0.9}, 0.5)
    assert first["Nd"] + second["Nd"] == pytest.approx(m["Nd"])
    assert second["Pr"] == pytest.approx(m["Pr"])
    with pytest.raises(InputError, match="negative"):
        stream.Stream(names=("Nd",), flow=1.0, moles=np.array([-1.0]))


def test_shortfalls_name_what_is_missed():
    spec = products.Product(
        name="NdPr",
        elements=("Nd", "Pr"),
        purity=0.995,
        recovery=0.98,
        window={"Nd:Pr": (2.0, 6.0)},
    )
    feed = {"Nd": 3.0, "Pr": 1.0, "Dy": 0.1}
    assert products.shortfalls(spec, {"Nd": 2.97, "Pr": 0.99, "Dy": 1e-4}, feed) == {}
    missed = products.shortfalls(spec, {"Nd": 2.97, "Pr": 0.2, "Dy": 0.1}, feed)
    assert set(missed) == {"purity", "recovery", "Nd:Pr mole ratio"}
    masses = {e: n * species.oxide_mass_per_mole(e) for e, n in feed.items()}
    assert products.purity(feed, ["Dy"]) == pytest.approx(masses["Dy"] / sum(masses.values()))
    with pytest.raises(InputError, match="purity of product"):
        products.Product(name="x", elements=("Nd",), purity=1.2, recovery=0.9)


@pytest.mark.parametrize(
    "error",
    [
        errors.InputError(errors.Problem(message="no", key="a", value=1)),
        errors.InfeasibleError("no", limit={"scrub": 1.0}, nearest={"purity": 0.9}),
        errors.ConvergenceError("no", trace=errors.Trace(stage=3, history=(1.0, 0.5))),
    ],
)
def test_errors_travel_between_processes(error):
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert copied.__dict__ == error.__dict__


def test_what_is_no_number_does_not_close():
    nothing = float("nan")
    open_by = balance.molar_closure([{"Nd": nothing, "Pr": 1.0}], [{"Nd": 1.0, "Pr": 1.0}])
    assert open_by["Pr"] == 0.0
    with pytest.raises(ConvergenceError, match="balance of Nd"):
        balance.require(open_by, 1e-9, "the toy")
    with pytest.raises(ConvergenceError, match="balance of b"):
        balance.require({"a": 0.0, "b": nothing}, 1e-9, "the toy")


def test_the_table_of_common_units_is_what_the_registry_says():
    for unit, (value, kind) in units._common().items():
        assert units._parsed(unit) == (pytest.approx(value, rel=1e-14), kind), unit
    assert units._parsed("furlong/fortnight")[1] == units._factor("m/s")[1]


def test_every_unit_of_the_shipped_data_is_in_the_table():
    """A missing one is no error, only slow: add what ``units._parsed`` says of it to units.json."""
    root = data.models_dir()
    texts = [p.read_text(encoding="utf-8") for p in sorted((root / "data").rglob("*.toml"))]
    found = {unit for text in texts for unit in re.findall(r'^unit = "([^"]+)"', text, re.M)}
    assert len(found) > 50
    assert not found - units._common().keys() - {"degC"}


def grow(bag, number):
    """What the bag held, after which it holds more."""
    held = len(bag)
    bag.update({(number, k): k for k in range(50_000)})
    return number, held


def test_work_is_shared_out_as_it_stands_in_the_beginning():
    """Whoever does it, in the order it was asked; what this process does to it stays here."""
    found = shared_out(partial(grow, {}), [0, 1], workers=2)
    assert found == [(0, 0), (1, 0)]
    pairs = [divmod(n, 7) for n in range(9)]
    assert shared_out(divmod_7, range(9), workers=1) == pairs
    assert shared_out(divmod_7, range(9), workers=3, quick=True) == pairs


def test_a_helper_that_dies_is_an_error():
    with pytest.raises(SepmodelError, match="died"), helpers(1) as pool:
        pool.submit(os._exit, 9).result()


LONELY = """
import os, time
from sepmodel.processes import helpers
with helpers(2) as pool:
    print(*{pool.submit(os.getpid).result() for _ in range(8)}, flush=True)
    pool.submit(time.sleep, 60)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_helpers_end_with_whom_they_help():
    driver = subprocess.Popen([sys.executable, "-c", LONELY], stdout=subprocess.PIPE)
    helped = [int(pid) for pid in driver.stdout.readline().split()]
    assert helped
    driver.kill()
    # They hold its stdout: it ends with the last of them.
    assert driver.communicate(timeout=20)[0] == b""


def divmod_7(number):
    return divmod(number, 7)


def test_a_containers_share_of_the_processors_counts(tmp_path):
    all_of_them = processors(tmp_path)
    assert all_of_them >= 1
    for said, count in (("max 100000", all_of_them), ("50000 100000", 1), ("word", all_of_them)):
        (tmp_path / "cpu.max").write_text(said)
        assert processors(tmp_path) == count
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    for said, count in (("-1", all_of_them), ("80000", 1)):
        (tmp_path / "cpu/cpu.cfs_quota_us").write_text(said)
        assert processors(tmp_path) == count
