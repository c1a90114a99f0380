"""Runs: balances, steady states, output grids, crossings, stopping and going on."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from trains_for_tests import binary, circuit_train

from sepmodel.extraction import cascade, circuit
from sepmodel.extraction.dynamics.inputs import PLUG
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.schedule import Event, Schedule
from sepmodel.extraction.dynamics.simulate import Run, Specification, simulate
from sepmodel.extraction.dynamics.trains import at_rest

HOUR, DAY = 3600.0, 86400.0


def run_of(train, until, *, events=(), outputs=None, **options):
    return Run(
        train=train,
        schedule=Schedule(base=train.settings, events=events),
        start="feed",
        until=until,
        outputs=np.linspace(0, until, 5) if outputs is None else outputs,
        **options,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"settler": 2.0, "cells": 3},
        {"efficiency": np.array([0.9, 0.8, 1.0])},
        {"carry_aq": 0.01, "carry_org": 0.005, "settler": 1.0},
        {"closed": False, "efficiency": 0.9},
    ],
    ids=["mixers", "settlers", "efficiency", "entrainment", "open"],
)
def test_steady_state_is_the_steady_solvers(options):
    train = circuit_train(**options)
    found = simulate(run_of(train, 200 * DAY))
    x = train.steady(train.settings)[0]
    assert found.conc_aq[-1] == pytest.approx(x, rel=1e-8)
    # The steady solver counts what passes by with the organic that leaves.
    solved = circuit.solve(train.inputs)
    for row, name in enumerate(found.outlets):
        if name in solved.outlets:
            moles = solved.outlets[name].moles
            assert found.flows[-1, row, :3] == pytest.approx(moles, rel=1e-8, abs=1e-20), name
    assert found.closure.max() < 1e-11


def test_steady_state_of_mass_flow():
    train = binary()
    found = simulate(run_of(train, 2e5))
    x, y, _ = train.steady(train.settings)
    assert found.conc_aq[-1] == pytest.approx(x, rel=1e-8)
    assert found.conc_org[-1] == pytest.approx(y, rel=1e-8)


def test_outlets_that_rise_from_nothing_or_fall_to_it_take_no_more_steps():
    """Through hundreds of powers of ten they rise; below what has a purity nobody looks."""
    long = circuit_train(stages=(40, 40, 20))
    loose = Options(rtol=1e-3)
    begun = simulate(replace(run_of(long, 10 * DAY, options=loose), start="fresh"))
    assert begun.steps < 200
    washed = circuit_train(closed=False)
    off = [Event(setting=f"inlet.feed.composition.{n}", start=2 * DAY, value=0.0) for n in "AB"]
    counts = [
        simulate(run_of(washed, end * DAY, events=tuple(off), options=loose)).steps
        for end in (30, 100)
    ]
    assert counts[1] < counts[0] + 10


def test_a_train_without_anything_in_it_starts():
    """No metal, no soap: what its stages hold is measured by what is fed."""
    train = circuit_train(closed=False)
    inputs = replace(train.inputs, organic_conc=np.zeros(3))
    train = replace(train, inputs=inputs)
    found = simulate(replace(run_of(train, 20 * DAY), start="fresh"))
    assert found.inventory[0, :3].max() == 0.0
    assert found.closure.max() < 1e-11
    x = train.steady(train.settings)[0]
    assert found.conc_aq[-1] == pytest.approx(x, rel=1e-8, abs=1e-12)


def test_a_ramp_is_over_at_its_end_whatever_rounding_says():
    """What stands still after it is one train, for a run that begins there and one that goes on."""
    numbers = np.random.default_rng(0).uniform(0.0, DAY, (200, 3)).tolist()
    for start, ramp, more in numbers:
        event = Event(setting="flow", start=start, ramp=ramp, value=0.3, end=start + ramp + more)
        plan = Schedule(base={"flow": 0.7}, events=(event,))
        _, up, again, over = plan.breaks
        assert plan.constant(up, again)
        assert plan.constant(over, over + DAY)


def disturbances(train):
    base = train.settings
    return (
        Event(setting="inlet.feed.flow", start=20 * DAY, ramp=6 * HOUR,
              value=1.1 * base["inlet.feed.flow"]),
        Event(setting="inlet.feed.composition.A", start=60 * DAY, value=800.0, end=70 * DAY),
        Event(setting="inlet.scrub-acid.acid", start=120 * DAY, value=900.0),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["mixers", "everything"])
def test_balances_over_180_days_of_disturbances(name):
    options = {} if name == "mixers" else {"carry_aq": 0.01, "settler": 1.0, "efficiency": 0.9}
    train = circuit_train(**options)
    found = simulate(run_of(train, 180 * DAY, events=disturbances(train)))
    assert found.closure.max() < 1e-11
    # Independently of what the run says of itself, from its own output.
    gap = found.inventory - found.inventory[0] + found.left.sum(axis=1) - found.fed
    held = np.maximum(found.fed[-1], found.inventory.max(axis=0))
    assert (np.abs(gap) / held).max() < 1e-11


def test_output_grid_changes_nothing():
    train = circuit_train()
    a = simulate(run_of(train, 3 * DAY, outputs=np.array([0.0, 3 * DAY])))
    b = simulate(run_of(train, 3 * DAY, outputs=np.linspace(0, 3 * DAY, 97)))
    assert np.array_equal(a.final.y, b.final.y)
    assert np.array_equal(a.conc_aq[-1], b.conc_aq[-1])


SPECS = tuple(
    Specification(outlet=outlet, component=component, least=least, weights=(1.0, 1.0))
    for outlet, component in (("raffinate", 1), ("loaded_organic", 0))
    for least in (0.9, 0.95, 0.98, 0.99, 0.9945)
)


def independent_crossings(hold_aq, hold_org, aqueous, organic, until):
    """One element's moles per stage by LSODA, the quadratic of two competing elements solved."""
    n = aqueous.size

    def x_of(m):
        # hold_aq x + hold_org y = m with y = 1.5 x / (1 + 0.5 x)
        a, b = hold_aq * 0.5, hold_aq + 1.5 * hold_org - 0.5 * m
        return (-b + np.sqrt(b * b + 4 * a * m)) / (2 * a)

    def rates(t, m):
        x = x_of(m)
        down, up = aqueous * x, organic * 1.5 * x / (1 + 0.5 * x)
        out = -down - up
        out[:-1] += down[1:]
        out[1:] += up[:-1]
        out[19] += 0.75
        return out

    y = 1.5 * 0.75 / (1 + 0.5 * 0.75)
    solved = solve_ivp(
        rates, (0, until), hold_aq * 0.75 + hold_org * y, method="LSODA", lband=1, uband=1,
        rtol=1e-9, atol=1e-11, dense_output=True,
    )  # fmt: skip
    times = np.geomspace(1, until, 40001)
    x = np.array([x_of(m) for m in solved.sol(times).T])
    ends = {"raffinate": 1 - x[:, 0], "loaded_organic": 1.5 * x[:, -1] / (1 + 0.5 * x[:, -1])}
    for spec in SPECS:
        yield float(times[np.argmax(ends[spec.outlet] >= spec.least)])
    assert n == 39


