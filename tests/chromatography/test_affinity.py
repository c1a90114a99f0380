"""Lanmodulin columns: the pair law, cells in series, and the group split."""

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepmodel.chromatography import affinity, binding, stages
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.products import Product

NAMES = ("La", "Ce", "Pr", "Nd", "Gd", "Tb", "Dy", "Ho")
FEED = {"Nd": 0.7, "Pr": 0.2, "Dy": 0.05, "Tb": 0.012, "Gd": 0.015, "Ho": 0.003, "La": 0.01}
FEED |= {"Ce": 0.01, "Ca": 0.1, "Fe": 0.001}
HEAVY = Product(name="heavy", elements=("Tb", "Dy", "Ho"), purity=0.3, recovery=0.95)
LIGHT = Product(name="light", elements=("Ce", "Pr", "Nd"), purity=0.97, recovery=0.8)


@pytest.fixture(scope="module")
def law():
    return binding.pair_law(NAMES, Book())


@pytest.fixture(scope="module")
def plant():
    return affinity.design(FEED, (HEAVY, LIGHT), Book())


@pytest.mark.parametrize("name", ["binding", "stages", "affinity", "results", "proton_stages"])
def test_docstring_examples(name):
    module = importlib.import_module(f"sepmodel.chromatography.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_bound_metals_against_a_direct_sum_over_pairs(law):
    rng = np.random.default_rng(1)
    conc = 10 ** rng.uniform(-6, 1, len(NAMES))
    f = (1 + 10 ** (law.pKa - 2.6)) ** -law.exponent
    a = conc / 1000
    k = np.exp(law.log_k)
    z, q = 1.0, np.zeros(len(NAMES))
    for i in range(len(NAMES)):
        for j in range(i + 1):
            pair = f * (1 if i == j else law.kappa[i, j]) * np.sqrt(k[i] * k[j]) * a[i] * a[j]
            z += pair
            q[i] += pair
            q[j] += pair
    np.testing.assert_allclose(binding.bound(conc, 2.6, law), law.capacity / 2 * q / z, rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 20), min_size=8, max_size=8).filter(lambda v: sum(v) > 1e-6),
    st.floats(1.0, 7.0),
)
def test_cells_settle_and_hold_what_they_hold(total, pH):
    law = binding.pair_law(NAMES, Book())
    held = np.array(total)
    conc, _ = binding.equilibrate(held, pH, law, 0.94)
    assert np.all(conc >= 0)
    again = 0.94 * conc + binding.bound(conc, pH, law)
    np.testing.assert_allclose(again, held, rtol=1e-5, atol=1e-9)


def test_loading_limits(law):
    assert binding.bound(np.full(8, 1e-12), 3.0, law).sum() < 1e-6
    assert binding.bound(np.full(8, 100.0), 5.0, law).sum() == pytest.approx(law.capacity)
    single = binding.pair_law(("Nd",), Book())
    half = binding.half_loading_pH("Nd", 0.2, single)
    assert binding.bound(np.array([0.2]), half, single)[0] == pytest.approx(single.capacity / 2)


def test_separation_factor_follows_from_the_law():
    pair = binding.pair_law(("Nd", "Dy"), Book())
    for x in (1e-3, 0.1, 1.0, 30.0):
        conc = np.array([x, 1.0]) * 1e-3
        q = binding.bound(conc, 2.3, pair)
        assert q[0] / q[1] / x == pytest.approx(
            float(binding.separation_factor(x, 31.7, 12.5)), rel=1e-10
        )


def test_every_transfer_conserves_each_metal(law):
    run = stages.operation(Book())
    shares = np.array([0.01, 0.01, 0.2, 0.7, 0.02, 0.01, 0.04, 0.01])
    cycle = stages.load_and_elute(
        shares, np.array(0.8), np.array(2.3), law, run, 4.0, np.array(5.0)
    )
    fed = shares * 0.8 * law.capacity
    np.testing.assert_allclose(cycle.effluent + cycle.bed.sum(axis=0), fed, rtol=1e-12)
    assert np.all(np.diff(cycle.eluate, axis=0) >= 0)
    assert np.all(cycle.eluate[-1] <= fed)


def test_cells_in_a_batch_are_the_cells_alone(law):
    run = stages.operation(Book(), plates=6)
    shares = np.full((2, 8), 1 / 8)
    load, pH, conc = np.array([0.5, 0.8]), np.array([2.2, 2.2]), np.array([5.0, 5.0])
    both = stages.load_and_elute(shares, load, pH, law, run, 3.0, conc)
    for k in range(2):
        alone = stages.load_and_elute(shares[k], load[k], pH[k], law, run, 3.0, conc[k])
        np.testing.assert_allclose(both.eluate[k], alone.eluate, rtol=2e-3, atol=1e-4)


def test_more_plates_split_better():
    pair = binding.pair_law(("Nd", "Dy"), Book())
    sharp = []
    for plates in (4, 12, 36):
        run = stages.operation(Book(), plates=plates)
        cycle = stages.load_and_elute(
            np.array([0.5, 0.5]), np.array(0.6), np.array(2.3), pair, run, 10.0, np.array(5.0)
        )
        fed = 0.3 * pair.capacity
        at = np.argmax(cycle.eluate[:, 1] > 0.9 * fed)
        sharp.append(cycle.eluate[at, 0])
    assert sharp[0] > sharp[1] > sharp[2]


