"""Figures: stage profiles of a cascade. One style for every figure, set by one function."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sepmodel.errors import InputError, Problem
from sepmodel.result import Profile, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sepmodel.study.fit import Fit

INK = "#222222"
FAINT = "#8a8a8a"
# More elements than this are named in a legend and not beside their lines.
MANY = 8
BANDS = ("#f1f4f8", "#ffffff")
# Phases by the ending that names a profile of theirs.
SHORT = {"aqueous": "aq", "organic": "org"}
# The palette of Okabe and Ito, readable with every kind of colour vision; where colours repeat the
# dashes differ. An element looks the same in every figure.
_BLUE, _ORANGE, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_SKY, _AMBER, _BLACK = "#56B4E9", "#E69F00", "#222222"
SOLID, DASHED, DOTTED = "-", (0, (5, 2)), (0, (1.5, 1.5))
LOOKS: dict[str, tuple[str, Any]] = {
    "La": (_BLACK, SOLID),
    "Ce": (_AMBER, SOLID),
    "Pr": (_BLUE, SOLID),
    "Nd": (_ORANGE, SOLID),
    "Sm": (_SKY, SOLID),
    "Eu": (_BLACK, DASHED),
    "Gd": (_AMBER, DASHED),
    "Tb": (_PURPLE, SOLID),
    "Dy": (_GREEN, SOLID),
    "Ho": (_SKY, DASHED),
    "Y": (_BLUE, DASHED),
    "Er": (_ORANGE, DASHED),
    "Tm": (_PURPLE, DASHED),
    "Yb": (_GREEN, DASHED),
    "Lu": (_BLACK, DOTTED),
    "Sc": (_AMBER, DOTTED),
    "Fe": (_ORANGE, DOTTED),
    "Al": (_SKY, DOTTED),
    "Ca": (_GREEN, DOTTED),
    "Na": (_BLUE, DOTTED),
    "A": (_ORANGE, SOLID),
    "B": (_BLUE, SOLID),
    "D": (_GREEN, SOLID),
    "E": (_PURPLE, SOLID),
}


@contextmanager
def style() -> Iterator[None]:
    """The look of every figure: thin lines, no box, one font; valid inside the ``with`` block."""
    import matplotlib

    settings = {
        "backend": "agg",
        "font.family": "sans-serif",
        "font.size": 9.0,
        "axes.titlesize": 10.0,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.edgecolor": FAINT,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "lines.linewidth": 1.6,
        "legend.frameon": False,
        "figure.dpi": 100.0,
        "savefig.dpi": 160.0,
        "svg.fonttype": "none",
        "svg.hashsalt": "sepmodel",
    }
    with matplotlib.rc_context(settings):
        yield


def prepare() -> None:
    """Import what draws, which takes half a second, while there is nothing else to do."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401


def look(component: str) -> dict[str, Any]:
    """Colour and dashes of a component, the same in every figure.

    >>> look("Nd")["color"]
    '#D55E00'
    """
    colour, dashes = LOOKS.get(component, (FAINT, SOLID))
    return {"color": colour, "linestyle": dashes}


def figures(result: Result) -> dict[str, bytes]:
    """Names and contents (SVG and PNG) of the figures a result can be drawn as."""
    drawn: dict[str, Any] = {}
    if {"share_aq", "share_org"} <= set(result.profiles):
        drawn["stages"] = stage_profiles
    if {"pH", "loading"} <= set(result.profiles):
        from sepmodel import plot_circuit

        drawn |= plot_circuit.drawable(result)
    if "chromatogram" in result.profiles:
        from sepmodel import plot_column

        drawn["chromatogram"] = chromatogram
        drawn |= plot_column.drawings(result)
    if "train" in result.profiles:
        drawn["train"] = band_pattern
    if result.kind == "displacement":
        from sepmodel import plot_displacement

        drawn |= plot_displacement.drawings(result)
    if result.kind == "elution":
        from sepmodel import plot_elution

        drawn |= plot_elution.drawings(result)
    if result.kind == "isotherm":
        from sepmodel import plot_isotherms

        drawn |= plot_isotherms.drawings(result)
    written = {}
    for name, draw in drawn.items():
        with style():
            figure = draw(result)
            written[f"{name}.svg"] = rendered(figure, "svg")
            written[f"{name}.png"] = rendered(figure, "png")
    if "map_aq" in result.profiles:
        from sepmodel import plot_dynamic

        written |= plot_dynamic.figures(result)
    return written


