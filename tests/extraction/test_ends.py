"""Circuits solved from their ends against all stages solved together."""

import doctest

import numpy as np
import oracle
import pytest

from sepmodel.extraction import cascade, ends


def test_docstring_examples():
    result = doctest.testmod(ends)
    assert result.attempted > 0
    assert result.failed == 0


def circuit(rng, parts, n, m, phase):
    a = np.cumprod([1.0, *np.exp(rng.uniform(np.log(1.2), np.log(20), parts - 1))])
    f = rng.uniform(0.05, 1, parts)
    f /= f.sum()
    cut = int(rng.integers(1, parts))
    scrub = rng.uniform(0.8, 4) / (a[cut] / a[cut - 1] - 1)
    product = f[cut:].sum() * rng.uniform(0.97, 1.03)
    # An organic feed is carried without solvent; keep what the solvent carries positive.
    scrub += float(phase == "organic")
    solvent = scrub + product - float(phase == "organic")
    return a, f, solvent, scrub


@pytest.mark.parametrize("phase", ["aqueous", "organic"])
@pytest.mark.parametrize(("n", "m"), [(1, 0), (1, 1), (2, 3), (7, 5), (15, 12)])
def test_the_outlets_are_those_of_the_whole_circuit(n, m, phase):
    rng = np.random.default_rng(n + m)
    for parts in (2, 3, 5):
        a, f, solvent, scrub = circuit(rng, parts, n, m, phase)
        found = ends.cold(
            a, f[None], np.array([solvent]), np.array([scrub]), np.array([n]), np.array([m]), phase
        )
        assert found.converged.all()
        if n + m == 1 and phase == "organic":
            continue
        r, d, *_ = oracle.dense(a, n + m, solvent, scrub, [(phase, n, f)])
        assert np.exp(found.log_raffinate[0]) == pytest.approx(r, rel=1e-7, abs=1e-13)
        assert np.exp(found.log_organic[0]) == pytest.approx(d, rel=1e-7, abs=1e-13)


def test_a_thousand_stages_and_traces_below_any_float():
    a, f = np.array([1.0, 1.1, 60.0, 3000.0]), np.array([0.3, 0.4, 0.2, 0.1])
    scrub = 1.02 / 0.1
    solvent = scrub + 0.6993
    count = np.array([500])
    found = ends.cold(a, f[None], np.array([solvent]), np.array([scrub]), count, count)
    assert found.converged.all()
    assert found.log_raffinate[0, 3] < -2000
    guess = ends.profile(
        a, f, solvent, scrub, 500, 500, (found.log_raffinate[0], found.log_organic[0])
    )
    solved = cascade.solve(
        cascade.MassFlowInputs(
            components=("La", "Ce", "Nd", "Gd"),
            extractability=a,
            stages=1000,
            solvent=solvent,
            scrub=scrub,
            inlets=(cascade.Inlet(name="feed", phase="aqueous", stage=500, flows=f),),
        ),
        guess=guess,
    )
    # The profile that follows from the ends closes every stage as it stands.
    assert int(solved.iterations) <= 1
    assert solved.log_aqueous[0] == pytest.approx(found.log_raffinate[0], rel=1e-9)


def test_members_do_not_disturb_one_another():
    rng = np.random.default_rng(4)
    a, f, solvent, scrub = circuit(rng, 4, 10, 10, "aqueous")
    n, m = np.array([3, 10, 25, 12]), np.array([2, 10, 20, 0])
    many = ends.cold(a, np.repeat(f[None], 4, axis=0), np.full(4, solvent), np.full(4, scrub), n, m)
    for k in range(4):
        one = ends.cold(
            a, f[None], np.array([solvent]), np.array([scrub]), n[k : k + 1], m[k : k + 1]
        )
        assert many.log_raffinate[k] == pytest.approx(one.log_raffinate[0], abs=1e-8)
