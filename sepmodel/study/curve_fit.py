"""Parameters of a column from breakthrough and elution curves, with what they are worth.

A case of the transport engine is run with the parameters multiplied by exp(theta) until

    sum over curves of | L^-1 [c_measured - c(V; theta)] |^2

is least. L L^T is the covariance of a curve's errors: reading and detector of every point, its
volume through the slope dc/dV, and, common to the whole curve, flow and gain:

    diag(s_r^2 + (s_c c)^2 + (s_V V c')^2) + (s_F V c')(s_F V c')^T + (s_G c)(s_G c)^T

Intervals are those of ln parameter, so no parameter can become negative. What the curves cannot
tell apart is said, not hidden.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.curve_tables import CurveFitCase
from sepmodel.data import Constant
from sepmodel.errors import ConvergenceError, InputError, Problem, SepmodelError, Trace
from sepmodel.result import Warned
from sepmodel.run import LoadedCase, changed, load
from sepmodel.study import fit_statistics as statistics
from sepmodel.study.curve import Curve
from sepmodel.study.curve_model import Model, bounds, build, spline
from sepmodel.study.fit_model import Options

Array = NDArray[np.float64]

LEVEL = 0.95
_STEP = 1e-2
_SETTLED = 1e-2
_LONGEST = 1.0
_UNKNOWN = 1.0
_IMPROBABLE = 1e-3
_MEMBER = 0.1
_GAIN = 1e-5
# A signal of fewer standard deviations of a reading is none; fewer points are hardly a curve.
_SEEN = 3
_FEW = 5


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Parameter:
    """A fitted number: its ``value`` and start in ``unit``, as the case or the data set has it."""

    name: str
    key: str
    value: float
    start: float
    unit: str


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Fitted:
    """A curve with what the fit says of it, all (N, C); ``residual`` in standard deviations.

    ``feed`` (C,) is the largest concentration fed [mol/m3]; ``used`` (N, C) what was fitted,
    ``fine`` (F, C) the model's curve at ``fine_at`` (F,).
    """

    curve: Curve
    feed: Array
    used: NDArray[np.bool_]
    measured: Array
    predicted: Array
    residual: Array
    fine_at: Array
    fine: Array

    def midpoints(self, level: float = 0.5) -> dict[str, tuple[float, float]]:
        """Where each component first reaches ``level`` of its feed: measured, fitted (axis units).

        Components that start above it or never reach it are left out.
        """
        found = {}
        for k, name in enumerate(self.curve.components):
            known = np.isfinite(self.measured[:, k])
            both = (
                crossing(self.curve.at[known], self.measured[known, k] / self.feed[k], level),
                crossing(self.fine_at, self.fine[:, k] / self.feed[k], level),
            )
            if not any(math.isnan(v) for v in both):
                found[name] = both
        return found


def crossing(at: Array, share: Array, level: float = 0.5) -> float:
    """Where a curve first rises to ``level``, by straight lines between its points; NaN if never.

    >>> crossing(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.25, 0.75]))
    1.5
    """
    above = np.flatnonzero(share >= level)
    if not len(above) or above[0] == 0:
        return math.nan
    i = int(above[0])
    part = (level - share[i - 1]) / (share[i] - share[i - 1])
    return float(at[i - 1] + part * (at[i] - at[i - 1]))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CurveFit:
    """Parameters, the covariance of their logarithms, and the curves beside the model's.

    ``undetermined`` names parameters of which some combination is not known within a factor of e;
    their errors are infinite. ``bounded`` names those that stopped at a bound.
    """

    name: str
    parameters: tuple[Parameter, ...]
    covariance: Array
    chi_squared: float
    freedom: int
    scaled: bool
    undetermined: tuple[tuple[str, ...], ...]
    correlated: tuple[tuple[str, str, float], ...]
    bounded: tuple[str, ...]
    curves: tuple[Fitted, ...]
    error: Mapping[str, float]
    used: Mapping[str, Constant]
    iterations: int
    runs: int
    settings: Mapping[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(p.name for p in self.parameters)

    @property
    def standard_errors(self) -> dict[str, float]:
        """Relative standard error (of ln value), infinite where nothing is determined."""
        errors = np.sqrt(np.maximum(np.diag(self.covariance), 0)).tolist()
        found = dict(zip(self.names, errors, strict=True))
        return {**found, **dict.fromkeys(itertools.chain(*self.undetermined), math.inf)}

    def interval(self, name: str, level: float = LEVEL) -> tuple[float, float]:
        """Confidence interval of a parameter, in its unit; 0 to infinity where undetermined."""
        from scipy.stats import norm, t

        enlarged = self.scaled and self.chi_squared > self.freedom > 0
        tail = (1 + level) / 2
        width = float(t.ppf(tail, self.freedom) if enlarged else norm.ppf(tail))
        error, value = self.standard_errors[name], self.parameters[self.names.index(name)].value
        if math.isinf(error):
            return 0.0, math.inf
        return value * math.exp(-width * error), value * math.exp(width * error)

    @property
    def warnings(self) -> list[Warned]:
        """``poor-fit``, ``few-points``, ``flat-curve``, ``undetermined``, ``correlated``,
        ``at-bound``."""
        from scipy.stats import chi2

        said = [warned for each in self.curves for warned in _thin(each, self.error["reading"])]
        if self.freedom > 0 and chi2.sf(self.chi_squared, self.freedom) < _IMPROBABLE:
            said.append(
                Warned(
                    code="poor-fit",
                    message=f"chi squared {self.chi_squared:.3g} of {self.freedom} degrees of "
                    "freedom happens by chance in less than 0.1 % of cases: the stated errors are "
                    "too small, or the model lacks something these curves show"
                    + ("; the intervals are widened by it" if self.scaled else ""),
                )
            )
        said += [
            Warned(
                code="undetermined",
                message="the curves do not tell within a factor of e: "
                + " together with ".join(members)
                + "; fix one from elsewhere, or add a curve at another flow or feed",
            )
            for members in self.undetermined
        ]
        said += [
            Warned(code="correlated", message=f"{one} and {other} are fitted as one ({value:+.3f})")
            for one, other, value in self.correlated
        ]
        said += [
            Warned(code="at-bound", message=f"{name} stopped at its bound") for name in self.bounded
        ]
        return said

    def midpoint(self, component: str, level: float = 0.5) -> tuple[float, float]:
        """Where a component first reaches ``level`` of its feed: measured and fitted, axis units.

        Raises
        ------
        InputError
            when no curve shows that.
        """
        for each in self.curves:
            found = each.midpoints(level)
            if component in found:
                return found[component]
        raise InputError(Problem(message="no curve rises through this level", value=component))


def _thin(fitted: Fitted, reading: float) -> list[Warned]:
    """Warnings for components of a curve with hardly a point, or with nothing but the detector's
    zero."""
    said = []
    for k, name in enumerate(fitted.curve.components):
        used = fitted.used[:, k]
        if not used.any():
            continue
        top = float(np.abs(fitted.measured[used, k]).max()) / float(fitted.feed[k])
        if top <= reading * _SEEN:
            said.append(
                Warned(
                    code="flat-curve",
                    message=f"{name} never leaves by more than the error of a reading: the curve "
                    "says only that it is retained",
                    where=fitted.curve.name,
                )
            )
        elif used.sum() < _FEW:
            said.append(
                Warned(
                    code="few-points",
                    message=f"{int(used.sum())} points of {name} are fitted, {_FEW} or more tell "
                    "where a curve stands and how steep it is",
                    where=fitted.curve.name,
                )
            )
    return said


def fit_curves(fit: LoadedCase | str | Path | Mapping[str, Any]) -> CurveFit:
    """The parameters of a file of kind "curve-fit".

    Raises
    ------
    InputError
        for a file, a curve or a parameter that cannot be used; ConvergenceError when the fit does
        not settle; whatever the case itself raises at its starting values.
    """
    loaded = fit if isinstance(fit, LoadedCase) else load(fit)
    spec = loaded.inputs
    if not isinstance(spec, CurveFitCase):
        raise InputError(
            Problem(
                message="not a fit of curves",
                file=str(loaded.path or ""),
                key="kind",
                value=loaded.kind,
                expected="curve-fit",
            )
        )
    model = build(spec, loaded.path)
    theta, iterations, bounded = _estimate(model)
    return _finished(loaded, model, theta, iterations, bounded)


def _jacobian(
    model: Model,
    theta: Array,
    now: Sequence[tuple[Array, Array]],
    whiten: Sequence[Array],
    central: bool = False,
) -> Array:
    """Derivatives of the whitened residuals by theta, (M, P)."""
    columns = []
    base = model.residual(now, whiten)
    for k in range(len(theta)):
        step = np.zeros(len(theta))
        step[k] = _STEP
        ahead = model.residual(model.predict(theta + step), whiten)
        if central:
            behind = model.residual(model.predict(theta - step), whiten)
            columns.append((ahead - behind) / (2 * _STEP))
        else:
            columns.append((ahead - base) / _STEP)
    return np.stack(columns, axis=1)


@lru_cache(maxsize=8)
def _fit_below(fit: str, below: float | None) -> CurveFit:
    """A shipped fit, its points from a share of the feed on held out."""
    loaded = load(fit)
    if below is None:
        return fit_curves(loaded)
    count = len(loaded.document["curve"])
    return fit_curves(changed(loaded, {f"curve.{k}.below": below for k in range(count)}))


def midpoint(fit: str, component: str, below: float | None = None) -> float:
    """Bed volumes (or time) at which the fitted curve of a component reaches half of its feed.

    ``below`` holds out, in every curve, the points from that share of the feed on.

    >>> 40 < midpoint("s950-la-sm-curves", "La") < 47
    True
    """
    return _fit_below(fit, below).midpoint(component)[1]


def _estimate(model: Model) -> tuple[Array, int, tuple[int, ...]]:
    """theta by Levenberg-Marquardt; the covariance of the errors follows the model's curve."""
    count = len(model.spec.parameter)
    low, high = bounds(model)
    theta = np.clip(np.zeros(count), low, high)
    now = model.predict(theta)
    damping = 1e-2
    for turn in range(1, model.spec.rounds + 1):
        whiten = model.whitening(now)
        r, j = model.residual(now, whiten), _jacobian(model, theta, now, whiten)
        cost = float(r @ r)
        information, gradient = j.T @ j, j.T @ r
        scale = np.maximum(np.diag(information), 1e-12 * np.diag(information).max() + 1e-300)
        error = 1 / np.sqrt(scale)
        while True:
            step = -np.linalg.lstsq(information + damping * np.diag(scale), gradient, rcond=None)[0]
            step *= min(1.0, _LONGEST / max(float(np.abs(step).max()), 1e-300))
            step = np.clip(theta + step, low, high) - theta
            small = bool(np.all(np.abs(step) < _SETTLED * error))
            if small:
                break
            try:
                trial = model.predict(theta + step)
                gained = cost - float((model.residual(trial, whiten) ** 2).sum())
            except SepmodelError:
                gained = -math.inf
            if gained >= 0:
                break
            damping *= 10
        if small:
            return theta, turn, tuple(np.flatnonzero((theta <= low) | (theta >= high)).tolist())
        theta, now, damping = theta + step, trial, max(damping / 10, 1e-6)
        if gained <= _GAIN * cost and turn > 2:
            return theta, turn, tuple(np.flatnonzero((theta <= low) | (theta >= high)).tolist())
    raise ConvergenceError(
        "the fit of the curves did not settle",
        trace=Trace(
            equation="weighted least squares",
            history=(cost,),
            advice="start nearer, or fix parameters that the curves do not determine",
        ),
    )


