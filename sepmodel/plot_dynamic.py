"""Figures of a run in time: outlets with their specifications, stages over time, the profile."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from sepmodel import plot
from sepmodel.errors import InputError, Problem

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sepmodel.result import Profile, Result

# Frames of an animation and how long each is shown [ms].
FRAMES, SHOWN = 25, 160
# An event within this part of the run from its beginning is named to the right of its line.
NEAR_START = 1e-1 / 2


def figures(result: Result) -> dict[str, bytes]:
    """Names and contents (SVG and PNG) of the figures of a run in time, and its animation."""
    written: dict[str, bytes] = {}
    for name, draw in (("outlets", outlets), ("map", stage_map), ("holdings", holdings)):
        with plot.style():
            figure = draw(result)
            if name != "map":
                written[f"{name}.svg"] = plot.rendered(figure, "svg")
            written[f"{name}.png"] = plot.rendered(figure, "png")
    if any(name.startswith("loop_") for name in result.profiles):
        with plot.style():
            figure = loops(result)
            written["loops.svg"] = plot.rendered(figure, "svg")
            written["loops.png"] = plot.rendered(figure, "png")
    if "mode_shapes" in result.profiles:
        with plot.style():
            figure = mode_shapes(result)
            written["modes.svg"] = plot.rendered(figure, "svg")
            written["modes.png"] = plot.rendered(figure, "png")
    if "policies" in result.profiles:
        with plot.style():
            figure = policies(result)
            written["policies.svg"] = plot.rendered(figure, "svg")
            written["policies.png"] = plot.rendered(figure, "png")
    written["profile.gif"] = animation(result)
    return written


def outlets(result: Result) -> Figure:
    """Purity of every outlet over time on a scale that opens both ends; specifications as bands.

    What meets a specification is shaded; dotted lines mark when it was met first and for good.
    """
    from matplotlib.figure import Figure

    traces = {
        name.removeprefix("purity_"): profile
        for name, profile in result.profiles.items()
        if name.startswith("purity_")
    }
    traces = {name: t for name, t in traces.items() if _moves(t)}
    if not traces:
        raise InputError(Problem(message="the result has no outlets over time"))
    figure = Figure(figsize=(7.2, 1.2 + 2.1 * len(traces)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(traces), 1, sharex=True))
    days = _days(next(iter(traces.values())))
    for axes, (name, profile) in zip(panels, traces.items(), strict=True):
        floor = max(plot.share_floor([profile.values[1:]]), 1e-4)
        # A specification is never the edge of its panel.
        floor = min([floor, *(0.1 * (1.0 - least) for least in profile.marks.values())])
        _share_axis(axes, floor)
        for index, component in enumerate(profile.axes["component"]):
            # What never comes into the panel has no place in its legend.
            shows = np.nanmax(profile.values[1:, index]) > floor
            axes.plot(
                days,
                # What is purer than the panel shows runs along its edge.
                plot.opened(np.minimum(profile.values[:, index], 1.0 - floor)),
                label=component if shows else None,
                **plot.look(str(component)),
            )
        for label, least in profile.marks.items():
            name_, colour = label.split()[0], plot.look(label.split()[0])["color"]
            top = axes.get_ylim()[1]
            axes.axhspan(plot.opened(least), top, color=colour, alpha=0.12, linewidth=0)
            axes.text(
                1.0, float(plot.opened(least)), f"specification: {name_} {100 * least:g} % ",
                transform=axes.get_yaxis_transform(), ha="right", va="bottom", fontsize=7,
                color=colour,
            )  # fmt: skip
            for what, dashes in (("first", plot.DOTTED), ("lasting", plot.DASHED)):
                key = f"{name}_{label.replace(' ', '_')}_{what}"
                moment = result.quantities.get(key, {}).get("value")
                if moment is not None:
                    axes.axvline(moment / 24.0, color=colour, linewidth=0.9, linestyle=dashes)
        for event, (begins, ends) in profile.bands.items():
            led = event.startswith("start: ")
            moment = ends if led else begins
            axes.axvline(moment / 24.0, color=plot.FAINT, linewidth=0.7, alpha=0.6)
            if axes is not panels[0]:
                continue
            # What begins with the run is named inside it.
            inside = begins / 24.0 < NEAR_START * days[-1] and not led
            axes.text(
                moment / 24.0, 0.02, f" {event} ends" if led else f" {event}",
                transform=axes.get_xaxis_transform(), fontsize=7, rotation=90,
                ha="left" if inside else "right", va="bottom", color=plot.INK,
            )  # fmt: skip
        axes.set_ylabel(name.replace("_", " "))
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    panels[-1].set_xlabel("time (d); on specification, dotted: first, dashed: for good")
    panels[-1].set_xlim(days[0], days[-1])
    figure.suptitle(f"{result.name}: purity of what leaves", x=0.01, ha="left", fontweight="bold")
    return figure


def _moves(profile: Profile) -> bool:
    """Whether there is anything to see in an outlet."""
    return bool(np.nanmax(np.nanmax(profile.values, axis=0) - np.nanmin(profile.values, axis=0)))


def _share_axis(axes: Any, floor: float) -> None:
    ticks = _share_ticks(floor)
    axes.set_yticks(plot.opened(np.array(ticks)).tolist(), _percent(ticks))
    axes.set_ylim(float(plot.opened(floor)), float(plot.opened(1 - floor)))


def _share_ticks(floor: float) -> list[float]:
    ends = [10.0**-k for k in range(6, 0, -1)]
    every = [*ends, 0.5, *(1.0 - t for t in reversed(ends))]
    # Rounding must not cost the last tick.
    least = floor * (1.0 - 1e-6)
    return [t for t in every if least <= t <= 1.0 - least]


def _percent(shares: list[float]) -> list[str]:
    return [f"{100 * t:.6g} %" for t in shares]


def _days(profile: Profile) -> Any:
    return np.array([float(t) for t in profile.axes["time_h"]]) / 24.0


def stage_map(result: Result) -> Figure:
    """Share of every component in the aqueous of every stage over time."""
    from matplotlib.figure import Figure

    profile = _profile(result, "map_aq")
    components = [str(c) for c in profile.axes["component"]]
    stages = np.array([float(s) for s in profile.axes["stage"]])
    days = _days(profile)
    figure = Figure(figsize=(7.2, 1.0 + 2.0 * len(components)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(components), 1, sharex=True))
    shown: Any = None
    bands = result.profiles["share_aq"].bands
    floor = max(plot.share_floor([profile.values]), 1e-4)
    # A scale that opens both ends: a trace of Tb is as plain as what is missing to pure Pr.
    low, high = float(plot.opened(floor)), float(plot.opened(1 - floor))
    for axes, index, name in zip(panels, range(len(components)), components, strict=True):
        seen = np.clip(profile.values[:, :, index].T, floor, 1 - floor)
        shown = axes.pcolormesh(
            days, stages, plot.opened(seen), cmap="viridis", vmin=low, vmax=high,
            shading="nearest", rasterized=True,
        )  # fmt: skip
        axes.set_ylabel(f"{name}\nstage")
        for first, _ in list(bands.values())[1:]:
            axes.axhline(first - 0.5, color="white", linewidth=0.8)
    ticks = _share_ticks(floor)
    bar = figure.colorbar(shown, ax=list(panels), label="share in the aqueous", shrink=0.8)
    bar.set_ticks(plot.opened(np.array(ticks)).tolist(), labels=_percent(ticks))
    panels[-1].set_xlabel("time (d)")
    figure.suptitle(f"{result.name}: stages over time", x=0.01, ha="left", fontweight="bold")
    return figure


def holdings(result: Result) -> Figure:
    """What the train holds of every component over time."""
    from matplotlib.figure import Figure

    profile = _profile(result, "inventory")
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    days = _days(profile)
    for index, component in enumerate(profile.axes["component"]):
        axes.plot(days, profile.values[:, index], label=component, **plot.look(str(component)))
    unit = "mol" if profile.unit == "mol" else "h of feed"
    axes.set(xlabel="time (d)", ylabel=f"held in the train ({unit})", xlim=(days[0], days[-1]))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(f"{result.name}: what is locked up", x=0.01, ha="left", fontweight="bold")
    return figure


def loops(result: Result) -> Figure:
    """What every controller measured, and where it put its setting."""
    from matplotlib.figure import Figure

    chosen = {k: v for k, v in result.profiles.items() if k.startswith("loop_")}
    figure = Figure(figsize=(7.2, 2.6 * len(chosen)), layout="constrained")
    panels = np.atleast_1d(figure.subplots(len(chosen), 2, squeeze=False))
    for row, (name, profile) in zip(panels, chosen.items(), strict=True):
        days = _days(profile)
        for axes, index, label in zip(row, (0, 1), ("measured", "setting"), strict=True):
            axes.step(days, profile.values[:, index], where="post", color=plot.INK, linewidth=1.2)
            unit = profile.unit_of(label)
            told = "" if unit == "1" else f" ({unit})"
            axes.set_title(f"{name.removeprefix('loop_')}: {label}{told}")
            axes.set_xlabel("time (d)")
        row[0].axhline(
            float(profile.marks["target"]), color=plot.FAINT, linewidth=0.9, linestyle=plot.DOTTED
        )
        row[0].set_title("dotted: target", loc="right", fontsize="small", fontweight="normal")
    return figure


def mode_shapes(result: Result) -> Figure:
    """How the shares in the aqueous move in each slow mode, and the stage that shows most of it."""
    from matplotlib.figure import Figure

    profile = _profile(result, "mode_shapes")
    stages = np.array([float(s) for s in profile.axes["stage"]])
    count = profile.values.shape[0]
    figure = Figure(figsize=(7.2, 0.8 + 1.7 * count), layout="constrained")
    panels: list[Any] = figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0].tolist()
    for k, axes in enumerate(panels):
        for i, name in enumerate(profile.axes["component"]):
            axes.plot(stages, profile.values[k, :, i], label=name, **plot.look(str(name)))
        head = f"mode_{k + 1}_stage_"
        where = next((n, q) for n, q in result.quantities.items() if n.startswith(head))
        stage, component = float(str(where[1]["value"])), where[0].removeprefix(head)
        axes.axvline(stage, color=plot.FAINT, linewidth=0.9, linestyle=plot.DOTTED)
        days = float(str(result.quantities[f"mode_{k + 1}_time"]["value"])) / 24.0
        place = next(
            f"{name} {stage - first + 1:.0f}"
            for name, (first, last) in result.profiles["share_aq"].bands.items()
            if first <= stage <= last
        )
        axes.set_title(f"falls by e in {days:.3g} d; {component} in {place} shows most")
        axes.axhline(0.0, color=plot.FAINT, linewidth=0.6)
        for first, _ in list(result.profiles["share_aq"].bands.values())[1:]:
            axes.axvline(first - 0.5, color=plot.FAINT, linewidth=0.6)
        axes.set_yticks([-1, 0, 1])
    panels[0].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    panels[-1].set_xlabel("stage, from the raffinate end")
    figure.supylabel("change of the share in the aqueous (largest: 1)", fontsize=9)
    figure.suptitle(f"{result.name}: slowest modes", x=0.01, ha="left", fontweight="bold")
    return figure


def policies(result: Result) -> Figure:
    """Every start-up policy tried: how long it led, at what level, how soon all was met for good.

    The cross is the best one by what was sought; open circles never met every specification.
    """
    from matplotlib.figure import Figure

    profile = _profile(result, "policies")
    rows = profile.values
    level, days, time = rows[:, 0], rows[:, 1] / 24.0, rows[:, 2] / 24.0
    flat = not np.isfinite(level).any()
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    where, met = time if flat else level, np.isfinite(time) & (days > 0)
    never = ~np.isfinite(time) & (days > 0)
    if flat:
        axes.scatter(days[met], where[met], color=plot.INK)
        axes.set_ylabel("all specifications met for good (d)")
    else:
        shown = axes.scatter(days[met], where[met], c=time[met], cmap="viridis", s=36)
        axes.scatter(days[never], where[never], facecolor="none", edgecolor=plot.FAINT, s=24)
        if met.any():
            figure.colorbar(shown, ax=axes, label="all specifications met for good (d)")
        axes.set_ylabel("level: part of the setting, or of the feed")
    best = result.quantities["policy_duration"]["value"] / 24.0
    own = result.quantities["policy_level"]["value"]
    there = result.quantities["policy_time"]["value"]
    height = (None if there is None else there / 24.0) if flat else own
    if best > 0 and height is not None:
        axes.scatter([best], [height], marker="x", color="black", s=64, zorder=3)
    axes.set_xlabel("how long it leads (d)")
    plain = result.quantities["plain_time"]["value"]
    words = "never" if plain is None else f"{plain / 24.0:.3g} d"
    title = f"{result.name}: {len(rows) - 1} policies tried; without one: {words}"
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def animation(result: Result) -> bytes:
    """The profile of the aqueous through the run, as a GIF."""
    import tempfile
    from pathlib import Path

    from matplotlib.animation import FuncAnimation, PillowWriter
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    profile = _profile(result, "map_aq")
    components = [str(c) for c in profile.axes["component"]]
    stages = np.array([float(s) for s in profile.axes["stage"]])
    days = _days(profile)
    chosen = np.unique(np.linspace(0, days.size - 1, min(FRAMES, days.size)).round().astype(int))
    with plot.style():
        figure = Figure(figsize=(6.0, 3.2), dpi=72, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        lines = [
            axes.plot(stages, profile.values[0, :, i], label=name, **plot.look(name))[0]
            for i, name in enumerate(components)
        ]
        title = axes.set_title("")
        axes.set(xlabel="stage, from the raffinate end", ylabel="share in the aqueous",
                 ylim=(0, 1), xlim=(stages[0], stages[-1]))  # fmt: skip
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))

        def draw(frame: int) -> list[Any]:
            for i, line in enumerate(lines):
                line.set_ydata(profile.values[chosen[frame], :, i])
            title.set_text(f"{result.name}, day {days[chosen[frame]]:.1f}")
            return [*lines, title]

        film = FuncAnimation(figure, draw, frames=len(chosen), blit=False)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "profile.gif"
            film.save(path, writer=PillowWriter(fps=1000 // SHOWN))
            return io.BytesIO(path.read_bytes()).getvalue()


def _profile(result: Result, name: str) -> Profile:
    if name not in result.profiles:
        raise InputError(
            Problem(
                message="the result has no such profile",
                value=name,
                expected=f"one of {', '.join(result.profiles)}",
            )
        )
    return result.profiles[name]