def rendered(figure: Figure, form: str) -> bytes:
    """A figure as the bytes of a file; the same figure gives the same bytes."""
    stream = io.BytesIO()
    metadata = {"Date": None} if form == "svg" else {"Software": None}
    figure.savefig(stream, format=form, metadata=metadata, facecolor="white")
    return stream.getvalue()


def stage_profiles(result: Result) -> Figure:
    """Share of each component along the stages of a cascade, in both phases.

    The share is drawn on a scale that opens both ends (0.1 %, 1 %, 50 %, 99 %, 99.9 %), because
    a separation happens there; sections are bands, feeds and draws are marked.

    Raises
    ------
    InputError
        when the result has no stage profiles of shares.
    """
    from matplotlib.figure import Figure

    phases = {phase: profile_of(result, f"share_{short}") for phase, short in SHORT.items()}
    analysed = {p: result.profiles.get(f"analysed_{n}") for p, n in SHORT.items()}
    figure = Figure(figsize=(7.2, 5.6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    tables = [profile.values for profile in phases.values()]
    floor, most = share_floor(tables), max(float(np.nanmax(table)) for table in tables)
    many = len(phases["aqueous"].axes["component"]) > MANY
    for axes, (phase, profile) in zip(panels, phases.items(), strict=True):
        draw_shares(axes, profile, floor, most, named=not many)
        _draw_analysed(axes, analysed[phase])
        axes.set_ylabel(f"share in the {phase} phase")
    name_bands(panels[0], phases["aqueous"])
    if many:
        legend_of_elements(figure, panels[0])
    panels[-1].set_xlabel("stage, from the raffinate end (the organic travels to the right)")
    figure.suptitle(result.name, x=0.01, ha="left", fontweight="bold")
    return figure


def chromatogram(result: Result) -> Figure:
    """What leaves a column against the volume that went through it; the steps are marked."""
    return _curves(result, "chromatogram", "bed volumes", "concentration at the outlet")


def band_pattern(result: Result) -> Figure:
    """The bands of a displacement train along the column, at its end."""
    return _curves(result, "train", "depth behind the front (m)", "mole share")


def _curves(result: Result, name: str, across: str, up: str) -> Figure:
    from matplotlib.figure import Figure

    profile = profile_of(result, name)
    first, second = profile.axes
    x = np.array([float(value) for value in profile.axes[first]])
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for index, component in enumerate(profile.axes[second]):
        axes.plot(x, profile.values[:, index], label=component, **look(str(component)))
    for place in profile.marks.values():
        axes.axvline(float(place), color=FAINT, linewidth=0.8, linestyle=DOTTED, zorder=-1)
    name_bands(axes, profile)
    unit = "" if profile.unit == "1" else f" ({profile.unit.replace('^3', '³')})"
    axes.set(xlabel=across, ylabel=f"{up}{unit}", xlim=(x[0], x[-1]))
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(result.name, x=0.01, ha="left", fontweight="bold")
    return figure


def profile_of(result: Result, name: str) -> Profile:
    if name not in result.profiles:
        raise InputError(
            Problem(
                message="the result has no such profile",
                value=name,
                expected=f"one of {', '.join(result.profiles)}",
            )
        )
    return result.profiles[name]


def stage_axis(axes: Axes, profile: Profile) -> None:
    """Sections as bands, feeds and draws as dotted lines, whole numbers below."""
    from matplotlib.ticker import MaxNLocator

    stages = list(profile.axes["stage"])
    axes.set_xlim(stages[0] - 0.5, stages[-1] + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    shades = BANDS * len(profile.bands)
    for shade, (first, last) in zip(shades, profile.bands.values(), strict=False):
        axes.axvspan(first - 0.5, last + 0.5, color=shade, zorder=-2, linewidth=0)
    for stage in profile.marks.values():
        axes.axvline(stage, color=FAINT, linewidth=0.8, linestyle=DOTTED, zorder=-1)


def _draw_analysed(axes: Axes, profile: Profile | None) -> None:
    """Shares that were analysed, as dots beside the curves of a rated train."""
    if profile is None:
        return
    for name, values in zip(profile.axes["component"], profile.values.T, strict=True):
        axes.plot(list(profile.axes["stage"]), opened(values), "o", color=look(str(name))["color"])


def share_floor(tables: Sequence[Any]) -> float:
    """The smallest share worth showing: a power of ten between one in a hundred and a million."""
    values = np.concatenate([np.ravel(table) for table in tables])
    values = np.concatenate([values, 1 - values])
    values = values[np.isfinite(values) & (values > 0)]
    least = float(values.min()) if values.size else 0.1
    return float(10.0 ** np.clip(np.floor(np.log10(least)), -6, -2))


def opened(share: Any) -> Any:
    """log10(x / (1 - x)), which opens both ends of the scale of shares."""
    x = np.clip(share, 1e-30, 1 - 1e-16)
    return np.log10(x / (1 - x))


def draw_shares(
    axes: Axes, profile: Profile, floor: float, most: float, *, named: bool = True
) -> None:
    stages = np.array(list(profile.axes["stage"]), dtype=float)
    components = [str(name) for name in profile.axes["component"]]
    drawn = opened(profile.values)
    shown = [10.0**k for k in range(round(np.log10(floor)), 0)]
    ticks = np.array([*shown, 0.5, *(1 - x for x in reversed(shown))])
    highest = ticks[np.searchsorted(ticks, most).clip(max=len(ticks) - 1)]
    ticks = ticks[ticks <= highest]
    low, high = float(opened(floor)), float(opened(highest))
    room = (high - low) / 30
    axes.set_yticks(opened(ticks).tolist(), [percent(t) for t in ticks])
    axes.set_ylim(low - room, high + room)
    for index, name in enumerate(components):
        axes.plot(stages, drawn[:, index], label=name, **look(name))
    if named:
        _label_ends(axes, drawn, components, low - room, high + room)
        _label_exits(axes, stages, drawn, components, low - room, high + room)
    stage_axis(axes, profile)


def legend_of_elements(figure: Figure, axes: Axes) -> None:
    """A legend of the lines of ``axes`` to the right of the figure's panels."""
    figure.legend(
        handles=axes.get_legend_handles_labels()[0], loc="outside right center", handlelength=2.2
    )


def percent(share: float) -> str:
    return f"{100 * share:.10g} %"


def _label_ends(axes: Axes, drawn: Any, components: Sequence[str], low: float, high: float) -> None:
    """Names in the margin beside the ends of the lines, moved apart where they would overlap."""
    there = [i for i in range(len(components)) if drawn[-1, i] >= low]
    order = sorted(there, key=lambda i: drawn[-1, i])
    places = [min(float(drawn[-1, i]), high) for i in order]
    gap = (high - low) / 13
    for _ in range(100):  # neighbours push each other until all are a line apart
        for k in range(len(places) - 1):
            short = (gap - (places[k + 1] - places[k])) / 2
            if short > 0:
                places[k] -= short
                places[k + 1] += short
    for i, place in zip(order, places, strict=True):
        _label(axes, components[i], (1.0, place), "axes fraction")


def _label_exits(
    axes: Axes, stages: Any, drawn: Any, components: Sequence[str], low: float, high: float
) -> None:
    """Names where lines leave through the bottom, a line higher for each close neighbour."""
    exits = []
    for i, name in enumerate(components):
        visible = np.flatnonzero(drawn[:, i] >= low)
        if drawn[-1, i] < low and visible.size:
            k = visible[-1]
            step = (drawn[k, i] - low) / (drawn[k, i] - drawn[k + 1, i])
            exits.append((float(stages[k] + step * (stages[k + 1] - stages[k])), name))
    width = (stages[-1] - stages[0]) / 18
    last, row = -np.inf, 0
    for stage, name in sorted(exits):
        row = row + 1 if stage - last < width else 0
        last = stage
        _label(axes, name, (stage, low + (0.5 + row) * (high - low) / 13), "data")


def _label(axes: Axes, name: str, place: tuple[float, float], x_system: str) -> None:
    axes.annotate(
        name,
        place,
        xycoords=(x_system, "data"),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        color=look(name)["color"],
        fontweight="bold",
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6},
    )


def name_bands(axes: Axes, profile: Profile) -> None:
    """Names of the sections and of the marks above the first panel."""
    left, right = axes.get_xlim()
    for name, (low, high) in profile.bands.items():
        wide = high - low + 1 > (right - left) / MANY
        axes.annotate(
            f"{name}, {high - low + 1} stages" if wide else name,
            ((low + high) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 14),
            textcoords="offset points",
            ha="center",
            color=FAINT,
        )
    named = sorted(_merged(profile.marks).items(), key=lambda mark: mark[1])
    places = [float(stage) for _, stage in named]
    close = (right - left) / MANY
    for k, (name, stage) in enumerate(named):
        # Neighbours whose names would run into each other lean apart.
        before = k > 0 and places[k] - places[k - 1] < close
        after = k + 1 < len(places) and places[k + 1] - places[k] < close
        axes.annotate(
            name,
            (stage, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right" if after and not before else "left" if before and not after else "center",
            color=INK,
        )


def _merged(marks: Mapping[str, Any]) -> dict[str, Any]:
    """Marks by stage, the names that share one joined."""
    by_stage: dict[Any, list[str]] = {}
    for name, stage in marks.items():
        by_stage.setdefault(stage, []).append(name)
    return {", ".join(names): stage for stage, names in by_stage.items()}


def fit_figures(found: Fit) -> dict[str, bytes]:
    """Names and contents of the figures of a fit: parity, and residuals against the state."""
    written = {}
    for name, draw in (("parity", fit_parity), ("residuals", fit_residuals)):
        with style():
            figure = draw(found)
            written[f"{name}.svg"] = rendered(figure, "svg")
            written[f"{name}.png"] = rendered(figure, "png")
    return written


def _marker(element: str) -> str:
    """A point for solid lines, a square for dashes, a triangle for dots: as colours repeat."""
    dashes = look(element)["linestyle"]
    return "o" if dashes == SOLID else "s" if dashes == DASHED else "^"


def fit_parity(found: Fit) -> Figure:
    """Predicted against measured distribution ratio; hollow points were not used."""
    from matplotlib.figure import Figure as New

    figure = New(figsize=(5.2, 5.0), layout="constrained")
    axes = figure.add_subplot()
    known = found.log_d[np.isfinite(found.log_d)]
    ends = np.array([known.min() - 0.2, known.max() + 0.2]) if len(known) else np.array([-1.0, 1])
    axes.fill_between(ends, ends - 0.1, ends + 0.1, color=BANDS[0], lw=0)
    axes.plot(ends, ends, color=FAINT, lw=0.8)
    for i, element in enumerate(found.table.elements):
        colour, marker = look(element)["color"], _marker(element)
        for used in (True, False):
            rows = found.table.used == used
            axes.plot(
                found.log_d[rows, i],
                found.log_d_predicted[rows, i],
                linestyle="none",
                marker=marker,
                ms=4,
                mew=0.9,
                color=colour,
                mfc=colour if used else "none",
                label=element if used else None,
            )
    axes.set(xlabel="log10 D measured", ylabel="log10 D predicted", xlim=ends, ylim=ends)
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="upper left")
    axes.set_title("Band: 0.1 decade", loc="left", fontsize=9, color=FAINT)
    return figure


def fit_residuals(found: Fit) -> Figure:
    """Error of log10 D against predicted pH, loading and ionic strength."""
    from matplotlib.figure import Figure as New

    figure = New(figsize=(9.0, 3.2), layout="constrained")
    error = found.log_d_predicted - found.log_d
    states = (
        ("pH at equilibrium (predicted)", found.pH),
        ("loading, mol/mol extractant", found.loading),
        ("ionic strength, mol/L", found.ionic_strength),
    )
    first = None
    for n, (label, state) in enumerate(states):
        axes = figure.add_subplot(1, 3, n + 1, sharey=first)
        first = first or axes
        axes.axhline(0, color=FAINT, lw=0.8)
        for i, element in enumerate(found.table.elements):
            axes.plot(
                state,
                error[:, i],
                linestyle="none",
                marker=_marker(element),
                ms=3.5,
                color=look(element)["color"],
                label=element,
            )
        axes.set_xlabel(label)
    if first is not None:
        first.set_ylabel("log10 D: predicted - measured")
        first.legend(frameon=False, ncols=2, fontsize=8)
    return figure
