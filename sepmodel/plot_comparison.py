"""Figures of a comparison: headlines with their ranges, what makes them up, what drives them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sepmodel import units
from sepmodel.data import Constant
from sepmodel.plant.compare import METRICS, Comparison, Driver, RouteResult, breakdown, drivers
from sepmodel.plot import FAINT, INK, rendered, style
from sepmodel.processes import shared_out
from sepmodel.report_words import number, pretty, readable, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_Draw = Callable[[Sequence[RouteResult], Mapping[str, str]], "Figure"]
# One colour a route (in the order of the study), one a line of a breakdown; Okabe and Ito, tinted.
_ROUTES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_LINES = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6BB1", "#A6761D",
    "#7F7F7F", "#222222", "#B2DF8A", "#FB9A99",
)  # fmt: skip
_REST = "#D9D9D9"
_SHARED = ("cost", "carbon")
_DRIVERS = 6
# Width of every figure, inches: letters stay legible on a narrow screen.
_ACROSS = 6.4
# Columns of a legend.
_COLUMNS = 3
# Bars that are a smaller share of the whole than this carry no number.
_LEGIBLE = 0.06
# Groups that are a smaller share than this in every bar are drawn together.
_SLIGHT = 0.01
SLIGHT = "all else"
# Beyond this ratio of its ends an axis is logarithmic.
_WIDE = 5


def figures(comparison: Comparison, workers: int = 1) -> dict[str, bytes]:
    """Names and contents (SVG and PNG) of the comparison's figures; none without a route.

    So many processes draw.
    """
    there = [r for r in comparison.routes if r.account is not None]
    if not there:
        return {}
    drawn: list[_Draw] = [headlines, composition]
    if any(r.drivers.get("cost") for r in there):
        drawn.append(cost_drivers)
    # What every draw gave is not needed for them, and long.
    there = [replace(r, told=None) for r in there]
    found = shared_out(partial(_drawn, there, short(comparison)), drawn, workers, quick=True)
    names = ("headlines", "composition", "drivers")
    return {
        f"{name}.{form}": content
        for name, forms in zip(names, found, strict=False)
        for form, content in forms.items()
    }


def _drawn(
    routes: Sequence[RouteResult], names: Mapping[str, str], draw: _Draw
) -> dict[str, bytes]:
    """One figure in both forms."""
    with style():
        figure = draw(routes, names)
        return {form: rendered(figure, form) for form in ("svg", "png")}


CAPTIONS = {
    "headlines": (
        "The figures routes are ranked by",
        "Point: base, every constant at its stated value. Line: 5 to 95 % of those draws of all "
        "constants together that meet every specification, with a tick at their median; the base "
        "lies to one side of it where ranges reach further to the other. Logarithmic axes; every "
        "figure per kg of separated oxide, smaller is better.",
    ),
    "composition": (
        "What makes up cost and carbon",
        "Share of each group in a route's cost and carbon at the base; the total stands at the "
        "right of each bar. Capital: annuity on the plant, and interest on the rare earths, "
        "solvent, resin and beads held. Labour: operators for each process section of the route, "
        "and who supports them; overheads go with it. All else: groups below 1 % in every bar. "
        "The same parts stand in contributions.csv and in the tables below.",
    ),
    "drivers": (
        "What moves the cost",
        "Median cost of the tenth of the draws in which a constant is lowest and of the tenth in "
        "which it is highest; vertical line: median of all draws. The figures beside a bar are the "
        "constant's own ends, the one that gives the lower cost at the left. Pale: an estimate.",
    ),
}


def headlines(routes: Sequence[RouteResult], names: Mapping[str, str]) -> Figure:
    """Base and range of every ranked figure, a panel each, a row for each route."""
    from matplotlib.figure import Figure

    ranked = [metric for metric, column in METRICS.items() if column.ranked]
    figure: Figure = Figure(figsize=(_ACROSS, 0.42 * len(ranked) * (len(routes) + 1)))
    panels = figure.subplots(len(ranked), 1, squeeze=False)
    for metric, axes in zip(ranked, panels[:, 0], strict=True):
        unit = METRICS[metric].unit
        for row, result in enumerate(routes):
            _headline(axes, result, metric, unit, len(routes) - row, _ROUTES[row % len(_ROUTES)])
        axes.set_xscale("log")
        _plain_log(axes)
        axes.set_ylim(0.4, len(routes) + 0.6)
        axes.set_yticks(range(len(routes), 0, -1), labels=_labels(routes, names))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#e6e9ec", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_title(f"{METRICS[metric].label}, {pretty(unit)}")
    figure.tight_layout()
    return figure


def _headline(
    axes: Axes, result: RouteResult, metric: str, unit: str, height: int, colour: str
) -> None:
    assert result.account is not None
    value = units.to(result.account.metrics[metric], unit)
    span = result.ranges.get(metric)
    if span is not None:
        ends = [units.to(end, unit) for end in (span.low, span.high)]
        axes.plot(ends, [height, height], color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot(
            [units.to(span.median, unit)], [height], "|", color=colour, markersize=13,
            markeredgewidth=2.2,
        )  # fmt: skip
    axes.plot([value], [height], "o", color=colour, markersize=7, markeredgecolor="white")
    axes.annotate(
        number(value),
        (value, height),
        textcoords="offset points",
        xytext=(0, 9),
        ha="center",
        fontsize=8,
        color=INK,
    )


def composition(routes: Sequence[RouteResult], names: Mapping[str, str]) -> Figure:
    """Shares of the groups of duties in cost and carbon, a bar for each route."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    bars = {
        (metric, r.route.name): breakdown(r.account, metric)
        for metric in _SHARED
        for r in routes
        if r.account
    }
    every = dict.fromkeys(line for parts in bars.values() for line in parts)
    lines = [
        line
        for line in every
        if any(p.get(line, 0.0) > _SLIGHT * math.fsum(p.values()) for p in bars.values())
    ]
    colour = {line: _LINES[k % len(_LINES)] for k, line in enumerate(lines)}
    if len(lines) < len(every):
        lines.append(SLIGHT)
        colour[SLIGHT] = _REST
    figure: Figure = Figure(figsize=(_ACROSS, 0.75 * len(_SHARED) * (len(routes) + 1.6)))
    panels = figure.subplots(len(_SHARED), 1, squeeze=False)
    for metric, axes in zip(_SHARED, panels[:, 0], strict=True):
        for row, result in enumerate(routes):
            parts = bars.get((metric, result.route.name), {})
            _bar(axes, parts, metric, len(routes) - row, colour)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], labels=["0", "50 %", "100 %"])
        axes.set_yticks(range(len(routes), 0, -1), labels=_labels(routes, names))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_title(f"{METRICS[metric].label}: shares; total in {pretty(METRICS[metric].unit)}")
    handles = [Rectangle((0, 0), 1, 1, color=colour[line]) for line in lines]
    rows = -(-len(lines) // _COLUMNS)
    figure.tight_layout(rect=(0, 0.2 * (rows + 0.5) / figure.get_figheight(), 1, 1))
    figure.legend(handles, lines, loc="lower center", ncols=_COLUMNS, fontsize=8)
    return figure


def _bar(
    axes: Axes, parts: Mapping[str, float], metric: str, height: int, colour: Mapping[str, str]
) -> None:
    total = math.fsum(parts.values())
    shown = {line: parts.get(line, 0.0) for line in colour if line != SLIGHT}
    if SLIGHT in colour:
        shown[SLIGHT] = total - math.fsum(shown.values())
    left = 0.0
    for line, value in shown.items():
        share = value / total
        axes.barh(height, share, left=left, color=colour[line], height=0.6, edgecolor="white")
        if share > _LEGIBLE:
            axes.text(
                left + share / 2, height, f"{100 * share:.0f} %",
                ha="center", va="center", fontsize=8, color="white",
            )  # fmt: skip
        left += share
    text = number(units.to(total, METRICS[metric].unit))
    axes.text(1.01, height, text, va="center", fontsize=9, color=INK, weight="bold")


def cost_drivers(routes: Sequence[RouteResult], names: Mapping[str, str]) -> Figure:
    """The constants that move each route's cost most: a tornado for each route."""
    from matplotlib.figure import Figure

    unit = METRICS["cost"].unit
    shown = [(row, r) for row, r in enumerate(routes) if drivers(r, "cost", _DRIVERS)]
    figure: Figure = Figure(figsize=(_ACROSS, 0.36 * len(shown) * (_DRIVERS + 2.5)))
    panels = figure.subplots(len(shown), 1, squeeze=False)
    for (row, result), axes in zip(shown, panels[:, 0], strict=True):
        assert result.account is not None
        span = result.ranges.get("cost")
        base = units.to(span.median if span else result.account.metrics["cost"], unit)
        found = drivers(result, "cost", _DRIVERS)
        for rank, swing in enumerate(found):
            ends = [units.to(end, unit) for end in (swing.low, swing.high)]
            height = len(found) - rank
            solid = result.used[swing.key].provenance != "estimated"
            axes.plot(
                ends, [height, height], color=_ROUTES[row % len(_ROUTES)], linewidth=6,
                alpha=1.0 if solid else 0.55, solid_capstyle="butt",
            )  # fmt: skip
            _own_ends(axes, swing, result.used[swing.key], ends, height)
        axes.axvline(base, color=FAINT, linewidth=1)
        every = [units.to(end, unit) for swing in found for end in (swing.low, swing.high)]
        if max(every, default=1.0) > _WIDE * min(every, default=1.0):
            axes.set_xscale("log")
        axes.margins(x=0.14)
        if axes.get_xscale() == "log":
            _plain_log(axes)
        axes.set_ylim(0.3, max(len(found), 1) + 0.7)
        axes.set_yticks(range(len(found), 0, -1), labels=[_named(result, s) for s in found])
        axes.tick_params(axis="y", length=0, labelsize=8)
        axes.spines["left"].set_visible(False)
        axes.set_title(names[result.route.name])
    panels[-1, 0].set_xlabel(f"cost, {pretty(unit)}")
    figure.tight_layout()
    return figure


def _own_ends(
    axes: Axes, swing: Driver, constant: Constant, ends: Sequence[float], height: int
) -> None:
    """The constant's own low and high end beside the ends of its bar."""
    own = [constant.low, constant.high]
    if None in own:
        return
    pairs = sorted(zip(ends, own, strict=True), key=lambda pair: pair[0])
    for (place, value), side in zip(pairs, ("right", "left"), strict=True):
        axes.annotate(
            number(value or 0.0, 2), (place, height), textcoords="offset points",
            xytext=(-4 if side == "right" else 4, 0), ha=side, va="center", fontsize=7,
            color=FAINT,
        )  # fmt: skip


def _named(result: RouteResult, swing: Driver) -> str:
    """A constant in words, on as many lines as it takes, and its unit."""
    constant = result.used[swing.key]
    unit = pretty(constant.unit).replace("^", "")
    told = readable(swing.key, constant) + (f", {unit}" if unit else "")
    return "\n".join(textwrap.wrap(told, 30))


def _labels(routes: Sequence[RouteResult], names: Mapping[str, str]) -> list[str]:
    return ["\n".join(textwrap.wrap(names[r.route.name], 18)) for r in routes]


def _plain_log(axes: Axes) -> None:
    """Ticks of a logarithmic axis as plain numbers, few enough to read."""
    from matplotlib import ticker

    low, high = axes.get_xlim()
    subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axes.xaxis.set_major_locator(ticker.LogLocator(subs=subs))
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
