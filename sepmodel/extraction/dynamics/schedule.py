"""What changes in a run and when: settings as piecewise linear functions of time with jumps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sepmodel.errors import InputError, Problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """From ``start`` [s] a setting takes ``value``, reached linearly over ``ramp`` [s].

    With ``end`` [s] it returns to what it was before, over the same ramp. Of overlapping events on
    one setting the one that started last holds.
    """

    setting: str
    start: float
    value: float
    ramp: float = 0.0
    end: float = np.inf
    name: str = ""

    def __post_init__(self) -> None:
        if not (self.start >= 0 and self.ramp >= 0 and self.end >= self.start + self.ramp):
            raise InputError(
                Problem(
                    message="an event ends after it began and its ramp",
                    key=self.name or self.setting,
                    value=f"{self.start} to {self.end}, ramp {self.ramp}",
                )
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """Settings at the beginning, and the events that change them.

    >>> plan = Schedule(base={"solvent": 1.0}, events=(
    ...     Event(setting="solvent", start=10.0, value=2.0, ramp=4.0, end=20.0),))
    >>> [plan.at(t)["solvent"] for t in (5.0, 12.0, 14.0, 22.0, 30.0)]
    [1.0, 1.5, 2.0, 1.5, 1.0]
    >>> plan.breaks
    (10.0, 14.0, 20.0, 24.0)
    """

    base: Mapping[str, float]
    events: Sequence[Event] = ()

    @property
    def breaks(self) -> tuple[float, ...]:
        """Times at which a setting jumps or its slope changes."""
        out = set()
        for event in self.events:
            out |= {event.start, event.start + event.ramp}
            if np.isfinite(event.end):
                out |= {event.end, event.end + event.ramp}
        return tuple(sorted(out))

    def at(self, t: float, *, before: bool = False) -> dict[str, float]:
        """All settings at a time; at a jump what holds after it, or ``before``."""
        out = dict(self.base)
        for event in sorted(self.events, key=lambda e: e.start):
            reached = _part(t, event.start, event.ramp, before)
            gone = _part(t, event.end, event.ramp, before)
            old = out[event.setting]
            if reached > 0:
                out[event.setting] = old + (reached - gone) * (event.value - old)
        return out

    def constant(self, t0: float, t1: float) -> bool:
        """Whether nothing changes between two neighbouring breaks."""
        return self.at(t0) == self.at(t1, before=True)


def _part(t: float, start: float, ramp: float, before: bool) -> float:
    """How far a ramp has come, 0 to 1; at the start of a jump 1, or 0 just before it."""
    if t < start or (t == start and before) or not np.isfinite(start):
        return 0.0
    # At its end, the same sum as among the breaks, a ramp is over whatever rounding says.
    if t >= start + ramp:
        return 1.0
    return min((t - start) / ramp, 1.0)
