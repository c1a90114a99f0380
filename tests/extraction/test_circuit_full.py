"""Circuits of full size: every one from its own first guess, closed to 1e-10. Slow."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_circuit import SERIES, benchmark, closed, magnet

import sepmodel
from sepmodel.data import Book
from sepmodel.errors import ConvergenceError
from sepmodel.extraction import circuit_solve
from sepmodel.extraction.circuit import solve

CASES = sorted(Path(__file__).parents[2].glob("validation/benchmarks/cases/*.toml"))

pytestmark = pytest.mark.slow


def inputs_of(path, **settings):
    case = sepmodel.load(path, settings).inputs
    return circuit_solve.assemble(case, Book()).inputs


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_closed_circuits(path):
    result = sepmodel.run(path)
    assert result.balance["max"] < 1e-10
    assert np.all(result.profiles["loading"].values < 1)
    factors = result.profiles["separation_factor"].values
    assert np.all(factors > 1)


@pytest.mark.parametrize(("stages", "count"), [(100, 4), (100, 15), (500, 15)])
def test_open_benchmark(stages, count):
    result = solve(benchmark(stages, count))
    assert max(v.max() for v in result.closure.values()) < 1e-10


@pytest.mark.parametrize("name", [*(path.stem for path in CASES), "open 100 x 4"])
def test_twenty_random_first_guesses(name, record_property):
    """sigma = 1 in ln d and ln h: sqrt(2) in their difference; metals follow from it.

    Newton alone forgives about 0.3; most of these are solved from their averages over stages
    (one fallback), the others from the circuit's own first guess (two).
    """
    path = next((p for p in CASES if p.stem == name), None)
    inputs = benchmark(100, 4) if path is None else inputs_of(path)
    reference = solve(inputs)
    rng = np.random.default_rng(20)
    fallbacks = np.zeros(3, dtype=int)
    for _ in range(20):
        noise = rng.normal(0.0, np.sqrt(2.0), reference.u.shape)
        other = solve(inputs, guess=reference.u + noise)
        fallbacks[min(int(other.fallbacks), 2)] += 1
        for key, outlet in reference.outlets.items():
            moved = np.abs(np.expm1(other.outlets[key].log_moles - outlet.log_moles))
            assert np.all(moved[outlet.log_moles > -600] < 3e-12)
        assert np.allclose(other.ph, reference.ph, rtol=0, atol=3e-12)
    record_property("fallbacks", fallbacks.tolist())
    # Nd/Pr over 500 stages starts from scratch in most cases, and ends in the same digits.
    assert fallbacks.sum() == 20
    assert fallbacks[2] < 20


def test_cold_and_restarted_agree():
    inputs = inputs_of(next(p for p in CASES if p.stem == "fifteen-nd-sm-100"))
    first = solve(inputs)
    more = replace(
        inputs,
        organic_flow=1.05 * inputs.organic_flow,
        inlets=tuple(replace(i, flow=1.05 * i.flow) for i in inputs.inlets),
    )
    again = solve(more, guess=first.u)
    assert again.iterations <= 2
    assert np.allclose(again.ph, first.ph, rtol=0, atol=1e-10)


def test_weak_strip_is_reported_and_solved():
    """With 5 M acid and half the flow lutetium goes round many times; with less acid still, never
    comes out, and the failure says so."""
    inputs = closed(SERIES, np.ones(15), "Sm", (40, 45, 15), reflux=0.4, ratio=2.5, strip=5000.0)
    weak = solve(inputs)
    strong = solve(closed(SERIES, np.ones(15), "Sm", (40, 45, 15), reflux=0.4, ratio=2.5))
    assert weak.recycle[14] > 10 * strong.recycle[14]
    with pytest.raises(ConvergenceError) as failed:
        solve(closed(SERIES, np.ones(15), "Sm", (40, 45, 15), reflux=0.4, ratio=20.0))
    assert "strip acid" in failed.value.trace.advice
    assert "no free extractant or acid is left" in str(failed.value)


def test_batch_of_magnet_circuits():
    inputs = magnet("Nd", (50, 55, 15))
    rng = np.random.default_rng(5)
    acids = 1000.0 * np.exp(rng.normal(0.0, 0.03, 32))
    scrub = replace(inputs.inlets[1], acid=acids)
    batch = solve(replace(inputs, inlets=(inputs.inlets[0], scrub, inputs.inlets[2])))
    for i in (0, 13, 31):
        one = replace(inputs.inlets[1], acid=acids[i])
        alone = solve(replace(inputs, inlets=(inputs.inlets[0], one, inputs.inlets[2])))
        assert np.allclose(alone.ph, batch.ph[i], rtol=0, atol=3e-12)
