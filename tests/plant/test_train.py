"""Trains of circuits: products on specification, balances, and what must not change them."""

import doctest

import pytest

from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.extraction.design import Weights
from sepmodel.plant import train
from sepmodel.plant.train import design_train
from sepmodel.products import Product

FEED = {"La": 0.2, "Ce": 0.1, "Pr": 2.0, "Nd": 7.0, "Gd": 0.1, "Tb": 0.05, "Dy": 0.4, "Ho": 0.05}
HEAVY = [
    Product(name="Dy", elements=("Dy",), purity=0.995, recovery=0.95),
    Product(name="Tb", elements=("Tb",), purity=0.995, recovery=0.95),
]
MAGNET = [Product(name="NdPr", elements=("Nd", "Pr"), purity=0.995, recovery=0.98), *HEAVY]
SINGLE = [
    Product(name="Nd", elements=("Nd",), purity=0.995, recovery=0.98),
    Product(name="Pr", elements=("Pr",), purity=0.995, recovery=0.98),
    *HEAVY,
]


def test_docstring_examples():
    result = doctest.testmod(train)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.fixture(scope="module")
def magnet():
    return design_train(FEED, MAGNET, Book())


@pytest.mark.parametrize("slate", [MAGNET, SINGLE], ids=["NdPr", "Nd and Pr"])
def test_products_meet_their_specifications_and_nothing_is_lost(slate):
    found = design_train(FEED, slate, Book())
    for product in slate:
        assert found.purity[product.name] >= product.purity
        assert found.recovery[product.name] >= product.recovery
        assert found.missed[product.name] == {}
    assert max(found.closure.values()) < 1e-9
    assert {"La-Ce", "Gd", "Ho"} < set(found.outlets)
    assert found.acid == pytest.approx(3 * found.solvent)
    assert found.base == pytest.approx(3 * found.solvent)
    assert len(found.circuits) == len(found.outlets) - 1
    # Every circuit hands its streams to a circuit that exists, or to an outlet.
    names = set(found.sequence) | set(found.outlets)
    assert {to for c in found.circuits for to in (c.raffinate_to, c.organic_to)} <= names


def test_splitting_nd_from_pr_is_the_hard_cut(magnet):
    single = design_train(FEED, SINGLE, Book())
    assert "Pr|Nd" in single.sequence
    assert single.solvent > 2 * magnet.solvent
    assert max(single.circuits, key=lambda c: c.design.phi).name == "Pr|Nd"


def test_a_doubled_feed_doubles_every_flow(magnet):
    double = design_train({e: 2 * f for e, f in FEED.items()}, MAGNET, Book())
    assert double.sequence == magnet.sequence
    assert double.stages == magnet.stages
    assert double.solvent == pytest.approx(2 * magnet.solvent, rel=1e-9)
    for one, two in zip(magnet.circuits, double.circuits, strict=True):
        assert two.flow_org == pytest.approx(2 * one.flow_org, rel=1e-9)
        assert two.flow_aq == pytest.approx(2 * one.flow_aq, rel=1e-9)


def test_the_order_of_elements_and_products_changes_nothing(magnet):
    other = design_train(dict(reversed(FEED.items())), MAGNET[::-1], Book())
    assert other.sequence == magnet.sequence
    assert other.stages == magnet.stages
    for name, moles in magnet.outlets.items():
        assert dict(other.outlets[name]) == pytest.approx(dict(moles), rel=1e-12)


def test_tighter_products_never_need_fewer_stages(magnet):
    before = magnet.stages
    for purity in (0.999, 0.9999):
        slate = [
            Product(name=p.name, elements=p.elements, purity=purity, recovery=p.recovery)
            for p in MAGNET
        ]
        found = design_train(FEED, slate, Book(), sequence=magnet.sequence)
        assert found.stages > before
        before = found.stages


def test_a_smaller_separation_factor_costs_more(magnet):
    key = "separation_factors/pc88a-hcl:Dy/Tb"
    harder = design_train(FEED, MAGNET, Book({key: 1.8}), sequence=magnet.sequence)
    assert harder.phi > magnet.phi
    # Only the circuits that part these two elements, or see them, change.
    changed = {
        a.name
        for a, b in zip(magnet.circuits, harder.circuits, strict=True)
        if a.design.stages != b.design.stages
    }
    assert "Tb|Dy" in changed


def test_the_sequence_can_be_given_and_the_chosen_one_is_not_worse(magnet):
    given = design_train(
        FEED, MAGNET, Book(), sequence=["Ce|Pr", "Nd|Gd", "Gd|Tb", "Tb|Dy", "Dy|Ho"]
    )
    assert given.sequence[0] == "Ce|Pr"
    assert magnet.phi <= given.phi * 1.02
    with pytest.raises(InputError, match="every cut once"):
        design_train(FEED, MAGNET, Book(), sequence=["Ce|Pr"])


def test_every_constant_used_is_on_record():
    book = Book()
    design_train(FEED, MAGNET, book)
    used = {key.partition(":")[0] for key in book.used}
    assert used == {train.FACTORS, train.EXTRACTANT, train.CIRCUIT}
    assert f"{train.FACTORS}:Nd/Pr" in book.used


def test_scarce_by_products_need_no_circuit_of_their_own():
    feed = {"Pr": 2.0, "Nd": 7.0, "Sm": 1e-5, "Dy": 0.4, "Ho": 1e-6}
    found = design_train(feed, [MAGNET[0], HEAVY[0]], Book())
    assert len(found.circuits) == 1
    assert max(found.closure.values()) < 1e-9
    assert not any(found.missed.values())


def test_a_feed_that_is_a_product_already_needs_no_circuit():
    found = design_train({"Nd": 1.0, "Pr": 1.0}, [MAGNET[0]], Book())
    assert found.circuits == ()
    assert found.outlets == {"NdPr": {"Pr": 1.0, "Nd": 1.0}}
    assert found.missed == {"NdPr": {}}


def test_weights_trade_reagents_for_stages(magnet):
    thrifty = design_train(FEED, MAGNET, Book(), weights=Weights(inventory=0.0, solvent=1.0))
    assert thrifty.solvent < magnet.solvent
    assert thrifty.stages > magnet.stages


@pytest.mark.parametrize(
    ("feed", "slate"),
    [
        ({"Nd": 1.0, "Fe": 1.0}, [MAGNET[0]]),
        ({"Nd": 1.0, "Dy": -1.0}, [MAGNET[0]]),
        ({"Nd": 1.0, "Dy": 1.0}, [HEAVY[1]]),
        ({"Nd": 1.0, "Dy": 1.0}, []),
        (
            {"Nd": 1.0, "Gd": 1.0, "Dy": 1.0},
            [Product(name="x", elements=("Nd", "Dy"), purity=0.9, recovery=0.9)],
        ),
        (
            {"Nd": 1.0, "Dy": 1.0},
            [HEAVY[0], Product(name="y", elements=("Dy",), purity=0.9, recovery=0.9)],
        ),
    ],
)
def test_nonsense_is_refused(feed, slate):
    with pytest.raises(InputError):
        design_train(feed, slate, Book())


def test_inseparable_neighbours_are_infeasible():
    key = "separation_factors/pc88a-hcl:Dy/Tb"
    with pytest.raises(InfeasibleError):
        design_train(FEED, MAGNET, Book({key: 1.0}))
