"""The mass-flow cascade against published designs, closed forms and conservation."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepmodel import solvers
from sepmodel.chemistry import mass_flow
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError
from sepmodel.extraction import cascade, massflow_batch
from sepmodel.extraction.cascade import Draw, Inlet, MassFlowInputs, solve


def share(flows, i):
    return flows[..., i] / flows.sum(axis=-1)


def binary(n, m, **changes):
    """The published 24+21-stage binary (reference inputs)."""
    keys = {
        "components": ("A", "B"),
        "extractability": np.array([2.0, 1.0]),
        "stages": n + m,
        "solvent": 1.7086449,
        "scrub": 1.2081944,
        "inlets": (Inlet(name="feed", phase="aqueous", stage=n, flows=np.array([0.5, 0.5])),),
    }
    return MassFlowInputs(**(keys | changes))


def three_outlets(solvent, draw_stage, n, stages, phase):
    flow = 0.249222
    return MassFlowInputs(
        components=("Gd", "Eu", "Sm"),
        extractability=np.array([2.8, 2.0, 1.0]),
        stages=stages,
        solvent=solvent,
        scrub=solvent - 0.241237 - (flow if phase == "organic" else 0.0),
        inlets=(Inlet(name="feed", phase="aqueous", stage=n, flows=np.array([0.39, 0.10, 0.51])),),
        draws=(Draw(name="middle", phase=phase, stage=draw_stage, flow=flow),),
    )


@pytest.mark.parametrize("module", [cascade, solvers, mass_flow])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("n", "m", "p_b", "p_a", "x_a"),
    [
        (24, 20, 0.999851, 0.998951, 0.4921),
        (24, 21, 0.999893, 0.998993, 0.4735),
        (25, 20, 0.999897, 0.998997, 0.4954),
        (25, 21, 0.999928, 0.999028, 0.4755),
        (24, 22, 0.999914, 0.999014, 0.4580),
    ],
)
def test_published_binary(n, m, p_b, p_a, x_a):
    result = solve(binary(n, m))
    assert share(result.raffinate, 1) == pytest.approx(p_b, abs=2e-6)
    assert share(result.loaded_organic, 0) == pytest.approx(p_a, abs=2e-6)
    assert share(result.aqueous[n - 1], 0) == pytest.approx(x_a, abs=1e-4)


@pytest.mark.parametrize(
    ("solvent", "stage", "n", "stages", "sm", "gd", "eu"),
    [
        (1.4, 39, 22, 85, 0.999906, 0.99909, 0.4002),
        (1.5, 36, 21, 76, 0.999906, 0.99901, 0.4001),
        (2.0, 30, 18, 60, 0.999904, 0.99907, 0.4002),
        (2.5, 28, 17, 55, 0.999917, 0.99919, 0.4003),
    ],
)
def test_published_three_outlets(solvent, stage, n, stages, sm, gd, eu):
    result = solve(three_outlets(solvent, stage, n, stages, "aqueous"))
    assert share(result.raffinate, 2) == pytest.approx(sm, abs=2e-6)
    assert share(result.loaded_organic, 0) == pytest.approx(gd, abs=1e-5)
    assert share(result.draws["middle"], 1) == pytest.approx(eu, abs=1e-4)
    wrong = solve(three_outlets(solvent, stage, n, stages, "organic"))
    assert share(wrong.loaded_organic, 0) < 0.999 or share(wrong.draws["middle"], 1) < 0.40


def test_the_organic_draw_gives_the_published_failure():
    wrong = solve(three_outlets(2.0, 30, 18, 60, "organic"))
    assert share(wrong.loaded_organic, 0) == pytest.approx(0.99657, abs=1e-5)
    assert share(wrong.draws["middle"], 1) == pytest.approx(0.3978, abs=1e-4)


def test_marching_reproduces_every_stage():
    """The textbook march from the raffinate end passes through the same compositions."""
    result = solve(binary(24, 21))
    beta, s = 2.0, 1.7086449
    x = share(result.raffinate, 0)
    raffinate = result.raffinate.sum()
    for stage in range(23):
        assert share(result.aqueous[stage], 0) == pytest.approx(x, rel=1e-6)
        y = beta * x / (1 + (beta - 1) * x)
        x = (s * y + raffinate * result.raffinate[0] / raffinate) / (s + raffinate)


def test_total_reflux_is_fenske():
    """At (almost) total reflux every stage multiplies the ratio by beta."""
    beta, stages, flow = 1.5, 20, 1e5
    result = solve(
        MassFlowInputs(
            components=("A", "B"),
            extractability=np.array([beta, 1.0]),
            stages=stages,
            solvent=flow,
            scrub=flow - 0.5,
            inlets=(Inlet(name="f", phase="aqueous", stage=10, flows=np.array([0.5, 0.5])),),
        )
    )
    ratio = np.log(result.loaded_organic[0] / result.loaded_organic[1])
    ratio -= np.log(result.raffinate[0] / result.raffinate[1])
    assert ratio / np.log(beta) == pytest.approx(stages, rel=1e-4)


def test_binary_of_a_trace_is_kremser():
    """A trace beside a dominant element sees constant extraction factors."""
    trace, beta, n = 1e-30, 3.0, 8
    result = solve(
        MassFlowInputs(
            components=("trace", "main"),
            extractability=np.array([beta, 1.0]),
            stages=n,
            solvent=0.4,
            scrub=0.0,
            inlets=(Inlet(name="f", phase="aqueous", stage=n, flows=np.array([trace, 1.0])),),
        )
    )
    # The main element alone makes the totals, so the extraction factors of the trace are known.
    aqueous = result.aqueous[:, 1]
    assert aqueous == pytest.approx([0.6] + [1.0] * (n - 1))
    a = beta * 0.4 / aqueous
    # Loss below each cut, by hand.
    lost = 1.0
    for factor in a:
        lost = lost / (factor + lost)
    assert result.raffinate[0] / trace == pytest.approx(lost, rel=1e-12)


def test_equal_elements_are_not_separated():
    result = solve(binary(24, 21, extractability=np.array([1.0, 1.0])))
    assert share(result.raffinate, 0) == pytest.approx(0.5, rel=1e-12)


def test_one_stage_one_component():
    inputs = MassFlowInputs(
        components=("Nd",),
        extractability=np.array([1.0]),
        stages=1,
        solvent=0.7,
        scrub=0.0,
        inlets=(Inlet(name="f", phase="aqueous", stage=1, flows=np.array([1.0])),),
    )
    result = solve(inputs)
    assert result.loaded_organic[0] == pytest.approx(0.7, rel=1e-12)
    assert result.raffinate[0] == pytest.approx(0.3, rel=1e-12)


def test_perfect_separation_limit_and_underflowing_traces():
    """beta = 1e10 over 140 scrub stages: B in the product is far below the smallest float."""
    result = solve(binary(5, 140, extractability=np.array([1e10, 1.0]), solvent=1.4, scrub=0.95))
    assert result.raffinate == pytest.approx([0.05, 0.5], rel=1e-12)
    assert result.loaded_organic[1] == 0.0
    # Above the feed every stage is poorer in B by 1e10 times the flux ratio W / S.
    steps = np.diff(result.log_organic[6:144, 1])
    assert np.allclose(steps, np.log(1.4 / 0.95) - np.log(1e10), rtol=1e-12)
    assert result.log_organic[-1, 1] < -3000


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1))
def test_conservation_for_random_cascades(seed):
    """Every component closes at every stage, whatever enters, leaves or bypasses."""
    rng = np.random.default_rng(seed)
    n, c = int(rng.integers(2, 20)), int(rng.integers(1, 5))
    feed = rng.uniform(0.1, 1.0, c)
    organic_feed = rng.uniform(0.0, 0.3, c)
    stage_feed, stage_org, stage_draw = rng.integers(1, n + 1, 3)
    s = rng.uniform(0.5, 3.0)
    efficiency = rng.uniform(0.3, 1.0, (n, c))
    inputs = MassFlowInputs(
        components=tuple(f"c{i}" for i in range(c)),
        extractability=np.exp(rng.normal(0.0, 2.0, c)),
        stages=n,
        solvent=s,
        scrub=0.2 * s,
        inlets=(
            Inlet(name="aq", phase="aqueous", stage=int(stage_feed), flows=feed + s / c),
            Inlet(name="org", phase="organic", stage=int(stage_org), flows=organic_feed),
        ),
        draws=(Draw(name="d", phase="organic", stage=int(stage_draw), flow=0.1 * s),),
        efficiency=efficiency if rng.random() < 0.5 else 1.0,
    )
    try:
        result = solve(inputs)
    except InfeasibleError:
        return
    assert np.all(result.closure < 1e-13)
    assert result.residual < 1e-9
    into = np.zeros((n, c))
    into[stage_feed - 1] += feed + s / c
    into[stage_org - 1] += organic_feed
    into[:-1] += result.aqueous[1:]
    organic = result.organic.copy()
    organic[stage_draw - 1] *= 1 - 0.1 * s / organic[stage_draw - 1].sum()
    into[1:] += organic[:-1]
    out = result.aqueous + result.organic
    assert np.allclose(into, out, rtol=1e-10, atol=0)


def test_batches_equal_singles_and_members_ignore_their_mates():
    solvents = np.array([1.4, 1.7086449, 2.2, 3.0])
    inputs = binary(24, 21, solvent=solvents, scrub=solvents - 0.5004505)
    together = solve(inputs)
    for i, s in enumerate(solvents):
        alone = solve(binary(24, 21, solvent=s, scrub=s - 0.5004505))
        assert np.allclose(together.log_aqueous[i], alone.log_aqueous, rtol=0, atol=1e-10)
        assert together.iterations[i] == alone.iterations
    fewer = solve(binary(24, 21, solvent=solvents[1:], scrub=solvents[1:] - 0.5004505))
    assert np.allclose(fewer.log_aqueous, together.log_aqueous[1:], rtol=0, atol=1e-13)


def test_permutation_and_rescaling():
    first = solve(three_outlets(2.0, 30, 18, 60, "aqueous"))
    inputs = three_outlets(2.0, 30, 18, 60, "aqueous")
    swapped = solve(
        MassFlowInputs(
            components=("Sm", "Gd", "Eu"),
            extractability=np.array([7.0, 19.6, 14.0]),
            stages=60,
            solvent=2e6,
            scrub=inputs.scrub * 1e6,
            inlets=(
                Inlet(name="f", phase="aqueous", stage=18, flows=1e6 * np.array([0.51, 0.39, 0.1])),
            ),
            draws=(Draw(name="middle", phase="aqueous", stage=30, flow=0.249222e6),),
        )
    )
    assert np.allclose(swapped.raffinate[[1, 2, 0]] / 1e6, first.raffinate, rtol=1e-9, atol=0)


def test_transparent_stages_are_not_there():
    efficiency = np.ones(45)
    efficiency[[3, 7, 40]] = 0.0
    padded = solve(binary(24, 21, efficiency=efficiency))
    short = solve(binary(22, 20))
    assert np.allclose(padded.raffinate, short.raffinate, rtol=1e-10, atol=0)


def test_efficiency_costs_purity():
    purity = [
        float(share(solve(binary(24, 21, efficiency=e)).raffinate, 1)) for e in (0.6, 0.8, 1.0)
    ]
    assert purity == sorted(purity)


def test_warm_start_needs_fewer_iterations():
    cold = solve(binary(24, 21))
    warm = solve(binary(24, 21, solvent=1.72, scrub=1.72 - 0.5004505), guess=cold.theta)
    assert warm.iterations < cold.iterations


def test_a_failure_is_explained(monkeypatch):
    monkeypatch.setattr(cascade, "TOLERANCE", 0.0)
    monkeypatch.setattr(cascade, "ACCEPT", -1.0)
    with pytest.raises(ConvergenceError, match="not solved") as failed:
        solve(binary(24, 21))
    trace = failed.value.trace
    assert 1 <= trace.stage <= 45
    assert trace.history[-1] < trace.history[0]
    assert trace.advice


def test_refusals():
    with pytest.raises(InputError) as caught:
        solve(
            binary(
                24,
                21,
                extractability=np.array([2.0, -1.0]),
                solvent=-1.0,
                efficiency=1.2,
                inlets=(Inlet(name="f", phase="gas", stage=99, flows=np.array([1.0, np.nan])),),
            )
        )
    assert len(caught.value.problems) == 6
    with pytest.raises(InfeasibleError, match="organic leaving stage 45"):
        solve(binary(24, 21, scrub=1.8))
    recorded = solve(binary(24, 21, scrub=np.array([1.2081944, 1.8])), failures="record")
    assert recorded.converged.tolist() == [True, False]
    assert np.all(np.isnan(recorded.raffinate[1]))
    with pytest.raises(InputError, match="first guess"):
        solve(binary(24, 21), guess=np.full(45, np.nan))


def test_sharp_cuts_of_four_elements_converge():
    """Outlets as large as the elements meant for them: no descent in the residuals alone."""
    rng = np.random.default_rng(1)
    solvent = 1.7 * np.exp(rng.normal(0.0, 0.02, 20))
    feed = Inlet(name="feed", phase="aqueous", stage=30, flows=np.full(4, 0.25))
    result = solve(
        MassFlowInputs(
            components=("A", "B", "C", "D"),
            extractability=np.array([6.0, 3.0, 1.5, 1.0]),
            stages=60,
            solvent=solvent,
            scrub=solvent - 0.5,
            inlets=(feed,),
        )
    )
    assert np.all(result.converged)
    assert np.all(result.closure < 1e-12)
    assert np.all(result.loaded_organic[:, :2].sum(axis=-1) > 0.999 * 0.5)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_large_batches_give_the_general_kernels_answer(monkeypatch, count):
    """Marched stage by stage in plain numbers, against one dense matrix a member in logarithms."""
    rng = np.random.default_rng(count)
    size, stages = 80, 21
    feed = rng.uniform(0.2, 1.0, (size, count))
    feed /= feed.sum(axis=-1, keepdims=True)
    solvent = rng.uniform(0.8, 3.0, size)
    inputs = MassFlowInputs(
        components=tuple("ABCD"[:count]),
        extractability=np.exp(rng.normal(0.0, 1.0, (size, count))),
        stages=stages,
        solvent=solvent,
        scrub=solvent - 0.35,
        inlets=(
            Inlet(name="f", phase="aqueous", stage=rng.integers(5, 12, size), flows=feed),
            Inlet(name="o", phase="organic", stage=14, flows=0.2 * feed),
        ),
        draws=(
            Draw(name="a", phase="aqueous", stage=9, flow=0.1),
            Draw(name="b", phase="organic", stage=rng.integers(6, 18, size), flow=0.15),
        ),
    )
    monkeypatch.setattr(cascade, "BATCH", size)
    fast = solve(inputs)
    monkeypatch.setattr(cascade, "BATCH", size + 1)
    general = solve(inputs)
    assert not np.array_equal(fast.log_aqueous, general.log_aqueous)
    assert np.allclose(fast.log_aqueous, general.log_aqueous, rtol=0, atol=1e-9)
    assert np.all(fast.closure < 1e-12)
    assert np.all(fast.residual < 1e-11)


def test_members_of_large_batches_are_independent(monkeypatch):
    solvents = np.linspace(1.5, 2.5, 150)
    whole = solve(binary(24, 21, solvent=solvents, scrub=solvents - 0.5004505))
    monkeypatch.setattr(massflow_batch, "CHUNK", 40)
    parts = solve(binary(24, 21, solvent=solvents, scrub=solvents - 0.5004505))
    assert np.allclose(whole.log_aqueous, parts.log_aqueous, rtol=0, atol=1e-13)
    assert np.array_equal(whole.iterations, parts.iterations)


def test_traces_beyond_plain_numbers_in_a_large_batch():
    """Members that underflow are handed to the kernel that works in logarithms."""
    size = cascade.BATCH
    factors = np.stack([np.full(size, 1e10), np.ones(size)], axis=-1)
    result = solve(binary(5, 60, extractability=factors, solvent=1.4, scrub=0.95))
    assert np.all(result.converged)
    assert np.all(result.log_organic[:, -1, 1] < -1000)


def test_stages_and_guesses_that_cannot_be():
    inputs = binary(24, 21)
    half = Inlet(name="feed", phase="aqueous", stage=12.5, flows=np.array([0.5, 0.5]))
    with pytest.raises(InputError, match="a stage is a whole number"):
        solve(binary(24, 21, inlets=(half,)))
    with pytest.raises(InputError, match="one theta a stage"):
        solve(inputs, guess=np.zeros(44))


def test_secants_settle_coupled_members_as_each_would_alone():
    """Coupled maps that rounds alone need hundreds for, or run away from; x = (1 - A)^-1 b."""
    rng = np.random.default_rng(3)
    size, n = 40, 4
    share = rng.uniform(-0.8, 0.95, (size, n))
    turn = 0.1 * rng.normal(size=(size, n, n))
    turn[:, np.arange(n), np.arange(n)] = share
    fed = rng.uniform(size=(size, n))
    exact = np.linalg.solve(np.eye(n) - turn, fed[..., None])[..., 0]

    def settled(who):
        x, secants = np.zeros((who.size, n)), solvers.Secants(share[who], most=0.9)
        for _ in range(16):
            value = np.einsum("bij,bj->bi", turn[who], x) + fed[who]
            x = secants.onward(np.arange(who.size), x, value)
        return x

    together = settled(np.arange(size))
    assert together == pytest.approx(exact, rel=1e-8, abs=1e-8)
    for i in (0, size - 1):
        assert np.array_equal(settled(np.array([i]))[0], together[i])
