"""The arithmetic: mixers, rates, their derivative, linear systems, order of the method."""

import numpy as np
import pytest
from trains_for_tests import active_train, binary, circuit_train

from sepmodel.extraction.dynamics import integrate, radau
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.linear import Linear
from sepmodel.extraction.dynamics.mixers import GeneralMixers

TRAINS = {
    "mass flow": binary,
    "circuit": circuit_train,
    "open": lambda: circuit_train(closed=False),
    "settler": lambda: circuit_train(settler=2.0, cells=3),
    "efficiency": lambda: circuit_train(efficiency=np.array([0.9, 0.8, 1.0])),
    "entrainment": lambda: circuit_train(carry_aq=0.01, carry_org=0.005, settler=1.0),
    "activities": active_train,
    "all, activities": lambda: active_train(efficiency=0.9, carry_aq=0.01, settler=1.0),
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
    aqueous, organic = kernel.concentrations(y, found)
    if bypass is not None:
        bypass[:] = (
            0.2 * organic * net.aside[:, None] * (1 + wobble * rng.uniform(-1, 1, moles.shape))
        )
        bypass[:, net.components :] = 0
    aq[:] = aqueous * net.cell[0][:, None] * (1 + wobble * rng.uniform(-1, 1, aq.shape))
    org[:] = organic * net.cell[1][:, None] * (1 + wobble * rng.uniform(-1, 1, org.shape))
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
    inner = kernel.lay.inner
    change = by / (2 * size)
    lin = Linear(kernel, found, kernel.linearise(found))
    for part in (1.0, 1.0 + 0.8j):
        w = (3e-4 if name != "mass flow" else 0.3) * part
        system = lin.shifted(w)
        again = system.solve(w * k[:inner] - change[:inner])
        assert np.abs(again - k[:inner]).max() < 1e-6 * np.abs(k).max()
    # ... and what leaves.
    out = kernel.lay.split(change)[4]
    assert np.abs(lin.passing(k[:inner]) - out).max() < 1e-6 * np.abs(out).max()


@pytest.mark.parametrize("name", TRAINS)
def test_a_linear_system_loses_nothing(name):
    """w k - J k = r, so that the sums of w k, what that lets out, and r agree; weak links too."""
    kernel, y, u = state(TRAINS[name]())
    lin = Linear(kernel, exact(kernel, y, u), kernel.linearise(exact(kernel, y, u)))
    r = np.random.default_rng(3).normal(size=kernel.lay.inner)
    bypass = kernel.lay.parts(r)[1]
    if bypass is not None:
        bypass[:, kernel.c :] = 0
    for w in (0.3, 3.0, 3.0 + 2.0j):
        for follow in (True, False):
            k = lin.shifted(w, exact=follow).solve(r * (1 + 0j if isinstance(w, complex) else 1))
            held = k.reshape(-1, kernel.lay.k)
            real = [held.real, held.imag] if np.iscomplexobj(held) else [held]
            out = sum(
                f * lin.passing(part.reshape(-1)).sum(axis=0)
                for f, part in zip((1, 1j), real, strict=False)
            )
            gap = w * held.sum(axis=0) + out - r.reshape(-1, kernel.lay.k).sum(axis=0)
            assert np.abs(gap).max() < 1e-11 * np.abs(r).sum()


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


@pytest.mark.parametrize(
    "name", ["mass flow", "circuit", "efficiency", "activities", "all, activities"]
)
def test_written_out_mixers_are_the_general_ones(name):
    kernel, y, u = state(TRAINS[name]())
    net = kernel.net
    found = exact(kernel, y, u)
    mixer = kernel.lay.split(y)[0][:, : kernel.c]
    general = GeneralMixers(net.model, net.shift, kernel.va, kernel.vo)
    u2, d2, _, _ = general.settle(mixer, found.totals, found.u + 0.01, found.aside, 1e-9)
    assert u2 == pytest.approx(found.u, abs=1e-10)
    assert d2 == pytest.approx(found.d, rel=1e-9)
    ours = kernel.mixers.slopes(found, bool(kernel.t))
    theirs = general.slopes(found, bool(kernel.t))
    for part in ("x_u", "y_u", "u_m", "u_a", "u_t"):
        a, b = getattr(ours, part), getattr(theirs, part)
        if a is not None:
            assert a == pytest.approx(b, rel=1e-6, abs=1e-9 * np.abs(b).max()), part


def test_coefficients_are_those_of_radau():
    m = radau.method()
    for k in range(radau.ORDER):
        assert m.a[-1] @ m.nodes**k == pytest.approx(1 / (k + 1), abs=1e-14)
    for k in range(1, 6):
        assert m.a @ m.nodes ** (k - 1) == pytest.approx(m.nodes**k / k, abs=1e-13)
    assert m.out @ m.into == pytest.approx(np.eye(5), abs=1e-12)
    # L-stable: the amplification far left goes to zero.
    for z in (-1e6, -1e6j, -3.0 + 1e5j):
        inverse = np.linalg.inv(np.eye(5) - z * m.a)
        assert abs(1 + z * (m.a[-1] @ inverse @ np.ones(5))) < 1e-3
    for z in 1j * np.geomspace(1e-2, 1e3, 60):
        inverse = np.linalg.inv(np.eye(5) - z * m.a)
        assert abs(1 + z * (m.a[-1] @ inverse @ np.ones(5))) <= 1 + 1e-12


def test_a_polynomial_is_continued():
    m = radau.method()
    p = np.polynomial.Polynomial([0.0, 1.0, -2.0, 0.5, 0.3])
    ahead = radau.ahead(1.7) @ p(m.nodes)
    assert ahead == pytest.approx(p(1 + 1.7 * m.nodes) - p(1.0), abs=1e-11)


def test_a_polynomial_is_followed_within_its_step():
    m = radau.method()
    p = np.polynomial.Polynomial([0.0, 1.0, -2.0, 0.5, 0.3, -0.2])
    assert radau.within(0.4) @ p(m.nodes) == pytest.approx(p(0.4 * m.nodes), abs=1e-12)


def test_steps_of_mixers_alone_are_those_of_any_train():
    """The carriers found first, the beginning beside the stages: another way to the same."""
    ends = []
    for one_way in (True, False):
        kernel, y, u = state(circuit_train())
        assert kernel.one_way
        kernel.one_way = one_way
        memory = integrate.Memory(t=0.0, y=y, u=u)
        options = integrate.Options(rtol=1e-8)
        integrate.advance(lambda t, k=kernel: k, memory, 7200.0, options, fresh=True)
        ends.append(memory.y)
    assert np.abs(ends[0] - y).max() > 0.1 * np.abs(y).max()
    assert ends[0] == pytest.approx(ends[1], rel=1e-7, abs=1e-9 * np.abs(y).max())


def test_output_within_a_step_is_better_than_its_polynomial():
    """Less what the polynomial is known to err by; balances hold there too."""
    kernel, y, u = state(binary(), wobble=0.0)
    kernel.close = 1e-10
    begin = integrate.Memory(t=0.0, y=y, u=u)
    integrate.advance(lambda t: kernel, begin, 5.0, integrate.Options(rtol=1e-9), fresh=True)
    moments = np.linspace(0.1, 3.9, 20)
    lay = kernel.lay
    held = y.reshape(-1, lay.k).sum(axis=0)

    def run(count):
        steps = []
        memory = integrate.Memory(
            t=0.0, y=begin.y, u=begin.u, h=4.0 / count, rate=begin.rate, leaving=begin.leaving
        )
        options = integrate.Options(as_given=True)
        integrate.advance(lambda t: kernel, memory, 4.0, options, steps.append)
        found = []
        for t in moments:
            step = next(s for s in steps if t <= s.t + s.h)
            s = np.array([(t - step.t) / step.h])
            part = s[:, None] ** np.arange(1, 6) @ radau.method().bend
            found.append((step.at(s)[0][0], (step.y + part @ step.solved.moved())[0]))
        return np.array(found)

    fine, coarse = run(32), run(4)
    wrong = np.abs(coarse - fine[:, :1])[..., : lay.inner].max(axis=(0, 2))
    left = np.abs(coarse - fine[:, :1])[..., lay.inner :].max(axis=(0, 2))
    print(wrong, left)
    assert wrong[0] < 0.4 * wrong[1]
    assert left[0] < 0.4 * left[1]
    rows = coarse[:, 0].reshape(len(moments), -1, lay.k)
    gap = rows[:, :-1].sum(axis=1) - rows[:, -1] - (held if held.any() else 0)
    assert np.abs(gap - gap[0]).max() < 1e-11 * held.max()


def test_what_is_washed_out_is_not_followed_to_nothing():
    kernel, y, u = state(circuit_train(), wobble=0.0)
    lay, c, options = kernel.lay, kernel.c, integrate.Options(rtol=1e-4)
    memory = integrate.Memory(t=0.0, y=y, u=u)
    full = integrate.scale(kernel, memory, y, options)
    nearly = integrate.scale(kernel, memory, 1e-9 * y, options)
    most = lay.parts(y)[0][:, :c].sum(axis=1, keepdims=True)
    assert lay.parts(nearly)[0][:, :c] == pytest.approx(
        np.broadcast_to(options.rtol * options.floor * most, (lay.n, c)), rel=1e-5
    )
    assert np.all(full >= nearly)


def test_several_shifts_are_several_systems():
    """Solved together or one by one, with and without exchanged rows and returned streams."""
    kernel, y, u = state(circuit_train())
    found = exact(kernel, y, u)
    kernel.moving = False
    lin = Linear(kernel, found, kernel.linearise(found), moving=False)
    draw = np.random.default_rng(3)
    size = kernel.lay.n * kernel.c
    for shifts in ((1e-1 + 2e-1j, 3e-1 + 1e-2j), (1e-5 + 2e-5j, 3e-5 + 1e-6j)):
        r = draw.normal(size=2 * size) + 1j * draw.normal(size=2 * size)
        together = lin.bands(shifts).solve(r).reshape(2, size)
        for w, part, one in zip(shifts, r.reshape(2, size), together, strict=True):
            alone = lin.bands((w,)).solve(part)
            assert one == pytest.approx(alone, rel=1e-9, abs=1e-9 * np.abs(alone).max())


def test_observed_order():
    """Fixed steps on a smooth stretch: each halving divides the error by about 2^9."""
    train = binary()
    kernel, y, u = state(train, wobble=0.0)
    kernel.close = 1e-8
    begin = integrate.Memory(t=0.0, y=y, u=u)
    integrate.advance(lambda t: kernel, begin, 5.0, integrate.Options(rtol=1e-9), fresh=True)
    ends = {}
    for count in (2, 3, 4, 6, 8, 40):
        memory = integrate.Memory(t=0.0, y=begin.y, u=begin.u, h=16.0 / count)
        options = integrate.Options(as_given=True)
        integrate.advance(lambda t: kernel, memory, 16.0, options)
        assert memory.steps == count
        ends[count] = kernel.lay.split(memory.y)[0].copy()
    errors = {k: np.abs(ends[k] - ends[40]).max() for k in (2, 3, 4, 6, 8)}
    orders = [np.log(errors[a] / errors[b]) / np.log(b / a) for a, b in ((2, 4), (3, 6), (4, 8))]
    print(errors, orders)
    assert min(orders) > 8.5


def test_unknowns_that_went_astray_are_found_again():
    """At the beginning of a step they are off however short the step is."""
    train = circuit_train()
    kernel = Kernel(train.network(train.settings))
    moles, u = train.start(kernel.net, "feed")
    ends = []
    for astray in (0.0, 5.0):
        memory = integrate.Memory(t=0.0, y=np.zeros(kernel.lay.size), u=np.array(u))
        memory.y[: kernel.lay.mixers] = moles.reshape(-1)

        def seen(step, memory=memory, astray=astray):
            if memory.steps == 5:
                memory.u = memory.u + astray * (np.arange(kernel.net.stages) == 3)[:, None]

        integrate.advance(lambda t: kernel, memory, 1e5, integrate.Options(), seen, fresh=True)
        ends.append(memory.y)
    assert ends[1] == pytest.approx(ends[0], rel=1e-4)
