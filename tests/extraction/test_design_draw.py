"""Three outlets from specifications: the published circuits, and what cannot be."""

import numpy as np
import oracle
import pytest

import sepmodel
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.extraction.design_draw import Wanted, design_draw

FEED = {"Sm": 0.51, "Eu": 0.10, "Gd": 0.39}
A = {"Sm": 1.0, "Eu": 2.0, "Gd": 2.8}
OUTLETS = [
    Wanted(name="Sm", elements=("Sm",), purity=0.9999, recovery=0.999),
    Wanted(name="Eu", elements=("Eu",), purity=0.40),
    Wanted(name="Gd", elements=("Gd",), purity=0.999),
]


@pytest.mark.parametrize(
    ("solvent", "draw", "n", "m"),
    [
        pytest.param(1.40, 39, 22, 63, marks=pytest.mark.slow),
        pytest.param(1.50, 36, 21, 55, marks=pytest.mark.slow),
        (2.00, 30, 18, 42),
        (2.50, 28, 17, 38),
    ],
)
def test_the_published_circuits_follow_from_their_specifications(solvent, draw, n, m):
    """Extraction and scrub stages and draw stage as published."""
    found, _ = design_draw(FEED, A, OUTLETS, solvent=solvent)
    assert (found.stages_extraction, found.stages_scrub) == (n, m)
    assert found.draw.stage == draw
    assert found.recheck < 1e-9
    assert found.recovery["organic"] == pytest.approx(0.618, abs=5e-4)
    assert found.purity["draw"] >= 0.40
    assert found.purity["organic"] >= 0.999
    assert found.purity["raffinate"] >= 0.9999
    # The same circuit by plain full matrices.
    r, d, *_ = oracle.dense(
        [1.0, 2.0, 2.8],
        found.stages,
        found.solvent,
        found.scrub,
        [("aqueous", found.stages_extraction, np.array([0.51, 0.10, 0.39]))],
        draws=[("aqueous", found.draw.stage, sum(found.draw.flows.values()))],
    )
    assert r / r.sum() == pytest.approx(
        np.array(list(found.raffinate.values())) / sum(found.raffinate.values()), abs=1e-9
    )
    assert d.sum() == pytest.approx(sum(found.organic.values()))


@pytest.mark.slow
def test_one_stage_less_does_not_do():
    found, _ = design_draw(FEED, A, OUTLETS, solvent=2.5)
    with pytest.raises(InfeasibleError):
        design_draw(FEED, A, OUTLETS, solvent=2.5, most_stages=found.stages - 1)


@pytest.mark.slow
def test_a_draw_from_the_organic_takes_another_circuit():
    aqueous, _ = design_draw(FEED, A, OUTLETS, solvent=2.5)
    organic, _ = design_draw(FEED, A, OUTLETS, solvent=2.5, draw_phase="organic")
    assert organic.stages > aqueous.stages
    assert organic.scrub == pytest.approx(aqueous.scrub - sum(aqueous.draw.flows.values()))


def test_a_middle_product_purer_than_a_draw_can_be_is_refused():
    pure = [OUTLETS[0], Wanted(name="Eu", elements=("Eu",), purity=0.99), OUTLETS[2]]
    with pytest.raises(InfeasibleError):
        design_draw(FEED, A, pure, solvent=2.0, most_stages=80)


@pytest.mark.parametrize(
    "outlets",
    [
        OUTLETS[:2],
        [OUTLETS[2], OUTLETS[1], OUTLETS[0]],
        [Wanted(name="Sm", elements=("Sm",), purity=0.99), *OUTLETS[1:]],
    ],
)
def test_outlets_that_leave_something_open_are_refused(outlets):
    with pytest.raises(InputError):
        design_draw(FEED, A, outlets, solvent=2.0)


def test_a_file_with_three_products():
    found = sepmodel.design("sm-eu-gd-draw")
    assert (found.circuit.stages, found.circuit.draw.stage) == (60, 30)
    assert {asked.product for asked in found.asked} == {"Sm", "Eu", "Gd"}
    assert all(asked.met for asked in found.asked)
    assert found.recheck < 1e-9
    assert any(h.name == "draw:draw" for h in found.held)


