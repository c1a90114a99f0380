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

# The step is halved at most so often before the member is given up.
HALVINGS = 10
# Required fall of the residual norm per unit step.
DESCENT = 1e-4


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
    direction: Callable[[Array, Any, Members], Array],
    start: Array,
    *,
    tolerance: float = 1e-12,
    accept: float = 1e-10,
    limit: int = 100,
    cap: float = 2.0,
) -> Solution:
    """Solve r(u) = 0 for every member: u <- u - t J^-1 r with t |J^-1 r| <= ``cap``, |r| falling.

    Parameters
    ----------
    evaluate: (u (b, n), members (b,)) -> residuals (b, n) and anything ``direction`` needs.
    direction: (r, that, members) -> J^-1 r, shape (b, n).
    start: first guess, shape (B, n).
    tolerance: a member is done when its largest |r| falls to this.
    accept: ... or when it has stopped falling (rounding) below this.

    >>> import numpy as np
    >>> cubes = np.array([[8.0], [27.0]])
    >>> roots = newton(
    ...     lambda u, who: (u**3 - cubes[who], u),
    ...     lambda r, u, who: r / (3 * u**2),
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
    if size == 0:
        who = who[:0]
    else:
        r, state = evaluate(u, who)
    while who.size:
        norm[who] = _norm(r)
        worst[who] = np.argmax(np.abs(r), axis=1)
        history.append(float(np.max(norm[who])))
        stopped[who] |= (norm[who] <= tolerance) | ~np.isfinite(norm[who])
        stopped[who] |= iterations[who] >= limit
        going = ~stopped[who]
        if not going.any():
            break
        if 2 * np.count_nonzero(going) <= who.size:
            who = who[going]
            r, state = evaluate(u[who], who)
            going = np.ones(who.size, dtype=bool)
        step = direction(r, state, who)
        largest = np.max(np.abs(step), axis=1)
        stopped[who[~np.isfinite(largest)]] = True
        going &= np.isfinite(largest)
        step[~going] = 0.0
        length = np.minimum(1.0, cap / np.maximum(largest, cap))
        length = np.where(going, length, 0.0)
        merit = np.sqrt(np.sum(r * r, axis=1))
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
        shortened += todo.size
        for _ in range(HALVINGS):
            if todo.size == 0:
                break
            length[todo] *= 0.5
            members = who[todo]
            trial = u[members] - length[todo, None] * step[todo]
            r_new, _ = evaluate(trial, members)
            good = _merit(r_new) <= (1.0 - DESCENT * length[todo]) * merit[todo]
            u[members[good]] = trial[good]
            todo = todo[~good]
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


def _norm(r: Array) -> Array:
    """Largest residual of each member; infinity where something is not finite."""
    largest: Array = np.max(np.abs(r), axis=1)
    return np.where(np.isfinite(largest), largest, np.inf)


def _merit(r: Array) -> Array:
    """Euclidean norm of each member's residuals; infinity where something is not finite."""
    value: Array = np.sqrt(np.sum(r * r, axis=1))
    return np.where(np.isfinite(value), value, np.inf)
