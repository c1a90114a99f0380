"""Gains of a loop from a step test of the train itself, by Skogestad's rule [skogestad2003].

The setting is stepped at rest; the measured value is read as a gain k behind a dead time theta and
a lag T (its 28 % and 63 % points). With what sampling and assay add to the dead time,

    gain = T / (k (2 theta)),  time = min(T, 8 theta),  theta += delay + interval / 2.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.errors import InputError, Problem
from sepmodel.extraction.dynamics.control import Loop
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.schedule import Event, Schedule
from sepmodel.extraction.dynamics.simulate import Run, RunResult, simulate
from sepmodel.extraction.dynamics.trains import Train, at_rest

Array = NDArray[np.float64]

# Moments a step test is recorded at, and how long it lasts in sampling intervals and delays.
MOMENTS, LASTS = 512, 64
# A response smaller than this, relative to the value or one, is no response.
NOTHING = 1e-9


def identified(times: Array, values: Array, step: float) -> tuple[float, float, float]:
    """Gain, dead time and lag of a response to a step of the setting at time 0.

    >>> t = np.linspace(0.0, 100.0, 2001)
    >>> k, theta, lag = identified(t, np.where(t > 2, 3 * (1 - np.exp(-(t - 2) / 5)), 0), 1.5)
    >>> round(k, 3), round(theta, 2), round(lag, 2)
    (2.0, 2.0, 5.0)
    """
    change = values - values[0]
    end = float(change[-1])
    if abs(end) < NOTHING * max(1.0, abs(float(values[0]))):
        raise InputError(
            Problem(
                message="the setting does not move what the loop measures",
                value=end,
                expected="one that does",
            )
        )
    part = change / end
    reached = []
    for share in (1.0 - np.exp(-1.0 / 3.0), 1.0 - np.exp(-1.0)):
        i = int(np.argmax(part >= share))
        before = part[i - 1]
        reached.append(
            float(times[i - 1] + (share - before) / (part[i] - before) * (times[i] - times[i - 1]))
        )
    lag = 1.5 * (reached[1] - reached[0])
    return end / step, max(reached[1] - lag, 0.0), lag


def tuned(train: Train, loop: Loop, rise: float, *, rtol: float = 1e-4) -> Loop:
    """The loop with gain and integral time from a step of ``rise`` (relative) of its setting.

    The test lasts as long as 64 sampling intervals with their delays: what is slower than that is
    left to the integral action. A target that is not a number becomes the value at rest.

    Raises
    ------
    InputError
        where the setting does not move what is measured.
    """
    base = train.settings
    step = rise * base[loop.setting]
    net = train.network(base)
    lasts = LASTS * (loop.interval + loop.delay)
    times = np.linspace(0.0, lasts, MOMENTS)
    found = simulate(
        Run(
            train=train,
            schedule=Schedule(
                base=base,
                events=(Event(setting=loop.setting, start=0.0, value=base[loop.setting] + step),),
            ),
            start=at_rest(train, net, base),
            until=lasts,
            outputs=times,
            options=Options(rtol=rtol),
        )
    )
    values = _measured(train, loop, found)
    k, theta, lag = identified(times, values, step)
    theta += loop.delay + 0.5 * loop.interval
    target = float(values[0]) if np.isnan(loop.target) else loop.target
    return replace(loop, gain=lag / (2.0 * k * theta), time=min(lag, 8.0 * theta), target=target)


def _measured(train: Train, loop: Loop, found: RunResult) -> Array:
    """What the loop would have read at all moments."""
    k, c = loop.stage - 1, len(train.components)
    if loop.measure == "pH":
        if found.proton is None:
            raise InputError(Problem(message="this model knows no pH", key=loop.name))
        out: Array = -np.log10(found.proton[:, k] / C_STANDARD)
        return out
    if loop.measure == "purity":
        amounts = found.flows[:, found.outlets.index(loop.outlet), :c]
    else:
        amounts = (found.conc_aq if loop.measure == "share_aq" else found.conc_org)[:, k]
    weighted = amounts * (np.array(loop.weights) if loop.weights else 1.0)
    share: Array = weighted[:, train.components.index(loop.component)] / weighted.sum(axis=1)
    return share
