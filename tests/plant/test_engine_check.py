"""The engine beside the shortcut: questions, answers, and what a reader of the comparison sees."""

import json
from dataclasses import asdict, replace

import pytest

from sepmodel import report, report_engine
from sepmodel.data import Book
from sepmodel.plant import compare as plant
from sepmodel.plant.engine_check import Check, Checked, from_dict, run_check
from sepmodel.products import Product
from sepmodel.run import compare
from sepmodel.study import engine_answers

PAIR = Check(
    kind="displacement",
    unit="columns",
    feed={"Nd": 0.75, "Pr": 0.25},
    products=tuple(Product(name=e, elements=(e,), purity=0.99, recovery=0.9) for e in ("Nd", "Pr")),
    options={"ligands": ("dtpa",), "presaturant": "Cu"},
    constants={},
    overrides={},
)


@pytest.fixture(scope="module")
def answer():
    return run_check(PAIR)


@pytest.fixture(scope="module")
def comparison():
    return compare("magnet-scrap", {"routes": ["displacement"]}, ranges=False)


def test_an_answer_holds_what_was_asked_designed_and_found(answer):
    assert answer.meets
    assert answer.difference < 0.01
    assert [p.name for p in answer.products] == ["Nd", "Pr"]
    for p in answer.products:
        assert p.purity_asked <= p.purity_engine <= 1
        assert p.recovery_asked <= p.recovery_engine <= 1
    again = json.loads(json.dumps(asdict(answer)))
    assert from_dict(again) == answer


def test_what_cannot_be_designed_says_why():
    heavy = replace(PAIR, options={"ligands": ("edta",), "presaturant": "Cu"})
    wild = [replace(p, purity=0.999999, recovery=0.9999) for p in PAIR.products]
    found = run_check(replace(heavy, products=tuple(wild)))
    assert found.failure
    assert not found.meets


def test_a_question_is_its_content():
    key = engine_answers.key(PAIR)
    assert key == engine_answers.key(replace(PAIR, unit="other"))
    assert key == engine_answers.key(replace(PAIR, feed={"Pr": 0.25, "Nd": 0.75 * (1 + 1e-12)}))
    for change in (
        {"feed": {"Nd": 0.74, "Pr": 0.26}},
        {"options": {"ligands": ("edta",), "presaturant": "Cu"}},
        {"constants": {"resins/strong-acid-x8:rate": 0.03}},
        {"products": PAIR.products[::-1]},
    ):
        assert key != engine_answers.key(replace(PAIR, **change))


def test_a_comparison_says_what_was_run(comparison, answer, monkeypatch, tmp_path):
    monkeypatch.setenv("SEPMODEL_CACHE", str(tmp_path))
    monkeypatch.setattr(engine_answers, "shipped_answers", dict)
    result = comparison.routes[0]
    (check,) = engine_answers.checks(comparison)["displacement"]
    used = Book()
    assert all(value == used[key] for key, value in check.constants.items())
    assert "ligands/dtpa:log-K-Nd" in check.constants

    silent = engine_answers.answered(comparison, run=False)
    assert report_engine.cell(silent, result) == "not run"
    assert plant.to_dict(silent)["routes"][0]["engine"] == "not run"
    assert "sepmodel compare --engine" in report.page(silent, {})

    asked = []
    monkeypatch.setattr(engine_answers, "run_check", lambda c: asked.append(c) or answer)
    run = engine_answers.answered(comparison, run=True)
    kept = engine_answers.answered(comparison, run=True)
    assert len(asked) == 1
    assert kept.engine["displacement"][0].origin == "kept"
    assert report_engine.cell(run, result) == "confirmed"
    assert "confirmed" in report.table(run)
    assert "computed now" in report.page(run, {})
    document = plant.to_dict(run)["routes"][0]["engine"][0]
    assert document["meets"]
    assert document["products"][0]["purity_engine"] == answer.products[0].purity_engine

    short = replace(answer.products[0], purity_engine=0.98)
    worse = replace(run, engine={"displacement": (replace(answer, products=(short,)),)})
    assert report_engine.cell(worse, result) == "short: Nd"
    failed = Checked(unit="columns", products=(), failure="no pool of Tb")
    broken = replace(run, engine={"displacement": (failed,)})
    assert report_engine.cell(broken, result) == "fails"
    assert "no pool of Tb" in " ".join(report_engine.shortfalls(broken))


def test_replaced_constants_of_the_columns_ask_another_question(comparison):
    name = "resins/displacement-operation:displacer-selectivity"
    moved = compare(
        "magnet-scrap", {"routes": ["displacement"]}, ranges=False, constants={name: 20.0}
    )
    (before,) = engine_answers.checks(comparison)["displacement"]
    (after,) = engine_answers.checks(moved)["displacement"]
    assert engine_answers.key(before) != engine_answers.key(after)


@pytest.mark.slow
def test_shipped_answers_are_the_engines(comparison):
    (check,) = engine_answers.checks(comparison)["displacement"]
    stored = from_dict(engine_answers.shipped_answers()[engine_answers.key(check)])
    found = run_check(check)
    for one, other in zip(stored.products, found.products, strict=True):
        assert one.purity_engine == pytest.approx(other.purity_engine, abs=1e-3)
        assert one.recovery_engine == pytest.approx(other.recovery_engine, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("study", ["magnet-scrap", "ion-adsorption-clay", "deep-sea-mud"])
def test_shipped_answers_confirm_the_protein_columns(study):
    """Stages with protons and the transport engine: every recovery within 0.02, nothing short."""
    found = compare(study, {"routes": ["protein"]}, ranges=False)
    (check,) = engine_answers.checks(found)["protein"]
    stored = from_dict(engine_answers.shipped_answers()[engine_answers.key(check)])
    fresh = run_check(check)
    assert stored.meets
    assert fresh.meets
    assert fresh.difference < 0.02
    for one, other in zip(stored.products, fresh.products, strict=True):
        assert one.recovery_engine == pytest.approx(other.recovery_engine, abs=2e-3)


def test_a_shipped_answer_confirms_the_default_protein_columns():
    found = compare("magnet-scrap", {"routes": ["protein"]}, ranges=False)
    (check,) = engine_answers.checks(found)["protein"]
    stored = from_dict(engine_answers.shipped_answers()[engine_answers.key(check)])
    assert stored.meets
    assert stored.difference < 0.02
    assert {p.name for p in stored.products} == {"heavy", "light", "NdPr", "Dy", "Tb"}
