"""Designed circuits: published cases, independent re-calculation, and rules no design may break."""

import doctest
import time

import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sepmodel.errors import InfeasibleError, InputError
from sepmodel.extraction import design
from sepmodel.extraction.design import Outlet, Weights, design_circuit

PURE = Outlet(purity=0.995, basis="mole")
PRND = {"Pr": 0.25, "Nd": 0.75}


def test_docstring_examples():
    result = doctest.testmod(design)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("beta", "feed", "light", "heavy", "solvent", "n", "m"),
    [
        (1.5, 0.75, 0.995, 0.995, 2.793, 30, 43.3),
        (1.5, 0.75, 0.995, 0.995, 3.153, 25, 25.9),
        (1.5, 0.75, 0.995, 0.995, 3.753, 22, 19.4),
        (1.5, 0.75, 0.995, 0.995, 10.753, 18, 11.2),
        (2.0, 0.5, 0.9999, 0.999, 1.7086449, 25, 20.1),
    ],
)
def test_computed_rows_of_the_binary_design(beta, feed, light, heavy, solvent, n, m):
    found = design_circuit(
        {"Pr": 1 - feed, "Nd": feed},
        {"Pr": 1.0, "Nd": beta},
        ["Pr"],
        raffinate=Outlet(purity=light, basis="mole"),
        organic=Outlet(purity=heavy, basis="mole"),
        solvent=solvent,
    )
    # Scrub stages were interpolated in the table: the whole number above them.
    assert (found.stages_extraction, found.stages_scrub) == (n, int(np.ceil(m)))
    # And the pair is the best of those that paper-and-pencil marching joins.
    pairs = oracle.binary(beta, feed, light, heavy, solvent)
    assert min(a + b for a, b in pairs) == pytest.approx(n + m, abs=0.15)


def resolved(found, feed, a):
    """The outlets of a design by the independent solver, in ascending order of a."""
    names = sorted((e for e in feed if feed[e] > 0), key=a.get)
    stage = found.stages_extraction
    r, d, *_ = oracle.dense(
        [a[e] for e in names],
        found.stages,
        found.solvent,
        found.scrub,
        [(found.feed_phase, stage, np.array([feed[e] for e in names]))],
    )
    return dict(zip(names, r, strict=True)), dict(zip(names, d, strict=True))


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    st.lists(st.floats(0.02, 1.0), min_size=2, max_size=5),
    st.lists(st.floats(1.3, 12.0), min_size=4, max_size=4),
    st.integers(0, 3),
    st.floats(0.95, 0.9999),
    st.floats(0.95, 0.9999),
    st.sampled_from(["aqueous", "organic"]),
)
def test_a_design_meets_its_specifications_when_solved_independently(
    flows, betas, cut, light, heavy, phase
):
    names = ["La", "Nd", "Gd", "Dy", "Lu"][: len(flows)]
    feed = dict(zip(names, flows, strict=True))
    a = dict(zip(names, np.cumprod([1.0, *betas])[: len(flows)].tolist(), strict=True))
    own = names[: 1 + cut % (len(names) - 1)]
    other = [e for e in names if e not in own]
    # Purities that the feed does not have already.
    total = sum(flows)
    p_light = 1 - (1 - light) * sum(feed[e] for e in other) / total
    p_heavy = 1 - (1 - heavy) * sum(feed[e] for e in own) / total
    found = design_circuit(
        feed,
        a,
        own,
        raffinate=Outlet(purity=p_light, basis="mole"),
        organic=Outlet(purity=p_heavy, basis="mole"),
        feed_phase=phase,
    )
    r, d = resolved(found, feed, a)
    assert 1 - sum(r[e] for e in own) / sum(r.values()) <= (1 - p_light) * (1 + 1e-6)
    assert 1 - sum(d[e] for e in other) / sum(d.values()) <= (1 - p_heavy) * (1 + 1e-6)
    for e in names:
        assert found.raffinate[e] + found.organic[e] == pytest.approx(feed[e], rel=1e-9)
        assert found.organic[e] == pytest.approx(d[e], rel=1e-6, abs=1e-9)
    assert found.solvent >= found.minimum["solvent"] * (1 - 1e-9) or len(names) > 2
    assert found.stages >= found.minimum["stages"] * (1 - 1e-9)


