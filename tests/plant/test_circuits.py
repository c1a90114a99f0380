"""Circuits of a plant by mass action: they do what the design asks, and their books close."""

import doctest
from dataclasses import replace

import pytest

from sepmodel.data import Book
from sepmodel.plant import circuit_search, circuits, train
from sepmodel.products import Product

FEED = {"Pr": 0.2, "Nd": 0.7, "Tb": 0.02, "Dy": 0.08}
SLATE = [
    Product(name="NdPr", elements=("Nd", "Pr"), purity=0.995, recovery=0.98),
    Product(name="TbDy", elements=("Tb", "Dy"), purity=0.99, recovery=0.95),
]


def constants(**changes):
    found = circuits.chemistry(
        tuple(FEED),
        Book(),
        factor_set="separation_factors/pc88a-hcl",
        constants="extractants/li1987-pc88a-ideal",
        level="Nd",
        extractant="extractants/pc88a",
        process="process/extraction",
    )
    return replace(found, **changes)


@pytest.fixture(scope="module")
def task():
    designed = train.design_train(FEED, SLATE, Book()).circuits[0]
    d = designed.design
    return circuits.Task(
        name=designed.name,
        light=d.light,
        feed=FEED,
        flow=1e-3,
        acid=0.0,
        stages=(d.stages_extraction, d.stages_scrub, designed.stages_strip),
        solvent=d.solvent,
        scrub=d.scrub,
        down=sum(n for e, n in d.raffinate.items() if e not in d.light),
        up=sum(n for e, n in d.organic.items() if e in d.light),
    )


@pytest.fixture(scope="module")
def solved(task):
    return circuit_search.run(task, constants())


def strayed(circuit):
    return (
        sum(circuit.raffinate[e] for e in ("Tb", "Dy")),
        sum(circuit.product[e] for e in ("Pr", "Nd")),
    )


def test_doctests():
    assert doctest.testmod(circuits).failed == 0


def test_both_ends_are_what_the_design_allows(task, solved):
    assert solved.missed == (1.0, 1.0)
    heavy, light = strayed(solved)
    assert heavy == pytest.approx(task.down, rel=2e-3)
    assert light == pytest.approx(task.up, rel=2e-3)


def test_every_element_and_the_acid_leave_again(solved):
    for element, fed in FEED.items():
        left = solved.raffinate[element] + solved.product[element]
        assert left == pytest.approx(fed, rel=1e-9)
    # Acid bought is base taken up, or free acid that leaves: rare earths come and go as chloride.
    free = solved.raffinate_acid + solved.product_acid
    assert solved.acid + solved.acid_fed == pytest.approx(solved.base + free, rel=1e-7)


def test_acid_fed_is_neutralised_to_what_the_circuit_takes(task):
    sour = circuit_search.run(replace(task, acid=0.5), constants())
    kept = constants().feed_acid * task.flow
    assert sour.base_feed == pytest.approx(0.5 - kept, rel=1e-9)
    assert strayed(sour)[0] == pytest.approx(task.down, rel=2e-3)


def test_the_scale_of_a_plant_changes_nothing(task, solved):
    many = 37.0
    bigger = circuit_search.run(
        replace(
            task,
            feed={e: n * many for e, n in task.feed.items()},
            **{k: getattr(task, k) * many for k in ("flow", "solvent", "scrub", "down", "up")},
        ),
        constants(),
    )
    assert bigger.acid == pytest.approx(solved.scaled(many).acid, rel=1e-6)
    assert bigger.flow_org == pytest.approx(solved.scaled(many).flow_org, rel=1e-6)


def test_a_neighbour_is_found_from_a_former_circuit(task, solved):
    again = circuit_search.run(task, constants(), solved.start)
    assert again.acid == pytest.approx(solved.acid, rel=1e-2)
    assert again.flow_org == pytest.approx(solved.flow_org, rel=1e-3)


def test_the_estimate_is_three_moles_a_pass():
    designed = train.design_train(FEED, SLATE, Book()).circuits[0]
    liquor = circuits.Liquor(moles=FEED, flow=1e-3, acid=0.0)
    plain = circuits.estimate(designed, liquor)
    assert plain.acid == pytest.approx(3 * designed.design.solvent)
    assert plain.base == pytest.approx(3 * designed.design.solvent)


def test_a_split_that_no_flow_reaches_is_told_and_not_hidden(task):
    poor = replace(task, stages=(2, 1, task.stages[2]), down=task.down * 1e-30)
    found = circuit_search.run(poor, constants())
    assert max(found.missed) > 1.5
