"""Designs fed by a loaded organic: every volume and amount against balances made by hand."""

import math

import pytest

import sepmodel
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.extraction import design_curve, design_flows
from sepmodel.extraction.design import design_binary
from sepmodel.extraction.design_inputs import DesignCase
from sepmodel.fields import validate

CASE = {
    "schema": 1,
    "kind": "design",
    "name": "fed-by-organic",
    "purity_basis": "mole",
    "model": {"factors": {"Nd/Pr": 1.6}},
    "feed": {
        "composition": {"Nd": 0.75, "Pr": 0.25},
        "phase": "organic",
        "concentration": "0.15 mol/L",
        "flow": "1 m^3/h",
    },
    "product": [
        {"name": "Pr", "elements": ["Pr"], "purity": 0.99},
        {"name": "Nd", "elements": ["Nd"], "purity": 0.995},
    ],
    "organic": {"extractant": "1.5 mol/L", "saponification": 0.36},
}


@pytest.fixture(scope="module")
def found():
    return sepmodel.design(CASE)


def test_phase_ratios_count_the_organic_that_comes_with_the_feed(found):
    """Fresh solvent S f/0.18, feed f/0.15, scrub 3 W f/3 mol/L, all for f = 150 mol/h."""
    s, w = found.circuit.solvent, found.circuit.scrub
    fresh, fed, scrub = s * 150 / 180, 1.0, w * 150 / 1000
    assert found.flows.organic * 3600 == pytest.approx(fresh)
    assert found.flows.ratio("extraction") == pytest.approx(fresh / scrub)
    assert found.flows.ratio("scrub") == pytest.approx((fresh + fed) / scrub)
    assert found.flows.ratio("strip") == pytest.approx((fresh + fed) / (found.flows.strip * 3600))


def test_what_the_stages_hold_is_the_sum_over_the_solved_stages(found):
    """From the circuit solved stage by stage: each phase's flux for as long as it stays, but for
    the raffinate, where the balance takes the section's flow."""
    plant, streams = found.plant, found.circuit
    n, total = streams.stages_extraction, streams.stages
    held = volume = 0.0
    for stage in range(1, total + 1):
        joined = 1.0 if stage >= n else 0.0
        organic = (streams.solvent + joined) * plant.feed
        aqueous = streams.scrub * plant.feed
        oil = found.flows.organic + joined / 3600
        both = oil + found.flows.scrub
        held += plant.residence * (organic + aqueous)
        held += plant.settling / 2 * both * (organic / oil + aqueous / found.flows.scrub)
        volume += plant.residence * oil + plant.settling / 2 * both
    assert found.hold_up == pytest.approx(held)
    assert design_flows.inventory(plant, found.flows, n, total - n) == pytest.approx(volume)
    # The objective counts the organic of every stage in volumes of this circuit's solvent.
    ratio = plant.loading / plant.feed_conc
    by_stage = streams.solvent * total + ratio * (total - n + 1)
    assert streams.objective == pytest.approx(by_stage)
    assert ratio == pytest.approx(1.2)


def test_an_organic_loaded_as_the_solvent_is_the_default():
    feed = {k: v for k, v in CASE["feed"].items() if k not in ("concentration", "flow")}
    case = validate(DesignCase, {**CASE, "feed": feed})
    plant = design_flows.plant(case, Book())
    assert plant.feed_conc == pytest.approx(plant.loading)


@pytest.mark.parametrize(("strength", "kept"), [("0.24 mol/L", True), ("0.26 mol/L", False)])
def test_an_organic_above_the_loading_limit_is_refused(strength, kept):
    """1.5 mol/L of extractant holds 0.25 mol/L."""
    settings = {"feed.concentration": strength}
    if kept:
        assert sepmodel.design(CASE, settings).status == "designed"
        return
    with pytest.raises(InputError) as refused:
        sepmodel.design(CASE, settings)
    (problem,) = refused.value.problems
    assert problem.key == "feed.concentration"
    assert problem.value == strength
    assert "0.25 mol/L" in problem.expected


@pytest.mark.parametrize(
    ("factor", "feed", "heavy", "light"), [(2, 0.75, 0.999, 0.26), (1.8, 0.5, 0.99, 0.99)]
)
def test_the_least_organic_is_held_with_what_the_feed_brings(factor, feed, heavy, light):
    """S (n - 1) + (S + 1)(m + 1) is within a stage's worth of the least of many solvent flows."""

    def held(x):
        n, m = x.stages_extraction, x.stages_scrub
        return x.solvent * (n - 1) + (x.solvent + 1) * (m + 1)

    found = design_binary(factor, feed, heavy, light, feed_phase="organic")
    assert found.phi == pytest.approx(held(found))
    others = [
        design_binary(
            factor, feed, heavy, light, feed_phase="organic", solvent=found.solvent * 2.0 ** (k / 4)
        )
        for k in (-3, -2, -1, 1, 2, 3, 4)
        if found.solvent * 2.0 ** (k / 4) > 1.02 * found.minimum["solvent"]
    ]
    assert others
    assert held(found) < min(map(held, others)) + found.solvent + 1


def test_an_aqueous_feed_counts_as_before(found):
    plant = found.plant
    assert plant.feed_phase == "organic"
    aqueous = design_curve.measure(
        validate(DesignCase, {**CASE, "feed": {**CASE["feed"], "phase": "aqueous"}}),
        design_flows.plant(
            validate(DesignCase, {**CASE, "feed": {**CASE["feed"], "phase": "aqueous"}}), Book()
        ),
    )
    other = design_binary(1.6, 0.75, 0.995, 0.99)
    assert aqueous(other).objective == pytest.approx(other.solvent * other.stages)
    assert math.isfinite(aqueous(other).lock_up)
