"""Derivatives of circuits against each other and against Richardson-extrapolated differences."""

import doctest
from dataclasses import replace

import numpy as np
import pytest
from test_circuit import SERIES, benchmark, closed, magnet
from test_circuit_lift import with_impurities

from sepmodel.errors import InputError
from sepmodel.extraction import derivatives, reduced
from sepmodel.extraction.circuit import Draw, solve

RELATIVE, ABSOLUTE, SMALL = 1e-6, 1e-8, 1e-3


def evaluate(result, outputs):
    values = []
    inputs = result.inputs
    for output in outputs:
        kind, outlet, members = output.name.split()
        stream = result.outlets[outlet]
        if kind == "ln":
            values.append(stream.log_moles[..., inputs.components.index(members)])
            continue
        wanted = np.array([c in members.split("+") for c in inputs.components])
        counted = np.array([c not in inputs.reset for c in inputs.components])
        moles = stream.moles
        others = moles[..., ~wanted & counted].sum(axis=-1)
        values.append(np.log(moles[..., wanted].sum(axis=-1) / others))
    return np.array(values)


def scaled(inputs, name, factors):
    """A batch of the inputs in which one parameter is multiplied by factors."""
    kind, _, rest = name.partition(":")
    port, _, component = rest.partition(":")

    def times(value, hit):
        return np.asarray(value) * (factors if hit else 1.0)

    def many(values, hit, of):
        out = np.repeat(np.asarray(values)[None], factors.size, axis=0)
        if hit:
            out[:, inputs.components.index(of)] *= factors
        return out

    return replace(
        inputs,
        organic_flow=times(inputs.organic_flow, kind == "organic_flow"),
        dimer=times(inputs.dimer, kind == "dimer"),
        organic_conc=many(inputs.organic_conc, kind == "organic_conc", rest),
        inlets=tuple(
            replace(
                i,
                flow=times(i.flow, name == f"flow:{i.name}"),
                acid=times(i.acid, name == f"acid:{i.name}"),
                conc=many(i.conc, kind == "conc" and port == i.name, component),
            )
            for i in inputs.inlets
        ),
        draws=tuple(replace(d, flow=times(d.flow, name == f"draw:{d.name}")) for d in inputs.draws),
    )


def differences(inputs, start, outputs, names, scale):
    """Central differences at three steps, extrapolated; all perturbed circuits as one batch."""
    columns = []
    for name, slope in zip(names, scale, strict=True):
        # A step over which the outputs change by a few per cent at most.
        points = min(1e-2, 0.05 / slope) * np.array([1, -1, 0.5, -0.5, 0.25, -0.25])
        if name.startswith("log_k:"):
            i = inputs.components.index(name.removeprefix("log_k:"))
            f = []
            for h in points:
                log_k = inputs.model.log_k.copy()
                log_k[i] += h
                moved = replace(inputs, model=replace(inputs.model, log_k=log_k))
                f.append(evaluate(solve(moved, guess=start), outputs))
            f = np.array(f).T
        else:
            moved = scaled(inputs, name, np.exp(points))
            f = evaluate(solve(moved, guess=start), outputs)
        d = [(f[:, 2 * i] - f[:, 2 * i + 1]) / (2 * points[2 * i]) for i in range(3)]
        e = [(4 * d[1] - d[0]) / 3, (4 * d[2] - d[1]) / 3]
        columns.append((16 * e[1] - e[0]) / 15)
    return np.array(columns).T


def assert_agree(found, exact, noise=0.0):
    tolerance = np.where(np.abs(exact) > SMALL, RELATIVE * np.abs(exact), ABSOLUTE)
    tolerance = np.maximum(tolerance, noise)
    assert np.all(np.abs(found - exact) < tolerance)


def outputs_of(result, heavy, light):
    return [
        derivatives.logit_purity(result, "strip", heavy),
        derivatives.logit_purity(result, "raffinate", light),
        derivatives.log_flow("raffinate", heavy[0]),
        derivatives.log_flow("strip", light[-1]),
    ]


def test_doctests():
    assert doctest.testmod(derivatives).failed == 0


@pytest.mark.parametrize("extras", [False, True], ids=["plain", "reflux, draw, efficiency, carry"])
def test_against_differences(extras):
    inputs = magnet("Nd", (9, 10, 4))
    if extras:
        inputs = replace(
            inputs,
            reflux=(("strip", "scrub", 0.2),),
            sections=(
                replace(inputs.sections[0], efficiency=0.9),
                replace(inputs.sections[1], carry_aq=0.01, carry_org=0.01),
                inputs.sections[2],
            ),
            draws=(
                Draw(
                    name="side",
                    phase="organic",
                    section="scrub",
                    stage=2,
                    flow=0.01 * inputs.organic_flow,
                ),
            ),
        )
    result = solve(inputs)
    outputs = outputs_of(result, ["Nd", "Tb", "Dy"], ["Pr"])
    backward = derivatives.adjoint(result, outputs)
    ahead = derivatives.forward(result, outputs)
    assert np.allclose(backward.values, ahead.values, rtol=1e-9, atol=1e-11)
    exact = differences(
        inputs, result.u, outputs, backward.parameters, np.abs(backward.values).max(axis=0)
    )
    # The differences of so small a draw are themselves no better.
    assert_agree(backward.values, exact, noise=ABSOLUTE)