def test_a_doubled_feed_doubles_flows_and_changes_no_stage():
    one = design_circuit(PRND, {"Pr": 1.0, "Nd": 1.4}, ["Pr"], raffinate=PURE, organic=PURE)
    two = design_circuit(
        {e: 2 * f for e, f in PRND.items()},
        {"Pr": 1.0, "Nd": 1.4},
        ["Pr"],
        raffinate=PURE,
        organic=PURE,
    )
    assert two.solvent == pytest.approx(2 * one.solvent, rel=1e-12)
    assert (two.stages_extraction, two.stages_scrub) == (one.stages_extraction, one.stages_scrub)
    assert two.purity == pytest.approx(one.purity, rel=1e-12)


def test_the_order_and_unit_of_the_components_do_not_matter():
    feed = {"La": 0.3, "Nd": 0.4, "Gd": 0.1, "Dy": 0.2}
    a = {"La": 1.0, "Nd": 7.0, "Gd": 250.0, "Dy": 3000.0}
    spec = Outlet(purity=0.998, recovery=0.99)
    one = design_circuit(feed, a, ["La", "Nd"], raffinate=spec, organic=spec)
    two = design_circuit(
        dict(reversed(feed.items())),
        {e: 17.3 * v for e, v in reversed(a.items())},
        ["Nd", "La"],
        raffinate=spec,
        organic=spec,
    )
    assert two.stages == one.stages
    assert two.solvent == pytest.approx(one.solvent, rel=1e-9)
    assert dict(two.organic) == pytest.approx(dict(one.organic), rel=1e-7)


@pytest.mark.parametrize("beta", [1.4, 2.1, 5.8, 37.0])
def test_tighter_purity_never_needs_fewer_stages(beta):
    before = 0
    for purity in (0.95, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999):
        spec = Outlet(purity=purity, basis="mole")
        found = design_circuit(PRND, {"Pr": 1.0, "Nd": beta}, ["Pr"], raffinate=spec, organic=spec)
        assert found.stages >= before
        assert found.stages > found.minimum["stages"]
        before = found.stages


def test_more_extractant_never_needs_more_stages():
    stages = [
        design_circuit(
            PRND, {"Pr": 1.0, "Nd": 1.4}, ["Pr"], raffinate=PURE, organic=PURE, solvent=s
        ).stages
        for s in (3.4, 3.6, 4.0, 5.0, 7.0, 20.0, 1000.0)
    ]
    assert stages == sorted(stages, reverse=True)
    # Total reflux tends to Fenske: the first whole number of stages above it, and one for the feed.
    fenske = np.log(199 * 199) / np.log(1.4)
    assert fenske < stages[-1] < fenske + 2


def test_the_objective_chooses_the_solvent():
    def solvent(**weights):
        return design_circuit(
            PRND,
            {"Pr": 1.0, "Nd": 1.4},
            ["Pr"],
            raffinate=PURE,
            organic=PURE,
            weights=Weights(**weights),
        )

    reagents = solvent(inventory=0.0, solvent=1.0)
    inventory = solvent(inventory=1.0)
    few = solvent(inventory=1e-3, stages=1.0)
    assert reagents.solvent < inventory.solvent < few.solvent
    assert reagents.stages > inventory.stages > few.stages
    for other in (reagents, few):
        assert inventory.phi <= other.phi


