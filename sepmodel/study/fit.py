"""Extraction constants from shake-out tests, with what they are worth.

The equilibrium pH of a shake-out is rarely measured, so every test is *predicted forward* from what
went in: acid, metals, extractant, soap. The constants minimise

  sum over tests of rho( L^-1 [ln a_measured - ln a_predicted(feed measured)] )

a being the raffinate. L L^T is the covariance the analytical error causes: in the raffinate itself
and, through the model, in the prediction, because the feed it starts from was measured too. To
first order this weighs ln D as error propagation does, but a test that extracted nothing keeps a
Gaussian error and cannot go wrong by a logarithm of a small difference.

Laboratories may differ by one level each, common to all metals (``offsets``); separation factors,
the differences of log K, are shared. What the data cannot tell apart is said, not hidden.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.contact import Contact, contact
from sepmodel.data import Book, Constant
from sepmodel.errors import ConvergenceError, InputError, Problem, Trace
from sepmodel.species import CHARGES
from sepmodel.study import shakeout
from sepmodel.study.shakeout import ShakeOuts

Array = NDArray[np.float64]
LOSSES = ("linear", "soft_l1")
_LN10 = math.log(10)
_DIFFERENCE = 1e-6
_SETTLED = 1e-7
_ROUNDS = 64
# A direction whose information is this far below the best one is not told apart by the data.
_UNIDENTIFIED = 1e-8
_CORRELATED = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a fit is done.

    ``relative_error``: standard deviation of one analysis, feed and raffinate alike, independent;
    None takes the book's.
    ``dimers``: dimers a metal of charge z takes, by element (z where not named).
    ``counter_ion``: the saponified tests' cation; its log10 K is the book's, not fitted.
    ``scaled``: enlarge the covariance where the misfit exceeds the stated analytical error.
    """

    activity: str = "ideal"
    relative_error: float | None = None
    loss: str = "linear"
    offsets: bool = True
    scaled: bool = True
    dimers: Mapping[str, float] = field(default_factory=dict)
    counter_ion: str = "Na"


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Fit:
    """Constants, their covariance, and the residuals they leave.

    ``values`` are log10 K of each element followed by the level offsets (decades) of every
    laboratory but the last; the offsets add to zero over the laboratories. Arrays over the table:
    ``log_d`` measured and ``log_d_predicted`` (log10, NaN where there is none), ``residual`` in
    standard deviations, ``pH``, ``loading`` and ``ionic_strength`` as predicted.
    """

    table: ShakeOuts
    options: Options
    names: tuple[str, ...]
    values: Array
    covariance: Array
    chi_squared: float
    freedom: int
    unidentified: tuple[str, ...]
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
        """Standard error of every parameter."""
        return dict(zip(self.names, np.sqrt(np.diag(self.covariance)).tolist(), strict=True))

    @property
    def offsets(self) -> dict[str, float]:
        """Level of each laboratory above the mean of all, in decades of K."""
        free = self.values[len(self.table.elements) :]
        levels = _levels(self.table, self.options, free)
        return dict(zip(self.table.laboratories, levels.tolist(), strict=True))

    def interval(self, name: str, level: float = 0.95) -> tuple[float, float]:
        """Confidence interval of a parameter (normal where the error is known, else Student)."""
        from scipy.stats import norm, t

        at = self.names.index(name)
        scaled = self.options.scaled and self.chi_squared > self.freedom > 0
        tail = (1 + level) / 2
        width = float(t.ppf(tail, self.freedom) if scaled else norm.ppf(tail))
        error = math.sqrt(self.covariance[at, at])
        return float(self.values[at]) - width * error, float(self.values[at]) + width * error

    def separation_factor(self, heavy: str, light: str) -> tuple[float, float]:
        """Separation factor K_heavy / K_light and the standard error of its log10."""
        i, j = self.names.index(heavy), self.names.index(light)
        c = self.covariance
        variance = c[i, i] + c[j, j] - 2 * c[i, j]
        return float(10 ** (self.values[i] - self.values[j])), math.sqrt(max(float(variance), 0))

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
        errors = self.standard_errors
        return {
            "activity": self.options.activity,
            "loss": self.options.loss,
            "relative_error": self.options.relative_error,
            "parameters": {
                name: {
                    "value": float(self.values[i]),
                    "standard_error": errors[name],
                    "interval_95": list(self.interval(name)),
                }
                for i, name in enumerate(self.names)
            },
            "correlation": _correlation(self.covariance).tolist(),
            "offsets": self.offsets,
            "chi_squared": self.chi_squared,
            "degrees_of_freedom": self.freedom,
            "rms_log_d": {e: {"n": n, "rms": r} for e, (n, r) in self.rms_log_d().items()},
            "unidentified": list(self.unidentified),
            "correlated": [list(pair) for pair in self.correlated],
            "assumed": list(self.table.assumed),
        }

    def residuals_csv(self) -> str:
        """One line a measured metal: what was measured, what is predicted, at which state."""
        t = self.table
        lines = [
            "laboratory,label,element,used,pH,loading,ionic_strength [mol/L],"
            "log10_D,log10_D_predicted,residual [sd]"
        ]
        for i in range(len(t)):
            for j, element in enumerate(t.elements):
                if np.isfinite(t.raffinate[i, j]):
                    state = (self.pH[i], self.loading[i], self.ionic_strength[i])
                    found = (self.log_d[i, j], self.log_d_predicted[i, j], self.residual[i, j])
                    numbers = ",".join(
                        f"{v:.6g}" if np.isfinite(v) else "" for v in (*state, *found)
                    )
                    about = f"{t.laboratory[i]},{t.label[i]},{element},{int(t.used[i])}"
                    lines.append(f"{about},{numbers}")
        return "\n".join(lines) + "\n"

    def to_toml(self, *, title: str, source: str, extractant: str = "") -> str:
        """A ready data set: class derived, or estimated where an estimate went into it."""
        estimated = any(
            c.provenance == "estimated" and not c.key.startswith("fit/") for c in self.used.values()
        )
        basis = self.options.activity
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
        labs = ", ".join(self.table.laboratories).replace("\\", "/").replace('"', "'")
        count = len(self.table.elements)
        covariance = [[float(f"{v:.4g}") for v in row] for row in self.covariance[:count, :count]]
        out += [
            f'notes = """Fitted to {int(self.table.used.sum())} shake-outs ({labs}) by forward',
            f"prediction, {self.options.loss} loss, relative analytical error",
            f"{self.options.relative_error:g}. Levels of the laboratories against their mean: "
            + ", ".join(f"{v:+.2f}" for v in self.offsets.values())
            + ".",
            'The numbers belong together and to one activity basis."""',
            f"covariance_of = {json.dumps(list(self.table.elements))}",
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
        errors = self.standard_errors
        for element, value in self.log_k.items():
            n, rms = self.rms_log_d(self.table.used)[element]
            i = self.table.elements.index(element)
            acid = self.table.acid[self.table.feed[:, i] > 0] / 1000
            feed = self.table.feed[self.table.feed[:, i] > 0, i] / 1000
            out.append(
                f"{element} = {{ value = {value:.3f}, sd = {max(errors[element], 1e-3):.3f}, "
                f'locator = "fit to {n} points, rms log10 D {rms:.3f}", conditions = "feed '
                f'{feed.min():.3g}-{feed.max():.3g} M, acid {acid.min():.3g}-{acid.max():.3g} M" }}'
            )
        return "\n".join(out) + "\n"


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
        for an unusable table or option; ConvergenceError when the fit does not settle.
    """
    book = book or Book()
    options = replace(options or Options(), **changes)
    if options.relative_error is None:
        options = replace(options, relative_error=book["fit/defaults:relative_error"])
    _check(options)
    if not isinstance(table, ShakeOuts):
        table = shakeout.read(table)
    if not np.any(table.used):
        raise InputError(Problem(message="no row of the table is to be used"))
    forward = Forward.build(table, options, book)
    theta, iterations = _estimate(forward)
    return _result(forward, theta, iterations)


def _check(options: Options) -> None:
    problems = []
    if options.loss not in LOSSES:
        problems.append(
            Problem(message="unknown loss", value=options.loss, expected=", ".join(LOSSES))
        )
    if options.relative_error is None or not 0 < options.relative_error < 1:
        problems.append(
            Problem(
                message="the relative error of an analysis lies between 0 and 1",
                value=options.relative_error,
            )
        )
    if problems:
        raise InputError(problems)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Group:
    """The rows of a table that hold the same elements, with the chemistry that predicts them."""

    rows: NDArray[np.intp]
    columns: tuple[int, ...]
    components: tuple[str, ...]
    charges: Array
    dimers: Array
    fixed_log_k: Array
    activity: activities.ActivityModel


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Forward:
    """The table split into groups, and the level of every laboratory."""

    table: ShakeOuts
    options: Options
    book: Book
    groups: tuple[Group, ...]
    names: tuple[str, ...]

    @classmethod
    def build(cls, table: ShakeOuts, options: Options, book: Book) -> Forward:
        """Groups of a table; reads the constants the chemistry needs."""
        present = table.feed > 0
        soaped = table.saponification > 0
        kinds = sorted({(*map(bool, p), bool(s)) for p, s in zip(present, soaped, strict=True)})
        groups = []
        for kind in kinds:
            same = np.all(present == np.array(kind[:-1]), axis=1) & (soaped == kind[-1])
            columns = tuple(int(i) for i in np.flatnonzero(kind[:-1]))
            metals = tuple(table.elements[i] for i in columns)
            ions = (*metals, options.counter_ion) if kind[-1] else metals
            z = np.array([CHARGES[ion] for ion in ions], dtype=float)
            n = np.array([options.dimers.get(ion, CHARGES[ion]) for ion in ions], dtype=float)
            fixed = np.zeros(len(ions))
            if kind[-1]:
                soap = "extractants/soap"
                fixed[-1] = book[f"{soap}:log-K-{options.counter_ion}"]
                n[-1] = book[f"{soap}:dimers-{options.counter_ion}"]
            groups.append(
                Group(
                    rows=np.flatnonzero(same),
                    columns=columns,
                    components=ions,
                    charges=z,
                    dimers=n,
                    fixed_log_k=fixed,
                    activity=activities.build(options.activity, ("H", *ions, "Cl"), book),
                )
            )
        labs = table.laboratories[:-1] if options.offsets else ()
        names = (*table.elements, *(f"level of {lab}" for lab in labs))
        return cls(table=table, options=options, book=book, groups=tuple(groups), names=names)

    def log_k(self, theta: Array) -> Array:
        """log10 K of every row and element, laboratory level included, shape (N, E)."""
        count = len(self.table.elements)
        levels = _levels(self.table, self.options, theta[count:])
        at = [self.table.laboratories.index(lab) for lab in self.table.laboratory]
        result: Array = theta[:count] + levels[at][:, None]
        return result

    def solve(self, group: Group, log_k: Array, feed: Array) -> Contact:
        """Contacts of a group's rows; ``log_k`` and ``feed`` have shape (..., rows, metals)."""
        t, rows = self.table, group.rows
        shape = np.broadcast_shapes(log_k.shape, feed.shape)
        ln_k = np.broadcast_to(log_k, shape) * _LN10
        aq = np.broadcast_to(feed, shape)
        extra = len(group.components) - shape[-1]
        org = np.zeros((*shape[:-1], len(group.components)))
        if extra:
            ln_k = np.concatenate(
                [ln_k, np.full((*shape[:-1], 1), group.fixed_log_k[-1] * _LN10)], axis=-1
            )
            aq = np.concatenate([aq, np.zeros((*shape[:-1], 1))], axis=-1)
            charge = group.charges[-1]
            org[..., -1] = (t.saponification * t.extractant)[rows] / charge
        return contact(
            CationExchange(log_k=ln_k, charge=group.charges, dimers=group.dimers),
            feed_aq=aq,
            acid=t.acid[rows],
            dimer=t.extractant[rows] / 2,
            feed_org=org,
            phase_ratio=t.phase_ratio[rows],
            activity=group.activity,
            components=group.components,
        )


def _levels(table: ShakeOuts, options: Options, free: Array) -> Array:
    """Level of every laboratory; they add to zero."""
    count = len(table.laboratories)
    if not options.offsets or count == 1:
        return np.zeros(count)
    return np.append(free, -free.sum())


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Linearised:
    """Residuals ln a_measured - ln a_predicted, shape (M,), and their derivatives by theta.

    ``whiten`` maps them to unit variance; ``row`` and ``column`` say where they belong.
    """

    raw: Array
    jacobian: Array
    row: NDArray[np.intp]
    column: NDArray[np.intp]
    blocks: tuple[tuple[NDArray[np.intp], Array], ...]

    def whitened(self, values: Array, blocks: Any = None) -> Array:
        """L^-1 applied row by row to residuals or to the columns of a Jacobian."""
        result: Array = np.array(values)
        for at, inverse in self.blocks if blocks is None else blocks:
            result[at] = np.einsum("rij,rj...->ri...", inverse, values[at])
        return result


def _linearise(forward: Forward, theta: Array) -> Linearised:
    """Residuals, derivatives and error covariance at some parameters."""
    t, error = forward.table, forward.options.relative_error or 0.0
    log_k, levels, count = forward.log_k(theta), _level_matrix(forward), len(t.elements)
    raw: list[Array] = []
    jacobian: list[Array] = []
    rows: list[Array] = []
    columns: list[Array] = []
    blocks: list[tuple[NDArray[np.intp], Array]] = []
    start = 0
    for group in forward.groups:
        keep = group.rows[t.used[group.rows]]
        own = np.array(group.columns)
        known = np.isfinite(t.raffinate[np.ix_(keep, own)])
        if not known.any():
            continue
        ln_a, by_k, by_f = _responses(forward, replace(group, rows=keep), log_k)
        for pattern in np.unique(known, axis=0):
            if not pattern.any():
                continue
            some, seen = np.flatnonzero(np.all(known == pattern, axis=1)), np.flatnonzero(pattern)
            size, cells = len(seen), np.ix_(some, seen)
            left = t.raffinate[np.ix_(keep[some], own[seen])]
            derivative = np.zeros((len(some), size, len(theta)))
            response = by_k[cells]
            derivative[:, :, own] = -response
            derivative[:, :, count:] = (
                -response.sum(axis=-1)[:, :, None] * levels[keep[some]][:, None, :]
            )
            through = by_f[cells]
            covariance = error**2 * (np.eye(size) + through @ np.swapaxes(through, 1, 2))
            raw.append((np.log(left) - ln_a[cells]).ravel())
            jacobian.append(derivative.reshape(-1, len(theta)))
            rows.append(np.repeat(keep[some], size))
            columns.append(np.tile(own[seen], len(some)))
            at = start + np.arange(len(some) * size).reshape(len(some), size)
            blocks.append((at, np.linalg.inv(np.linalg.cholesky(covariance))))
            start += at.size
    return Linearised(
        raw=np.concatenate(raw),
        jacobian=np.concatenate(jacobian),
        row=np.concatenate(rows).astype(np.intp),
        column=np.concatenate(columns).astype(np.intp),
        blocks=tuple(blocks),
    )


def _responses(forward: Forward, group: Group, log_k: Array) -> tuple[Array, Array, Array]:
    """ln of the raffinates (R, m) and their derivatives by log10 K and ln feed, (R, m, m)."""
    t, own = forward.table, np.array(group.columns)
    size, at = len(own), np.ix_(group.rows, own)
    steps = np.eye(size) * _DIFFERENCE
    # One stack: the base, each constant moved, each feed concentration moved.
    moved_k = np.concatenate([np.zeros((1, size)), steps, np.zeros((size, size))])
    moved_f = np.concatenate([np.ones((1 + size, size)), 1 + steps])
    found = forward.solve(group, log_k[at] + moved_k[:, None, :], t.feed[at] * moved_f[:, None, :])
    ln_a = np.log(found.conc_aq[..., :size])
    by_k = (ln_a[1 : 1 + size] - ln_a[0]) / _DIFFERENCE
    by_f = (ln_a[1 + size :] - ln_a[0]) / math.log1p(_DIFFERENCE)
    return ln_a[0], np.moveaxis(by_k, 0, -1), np.moveaxis(by_f, 0, -1)


def _level_matrix(forward: Forward) -> Array:
    """d level of each row's laboratory / d free levels, shape (N, L - 1)."""
    t = forward.table
    free = len(forward.names) - len(t.elements)
    by_lab = np.concatenate([np.eye(free), -np.ones((1, free))]) if free else np.zeros((1, 0))
    at = [t.laboratories.index(lab) if free else 0 for lab in t.laboratory]
    result: Array = by_lab[at]
    return result


def _first_guess(forward: Forward) -> Array:
    """log10 K of each element as the median over rows of the mass action at what was measured."""
    t = forward.table
    guesses: dict[int, list[float]] = {i: [] for i in range(len(t.elements))}
    for group in forward.groups:
        own, rows = np.array(group.columns), group.rows
        z, n = group.charges[: len(own)], group.dimers[: len(own)]
        x = np.where(np.isfinite(t.raffinate), t.raffinate, t.feed)[np.ix_(rows, own)]
        y = np.maximum(t.feed[np.ix_(rows, own)] - x, x * 1e-3) / t.phase_ratio[rows, None]
        soap = t.saponification[rows] * t.extractant[rows] * t.phase_ratio[rows]
        h = t.acid[rows] + (y @ z) * t.phase_ratio[rows] - soap
        h = np.maximum(h, t.acid[rows] * 1e-2 + 1e-2)
        d = np.maximum(t.extractant[rows] / 2 - y @ n, t.extractant[rows] * 1e-2)
        cl = t.acid[rows] + x @ z
        known = {"H": h, "Cl": cl, forward.options.counter_ion: soap}
        known |= {e: x[:, i] for i, e in enumerate(group.components[: len(own)])}
        model = activities.unlimited(group.activity)
        molality = np.stack([known[ion] for ion in model.ions], axis=-1) / model.water
        ln_gamma = model.ln_gamma(molality)
        for i, column in enumerate(own):
            shift = ln_gamma[:, 1 + i] - z[i] * ln_gamma[:, 0]
            value = np.log(y[:, i] / x[:, i]) + z[i] * np.log(h / 1000) - n[i] * np.log(d / 1000)
            weak = y[:, i] * t.phase_ratio[rows] < 0.1 * t.feed[rows, column]
            kept = (value - shift)[~weak] if not weak.all() else value - shift
            guesses[int(column)] += (kept / _LN10).tolist()
    free = len(forward.names) - len(t.elements)
    return np.array([*(float(np.median(g)) for g in guesses.values()), *np.zeros(free)])


def _loss(options: Options, squares: Array) -> tuple[Array, Array, Array]:
    """rho, its slope and the slope of psi = r rho'(r^2), for squared standardised residuals."""
    if options.loss == "linear":
        return squares, np.ones_like(squares), np.ones_like(squares)
    root = np.sqrt(1 + squares)
    return 2 * (root - 1), 1 / root, 1 / root**3


def _estimate(forward: Forward) -> tuple[Array, int]:
    """Parameters by Levenberg-Marquardt; the error covariance is renewed at every accepted step."""
    theta = _first_guess(forward)
    now = _linearise(forward, theta)
    damping = 1e-3
    for count in range(1, _ROUNDS + 1):
        r, j = now.whitened(now.raw), now.whitened(now.jacobian)
        cost, weight, slope = _loss(forward.options, r**2)
        # Between the slope of psi (Newton, not always safe) and the weight (safe, slow).
        information = (j * np.sqrt(weight * slope)[:, None]).T @ j
        gradient = j.T @ (weight * r)
        scale = np.maximum(np.diag(information), 1e-12 * np.diag(information).max())
        while True:
            step = -np.linalg.lstsq(
                information + damping * np.diag(scale), gradient, rcond=_UNIDENTIFIED**2
            )[0]
            longest = float(np.max(np.abs(step)))
            step *= min(1.0, 1 / max(longest, _SETTLED))
            trial = _linearise(forward, theta + step)
            trial_cost = _loss(forward.options, trial.whitened(trial.raw, now.blocks) ** 2)[0]
            if trial_cost.sum() <= cost.sum() * (1 + 1e-9) or longest < _SETTLED:
                break
            damping *= 10
        theta, now, damping = theta + step, trial, max(damping / 10, 1e-9)
        if longest < _SETTLED:
            return theta, count
    raise ConvergenceError(
        "the fit did not settle",
        trace=Trace(
            equation="weighted least squares",
            advice="look for rows whose raffinate cannot follow from their feed",
        ),
    )


def _correlation(covariance: Any) -> Array:
    error = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    result: Array = covariance / np.outer(error, error)
    return result


def _result(forward: Forward, theta: Array, iterations: int) -> Fit:
    """Covariance, identifiability and the tables of residuals."""
    t, options = forward.table, forward.options
    final = _linearise(forward, theta)
    r, j = final.whitened(final.raw), final.whitened(final.jacobian)
    _, weight, slope = _loss(options, r**2)
    bread: Any = np.linalg.pinv((j * slope[:, None]).T @ j, rcond=_UNIDENTIFIED**2, hermitian=True)
    freedom = len(r) - len(theta)
    chi_squared = float((r**2).sum())
    if options.loss == "linear":
        covariance = bread
        if options.scaled and freedom > 0:
            covariance = covariance * max(1.0, chi_squared / freedom)
    else:
        psi = r * weight
        correction = len(r) / max(freedom, 1)
        covariance = bread @ ((j * psi[:, None]).T @ (j * psi[:, None])) @ bread * correction
    correlation = _correlation(covariance)
    pairs = [
        (forward.names[a], forward.names[b], float(correlation[a, b]))
        for a in range(len(theta))
        for b in range(a)
        if abs(correlation[a, b]) > _CORRELATED
    ]
    residual = np.full(t.feed.shape, np.nan)
    residual[final.row, final.column] = r
    predicted = predict(forward, theta)
    measured = t.distribution_ratio
    log_d = np.log10(np.where(measured > 0, measured, np.nan))
    return Fit(
        table=t,
        options=options,
        names=forward.names,
        values=theta,
        covariance=covariance,
        chi_squared=chi_squared,
        freedom=freedom,
        unidentified=_unidentified(j, forward.names),
        correlated=tuple(pairs),
        log_d=log_d,
        log_d_predicted=predicted["log_d"],
        residual=residual,
        pH=predicted["pH"],
        loading=predicted["loading"],
        ionic_strength=predicted["ionic_strength"],
        used=dict(forward.book.used),
        iterations=iterations,
    )


def _unidentified(jacobian: Array, names: Sequence[str]) -> tuple[str, ...]:
    """Combinations of parameters the data do not determine, as text."""
    scale = np.linalg.norm(jacobian, axis=0)
    lost = [name for name, size in zip(names, scale, strict=True) if size == 0]
    kept = np.flatnonzero(scale > 0)
    if not len(kept):
        return tuple(lost)
    _, sizes, directions = np.linalg.svd(jacobian[:, kept] / scale[kept])
    result = list(lost)
    for n in range(len(kept)):
        if n >= len(sizes) or sizes[n] < _UNIDENTIFIED * sizes[0]:
            share = directions[n]
            members = [names[kept[i]] for i in np.flatnonzero(np.abs(share) > 0.1)]
            result.append(" with ".join(members))
    return tuple(result)


def predict(forward: Forward, theta: Array) -> dict[str, Array]:
    """What the model says of every row: log10 D (N, E), pH, loading, ionic strength (N,)."""
    t = forward.table
    log_k = forward.log_k(theta)
    log_d = np.full(t.feed.shape, np.nan)
    pH, loading, strength = (np.full(len(t), np.nan) for _ in range(3))
    for group in forward.groups:
        own, rows = np.array(group.columns), group.rows
        found = forward.solve(group, log_k[np.ix_(rows, own)], t.feed[np.ix_(rows, own)])
        log_d[np.ix_(rows, own)] = found.log_d[..., : len(own)] / _LN10
        pH[rows] = found.pH
        loading[rows] = found.conc_org[..., : len(own)].sum(axis=-1) / t.extractant[rows]
        ions = found.conc_aq @ group.charges**2 + found.proton
        strength[rows] = (ions + found.conc_aq @ group.charges + found.proton) / 2 / 1000
    return {"log_d": log_d, "pH": pH, "loading": loading, "ionic_strength": strength}


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """How well the other laboratories predict one: bias and rms of log10 D of an element."""

    laboratory: str
    element: str
    points: int
    bias: float
    rms: float


def leave_one_laboratory_out(
    table: ShakeOuts, options: Options | None = None, *, book: Book | None = None
) -> list[LeftOut]:
    """Predict every laboratory from the others, at the mean level of those others.

    Elements no other laboratory measured are left out of the answer: nothing predicts them.
    """
    book = book or Book()
    options = options or Options()
    if options.relative_error is None:
        options = replace(options, relative_error=book["fit/defaults:relative_error"])
    result = []
    for name in table.laboratories:
        mine = np.array([lab == name for lab in table.laboratory])
        others = table.rows(~mine & table.used)
        if not len(others):
            continue
        known = fit(others, options, book=book).log_k
        common = np.array([e in known for e in table.elements])
        rows = mine & table.used & np.all((table.feed <= 0) | common, axis=1)
        if not rows.any():
            continue
        target = replace(table.rows(rows), laboratory=("",) * int(rows.sum()))
        forward = Forward.build(target, options, book)
        theta = np.array([known[e] for e in target.elements])
        measured = target.distribution_ratio
        error = predict(forward, theta)["log_d"] - np.log10(
            np.where(measured > 0, measured, np.nan)
        )
        for i, element in enumerate(target.elements):
            some = error[np.isfinite(error[:, i]), i]
            if len(some):
                result.append(
                    LeftOut(
                        laboratory=name,
                        element=element,
                        points=len(some),
                        bias=float(some.mean()),
                        rms=float(np.sqrt((some**2).mean())),
                    )
                )
    return result


@lru_cache(maxsize=8)
def _left_out(table: str, activity: str) -> tuple[LeftOut, ...]:
    options = Options(activity=activity, loss="soft_l1")
    return tuple(leave_one_laboratory_out(shakeout.read(table), options))


def left_out_rms(
    laboratory: str, element: str, activity: str = "ideal", table: str = "nd-pr-pc88a"
) -> float:
    """rms error of log10 D of an element of a laboratory, predicted by a fit without it."""
    for row in _left_out(table, activity):
        if (row.laboratory, row.element) == (laboratory, element):
            return row.rms
    raise InputError(
        Problem(message="no such laboratory and element", value=f"{laboratory}, {element}")
    )


def left_out_dicts(left: Sequence[LeftOut]) -> list[dict[str, Any]]:
    """The answers of ``leave_one_laboratory_out`` as plain tables."""
    return [{name: getattr(row, name) for name in LeftOut.__slots__} for row in left]


def summary_lines(found: Fit, left: Sequence[LeftOut] = ()) -> list[str]:
    """The fit as lines of at most 80 columns."""
    errors, rms = found.standard_errors, found.rms_log_d()
    loss, activity = found.options.loss, found.options.activity
    lines = [f"log10 K (dimer = formal/2, {activity} activities, {loss} loss)"]
    lines.append(f"  {'':18}{'value':>8} {'error':>7}   {'95 % interval':>17}   n  rms log D")
    for name in found.names:
        low, high = found.interval(name)
        value = found.values[found.names.index(name)]
        tail = f"{rms[name][0]:4d} {rms[name][1]:8.3f}" if name in rms else ""
        span = f"{low:.3f} to {high:.3f}"
        lines.append(f"  {name[:18]:18}{value:8.3f} {errors[name]:7.3f}   {span:>17} {tail}")
    ratio = found.chi_squared / found.freedom if found.freedom > 0 else math.nan
    lines.append(
        f"misfit over the stated analytical error, squared: {ratio:.2f} "
        f"({found.freedom} degrees of freedom)"
    )
    rising = sorted(found.log_k, key=lambda element: found.log_k[element])
    for heavy, light in itertools.pairwise(rising):
        factor, error = found.separation_factor(heavy, light)
        lines.append(
            f"separation factor {heavy}/{light} {factor:.3g} (times or over {10**error:.2f})"
        )
    for text in found.unidentified:
        lines.append(f"cannot be told apart by these data: {text}")
    for one, other, value in found.correlated:
        lines.append(f"strongly correlated ({value:+.2f}): {one} and {other}")
    for row in left:
        lines.append(
            f"{row.laboratory} predicted from the others: {row.element} bias {row.bias:+.2f}, "
            f"rms {row.rms:.2f} decades of D ({row.points} points)"
        )
    lines += [f"assumed: {text}" for text in found.table.assumed]
    return lines
