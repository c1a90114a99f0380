"""Displacement on the transport engine against constant-pattern theory."""

import doctest

import numpy as np
import pytest
import splitting

from sepmodel.chromatography import (
    band_train,
    constant_pattern,
    elution,
    isotachic,
    moving,
    single_pass,
)
from sepmodel.chromatography.band_train import best_cut
from sepmodel.chromatography.column import Bed, Section, simulate
from sepmodel.chromatography.isotachic import displace, yields, zone_length
from sepmodel.chromatography.isotherms import ConstantSelectivity
from sepmodel.chromatography.transport import Limited
from sepmodel.errors import InfeasibleError, InputError

LIGAND, VOID, VELOCITY = 90.0, 0.4, 1e-4


@pytest.mark.parametrize("module", [band_train, isotachic, elution, moving, single_pass])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(("alpha", "cells"), [(1.5, 200), (1.8, 240), (4.0, 480)])
def test_zone_length_of_a_boundary(alpha, cells):
    """A binary front of constant pattern: within 3 % where it spans ten cells or more."""
    capacity, dispersion, rate, length = 1800.0, 1e-6, 0.05, 1.0
    resin = (1 - VOID) * capacity
    cap = constant_pattern.bed_capacity(VOID, LIGAND, resin)
    speed = constant_pattern.train_velocity(VELOCITY, LIGAND, cap)
    time = 0.7 * length / speed
    got = simulate(
        Bed(length=length, velocity=VELOCITY, void=VOID, dispersion=dispersion),
        ConstantSelectivity(selectivity=np.array([1.0, alpha]), capacity=capacity),
        [Section(duration=time, conc=np.array([0.0, LIGAND]))],
        scheme=Limited(cells=cells),
        rate=np.full(2, rate),
        initial=np.array([LIGAND, 0.0]),
        profile_times=[time],
        times=[time],
        tolerance=1e-3,
        estimate=False,
    )
    fast = got.profiles[0, :, 0] / LIGAND
    low, middle, high = (float(np.interp(x, fast, got.position)) for x in (0.05, 0.5, 0.95))
    mixing = constant_pattern.mixing_length(VELOCITY, LIGAND, cap, VOID, dispersion, rate)
    assert (high - low) / (length / cells) > 10
    assert high - low == pytest.approx(float(constant_pattern.zone_length(alpha, mixing)), rel=0.03)
    # The whole profile, not only its length: x of the slow metal against the closed form.
    x = np.array([0.2, 0.8])
    theory = constant_pattern.boundary_position(x, alpha, mixing)
    found = np.interp(1 - x, fast, got.position)
    assert found[1] - found[0] == pytest.approx(theory[1] - theory[0], rel=0.03)
    assert middle == pytest.approx(0.7 * length, rel=0.02)
    assert got.closure < 1e-9


@pytest.mark.parametrize("alpha", [1.5, 10.0, 50.0])
def test_zone_length_of_one_cause_alone_and_of_both(alpha):
    """One cause is the closed form; two together are shorter than their sum, longer than either."""
    closed = float(constant_pattern.zone_length(alpha, 0.01))
    assert zone_length(alpha, 0.01, 1e-7) == pytest.approx(closed, rel=1e-3)
    assert zone_length(alpha, 1e-7, 0.01) == pytest.approx(closed, rel=1e-3)
    both = zone_length(alpha, 0.005, 0.005)
    assert both == pytest.approx(zone_length(alpha, 0.005, 0.005 * (1 + 1e-9)), rel=1e-5)
    assert 0.5 * closed < both < closed


@pytest.mark.parametrize(
    ("alpha", "dispersion", "rate"),
    [
        (2.5, 2e-7, 0.01),
        pytest.param(1.5, 2e-7, 10.0, marks=pytest.mark.slow),
        pytest.param(8.0, 1e-9, 0.004, marks=pytest.mark.slow),
        pytest.param(30.0, 1e-6, 0.01, marks=pytest.mark.slow),
    ],
)
def test_boundaries_of_a_train_are_as_long_as_theory_says(alpha, dispersion, rate):
    """Dispersion alone, lag alone and both: within 3 % where ten cells or more are spanned."""
    resolved = alpha / (alpha - 1)
    train = displace(
        Bed(length=1.0, velocity=VELOCITY, void=VOID, dispersion=dispersion),
        {"Cu": 1.0, "Dy": alpha, "Nd": alpha**2, "Na": alpha**3},
        {"Dy": 0.5, "Nd": 0.5},
        capacity=600.0,
        ligand_conc=LIGAND,
        band=0.7 / resolved,
        rate=rate,
        cells=144,
        tolerance=1e-3,
    )
    for boundary in train.boundaries:
        assert boundary.cells >= 10
        assert boundary.length == pytest.approx(boundary.theory, rel=0.03)


