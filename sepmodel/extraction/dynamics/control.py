"""Control loops: sampled measurements, delays, proportional-integral action on a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.extraction.dynamics.mixers import Contents

Array = NDArray[np.float64]

# Part of an interval within which two moments are one.
AT_ONCE = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Loop:
    """A controller that looks every ``interval`` [s] and moves one setting.

    ``measure``: "pH" of stage ``stage`` (from 1), or the share of ``component`` in the aqueous
    ("share_aq") or organic ("share_org") of a stage, or its purity in an outlet ("purity",
    ``outlet``). A value becomes known ``delay`` [s] after it was taken, and the loop acts then,
    between two looks if need be. The setting is

        bias + gain (e + integral of e dt / time),  e = target - measured,

    kept between ``low`` and ``high``; the integral stops while it is held there. ``time`` infinite:
    proportional only. From ``start`` [s] on. An outlet with no more than ``dry`` (weighted, per s)
    has no purity, and the setting stays as it is.
    """

    name: str
    measure: str
    setting: str
    target: float
    gain: float
    time: float = np.inf
    interval: float
    delay: float = 0.0
    low: float
    high: float
    stage: int = 1
    component: str = ""
    outlet: str = ""
    start: float = 0.0
    weights: tuple[float, ...] = ()
    dry: float = 0.0


@dataclass(slots=True)
class _State:
    """What a loop remembers."""

    next: float
    integral: float = 0.0
    output: float | None = None
    waiting: list[tuple[float, float]] = field(default_factory=list)
    seen: list[tuple[float, float, float]] = field(default_factory=list)


class Loops:
    """All loops of a run with their memories."""

    def __init__(self, loops: Sequence[Loop], components: tuple[str, ...]) -> None:
        self.loops, self.components = loops, components
        self.states = [_State(next=loop.start) for loop in loops]

    def due(self, t: float) -> bool:
        """Whether a loop looks or learns of what it saw now."""
        return any(when <= until for when, until in self._moments(t))

    def next(self, t: float) -> float:
        """The next time after ``t`` at which a loop looks or learns of what it saw."""
        return min((when for when, until in self._moments(t) if when > until), default=np.inf)

    def _moments(self, t: float) -> list[tuple[float, float]]:
        """Times of looks and of news to come, each with what counts as ``t`` for its loop."""
        out = []
        for loop, state in zip(self.loops, self.states, strict=True):
            now = t + AT_ONCE * loop.interval
            out += [(when, now) for when in (state.next, *(known for known, _ in state.waiting))]
        return out

    def settings(self, scheduled: Mapping[str, float]) -> dict[str, float]:
        """Settings that loops hold at present."""
        return {
            loop.setting: state.output
            for loop, state in zip(self.loops, self.states, strict=True)
            if state.output is not None
        }

    def sample(
        self,
        t: float,
        scheduled: Mapping[str, float],
        found: Contents,
        free: Array | None,
        flows: Mapping[str, Array],
    ) -> None:
        """Take the measurements that are due, and move the settings by what is known now."""
        for loop, state in zip(self.loops, self.states, strict=True):
            now = t + AT_ONCE * loop.interval
            if state.next <= now:
                state.waiting.append((t + loop.delay, self._measured(loop, found, free, flows)))
                state.next = t + loop.interval
            known = [value for when, value in state.waiting if when <= now]
            state.waiting = [item for item in state.waiting if item[0] > now]
            for value in known:
                self._act(loop, state, value, scheduled[loop.setting])
                assert state.output is not None
                state.seen.append((t, value, state.output))

    def _act(self, loop: Loop, state: _State, value: float, bias: float) -> None:
        if np.isnan(value):
            # Nothing is there to be measured: the setting stays.
            if state.output is None:
                state.output = min(max(bias, loop.low), loop.high)
            return
        error = loop.target - value
        grown = state.integral + error * loop.interval
        reset = grown / loop.time if np.isfinite(loop.time) else 0.0
        wanted = bias + loop.gain * (error + reset)
        state.output = min(max(wanted, loop.low), loop.high)
        # No winding up: the integral rests while the setting is at its limit and would go beyond.
        if state.output == wanted or (wanted - state.output) * loop.gain * error < 0:
            state.integral = grown

    def _measured(
        self, loop: Loop, found: Contents, free: Array | None, flows: Mapping[str, Array]
    ) -> float:
        k = loop.stage - 1
        if loop.measure == "pH":
            assert free is not None
            return float(-np.log10(free[k, -1] / C_STANDARD))
        if loop.measure == "purity":
            amounts = flows[loop.outlet][: len(self.components)]
        else:
            organic = found.y if found.aside is None else found.y + found.aside
            amounts = (found.x if loop.measure == "share_aq" else organic)[k]
        weighted = amounts * (np.array(loop.weights) if loop.weights else 1.0)
        total = float(weighted.sum())
        if not total > loop.dry:
            return float("nan")
        return float(weighted[self.components.index(loop.component)]) / total

    def history(self) -> dict[str, Array]:
        """Times, measured values and settings of every loop, (samples, 3)."""
        return {
            loop.name: np.array(state.seen).reshape(-1, 3)
            for loop, state in zip(self.loops, self.states, strict=True)
        }

    def state(self) -> list[dict[str, Any]]:
        """Everything remembered, as plain values that survive a file exactly."""
        return [
            {
                "next": float(s.next).hex(),
                "integral": float(s.integral).hex(),
                "output": None if s.output is None else float(s.output).hex(),
                "waiting": [[float(a).hex(), float(b).hex()] for a, b in s.waiting],
                "seen": [[float(v).hex() for v in row] for row in s.seen],
            }
            for s in self.states
        ]

    def restore(self, stored: list[dict[str, Any]]) -> None:
        """What ``state`` gave."""
        for s, kept in zip(self.states, stored, strict=True):
            s.next, s.integral = float.fromhex(kept["next"]), float.fromhex(kept["integral"])
            s.output = None if kept["output"] is None else float.fromhex(kept["output"])
            s.waiting = [(float.fromhex(a), float.fromhex(b)) for a, b in kept["waiting"]]
            s.seen = [
                (float.fromhex(a), float.fromhex(b), float.fromhex(v)) for a, b, v in kept["seen"]
            ]
