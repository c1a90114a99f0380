"""Extraction constants from shake-out tests, with what they are worth.

The equilibrium pH of a shake-out is rarely measured, so every test is *predicted forward* from what
went in: acid, metals, extractant, soap (``fit_model``). The constants minimise

  sum over tests of rho( L^-1 [ln a_measured - ln a_predicted(feed measured)] )

a being the raffinate. L L^T is the covariance the analytical error causes: in the raffinate itself
and, through the model, in the prediction, because the feed it starts from was measured too
(``fit_statistics``). To first order this weighs ln D as error propagation does, but a test that
extracted nothing keeps a Gaussian error and cannot go wrong by a logarithm of a small difference.

Laboratories may differ by one level each, common to all metals (``offsets``); separation factors,
the differences of log K, are shared. What the data cannot tell apart is said, not hidden.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import Book, Constant
from sepmodel.errors import InputError, Problem
from sepmodel.result import Warned
from sepmodel.study import fit_statistics as statistics
from sepmodel.study import shakeout
from sepmodel.study.fit_model import LOSSES, Forward, Options, check, levels, predict
from sepmodel.study.shakeout import ShakeOuts

__all__ = ["LOSSES", "Fit", "Forward", "Options", "fit", "predict"]

Array = NDArray[np.float64]
_IMPROBABLE = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Fit:
    """Constants, their covariance, and the residuals they leave.

    ``values`` are log10 K of each element followed by the level offsets (decades) of every
    laboratory but the last; the offsets add to zero over the laboratories. ``undetermined`` names
    groups of parameters of which the data do not fix some combination; their errors are infinite.
    Arrays over the table: ``log_d`` measured and ``log_d_predicted`` (log10, NaN where there is
    none), ``residual`` in standard deviations, ``pH``, ``loading`` and ``ionic_strength`` as
    predicted.
    """

    table: ShakeOuts
    options: Options
    names: tuple[str, ...]
    values: Array
    covariance: Array
    chi_squared: float
    freedom: int
    undetermined: tuple[tuple[str, ...], ...]
    correlated: tuple[tuple[str, str, float], ...]
    log_d: Array
    log_d_predicted: Array
    residual: Array
    pH: Array
    loading: Array
    ionic_strength: Array
    used: Mapping[str, Constant]
    iterations: int

    @property
    def log_k(self) -> dict[str, float]:
        """log10 K of every element."""
        return {e: float(self.values[i]) for i, e in enumerate(self.table.elements)}

    @property
    def standard_errors(self) -> dict[str, float]:
        """Standard error of every parameter, infinite where the data do not determine it."""
        errors = np.sqrt(np.maximum(np.diag(self.covariance), 0)).tolist()
        found = dict(zip(self.names, errors, strict=True))
        return {**found, **dict.fromkeys(itertools.chain(*self.undetermined), math.inf)}

    @property
    def unidentified(self) -> tuple[str, ...]:
        """``undetermined`` as text."""
        return tuple(" with ".join(members) for members in self.undetermined)

    @property
    def offsets(self) -> dict[str, float]:
        """Level of each laboratory above the mean of all, in decades of K."""
        free = self.values[len(self.table.elements) :]
        found = levels(self.table, self.options, free)
        return dict(zip(self.table.laboratories, found.tolist(), strict=True))

    @property
    def determined(self) -> bool:
        """True where the data determine every constant (levels may still be open)."""
        return not set(self.table.elements) & set(itertools.chain(*self.undetermined))

    @property
    def warnings(self) -> list[Warned]:
        """``poor-fit`` where chi squared is larger than chance makes it."""
        from scipy.stats import chi2

        if not self.freedom > 0 or chi2.sf(self.chi_squared, self.freedom) >= _IMPROBABLE:
            return []
        enlarged = "; the errors are enlarged by it" if self.options.scaled else ""
        return [
            Warned(
                code="poor-fit",
                message=f"chi squared {self.chi_squared:.3g} of {self.freedom} degrees of freedom "
                "happens by chance in less than 0.1 % of cases: the analytical error is too "
                f"optimistic, units or rows are wrong, or the model does not hold{enlarged}",
            )
        ]

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of a parameter (normal where the error is known, else Student)."""
        from scipy.stats import norm, t

        at = self.names.index(name)
        scaled = self.options.scaled and self.chi_squared > self.freedom > 0
        tail = (1 + level) / 2
        width = float(t.ppf(tail, self.freedom) if scaled else norm.ppf(tail))
        error = self.standard_errors[name]
        return float(self.values[at]) - width * error, float(self.values[at]) + width * error

    def separation_factor(self, heavy: str, light: str) -> tuple[float, float]:
        """Separation factor K_heavy / K_light and the standard error of its log10."""
        i, j = self.names.index(heavy), self.names.index(light)
        c, errors = self.covariance, self.standard_errors
        variance = math.inf if math.inf in (errors[heavy], errors[light]) else c[i, i] + c[j, j]
        variance = max(float(variance - 2 * c[i, j]), 0)
        return float(10 ** (self.values[i] - self.values[j])), math.sqrt(variance)

    def rms_log_d(self, keep: NDArray[np.bool_] | None = None) -> dict[str, tuple[int, float]]:
        """Number of points and rms error of log10 D of every element, over the rows ``keep``."""
        error = self.log_d_predicted - self.log_d
        rows = np.ones(len(self.table), dtype=bool) if keep is None else keep
        result = {}
        for i, element in enumerate(self.table.elements):
            some = error[rows, i]
            some = some[np.isfinite(some)]
            rms = float(np.sqrt(np.mean(some**2))) if len(some) else math.nan
            result[element] = (len(some), rms)
        return result

    def to_dict(self) -> dict[str, Any]:
        """The fit as plain numbers and text."""
        from sepmodel.study import fit_report

        return fit_report.to_dict(self)

    def residuals_csv(self) -> str:
        """One line a measured metal: what was measured, what is predicted, at which state."""
        from sepmodel.study import fit_report

        return fit_report.residuals_csv(self)

    def to_toml(self, *, title: str, source: str, extractant: str = "") -> str:
        """A ready data set: class derived, or estimated where an estimate went into it."""
        from sepmodel.study import fit_report

        return fit_report.to_toml(self, title=title, source=source, extractant=extractant)


