"""Figures of lanmodulin columns: chromatogram with pools and pH, yield against purity."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from sepmodel.plot import DOTTED, FAINT, look, name_bands, profile_of
from sepmodel.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHADES = ("#e8eef6", "#f8ecd9", "#e6f2ea", "#f6e8ef")


def drawings(result: Result) -> dict[str, Callable[[Result], Figure]]:
    """The figures a column result can be drawn as."""
    drawn: dict[str, Callable[[Result], Figure]] = {}
    if {"chromatogram", "pools"} <= set(result.profiles):
        drawn["chromatogram"] = chromatogram
    if "yield" in result.profiles:
        drawn["yield"] = yields
    if "life" in result.profiles:
        drawn["life"] = life
    return drawn


def chromatogram(result: Result) -> Figure:
    """What leaves a column, its pools shaded; below the pH that leaves, where it is computed."""
    from matplotlib.figure import Figure as New

    profile, pools = profile_of(result, "chromatogram"), profile_of(result, "pools")
    volumes = np.asarray(profile.axes["bed_volume"], dtype=float)
    acid = "pH_out" in result.profiles
    figure = New(figsize=(7.2, 4.4 if acid else 3.4), layout="constrained")
    grid = figure.add_gridspec(2 if acid else 1, 1, height_ratios=(3, 1) if acid else (1,))
    top = figure.add_subplot(grid[0])
    panels = [top]
    for k, component in enumerate(profile.axes["component"]):
        top.plot(volumes, profile.values[:, k], label=component, **look(str(component)))
    top.set(ylabel="concentration at the outlet (mol/m³)", xlim=(volumes[0], volumes[-1]))
    top.set_ylim(0, 1.12 * float(np.max(profile.values)))
    if acid:
        low = figure.add_subplot(grid[1], sharex=top)
        low.plot(volumes, profile_of(result, "pH_out").values, color=FAINT)
        low.set(ylabel="pH", xlabel="bed volumes")
        top.tick_params(labelbottom=False)
        panels.append(low)
    else:
        top.set_xlabel("bed volumes")
    for axes in panels:
        for place in profile.marks.values():
            axes.axvline(float(place), color=FAINT, linewidth=0.8, linestyle=DOTTED, zorder=-1)
        for k, product in enumerate(pools.axes["product"]):
            begin, end = pools.values[k]
            shade = _SHADES[k % len(_SHADES)]
            axes.axvspan(begin, end, color=shade, lw=0, zorder=-2)
            if axes is top:
                axes.text(
                    (begin + end) / 2,
                    0.97,
                    f"pool {product}",
                    transform=axes.get_xaxis_transform(),
                    ha="center",
                    va="top",
                    fontsize=8,
                    color=FAINT,
                )
    name_bands(top, profile)
    top.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(result.name, x=0.01, ha="left", fontweight="bold")
    return figure


def yields(result: Result) -> Figure:
    """Most of each rare earth that one uninterrupted pool can hold, against its purity."""
    from matplotlib.figure import Figure as New

    profile = profile_of(result, "yield")
    purity = np.asarray(profile.axes["purity"], dtype=float)
    figure = New(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for k, component in enumerate(profile.axes["component"]):
        axes.plot(
            1 - purity,
            100 * profile.values[:, k, 0],
            marker="o",
            ms=3.5,
            label=component,
            **look(str(component)),
        )
    axes.set_xscale("log")
    axes.invert_xaxis()
    axes.set_xticks(1 - purity, [f"{100 * p:g}" for p in purity])
    axes.minorticks_off()
    axes.set(xlabel="mole purity of the pool, %", ylabel="yield, %", ylim=(0, 102))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(result.name, x=0.01, ha="left", fontweight="bold")
    return figure


def life(result: Result) -> Figure:
    """Purities and recoveries of the pools, cycle by cycle, while the capacity fades."""
    from matplotlib.figure import Figure as New

    profile = profile_of(result, "life")
    cycles = np.asarray(profile.axes["cycle"], dtype=float)
    figure = New(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.subplots()
    for k, what in enumerate(profile.axes["what"]):
        name = str(what)
        (line,) = axes.plot(cycles, 100 * profile.values[:, k], label=name)
        if name.startswith("recovery"):
            line.set_linestyle("--")
        elif k == 0:
            line.set(color=FAINT, linestyle=DOTTED)
    axes.set(xlabel="cycle", ylabel="%", ylim=(0, 102), xlim=(cycles[0], cycles[-1]))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
    figure.suptitle(result.name, x=0.01, ha="left", fontweight="bold")
    return figure
