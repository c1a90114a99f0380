"""Batches of circuits: the same answers as singly, whoever the mates and workers are."""

import doctest
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from test_circuit import magnet

from sepmodel.errors import InputError
from sepmodel.extraction import circuit, circuit_batch
from sepmodel.extraction.circuit_plan import chosen

SAME = 1e-10


def spread(base, size, *, wide, seed=0):
    """Flows by 0.1 %; wide: by 0.5 %, separation factors by 5 % and levels by 0.3 in ln K."""
    rng = np.random.default_rng(seed)
    metals = len(base.components) - 1

    def flow(value):
        return value * np.exp(rng.normal(0.0, 0.005 if wide else 0.001, size))

    shift = np.zeros((size, metals + 1))
    if wide:
        shift[:, 1:metals] = np.cumsum(rng.normal(0.0, 0.05, (size, metals - 1)), axis=1)
        shift[:, :metals] += rng.normal(0.0, 0.3, (size, 1))
        shift[:, metals] = rng.normal(0.0, 0.3, size)
    return replace(
        base,
        organic_flow=flow(base.organic_flow),
        inlets=tuple(replace(i, flow=flow(i.flow)) for i in base.inlets),
        log_k_shift=shift,
    )


def assert_same(a, b, rows=slice(None)):
    assert a.converged.all()
    assert b.converged.all()
    for name, outlet in a.outlets.items():
        moved = np.expm1(outlet.log_moles - b.outlets[name].log_moles[rows])
        assert np.max(np.abs(moved)) < SAME


def test_doctests():
    assert doctest.testmod(circuit_batch).failed == 0


@pytest.mark.parametrize("wide", [False, True])
def test_members_are_what_they_are_alone(wide):
    """Neither mates nor size of the batch nor workers matter; single cold solutions agree."""
    base = magnet("Tb", (12, 13, 5))
    many = spread(base, 70, wide=wide)
    together = circuit_batch.solve(many)
    for closure in together.closure.values():
        assert np.max(closure) < SAME
    some = np.array([3, 40, 69])
    assert_same(circuit_batch.solve(chosen(many, some)), together, some)
    with ThreadPoolExecutor(2) as pool:
        assert_same(circuit_batch.solve(many, executor=pool), together)
    for k in (0, 69):
        single = circuit.solve(circuit_batch.middle(chosen(many, np.array([k]))))
        for name, outlet in single.outlets.items():
            moved = np.expm1(outlet.log_moles - together.outlets[name].log_moles[k])
            assert np.max(np.abs(moved)) < SAME


@pytest.mark.slow
def test_processes_give_the_same():
    many = spread(magnet("Tb", (12, 13, 5)), 1100, wide=True)
    with ProcessPoolExecutor(2) as pool:
        assert_same(circuit_batch.solve(many, executor=pool), circuit_batch.solve(many))


def test_a_hopeless_member_is_recorded_and_disturbs_nobody():
    base = magnet("Tb", (5, 5, 3))
    acids = np.array([6000.0, 1.0, 5900.0, 6100.0])
    weak = replace(base, inlets=(*base.inlets[:2], replace(base.inlets[2], acid=acids)))
    found = circuit_batch.solve(weak, failures="quick")
    assert found.converged.tolist() == [True, False, True, True]
    assert found.status[1] == "unsolved"
    assert np.isnan(found.outlets["strip"].moles[1]).all()
    good = np.array([0, 2, 3])
    assert_same(circuit_batch.solve(chosen(weak, good)), found_rows(found, good))


def found_rows(found, rows):
    outlets = {
        name: replace(o, flow=o.flow[rows], moles=o.moles[rows], log_moles=o.log_moles[rows])
        for name, o in found.outlets.items()
    }
    return replace(found, outlets=outlets, converged=found.converged[rows])


def test_stack():
    base = magnet("Tb", (5, 5, 3))
    stronger = replace(
        base,
        organic_flow=1.02 * base.organic_flow,
        model=replace(base.model, log_k=base.model.log_k + 0.1),
    )
    both = circuit_batch.stack([base, stronger])
    assert both.log_k_shift.shape == (2, 5)
    found = circuit_batch.solve(both)
    for k, own in enumerate((base, stronger)):
        single = circuit.solve(own)
        moved = single.outlets["strip"].log_moles - found.outlets["strip"].log_moles[k]
        assert np.max(np.abs(moved)) < SAME
    with pytest.raises(InputError, match="differ in their numbers only"):
        circuit_batch.stack([base, magnet("Tb", (5, 6, 3))])


def test_predicted_starts_need_few_steps():
    base = magnet("Tb", (25, 27, 8))
    found = circuit_batch.solve(spread(base, 64, wide=True))
    assert np.all(found.fallbacks == 0)
    assert found.iterations.mean() < 4