def _finished(
    loaded: LoadedCase, model: Model, theta: Array, iterations: int, bounded: tuple[int, ...]
) -> CurveFit:
    """Covariance, identifiability and the curves."""
    now = model.predict(theta)
    whiten = model.whitening(now)
    r, j = model.residual(now, whiten), _jacobian(model, theta, now, whiten, central=True)
    names = tuple(p.label for p in model.spec.parameter)
    covariance, chi_squared, freedom = statistics.covariance(
        Options(scaled=model.spec.scaled), r, j
    )
    settings, _ = model.settings(theta)
    return CurveFit(
        name=loaded.name,
        parameters=tuple(
            Parameter(
                name=p.label,
                key=p.key,
                value=starts[0][1] * math.exp(shift),
                start=starts[0][1],
                unit=starts[0][2],
            )
            for p, starts, shift in zip(
                model.spec.parameter, model.starts, theta.tolist(), strict=True
            )
        ),
        covariance=covariance,
        chi_squared=chi_squared,
        freedom=freedom,
        scaled=model.spec.scaled,
        undetermined=_undetermined(j, names),
        correlated=statistics.correlated(covariance, names),
        bounded=tuple(names[k] for k in bounded),
        curves=_fitted(model, theta, now, r),
        error=model.error,
        used=model.used,
        iterations=iterations,
        runs=model.runs,
        settings=settings,
    )