def returned(*reflux):
    return replace(magnet("Nd", (9, 10, 4)), reflux=reflux)


def without_dysprosium():
    inputs = magnet("Nd", (9, 10, 4))
    keep = np.array([c != "Dy" for c in inputs.components])
    return replace(inputs, inlets=tuple(replace(i, conc=i.conc * keep) for i in inputs.inlets))


@pytest.mark.parametrize(
    ("inputs", "outlet"),
    [
        (benchmark(100, 15), "organic"),
        (magnet("Nd", (9, 10, 4)), "strip"),
        (returned(("strip", "scrub", 0.2), ("strip", "extraction", 0.1)), "strip"),
        (without_dysprosium(), "strip"),
        (with_impurities(1.0, 10.0), "strip"),
    ],
    ids=["open", "closed", "liquor returned", "absent", "two unknowns a stage"],
)
def test_closures_alone_answer_as_the_band_of_all_fluxes_does(monkeypatch, inputs, outlet):
    result = solve(inputs)
    outputs = [
        derivatives.log_flow("raffinate", inputs.components[0]),
        derivatives.log_flow(outlet, inputs.components[1]),
        derivatives.logit_purity(result, outlet, inputs.components[1:2]),
    ]
    ahead, moves = derivatives.forward(result, outputs).values, derivatives.tangent(result)
    monkeypatch.setattr(reduced, "LIMIT", 0)
    band, band_moves = derivatives.forward(result, outputs).values, derivatives.tangent(result)
    backward = derivatives.adjoint(result, outputs).values
    # Rounding of a few thousand unknowns; the two ways round alike against the third.
    assert np.allclose(band, backward, rtol=1e-9, atol=1e-11)
    assert np.allclose(ahead, backward, rtol=1e-9, atol=1e-11)
    assert np.allclose(moves, band_moves, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("stages", "m"), [(1, 1), (5, 1), (17, 2), (40, 1), (53, 2)])
def test_products_of_passages(stages, m):
    rng = np.random.default_rng(stages)
    left = rng.normal(size=(2, stages, m, 3))
    right = rng.normal(size=(2, stages, 3, m))
    passing = rng.uniform(size=(2, stages, 3)) ** 4
    passing[rng.uniform(size=passing.shape) < 0.1] = 0.0
    passing[:, ::3, 1] = 1e-15
    found = reduced.products(left, passing, right)
    for n in range(stages):
        for a in range(n, stages):
            through = np.prod(passing[:, n:a], axis=1)
            exact = (left[:, n] * through[:, None]) @ right[:, a]
            assert np.allclose(found[:, n, :, a], exact, rtol=1e-12, atol=1e-14)


def test_chains_are_inverses():
    rng = np.random.default_rng(0)
    aqueous, organic = rng.uniform(size=(2, 7, 3))
    kept = np.ones((2, 7, 1))
    kept[0, 0] = kept[1, -1] = kept[0, 4] = 0.0
    entering = np.zeros((7, 3))
    entering[:-1] += (aqueous * kept[0])[1:]
    entering[1:] += (organic * kept[1])[:-1]
    # Scaled so that something is fed to every stage.
    aqueous, organic = 3.0 ** np.arange(7)[:, None] * np.stack([aqueous, organic])
    chains = reduced.chains_of(aqueous, organic, kept)
    for i in range(3):
        pool = (aqueous + organic)[:, i]
        matrix = np.eye(7)
        for n in range(6):
            matrix[n, n + 1] = -(kept[0, n + 1, 0] * aqueous[n + 1, i]) / pool[n]
            matrix[n + 1, n] = -(kept[1, n, 0] * organic[n, i]) / pool[n + 1]
        inverse = np.linalg.inv(matrix)
        unit = np.zeros((7, 3, 7))
        unit[np.arange(7), :, np.arange(7)] = 1.0
        assert np.allclose(chains.solve(unit)[:, i].T, inverse, rtol=1e-10)
        assert np.allclose(chains.reached(range(7), np.ones((7, 3)))[:, i].T, inverse, rtol=1e-10)
        assert np.allclose(chains.seen(range(7))[:, i], inverse, rtol=1e-10)


@pytest.mark.slow
def test_forty_parameters_of_a_hundred_stages():
    inputs = closed(SERIES, np.ones(15), "Sm", (40, 45, 15), reflux=0.4, ratio=2.5)
    result = solve(inputs)
    outputs = outputs_of(result, list(SERIES[4:]), list(SERIES[:4]))
    backward = derivatives.adjoint(result, outputs)
    assert len(backward.parameters) >= 30
    assert_agree(
        backward.values,
        differences(
            inputs, result.u, outputs, backward.parameters, np.abs(backward.values).max(axis=0)
        ),
    )


def test_refusals():
    result = solve(magnet("Tb", (3, 3, 2)))
    output = derivatives.log_flow("strip", "Nd")
    with pytest.raises(InputError, match="no such parameter"):
        derivatives.adjoint(result, [output], ["flow:nowhere"])
