"""Built lanmodulin plants at other constants: alone, together, and at their own constants."""

import numpy as np
import pytest

from sepmodel import sampling
from sepmodel.chromatography import affinity, affinity_built
from sepmodel.data import Book, load_set
from sepmodel.errors import InfeasibleError
from sepmodel.products import Product

FEED = {"Nd": 0.70, "Pr": 0.2, "Gd": 0.03, "Dy": 0.06, "Tb": 0.01}
HEAVY = Product(name="heavy", elements=("Tb", "Dy"), purity=0.08, recovery=0.97)
LIGHT = Product(name="light", elements=("Pr", "Nd"), purity=0.7, recovery=0.5)
EACH = tuple(
    Product(name=e, elements=(e,), purity=0.5, recovery=r)
    for e, r in (("Tb", 0.98), ("Dy", 0.98), ("Nd", 0.999))
)


def asks(book, feed=FEED, pair=(HEAVY, LIGHT), each=EACH):
    return affinity_built.AskedColumns(
        feed=feed,
        products=pair,
        each=each,
        book=book,
        protein="lanmodulin-mex",
        buffer="acetate",
        feed_conc=200.0,
        feed_pH=3.0,
    )


def designed(pair=(HEAVY, LIGHT), each=EACH):
    return affinity.design(FEED, pair, Book(), each=each, feed_conc=200.0, feed_pH=3.0)


@pytest.fixture(scope="module")
def drawn():
    """Twelve sets of the protein's and the column's constants."""
    constants = {
        f"{name}:{key}": constant
        for name in ("proteins/lanmodulin-mex", "proteins/lanmodulin-column")
        for key, constant in load_set(name).items()
        if constant.si_range[0] < constant.si_range[1]
    }
    found = sampling.members(constants, 12, seed=3)
    return [Book({k: float(v[i]) for k, v in found.items()}) for i in range(12)]


@pytest.fixture(scope="module")
def built():
    return affinity_built.BuiltColumns(designed())


@pytest.fixture(scope="module")
def together(built, drawn):
    return built.solve([asks(book) for book in drawn])


def figures(plan):
    column = plan.columns[0]
    return np.array(
        [
            plan.column_volume,
            plan.reagents["HCl"],
            plan.reagents["NaOH"],
            plan.reagents["acetate"],
            plan.water,
            column.elution_volume,
            column.elution_pH,
            *plan.brought.values(),
            *column.eluate.values(),
            *column.strip.values(),
        ]
    )


def test_a_plant_alone_is_itself_among_others(built, drawn, together):
    for book, mate in zip(drawn[:4], together[:4], strict=True):
        (alone,) = built.solve([asks(book)])
        assert type(alone) is type(mate)
        if isinstance(mate, affinity.AffinityDesign):
            np.testing.assert_allclose(figures(alone), figures(mate), rtol=1e-10, atol=1e-15)
    turned = built.solve([asks(book) for book in drawn[::-1]])[::-1]
    for one, other in zip(turned, together, strict=True):
        if isinstance(one, affinity.AffinityDesign):
            np.testing.assert_allclose(figures(one), figures(other), rtol=1e-10, atol=1e-15)


def test_plants_that_run_bring_what_is_asked_and_close(together):
    plans = [p for p in together if isinstance(p, affinity.AffinityDesign)]
    assert len(plans) > 8
    for plan in plans:
        for product in EACH:
            assert plan.brought[product.name] >= product.recovery - 1e-9
        for element, amount in FEED.items():
            total = sum(pool.moles.get(element, 0.0) for pool in plan.pools.values())
            assert total == pytest.approx(amount, rel=1e-12)


def test_a_plant_at_its_own_constants_is_the_design(built):
    (same,) = built.solve([asks(Book())])
    plan = built.design
    np.testing.assert_allclose(figures(same), figures(plan), rtol=2e-2, atol=2e-3)
    assert same.columns[0].load_fraction == plan.columns[0].load_fraction


def test_what_cannot_be_done_is_refused_and_leaves_the_others(built):
    wild = Book({"proteins/lanmodulin-mex:K-ratio-Tb": 1.0})
    iron = asks(Book(), {**FEED, "Fe": 2.0})
    one, two, three = built.solve([asks(wild), asks(Book()), iron])
    assert isinstance(one, InfeasibleError)
    assert "Tb brought" in one.nearest
    assert isinstance(two, affinity.AffinityDesign)
    assert isinstance(three, InfeasibleError)


def test_columns_in_series_stand():
    heavy = Product(name="heavy", elements=("Tb", "Dy"), purity=0.4, recovery=0.95)
    light = Product(name="light", elements=("Pr", "Nd"), purity=0.97, recovery=0.9)
    plan = designed((heavy, light), ())
    assert len(plan.columns) > 1
    series = affinity_built.BuiltColumns(plan)
    easier = {
        f"proteins/lanmodulin-column:{k}": v
        for k, v in (("dispersion-height", 0.005), ("cycles", 400.0))
    }
    pair = (heavy, light)
    found = series.solve([asks(Book(), pair=pair, each=()), asks(Book(easier), pair=pair, each=())])
    for one in found:
        assert isinstance(one, affinity.AffinityDesign)
        assert len(one.columns) == len(plan.columns)
        assert one.recovery["heavy"] >= 0.95
    (alone,) = series.solve([asks(Book(easier), pair=pair, each=())])
    assert alone.column_volume == pytest.approx(found[1].column_volume, rel=1e-10)
