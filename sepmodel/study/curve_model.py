"""A column case as a function of the parameters of a fit: predictions, errors, residuals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import case as cases
from sepmodel import units
from sepmodel.curve_tables import CurveFitCase, Errors, FittedParameter
from sepmodel.data import Book, Constant
from sepmodel.errors import InputError, Problem
from sepmodel.result import Result
from sepmodel.run import LoadedCase, changed, load, run
from sepmodel.study import curve as curves
from sepmodel.study.curve import Curve

Array = NDArray[np.float64]


@dataclass(slots=True)
class Model:
    """The case as a function of theta, one run for each distinct set of curves' settings."""

    spec: CurveFitCase
    curves: tuple[Curve, ...]
    bases: tuple[LoadedCase, ...]
    starts: tuple[tuple[tuple[str, float, str], ...], ...]
    feeds: tuple[Array, ...]
    kept: tuple[NDArray[np.bool_], ...]
    error: dict[str, float]
    used: dict[str, Constant]
    runs: int = 0

    def settings(self, theta: Array) -> tuple[dict[str, Any], dict[str, float]]:
        """Settings of the case and constants at ``theta``."""
        settings: dict[str, Any] = {}
        constants: dict[str, float] = {}
        for parameter, starts, shift in zip(
            self.spec.parameter, self.starts, theta.tolist(), strict=True
        ):
            for key, start, unit in starts:
                value = start * math.exp(shift)
                if parameter.constant is not None and key == parameter.constant:
                    constants[key] = value * units.factor(unit)
                else:
                    settings[key] = f"{value!r} {unit}" if unit else value
        return settings, constants

    def results(self, theta: Array) -> list[Result]:
        """One result a curve; curves of one case share it."""
        settings, constants = self.settings(theta)
        known: dict[int, Result] = {}
        for base in self.bases:
            if id(base) not in known:
                self.runs += 1
                known[id(base)] = run(changed(base, settings), constants=constants)
                self.used.update(known[id(base)].used)
        return [known[id(base)] for base in self.bases]

    def predict(self, theta: Array) -> list[tuple[Array, Array]]:
        """Concentrations and V dc/dV (N, C) of every curve at its points."""
        found = []
        for curve, feed, result in zip(self.curves, self.feeds, self.results(theta), strict=True):
            outlet = spline(curve, result)
            scale = np.where(curve.relative, feed, 1.0)
            slope = outlet(curve.at, 1) * curve.at[:, None]
            found.append((outlet(curve.at) / scale, slope / scale))
        return found

    def whitening(self, predicted: Sequence[tuple[Array, Array]]) -> list[Array]:
        """L^-1 of every curve over its measured points, component by component."""
        e, out = self.error, []
        for curve, feed, kept, (conc, slope) in zip(
            self.curves, self.feeds, self.kept, predicted, strict=True
        ):
            known = kept.T
            level = np.broadcast_to(np.where(curve.relative, 1.0, feed), conc.shape)
            c, s, top = conc.T[known], slope.T[known], level.T[known]
            which = np.nonzero(known)[0]
            own = (e["reading"] * top) ** 2 + (e["relative"] * c) ** 2 + (e["volume"] * s) ** 2
            sigma = np.diag(own) + e["flow"] ** 2 * np.outer(s, s)
            sigma += e["gain"] ** 2 * np.outer(c, c) * (which[:, None] == which)
            out.append(np.linalg.inv(np.linalg.cholesky(sigma)))
        return out

    def residual(self, predicted: Sequence[tuple[Array, Array]], whiten: Sequence[Array]) -> Array:
        """Whitened residuals of all curves."""
        return np.concatenate(
            [
                w @ (curve.conc - conc).T[kept.T]
                for curve, kept, (conc, _), w in zip(
                    self.curves, self.kept, predicted, whiten, strict=True
                )
            ]
        )


def spline(curve: Curve, result: Result) -> Any:
    """The outlet of a result as a function of a curve's axis; mol/m3 by the curve's components."""
    from scipy.interpolate import PchipInterpolator

    profile = result.profiles["outlet" if "outlet" in result.profiles else "chromatogram"]
    at = np.asarray(profile.axes["time" if "time" in profile.axes else "bed_volume"], dtype=float)
    quantities = result.quantities
    if "time" in profile.axes:
        per_second = float(
            result.streams["effluent"].flow["value"] / quantities["duration"]["value"]
        )
        if curve.axis == "bed_volumes":
            at = at * per_second / float(quantities["length"]["value"])
        elif curve.axis == "volume":
            raise InputError(
                Problem(message="a bed without a diameter has no volumes", value=curve.name)
            )
    elif curve.axis == "volume":
        bed = quantities["bed_volume"]
        at = at * float(bed["value"]) * units.factor(str(bed["unit"]))
    elif curve.axis == "time":
        raise InputError(
            Problem(
                message="a column case with steps of several flows takes bed_volumes or volume",
                value=curve.name,
            )
        )
    names = list(profile.axes["component"])
    place = [names.index(c) for c in curve.components]
    at, first = np.unique(at, return_index=True)
    if curve.at.max() > at[-1] * (1 + 1e-9):
        raise InputError(
            Problem(
                message="the case ends before the curve does",
                value=f"{curve.name} to {curve.at.max():.4g}, the case to {at[-1]:.4g}",
                expected="a longer last step of the case",
            )
        )
    return PchipInterpolator(at, np.asarray(profile.values)[first][:, place], extrapolate=True)


