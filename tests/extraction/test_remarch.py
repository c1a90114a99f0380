"""The second simulation: the same circuits by code of its own, and no design without it."""

import ast
import dataclasses
import time
from pathlib import Path

import numpy as np
import oracle
import pytest

from sepmodel.errors import ConvergenceError
from sepmodel.extraction import cascade, design, ends, remarch


def circuit(rng):
    """A random circuit: stages, flows, phase of the feed, efficiency, draw anywhere or none."""
    c = int(rng.integers(2, 6))
    a = np.cumprod(np.append(1.0, np.exp(rng.uniform(0.1, 1.2, c - 1))))
    feed = rng.uniform(0.05, 1, c)
    feed /= feed.sum()
    n, m = int(rng.integers(1, 25)), int(rng.integers(1, 25))
    cut = int(rng.integers(1, c))
    product = min(feed[cut:].sum() * rng.uniform(0.9, 1.1), 0.9)
    phase = str(rng.choice(["aqueous", "organic"]))
    scrub = rng.uniform(1.5, 4)
    solvent = scrub + product - (phase == "organic")
    draw = None
    if rng.random() < 0.6:
        share = rng.uniform(0.02, 0.3) * min(1 - product, product)
        draw = (int(rng.integers(1, n + m + 1)), str(rng.choice(["aqueous", "organic"])), share)
    return a, feed, solvent, scrub, n, m, phase, float(rng.choice([1.0, 0.9, 0.6])), draw


def test_random_circuits_come_out_as_by_newtons_method():
    rng = np.random.default_rng(2)
    spent = []
    for _ in range(60):
        a, feed, solvent, scrub, n, m, phase, efficiency, draw = circuit(rng)
        whole = cascade.solve(
            cascade.MassFlowInputs(
                components=tuple("ABCDE"[: len(a)]),
                extractability=a,
                stages=n + m,
                solvent=solvent,
                scrub=scrub,
                inlets=(cascade.Inlet(name="feed", phase=phase, stage=n, flows=feed),),
                draws=()
                if draw is None
                else (cascade.Draw(name="draw", stage=draw[0], phase=draw[1], flow=draw[2]),),
                efficiency=efficiency,
            )
        )
        started = time.process_time()
        second = remarch.remarch(a, feed, solvent, scrub, n, m, phase, efficiency, draw)
        spent.append(time.process_time() - started)
        outlets = {"raffinate": whole.raffinate, "organic": whole.loaded_organic, **whole.draws}
        assert remarch.difference(second, feed, outlets) < 1e-9
        everything = second.raffinate + second.organic + second.draw
        assert everything == pytest.approx(feed, rel=1e-12)
    assert np.median(spent) < 0.02


def test_and_as_by_plain_full_matrices():
    a, feed = [1.0, 2.0, 2.8], np.array([0.51, 0.10, 0.39])
    second = remarch.remarch(np.array(a), feed, 2.0, 1.7588, 8, 9, draw=(12, "aqueous", 0.2))
    r, d, *_ = oracle.dense(
        a, 17, 2.0, 1.7588, [("aqueous", 8, feed)], draws=[("aqueous", 12, 0.2)]
    )
    assert second.raffinate == pytest.approx(r, rel=1e-8)
    assert second.organic == pytest.approx(d, rel=1e-8)


def test_traces_and_long_circuits_keep_their_digits():
    """1,200 stages: heavy traces of 1e-200 in the raffinate as by powers of matrices."""
    a, feed = np.array([1.0, 1.1, 2.0, 6.0]), np.array([0.3, 0.3, 0.2, 0.2])
    second = remarch.remarch(a, feed, 12.0, 11.31, 700, 500)
    both = ends.cold(
        a, feed[None], np.array([12.0]), np.array([11.31]), np.array([700]), np.array([500])
    )
    assert both.converged[0]
    for found, log in (
        (second.raffinate, both.log_raffinate[0]),
        (second.organic, both.log_organic[0]),
    ):
        seen = log > np.log(np.finfo(float).tiny)
        assert np.log(found[seen]) == pytest.approx(log[seen], abs=1e-7)
    assert 0 < second.raffinate[2] < 1e-100


def test_nothing_of_the_design_is_used():
    """Neither the search nor the solvers are imported: the two calculations share no code."""
    tree = ast.parse(Path(remarch.__file__).read_text(encoding="utf-8"))
    names = {
        node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    assert {name for name in names if name.startswith("sepmodel")} == {"sepmodel.errors"}


def test_a_design_that_its_second_simulation_contradicts_is_not_reported(monkeypatch):
    found = design.design_binary(2.0, 0.5, 0.99, 0.99)
    assert found.recheck < 1e-8
    solve = cascade.solve

    def wrong(inputs, **more):
        result = solve(inputs, **more)
        return dataclasses.replace(result, raffinate=result.raffinate * (1 + 1e-5))

    monkeypatch.setattr(cascade, "solve", wrong)
    with pytest.raises(ConvergenceError, match="differ"):
        design.design_binary(2.0, 0.5, 0.99, 0.99)


def test_a_circuit_at_its_pinch_settles_too():
    """At the least solvent exactly: 338 stages, most of them alike; as by powers of matrices."""
    a, feed = np.array([1.0, 1.5]), np.array([0.25, 0.75])
    second = remarch.remarch(a, feed, 2.75, 1.9999994999989998, 86, 252)
    both = ends.cold(
        a,
        feed[None],
        np.array([2.75]),
        np.array([1.9999994999989998]),
        np.array([86]),
        np.array([252]),
    )
    assert np.log(second.raffinate) == pytest.approx(both.log_raffinate[0], abs=1e-6)
    assert np.log(second.organic) == pytest.approx(both.log_organic[0], abs=1e-6)


def test_outlets_sought_from_elsewhere_are_those_of_the_rounds():
    """Every phase of feed and draw, efficiencies below one: two ways to the same outlets."""
    rng = np.random.default_rng(5)
    for _ in range(14):
        given = circuit(rng)
        rounds = remarch.remarch(*given)
        a, feed, solvent, scrub, n, m, phase, efficiency, draw = given
        line = remarch._line(a, feed, solvent, scrub, n, m, phase, efficiency, draw)
        away = dataclasses.replace(
            rounds, raffinate=rounds.raffinate * np.exp(0.01 * np.arange(len(a)))
        )
        found = remarch._ended(line, away)
        assert found.error < 1e-9
        assert found.raffinate == pytest.approx(rounds.raffinate, rel=1e-8)
        assert found.organic == pytest.approx(rounds.organic, rel=1e-8)


@pytest.mark.parametrize("lost", [1e-10, 1e-11, 1e-13])
def test_recoveries_at_the_edge_of_double_precision_are_designed(lost):
    both = design.Outlet(purity=0.995, basis="mole")
    found = design.design_circuit(
        {"Pr": 0.25, "Nd": 0.75},
        {"Pr": 1.0, "Nd": 1.4},
        ["Pr"],
        raffinate=design.Outlet(purity=0.99, basis="mole"),
        organic=dataclasses.replace(both, recovery=1 - lost),
    )
    assert found.raffinate["Nd"] <= 0.75 * lost * 1.01
    assert found.recheck < 1e-6
