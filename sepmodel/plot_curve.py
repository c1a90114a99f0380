"""Figure of a fit of curves: measured points on the model's curves, and what is left over."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sepmodel.plot import FAINT, INK, look, rendered, style
from sepmodel.study.curve_fit import CurveFit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LABELS = {"time": "time, h", "volume": "volume, mL", "bed_volumes": "bed volumes"}
_SCALES = {"time": 1 / 3600, "volume": 1e6, "bed_volumes": 1.0}
_MARKERS = ("o", "s", "^", "D", "v")


def figures(found: CurveFit) -> dict[str, bytes]:
    """Names and contents (SVG and PNG) of the figure."""
    with style():
        figure = breakthrough(found)
        return {f"curves.{kind}": rendered(figure, kind) for kind in ("svg", "png")}


def breakthrough(found: CurveFit) -> Figure:
    """Curves over the feed above, residuals in standard deviations below; one column an axis."""
    from matplotlib.figure import Figure as New

    axes_used = list(dict.fromkeys(c.curve.axis for c in found.curves))
    figure = New(figsize=(6.4 * len(axes_used), 4.6), layout="constrained")
    grid = figure.add_gridspec(2, len(axes_used), height_ratios=(3, 1))
    for place, axis in enumerate(axes_used):
        top = figure.add_subplot(grid[0, place])
        low = figure.add_subplot(grid[1, place], sharex=top)
        top.axhline(0.5, color=FAINT, lw=0.6, ls=":")
        low.axhspan(-2, 2, color="#f1f4f8", lw=0)
        low.axhline(0, color=FAINT, lw=0.8)
        names: dict[str, int] = {}
        for c in (c for c in found.curves if c.curve.axis == axis):
            scale = _SCALES[axis]
            for k, component in enumerate(c.curve.components):
                turn = names[component] = names.get(component, -1) + 1
                colour = look(component)["color"] if component else INK
                style_of = look(component) if turn == 0 else {"color": colour, "linestyle": "--"}
                top.plot(c.fine_at * scale, c.fine[:, k] / c.feed[k], **style_of)
                label = component if turn == 0 else f"{component} ({c.curve.name})"
                marker = _MARKERS[turn % len(_MARKERS)]
                for used, fill, text in ((True, colour, label), (False, "none", None)):
                    some = np.isfinite(c.measured[:, k]) & (c.used[:, k] == used)
                    top.plot(
                        c.curve.at[some] * scale,
                        c.measured[some, k] / c.feed[k],
                        linestyle="none",
                        marker=marker,
                        ms=4.5,
                        color=colour,
                        mfc=fill,
                        label=text,
                    )
                low.plot(
                    c.curve.at * scale,
                    c.residual[:, k],
                    linestyle="none",
                    marker=marker,
                    ms=3.5,
                    color=colour,
                )
        top.set(ylabel="effluent over feed", ylim=(min(-0.02, top.get_ylim()[0]), None))
        top.set_title(found.name)
        top.legend(loc="lower right")
        top.tick_params(labelbottom=False)
        low.set(xlabel=_LABELS[axis], ylabel="residual, sd")
    return figure
