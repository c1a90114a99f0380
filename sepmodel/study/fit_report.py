"""A fit told: as numbers, as CSV, as a data set, as lines of text."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.errors import InputError, Problem
from sepmodel.study.cross_validation import LeftOut
from sepmodel.study.fit import Fit
from sepmodel.study.fit_statistics import correlation


def to_dict(found: Fit) -> dict[str, Any]:
    """The fit as plain numbers and text."""
    errors = found.standard_errors
    return {
        "activity": found.options.activity,
        "loss": found.options.loss,
        "relative_error": found.options.relative_error,
        "parameters": {
            name: {
                "value": float(found.values[i]),
                "standard_error": _finite(errors[name]),
                "interval_95": [_finite(end) for end in found.interval(name)],
            }
            for i, name in enumerate(found.names)
        },
        "correlation": correlation(found.covariance).tolist(),
        "offsets": found.offsets,
        "chi_squared": found.chi_squared,
        "degrees_of_freedom": found.freedom,
        "rms_log_d": {e: {"n": n, "rms": _finite(r)} for e, (n, r) in found.rms_log_d().items()},
        "unidentified": list(found.unidentified),
        "correlated": [list(pair) for pair in found.correlated],
        "assumed": list(found.table.assumed),
        "warnings": [{"code": w.code, "message": w.message} for w in found.warnings],
    }


def _finite(value: float) -> float | None:
    """The value, None where it is infinite: JSON knows no infinity."""
    return value if math.isfinite(value) else None


def _short(error: float) -> str:
    """An error for a table."""
    return f"{error:.3f}" if math.isfinite(error) else "-"


def residuals_csv(found: Fit) -> str:
    """One line a measured metal: what was measured, what is predicted, at which state."""
    t = found.table
    lines = [
        "laboratory,label,element,used,pH,loading,ionic_strength [mol/L],"
        "log10_D,log10_D_predicted,residual [sd]"
    ]
    for i in range(len(t)):
        for j, element in enumerate(t.elements):
            if np.isfinite(t.raffinate[i, j]):
                state = (found.pH[i], found.loading[i], found.ionic_strength[i])
                at = (found.log_d[i, j], found.log_d_predicted[i, j], found.residual[i, j])
                numbers = ",".join(f"{v:.6g}" if np.isfinite(v) else "" for v in (*state, *at))
                about = f"{t.laboratory[i]},{t.label[i]},{element},{int(t.used[i])}"
                lines.append(f"{about},{numbers}")
    return "\n".join(lines) + "\n"


def to_toml(found: Fit, *, title: str, source: str, extractant: str = "") -> str:
    """A ready data set: class derived, or estimated where an estimate went into it."""
    estimated = any(
        c.provenance == "estimated" and not c.key.startswith("fit/") for c in found.used.values()
    )
    basis = found.options.activity
    out = [
        "schema = 1",
        f"title = {json.dumps(title)}",
        'kind = "extraction constants"',
        f'activity = "{basis}"',
        'reaction = "M3+ + 3 (HA)2 = M(HA2)3 + 3 H+"',
        'dimer = "(HA)2 = formal concentration / 2"',
    ]
    if extractant:
        out.append(f"extractant = {json.dumps(extractant)}")
    labs = ", ".join(found.table.laboratories).replace("\\", "/").replace('"', "'")
    count = len(found.table.elements)
    covariance = [[float(f"{v:.4g}") for v in row] for row in found.covariance[:count, :count]]
    out += [
        f'notes = """Fitted to {int(found.table.used.sum())} shake-outs ({labs}) by forward',
        f"prediction, {found.options.loss} loss, relative analytical error",
        f"{found.options.relative_error:g}. Levels of the laboratories against their mean: "
        + ", ".join(f"{v:+.2f}" for v in found.offsets.values())
        + ".",
        'The numbers belong together and to one activity basis."""',
        f"covariance_of = {json.dumps(list(found.table.elements))}",
        f"covariance = {json.dumps(covariance)}",
        "",
        "[defaults]",
        'unit = "1"',
        f'basis = "log10 K, molar, dimer = formal/2, {basis} activities"',
        f"source = {json.dumps(source)}",
        f'class = "{"estimated" if estimated else "derived"}"',
        "",
        "[constants]",
    ]
    errors = found.standard_errors
    lost = [name for name in found.log_k if not math.isfinite(errors[name])]
    if lost:
        raise InputError(
            Problem(
                message="no data set of constants that the data do not determine",
                value=", ".join(lost),
                expected="rows that tell them apart, or a fit without levels",
            )
        )
    for element, value in found.log_k.items():
        n, rms = found.rms_log_d(found.table.used)[element]
        i = found.table.elements.index(element)
        acid = found.table.acid[found.table.feed[:, i] > 0] / C_STANDARD
        feed = found.table.feed[found.table.feed[:, i] > 0, i] / C_STANDARD
        out.append(
            f"{element} = {{ value = {value:.3f}, sd = {max(errors[element], 1e-3):.3f}, "
            f'locator = "fit to {n} points, rms log10 D {rms:.3f}", conditions = "feed '
            f'{feed.min():.3g}-{feed.max():.3g} M, acid {acid.min():.3g}-{acid.max():.3g} M" }}'
        )
    return "\n".join(out) + "\n"


