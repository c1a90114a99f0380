"""Activities in time: the steady solver's state, an integrator of its own, ranges, going on."""

import itertools

import numpy as np
import pytest
from trains_for_tests import active_train, integrated

from sepmodel import load, run
from sepmodel.errors import InputError
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.schedule import Event, Schedule
from sepmodel.extraction.dynamics.simulate import Run, simulate

HOUR, DAY = 3600.0, 86400.0
PITZER = {
    "model.activity": "pitzer",
    "model.set": "extractants/pc88a-chloride",
    "model.soap": "extractants/soap-pitzer",
}


def run_of(train, until, *, events=(), outputs=None, **options):
    return Run(
        train=train,
        schedule=Schedule(base=train.settings, events=events),
        start="feed",
        until=until,
        outputs=np.linspace(0, until, 3) if outputs is None else outputs,
        **options,
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"efficiency": 0.85, "carry_aq": 0.01, "settler": 1.0}, {"closed": False}],
    ids=["mixers", "all", "open"],
)
def test_steady_state_is_the_steady_solvers(options):
    train = active_train(**options)
    found = simulate(run_of(train, 100 * DAY))
    x, y, u = train.steady(train.settings)
    # Traces that a strip has washed out for months are held to what their stage holds.
    total = x.sum(axis=1, keepdims=True)
    assert np.abs((found.conc_aq[-1] - x) / total).max() < 1e-8
    if "efficiency" not in options:
        assert np.abs((found.conc_org[-1] - y) / y.sum(axis=1, keepdims=True)).max() < 1e-8
        assert found.final.u == pytest.approx(u, abs=1e-8)
    assert found.closure.max() < 1e-11


@pytest.mark.slow
def test_an_integrator_of_its_own_comes_to_the_same():
    train = active_train(closed=False, stages=(2, 2, 1))
    found = simulate(run_of(train, 3 * HOUR, options=Options(rtol=1e-7)))
    _, x, y = integrated(train, [(train.settings, 3 * HOUR)], moments=2)
    x, y = x[-1], y[-1]
    assert found.conc_aq[-1] == pytest.approx(x, rel=2e-5)
    assert found.conc_org[-1] == pytest.approx(y, rel=2e-5)


def test_it_stops_and_goes_on_and_outputs_change_nothing(tmp_path):
    train = active_train()
    flow = "inlet.feed.flow"
    events = (Event(setting=flow, start=4 * HOUR, ramp=HOUR, value=1.1 * train.settings[flow]),)
    whole = simulate(run_of(train, 12 * HOUR, events=events))
    finer = simulate(run_of(train, 12 * HOUR, events=events, outputs=np.linspace(0, 12 * HOUR, 31)))
    assert np.array_equal(whole.final.y, finer.final.y)
    # Concentrations at several moments of a step are found together, to 1e-5 squared.
    assert whole.conc_aq[-1] == pytest.approx(finer.conc_aq[-1], rel=1e-9)

    class StoppedError(Exception):
        pass

    file, steps = tmp_path / "run.npz", itertools.count(1)

    def progress(t, end):
        if file.exists():
            raise StoppedError

    with pytest.raises(StoppedError):
        simulate(
            run_of(train, 12 * HOUR, events=events), checkpoint=file, progress=progress,
            every=lambda: next(steps) == 9,
        )  # fmt: skip
    again = simulate(run_of(train, 12 * HOUR, events=events), checkpoint=file)
    for name in ("conc_aq", "flows", "left", "inventory", "proton"):
        assert np.array_equal(getattr(again, name), getattr(whole, name)), name


def test_a_case_with_activities_starts_at_rest_and_stays():
    changes = {"start.fill": "steady", "event": [], "time.end": "2 d"}
    found = run("upsets-pr-nd", {**PITZER, **changes})
    assert np.ptp(found.profiles["purity_raffinate"].values, axis=0).max() < 1e-8
    assert found.balance["max"] < 1e-11
    assert found.model["activity"] == "pitzer"
    assert 6 < found.quantities["ionic_strength_highest"]["value"] < 7


def test_a_solution_beyond_the_range_is_named_with_its_time():
    document = dict(load("upsets-pr-nd").document)
    document |= {
        "name": "dilute", "components": ["Pr", "Nd"], "specification": [],
        "model": {"equilibrium": "mass-action", "activity": "davies", "counter_ion": "Na",
                  "log_k": {"Pr": -2.0, "Nd": -1.8, "Na": -5.0}},
        "organic": {"flow": "1 L/h", "extractant": "0.2 mol/L", "saponification": 0.3},
        "section": [{"name": "extraction", "stages": 4}], "recycle": {},
        "inlet": [{"name": "feed", "section": "extraction", "flow": "1 L/h", "acid": "0.01 mol/L",
                   "composition": {"Pr": "0.02 mol/L", "Nd": "0.02 mol/L"}}],
        "time": {"end": "2 d"}, "event": [],
    }  # fmt: skip
    found = run(document)
    assert found.quantities["ionic_strength_highest"]["value"] < 0.5
    event = {"setting": "inlet.feed.acid", "at": "1 d", "value": "0.6 mol/L"}
    with pytest.raises(InputError, match=r"stage 4 of section 'extraction' after 1\.\d+ d"):
        run({**document, "event": [event]})
