"""What the members of a comparison say of a route: ranges, what carries them, why draws miss."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel import statistics
from sepmodel.data import Constant
from sepmodel.plant.compare.members import Drawn

Array = NDArray[np.float64]
# Share of the members, lowest and highest in a constant, whose median figures are told.
TENTH = 0.1
# A rank correlation below this many standard errors of its own is chance.
SURE = 6.0
# Constants that are told of draws that miss.
MOST = 6
# Numbers in a reason, which differ from draw to draw.
_DIGITS = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Range:
    """A figure with 5 % and 95 % of its members (``low, high``), their mean with its standard
    ``error``, and their median (SI)."""

    value: float
    low: float
    high: float
    mean: float
    median: float
    error: float = 0.0

    @property
    def holds_base(self) -> bool:
        """Whether the figure at the base constants lies between 5 and 95 % of the members."""
        rounding = 1e-9 * abs(self.value)
        return self.low - rounding <= self.value <= self.high + rounding


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Driver:
    """A constant that carries a share of a figure's spread; the median figure of the tenth of the
    members in which it is lowest (``low``) and of the tenth in which it is highest."""

    key: str
    low: float
    high: float
    share: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Share:
    """A reason and the share of all members it holds for."""

    reason: str
    share: float


def drivers_of(
    drawn: Drawn, met: NDArray[np.bool_], figure: Array, used: Mapping[str, Constant]
) -> tuple[Driver, ...]:
    """The constants that carry a figure's spread over the members that meet, strongest first.

    Shares are parts of the spread of the figure's ranks (``statistics.shares``): what is left to
    1 no constant carries by itself. What is no more than chance has none.
    """
    own = [k for k, key in enumerate(drawn.keys) if key in used]
    values = drawn.values[met][:, own]
    shares = statistics.shares(values, figure)
    count = max(1, round(TENTH * len(figure)))
    found = []
    for k, column, share in zip(own, values.T, shares.tolist(), strict=True):
        if not share > 0:
            continue
        order = np.argsort(column, kind="stable")
        found.append(
            Driver(
                key=drawn.keys[k],
                low=float(np.median(figure[order[:count]])),
                high=float(np.median(figure[order[-count:]])),
                share=share,
            )
        )
    return tuple(sorted(found, key=lambda d: (-d.share, d.key)))


def common(
    drawn: Drawn, met: NDArray[np.bool_], used: Mapping[str, Constant]
) -> tuple[tuple[str, str], ...]:
    """Constants that lie low or high in the members that miss, beyond chance, strongest first."""
    missed = np.count_nonzero(~met)
    if not 0 < missed < met.size:
        return ()
    found = []
    for key, column in zip(drawn.keys, drawn.values.T, strict=True):
        if key not in used:
            continue
        ranks = np.argsort(np.argsort(column, kind="stable"), kind="stable")
        r = float(np.corrcoef(ranks, ~met)[0, 1])
        if abs(r) * np.sqrt(met.size - 1) > SURE:
            found.append((abs(r), key, "high" if r > 0 else "low"))
    return tuple((key, side) for _, key, side in sorted(found, reverse=True)[:MOST])


def misses_of(reasons: Sequence[str]) -> tuple[Share, ...]:
    """Why members miss, the most frequent reason first.

    Reasons that differ in their numbers alone are one, told with the least and the most of each.

    >>> misses_of(["Dy: purity 0.993 of 0.995", "", "Dy: purity 0.981 of 0.995"])[0].reason
    'Dy: purity 0.981 to 0.993 of 0.995'
    """
    alike: dict[str, list[str]] = {}
    for reason in filter(None, reasons):
        alike.setdefault(_DIGITS.sub("#", reason), []).append(reason)
    found = sorted(alike.values(), key=lambda own: (-len(own), own[0]))
    return tuple(Share(reason=_merged(own), share=len(own) / len(reasons)) for own in found)


def _merged(reasons: Sequence[str]) -> str:
    """One text for reasons that differ in their numbers alone."""
    numbers = [[m[0] for m in _DIGITS.finditer(reason)] for reason in reasons]
    spans = []
    for column in zip(*numbers, strict=True):
        ends = sorted(set(column), key=float)
        spans.append(ends[0] if len(ends) == 1 else f"{ends[0]} to {ends[-1]}")
    told = iter(spans)
    return _DIGITS.sub(lambda _: next(told), reasons[0])
