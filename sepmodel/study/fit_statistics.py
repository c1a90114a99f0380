"""The statistics of a fit: weighted least squares, covariance, what the data cannot tell.

Residuals are ln a_measured - ln a_predicted(feed measured) of the raffinates; their covariance per
row is sigma^2 (1 + J_f J_f'), J_f = d ln a / d ln f, because the feed was measured too. Whitened by
its Cholesky factor they have unit variance. A robust loss gets the sandwich covariance
H^-1 (sum psi^2 J J') H^-1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.errors import ConvergenceError, Trace
from sepmodel.study.fit_model import LN10, Forward, Group, Options

Array = NDArray[np.float64]
_DIFFERENCE = 1e-6
_SETTLED = 1e-7
_ROUNDS = 64
# A direction whose information is this far below the best one is not told apart by the data.
_LOST = 1e-8
CORRELATED = 0.95


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


def linearise(forward: Forward, theta: Array) -> Linearised:
    """Residuals, derivatives and error covariance at some parameters."""
    t, error = forward.table, forward.options.relative_error or 0.0
    log_k, levels, count = forward.log_k(theta), level_matrix(forward), len(t.elements)
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


def level_matrix(forward: Forward) -> Array:
    """d level of each row's laboratory / d free levels, shape (N, L - 1)."""
    t = forward.table
    free = len(forward.names) - len(t.elements)
    by_lab = np.concatenate([np.eye(free), -np.ones((1, free))]) if free else np.zeros((1, 0))
    at = [t.laboratories.index(lab) if free else 0 for lab in t.laboratory]
    result: Array = by_lab[at]
    return result


def first_guess(forward: Forward) -> Array:
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
            value = (
                np.log(y[:, i] / x[:, i])
                + z[i] * np.log(h / C_STANDARD)
                - n[i] * np.log(d / C_STANDARD)
            )
            weak = y[:, i] * t.phase_ratio[rows] < 0.1 * t.feed[rows, column]
            kept = (value - shift)[~weak] if not weak.all() else value - shift
            guesses[int(column)] += (kept / LN10).tolist()
    free = len(forward.names) - len(t.elements)
    return np.array([*(float(np.median(g)) for g in guesses.values()), *np.zeros(free)])


def loss(options: Options, squares: Array) -> tuple[Array, Array, Array]:
    """rho, its slope and the slope of psi = r rho'(r^2), for squared standardised residuals."""
    if options.loss == "linear":
        return squares, np.ones_like(squares), np.ones_like(squares)
    root = np.sqrt(1 + squares)
    return 2 * (root - 1), 1 / root, 1 / root**3


def estimate(forward: Forward) -> tuple[Array, int]:
    """Parameters by Levenberg-Marquardt; the error covariance is renewed at every accepted step."""
    theta = first_guess(forward)
    now = linearise(forward, theta)
    damping = 1e-3
    for count in range(1, _ROUNDS + 1):
        r, j = now.whitened(now.raw), now.whitened(now.jacobian)
        cost, weight, slope = loss(forward.options, r**2)
        # Between the slope of psi (Newton, not always safe) and the weight (safe, slow).
        information = (j * np.sqrt(weight * slope)[:, None]).T @ j
        gradient = j.T @ (weight * r)
        scale = np.maximum(np.diag(information), 1e-12 * np.diag(information).max())
        while True:
            step = -np.linalg.lstsq(
                information + damping * np.diag(scale), gradient, rcond=_LOST**2
            )[0]
            longest = float(np.max(np.abs(step)))
            step *= min(1.0, 1 / max(longest, _SETTLED))
            trial = linearise(forward, theta + step)
            trial_cost = loss(forward.options, trial.whitened(trial.raw, now.blocks) ** 2)[0]
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


def correlation(covariance: Any) -> Array:
    """Correlation matrix of a covariance; zero where a variance is."""
    error = np.sqrt(np.maximum(np.diag(covariance), 0))
    product = np.outer(error, error)
    known = product > np.finfo(float).tiny
    result: Array = np.where(known, covariance, 0) / np.where(known, product, 1)
    return result


def covariance(options: Options, residual: Array, jacobian: Array) -> tuple[Array, float, int]:
    """Covariance of the parameters, chi squared and degrees of freedom.

    ``residual`` (M,) and ``jacobian`` (M, P) are whitened. Linear loss: (J'J)^-1, enlarged by the
    misfit where ``options.scaled``; robust loss: the sandwich.

    >>> import numpy as np
    >>> said, chi_squared, freedom = covariance(
    ...     Options(), np.array([1.0, -1.0]), np.array([[1.0], [1.0]])
    ... )
    >>> float(said[0, 0]), chi_squared, freedom
    (1.0, 2.0, 1)
    """
    j, r = jacobian, residual
    _, weight, slope = loss(options, r**2)
    bread: Any = np.linalg.pinv((j * slope[:, None]).T @ j, rcond=_LOST**2, hermitian=True)
    freedom = len(r) - j.shape[1]
    chi_squared = float((r**2).sum())
    if options.loss == "linear":
        enlarged = max(1.0, chi_squared / freedom) if options.scaled and freedom > 0 else 1.0
        return bread * enlarged, chi_squared, freedom
    psi = j * (r * weight)[:, None]
    return bread @ (psi.T @ psi) @ bread * (len(r) / max(freedom, 1)), chi_squared, freedom


def correlated(found: Array, names: Sequence[str]) -> tuple[tuple[str, str, float], ...]:
    """Pairs of parameters whose correlation in a covariance is above ``CORRELATED``."""
    matrix = correlation(found)
    return tuple(
        (names[a], names[b], float(matrix[a, b]))
        for a in range(len(names))
        for b in range(a)
        if abs(matrix[a, b]) > CORRELATED
    )


def unidentified(jacobian: Array, names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Groups of parameters of which the data do not determine some combination."""
    scale = np.linalg.norm(jacobian, axis=0)
    result = [(name,) for name, size in zip(names, scale, strict=True) if size == 0]
    kept = np.flatnonzero(scale > 0)
    if not len(kept):
        return tuple(result)
    _, sizes, directions = np.linalg.svd(jacobian[:, kept] / scale[kept])
    for n in range(len(kept)):
        if n >= len(sizes) or sizes[n] < _LOST * sizes[0]:
            members = np.flatnonzero(np.abs(directions[n]) > 0.1)
            result.append(tuple(names[kept[i]] for i in members))
    return tuple(result)
