"""Designed lanmodulin plants on the engine, and the best column the engine allows."""

import numpy as np
import pytest

from sepmodel.chromatography import affinity, protein_engine
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.products import Product

FEED = {"Nd": 0.75, "Pr": 0.18, "Dy": 0.07}
HEAVY = Product(name="heavy", elements=("Dy",), purity=0.1, recovery=0.9)
LIGHT = Product(name="light", elements=("Nd", "Pr"), purity=0.7, recovery=0.7)


def test_a_design_is_confirmed_or_contradicted_with_its_difference():
    plan = affinity.design(FEED, (HEAVY, LIGHT), Book())
    found = protein_engine.confirm(plan, FEED, Book(), cells=24)
    assert found.closure < 1e-9
    assert found.purity["heavy"][1] == plan.purity["heavy"]
    (one,) = found.columns
    for e in FEED:
        assert one.eluted[e] + one.stripped[e] + one.lost[e] == pytest.approx(1.0)
    # A feed of 10 mmol/L acidifies its own load: heavy metal is lost that the stages keep.
    assert one.lost["Dy"] > 0.1
    assert one.column.effluent["Dy"] < 0.01 * one.column.feed["Dy"]
    assert not found.meets
    assert found.difference > 0.1


def test_a_buffer_that_holds_the_loading_pH_confirms_the_design():
    heavy = Product(name="heavy", elements=("Dy",), purity=0.1, recovery=0.993)
    plan = affinity.design(FEED, (heavy, LIGHT), Book())
    found = protein_engine.confirm(
        plan, FEED, Book(), buffer={"acetate": 60.0}, load_pH=5.0, cells=24
    )
    assert found.columns[0].lost["Dy"] < 1e-3
    assert found.difference < 0.05
    assert found.closure < 1e-9


def test_a_dilute_lightly_loaded_column_meets_what_the_engine_says_it_can():
    best = protein_engine.best_column(
        FEED, (HEAVY, LIGHT), Book(), concs=(0.5,), loads=(0.25,), cells=24
    )
    assert best.purity["heavy"] >= 0.1
    assert best.recovery["heavy"] >= 0.9
    assert best.purity["light"] >= 0.7
    assert best.recovery["light"] >= 0.7
    # Eluate, strip and what broke through are all that was fed.
    amounts = best.eluate * best.volume + best.strip * 3.9
    assert amounts <= best.load * 5.77 * (1 + 1e-9)
    assert best.productivity == pytest.approx(best.load * 5.77 / best.cycle_time)


def test_no_column_gives_what_the_protein_cannot():
    nd = Product(name="nd", elements=("Nd",), purity=0.99, recovery=0.95)
    pr = Product(name="pr", elements=("Pr",), purity=0.99, recovery=0.95)
    with pytest.raises(InfeasibleError) as caught:
        protein_engine.best_column(
            {"Nd": 0.5, "Pr": 0.5}, (pr, nd), Book(), concs=(0.5,), loads=(0.25,), cells=16
        )
    assert caught.value.nearest["nd purity"] < 0.9
    assert np.isfinite(list(caught.value.nearest.values())).all()