@pytest.mark.parametrize("basis", ["outflow", "boxes", "feed"])
def test_crossings_of_the_binary_train(basis):
    train = binary()
    if basis == "feed":
        train = replace(train, hold_aq=np.ones(39), hold_org=np.ones(39))
    elif basis == "boxes":
        train = replace(
            train,
            hold_aq=np.full(39, train.hold_aq.max()),
            hold_org=np.full(39, train.hold_org.max()),
        )
    found = simulate(run_of(train, 25000.0, specifications=SPECS))
    problem = cascade.prepare(train.inputs)
    other = list(
        independent_crossings(
            train.hold_aq, train.hold_org, problem.aqueous_flux[:, 0],
            problem.organic_flux[:, 0], 25000.0,
        )
    )  # fmt: skip
    ours = [crossing.first for crossing in found.crossings]
    print(basis, np.round(ours, 1), np.max(np.abs(np.array(ours) / other - 1)))
    assert ours == pytest.approx(other, rel=2e-3)
    if basis == "outflow":
        assert ours[3] == pytest.approx(7100, rel=0.01)


def delayed_crossings(aq, org, down, up, until, wanted, per=20):
    """Mixers with a true delay of one unit of time behind each, both phases: Runge-Kutta of order
    4 on the delay equations, the past interpolated by cubics."""
    step = 1.0 / per

    def fluxes(m):
        a, b = aq * 0.5, aq + 1.5 * org - 0.5 * m
        x = (-b + np.sqrt(b * b + 4 * a * m)) / (2 * a)
        return down * x, up * 1.5 * x / (1 + 0.5 * x)

    def rate(m, arriving):
        l, v = fluxes(m)  # noqa: E741
        out = -l - v
        out[:-1] += arriving[0][1:]
        out[1:] += arriving[1][:-1]
        out[19] += 0.75
        return out

    m = aq * 0.75 + org * 1.5 * 0.75 / 1.375
    past = [np.array(fluxes(m))] * (per + 3)
    middle = np.array([-1.0, 9.0, 9.0, -1.0]) / 16
    times, ends = [0.0], [(0.0, 0.0)]
    for k in range(round(until * per)):
        i = len(past) - 1 - per
        between = np.tensordot(middle, np.array(past[i - 1 : i + 3]), axes=1)
        k1 = rate(m, past[i])
        k2 = rate(m + 0.5 * step * k1, between)
        k3 = rate(m + 0.5 * step * k2, between)
        k4 = rate(m + step * k3, past[i + 1])
        m = m + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        past.append(np.array(fluxes(m)))
        l, v = past[-1 - per]  # noqa: E741
        times.append((k + 1) * step)
        ends.append((v[-1] / up[-1], 1 - l[0] / down[0]))
    ends = np.array(ends)
    for end, least in wanted:
        j = np.argmax(ends[:, end] >= least)
        part = (least - ends[j - 1, end]) / (ends[j, end] - ends[j - 1, end])
        yield times[j - 1] + part * step


