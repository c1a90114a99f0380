"""Figures of elution cases: what enters and leaves over time, and where it is in the column."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sepmodel.plot import DOTTED, FAINT, LOOKS, look, profile_of
from sepmodel.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Seconds of the units of time that an axis is drawn in, and how many of one it shows at least.
_UNITS = (("d", 86400.0), ("h", 3600.0), ("min", 60.0))
_LEAST = 4
# Components whose peaks differ by more have panels of their own.
_ALIKE = 8
_MOST = 4


def drawings(result: Result) -> dict[str, Callable[[Result], Figure]]:
    """The figures an elution result can be drawn as."""
    drawn: dict[str, Callable[[Result], Figure]] = {}
    if {"outlet", "inlet"} <= set(result.profiles):
        drawn["outlet"] = outlet
    if "map" in result.profiles:
        drawn["map"] = time_position
    return drawn


def _clock(total: float) -> tuple[str, float]:
    """The unit an axis of time is drawn in, and its seconds."""
    return next(((name, size) for name, size in _UNITS if total >= _LEAST * size), ("s", 1.0))


def _looks(names: list[str]) -> list[dict[str, Any]]:
    """Elements as everywhere; other components by the palette in their order."""
    spare = iter([*LOOKS.values()] * (1 + len(names) // len(LOOKS)))
    return [
        look(n) if n in LOOKS else dict(zip(("color", "linestyle"), next(spare), strict=True))
        for n in names
    ]


def _panels(peaks: list[float]) -> list[list[int]]:
    """Components by the size of their peaks: those that differ much do not share an axis."""
    groups: list[list[int]] = []
    for k in sorted(range(len(peaks)), key=lambda k: -peaks[k]):
        fits = groups and peaks[k] * _ALIKE >= peaks[groups[-1][0]]
        if fits or (groups and (len(groups) == _MOST or not peaks[k] > 0)):
            groups[-1].append(k)
        else:
            groups.append([k])
    return groups


def outlet(result: Result) -> Figure:
    """What leaves a column over time and bed volumes; what enters is dotted."""
    from matplotlib.figure import Figure as New

    left, fed = profile_of(result, "outlet"), profile_of(result, "inlet")
    names = [str(n) for n in left.axes["component"]]
    unit, size = _clock(float(fed.axes["time"][-1]))
    times, steps = (np.asarray(p.axes["time"], dtype=float) / size for p in (left, fed))
    peaks = np.maximum(left.values.max(axis=0), fed.values.max(axis=0)).tolist()
    groups, looks = _panels(peaks), _looks(names)
    figure = New(figsize=(7.2, 1.4 + 2.1 * len(groups)), layout="constrained")
    rows = figure.subplots(len(groups), 1, squeeze=False, sharex=True)[:, 0]
    for axes, group in zip(rows, groups, strict=True):
        for k in sorted(group):
            axes.plot(times, left.values[:, k], label=names[k], **looks[k])
            colour = looks[k]["color"]
            axes.plot(steps, fed.values[:, k], color=colour, linestyle=DOTTED, linewidth=1.0)
        highest = max(peaks[k] for k in group)
        axes.set(ylabel="mol/m³", xlim=(0, steps[-1]))
        axes.set_ylim(0, 1.08 * highest if highest > 0 else 1.0)
        for end in steps[1:-1:2]:
            axes.axvline(end, color=FAINT, linewidth=0.6, zorder=-1)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    rows[-1].set_xlabel(f"time ({unit})")
    volumes = _volumes(result)
    if volumes is not None:
        per = volumes / steps[-1]
        above = rows[0].secondary_xaxis("top", functions=(lambda t: t * per, lambda v: v / per))
        above.set_xlabel("bed volumes")
    figure.suptitle(
        f"{result.name}: outlet, and inlet dotted", x=0.01, ha="left", fontweight="bold"
    )
    return figure


def _volumes(result: Result) -> float | None:
    """Bed volumes that pass in all, where the result tells the length of its bed."""
    if "length" not in result.quantities or "effluent" not in result.streams:
        return None
    flow = result.streams["effluent"].flow
    passed = None if flow is None else flow["value"]
    return None if passed is None else float(passed / result.quantities["length"]["value"])


def time_position(result: Result) -> Figure:
    """Where every component is in the liquid of the column at every time."""
    from matplotlib.figure import Figure as New

    shown = profile_of(result, "map")
    names = [str(n) for n in shown.axes["component"]]
    times = np.asarray(shown.axes["time"], dtype=float)
    unit, size = _clock(float(times[-1]))
    z = np.asarray(shown.axes["position"], dtype=float)
    figure = New(figsize=(7.2, 0.9 + 2.0 * len(names)), layout="constrained")
    rows = figure.subplots(len(names), 1, squeeze=False, sharex=True)[:, 0]
    for k, (axes, name) in enumerate(zip(rows, names, strict=True)):
        values = np.clip(shown.values[:, :, k], 0.0, None)
        drawn = axes.pcolormesh(
            z, times / size, values, cmap="viridis", vmin=0.0, shading="gouraud", rasterized=True
        )
        axes.set(ylabel=f"time ({unit})", xlim=(z[0], z[-1]))
        axes.set_title(name)
        figure.colorbar(drawn, ax=axes, label="mol/m³")
    rows[-1].set_xlabel("position from the inlet (m)")
    figure.suptitle(f"{result.name}: what the liquid holds", x=0.01, ha="left", fontweight="bold")
    return figure
