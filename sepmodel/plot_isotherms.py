"""Figures of a case of kind isotherm: loading, extraction over pH, factors, titration, steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sepmodel.plot import BANDS, DASHED, FAINT, INK, look
from sepmodel.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Labels of lines that end closer than this (share of the axis) are moved apart.
_APART = 0.05
# Raffinate over feed below which stages are drawn on logarithms.
_WIDE = 0.02


def drawings(result: Result) -> dict[str, Callable[[Result], Figure]]:
    """The figures a result of kind isotherm can be drawn as, by name."""
    found: dict[str, Callable[[Result], Figure]] = {}
    for profile, name, draw in (
        ("isotherm_organic", "loading", loading),
        ("extracted", "extraction", extraction),
        ("separation_factor", "factor", factor),
        ("titration", "titration", titration),
        ("steps_aqueous", "steps", steps),
    ):
        if profile in result.profiles:
            found[name] = draw
    return found


def _new(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure as New

    return New(figsize=(width, height), layout="constrained")


def _labels(axes: Any, ends: list[tuple[float, float, str]]) -> None:
    """Names at the ends of lines, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    room = _APART * (high - low)
    ordered = sorted(ends, key=lambda end: end[1])
    places = [y for _, y, _ in ordered]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + room)
    top = high
    for i in reversed(range(len(places))):
        places[i] = min(places[i], top)
        top = places[i] - room
    for (x, _, name), place in zip(ordered, places, strict=True):
        axes.annotate(
            name,
            (x, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=look(name)["color"],
            annotation_clip=False,
        )


def loading(result: Result) -> Figure:
    """Organic against aqueous concentration, and log10 D against loading, as the feed rises."""
    figure = _new(9.0, 3.8)
    aqueous, organic = result.profiles["isotherm_aqueous"], result.profiles["isotherm_organic"]
    log_d = result.profiles["isotherm_log10_D"]
    held = result.profiles["isotherm_loading"].values
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    ends, ends_right = [], []
    for i, name in enumerate(aqueous.axes["component"]):
        x, y = aqueous.values[:, i], organic.values[:, i]
        left.plot(x, y, **look(name))
        right.plot(held, log_d.values[:, i], **look(name))
        ends.append((float(x[-1]), float(y[-1]), name))
        ends_right.append((float(held[-1]), float(log_d.values[-1, i]), name))
    left.set(xlabel="aqueous, mol/L", ylabel="organic, mol/L", xlim=(0, None), ylim=(0, None))
    right.set(xlabel="loading, mol metal per mol extractant", ylabel="log10 D", xlim=(0, None))
    left.set_title("Loading isotherm")
    right.set_title("Distribution")
    _labels(left, ends)
    _labels(right, ends_right)
    return figure


def extraction(result: Result) -> Figure:
    """Extracted share of each metal against the pH at equilibrium, half extraction marked."""
    figure = _new(5.6, 4.0)
    axes = figure.add_subplot()
    profile = result.profiles["extracted"]
    pH = np.array(profile.axes["pH"], dtype=float)
    ends = []
    for i, name in enumerate(profile.axes["component"]):
        axes.plot(pH, 100 * profile.values[:, i], **look(name))
        ends.append((float(pH[-1]), 100 * float(profile.values[-1, i]), name))
        half = result.quantities.get(f"pH of half extraction {name}")
        if half is not None:
            axes.plot([half["value"]], [50], "o", ms=4, color=look(name)["color"])
    axes.axhline(50, color=FAINT, lw=0.6, zorder=0)
    axes.set(xlabel="pH at equilibrium", ylabel="extracted, %", ylim=(0, 102))
    _labels(axes, ends)
    axes.set_title("Extraction over pH; dots: half extracted")
    return figure


def factor(result: Result) -> Figure:
    """Separation factor of a pair over pH and loading."""
    figure = _new(5.8, 4.2)
    axes = figure.add_subplot()
    profile, held = result.profiles["separation_factor"], result.profiles["map_loading"]
    pH = np.broadcast_to(np.array(profile.axes["pH"], dtype=float), profile.values.shape)
    pair = next(iter(profile.marks), "")
    lowest, highest = float(profile.values.min()), float(profile.values.max())
    if highest - lowest > 1e-6 * highest:
        drawn = axes.contourf(pH, held.values, profile.values, levels=12, cmap="cividis")
        figure.colorbar(drawn, ax=axes, label=f"separation factor {pair}", format="%.2f")
        axes.set_title(f"{pair}: {lowest:.2f} to {highest:.2f}")
    else:
        axes.plot(pH, held.values, ".", ms=3, color=FAINT)
        axes.set_title(f"{pair} = {highest:.3g} everywhere (ideal, one stoichiometry)")
    axes.set(
        xlabel="pH at equilibrium", ylabel="loading, mol metal per mol extractant", ylim=(0, None)
    )
    return figure


def titration(result: Result) -> Figure:
    """pH against base, the band being the range of the soap's unmeasured constant."""
    figure = _new(5.6, 4.0)
    axes = figure.add_subplot()
    profile = result.profiles["titration"]
    base = np.array(profile.axes["base [mol/mol extractant]"], dtype=float)
    middle, one, other = profile.values.T
    axes.fill_between(base, one, other, color=BANDS[0], lw=0)
    axes.plot(base, one, color=FAINT, lw=0.6)
    axes.plot(base, other, color=FAINT, lw=0.6)
    axes.plot(base, middle, color=INK)
    axes.set(xlabel="base, mol per mol extractant", ylabel="pH of the water", xlim=(0, None))
    axes.set_title("Base titration; band: range of the soap's constant")
    return figure


def steps(result: Result) -> Figure:
    """McCabe-Thiele: operating line, the equilibrium each stage sees, and the stages between."""
    figure = _new(5.4, 4.4)
    axes = figure.add_subplot()
    x = result.profiles["steps_aqueous"].values
    y = result.profiles["steps_organic"].values
    # Over many decades the last stages are seen on logarithms only; the barren organic is not.
    wide = x[-1] < _WIDE * x[0]
    floor = y[y > 0].min() / 10 if wide else 0.0
    y = np.maximum(y, floor)
    axes.plot(x, y, color=FAINT, lw=1.0, linestyle=DASHED, label="operating line")
    seen_x, seen_y = (x[1:], y[:-1]) if wide else (np.append(x[1:], 0), np.append(y[:-1], 0))
    axes.plot(seen_x, seen_y, color=INK, lw=1.2, label="equilibrium, own acid")
    corners_x, corners_y = np.repeat(x, 2)[1:], np.repeat(y, 2)[:-1]
    axes.plot(corners_x, corners_y, color=look("Pr")["color"], lw=0.9)
    for i in range(len(x) - 1):
        axes.annotate(str(i + 1), (x[i + 1], y[i]), xytext=(-9, 2), textcoords="offset points")
    axes.set(xlabel="aqueous, mol/L", ylabel="organic, mol/L")
    if wide:
        axes.set(xscale="log", yscale="log")
    else:
        axes.set(xlim=(0, None), ylim=(0, None))
    axes.legend(frameon=False, loc="lower right")
    count = len(x) - 1
    axes.set_title(f"{count} stage{'s' if count > 1 else ''}, one metal alone (1: feed end)")
    return figure