def test_below_the_least_scrub_nothing_is_found():
    # Published check: 0.97 of the least scrub of a sharp Nd/Pr split cannot reach 99.5 %.
    feed, a = {"Pr": 0.25, "Nd": 0.75}, {"Pr": 1.0, "Nd": 1.5}
    product = 0.7525252525252525
    with pytest.raises(InfeasibleError) as caught:
        design_circuit(feed, a, ["Pr"], raffinate=PURE, organic=PURE, solvent=0.97 * 2.0 + product)
    assert caught.value.limit["scrub"] == pytest.approx(1.9515, abs=1e-3)
    assert caught.value.nearest["solvent"] == pytest.approx(2.7041, abs=1e-3)
    # 0.99 of it is feasible at this purity, but not at six nines.
    found = design_circuit(
        feed, a, ["Pr"], raffinate=PURE, organic=PURE, solvent=0.99 * 2.0 + product
    )
    assert found.stages == pytest.approx(90, abs=5)
    sharp = Outlet(purity=0.999999, basis="mole")
    with pytest.raises(InfeasibleError):
        design_circuit(feed, a, ["Pr"], raffinate=sharp, organic=sharp, solvent=0.99 * 2.0 + 0.75)
    assert design_circuit(
        feed, a, ["Pr"], raffinate=sharp, organic=sharp, solvent=1.01 * 2.0 + 0.75
    ).stages == pytest.approx(220, abs=3)


def test_equal_elements_are_refused():
    with pytest.raises(InfeasibleError):
        design_circuit(PRND, {"Pr": 1.0, "Nd": 1.0}, ["Pr"], raffinate=PURE, organic=PURE)


@pytest.mark.parametrize(
    ("feed", "light", "raffinate", "organic"),
    [
        ({"Pr": 0.5, "Nd": 0.5}, ["Nd"], PURE, PURE),
        ({"Pr": 0.5, "Nd": 0.5}, ["Pr", "Nd"], PURE, PURE),
        ({"Pr": 0.5, "Nd": -0.5}, ["Pr"], PURE, PURE),
        ({"Pr": 0.5, "Gd": 0.5}, ["Pr"], PURE, PURE),
        ({"Pr": 0.5, "Nd": 0.5}, ["Pr"], PURE, Outlet()),
        ({"Pr": 0.5, "Nd": 0.5}, ["Pr"], Outlet(purity=0.4), Outlet(purity=0.99)),
    ],
)
def test_nonsense_is_refused(feed, light, raffinate, organic):
    with pytest.raises(InputError):
        design_circuit(feed, {"Pr": 1.0, "Nd": 1.4}, light, raffinate=raffinate, organic=organic)


def test_single_impurity_limits_are_met():
    feed = {"Pr": 0.2, "Nd": 0.6, "Sm": 0.1, "Gd": 0.1}
    a = {"Pr": 1.0, "Nd": 1.4, "Sm": 14.8, "Gd": 52.9}
    found = design_circuit(
        feed,
        a,
        ["Pr", "Nd"],
        raffinate=Outlet(limits={"Sm": 1e-4, "Gd": 1e-6}),
        organic=Outlet(purity=0.99),
    )
    from sepmodel.products import amounts

    mass = amounts(found.raffinate)
    assert mass["Sm"] <= 1.000001e-4 * sum(mass.values())
    assert mass["Gd"] <= 1.000001e-6 * sum(mass.values())


def test_a_circuit_is_designed_quickly():
    start = time.perf_counter()
    for purity in (0.99, 0.995, 0.999):
        spec = Outlet(purity=purity)
        design_circuit(PRND, {"Pr": 1.0, "Nd": 1.4}, ["Pr"], raffinate=spec, organic=spec)
    assert (time.perf_counter() - start) / 3 < 1.0


def test_without_scrub_stages_nothing_is_scrubbed_back():
    """Far apart elements take extraction alone: W is zero, not a trace of the solvent's grid."""
    found = design.design_circuit(
        {"Nd": 0.9, "Gd": 0.1},
        {"Nd": 1.0, "Gd": 900.0},
        ["Nd"],
        raffinate=design.Outlet(purity=0.995, basis="mole"),
        organic=design.Outlet(purity=0.9, basis="mole"),
    )
    assert (found.stages_scrub, found.scrub) == (0, 0.0)
    assert found.solvent == pytest.approx(sum(found.organic.values()))
    assert min(found.purity["raffinate"] - 0.995, found.purity["organic"] - 0.9) >= -1e-9
