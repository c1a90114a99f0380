"""A fit of curves told: lines for a terminal, JSON, CSV, and a self-contained page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from sepmodel import __version__, files
from sepmodel.data import sources
from sepmodel.study.curve_fit import CurveFit
from sepmodel.study.fit_statistics import correlation
from sepmodel.units import significant

PAGE = "report.html"
_NAME = 28  # characters of a name in a table
_CAPTION = (
    "Measured points (hollow: held out) and the fitted curve; below, what is left over in standard "
    "deviations of the stated errors: a wave means that the form of the model fails."
)
_AXES = {"time": "s", "volume": "m^3", "bed_volumes": "bed volumes"}


def to_dict(found: CurveFit) -> dict[str, Any]:
    """The fit as plain numbers and text."""
    errors = found.standard_errors
    return {
        "schema": 1,
        "name": found.name,
        "parameters": {
            p.name: {
                "key": p.key,
                "value": p.value,
                "unit": p.unit or "1",
                "start": p.start,
                "relative_error": _finite(errors[p.name]),
                "interval_95": [_finite(end) for end in found.interval(p.name)],
            }
            for p in found.parameters
        },
        "covariance_of_ln": found.covariance.tolist(),
        "correlation": correlation(found.covariance).tolist(),
        "chi_squared": found.chi_squared,
        "degrees_of_freedom": found.freedom,
        "errors": dict(found.error),
        "curves": [
            {
                "name": c.curve.name,
                "axis": c.curve.axis,
                "points": int(c.used.sum()),
                "held_out": int((np.isfinite(c.measured) & ~c.used).sum()),
                "rms_over_feed": _finite(rms(c)),
                "midpoints": {e: list(m) for e, m in c.midpoints().items()},
            }
            for c in found.curves
        ],
        "unidentified": [list(members) for members in found.undetermined],
        "correlated": [list(pair) for pair in found.correlated],
        "settings": dict(found.settings),
        "warnings": [{"code": w.code, "message": w.message} for w in found.warnings],
        "iterations": found.iterations,
        "runs": found.runs,
    }


def rms(curve: Any) -> float:
    """Root mean square distance of a curve to all its points, over the feed."""
    share = (curve.measured - curve.predicted) / curve.feed
    return float(np.sqrt(np.nanmean(share**2)))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def residuals_csv(found: CurveFit) -> str:
    """One line a measured point."""
    rows = []
    for c in found.curves:
        for k, component in enumerate(c.curve.components):
            for i, at in enumerate(c.curve.at.tolist()):
                if np.isfinite(c.measured[i, k]):
                    left = float(c.residual[i, k])
                    rows.append(
                        [
                            c.curve.name,
                            component,
                            int(c.used[i, k]),
                            f"{at:.6g}",
                            f"{c.measured[i, k]:.6g}",
                            f"{c.predicted[i, k]:.6g}",
                            f"{left:.4g}" if math.isfinite(left) else None,
                        ]
                    )
    header = ["curve", "component", "used", "at [SI or bed volumes]"]
    header += ["measured [mol/m^3]", "fitted [mol/m^3]", "residual [sd]"]
    return files.csv_text(header, rows)


def summary_lines(found: CurveFit) -> list[str]:
    """The fit as lines of at most 80 columns."""
    errors = found.standard_errors
    lines = [f"{'':{_NAME}} {'value':>10} {'error':>7}   95 % interval"]
    for p in found.parameters:
        low, high = found.interval(p.name)
        error = errors[p.name]
        told = math.isfinite(high)
        span = f"{significant(low)} to {significant(high)}" if told else "not determined"
        lines.append(
            f"{p.name[:_NAME]:{_NAME}} {significant(p.value, 4):>10} "
            f"{f'{100 * error:.1f} %' if told else '-':>7}   {span} {p.unit}".rstrip()
        )
    ratio = f"{found.chi_squared / found.freedom:.2f}" if found.freedom > 0 else "-"
    lines.append(
        f"misfit over the stated errors, squared: {ratio} ({found.freedom} degrees of freedom)"
    )
    for c in found.curves:
        held = int((np.isfinite(c.measured) & ~c.used).sum())
        lines.append(
            f"{c.curve.name}: {int(c.used.sum())} points fitted"
            + (f", {held} held out" if held else "")
            + f", rms {100 * rms(c):.1f} % of the feed"
        )
        for component, (measured, fitted) in c.midpoints().items():
            lines.append(
                f"  half of the feed of {component}: measured {significant(measured)}, "
                f"fitted {significant(fitted)} {_AXES[c.curve.axis]} "
                f"({100 * (fitted / measured - 1):+.1f} %)"
            )
    return lines


def page(found: CurveFit, drawn: Mapping[str, bytes], title: str) -> str:
    """The page, with the figure of ``plot_curve.figures``."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("sepmodel"), autoescape=True, undefined=StrictUndefined
    )
    svg = drawn["curves.svg"].decode("utf-8")
    errors, known = found.standard_errors, sources()
    parameters = []
    for p in found.parameters:
        low, high = found.interval(p.name)
        told = math.isfinite(high)
        parameters.append(
            [
                p.name,
                f"{significant(p.value, 4)} {p.unit}".strip(),
                f"{100 * errors[p.name]:.1f} %" if told else "-",
                f"{significant(low)} to {significant(high)}" if told else "not determined",
                significant(p.start),
                p.key,
            ]
        )
    return environment.get_template("curve_fit.html.j2").render(
        title=title,
        version=__version__,
        figure={"svg": Markup(svg[svg.index("<svg") :]), "caption": _CAPTION},
        parameters=parameters,
        misfit=f"{found.chi_squared / found.freedom:.2f}" if found.freedom > 0 else "-",
        freedom=found.freedom,
        warnings=[f"{w.code}: {w.message}" for w in found.warnings],
        names=list(found.names),
        correlation=[
            [name, *(f"{v:+.2f}" for v in row)]
            for name, row in zip(found.names, correlation(found.covariance).tolist(), strict=True)
        ],
        curves=[
            [
                c.curve.name,
                component,
                str(int(c.used[:, k].sum())),
                significant(measured),
                significant(fitted),
                f"{100 * (fitted / measured - 1):+.1f} %",
            ]
            for c in found.curves
            for k, component in enumerate(c.curve.components)
            for measured, fitted in [c.midpoints().get(component, (math.nan, math.nan))]
            if math.isfinite(fitted)
        ],
        errors=[[name, f"{value:g}"] for name, value in found.error.items()],
        estimates=[
            [
                c.key,
                f"{c.value:g} {c.unit}",
                f"{c.low:.3g} to {c.high:.3g}",
                known[c.source].citation,
            ]
            for c in found.used.values()
            if c.provenance == "estimated" and c.low is not None and c.high is not None
        ],
    )
