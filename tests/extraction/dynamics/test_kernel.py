"""The arithmetic: mixers, rates, their derivative, linear systems, order of the method."""

import numpy as np
import pytest
from trains_for_tests import binary, circuit_train

from sepmodel.extraction.dynamics import integrate, tableau
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.mixers import GeneralMixers

TRAINS = {
    "mass flow": binary,
    "circuit": circuit_train,
    "open": lambda: circuit_train(closed=False),
    "settler": lambda: circuit_train(settler=2.0, cells=3),
    "efficiency": lambda: circuit_train(efficiency=np.array([0.9, 0.8, 1.0])),
    "entrainment": lambda: circuit_train(carry_aq=0.01, carry_org=0.005, settler=1.0),
    "all": lambda: circuit_train(efficiency=0.85, carry_aq=0.01, settler=1.0, cells=2),
}


def state(train, *, wobble=0.1):
    """A state away from any steadiness, and its kernel."""
    net = train.network(train.settings)
    kernel = Kernel(net)
    y = np.zeros(kernel.lay.size)
    moles, u = train.start(net, "feed")
    mixer, bypass, aq, org, _, _ = kernel.lay.split(y)
    rng = np.random.default_rng(1)
    mixer[:] = moles * (1 + wobble * rng.uniform(-1, 1, moles.shape))
    found = kernel.contents(y, u)
    for _ in range(5):
        found = kernel.contents(y, found.u)
    if bypass is not None:
        bypass[:] = (
            0.2 * found.y * net.aside[:, None] * (1 + wobble * rng.uniform(-1, 1, moles.shape))
        )
        bypass[:, net.components :] = 0
    aq[:] = found.x * net.cell[0][:, None] * (1 + wobble * rng.uniform(-1, 1, aq.shape))
    org[:] = found.y * net.cell[1][:, None] * (1 + wobble * rng.uniform(-1, 1, org.shape))
    return kernel, y, found.u


def exact(kernel, y, u):
    for _ in range(4):
        found = kernel.contents(y, u)
        u = found.u
    return found


@pytest.mark.parametrize("name", TRAINS)
def test_linear_systems_hold_the_exact_derivative(name):
    kernel, y, u = state(TRAINS[name]())
    found = exact(kernel, y, u)
    rng = np.random.default_rng(2)
    k = rng.normal(size=y.size) * np.abs(y).max()
    bypass = kernel.lay.split(k)[1]
    if bypass is not None:
        bypass[:, kernel.c :] = 0
    size = 1e-6
    ahead = y + size * k
    behind = y - size * k
    by = kernel.rates(ahead, exact(kernel, ahead, found.u)) - kernel.rates(
        behind, exact(kernel, behind, found.u)
    )
    w = 3e-4 if name != "mass flow" else 0.3
    r = w * k - by / (2 * size)
    system = kernel.factor(found, kernel.linearise(found), w)
    again = system.solve(r)
    assert np.abs(again - k).max() < 1e-6 * np.abs(k).max()


@pytest.mark.parametrize("name", TRAINS)
def test_rates_lose_nothing(name):
    kernel, y, u = state(TRAINS[name]())
    rate = kernel.rates(y, exact(kernel, y, u))
    mixer, bypass, aq, org, ports, fed = kernel.lay.split(rate)
    gain = mixer.sum(axis=0) + aq.sum(axis=(0, 1)) + org.sum(axis=(0, 1))
    if bypass is not None:
        gain = gain + bypass.sum(axis=0)
    through = np.abs(ports).sum(axis=0) + fed
    assert np.abs(gain + ports.sum(axis=0) - fed).max() < 1e-12 * through.max()


@pytest.mark.parametrize("name", ["mass flow", "circuit", "efficiency"])
def test_written_out_mixers_are_the_general_ones(name):
    kernel, y, u = state(TRAINS[name]())
    net = kernel.net
    found = exact(kernel, y, u)
    mixer = kernel.lay.split(y)[0][:, : kernel.c]
    general = GeneralMixers(net.model, net.shift, kernel.va, kernel.vo)
    u2, d2, _ = general.settle(mixer, found.totals, found.u + 0.01, found.aside, 1e-9)
    assert u2 == pytest.approx(found.u, abs=1e-10)
    assert d2 == pytest.approx(found.d, rel=1e-9)
    ours = kernel.mixers.slopes(found, bool(kernel.t))
    theirs = general.slopes(found, bool(kernel.t))
    for part in ("x_u", "y_u", "u_m", "u_a", "u_t"):
        a, b = getattr(ours, part), getattr(theirs, part)
        if a is not None:
            assert a == pytest.approx(b, rel=1e-6, abs=1e-9 * np.abs(b).max()), part


def rooted_trees():
    """Order conditions of a Rosenbrock method in terms of alpha and beta = alpha + gamma."""
    gamma = np.linalg.inv(np.eye(8) / tableau.GAMMA - tableau.C)
    alpha = tableau.A @ gamma
    b = tableau.B @ gamma
    beta = alpha + gamma
    one = np.ones(8)
    a = alpha.sum(axis=1)
    e = beta @ one
    yield 1, b @ one - 1
    yield 2, b @ e - 1 / 2
    yield 3, b @ a**2 - 1 / 3
    yield 3, b @ beta @ e - 1 / 6
    yield 4, b @ a**3 - 1 / 4
    yield 4, b @ (a * (alpha @ e)) - 1 / 8
    yield 4, b @ beta @ a**2 - 1 / 12
    yield 4, b @ beta @ beta @ e - 1 / 24
    yield 5, b @ a**4 - 1 / 5
    yield 5, b @ (a**2 * (alpha @ e)) - 1 / 10
    yield 5, b @ ((alpha @ e) ** 2) - 1 / 20
    yield 5, b @ (a * (alpha @ a**2)) - 1 / 15
    yield 5, b @ (a * (alpha @ beta @ e)) - 1 / 30
    yield 5, b @ beta @ a**3 - 1 / 20
    yield 5, b @ beta @ (a * (alpha @ e)) - 1 / 40
    yield 5, b @ beta @ beta @ a**2 - 1 / 60
    yield 5, b @ beta @ beta @ beta @ e - 1 / 120


def test_coefficients_have_order_five():
    for order, rest in rooted_trees():
        assert abs(rest) < 1e-12, order


def test_observed_order():
    """Fixed steps on a smooth stretch: each halving divides the error by about 2^5."""
    train = binary()
    kernel, y, u = state(train, wobble=0.0)
    kernel.close = 1e-8
    begin = integrate.Memory(t=0.0, y=y, u=u)
    integrate.advance(lambda t: kernel, begin, 5.0, integrate.Options(rtol=1e-9), fresh=True)
    ends = {}
    for count in (10, 20, 40, 320):
        memory = integrate.Memory(t=0.0, y=begin.y, u=begin.u)
        for i in range(count):
            memory.h = 8.0 / count
            options = integrate.Options(rtol=1e3)
            integrate.advance(lambda t: kernel, memory, 8.0 * (i + 1) / count, options)
        ends[count] = kernel.lay.split(memory.y)[0].copy()
    errors = [np.abs(ends[k] - ends[320]).max() for k in (10, 20, 40)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    print(errors, orders)
    assert orders.min() > 4.5
