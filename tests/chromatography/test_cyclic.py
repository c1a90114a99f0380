"""Cyclic steady state without marching, a fading capacity, and columns with a modulator."""

import doctest

import numpy as np
import pytest

from sepmodel.chromatography import cyclic
from sepmodel.chromatography.column import Beads, Bed, Section, simulate
from sepmodel.chromatography.cyclic import faded, fixed_point, steady_cycle, working_life
from sepmodel.chromatography.isotherms import (
    Langmuir,
    Linear,
    ModulatorLangmuir,
    StericMassAction,
)
from sepmodel.chromatography.transport import Galerkin, Limited
from sepmodel.errors import ConvergenceError, InputError

BED = Bed(
    length=0.1,
    velocity=2e-4,
    void=0.4,
    dispersion=2e-7,
    beads=Beads(radius=5e-5, porosity=0.6, film=np.full(2, 1e-5)),
)
LAW = Langmuir(constant=np.array([0.5, 0.1]), capacity=np.array([300.0, 300.0]))
SCHEME = Galerkin(degree=3, elements=8)
# Far too short a wash: what stays behind builds up over many cycles.
CYCLE = [
    Section(duration=400.0, conc=np.array([2.0, 4.0])),
    Section(duration=900.0, conc=np.zeros(2)),
]


def test_doctests():
    assert doctest.testmod(cyclic).failed == 0


@pytest.fixture(scope="module")
def marched():
    states = [np.zeros(2)]
    while True:
        got = simulate(BED, LAW, CYCLE, scheme=SCHEME, initial=states[-1], estimate=False)
        if np.abs(got.held - got.held_before).max() < 1e-8 * got.held.max():
            return got, len(states)
        states.append(got.state)


@pytest.mark.parametrize("rate", [None, np.full(2, 1e-4)])
def test_steady_cycle_is_where_marching_ends(marched, rate):
    found = steady_cycle(BED, LAW, CYCLE, initial=np.zeros(2), scheme=SCHEME, rate=rate)
    assert found.result.left == pytest.approx(found.result.fed, rel=1e-5)
    assert found.residuals[-1] < 1e-6
    if rate is None:
        got, count = marched
        assert found.cycles <= count + 2  # a front that moves on each cycle cannot be foreseen
        assert found.result.outlet == pytest.approx(got.outlet, abs=2e-5 * got.outlet.max())
    else:
        assert found.cycles < 20  # marching needs about 160


def test_a_linear_map_takes_as_many_cycles_as_it_has_slow_modes():
    rng = np.random.default_rng(3)
    modes = np.linalg.qr(rng.normal(size=(20, 20)))[0]
    speeds = np.concatenate([[0.999, 0.99, 0.9], np.full(17, 1e-3)])
    matrix = modes @ np.diag(speeds) @ modes.T
    fixed = rng.uniform(1, 2, 20)
    found = fixed_point(lambda x: fixed + matrix @ (x - fixed), 1.5 * np.ones(20), tolerance=1e-9)
    assert found.value == pytest.approx(fixed, rel=1e-5)
    assert len(found.residuals) <= 12
    with pytest.raises(ConvergenceError, match="no cyclic steady state"):
        fixed_point(lambda x: x + 1.0, np.zeros(1), most=5)


def test_fading_capacity_against_every_cycle():
    """A life of 30 cycles from five steady ones, against marching all of them."""
    bed = Bed(length=0.05, velocity=2e-4, void=0.4, dispersion=2e-7)
    law = Linear(coefficient=np.array([6.0]))
    steps = [Section(duration=d, conc=np.array([c])) for d, c in ((1200.0, 1.0), (1500.0, 0.0))]

    def fade(n):
        return np.exp(-np.asarray(n) / 75)

    def captured(result):
        """What the load leaves in the column, from the breakthrough during the load."""
        times, out = result.times, result.outlet[:, 0]
        inside = times <= 1200.0
        return bed.velocity * (1200.0 - np.trapezoid(out[inside], times[inside]))

    def steady(share):
        settings = {"initial": np.zeros(1), "scheme": SCHEME, "times": np.arange(0.0, 2701.0, 20)}
        return captured(steady_cycle(bed, faded(law, share), steps, **settings).result)

    life = working_life(steady, fade, 30)
    state, sums = np.zeros(1), 0.0
    for n in range(30):
        got = simulate(
            bed,
            faded(law, float(fade(n))),
            steps,
            scheme=SCHEME,
            initial=state,
            times=np.arange(0.0, 2701.0, 20),
            estimate=False,
        )
        sums += captured(got)
        state = got.state.conc[-1]
    assert life.total[0] == pytest.approx(sums, rel=2e-3)
    assert life.error[0] < 1e-2 * life.values[0, 0]
    assert life.values[-1, 0] < life.values[0, 0]
    with pytest.raises(InputError, match="share"):
        working_life(steady, lambda n: 1 + n, 3)
    with pytest.raises(InputError, match="share"):
        faded(law, 0.0)


MODULATED = {
    "modulator Langmuir": ModulatorLangmuir(
        constant=np.array([0.0, 5e4]),
        capacity=np.array([0.0, 10.0]),
        gamma=np.zeros(2),
        beta=np.array([0.0, 2.0]),
    ),
    "steric mass action": StericMassAction(
        constant=np.array([1.0, 1.0]),
        charge=np.array([1.0, 3.0]),
        shield=np.array([0.0, 10.0]),
        capacity=600.0,
    ),
}


@pytest.mark.parametrize("scheme", [Galerkin(degree=3, elements=16), Limited(cells=60)])
@pytest.mark.parametrize("name", MODULATED)
def test_load_wash_elute_with_a_modulator(name, scheme):
    """The salt step moves what the load bound; both components close; salt passes where it must."""
    bed = Bed(
        length=0.02,
        velocity=2e-4,
        void=0.4,
        dispersion=6e-8,
        beads=Beads(radius=4.5e-5, porosity=0.7, film=np.array([6.9e-6, 6.9e-6])),
    )
    steps = [
        Section(duration=60.0, conc=np.array([50.0, 1.0])),
        Section(duration=200.0, conc=np.array([50.0, 0.0])),
        Section(duration=600.0, conc=np.array([100.0, 0.0]), slope=np.array([0.5, 0.0])),
    ]
    got = simulate(
        bed,
        MODULATED[name],
        steps,
        scheme=scheme,
        initial=np.array([50.0, 0.0]),
        times=np.arange(0.0, 861.0, 2.0),
        tolerance=1e-6,
        estimate=False,
    )
    assert got.closure < 1e-9
    protein = got.outlet[:, 1]
    before = got.times < 240
    assert np.trapezoid(protein[before], got.times[before]) < 0.02 * 60.0
    assert got.left[1] == pytest.approx(got.fed[1], rel=5e-3)
    assert protein.max() > 0.1
    assert got.outlet[-1, 0] > 300
