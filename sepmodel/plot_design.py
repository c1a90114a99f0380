"""Figures of a design: its curve, its stages with what each one adds, its tolerances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sepmodel import plot, units
from sepmodel.extraction import explain
from sepmodel.report_design import input_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sepmodel.extraction.design_pareto import Fronts
    from sepmodel.extraction.design_result import Design
    from sepmodel.plant.sequences import Ranking
    from sepmodel.plant.train_case import TrainPlan


def figures(design: Design) -> dict[str, bytes]:
    """Names and contents (SVG and PNG) of the figures of a design."""
    written = {}
    for name, draw in (("curve", curve), ("profile", profile), ("tolerances", tolerances)):
        with plot.style():
            figure = draw(design)
            written[f"{name}.svg"] = plot.rendered(figure, "svg")
            written[f"{name}.png"] = plot.rendered(figure, "png")
    return written


def curve(design: Design) -> Figure:
    """Stages and S (n + m) against solvent, with the least of both and the circuit chosen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    x = np.array([p.solvent for p in design.curve])
    least = design.circuit.minimum
    for axes, values, label, floor in (
        (panels[0], [p.stages for p in design.curve], "stages n + m", least["stages"]),
        (panels[1], [p.phi for p in design.curve], "S (n + m), mol/mol feed", None),
    ):
        axes.plot(x, values, color=plot.look("Pr")["color"], marker="o", markersize=3.5)
        chosen = [v for p, v in zip(design.curve, values, strict=True)
                  if p.solvent == design.circuit.solvent]  # fmt: skip
        axes.plot(
            [design.circuit.solvent], chosen[:1], "o", color=plot.look("Nd")["color"], markersize=9,
            markerfacecolor="none", markeredgewidth=2,
        )  # fmt: skip
        axes.axvline(least["solvent"], color=plot.FAINT, linestyle=plot.DASHED, linewidth=1.0)
        axes.set_ylabel(label)
        if floor is not None:
            axes.axhline(floor, color=plot.FAINT, linestyle=plot.DASHED, linewidth=1.0)
            axes.annotate(
                "least stages, at total reflux",
                (x[-1], floor),
                xytext=(0, -4),
                textcoords="offset points",
                ha="right",
                va="top",
                color=plot.FAINT,
            )
        axes.set_ylim(bottom=0)
    panels[0].annotate(
        "least solvent",
        (least["solvent"], 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(4, -2),
        textcoords="offset points",
        va="top",
        color=plot.FAINT,
    )
    top = panels[1].get_ylim()[1]
    panels[1].annotate(
        "chosen",
        (design.circuit.solvent, design.circuit.phi),
        xytext=(0, 11 if design.circuit.phi < 0.8 * top else -16),
        textcoords="offset points",
        ha="center",
        color=plot.look("Nd")["color"],
        fontweight="bold",
    )
    panels[1].set_xlabel("solvent S, moles of rare earth carried per mole of feed")
    panels[1].set_xlim(left=0)
    figure.suptitle(design.name, x=0.01, ha="left", fontweight="bold")
    return figure


def profile(design: Design) -> Figure:
    """Shares along the stages; below, what each stage adds of what it could."""
    from matplotlib.figure import Figure

    result, circuit = design.result, design.circuit
    share = result.profiles["share_aq"]
    figure = Figure(figsize=(7.2, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    floor = plot.share_floor([share.values])
    plot.draw_shares(upper, share, floor, float(np.nanmax(share.values)))
    upper.set_ylabel("share in the aqueous phase")
    plot.name_bands(upper, share)
    for asked in design.asked:
        if asked.kind == "purity":
            upper.axhline(
                float(plot.opened(1 - asked.asked)),
                color=plot.FAINT,
                linewidth=0.8,
                linestyle=plot.DASHED,
            )
    light, heavy = circuit.light[-1], circuit.heavy[0]
    beta = circuit.extractability[heavy] / circuit.extractability[light]
    names = list(share.axes["component"])
    part = explain.gain(
        share.values[: circuit.stages + added(design)], names.index(light), names.index(heavy), beta
    )
    stages = np.arange(1, len(part) + 1) + 0.5
    colours = [
        plot.look("Nd")["color"] if value < explain.PINCHED else plot.look("Pr")["color"]
        for value in part
    ]
    lower.bar(stages, part, width=0.8, color=colours)
    lower.axhline(explain.PINCHED, color=plot.FAINT, linewidth=0.8, linestyle=plot.DASHED)
    lower.set_ylabel(f"gain in ln({heavy}/{light})\nover ln(separation factor)")
    lower.set_ylim(0, 1)
    plot.stage_axis(lower, share)
    lower.set_xlabel("stage, from the raffinate end (the organic travels to the right)")
    figure.suptitle(design.name, x=0.01, ha="left", fontweight="bold")
    return figure


def added(design: Design) -> int:
    """Stages that mass action took more than the design by separation factors."""
    found = design.confirmation
    return 0 if found is None else found.stages - design.circuit.stages


def tolerances(design: Design) -> Figure:
    """How far each input may be off before what is foreign or lost somewhere doubles."""
    from matplotlib.figure import Figure

    held: list[Any] = [h for h in design.held if np.isfinite(h.doubling) and h.doubling < 1]
    figure = Figure(figsize=(7.2, 0.8 + 0.32 * max(len(held), 1)), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(held))[::-1]
    axes.barh(places, [100 * h.doubling for h in held], color=plot.look("Pr")["color"], height=0.6)
    axes.set_yticks(places.tolist(), [input_name(h.name) for h in held])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("relative change that doubles what is foreign or lost at one end, %")
    for place, h in zip(places, held, strict=True):
        axes.annotate(
            h.product,
            (100 * h.doubling, place),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=plot.FAINT,
        )
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * 8)
    figure.suptitle(design.name, x=0.01, ha="left", fontweight="bold")
    return figure


def train_figures(plan: TrainPlan) -> dict[str, bytes]:
    """Names and contents of the figures of a train: every sequence, stages against base."""
    written = {}
    with plot.style():
        figure = sequences_figure(plan)
        for form in ("svg", "png"):
            written[f"sequences.{form}"] = plot.rendered(figure, form)
    return written


def sequences_figure(plan: TrainPlan) -> Figure:
    """Stages against base per kilogram for every sequence, coloured by what they are ranked by."""
    from matplotlib.figure import Figure

    ranking = plan.ranking
    per = 1 / ranking.product_rate
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.subplots()
    stripped = [s.unlinked for s in ranking.sequences]
    linked = [s.figures for s in ranking.sequences]
    label, unit = _ranked_by(ranking)
    ranks = [f.of(ranking.objective) / unit for f in linked]
    axes.plot(
        [f.base * per for f in stripped],
        [f.stages for f in stripped],
        "x",
        color=plot.FAINT,
        label="every organic stripped",
    )
    shown = axes.scatter(
        [f.base * per for f in linked],
        [f.stages for f in linked],
        c=ranks,
        cmap="viridis",
        label=f"best links, {len(linked)} sequences",
    )
    best = ranking.best.reached
    if best is not None:
        axes.plot(
            best.base * per,
            best.stages,
            "o",
            markersize=11,
            markerfacecolor="none",
            color=plot.INK,
            label="chosen, with its real streams",
        )
    figure.colorbar(shown, ax=axes, label=f"ranked by {label}")
    axes.set_xlabel("base, mol per kg of product oxide")
    axes.set_ylabel("stages of the train")
    axes.legend(frameon=False)
    figure.suptitle(plan.name, x=0.01, ha="left", fontweight="bold")
    return figure


def _ranked_by(ranking: Ranking) -> tuple[str, float]:
    """What the sequences are ranked by, with its unit, and what one of it is."""
    return {
        "cost": ("cost, USD per kg of product oxide", 1.0),
        "reagents": ("acid and base, mol per kg of product oxide", ranking.product_rate),
        "inventory": ("S (n + m) per mole of feed", ranking.feed),
        "stages": ("stages", 1.0),
    }[ranking.objective]


def pareto_figures(name: str, fronts: Fronts) -> dict[str, bytes]:
    """Names and contents of the figure of both fronts."""
    with plot.style():
        figure = pareto(name, fronts)
        return {f"pareto.{form}": plot.rendered(figure, form) for form in ("svg", "png")}


def pareto(name: str, fronts: Fronts) -> Figure:
    """Stages against base; rare earth held against purity, on a scale that opens its end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    colour = plot.look("Nd")["color"]
    hour = units.factor("mol/h")
    left.plot(
        [m.base / hour for m in fronts.reagents],
        [m.stages for m in fronts.reagents],
        "o-",
        color=colour,
    )
    left.set_xlabel("base, mol/h")
    left.set_ylabel("stages, n + m")
    left.set_xlim(left=0)
    left.set_ylim(bottom=0)
    right.plot(
        [100 * (1 - m.purity) for m in fronts.purity],
        [m.lock_up for m in fronts.purity],
        "o-",
        color=colour,
    )
    for m in fronts.purity:
        if m.loosened == 1:
            right.annotate(
                "asked", (100 * (1 - m.purity), m.lock_up), xytext=(8, -12),
                textcoords="offset points", color=plot.INK,
            )  # fmt: skip
    right.set_xscale("log")
    right.xaxis.set_major_formatter("{x:g}")
    right.invert_xaxis()
    right.set_xlabel("foreign in the worst product, %")
    right.set_ylabel("rare earth held in the stages, mol")
    right.set_ylim(bottom=0)
    figure.suptitle(name, x=0.01, ha="left", fontweight="bold")
    return figure
