"""Stiff integration of balances: d U(y)/dt = R(t, y) by backward differences of order 1 to 5.

Unknown are the concentrations y, balanced are the amounts U(y). Backward differences are kept of
both: those of U enter the formula, so that whatever R conserves stays conserved to rounding at any
tolerance; those of y predict and measure the error. Step and order change as in the usual
quasi-constant-step method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, Trace

Array = NDArray[np.float64]

MAX_ORDER = 5
MOST_STEPS = 100_000
_NEWTON = 4
_NEWTON_KINKED = 10
_SLOW = 1 / 4
_TAMED = 2
_POLISH = 2
_PATIENCE = 8
_SHRINK = 1 / 5
_GROW = 10.0
_SAFETY = 9 / 10
_ENOUGH = 1 / 32
# Slopes that are renewed make the next round's step small: no more than its square is left.
_ENOUGH_RENEWED = 1 / 4
_STALE = 1 / 4
_LEAST = 1e-15

_GAMMA = np.append(0.0, np.cumsum(1 / np.arange(1, MAX_ORDER + 1)))
_ERROR = 1 / np.arange(1, MAX_ORDER + 3)


class System(Protocol):
    """Balances with a Newton matrix U' - gamma R' that can be factorised."""

    linear: bool
    """Whether one exact Newton step solves the equations."""
    kinked: bool
    """Whether slopes may jump inside a step: the system is then a ``KinkedSystem``."""

    def evaluate(self, t: float, y: Array) -> tuple[Array, Array]:
        """U and R at y; remembers the local slopes."""
        ...

    def factorise(self, gamma: float) -> None:
        """Prepare ``solve`` with the slopes of the last ``evaluate``."""
        ...

    def solve(self, right: Array) -> Array:
        """(U' - gamma R')^-1 right."""
        ...

    def amounts(self, step: Array) -> Array:
        """U' step with the slopes that were factorised."""
        ...

    def outflow(self, y: Array) -> Array:
        """What leaves through the outlet per time, linear in y."""
        ...


class KinkedSystem(System, Protocol):
    """Balances of the unknowns themselves, U(y) = y, whose slopes may jump inside a step.

    Slopes are renewed in every round of Newton's method that moves y by more than the tolerance.
    """

    def size(self, y: Array) -> Array:
        """What an error is relative to: |y|, and more where y has a front."""
        ...

    def begin(self, ahead: Array, before: Array, change: Array) -> None:
        """Make ``ahead``, the polynomial through the last points, a start for Newton's method.

        ``before`` is the last point, ``change`` its distance to the one before.
        """
        ...

    def tame(self, y: Array, before: Array) -> None:
        """Bring a round of Newton's method that led astray back to what can be."""
        ...


@dataclass(slots=True)
class Work:
    """How much was done."""

    steps: int = 0
    rejected: int = 0
    evaluations: int = 0
    factorisations: int = 0


