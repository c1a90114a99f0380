"""The column engine against closed forms, the Laplace domain, and its own balances."""

import doctest

import numpy as np
import pytest

from sepmodel.chromatography import (
    column,
    integrate,
    isotherms,
    linear_theory,
    transport,
)
from sepmodel.chromatography.column import Beads, Bed, Section, simulate
from sepmodel.chromatography.isotherms import (
    ConstantSelectivity,
    Langmuir,
    Linear,
    ModulatorLangmuir,
    StericMassAction,
)
from sepmodel.chromatography.transport import Galerkin, Limited
from sepmodel.errors import ConvergenceError, InputError

TUBE = {"length": 0.1, "velocity": 1e-4, "void": 0.4, "dispersion": 2e-8}
FILM = np.array([5e-6])
PORE = np.array([5e-11])
LUMPED = Beads(radius=5e-5, porosity=0.6, film=FILM)
GENERAL = Beads(radius=5e-5, porosity=0.6, film=FILM, diffusion=PORE)
LAG = np.array([0.05])
MODELS = {
    "dispersive": (Bed(**TUBE), None),
    "dispersive, lagging": (Bed(**TUBE), LAG),
    "lumped": (Bed(**TUBE, beads=LUMPED), None),
    "general": (Bed(**TUBE, beads=GENERAL), None),
    "general, lagging": (Bed(**TUBE, beads=GENERAL), LAG),
}
K = 2.0
LAW = Linear(coefficient=np.array([K]))
INLET = 3.0


def breakthrough(bed, rate, scheme, times=801, tolerance=1e-10, shells=7):
    """A step from empty, with 14 standard deviations after the mean: (result, mean, variance)."""
    mean, variance = linear_theory.moments(bed, K, None if rate is None else float(rate[0]))
    end = mean + 14 * np.sqrt(variance)
    result = simulate(
        bed,
        LAW,
        [Section(duration=end, conc=np.array([INLET]))],
        scheme=scheme,
        rate=rate,
        times=np.linspace(0.0, end, times),
        tolerance=tolerance,
        shells=shells,
        estimate=False,
    )
    return result, mean, variance


def measured_moments(result, bed):
    """Mean from the exact integral of the outflow, variance by Simpson's rule."""
    from scipy.integrate import simpson

    end = result.times[-1]
    mean = end - result.left[0] / (INLET * bed.velocity)
    late = 1 - result.outlet[:, 0] / INLET
    return mean, 2 * simpson(result.times * late, x=result.times) - mean**2


@pytest.mark.parametrize("module", [column, integrate, isotherms, linear_theory, transport])
def test_doctests(module):
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", MODELS)
def test_galerkin_against_moments_and_the_laplace_domain(name):
    bed, rate = MODELS[name]
    result, mean, variance = breakthrough(bed, rate, Galerkin(degree=5, elements=16), times=1601)
    found = measured_moments(result, bed)
    assert found[0] == pytest.approx(mean, rel=1e-6)
    assert found[1] == pytest.approx(variance, rel=1e-6)
    step = [Section(duration=result.times[-1], conc=np.array([INLET]))]
    exact = linear_theory.response(bed, LAW.coefficient, step, result.times, rate)
    assert np.abs(result.outlet - exact).max() < 1e-4 * INLET
    assert result.closure < 1e-9


@pytest.mark.parametrize("name", MODELS)
def test_limited_scheme_is_bounded_conservative_and_second_order(name):
    bed, rate = MODELS[name]
    errors = []
    for cells in (100, 200):
        result, mean, variance = breakthrough(bed, rate, Limited(cells=cells), tolerance=1e-8)
        found = measured_moments(result, bed)
        assert result.outlet.min() > -1e-12 * INLET
        assert result.outlet.max() < INLET * (1 + 1e-7)
        assert found[0] == pytest.approx(mean, rel=1e-9)
        assert result.closure < 1e-9
        errors.append(abs(found[1] / variance - 1))
    assert np.log2(errors[0] / errors[1]) > 1.9


def test_transfer_function_has_the_moments():
    bed, _ = MODELS["general, lagging"]
    mean, variance = linear_theory.moments(bed, K, float(LAG[0]))
    s = 1e-3 / mean * np.exp(2j * np.pi * np.arange(8) / 8)
    log_g = np.log(linear_theory.transfer(s, bed, K, float(LAG[0])))
    # Cauchy's formula: coefficients of the logarithm are the cumulants.
    assert np.mean(log_g / s).real == pytest.approx(-mean, rel=1e-9)
    assert np.mean(log_g / s**2).real == pytest.approx(variance / 2, rel=1e-6)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_order_of_accuracy_of_galerkin(degree):
    bed = Bed(length=0.1, velocity=1e-4, void=0.4, dispersion=1e-6)
    step = [Section(duration=1000.0, conc=np.array([1.0]))]
    times = np.linspace(300.0, 1000.0, 71)
    exact = linear_theory.response(bed, LAW.coefficient, step, times)
    errors = []
    for elements in (8, 16):
        scheme = Galerkin(degree=degree, elements=elements)
        got = simulate(bed, LAW, step, scheme=scheme, times=times, tolerance=1e-9, estimate=False)
        errors.append(np.abs(got.outlet - exact).max())
    assert np.log2(errors[0] / errors[1]) > degree + 0.5


