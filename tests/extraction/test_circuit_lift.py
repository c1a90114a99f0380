"""Closed circuits whose stages have several unknowns: soap of half a dimer, iron, two acids."""

from dataclasses import replace

import numpy as np
import pytest

from sepmodel.chemistry import exchange_set, mixed_acids, neutral_set
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.data import Book
from sepmodel.extraction import circuit, circuit_solve
from sepmodel.run import load, run

INPUTS = circuit_solve.assemble(load("magnet-circuit").inputs, Book()).inputs
SOAP = "extractants/soap:dimers-Na"


@pytest.mark.parametrize("dimers", [0.999, 0.7, 0.5])
def test_any_stoichiometry_of_the_soap_is_solved(dimers):
    """A plant's split must not hang on a sodium being counted as 1 or 0.999 dimers."""
    base, moved = run("magnet-circuit"), run("magnet-circuit", constants={SOAP: dimers})
    assert moved.balance["max"] < 1e-9
    if dimers > 0.99:
        for name in ("raffinate", "strip_liquor"):
            for metal, purity in base.streams[name].purity.items():
                assert moved.streams[name].purity[metal] == pytest.approx(purity, abs=1e-3)


def with_impurities(iron, calcium):
    """The magnet circuit with Fe and Ca in its feed."""
    found = exchange_set.load("extractants/li1987-pc88a-ideal", ("Fe", "Ca"), Book()).model
    old = INPUTS.model

    def widen(values, fe, ca):
        values = np.asarray(values, dtype=float)
        return np.concatenate([values[..., :4], [fe, ca], values[..., 4:]])

    model = CationExchange(
        log_k=widen(old.log_k, *found.log_k),
        charge=widen(old.charge, *found.charge),
        dimers=widen(old.dimers, *found.dimers),
    )
    fed = [(iron, calcium) if inlet.name == "feed" else (0.0, 0.0) for inlet in INPUTS.inlets]
    return replace(
        INPUTS,
        components=("Pr", "Nd", "Tb", "Dy", "Fe", "Ca", "Na"),
        model=model,
        charge=model.charge,
        organic_conc=widen(INPUTS.organic_conc, 0, 0),
        inlets=tuple(
            replace(inlet, conc=widen(inlet.conc, *more))
            for inlet, more in zip(INPUTS.inlets, fed, strict=True)
        ),
    )


@pytest.mark.parametrize("iron", [1.0, 5.0])
def test_a_closed_circuit_with_iron_and_calcium(iron):
    found = circuit.solve(with_impurities(iron, 10.0))
    assert float(found.residual) < 1e-10
    assert np.max(np.abs(found.closure["component"])) < 1e-9
    # In this cut nearly all iron and calcium go with the light rare earths.
    feed = iron * INPUTS.inlets[0].flow
    assert found.outlets["raffinate"].moles[4] == pytest.approx(float(feed), rel=1e-3)


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_a_closed_circuit_with_two_acids(share):
    one = INPUTS.model
    weak = replace(one, log_k=one.log_k - np.array([7.0, 7, 11, 12, 3.5]))
    both = mixed_acids.combine(one, weak, share, mixed_complexes=1.0, mixed_dimer=2.0)
    found = circuit.solve(replace(INPUTS, model=both))
    assert float(found.residual) < 1e-10
    assert np.max(np.abs(found.closure["component"])) < 1e-9


def test_an_acid_mixed_with_itself_runs_the_same_circuit():
    one = INPUTS.model
    both = mixed_acids.combine(one, one, 0.3, mixed_complexes=1.0, mixed_dimer=2.0)
    found, alone = circuit.solve(replace(INPUTS, model=both)), circuit.solve(INPUTS)
    np.testing.assert_allclose(found.conc_aq, alone.conc_aq, rtol=1e-7, atol=1e-12)


def test_a_batch_starts_member_by_member():
    """Members with different constants, solved together and alone."""
    model = replace(INPUTS.model, dimers=np.append(INPUTS.model.dimers[:-1], 0.6))
    flows = np.asarray(INPUTS.organic_flow) * np.array([0.99, 1.0, 1.01])
    found = circuit.solve(replace(INPUTS, model=model, organic_flow=flows))
    alone = circuit.solve(replace(INPUTS, model=model, organic_flow=flows[2]))
    np.testing.assert_allclose(found.conc_aq[2], alone.conc_aq, rtol=1e-7, atol=1e-12)


def test_models_that_need_no_lift_have_none():
    assert INPUTS.model.simpler() is None
    assert neutral_set.load("extractants/kraikaew2005-tbp", ("Nd",), Book()).model.simpler() is None
    general = replace(INPUTS.model, dimers=INPUTS.model.dimers * 0.9)
    u = general.lift(np.array([250.0]), np.array([20.0]))
    np.testing.assert_allclose(np.exp(u), [[0.25, 0.02]])