def integrate(
    system: System,
    start: float,
    end: float,
    y: Array,
    amount: Array,
    *,
    tolerance: float,
    floor: Array,
    first: float,
    work: Work,
    watch: Callable[[float, float, float, Array], None],
) -> tuple[Array, Array, Array]:
    """y and U at ``end``, and the outflow summed over [start, end].

    Parameters
    ----------
    y, amount: unknowns and their balanced amounts at ``start``; both (n,).
    tolerance: error allowed per step, relative to |y| + ``floor``/tolerance.
    floor: absolute error allowed per step, (n,).
    first: first step to try [s].
    watch: called after each step with (t before, t, h, backward differences of y).

    Raises
    ------
    ConvergenceError
        when the step becomes too small to advance.
    """
    n = y.size
    m = system.outflow(y).size
    kinked = cast(KinkedSystem, system) if system.kinked else None
    enough = _ENOUGH if kinked is None else _ENOUGH_RENEWED
    # One table of backward differences for y, U and the integral of the outflow.
    table = np.zeros((MAX_ORDER + 3, 2 * n + m))
    table[0, :n], table[0, n : 2 * n] = y, amount
    h = _begin(system, start, min(first, end - start), table, tolerance, floor)
    order, equal, t, failures = 1, 0, start, 0
    gamma, crate, fresh = -1.0, 1.0, True
    while t < end:
        if work.steps >= MOST_STEPS or h < _LEAST * t:
            raise ConvergenceError(
                f"the column could not be integrated further than {t:.6g} s of {end:.6g} s",
                trace=Trace(
                    equation="column balances",
                    history=(t, h),
                    advice="narrow fronts on a coarse grid: more cells, or the limited scheme",
                ),
            )
        if failures > _PATIENCE:
            # Newton left concentrations apart from their amounts by more than the tolerance: no
            # step is short enough then. Start anew from the amounts.
            _polish(system, t, table, n)
            h = _begin(system, t, min(first, end - t), table, tolerance, floor)
            order, equal, failures, gamma = 1, 0, 0, -1.0
        if t + h >= end * (1 - 1e-15):
            _rescale(table, order, (end - t) / h)
            h, equal = end - t, 0
        after = end if t + h >= end * (1 - 1e-15) else t + h
        ahead = table[: order + 1].sum(axis=0)
        c = h / _GAMMA[order]
        psi = (_GAMMA[1 : order + 1] @ table[1 : order + 1, n:]) / _GAMMA[order]
        y_new = ahead[:n].copy()
        if kinked is not None:
            kinked.begin(y_new, table[0, :n], table[1, :n])
        level = np.abs(y_new) if kinked is None else kinked.size(y_new)
        weight = 1 / (floor + tolerance * level)
        last, converged = np.inf, False
        slow = False
        for attempt in range(_NEWTON_KINKED if system.kinked else _NEWTON):
            u_now, rate = system.evaluate(after, y_new)
            work.evaluations += 1
            if (
                gamma < 0
                or slow
                or (attempt == 0 and kinked is not None)
                or (attempt == 0 and (system.linear or abs(c / gamma - 1) > _STALE) and c != gamma)
            ):
                system.factorise(c)
                work.factorisations += 1
                gamma, crate, fresh = c, 1.0, True
            moved = ahead[n : 2 * n] - u_now
            moved += c * rate
            moved -= psi[:n]
            step = system.solve(moved)
            if c != gamma:
                step *= 2 / (1 + c / gamma)
            size = _norm(step * weight)
            if not np.isfinite(size):
                break
            slow = kinked is not None and size > 1
            y_new += step
            if attempt:
                crate = max(crate * 3 / 10, size / last)
                if size > 2 * last and (kinked is None or slow):
                    break
                slow = slow or (kinked is not None and size > _SLOW * last)
            if system.linear or size * min(1.0, crate) <= enough:
                converged = True
                break
            if kinked is not None and attempt < _TAMED:
                kinked.tame(y_new, table[0, :n])
            last = size
        if not converged:
            if fresh and gamma == c:
                shorter = _STALE if kinked is None else 0.5
                _rescale(table, order, shorter)
                h, equal = h * shorter, 0
                work.rejected += 1
            gamma, fresh = -1.0, False
            continue
        d = np.empty(2 * n + m)
        d[:n] = y_new - ahead[:n]
        error = _norm(d[:n] * weight) * _ERROR[order]
        if error > 1:
            factor = max(_SHRINK, _SAFETY * error ** (-1 / (order + 1)))
            _rescale(table, order, factor)
            h, equal, failures = h * factor, 0, failures + 1
            work.rejected += 1
            continue
        # The flux form of the step: exact conservation whatever Newton left over.
        ratio = c / gamma
        d[n : 2 * n] = moved + u_now - ahead[n : 2 * n]
        d[n : 2 * n] += ratio * (system.amounts(step) - 2 / (1 + ratio) * moved)
        d[2 * n :] = c * system.outflow(y_new) - psi[n:]
        if kinked is not None:  # whose unknowns are the amounts: the two must not drift apart
            d[:n] = d[n : 2 * n]
        fresh, failures = False, 0
        work.steps += 1
        before, t = t, after
        equal += 1
        table[order + 2] = d - table[order + 1]
        table[order + 1] = d
        for i in range(order, -1, -1):
            table[i] += table[i + 1]
        watch(before, t, h, table[: order + 1, :n])
        if equal < order + 1:
            continue
        grow = [np.inf, error, np.inf]
        if order > 1:
            grow[0] = _norm(table[order, :n] * weight) * _ERROR[order - 1]
        if order < MAX_ORDER:
            grow[2] = _norm(table[order + 2, :n] * weight) * _ERROR[order + 1]
        with np.errstate(divide="ignore"):
            factors = np.array(grow) ** (-1 / np.arange(order, order + 3))
        best = int(np.argmax(factors))
        order += best - 1
        factor = min(_GROW, _SAFETY * float(factors[best]))
        _rescale(table, order, factor)
        h, equal = h * factor, 0
    _polish(system, end, table, n)
    return table[0, :n].copy(), table[0, n : 2 * n].copy(), table[0, 2 * n :].copy()