def _undetermined(jacobian: Array, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of parameters of which a combination is not known within a factor of e."""
    _, sizes, directions = np.linalg.svd(jacobian)
    sizes = np.append(sizes, np.zeros(len(names) - len(sizes)))
    groups = []
    for size, direction in zip(sizes, directions, strict=True):
        if size * _UNKNOWN < 1:
            members = np.flatnonzero(np.abs(direction) > _MEMBER)
            groups.append(tuple(names[int(k)] for k in members))
    return tuple(groups)


def _fitted(
    model: Model, theta: Array, now: Sequence[tuple[Array, Array]], residual: Array
) -> tuple[Fitted, ...]:
    """Every curve beside the model's, in mol/m3."""
    found, start = [], 0
    for curve, feed, known, (conc, _), result in zip(
        model.curves, model.feeds, model.kept, now, model.results(theta), strict=True
    ):
        own = np.full(known.T.shape, np.nan)
        count = int(known.sum())
        own[known.T] = residual[start : start + count]
        start += count
        scale = np.where(curve.relative, feed, 1.0)
        fine = np.linspace(0.0, float(curve.at.max()), 1 << 8)
        found.append(
            Fitted(
                curve=curve,
                feed=feed,
                used=known,
                measured=curve.conc * scale,
                predicted=conc * scale,
                residual=own.T,
                fine_at=fine,
                fine=spline(curve, result)(fine),
            )
        )
    return tuple(found)