def drawn(seed):
    """A circuit of a few stages with a draw, and the specifications its own outlets just meet."""
    rng = np.random.default_rng(seed)
    names = ("Sm", "Eu", "Gd")
    while True:
        a = np.cumprod(np.r_[1.0, rng.uniform(1.5, 3, 2)])
        f = rng.dirichlet([3, 3, 3])
        n, m = rng.integers(3, 9, 2)
        i = rng.choice([k for k in range(2, n + m) if k != n])
        d, q = f[2] * rng.uniform(0.8, 1.1), f[1] * rng.uniform(0.8, 1.3)
        s = d + rng.uniform(0.5, 4)
        if q + d > 0.95 or s - d < q:
            continue
        r, y, _ = oracle.dense(a, n + m, s, s - d, [("aqueous", n, f)], draws=[("aqueous", i, q)])[
            :3
        ]
        w = f - r - y
        purity = [r[0] / r.sum(), w[1] / w.sum(), y[2] / y.sum()]
        if min(purity) > 0.5:
            break
    slack = [1 - (1 - p) * 1.0001 for p in purity]
    outlets = [
        Wanted(name="L", elements=("Sm",), purity=slack[0], recovery=r[0] / f[0] * 0.999999),
        Wanted(name="M", elements=("Eu",), purity=slack[1]),
        Wanted(name="H", elements=("Gd",), purity=slack[2]),
    ]
    return dict(zip(names, f, strict=True)), dict(zip(names, a, strict=True)), outlets, s * (n + m)


def draw_is_found(seed):
    feed, a, outlets, held = drawn(seed)
    found, curve = design_draw(feed, a, outlets)
    r, d, *_ = oracle.dense(
        list(a.values()),
        found.stages,
        found.solvent,
        found.scrub,
        [("aqueous", found.stages_extraction, np.array(list(feed.values())))],
        draws=[("aqueous", found.draw.stage, sum(found.draw.flows.values()))],
    )
    w = np.array(list(feed.values())) - r - d
    reached = [r[0] / r.sum(), w[1] / w.sum(), d[2] / d.sum()]
    assert all(p > o.purity - 1e-7 for p, o in zip(reached, outlets, strict=True))
    # The solvent lies on a grid: a circuit of a dozen stages may keep one more than it must.
    assert found.phi < 1.1 * held + found.solvent
    assert found.recheck < 1e-6
    assert found in curve


@pytest.mark.parametrize("seed", [0])
def test_what_a_circuit_reaches_is_found_without_its_solvent(seed):
    draw_is_found(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 21))
def test_what_many_circuits_reach_is_found_without_their_solvent(seed):
    draw_is_found(seed)


SELECTIVE = {"Sm": 1.0, "Eu": 1.6908, "Gd": 4.4111}
THIRDS = {"Sm": 0.3945, "Eu": 0.3116, "Gd": 0.2939}
HALF = [
    Wanted(name="Sm", elements=("Sm",), purity=0.99, recovery=0.97),
    Wanted(name="Eu", elements=("Eu",), purity=0.5856),
    Wanted(name="Gd", elements=("Gd",), purity=0.99),
]


def test_a_solvent_that_will_not_do_is_told_one_that_does():
    """Too little for endless stages; the nearest one named is the start of a design."""
    with pytest.raises(InfeasibleError) as refused:
        design_draw(THIRDS, SELECTIVE, HALF, solvent=1.1)
    nearest = refused.value.nearest
    assert nearest["solvent"] > 1.1
    found, _ = design_draw(THIRDS, SELECTIVE, HALF, solvent=nearest["solvent"])
    assert found.stages <= nearest["stages"]


def test_too_few_stages_for_any_solvent_are_refused_at_once():
    with pytest.raises(InfeasibleError, match="total reflux"):
        design_draw(THIRDS, SELECTIVE, HALF, most_stages=12)
