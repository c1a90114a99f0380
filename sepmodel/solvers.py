"""Damped Newton for many independent members at once.

Axis order: [member, unknown]. Members never influence one another: each has its own damping and
stops by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Members = NDArray[np.int64]
# J^-1 r of some rows of the members it was made for: (r (k, n), rows (k,)) -> (k, n).
Linear = Callable[[Array, Members], Array]

# The step is halved at most so often before the member is given up.
HALVINGS = 10
# Part of a step's square that its secant has to show.
LEAST_TOLD = 1e-2
# Required fall per unit step of the residual norm, or of the norm of the Newton correction taken
# with the old Jacobian (which does not depend on how the residuals are scaled).
DESCENT = 1e-4
NATURAL = 0.5


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Solution:
    """What Newton found: unknowns ``u`` (B, n), residuals, iterations and success per member.

    ``norm`` (B,) is the largest residual, ``worst`` (B,) its index; ``history`` holds the largest
    norm of all open members at every iteration; ``steps`` counts shortened steps.
    """

    u: Array
    norm: Array
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]
    worst: NDArray[np.int64]
    history: tuple[float, ...]
    shortened: int


def newton(
    evaluate: Callable[[Array, Members], tuple[Array, Any]],
    linearise: Callable[[Any, Members], Linear],
    start: Array,
    *,
    tolerance: float = 1e-12,
    accept: float = 1e-10,
    limit: int = 100,
    cap: float = 2.0,
    natural: bool = False,
    select: Callable[[Any, Members], Any] | None = None,
) -> Solution:
    """Solve r(u) = 0 for every member: u <- u - t J^-1 r t |J^-1 r| <= ``cap``, |r| falling.

    Parameters
    ----------
    evaluate: (u (b, n), members (b,)) -> residuals (b, n) and anything ``linearise`` needs.
    linearise: (that, members) -> a function of residuals and rows that returns J^-1 r.
    start: first guess, shape (B, n).
    tolerance: a member is done when its largest |r| falls to this.
    accept: ... or when it has stopped falling (rounding) below this.
    natural: a step is also good when the next Newton correction, with the same Jacobian, is
        shorter: a test that does not depend on how the residuals are scaled.
    select: (what ``evaluate`` returned, rows) -> the same of these rows: finished members then
        leave at once instead of being carried along.

    >>> import numpy as np
    >>> cubes = np.array([[8.0], [27.0]])
    >>> roots = newton(
    ...     lambda u, who: (u**3 - cubes[who], u),
    ...     lambda u, who: lambda r, rows: r / (3 * u[rows] ** 2),
    ...     np.array([[1.0], [1.0]]),
    ... )
    >>> roots.u.round(9).ravel().tolist()
    [2.0, 3.0]
    """
    u = np.array(start, dtype=float)
    size = u.shape[0]
    norm = np.full(size, np.inf)
    worst = np.zeros(size, dtype=np.int64)
    iterations = np.zeros(size, dtype=np.int64)
    stopped = np.zeros(size, dtype=bool)
    history: list[float] = []
    shortened = 0
    who = np.arange(size)
    if size:
        r, state = evaluate(u, who)
    while who.size:
        amount = np.abs(r)
        worst[who] = np.argmax(amount, axis=1)
        largest = np.max(amount, axis=1)
        finite = np.isfinite(largest)
        norm[who] = np.where(finite, largest, np.inf)
        history.append(float(np.max(norm[who])))
        going = finite & (largest > tolerance) & (iterations[who] < limit) & ~stopped[who]
        if not going.all():
            stopped[who[~going]] = True
            left = np.flatnonzero(going)
            if left.size == 0:
                break
            if select is not None:
                who, r, state = who[left], r[left], select(state, left)
                going = going[left]
            elif 2 * left.size <= who.size:
                who = who[left]
                r, state = evaluate(u[who], who)
                going = going[left]
        linear = linearise(state, who)
        step = linear(r, np.arange(who.size))
        largest = np.max(np.abs(step), axis=1)
        lost = ~np.isfinite(largest)
        if lost.any():
            stopped[who[lost]] = True
            going &= ~lost
        if not going.all():
            step[~going] = 0.0
        length = np.where(going, cap / np.maximum(largest, cap), 0.0)
        merit = _merit(r)
        trial = u[who] - length[:, None] * step
        r_new, state_new = evaluate(trial, who)
        good = ~going | (_merit(r_new) <= (1.0 - DESCENT * length) * merit)
        iterations[who[going]] += 1
        if good.all():
            u[who], r, state = trial, r_new, state_new
            continue
        # At the bottom of rounding nothing falls any more.
        final = ~good & (norm[who] <= accept)
        stopped[who[final]] = True
        u[who[good]] = trial[good]
        todo = np.flatnonzero(~good & ~final)
        r_new, trial = r_new[todo], trial[todo]
        shortened += todo.size
        correction = _merit(step)
        for attempt in range(HALVINGS + 1):
            if todo.size == 0:
                break
            if attempt:
                length[todo] *= 0.5
                trial = u[who[todo]] - length[todo, None] * step[todo]
                r_new, _ = evaluate(trial, who[todo])
            good = _merit(r_new) <= (1.0 - DESCENT * length[todo]) * merit[todo]
            tried = np.flatnonzero(~good & np.isfinite(_merit(r_new)) & natural)
            if tried.size:
                rows = todo[tried]
                after = _merit(linear(r_new[tried], rows))
                good[tried] = after <= (1.0 - NATURAL * length[rows]) * correction[rows]
            u[who[todo[good]]] = trial[good]
            todo, trial, r_new = todo[~good], trial[~good], r_new[~good]
        stopped[who[todo]] = True
        r, state = evaluate(u[who], who)
    return Solution(
        u=u,
        norm=norm,
        iterations=iterations,
        converged=norm <= accept,
        worst=worst,
        history=tuple(history),
        shortened=shortened,
    )


class Secants:
    """Fixed points x = g(x) of many members in rounds: x <- x + B (g(x) - x), Broyden's method.

    B stands for the inverse of 1 - dg/dx. It starts with a guess at dg/dx's diagonal, ``share``
    (B, n), which counts up to ``most``, and is mended along every step to explain what came of it.

    >>> import numpy as np
    >>> turn = np.array([[0.5, 0.3], [-0.2, 0.8]])
    >>> x, secants = np.zeros((1, 2)), Secants(np.array([[0.5, 0.8]]), most=0.9)
    >>> for _ in range(8):
    ...     x = secants.onward(np.array([0]), x, x @ turn.T + 1.0)
    >>> (x @ turn.T + 1.0 - x).round(9).tolist()
    [[0.0, 0.0]]
    """

    def __init__(self, share: Array, most: float) -> None:
        size, n = share.shape
        self._inverse = np.zeros((size, n, n))
        self._inverse[:, np.arange(n), np.arange(n)] = 1.0 / (1.0 - np.clip(share, -most, most))
        self._x, self._off = np.full((size, n), np.nan), np.full((size, n), np.nan)

    def onward(self, who: Members, x: Array, value: Array) -> Array:
        """The next x (b, n) of some members after their ``value`` g(x)."""
        off = value - x
        inverse = self._inverse[who]
        moved, turned = x - self._x[who], self._off[who] - off
        along = np.einsum("bi,bij->bj", moved, inverse)
        reach = np.einsum("bj,bj->b", along, turned)
        # A step that shows next to nothing, the first among them, teaches nothing.
        told = np.abs(reach) > LEAST_TOLD * np.einsum("bj,bj->b", moved, moved)
        if told.any():
            missed = (moved - np.einsum("bij,bj->bi", inverse, turned))[told]
            inverse[told] += missed[:, :, None] * (along[told] / reach[told, None])[:, None]
            self._inverse[who] = inverse
        self._x[who], self._off[who] = x, off
        return np.asarray(x + np.einsum("bij,bj->bi", inverse, off))


def _merit(r: Array) -> Array:
    """Euclidean norm of each member's residuals; infinity where something is not finite."""
    value: Array = np.sqrt(np.einsum("ij,ij->i", r, r))
    return np.where(np.isfinite(value), value, np.inf)
