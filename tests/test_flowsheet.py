"""The flowsheet engine: order, balances, reuse, refusals."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InputError
from sepmodel.plant import flowsheet
from sepmodel.plant.flowsheet import (
    Context,
    Link,
    Unit,
    UnitResult,
    evaluate,
    free_acid,
    liquor,
    order,
    reagent_ions,
    reagent_mass,
)
from sepmodel.products import Product

PRODUCTS = (Product(name="Nd", elements=("Nd",), purity=0.9, recovery=0.9),)


def context(**feed):
    return Context(products=PRODUCTS, feed=feed, effluent="discharge")


def link(source, target):
    return Link(source=tuple(source.split(".")), target=tuple(target.split(".")))


def split(share, key="elements:Nd"):
    """A unit that sends a share of everything to port Nd, the rest to port rest."""

    def operate(inlets, parameters, plant, book):
        assert book[key] > 0
        (stream,) = inlets.values()
        first, second = stream.split(share, share)
        return UnitResult(outlets={"Nd": first, "rest": second})

    return operate


def neutralise(inlets, parameters, plant, book):
    (stream,) = inlets.values()
    duties = {"NaOH": reagent_mass("NaOH", free_acid(stream))}
    moles = dict(zip(stream.names, stream.moles, strict=True))
    moles["Na"] = moles.get("Na", 0.0) + reagent_ions(duties)["Na"]
    return UnitResult(outlets={"out": liquor(moles, stream.flow)}, duties=duties)


FEED = liquor({"Nd": 2.0, "Cl": 7.0}, 1e-3)
UNITS = [Unit(id="b", operate=split(0.5)), Unit(id="a", operate=neutralise)]
LINKS = [link("feed.liquor", "a.in"), link("a.out", "b.in")]


def test_doctests():
    assert doctest.testmod(flowsheet).failed == 0


def test_units_run_in_the_order_of_their_links_and_balances_close():
    plant = evaluate(UNITS, LINKS, FEED, context(Nd=2.0), Book())
    assert list(plant.units) == ["a", "b"]
    assert set(plant.leaving) == {"b.Nd", "b.rest"}
    assert plant.leaving["b.Nd"]["Na"] == pytest.approx(0.5, rel=1e-12)
    assert set(plant.closure) == {"Nd", "Cl", "Na"}
    assert max(plant.closure.values()) < 1e-12
    assert plant.duties["NaOH"] == pytest.approx(0.039997, rel=1e-4)


@given(st.permutations(range(2)), st.permutations(range(2)))
def test_order_of_the_file_changes_nothing(units, links):
    plant = evaluate(
        [UNITS[k] for k in units], [LINKS[k] for k in links], FEED, context(Nd=2.0), Book()
    )
    assert plant.leaving["b.Nd"]["Nd"] == 1.0


def test_the_star_links_product_ports_only():
    units = [Unit(id="s", operate=split(0.25)), Unit(id="n", operate=neutralise)]
    plant = evaluate(
        units, [link("feed.liquor", "s.in"), link("s.*", "n.*")], FEED, context(Nd=2.0), Book()
    )
    assert set(plant.leaving) == {"s.rest", "n.out"}
    assert list(plant.units["n"].inlets) == ["Nd"]


def test_a_unit_that_loses_matter_is_found():
    def lossy(inlets, parameters, plant, book):
        return UnitResult(outlets={"out": next(iter(inlets.values())).scaled(1 - 1e-8)})

    with pytest.raises(ConvergenceError, match="balance of"):
        evaluate(
            [Unit(id="x", operate=lossy)],
            [link("feed.liquor", "x.in")],
            FEED,
            context(Nd=2.0),
            Book(),
        )


def test_a_reagent_that_does_not_arrive_is_found():
    def forgetful(inlets, parameters, plant, book):
        return UnitResult(outlets={"out": next(iter(inlets.values()))}, duties={"HCl": 1.0})

    with pytest.raises(ConvergenceError, match="balance of Cl"):
        evaluate(
            [Unit(id="x", operate=forgetful)],
            [link("feed.liquor", "x.in")],
            FEED,
            context(Nd=2.0),
            Book(),
        )


def test_circles_and_unknown_ports_are_refused():
    with pytest.raises(InputError, match="circle"):
        order(UNITS, [link("a.out", "b.in"), link("b.rest", "a.in")])
    with pytest.raises(InputError, match="no such outlet"):
        evaluate(UNITS, [LINKS[0], link("a.nowhere", "b.in")], FEED, context(Nd=2.0), Book())
    with pytest.raises(InputError, match="linked twice"):
        evaluate(
            [*UNITS, Unit(id="c", operate=neutralise)],
            [*LINKS, link("a.out", "c.in")],
            FEED,
            context(Nd=2.0),
            Book(),
        )


def test_only_what_depends_on_a_changed_constant_is_evaluated_anew():
    calls = []

    def counted(name, operate):
        def run(inlets, parameters, plant, book):
            calls.append(name)
            return operate(inlets, parameters, plant, book)

        return run

    units = [
        Unit(id="a", operate=counted("a", neutralise)),
        Unit(id="b", operate=counted("b", split(0.5, "elements:Nd"))),
    ]
    base = evaluate(units, LINKS, FEED, context(Nd=2.0), Book())
    calls.clear()
    again = evaluate(
        units,
        LINKS,
        FEED,
        context(Nd=2.0),
        Book(overrides={"elements:Nd": 2.0}),
        base=base,
        changed=frozenset(("elements:Nd",)),
    )
    assert calls == ["b"]
    assert again.units["a"] is base.units["a"]
    assert np.array_equal(again.leaving["b.Nd"].moles, base.leaving["b.Nd"].moles)