def fit(
    table: ShakeOuts | str | Path,
    options: Options | None = None,
    *,
    book: Book | None = None,
    **changes: Any,
) -> Fit:
    """Extraction constants from shake-outs.

    Parameters
    ----------
    table
        shake-outs, or the CSV file that holds them.
    options, changes
        how to fit (``Options``), or single options by name.
    book
        constants of the activity model and the counter-ion; those used are recorded in the result.

    Raises
    ------
    InputError
        for an unusable table or option, and for rows of a file that nobody can have measured (see
        ``shakeout.require_possible``); ConvergenceError when the fit does not settle.
    """
    book = book or Book()
    options = replace(options or Options(), **changes)
    if options.relative_error is None:
        options = replace(options, relative_error=book["fit/defaults:relative_error"])
    check(options, book)
    if not isinstance(table, ShakeOuts):
        file = str(shakeout.find(table))
        table = shakeout.read(table)
        shakeout.require_possible(
            table, options.relative_error or 0.0, book, dimers=options.dimers, file=file
        )
    if not np.any(table.used):
        raise InputError(Problem(message="no row of the table is to be used"))
    forward = Forward.build(table, options, book)
    theta, iterations = statistics.estimate(forward)
    return _result(forward, theta, iterations)


def _result(forward: Forward, theta: Array, iterations: int) -> Fit:
    """Covariance, identifiability and the tables of residuals."""
    t, options = forward.table, forward.options
    final = statistics.linearise(forward, theta)
    r, j = final.whitened(final.raw), final.whitened(final.jacobian)
    covariance, chi_squared, freedom = statistics.covariance(options, r, j)
    residual = np.full(t.feed.shape, np.nan)
    residual[final.row, final.column] = r
    predicted = predict(forward, theta)
    measured = t.distribution_ratio
    return Fit(
        table=t,
        options=options,
        names=forward.names,
        values=theta,
        covariance=covariance,
        chi_squared=chi_squared,
        freedom=freedom,
        undetermined=statistics.unidentified(j, forward.names),
        correlated=statistics.correlated(covariance, forward.names),
        log_d=np.log10(np.where(measured > 0, measured, np.nan)),
        log_d_predicted=predicted["log_d"],
        residual=residual,
        pH=predicted["pH"],
        loading=predicted["loading"],
        ionic_strength=predicted["ionic_strength"],
        used=dict(forward.book.used),
        iterations=iterations,
    )
