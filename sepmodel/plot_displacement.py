"""Figures of a displacement plant: band patterns, effluents with pools, maps, purity and yield."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sepmodel.plot import FAINT, INK, look
from sepmodel.result import Profile, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1)), (0, (6, 2, 1, 2)))


def drawings(result: Result) -> dict[str, Callable[[Result], Figure]]:
    """The figures a displacement result can be drawn as; none where nothing was simulated."""
    if not _columns(result, "bands"):
        return {}
    return {"bands": bands, "effluent": effluent, "map": time_position, "purity-yield": yields}


def _columns(result: Result, what: str) -> list[tuple[str, Profile]]:
    """Profiles of one kind in the order of the columns."""
    return [(k, p) for k, p in result.profiles.items() if k.startswith(f"{what} ")]


def _panels(result: Result, what: str, title: str) -> tuple[Figure, list[tuple[Axes, Profile]]]:
    from matplotlib.figure import Figure as New

    found = _columns(result, what)
    figure = New(figsize=(7.2, 0.9 + 2.2 * len(found)), layout="constrained")
    rows = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    for number, axes in enumerate(rows, 1):
        axes.set_title(f"column {number}")
    figure.suptitle(f"{result.name}: {title}", x=0.01, ha="left", fontweight="bold")
    return figure, [(axes, profile) for axes, (_, profile) in zip(rows, found, strict=True)]


def _lines(axes: Axes, profile: Profile, x: Any, dashes: Sequence[Any] = ("-",)) -> None:
    """A line for each component; with several ``dashes``, so that one can be seen under another."""
    for index, name in enumerate(profile.axes["component"]):
        style = look(str(name))
        if len(dashes) > 1:
            style["linestyle"] = dashes[index % len(dashes)]
        axes.plot(x, profile.values[:, index], label=name, **style)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def bands(result: Result) -> Figure:
    """Mole shares along every column when its train has arrived at the outlet."""
    figure, panels = _panels(result, "bands", "the train at the end of the column")
    for axes, profile in panels:
        z = np.array(profile.axes["position"], dtype=float)
        _lines(axes, profile, z)
        axes.set(ylabel="mole share", xlim=(z[0], z[-1]), ylim=(0, 1.02))
    panels[-1][0].set_xlabel("position from the inlet (m)")
    return figure


def effluent(result: Result) -> Figure:
    """What leaves every column, with its pools shaded."""
    figure, panels = _panels(result, "effluent", "effluent and pools")
    for axes, profile in panels:
        hours = np.array(profile.axes["time"], dtype=float) / 3600
        _lines(axes, profile, hours)
        some = np.flatnonzero(profile.values.sum(axis=1) > 1e-2)
        left, right = hours[some[0]], hours[some[-1]]
        for name, (low, high) in profile.bands.items():
            own = look(name)["color"]
            shade = own if name in profile.axes["component"] else FAINT
            axes.axvspan(low / 3600, high / 3600, color=shade, alpha=0.15, lw=0, zorder=-2)
            label = axes.annotate(
                name,
                ((max(low / 3600, left) + min(high / 3600, right)) / 2, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -10),
                textcoords="offset points",
                ha="center",
                color=INK,
            )
            label.set_in_layout(False)
        axes.set(ylabel="mole share", ylim=(0, 1.15), xlim=(left, right))
    panels[-1][0].set_xlabel("time since the load began (h)")
    return figure


def time_position(result: Result) -> Figure:
    """Where every band is at every time: the mean place of a species in the order of the train."""
    figure, panels = _panels(result, "map", "where the bands are")
    for axes, profile in panels:
        hours = np.array(profile.axes["time"], dtype=float) / 3600
        z = np.array(profile.axes["position"], dtype=float)
        top = float(np.round(profile.values.max()))
        drawn = axes.pcolormesh(
            z, hours, profile.values, cmap="viridis", shading="nearest", rasterized=True
        )
        axes.set(ylabel="time (h)", xlim=(z[0], z[-1]))
        bar = figure.colorbar(drawn, ax=axes, ticks=np.arange(top + 1))
        bar.ax.set_yticklabels(_order(result, profile, int(top)))
    panels[-1][0].set_xlabel("position from the inlet (m)")
    return figure


def _order(result: Result, profile: Profile, top: int) -> list[str]:
    """Names along the train, presaturant first."""
    number = next(k for k, p in result.profiles.items() if p is profile).split()[-1]
    metals = [str(n) for n in result.profiles[f"bands {number}"].axes["component"]]
    return ["presaturant", *metals, "displacer"][: top + 1]


def yields(result: Result) -> Figure:
    """Largest pool of each metal in one pass against the purity asked of it."""
    figure, panels = _panels(result, "yield", "one pass: yield against purity")
    for axes, profile in panels:
        impurity = 1 - np.array(profile.axes["purity"], dtype=float)
        _lines(axes, profile, impurity, _DASHES)
        axes.set(xscale="log", ylabel="yield", ylim=(0, 1.02), xlim=(impurity[0], impurity[-1]))
        ticks = [0.5, 0.1, 0.01, 0.001, 0.0001]
        axes.set_xticks(ticks, [f"{100 * (1 - t):g} %" for t in ticks])
        axes.minorticks_off()
    panels[-1][0].set_xlabel("mole purity of the pool")
    return figure
