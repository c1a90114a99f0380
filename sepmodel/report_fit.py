"""A fit as one self-contained page: constants, what the data cannot tell, figures, predictions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from sepmodel import __version__
from sepmodel.data import sources
from sepmodel.study.cross_validation import LeftOut
from sepmodel.study.fit import Fit

PAGE = "report.html"
FIGURES = (
    ("parity", "Predicted against measured distribution ratio; hollow points were not used."),
    (
        "residuals",
        "Error of log10 D against the predicted state: a trend means that the form of the model "
        "fails, whatever the error bars say.",
    ),
)


def page(
    found: Fit,
    left: Sequence[LeftOut],
    drawn: Mapping[str, bytes],
    title: str,
    more: Sequence[str] = (),
) -> str:
    """The page, with the figures ``drawn`` (``plot.fit_figures``); ``more`` that it should say."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("sepmodel"), autoescape=True, undefined=StrictUndefined
    )
    figures = [
        {"name": name, "svg": Markup(_inline(drawn[f"{name}.svg"])), "caption": caption}
        for name, caption in FIGURES
    ]
    return environment.get_template("fit.html.j2").render(
        title=title, version=__version__, figures=figures, more=more, **_tables(found, left)
    )


def _inline(svg: bytes) -> str:
    """The drawing without its XML head, which HTML does not take."""
    text = svg.decode("utf-8")
    return text[text.index("<svg") :]


def _tables(found: Fit, left: Sequence[LeftOut]) -> dict[str, Any]:
    """Everything the page shows, as text."""
    errors, rms = found.standard_errors, found.rms_log_d()
    parameters = []
    for i, name in enumerate(found.names):
        low, high = found.interval(name)
        points, misfit = rms.get(name, (None, None))
        parameters.append(
            [
                name,
                f"{found.values[i]:.3f}",
                f"{errors[name]:.3f}" if math.isfinite(low) else "-",
                f"{low:.3f} to {high:.3f}" if math.isfinite(low) else "not determined",
                "" if points is None else str(points),
                "" if misfit is None else f"{misfit:.3f}" if math.isfinite(misfit) else "-",
            ]
        )
    rising = sorted(found.log_k, key=lambda element: found.log_k[element])
    factors = []
    for light, heavy in itertools.pairwise(rising):
        factor, error = found.separation_factor(heavy, light)
        if math.isfinite(error):
            factors.append([f"{heavy}/{light}", f"{factor:.3g}", f"{10 ** (2 * error):.2f}"])
    unsure = [f"cannot be told apart by these data: {text}" for text in found.unidentified]
    unsure += [
        f"strongly correlated ({value:+.2f}): {one} and {other}"
        for one, other, value in found.correlated
    ]
    known = sources()
    used = [c for c in found.used.values() if c.provenance == "estimated"]
    return {
        "options": [
            ["activities", found.options.activity],
            ["loss", found.options.loss],
            ["relative error of one analysis", f"{found.options.relative_error:g}"],
            ["rows used", f"{int(found.table.used.sum())} of {len(found.table)}"],
            ["laboratories", ", ".join(found.table.laboratories)],
            *[["assumed", text] for text in found.table.assumed],
        ],
        "parameters": parameters,
        "factors": factors,
        "misfit": f"{found.chi_squared / found.freedom:.2f}" if found.freedom > 0 else "-",
        "freedom": found.freedom,
        "warnings": [f"{warned.code}: {warned.message}" for warned in found.warnings],
        "unsure": unsure,
        "left": [
            [row.laboratory, row.element, str(row.points), f"{row.bias:+.2f}", f"{row.rms:.2f}"]
            for row in left
        ],
        "estimates": [
            [c.key, f"{c.value:g}", f"{c.low:.3g} to {c.high:.3g}", known[c.source].citation]
            for c in used
            if c.low is not None and c.high is not None
        ],
    }
