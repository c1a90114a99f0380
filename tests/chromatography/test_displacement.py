"""Ligand-assisted displacement: boundaries, yields, ligands, zone splitting."""

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import brentq

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography import displacement
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.products import Product

FEED = {"Nd": 0.7, "Pr": 0.2, "Dy": 0.05, "Tb": 0.012, "Gd": 0.015, "Ho": 0.003, "La": 0.01}
FEED |= {"Ce": 0.01, "Ca": 0.1}


def product(name, elements, purity=0.995, recovery=0.95):
    return Product(name=name, elements=tuple(elements.split()), purity=purity, recovery=recovery)


MAGNET = (product("NdPr", "Nd Pr", recovery=0.98), product("Dy", "Dy"), product("Tb", "Tb"))
SPLIT = (product("Nd", "Nd"), product("Pr", "Pr"), product("Dy", "Dy"), product("Tb", "Tb"))


@pytest.fixture(scope="module")
def plant():
    return displacement.design(FEED, MAGNET, Book())


@pytest.mark.parametrize("name", ["constant_pattern", "ligands", "displacement"])
def test_docstring_examples(name):
    module = importlib.import_module(f"sepmodel.chromatography.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("alpha", [1.3, 1.62, 4.0, 50.0])
def test_amounts_at_a_cut_are_integrals_of_the_boundary(alpha):
    mixing, x_cut = 0.003, 0.07
    # Moving along the boundary, dxi = -(mixing/(alpha-1)) (1/x + alpha/(1-x)) dx.
    scale = mixing / (alpha - 1)

    def step(x):
        return scale * (1 / x + alpha / (1 - x))

    loss = quad(lambda x: (1 - x) * step(x), x_cut, 1)[0]
    dirt = quad(lambda x: x * step(x), 0, x_cut)[0]
    depth = -np.log(1 - x_cut)
    assert pattern.rear_cut(depth, alpha, mixing) == pytest.approx((loss, dirt), rel=1e-8)
    loss = quad(lambda x: x * step(x), 0, 1 - x_cut)[0]
    dirt = quad(lambda x: (1 - x) * step(x), 1 - x_cut, 1)[0]
    assert pattern.front_cut(depth, alpha, mixing) == pytest.approx((loss, dirt), rel=1e-8)


def test_zone_length_is_the_distance_between_its_ends():
    ends = pattern.boundary_position([0.05, 0.95], 1.8, 0.002)
    assert ends[0] - ends[1] == pytest.approx(float(pattern.zone_length(1.8, 0.002)), rel=1e-12)


def test_boundary_profile_solves_its_differential_equation():
    # In the moving frame the resin's excess of the slow metal is carried by mixing:
    # Lambda dx/dxi = -(y - x) with y = alpha x / (alpha x + 1 - x) on the resin.
    alpha, mixing, h = 2.3, 0.004, 1e-6
    x = np.linspace(0.02, 0.98, 7)
    ahead = pattern.boundary_position(x + h, alpha, mixing)
    slope = 2 * h / (ahead - pattern.boundary_position(x - h, alpha, mixing))
    y = alpha * x / (alpha * x + 1 - x)
    np.testing.assert_allclose(mixing * slope, -(y - x), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.floats(1.05, 60), st.floats(1.05, 60), st.floats(0.9, 0.9999), st.floats(0.05, 2))
def test_pool_yield_meets_its_purity_exactly(front, rear, purity, band):
    mixing = 0.002
    share = pattern.pool_yield(band, purity, mixing, front, rear)
    assert 0 <= share <= 1
    if share > 0:
        depth = pattern.pool_depth(band, purity, mixing, front, rear)
        _, dirt_ahead, _, dirt_behind = pattern.cuts(depth, front, rear, mixing)
        reached = share * band / (share * band + dirt_ahead + dirt_behind)
        assert reached == pytest.approx(purity, abs=1e-9)


def test_equal_impurity_at_both_cuts_is_the_best_pool():
    front, rear, mixing, band, purity = 1.6, 4.0, 0.002, 0.2, 0.995
    best = pattern.pool_yield(band, purity, mixing, front, rear) * band
    shared = pattern.pool_depth(band, purity, mixing, front, rear)

    def pool(front_depth):
        loss_f, dirt_f = pattern.front_cut(front_depth, front, mixing)

        def gap(rear_depth):
            loss_r, dirt_r = pattern.rear_cut(rear_depth, rear, mixing)
            return dirt_f + dirt_r - (1 - purity) / purity * (band - loss_f - loss_r)

        if gap(-np.log(purity)) > 0:
            return 0.0
        depth = brentq(gap, -np.log(purity), 10)
        return band - loss_f - pattern.rear_cut(depth, rear, mixing)[0]

    others = [pool(d) for d in np.linspace(0.7, 1.4, 40) * shared]
    assert max(others) <= best * (1 + 1e-9)
    assert max(others) > best * 0.999
    assert min(others) < best * 0.9999


def test_magnet_products_by_zone_splitting(plant):
    assert not any(plant.shortfalls.values())
    assert len(plant.columns) > 1
    # One column cannot give the minor band in the middle: the first column alone shows it.
    assert plant.one_column["Tb"] == (0.0, 0.95)
    for element, amount in FEED.items():
        total = sum(pool.moles.get(element, 0.0) for pool in plant.pools.values())
        assert total == pytest.approx(amount, rel=1e-12)
    assert all(value >= 0 for value in plant.duties.values())
    assert {"Gd", "Ho", "Ce-La", "loss"} <= set(plant.pools)


def test_one_column_fails_and_says_why():
    ternary = {"Dy": 0.098, "Nd": 0.695, "Pr": 0.207}
    products = tuple(product(e, e, purity=0.99, recovery=0.9) for e in ternary)
    with pytest.raises(InfeasibleError, match=r"Pr reaches 0\.\d+ of 0\.9") as caught:
        displacement.design(ternary, products, Book(), zone_splitting=False, ligands=("edta",))
    assert caught.value.nearest
    split = displacement.design(ternary, products, Book(), ligands=("edta",))
    assert split.one_column["Pr"][0] < 0.9 <= split.recovery["Pr"]


def test_ligand_is_chosen_by_the_pair():
    nd_pr = displacement.design({"Nd": 0.75, "Pr": 0.25}, SPLIT[:2], Book())
    assert {c.ligand for c in nd_pr.columns} == {"dtpa"}
    dy_tb = displacement.design({"Dy": 0.7, "Tb": 0.3}, SPLIT[2:], Book())
    assert {c.ligand for c in dy_tb.columns} == {"edta"}
    assert any(w.code == "presaturant-retention" for w in nd_pr.warnings)
    assert not any(w.code == "presaturant-retention" for w in dy_tb.warnings)


def test_feeds_the_presaturant_cannot_hold_are_refused():
    heavy = {"Dy": 0.3, "Yb": 0.4, "Lu": 0.3}
    traces = {**FEED, "Lu": 0.005}
    clay = displacement.design(traces, MAGNET, Book())
    assert clay.pools["ahead"].moles == {"Lu": pytest.approx(0.005, rel=0.01)}
    assert any(w.code == "ahead-of-presaturant" for w in clay.warnings)
    with pytest.raises(InfeasibleError, match="does not stay ahead of Lu"):
        displacement.design(traces, (*MAGNET, product("Lu", "Lu")), Book(), ligands=("edta",))
    with pytest.raises(InfeasibleError, match="does not stay ahead of Lu"):
        displacement.design(heavy, (product("Dy", "Dy"),), Book(), ligands=("edta",))
    with pytest.raises(InfeasibleError, match="Fe has to be removed"):
        displacement.design({**FEED, "Fe": 1.0}, MAGNET, Book())
    with pytest.raises(InputError, match="two products"):
        displacement.design(FEED, (*MAGNET, product("again", "Dy")), Book())


def test_twice_the_feed_is_twice_the_plant(plant):
    twice = displacement.design({e: 2 * n for e, n in FEED.items()}, MAGNET, Book())
    assert twice.productivity == pytest.approx(plant.productivity, rel=1e-9)
    for key, value in plant.duties.items():
        assert twice.duties[key] == pytest.approx(2 * value, rel=1e-9)


def test_order_of_elements_and_products_changes_nothing(plant):
    turned = displacement.design(dict(reversed(FEED.items())), MAGNET[::-1], Book())
    assert turned.column_volume == pytest.approx(plant.column_volume, rel=1e-9)


def test_a_tighter_purity_never_needs_less():
    sizes = [
        displacement.design(
            {"Nd": 0.75, "Pr": 0.25},
            (product("Nd", "Nd", purity), product("Pr", "Pr", purity)),
            Book(),
        ).column_volume
        for purity in (0.9, 0.99, 0.999, 0.9999)
    ]
    assert sizes == sorted(sizes)


def test_rescaling_length_and_time():
    # Ten times the bed and the velocity at a tenth of the rate: the same bands, a tenth of a cycle.
    mixing = pattern.mixing_length(1e-4, 90.0, 396.0, 0.4, 1e-7, 0.01)
    longer = pattern.mixing_length(1e-3, 90.0, 396.0, 0.4, 1e-5, 0.01)
    assert longer == pytest.approx(10 * mixing, rel=1e-12)