def test_pulse_and_gradient_follow_the_laplace_domain():
    bed, _ = MODELS["lumped"]
    programme = [
        Section(duration=200.0, conc=np.array([1.0])),
        Section(duration=300.0, conc=np.array([0.0]), slope=np.array([0.01])),
        Section(duration=200.0, conc=np.array([3.0]), slope=np.array([-0.015])),
        Section(duration=4000.0, conc=np.array([0.0])),
    ]
    times = np.linspace(0.0, 4700.0, 471)
    exact = linear_theory.response(bed, LAW.coefficient, programme, times)
    got = simulate(
        bed, LAW, programme, scheme=Galerkin(degree=4, elements=16), times=times, tolerance=1e-7
    )
    assert np.abs(got.outlet - exact).max() < 1e-4
    assert got.closure < 1e-9
    assert np.abs(got.outlet - exact).max() / exact.max() < got.error < 1e-2
    assert "P4 x 16" in got.summary()


def test_units_of_length_time_and_amount_rescale():
    law = Langmuir(constant=np.array([0.3, 0.1]), capacity=np.array([40.0, 40.0]))
    beads = Beads(radius=5e-5, porosity=0.6, film=np.full(2, 5e-6), diffusion=np.full(2, 5e-11))
    length, time, amount = 8.0, 16.0, 4.0
    conc = amount / length**3
    big = Beads(
        radius=5e-5 * length,
        porosity=0.6,
        film=beads.film * length / time,
        diffusion=beads.diffusion * length**2 / time,
    )
    other = Langmuir(constant=law.constant / conc, capacity=law.capacity * conc)
    settings = {
        "scheme": Galerkin(degree=2, elements=4),
        "shells": 3,
        "tolerance": 1e-5,
        "estimate": False,
    }
    inlet = np.array([1.0, 2.0])
    one = simulate(
        Bed(**TUBE, beads=beads), law, [Section(duration=2000.0, conc=inlet)], **settings
    )
    two = simulate(
        Bed(
            length=TUBE["length"] * length,
            velocity=TUBE["velocity"] * length / time,
            void=TUBE["void"],
            dispersion=TUBE["dispersion"] * length**2 / time,
            beads=big,
        ),
        other,
        [Section(duration=2000.0 * time, conc=inlet * conc)],
        **settings,
    )
    assert np.allclose(two.outlet / conc, one.outlet, rtol=1e-6, atol=1e-9)


LAWS = [
    Langmuir(constant=np.array([0.3, 0.1, 0.2]), capacity=np.array([40.0, 50.0, 60.0])),
    ModulatorLangmuir(
        constant=np.array([0.0, 0.1, 0.2]),
        capacity=np.array([0.0, 50.0, 60.0]),
        gamma=np.array([0.0, 0.01, -0.02]),
        beta=np.array([0.0, 1.3, 2.0]),
    ),
    StericMassAction(
        constant=np.array([0.0, 2.0, 0.5]),
        charge=np.array([1.0, 3.0, 2.5]),
        shield=np.array([0.0, 4.0, 0.0]),
        capacity=100.0,
    ),
    ConstantSelectivity(selectivity=np.array([1.0, 10.0, 3.0]), capacity=100.0),
    LAW,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: type(law).__name__)
def test_slopes_of_isotherms(law):
    width = 1 if isinstance(law, Linear) else 3
    conc = np.random.default_rng(1).uniform(0.5, 5.0, (4, 2, width))
    slopes = law.slopes(conc)
    for j in range(width):
        h = np.zeros(width)
        h[j] = 1e-5
        numeric = (law.loading(conc + h) - law.loading(conc - h)) / 2e-5
        assert np.allclose(slopes[..., j], numeric, rtol=1e-6, atol=1e-7)
    # Leading axes are independent, bit for bit.
    assert np.array_equal(law.loading(conc)[1, 1], law.loading(conc[1, 1]))


def test_steric_mass_action_keeps_the_resin_neutral():
    law = LAWS[2]
    q = law.loading(np.array([[50.0, 1.0, 2.0], [2.0, 5.0, 0.0]]))
    assert (q @ law.charge).tolist() == pytest.approx([100.0, 100.0])


def test_slopes_of_the_limited_scheme():
    op = transport.operator(Limited(cells=7), 1.0, 2.0, 0.05)
    rng = np.random.default_rng(2)
    conc, inlet = rng.uniform(0.0, 1.0, (7, 2)), np.array([0.3, 0.9])
    slopes = transport.limited_slopes(op, conc, inlet)
    for j in range(7):
        h = np.zeros((7, 1))
        h[j] = 1e-6
        numeric = (
            transport.limited_rate(op, conc + h, inlet)
            - transport.limited_rate(op, conc - h, inlet)
        ) / 2e-6
        for i in range(7):
            k = j - i + 2
            expected = slopes[k, i] if 0 <= k < 4 else np.zeros(2)
            assert np.allclose(numeric[i], expected, atol=1e-6)
    both = np.stack([conc, conc[::-1]])
    twice = transport.limited_rate(op, both, np.stack([inlet, inlet]))
    assert np.array_equal(twice[0], transport.limited_rate(op, conc, inlet))


