"""Figures of extraction circuits: concentrations, acidity and loading, separation, steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sepmodel.errors import InputError, Problem
from sepmodel.plot import (
    BANDS,
    DASHED,
    FAINT,
    INK,
    MANY,
    SHORT,
    legend_of_elements,
    look,
    name_bands,
    opened,
    percent,
    profile_of,
    stage_axis,
)
from sepmodel.result import Profile, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METAL, SOAP = "#b7c9dd", "#ead9b8"
# Decades shown below the highest concentration.
DECADES = 7
# Separation factors above this are drawn on a logarithmic scale.
WIDE = 4.0
# The largest share by which a step plot is cut off at either end.
SMALLEST = 1e-6


def circuit_figure(result: Result) -> Figure:
    """pH, what occupies the extractant, and the phase ratio's effect, along the stages."""
    from matplotlib.figure import Figure as New

    acid, loading = profile_of(result, "pH"), profile_of(result, "loading")
    rare = result.profiles.get("rare_earth_loading")
    figure = New(figsize=(7.2, 4.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    stages = np.array([float(stage) for stage in acid.axes["stage"]])
    marker = "." if len(stages) <= 3 * MANY else ""
    panels[0].plot(stages, acid.values, color=INK, marker=marker)
    panels[0].set_ylabel("pH")
    if min(acid.values) < 0 < max(acid.values):
        panels[0].axhline(0, color=FAINT, lw=0.6)
    if rare is not None:
        _areas(panels[1], stages, rare.values, loading.values)
    panels[1].plot(stages, loading.values, color=INK, marker=marker)
    panels[1].set_ylim(0, 1)
    panels[1].set_ylabel("loading of extractant")
    for axes in panels:
        stage_axis(axes, acid)
    name_bands(panels[0], acid)
    panels[-1].set_xlabel(ALONG)
    figure.suptitle(result.name, x=0.01, ha="left", fontweight="bold")
    return figure


ALONG = "stage, from the raffinate end (the organic travels to the right)"


def _areas(axes: Axes, stages: Any, rare: Any, loaded: Any) -> None:
    """Extractant bound to rare earths, and to the counter-ion and other metals above them."""
    axes.fill_between(stages, 0, rare, color=METAL, lw=0, label="rare earths")
    if np.max(loaded - rare) > 0.01:
        axes.fill_between(stages, rare, loaded, color=SOAP, lw=0, label="soap and others")
    axes.legend(loc="upper right", ncols=2, fontsize=8, handlelength=1.2)


def concentrations(result: Result) -> Figure:
    """Concentration of each metal and of the acid in both phases along the stages, in decades."""
    from matplotlib.figure import Figure as New

    figure = New(figsize=(7.2, 5.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    for axes, (phase, short) in zip(panels, SHORT.items(), strict=True):
        profile = profile_of(result, f"conc_{short}")
        stages = np.array([float(stage) for stage in profile.axes["stage"]])
        top = _decade_above(profile.values.max())
        for index, name in enumerate(profile.axes["component"]):
            values = np.where(profile.values[:, index] > 0, profile.values[:, index], np.nan)
            axes.plot(stages, values, label=str(name), **look(str(name)))
        if phase == "aqueous" and "pH" in result.profiles:
            acid = 10.0 ** -result.profiles["pH"].values
            top = max(top, _decade_above(acid.max()))
            axes.plot(stages, acid, color=FAINT, lw=1.0, linestyle=DASHED, label="H+")
        axes.set_yscale("log")
        axes.set_ylim(top * 10.0**-DECADES, top)
        axes.set_ylabel(f"{phase} (mol/L)")
        stage_axis(axes, profile)
    name_bands(panels[0], profile)
    legend_of_elements(figure, panels[0])
    panels[-1].set_xlabel(ALONG)
    figure.suptitle(result.name, x=0.01, ha="left", fontweight="bold")
    return figure


def _decade_above(value: float) -> float:
    """A power of ten that leaves a line at ``value`` room to be seen."""
    return float(10.0 ** np.ceil(np.log10(2 * value)))


def separation(result: Result) -> Figure:
    """Separation factors of neighbours stage by stage."""
    from matplotlib.figure import Figure as New
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    profile = profile_of(result, "separation_factor")
    pairs = [str(pair) for pair in profile.axes["pair"]]
    figure = New(figsize=(7.2, 3.8), layout="constrained")
    axes = figure.subplots()
    stages = np.array([float(stage) for stage in profile.axes["stage"]])
    for index, pair in enumerate(pairs):
        heavy = pair.split("/")[0]
        axes.plot(stages, profile.values[:, index], label=pair, **look(heavy))
    if np.nanmax(profile.values) > WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(bottom=1)
    axes.set_ylabel("separation factor of neighbours")
    axes.set_xlabel(ALONG)
    stage_axis(axes, profile)
    name_bands(axes, profile)
    legend_of_elements(figure, axes)
    figure.suptitle(result.name, x=0.01, ha="left", fontweight="bold")
    return figure


def keys(result: Result) -> tuple[str, str]:
    """The neighbours between which a circuit cuts: (light, heavy).

    The heaviest element that mostly leaves with the raffinate, and the next one.
    """
    leaves = result.streams["raffinate"].recovery if "raffinate" in result.streams else {}
    order = _order(result)
    light = [name for name in order if leaves.get(name, 0.0) > 0.5]
    after = [name for name in order if name not in light and name in leaves]
    if not light or not after:
        raise InputError(
            Problem(
                message="no cut to draw: the raffinate takes all of the elements or none",
                value=", ".join(order),
            )
        )
    return light[-1], after[0]


def _order(result: Result) -> list[str]:
    """Rare earths by how well they are extracted, from the pairs of neighbours."""
    if "separation_factor" in result.profiles:
        pairs = [str(p).split("/") for p in result.profiles["separation_factor"].axes["pair"]]
        return [pairs[0][1], *(heavy for heavy, _ in pairs)]
    return [str(name) for name in profile_of(result, "share_aq").axes["component"]]


def steps(result: Result) -> Figure:
    """McCabe-Thiele steps of the two key elements, stage by stage, through extraction and scrub.

    Left: share of the heavier key among the two, organic against aqueous, both axes opened at their
    ends. A stage is a step between its equilibrium point (its two phases) and the operating point
    (the streams that pass each other above it). Concentrations of the other elements change along
    the circuit, so both lines are read off the solved stages and not assumed. Right: the same as
    ratio of ratios, from 1 (no difference between the phases) to the separation factor: where the
    operating line comes near the equilibrium, stages do nothing.
    """
    from matplotlib.figure import Figure as New

    light, heavy = keys(result)
    x, y = (_binary(profile_of(result, f"share_{s}"), light, heavy) for s in ("aq", "org"))
    bands = profile_of(result, "share_aq").bands
    last = max(high for name, (_, high) in bands.items() if name in ("extraction", "scrub"))
    fed = bands["extraction"][1] if "extraction" in bands else last
    x, y = opened(x[:last]), opened(y[:last])
    edge = float(opened(SMALLEST))
    known = np.concatenate([x, y])
    known = known[np.isfinite(known)]
    ends = (max(float(np.floor(known.min())), edge), min(float(np.ceil(known.max())), -edge))
    figure = New(figsize=(9.6, 4.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.fill_between(ends, ends, [ends[0]] * 2, color=BANDS[0], lw=0)
    left.plot(ends, ends, color=FAINT, lw=0.8)
    _stairs(left, x, y, heavy, fed)
    _stairs(right, x, 10 ** (y - x), heavy, fed, 10 ** (y[:-1] - x[1:]))
    shares = _shares(ends)
    left.set_yticks(opened(shares).tolist(), [percent(t) for t in shares], fontsize=7.5)
    few = shares if len(shares) <= MANY else shares[1 - len(shares) // 2 % 2 :: 2]
    for axes in (left, right):
        axes.set_xticks(opened(few).tolist(), [percent(t) for t in few], fontsize=7.5)
        axes.set(xlim=ends, xlabel=f"{heavy} in {light} + {heavy}, aqueous")
    left.set(ylim=ends, ylabel=f"{heavy} in {light} + {heavy}, organic")
    left.set_aspect("equal")
    left.legend(loc="lower right", fontsize=8)
    right.set_ylabel(f"{heavy}/{light} organic over {heavy}/{light} aqueous")
    right.set_ylim(bottom=1)
    figure.suptitle(
        f"{result.name}: {last} stages between {light} and {heavy}",
        x=0.01,
        ha="left",
        fontweight="bold",
    )
    return figure


def _stairs(axes: Axes, x: Any, y: Any, heavy: str, fed: int, passing: Any = None) -> None:
    """Equilibrium points (x, y), operating points (x of the next stage, ``passing``), and steps."""
    colour = look(heavy)["color"]
    passing = y[:-1] if passing is None else passing
    path_x, path_y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
    path_y[1::2] = passing
    axes.plot(path_x, path_y, color=FAINT, lw=0.7)
    axes.plot(x, y, color=colour, label="equilibrium: the two phases of a stage")
    axes.plot(
        x[1:], passing, color=INK, lw=1.0, linestyle=DASHED, label="operating: between two stages"
    )
    if len(x) <= 3 * MANY:
        axes.plot(x, y, ".", color=colour)
    if fed < len(x):
        axes.plot(x[fed - 1], y[fed - 1], "o", mfc="white", mec=colour, ms=6)
        axes.annotate(
            f"feed stage, {fed}",
            (x[fed - 1], y[fed - 1]),
            xytext=(-6, 6),
            textcoords="offset points",
            ha="right",
        )


def _shares(ends: tuple[float, float]) -> Any:
    """Shares worth a tick between the ends of an opened axis."""
    decades = [10.0**k for k in range(round(np.log10(SMALLEST)), 0)]
    shares = np.array([*decades, 0.5, *(1 - share for share in reversed(decades))])
    places = opened(shares)
    return shares[(places >= ends[0] - 0.01) & (places <= ends[1] + 0.01)]


def _binary(profile: Profile, light: str, heavy: str) -> Any:
    """Share of the heavy key in the two keys, NaN where neither is left."""
    names = [str(name) for name in profile.axes["component"]]
    a, b = profile.values[:, names.index(light)], profile.values[:, names.index(heavy)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(a + b > 0, b / (a + b), np.nan)


def drawable(result: Result) -> dict[str, Any]:
    """Figures a result of a circuit can be drawn as: name -> function."""
    drawn: dict[str, Any] = {"acidity": circuit_figure}
    if {"conc_aq", "conc_org"} <= set(result.profiles):
        drawn["concentrations"] = concentrations
    if "separation_factor" in result.profiles:
        drawn["separation"] = separation
        try:
            keys(result)
        except InputError:
            return drawn
        drawn["steps"] = steps
    return drawn