def test_many_cells_are_plug_flow():
    """Settlers of one residence time: crossings come to those with a true delay, halving with the
    cells; with as many as "plug" stands for they differ by less than 0.1 %."""
    train = binary()
    problem = cascade.prepare(train.inputs)
    down, up = problem.aqueous_flux[:, 0], problem.organic_flux[:, 0]
    wanted = [(0, 0.9), (1, 0.4), (1, 0.5)]
    exact = list(delayed_crossings(train.hold_aq, train.hold_org, down, up, 36.0, wanted))
    specs = [
        Specification(
            outlet=("loaded_organic", "raffinate")[end], component=end, least=least,
            weights=(1.0, 1.0),
        )
        for end, least in wanted
    ]  # fmt: skip
    gaps = []
    for cells in (4, 8, PLUG):
        # A quarter of the settler is dead, the rest is the residence time.
        settled = replace(
            train, settler_aq=train.hold_aq / 0.75, settler_org=train.hold_org / 0.75,
            cells=cells, dead=0.25,
        )  # fmt: skip
        found = simulate(run_of(settled, 36.0, specifications=specs, options=Options(rtol=1e-6)))
        gaps.append([c.first / e - 1 for c, e in zip(found.crossings, exact, strict=True)])
    gaps = np.array(gaps)
    assert np.abs(gaps[-1]).max() < 1e-3
    assert gaps[:-1] / gaps[1:] == pytest.approx(2.0, abs=0.15)


def test_a_run_that_was_stopped_goes_on_bit_by_bit(tmp_path):
    train = circuit_train()
    base = train.settings
    events = (
        Event(setting="inlet.feed.flow", start=10 * HOUR, value=1.1 * base["inlet.feed.flow"]),
        Event(setting="organic.flow", start=20 * HOUR, ramp=2 * HOUR,
              value=1.02 * base["organic.flow"]),
    )  # fmt: skip
    specs = (Specification(outlet="strip", component=0, least=0.9, weights=(1.0, 1.0, 0.0)),)
    run = run_of(
        train, 2 * DAY, events=events, specifications=specs, outputs=np.linspace(0, 2 * DAY, 40)
    )
    whole = simulate(run)

    class StoppedError(Exception):
        pass

    for after in (3, 9, 17, 24):
        file = tmp_path / f"after-{after}.npz"
        steps = itertools.count(1)

        def every(steps=steps, after=after):
            return next(steps) == after

        def progress(t, end, file=file):
            if file.exists():
                raise StoppedError

        with pytest.raises(StoppedError):
            simulate(run, checkpoint=file, every=every, progress=progress)
        again = simulate(run, checkpoint=file)
        assert again.steps == whole.steps
        for name in ("conc_aq", "flows", "left", "inventory", "proton"):
            assert np.array_equal(getattr(again, name), getattr(whole, name)), name
        for a, b in zip(again.crossings, whole.crossings, strict=True):
            assert np.array_equal(a.times, b.times)


