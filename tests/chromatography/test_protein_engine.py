"""Designed lanmodulin plants on the engine, and the best column the engine allows."""

from dataclasses import replace

import numpy as np
import pytest

from sepmodel.chromatography import affinity, protein_engine, stages
from sepmodel.chromatography.binding import pair_law
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.products import Product

FEED = {"Nd": 0.75, "Pr": 0.18, "Dy": 0.07}
HEAVY = Product(name="heavy", elements=("Dy",), purity=0.1, recovery=0.9)
LIGHT = Product(name="light", elements=("Nd", "Pr"), purity=0.7, recovery=0.7)


def test_transport_confirms_a_buffered_plant():
    heavy = Product(name="heavy", elements=("Dy",), purity=0.1, recovery=0.98)
    each = (Product(name="Dy", elements=("Dy",), purity=0.5, recovery=0.985),)
    plan = affinity.design(FEED, (heavy, LIGHT), Book(), each=each)
    found = protein_engine.confirm(plan, FEED, Book(), cells=24)
    assert found.closure < 1e-9
    assert found.purity["heavy"][1] == plan.purity["heavy"]
    (one,) = found.columns
    for e in FEED:
        assert one.eluted[e] + one.stripped[e] + one.lost[e] == pytest.approx(1.0)
    assert found.meets
    assert found.brought["Dy"][0] >= 0.985
    assert found.difference < 0.02
    # The load stays where heavy metals bind; without its buffer it would not.
    assert one.lost["Dy"] < 1e-3
    unheld = replace(plan, buffer="", columns=tuple(replace(c, buffer=0.0) for c in plan.columns))
    bare = protein_engine.confirm(unheld, FEED, Book(), cells=24)
    assert bare.columns[0].lost["Dy"] > 0.1
    assert not bare.meets


def test_transport_confirms_a_dilute_plant():
    plan = affinity.design(FEED, (HEAVY, LIGHT), Book(), buffer="")
    found = protein_engine.confirm(plan, FEED, Book(), cells=24)
    assert found.meets
    assert found.difference < 0.04


@pytest.mark.slow
@pytest.mark.parametrize(
    ("conc", "load", "elution", "buffer"),
    [
        (10.0, 0.5, 2.0, True),
        (10.0, 0.9, 2.0, True),
        (10.0, 0.75, 2.2, True),
        (5.0, 0.75, 2.1, True),
        (0.5, 0.5, 2.1, False),
        (1.0, 0.25, 2.3, False),
    ],
)
def test_stages_with_protons_do_what_transport_does(conc, load, elution, buffer):
    """At the volume that elutes 95 % of Dy by the stages: every share within 0.03."""
    book = Book()
    run = stages.operation(book, protons=True)
    names = tuple(FEED)
    bed = affinity.bed_of(pair_law(names, book), run, book, "acetate" if buffer else "", conc)
    shares = np.array(list(FEED.values()))
    cycles = bed.cycles(*(np.array([v]) for v in (shares, load, elution, conc)))
    fed = shares * load * bed.law.capacity
    eluted = cycles.eluate[0] / fed
    at = int(np.argmax(eluted[:, -1] > 0.95))
    column = affinity.AffinityColumn(
        load_fraction=load,
        elution_pH=elution,
        elution_volume=float(cycles.volumes[0, at]),
        buffer=bed.ratio * conc,
        plates=run.plates,
        volume=1.0,
        cycle_time=1.0,
        feed=dict(zip(names, shares, strict=True)),
        eluate={},
        strip={},
        effluent={},
        load_flow=1 / conc,
        eluate_flow=1.0,
        strip_flow=1.0,
    )
    run = replace(run, load_pH=bed.pH)
    found = protein_engine._cycle(
        column, names, shares, run, "lanmodulin-mex", book, "acetate" if buffer else "", 60
    )
    np.testing.assert_allclose(eluted[at], found[0], atol=0.03)
    np.testing.assert_allclose(cycles.lost[0] / fed, found[2], atol=0.03)


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