def left_out_dicts(left: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """The answers of ``leave_one_laboratory_out`` as plain tables."""
    return [{name: getattr(row, name) for name in LeftOut.__slots__} for row in left]


def soap_lines(shifts: Mapping[str, tuple[float, float]]) -> list[str]:
    """How far the constants hang on the soap's unmeasured constant."""
    if not shifts:
        return []
    worst = max(shifts, key=lambda element: shifts[element][1] - shifts[element][0])
    low, high = shifts[worst]
    said = f"by {low:+.3f} to {high:+.3f} ({worst})"
    if max(-low, high) < 1e-3:
        said = "by less than 0.001"
    return [f"over the range of the soap's constant log10 K moves {said}"]


def summary_lines(found: Fit, left: Sequence[LeftOut] = ()) -> list[str]:
    """The fit as lines of at most 80 columns."""
    errors, rms = found.standard_errors, found.rms_log_d()
    loss, activity = found.options.loss, found.options.activity
    lines = [f"log10 K (dimer = formal/2, {activity} activities, {loss} loss)"]
    lines.append(f"  {'':18}{'value':>8} {'error':>7}   {'95 % interval':>17}   n  rms log D")
    for name in found.names:
        low, high = found.interval(name)
        value = found.values[found.names.index(name)]
        tail = f"{rms[name][0]:4d} {_short(rms[name][1]):>8}" if name in rms else ""
        span = f"{low:.3f} to {high:.3f}" if math.isfinite(low) else "not determined"
        lines.append(f"  {name[:18]:18}{value:8.3f} {_short(errors[name]):>7}   {span:>17} {tail}")
    ratio = f"{found.chi_squared / found.freedom:.2f}" if found.freedom > 0 else "-"
    lines.append(
        f"misfit over the stated analytical error, squared: {ratio} "
        f"({found.freedom} degrees of freedom)"
    )
    rising = sorted(found.log_k, key=lambda element: found.log_k[element])
    for light, heavy in itertools.pairwise(rising):
        factor, error = found.separation_factor(heavy, light)
        if math.isfinite(error):
            lines.append(
                f"separation factor {heavy}/{light} {factor:.3g} (times or over {10**error:.2f})"
            )
    for text in found.unidentified:
        lines.append(f"cannot be told apart by these data: {text}")
    for one, other, value in found.correlated:
        lines.append(f"strongly correlated ({value:+.2f}): {one} and {other}")
    if left:
        lines.append("each laboratory predicted from the others:")
    for row in left:
        lines.append(
            f"  {row.laboratory[:18]:18} {row.element:2} {row.points:4d} points: "
            f"bias {row.bias:+.2f}, rms {row.rms:.2f} decades of D"
        )
    lines += [f"assumed: {text}" for text in found.table.assumed]
    return lines
