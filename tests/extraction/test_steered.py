"""Cascades whose flows are unknowns: against the circuit solver, differences and shorter ones."""

import numpy as np
import pytest

from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.extraction import circuit, steered
from sepmodel.extraction.circuit_plan import CircuitInputs, Inlet, Section

CHARGE = np.array([3.0, 3.0, 1.0])
LOG_K = np.log([0.02, 0.05, 1e-5])
STAGES, FEED = 9, 5


def cascade(size=3, free=(-1, 1)):
    rng = np.random.default_rng(2)
    flow = 1e-3 * np.exp(rng.normal(0.0, 0.05, size))
    moles = flow[:, None] * np.array([200.0, 100.0, 0.0])
    scrub = 0.1 * flow
    barren = np.zeros((size, 3))
    barren[:, 2] = 300.0
    return steered.Cascade(
        stages=STAGES,
        charge=CHARGE,
        log_k=LOG_K + rng.normal(0.0, 0.1, (size, 3)),
        dimer=np.full(size, 500.0),
        organic=2.0 * flow,
        barren=barren,
        inlets=(
            steered.Inlet(
                stage=FEED, flow=flow, moles=moles, anions=(moles * CHARGE).sum(1) + 50.0 * flow
            ),
            steered.Inlet(
                stage=STAGES - 1,
                flow=scrub,
                moles=np.zeros_like(moles),
                anions=2000.0 * scrub,
            ),
        ),
        free=free,
    )


def by_the_circuit(of):
    return circuit.solve(
        CircuitInputs(
            components=("light", "heavy", "soap"),
            model=CationExchange(log_k=LOG_K, charge=CHARGE, dimers=CHARGE),
            charge=CHARGE,
            sections=(
                Section(name="extraction", stages=FEED + 1),
                Section(name="scrub", stages=STAGES - FEED - 1),
            ),
            organic_flow=of.organic,
            dimer=of.dimer,
            organic_conc=of.barren,
            inlets=(
                Inlet(
                    name="feed", section="extraction", stage=FEED + 1, flow=of.inlets[0].flow,
                    conc=of.inlets[0].moles / of.inlets[0].flow[:, None], acid=50.0,
                ),
                Inlet(
                    name="scrub", section="scrub", stage=STAGES - FEED - 1,
                    flow=of.inlets[1].flow, conc=np.zeros(3), acid=2000.0,
                ),
            ),
            log_k_shift=of.log_k - LOG_K,
        )
    )  # fmt: skip


def test_a_state_is_that_of_the_circuit():
    of = cascade()
    found = by_the_circuit(of)
    r, state = steered.evaluate(of, found.u[..., 0], np.zeros((3, 2)))
    assert np.abs(r).max() < 1e-12
    assert state.raffinate == pytest.approx(found.outlets["raffinate"].moles, rel=1e-12)
    assert state.product == pytest.approx(found.outlets["organic"].moles, rel=1e-12)
    assert steered.free(of, state)[1] == pytest.approx(found.proton, rel=1e-9)


def strays(of, down, up):
    def ask(who, state):
        heavy, light = state.raffinate[:, 1], state.product[:, 0]
        value = np.stack([np.log(heavy / down[who]), np.log(light / up[who])], axis=1)
        by_raffinate, by_product = np.zeros((2, who.size, 2, 3))
        by_raffinate[:, 0, 1] = by_product[:, 1, 0] = 1.0
        return steered.Conditions(
            value=value,
            by_raffinate=by_raffinate,
            by_product=by_product,
            by_z=np.zeros((who.size, 2, 2)),
        )

    return ask


def test_flows_are_found_again_in_few_iterations():
    """What strays at known flows is asked of a start beside them."""
    of = cascade()
    found = by_the_circuit(of)
    ask = strays(of, found.outlets["raffinate"].moles[:, 1], found.outlets["organic"].moles[:, 0])
    start = np.array([[0.03, -0.05]]).repeat(3, axis=0)
    u, z, fine = steered.solve(of, found.u[..., 0], start, ask, limit=6)
    assert fine.all()
    assert np.abs(z).max() < 1e-9
    assert u == pytest.approx(found.u[..., 0], abs=1e-8)


@pytest.mark.parametrize("which", [0, 1])
def test_derivatives_by_flows_are_those_of_differences(which):
    of = cascade()
    u = by_the_circuit(of).u[..., 0] + np.random.default_rng(1).normal(0.0, 0.1, (3, STAGES))
    z = np.zeros((3, 2))
    r, state = steered.evaluate(of, u, z)
    band, by_z, _ = steered._system(of, state)
    step = 1e-6
    moved = z.copy()
    moved[:, which] = step
    by_closures = np.zeros_like(by_z[:, 0])
    by_closures[..., -1] = (steered.evaluate(of, u, moved)[0] - r) / step
    rhs = np.stack([by_z[:, which], by_closures], axis=1)
    x = steered._solved(band, rhs.reshape(3, 2, -1), 4).reshape(rhs.shape)[..., -1]
    assert x[:, 0] == pytest.approx(x[:, 1], abs=1e-5 * np.abs(x).max())


def test_dead_stages_change_nothing():
    of = cascade()
    found = by_the_circuit(of)
    longer = steered.Cascade(
        stages=STAGES + 4,
        charge=CHARGE,
        log_k=of.log_k,
        dimer=of.dimer,
        organic=of.organic,
        barren=of.barren,
        inlets=tuple(
            steered.Inlet(stage=i.stage + 4, flow=i.flow, moles=i.moles, anions=i.anions)
            for i in of.inlets
        ),
        free=of.free,
        dead=np.full(3, 4),
    )
    u = np.concatenate([np.zeros((3, 4)), found.u[..., 0]], axis=1)
    ask = strays(of, found.outlets["raffinate"].moles[:, 1], found.outlets["organic"].moles[:, 0])
    start = np.array([[0.03, -0.05]]).repeat(3, axis=0)
    _, z, fine = steered.solve(longer, u, start, ask)
    assert fine.all()
    assert np.abs(z).max() < 1e-9