def build(spec: CurveFitCase, path: Path | None) -> Model:
    """Curves, cases and starting values, every problem with them at once."""
    file, folder = str(path or ""), path.parent if path else None
    beside = folder / f"{spec.case.removesuffix('.toml')}.toml" if folder else None
    base = load(beside if beside and beside.is_file() else spec.case, dict(spec.set))
    if base.kind not in ("elution", "column"):
        raise InputError(
            Problem(
                message="only columns leave curves",
                file=file,
                key="case",
                value=base.kind,
                expected="a case of kind elution or column",
            )
        )
    own = base.document.get("numerics", {"scheme": "limited"})
    if base.kind == "elution":
        base = changed(base, {"numerics.estimate": False})
    elif base.document["model"]["transport"] == "dispersive":
        base = changed(base, {"numerics": {**own, "estimate": False}})
    known: dict[str, LoadedCase] = {}
    bases = []
    for each in spec.curve:
        key = repr(sorted(each.set.items()))
        if key not in known:
            known[key] = changed(base, each.set) if each.set else base
        bases.append(known[key])
    read = tuple(curves.read(curves.find(each.data, folder)) for each in spec.curve)
    problems: list[Problem] = []
    feeds = []
    for k, (curve, case) in enumerate(zip(read, bases, strict=True)):
        fed = _fed(case)
        for component in curve.components:
            if not fed.get(component, 0.0) > 0:
                problems.append(
                    Problem(
                        message="the case does not feed what was measured",
                        file=file,
                        key=f"curve.{k}",
                        value=component,
                        expected=", ".join(c for c, top in fed.items() if top > 0),
                    )
                )
        feeds.append(np.array([fed.get(c, 1.0) for c in curve.components]))
    book = Book()
    starts = []
    for k, parameter in enumerate(spec.parameter):
        try:
            starts.append(_starts(parameter, base, book))
        except (ValueError, InputError) as wrong:
            problems.append(Problem(message=str(wrong), file=file, key=f"parameter.{k}"))
    if problems:
        raise InputError(problems)
    error = _errors(spec.error, book)
    if not error["reading"] > 0:
        raise InputError(
            Problem(message="a point without error", file=file, key="error.reading", value=0.0)
        )
    return Model(
        spec=spec,
        curves=read,
        bases=tuple(bases),
        starts=tuple(starts),
        feeds=tuple(feeds),
        kept=tuple(
            _kept(curve, feed, each.below)
            for curve, feed, each in zip(read, feeds, spec.curve, strict=True)
        ),
        error=error,
        used=dict(book.used),
    )


def _kept(curve: Curve, feed: Array, below: float | None) -> NDArray[np.bool_]:
    """Which points are fitted, (N, C)."""
    known = np.isfinite(curve.conc)
    if below is None:
        return known
    share = curve.conc / np.where(curve.relative, 1.0, feed)
    reached = np.logical_or.accumulate(known & (share >= below), axis=0)
    return np.asarray(known & ~reached)


def _fed(loaded: LoadedCase) -> dict[str, float]:
    """Largest inlet concentration of every component of a case [mol/m3]."""
    from sepmodel.chromatography.inputs import ElutionCase

    top: dict[str, float] = {}
    inputs: Any = loaded.inputs
    if isinstance(inputs, ElutionCase):
        tables = [t for s in inputs.section for t in (s.composition, s.final or {})]
    else:
        tables = [step.composition for step in inputs.step]
    for table in tables:
        for component, conc in table.items():
            top[component] = max(top.get(component, 0.0), conc)
    return top


def _starts(
    parameter: FittedParameter, base: LoadedCase, book: Book
) -> tuple[tuple[str, float, str], ...]:
    """Key, value and unit of everything a parameter moves; ValueError where there is no number."""
    found = []
    for key in (parameter.key, *parameter.also):
        if parameter.constant is not None and key == parameter.constant:
            value, unit = book[key], ""
            constant = book.used[key]
            value, unit = constant.value, constant.unit
        else:
            stated = cases.value_at(base.document, key)
            if isinstance(stated, bool) or not isinstance(stated, int | float | str):
                raise ValueError(f"the case states no number at {key}; set its starting value")
            value, unit = units.split(stated) if isinstance(stated, str) else (float(stated), "")
        if not value > 0:
            raise ValueError(f"{key} starts at {value:g}; a fitted number is positive")
        found.append((key, value, unit))
    return tuple(found)


_DEFAULTS = {
    "reading": "fit/defaults:curve-reading",
    "relative": "fit/defaults:curve-relative",
    "volume": "fit/defaults:curve-volume",
    "flow": "fit/defaults:curve-flow",
    "gain": "fit/defaults:curve-gain",
}


def _errors(given: Errors, book: Book) -> dict[str, float]:
    """The five standard deviations."""
    stated = given.model_dump()
    return {n: book[key] if stated[n] is None else stated[n] for n, key in _DEFAULTS.items()}


def bounds(model: Model) -> tuple[Array, Array]:
    """Bounds of theta."""
    low, high = [], []
    for parameter, starts in zip(model.spec.parameter, model.starts, strict=True):
        _, start, unit = starts[0]
        ends = []
        for end in (parameter.low, parameter.high):
            if end is None:
                ends.append(math.nan)
                continue
            value, own = units.split(end) if isinstance(end, str) else (float(end), unit)
            if own != unit:
                value *= units.factor(own, unit or "1") / units.factor(unit or "1")
            ends.append(math.log(value / start) if value > 0 else math.nan)
        low.append(-math.inf if math.isnan(ends[0]) else ends[0])
        high.append(math.inf if math.isnan(ends[1]) else ends[1])
    return np.array(low), np.array(high)