def test_group_split_meets_its_specification_and_its_balances(plant):
    assert not any(plant.shortfalls.values())
    assert plant.polish == ("Tb / Dy / Ho", "Ce / Pr / Nd")
    for element, amount in FEED.items():
        total = sum(pool.moles.get(element, 0.0) for pool in plant.pools.values())
        assert total == pytest.approx(amount, rel=1e-12)
    assert {w.code for w in plant.warnings} >= {"base-metals-at-void"}
    assert all(value >= 0 for value in plant.duties.values())


def test_twice_the_feed_is_twice_the_plant(plant):
    twice = affinity.design({e: 2 * n for e, n in FEED.items()}, (HEAVY, LIGHT), Book())
    assert twice.column_volume == pytest.approx(2 * plant.column_volume, rel=1e-9)
    assert twice.productivity == pytest.approx(plant.productivity, rel=1e-9)
    for key, value in plant.duties.items():
        assert twice.duties[key] == pytest.approx(2 * value, rel=1e-9)


def test_order_of_elements_changes_nothing(plant):
    turned = affinity.design(dict(reversed(FEED.items())), (HEAVY, LIGHT), Book())
    assert turned.column_volume == pytest.approx(plant.column_volume, rel=1e-6)


def test_harder_splits_take_columns_in_series():
    heavy = Product(name="heavy", elements=("Tb", "Dy", "Ho"), purity=0.6, recovery=0.97)
    light = Product(name="light", elements=("Ce", "Pr", "Nd"), purity=0.98, recovery=0.98)
    series = affinity.design(FEED, (heavy, light), Book())
    assert len(series.columns) > 1
    assert series.residual < 1e-2
    assert not any(series.shortfalls.values())
    for element in ("Nd", "Dy"):
        total = sum(pool.moles.get(element, 0.0) for pool in series.pools.values())
        assert total == pytest.approx(FEED[element], rel=1e-12)


def test_what_a_lanmodulin_column_refuses():
    with pytest.raises(InfeasibleError, match="iron has to be removed"):
        affinity.design({**FEED, "Fe": 3.0}, (HEAVY, LIGHT), Book())
    one = Product(name="Nd", elements=("Nd",), purity=0.99, recovery=0.9)
    other = Product(name="Pr", elements=("Pr",), purity=0.99, recovery=0.9)
    with pytest.raises(InfeasibleError, match="do not split") as caught:
        affinity.design({"Nd": 0.8, "Pr": 0.2}, (other, one), Book())
    assert caught.value.nearest
    with pytest.raises(InputError, match="two products"):
        affinity.design(FEED, (one, one), Book())
    with pytest.raises(InputError, match="negative"):
        affinity.design({"Nd": -1.0, "Dy": 1.0}, (HEAVY, LIGHT), Book())


@pytest.mark.parametrize(
    ("name", "value"), [("cycles", 0.0), ("cycles", -5.0), ("handling-loss", 2.0)]
)
def test_an_operation_nobody_can_run_names_its_constant(name, value):
    key = f"proteins/lanmodulin-column:{name}"
    with pytest.raises(InputError, match=key):
        stages.operation(Book({key: value}))


def test_a_buffer_is_charged_and_a_liquor_without_one_is_dilute(plant):
    """The protons that binding sets free, over what acetate takes up from pH 5.5 to 3.8."""
    book = Book()
    released = 2.5 / (1 + 10 ** (3.0 - 5.25))
    acidity = book["ligands/acetate:log-protonation-1"]
    taken = 1 / (1 + 10 ** (acidity - 5.5)) - 1 / (1 + 10 ** (acidity - 3.8))
    loaded = sum(sum(c.feed.values()) for c in plant.columns)
    assert plant.reagents["acetate"] == pytest.approx(loaded * released / taken, rel=1e-6)
    assert plant.duties["acetic_acid"] == pytest.approx(
        0.06005 * plant.reagents["acetate"], rel=1e-3
    )
    easy = Product(name="light", elements=("Ce", "Pr", "Nd"), purity=0.9, recovery=0.5)
    heavy = Product(name="heavy", elements=("Tb", "Dy", "Ho"), purity=0.1, recovery=0.9)
    bare = affinity.design(FEED, (heavy, easy), Book(), buffer="")
    buffered = affinity.design(FEED, (heavy, easy), Book())
    assert "acetate" not in bare.reagents
    fed = sum(FEED[e] for e in bare.columns[0].feed) * (1 - 0.005)
    assert fed / bare.columns[0].load_flow < 2.5
    assert fed / buffered.columns[0].load_flow == pytest.approx(10.0, rel=0.03)
    with pytest.raises(InputError, match="buffer"):
        affinity.design(FEED, (heavy, easy), Book(), buffer="phosphate")


def test_products_that_the_groups_have_to_bring():
    heavy = Product(name="heavy", elements=("Tb", "Dy"), purity=0.05, recovery=0.5)
    light = Product(name="light", elements=("Nd",), purity=0.5, recovery=0.5)
    each = tuple(
        Product(name=e, elements=(e,), purity=0.5, recovery=r)
        for e, r in (("Tb", 0.98), ("Dy", 0.97), ("Nd", 0.999))
    )
    plan = affinity.design(FEED, (heavy, light), Book(), each=each)
    assert all(plan.brought[p.name] >= p.recovery for p in each)
    # The weaker binder leaves first; a quarter of what may be lost is left for other models.
    assert plan.brought["Dy"] > plan.brought["Tb"] >= 1 - 0.76 * 0.02