def test_a_boundary_of_a_full_column_is_still_forming():
    """Nine tenths of what a column resolves: a tenth too long at its end, not in a longer one."""
    alpha, band = 1.62, 0.345
    found = []
    for length in (1.0, 1.2):
        train = displace(
            Bed(length=length, velocity=1e-3 / 3, void=VOID, dispersion=2e-7),
            {"Cu": 1.0, "Nd": 40.0, "Pr": 40 * alpha, "Na": 400 * alpha},
            {"Nd": 0.357, "Pr": 0.643},
            capacity=944.0,
            ligand_conc=LIGAND,
            band=band / length,
            rate=0.02,
            cells=96,
            tolerance=1e-3,
        )
        found.append(train.boundaries[1].length / train.boundaries[1].theory)
    assert found[0] > 1.05
    assert found[1] == pytest.approx(1.0, abs=0.02)


def pair(cells, alpha=3.0, band=0.4):
    """Two metals between a presaturant and a displacer far away in selectivity."""
    return displace(
        Bed(length=0.4, velocity=VELOCITY, void=VOID, dispersion=1e-6),
        {"Cu": 1.0, "Dy": 2.0, "Nd": 2.0 * alpha, "Na": 4.0 * alpha},
        {"Dy": 0.4, "Nd": 0.6},
        capacity=600.0,
        ligand_conc=LIGAND,
        band=band,
        rate=0.01,
        cells=cells,
    )


@pytest.fixture(scope="module")
def fine():
    return pair(160)


def test_bands_stand_at_the_ligand_and_close(fine):
    _, out = fine.outlet
    assert out.sum(axis=1) == pytest.approx(np.full(len(out), LIGAND), rel=1e-2)
    assert fine.closure < 1e-9
    assert out[:, 1].max() > 0.9 * LIGAND
    # A step may leave traces below zero by its tolerance.
    assert fine.effluent[-1, 1:3] == pytest.approx(fine.loaded, rel=1e-5)
    assert np.all(np.diff(fine.effluent, axis=0) >= 0)


def test_boundaries_of_a_train(fine):
    middle = fine.boundaries[1]
    assert (middle.fast, middle.slow) == ("Dy", "Nd")
    assert middle.cells > 10
    assert middle.length == pytest.approx(middle.theory, rel=0.03)


def test_pools_are_pure_and_shrink_with_purity(fine):
    yields = []
    for purity in (0.9, 0.99, 0.999):
        pool = fine.pool("Nd", purity)
        assert pool.purity >= purity - 1e-9
        yields.append(pool.recovery)
    assert 1 > yields[0] > yields[1] > yields[2] > 0
    both = fine.pool(("Dy", "Nd"), 0.99)
    assert both.recovery == pytest.approx(1, abs=1e-5)
    with pytest.raises(InputError, match="not a metal"):
        fine.pool("Cu", 0.9)


def test_the_error_of_the_grid_covers_a_finer_one(fine):
    given = {"capacity": 600.0, "ligand_conc": LIGAND, "band": 0.4, "rate": 0.01}
    names = {"Cu": 1.0, "Dy": 2.0, "Nd": 6.0, "Na": 12.0}
    bed = Bed(length=0.4, velocity=VELOCITY, void=VOID, dispersion=1e-6)
    found = yields(bed, names, {"Dy": 0.4, "Nd": 0.6}, (0.9, 0.99), cells=84, **given)
    best = np.array([[fine.pool(m, p).recovery for p in (0.9, 0.99)] for m in fine.metals])
    assert np.all(np.abs(found.recovery - best) < 3 * found.error + 1e-3)


def test_against_a_split_scheme_on_the_whole_column(fine):
    """Exact shifts by a cell a step, exchange in closed form, no limiter: nothing is shared."""
    names, shares = [1.0, 2.0, 6.0, 12.0], [0.4, 0.6]
    case = {"length": 0.4, "velocity": VELOCITY, "void": VOID, "dispersion": 1e-6}
    case |= {"rate": 0.01, "ligand_conc": LIGAND, "capacity": 600.0, "band": 0.4}
    purities = (0.9, 0.99)
    other = splitting.recoveries(240, names, shares, purities, **case)
    mine = [[fine.pool(m, p).recovery for p in purities] for m in fine.metals]
    assert np.array(mine) == pytest.approx(other, abs=0.005)