@pytest.mark.parametrize("rubbish", [b"", b"no checkpoint", b"PK\x03\x04 cut short", "half"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path, rubbish):
    file = tmp_path / "run.npz"
    run = run_of(circuit_train(), 0.1 * DAY)
    whole = simulate(run)
    if rubbish == "half":
        simulate(run, checkpoint=file, every=lambda: True)
        rubbish = file.read_bytes()[:-400]
    file.write_bytes(rubbish)
    found = simulate(run, checkpoint=file)
    assert found.ignored
    assert not whole.ignored
    assert np.array_equal(found.final.y, whole.final.y)


def test_an_outage_is_conservative_and_passes():
    train = circuit_train(bypass=True)
    events = tuple(
        Event(setting=f"stage.{k}.efficiency", start=5 * DAY, value=0.0, end=6 * DAY)
        for k in (2, 6)
    )
    found = simulate(run_of(train, 60 * DAY, events=events))
    assert found.closure.max() < 1e-11
    x, _, _ = train.steady(train.settings)
    assert found.conc_aq[-1] == pytest.approx(x, rel=1e-6)


@pytest.mark.parametrize("settler", [0.0, 2.0])
def test_what_passes_by_is_part_of_what_a_train_is_filled_with(settler):
    given = {"settler": settler, "cells": 3}
    whole = simulate(run_of(circuit_train(**given), 60.0))
    part = simulate(run_of(circuit_train(efficiency=0.7, **given), 60.0))
    # Concentrations times the volumes of the phases.
    net = whole.network
    each = net.mixer[0] @ whole.conc_aq[0] + net.mixer[1] @ whole.conc_org[0]
    assert whole.inventory[0][:3] == pytest.approx((1 + settler) * each, rel=1e-9)
    assert part.inventory[0] == pytest.approx(whole.inventory[0], rel=1e-12)
    assert part.conc_aq[0] == pytest.approx(whole.conc_aq[0], rel=1e-9, abs=1e-20)
    assert part.conc_org[0] == pytest.approx(whole.conc_org[0], rel=1e-9, abs=1e-20)


@pytest.mark.parametrize(("fill", "settler"), [("feed", 2.0), ("steady", 0.0)])
@pytest.mark.parametrize("efficiency", [0.0, 0.7])
def test_what_happens_at_once_is_what_happens_a_moment_later(fill, settler, efficiency):
    train = circuit_train(bypass=True, settler=settler, cells=2)
    found = []
    for start in (0.0, 1e-6 * HOUR):
        event = Event(setting="stage.6.efficiency", start=start, end=HOUR, value=efficiency)
        plan = run_of(train, 3 * HOUR, events=(event,))
        if fill == "steady":
            plan = replace(
                plan, start=at_rest(train, train.network(train.settings), train.settings)
            )
        found.append(simulate(plan))
    at_once, later = found
    assert at_once.conc_aq[1:] == pytest.approx(later.conc_aq[1:], rel=1e-6, abs=1e-6)
    assert at_once.inventory == pytest.approx(later.inventory, rel=1e-8)
    assert at_once.closure.max() < 1e-12


def test_an_efficiency_from_the_start_is_one_that_falls_at_once():
    train = circuit_train(bypass=True)
    lower = tuple(
        Event(setting=name, start=0.0, value=0.7) for name in train.settings if "effic" in name
    )
    fallen = simulate(run_of(train, 2 * HOUR, events=lower))
    built = simulate(run_of(circuit_train(efficiency=0.7), 2 * HOUR))
    assert fallen.conc_aq == pytest.approx(built.conc_aq, rel=1e-9, abs=1e-20)
    assert fallen.inventory == pytest.approx(built.inventory, rel=1e-12)


def test_tolerance_is_reached():
    train = circuit_train()
    tight = simulate(run_of(train, 2 * DAY, options=Options(rtol=1e-9)))
    loose = simulate(run_of(train, 2 * DAY, options=Options(rtol=1e-5)))
    assert loose.conc_aq[-1] == pytest.approx(tight.conc_aq[-1], rel=1e-5)
