"""Loops tuned by a step test of the train."""

import numpy as np
import pytest
from trains_for_tests import circuit_train

from sepmodel import load, run
from sepmodel.errors import InputError
from sepmodel.extraction.dynamics.control import Loop, Loops
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.schedule import Event, Schedule
from sepmodel.extraction.dynamics.simulate import Run, simulate
from sepmodel.extraction.dynamics.trains import at_rest
from sepmodel.extraction.dynamics.tuning import identified, tuned

HOUR = 3600.0


@pytest.mark.parametrize(("k", "theta", "lag"), [(2.0, 1.0, 5.0), (-0.3, 0.0, 9.0)])
def test_a_lag_behind_a_dead_time_is_found(k, theta, lag):
    t = np.linspace(0, 20 * lag, 8001)
    values = 7.0 + 0.1 * k * np.where(t > theta, 1 - np.exp(-(t - theta) / lag), 0.0)
    found = identified(t, values, 0.1)
    assert found == pytest.approx((k, theta, lag), rel=1e-2, abs=0.05)


@pytest.mark.parametrize(
    ("setting", "low", "high"),
    [("organic.composition.Na", 200.0, 480.0), ("inlet.scrub-acid.acid", 500.0, 1500.0)],
    ids=["base", "acid"],
)
def test_a_tuned_loop_holds_the_pH(setting, low, high):
    """Feed 10 % richer in A: without a loop the pH of stage 2 stays off, with one it comes back."""
    train = circuit_train(closed=False)
    base = train.settings
    loop = tuned(
        train,
        Loop(name="pH", measure="pH", setting=setting, target=np.nan, gain=0.0, stage=2,
             interval=0.1 * HOUR, delay=0.05 * HOUR, low=low, high=high),
        0.02,
    )  # fmt: skip
    assert np.sign(loop.gain) == (1 if "organic" in setting else -1)
    value = 1.1 * base["inlet.feed.composition.A"]
    event = Event(setting="inlet.feed.composition.A", start=HOUR, value=value)
    off = {}
    for name, loops in (("free", ()), ("held", (loop,))):
        found = simulate(
            Run(train=train, schedule=Schedule(base=base, events=(event,)),
                start=at_rest(train, train.network(base), base), until=15 * HOUR,
                outputs=np.linspace(0, 15 * HOUR, 31), loops=loops, options=Options(rtol=1e-4))
        )  # fmt: skip
        ph = -np.log10(found.proton[:, 1] / 1000.0)
        off[name] = np.abs(ph - ph[0])
        assert ph[0] == pytest.approx(loop.target, abs=1e-9)
    assert off["free"][-1] > 0.01
    assert off["held"][-1] < 1e-4
    assert off["held"].max() < 0.7 * off["free"].max()
    # No ringing: the last half is quiet.
    assert np.abs(np.diff(off["held"][20:])).max() < 1e-4


def test_a_loop_that_moves_nothing_is_refused():
    train = circuit_train(closed=False)
    loop = Loop(name="pH", measure="pH", setting="inlet.strip-acid.flow", target=np.nan, gain=0.0,
                stage=1, interval=HOUR, low=0.0, high=1.0)  # fmt: skip
    with pytest.raises(InputError, match="does not move"):
        tuned(train, loop, 0.02)


@pytest.mark.parametrize(
    ("delay", "acts"),
    [(0.0, [0, 600, 1200]), (120.0, [120, 720, 1320]), (600.0, [600, 1200, 1800]),
     (900.0, [900, 1500, 2100])],
)  # fmt: skip
def test_a_loop_acts_when_it_knows(delay, acts):
    """Looks every 10 min; what it saw moves the setting after the delay, not at the next look."""
    loop = Loop(name="r", measure="purity", setting="s", target=0.5, gain=1.0, interval=600.0,
                delay=delay, low=0.0, high=1e9, component="A", outlet="o")  # fmt: skip
    loops = Loops([loop], ("A", "B"))
    t, looked = 0.0, []
    while t < 2400.0:
        if loops.due(t):
            looked.append(t)
            # The share tells when it was seen.
            loops.sample(t, {"s": 1e6}, None, None, {"o": np.array([t, 2400.0 - t])})
        t = loops.next(t)
    seen = loops.history()["r"]
    assert seen[: len(acts), 0].tolist() == acts
    assert seen[:, 1] == pytest.approx((seen[:, 0] - delay) / 2400.0, abs=1e-12)
    assert set(looked) >= {0.0, 600.0, 1200.0, 1800.0}


def test_a_tuned_loop_from_a_file():
    document = dict(load("control-nd-pr").document)
    controller = {k: v for k, v in document["controller"][0].items() if k not in ("gain", "time")}
    del controller["target"]
    held = run({**document, "controller": [{**controller, "tune": -0.0005}]})
    assert held.profiles["purity_loaded_organic"].values[-1, 0] > 0.99
    # What was found is told, and does the same without a test.
    told = {name: held.quantities[f"split_{name}"]["value"] for name in ("gain", "time", "target")}
    same = run({**document, "controller": [{**controller, **told, "time": f"{told['time']} h"}]})
    ends = [r.profiles["loop_split"].values[-1] for r in (held, same)]
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)
    for wrong in ({}, {"tune": 0.01, "gain": 0.1, "target": 0.4}, {"gain": 0.1}):
        with pytest.raises(InputError):
            run({**document, "controller": [{**controller, **wrong}]})
