"""Figures of a sweep: what may come out, how settled that is, and what moves it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sepmodel import statistics
from sepmodel.plot import FAINT, INK, rendered, style
from sepmodel.report_sweep import shown as listed
from sepmodel.study.answers import Answer
from sepmodel.study.sweep_document import tornado
from sepmodel.study.sweep_result import SweepResult
from sepmodel.study.tornado import Tornado

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE = "#0072B2", "#D55E00"
MOST = 4


def figures(result: SweepResult) -> dict[str, bytes]:
    """Names and contents (SVG) of the figures of a sweep; none where nothing was found."""
    shown = [a for a in listed(result) if np.any(np.isfinite(result.column(a.name)))]
    if not shown:
        return {}
    with style():
        if not result.sampled:
            drawn = {"grid.svg": _grid(result, shown)}
        elif len(result.plan.grid) > 1 or not len(result.independent):
            drawn = {}
        else:
            drawn = {
                "distributions.svg": _panels(result, shown[:MOST], _distribution),
                "convergence.svg": _panels(result, shown[:MOST], _convergence),
            }
            if result.plan.ends:
                drawn["tornado.svg"] = _tornado(tornado(result, shown[0].name))
        return {
            name: rendered(figure, "svg") for name, figure in drawn.items() if figure is not None
        }


def _panels(result: SweepResult, shown: Sequence[Answer], draw: Any) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.3 * len(shown)), layout="constrained")
    places = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    for answer, axes in zip(shown, places, strict=True):
        draw(result, answer, axes)
    return figure


def _unit(answer: Answer) -> str:
    return "" if answer.unit in ("1", "") else f" [{answer.unit}]"


def _limits(answer: Answer, axes: Axes, along: str) -> None:
    for limit in (answer.at_least, answer.at_most):
        if limit is not None:
            line = axes.axvline if along == "x" else axes.axhline
            line(limit, color=INK, linewidth=1.0, linestyle=(0, (5, 2)), label=f"limit {limit:g}")


def _distribution(result: SweepResult, answer: Answer, axes: Axes) -> None:
    values = result.at(answer.name)[result.independent]
    known = values[np.isfinite(values)]
    said = result.summary(answer.name)
    axes.hist(known, bins=min(max(known.size // 12, 8), 60), color="#c9d7e6")
    axes.axvspan(said.low, said.high, color=FAINT, alpha=0.12, linewidth=0, label="5 to 95 %")
    for value, name, colour, dashes in (
        (said.deterministic, "as stated", ORANGE, "-"),
        (said.mean, "mean", BLUE, "-"),
        (said.median, "median", BLUE, (0, (1.5, 1.5))),
    ):
        if np.isfinite(value):
            axes.axvline(value, color=colour, linestyle=dashes, label=name)
    _limits(answer, axes, "x")
    axes.set_title(answer.name)
    axes.set_xlabel(f"value{_unit(answer)}")
    axes.set_ylabel("members")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _convergence(result: SweepResult, answer: Answer, axes: Axes) -> None:
    values = result.at(answer.name)[result.independent]
    steps = statistics.convergence(values)
    if answer.specified:
        steps = result.met(answer.name).steps
    counts = [s.count for s in steps]
    axes.fill_between(
        counts, [s.low for s in steps], [s.high for s in steps], color=BLUE, alpha=0.15, linewidth=0
    )
    axes.plot(counts, [s.value for s in steps], color=BLUE, marker="o", markersize=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_title(answer.name)
    axes.set_xlabel("members, with the 95 % interval")
    axes.set_ylabel(f"probability\n{answer.limits}" if answer.specified else f"mean{_unit(answer)}")


def _tornado(found: Tornado) -> Figure:
    from matplotlib.figure import Figure

    bars = [b for b in found.bars if b.near_linear is not None][:12][::-1]
    figure = Figure(figsize=(7.2, 0.45 * len(bars) + 1.2), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(bars))
    for k, (name, colour, swings) in enumerate(
        (
            ("gradient", ORANGE, [b.gradient for b in bars]),
            ("alone, end to end", FAINT, [b.ends for b in bars]),
            ("sampled", BLUE, [b.sampled for b in bars]),
        )
    ):
        axes.barh(places + 0.26 * (1 - k), np.nan_to_num(swings), height=0.24, color=colour)
        axes.plot([], [], color=colour, linewidth=6, label=name)
    axes.axvline(0.0, color=INK, linewidth=0.7)
    labels = [b.input + (" *" if b.near_linear is False else "") for b in bars]
    axes.set_yticks(places, labels, fontsize=8)
    unit = "" if found.unit in ("1", "") else f" [{found.unit}]"
    axes.set_xlabel(f"change from the 5 % to the 95 % point{unit}; * not near-linear")
    axes.set_title(found.answer)
    axes.legend(fontsize=8)
    return figure


def _grid(result: SweepResult, shown: Sequence[Answer]) -> Figure | None:
    """Answers along the axis of most points, one line for each combination of the others."""
    axes, grid = result.plan.axes, result.plan.grid
    along = max(range(len(axes)), key=lambda k: len({point[k] for point in grid}))
    first = axes[along]
    x = np.array([first.number(point[along]) for point in grid])
    if np.any(np.isnan(x)):
        return None
    from matplotlib.figure import Figure

    others = [k for k in range(len(axes)) if k != along]

    part = shown[:MOST]
    figure = Figure(figsize=(7.2, 2.5 * len(part)), layout="constrained")
    places = figure.subplots(len(part), 1, squeeze=False)[:, 0]
    on = [tuple(point[k] for k in others) for point in grid]
    lines = list(dict.fromkeys(on))
    for answer, place in zip(part, places, strict=True):
        values = result.column(answer.name)
        for k, line in enumerate(lines):
            rows = [i for i, own in enumerate(on) if own == line]
            rows.sort(key=lambda i: x[i])
            label = ", ".join(f"{axes[o].key} = {v}" for o, v in zip(others, line, strict=True))
            colour = BLUE if len(lines) == 1 else None
            place.plot(x[rows], values[rows], marker="o", markersize=3, color=colour, label=label)
            if k == 11:
                break
        _limits(answer, place, "y")
        place.set_title(answer.name)
        place.set_ylabel(f"value{_unit(answer)}")
        place.set_xlabel(first.key + ("" if first.unit == "1" else f" [{first.unit}]"))
        if len(lines) > 1 or answer.specified:
            place.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