def _begin(
    system: System, t: float, first: float, table: Array, tolerance: float, floor: Array
) -> float:
    """Fill the first differences of ``table`` from its zeroth; the first step [s]."""
    n = floor.size
    y = table[0, :n]
    _, rate = system.evaluate(t, y)
    system.factorise(0.0)
    slope = system.solve(rate)
    fast = _norm(slope / (floor + tolerance * np.abs(y)))
    h = min(first, 0.5 / fast) if fast > 0 else first
    table[1:] = 0.0
    table[1, :n], table[1, n : 2 * n] = h * slope, h * rate
    table[1, 2 * n :] = h * system.outflow(y)
    return h


def _polish(system: System, t: float, table: Array, n: int) -> None:
    """Make the concentrations of ``table`` belong to its amounts, which are what was balanced."""
    if system.linear:
        return
    for _ in range(_POLISH):
        u_now, _ = system.evaluate(t, table[0, :n])
        system.factorise(0.0)
        table[0, :n] += system.solve(table[0, n : 2 * n] - u_now)


def _norm(x: Array) -> float:
    return float(np.sqrt(x @ x / x.size))


def _rescale(table: Array, order: int, factor: float) -> None:
    """Backward differences for a step that is ``factor`` times as long."""
    if factor == 1:
        return
    i = np.arange(1, order + 1)
    j = i[None, :]
    stretched = _pascal((i[:, None] - 1 - factor * j) / i[:, None])
    plain = _pascal((i[:, None] - 1 - j) / i[:, None])
    table[: order + 1] = (stretched @ plain).T @ table[: order + 1]


def _pascal(m: Array) -> Array:
    """Running products down the rows, with a first row and column of the unit matrix."""
    out = np.zeros((len(m) + 1, len(m) + 1))
    out[1:, 1:] = m
    out[0] = 1.0
    return np.asarray(np.cumprod(out, axis=0), dtype=float)


def read_out(differences: Array, t: float, h: float, times: Array) -> Array:
    """The polynomial through the last points at ``times`` (T,): shape (T, n).

    >>> parabola = np.array([[9.0], [5.0], [2.0]])  # t^2 at 3, 2, 1
    >>> read_out(parabola, 3.0, 1.0, np.array([1.5])).tolist()
    [[2.25]]
    """
    order = len(differences) - 1
    if order == 0:
        return np.broadcast_to(differences[0], (len(times), differences.shape[1]))
    i = np.arange(order)
    p = np.cumprod(((times[:, None] - t) / h + i) / (1 + i), axis=1)
    return np.asarray(differences[0] + p @ differences[1:])
