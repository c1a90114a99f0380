"""No number without a source: every key the code names exists, every constant used says who."""

import ast
import functools
from pathlib import Path

import pytest

import sepmodel
from sepmodel import data, feed, provenance, run
from sepmodel.finishing import calcination, electrolysis
from sepmodel.plant import economics, equipment, impacts, train
from sepmodel.products import Product

PACKAGE = Path(__file__).parents[1] / "sepmodel"
FILES = sorted(PACKAGE.rglob("*.py"))


def text_of(node, names):
    """The string a node stands for when its parts are literals and module constants, else None."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value, names)
    if isinstance(node, ast.JoinedStr):
        parts = [text_of(part, names) for part in node.values]
        return None if None in parts else "".join(parts)
    return None


def keys_named(path):
    """Every ``set:name`` that a module spells out, directly or through its own constants."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(node.value.value, str)
    }
    sets = set(data.set_ids())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            text = text_of(node, names)
            if (
                text
                and "\n" not in text
                and data.split_key(text)[0] in sets
                and len(text.partition(":")[2]) > 1
            ):
                yield text


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_every_key_the_code_spells_out_exists(path):
    book = data.Book()
    assert [key for key in keys_named(path) if key not in book] == []


def test_some_keys_are_spelled_out_so_that_the_test_above_means_something():
    assert sum(1 for path in FILES for _ in keys_named(path)) > 50


def cascade_case(book):
    return run("nd-pr").used


def default_feed(book):
    feed.read("magnet-scrap", book).liquor(feed.parse_rate("1000 t_REO/year"))
    return book.used


def oxide_by_oxalate(book):
    calcination.to_oxide({"Nd": 1.0, "Pr": 0.3, "H": 0.1}, 1e-3, book)
    return book.used


def whole_plant_of_nothing_but_acid(book):
    items = equipment.mixer_settlers(40, 1e-3, 1e-3, book).items
    economics.annual_cost({"HCl": 1.0, "power": 1e5}, items, 0.03, book, maturity="sx")
    impacts.assess({"HCl": 1.0, "power": 1e5}, book)
    return book.used


def metal_by_electrolysis(book):
    electrolysis.cell("Nd", book)
    return book.used


def extraction_train(book):
    slate = [
        Product(name=name, elements=elements, purity=0.99, recovery=0.9)
        for name, elements in (("light", ("La", "Nd")), ("heavy", ("Dy",)))
    ]
    train.design_train({"La": 0.2, "Nd": 1.0, "Dy": 0.1}, slate, book)
    return book.used


COMPUTATIONS = [
    cascade_case,
    extraction_train,
    default_feed,
    oxide_by_oxalate,
    whole_plant_of_nothing_but_acid,
    metal_by_electrolysis,
]


@functools.lru_cache
def known_sources():
    return data.sources()


def check_evidence(used):
    assert used
    for key, constant in used.items():
        assert constant.key == key
        source = known_sources()[constant.source]
        assert source.citation
        assert constant.locator
        assert constant.conditions
        assert constant.unit
        assert constant.provenance in data.CLASSES
        assert constant.provenance != "estimated" or constant.low is not None, key
    listed = [number for entry in data.evidence(used) for number in entry["numbers"]]
    assert sorted(listed) == sorted(used)
    document = provenance.used_document(used)
    assert document["count"] == len(used)


@pytest.mark.parametrize("computation", COMPUTATIONS, ids=lambda c: c.__name__)
def test_every_constant_a_computation_used_says_who_where_and_how_sure(computation):
    check_evidence(computation(data.Book()))


DEFAULT_STUDIES = sorted((data.models_dir() / "studies").glob("magnet-scrap.toml"))


@pytest.mark.parametrize("study", DEFAULT_STUDIES, ids=lambda path: path.stem)
def test_every_constant_of_the_default_comparison_says_who_where_and_how_sure(study):
    comparison = sepmodel.compare(study.stem, ranges=False)
    used = {key: c for route in comparison.routes for key, c in route.used.items()}
    assert {route.route.name for route in comparison.routes if route.used} == {
        route.route.name for route in comparison.routes
    }
    assert len(used) > 100
    check_evidence(used)