@pytest.mark.parametrize("rate", [None, np.array([0.5, 0.2])])
@pytest.mark.parametrize("beads", [False, True])
@pytest.mark.parametrize("scheme", [Galerkin(degree=3, elements=8), Limited(cells=40)])
def test_competition_closes_and_ends_at_the_isotherm(scheme, beads, rate):
    law = Langmuir(constant=np.array([0.3, 0.1]), capacity=np.array([40.0, 40.0]))
    film = np.full(2, 5e-5)
    bed = Bed(
        **{**TUBE, "dispersion": 2e-7},
        beads=Beads(radius=5e-5, porosity=0.6, film=film) if beads else None,
    )
    inlet = np.array([4.0, 6.0])
    got = simulate(
        bed,
        law,
        [Section(duration=6000.0, conc=inlet)],
        scheme=scheme,
        rate=rate,
        tolerance=1e-5,
        estimate=False,
    )
    q = law.loading(inlet)
    solid = 0.6 * inlet + 0.4 * q if beads else q
    assert np.allclose(got.held / bed.length, 0.4 * inlet + 0.6 * solid, rtol=1e-4)
    assert got.closure < 1e-9
    assert got.outlet[:, 1].max() > inlet[1] * 1.05  # the weaker is pushed ahead


def test_going_on_from_a_state_is_the_same_run():
    bed, _ = MODELS["lumped"]
    parts = [
        Section(duration=500.0, conc=np.array([1.0])),
        Section(duration=1500.0, conc=np.array([0.0])),
    ]
    settings = {"scheme": Galerkin(degree=3, elements=8), "estimate": False}
    whole = simulate(bed, LAW, parts, times=[2000.0], **settings)
    first = simulate(bed, LAW, parts[:1], **settings)
    second = simulate(bed, LAW, parts[1:], initial=first.state, times=[1500.0], **settings)
    assert second.outlet[0] == pytest.approx(whole.outlet[0], rel=1e-5)
    assert second.held_before == pytest.approx(first.held, rel=1e-12)


def test_profiles_and_interpolation():
    bed, _ = MODELS["dispersive"]
    got = simulate(
        bed,
        LAW,
        [Section(duration=600.0, conc=np.array([1.0]))],
        scheme=Galerkin(degree=4, elements=16),
        profile_times=[0.0, 600.0],
        estimate=False,
    )
    assert np.all(got.profiles[0] == 0)
    assert got.profiles[1, :, 0] == pytest.approx(got.state.conc[:, 0], abs=1e-9)
    z = np.array([0.02, 0.0513])
    between = transport.interpolate(Galerkin(degree=4, elements=16), got.profiles[1], 0.1, z)
    assert between[0, 0] == pytest.approx(1.0, abs=1e-3)
    cubic = got.position**3
    exact = transport.interpolate(Galerkin(degree=4, elements=16), cubic, 0.1, z)
    assert exact == pytest.approx(z**3, rel=1e-12)


@pytest.mark.parametrize("points", [2, 4, 9])
def test_beads_are_exact_for_polynomials(points):
    inside = transport.shells(points)
    x = inside.radius**2
    for power in range(2 * points - 1):
        # mean of x^k over a sphere
        assert inside.weight @ x**power == pytest.approx(3 / (2 * power + 3), rel=1e-12)
    assert np.abs(inside.stiffness @ np.ones(points)).max() < 1e-10
    # |d x/dr|^2 = 4 x
    assert x @ inside.stiffness @ x == pytest.approx(4 * 3 / 5, rel=1e-12)


def test_refusals():
    bed, _ = MODELS["dispersive"]
    good = Section(duration=1.0, conc=np.array([1.0]))
    with pytest.raises(InputError, match="empty"):
        simulate(bed, LAW, [])
    with pytest.raises(InputError, match="negative"):
        simulate(bed, LAW, [Section(duration=1.0, conc=np.array([-1.0]))])
    with pytest.raises(InputError, match="not positive"):
        simulate(Bed(**{**TUBE, "length": 0.0}), LAW, [good])
    with pytest.raises(InputError, match="components"):
        simulate(bed, LAW, [good, Section(duration=1.0, conc=np.ones(2))])
    first = simulate(bed, LAW, [good], scheme=Galerkin(degree=1, elements=4), estimate=False)
    with pytest.raises(InputError, match="another scheme"):
        simulate(bed, LAW, [good], initial=first.state, estimate=False)
    with pytest.raises(ConvergenceError):
        StericMassAction(
            constant=np.ones(2), charge=np.ones(2), shield=np.zeros(2), capacity=1.0
        ).loading(np.array([0.0, 1.0]))