@pytest.mark.slow
def test_the_ternary_against_a_split_scheme():
    """Selectivities 10, 501, 794: two programs agree to 0.01 in every yield."""
    a = {"Cu": 1.0, "Dy": 10.0, "Nd": 501.0, "Pr": 794.085, "Na": 7940.85}
    load = {"Dy": 0.098, "Nd": 0.695, "Pr": 0.207}
    given = {"capacity": 600.0, "ligand_conc": LIGAND, "band": 0.2, "rate": 0.01}
    bed = Bed(length=1.0, velocity=VELOCITY, void=VOID, dispersion=1e-7)
    purities = (0.99, 0.995, 0.999)
    found = yields(bed, a, load, purities, cells=480, **given)
    case = {"length": 1.0, "velocity": VELOCITY, "void": VOID, "dispersion": 1e-7, **given}
    rough, good = (
        splitting.recoveries(n, list(a.values()), list(load.values()), purities, **case)
        for n in (1000, 2000)
    )
    assert found.recovery == pytest.approx(np.maximum(2 * good - rough, 0.0), abs=0.01)


def test_thin_boundaries_give_no_purity():
    coarse = pair(24)
    with pytest.raises(InfeasibleError, match="no purity") as caught:
        coarse.pool("Nd", 0.99)
    assert caught.value.nearest["cells"] > 24


def test_what_cannot_be_displaced_is_refused():
    bed = Bed(length=0.1, velocity=VELOCITY, void=VOID)
    more = {"capacity": 600.0, "ligand_conc": 90.0, "band": 0.2, "rate": 0.01, "cells": 20}
    with pytest.raises(InputError, match="rise"):
        displace(bed, {"Cu": 2.0, "Nd": 1.0, "Na": 3.0}, {"Nd": 1.0}, **more)
    with pytest.raises(InputError, match="of the metals"):
        displace(bed, {"Cu": 1.0, "Nd": 2.0, "Na": 3.0}, {"Dy": 1.0}, **more)


def test_the_best_cut_is_the_best():
    rng = np.random.default_rng(5)
    times = np.linspace(0.0, 10.0, 41)
    peak = np.exp(-0.5 * ((times[:, None] - [4.0, 6.0]) / 1.2) ** 2)
    amounts = np.cumsum(peak * rng.uniform(0.8, 1.2, peak.shape), axis=0)
    for purity in (0.7, 0.9, 0.97):
        i, j = best_cut(amounts[:, 0], amounts.sum(axis=1), purity)
        best = 0.0
        for start in range(41):
            for end in range(start + 1, 41):
                mine, other = amounts[end] - amounts[start]
                if mine >= purity * (mine + other):
                    best = max(best, mine)
        mine, other = amounts[j] - amounts[i]
        assert mine == pytest.approx(best, rel=1e-9)
        assert mine >= purity * (mine + other)


def test_elution_case():
    import sepmodel

    case = {
        "schema": 1,
        "kind": "elution",
        "name": "gradient",
        "components": ["A"],
        "every": "50 s",
        "bed": {
            "length": "0.1 m",
            "velocity": "4e-4 m/s",
            "void": 0.4,
            "dispersion": "2e-7 m^2/s",
        },
        "isotherm": {"law": "linear", "coefficient": {"A": 2.0}},
        "rate": {"A": "0.5 1/s"},
        "section": [
            {
                "duration": "100 s",
                "composition": {"A": "0 mol/m^3"},
                "final": {"A": "2 mol/m^3"},
            },
            {"duration": "900 s", "composition": {}},
        ],
    }
    result = sepmodel.run(case)
    assert result.balance["max"] < 1e-8
    assert "discontinuous Galerkin" in result.solver["scheme"]
    assert 0 < result.solver["estimated_error"] < 0.1
    # a ramp to 2 mol/m3 over 100 s at 4e-4 m/s
    left = result.streams["effluent"].moles["A"]["value"]
    assert left == pytest.approx(0.04, rel=1e-6)
    wrong = {**case, "rate": {"B": "0.5 1/s"}}
    with pytest.raises(InputError, match="each component"):
        sepmodel.run(wrong)
    with pytest.raises(InputError, match="has no cells"):
        sepmodel.run({**case, "numerics": {"cells": 10}})
