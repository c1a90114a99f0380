"""Damped Newton for many independent members at once.

Axis order inside this module: the member (batch) axis is the last one, so that every operation runs
along contiguous memory; callers transpose at their edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The step is halved at most so often before the best trial is taken as it is.
HALVINGS = 10

Array = NDArray[np.float64]
State = tuple[Array, ...]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Solution:
    """What Newton found: unknowns ``u`` (n, B), residual norm, iterations and success per member.

    ``worst`` (B,) is the index of the largest residual and ``history`` holds the largest residual
    norm over all members after each iteration.
    """

    u: Array
    state: State
    norm: Array
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]
    worst: NDArray[np.int64]
    history: tuple[float, ...]


def newton(
    evaluate: Callable[[Array, NDArray[np.int64]], tuple[Array, State]],
    direction: Callable[[Array, State, NDArray[np.int64]], Array],
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
    evaluate: (u (n, b), members (b,)) -> residuals (n, b) and a state, arrays (..., b).
    direction: (r, state, members) -> J^-1 r, shape (n, b).
    start: first guess, shape (n, B).
    tolerance: a member is done when its largest |r| falls to this.
    accept: ... or when it has stopped falling (rounding) below this.

    Members never influence one another: each has its own damping and stops by itself.

    >>> import numpy as np
    >>> roots = newton(
    ...     lambda u, who: (u**3 - np.array([[8.0, 27.0]])[:, who], (u,)),
    ...     lambda r, state, who: r / (3 * state[0] ** 2),
    ...     np.array([[1.0, 1.0]]),
    ... )
    >>> roots.u.round(9).tolist()
    [[2.0, 3.0]]
    """
    u = np.array(start, dtype=float)
    everyone = np.arange(u.shape[1])
    r, state = evaluate(u, everyone)
    r, state = r.copy(), tuple(part.copy() for part in state)
    norm = _norm(r)
    iterations = np.zeros(u.shape[1], dtype=np.int64)
    failed = ~np.isfinite(norm)
    history = [float(np.max(norm, initial=0.0))]
    while True:
        open_ = np.flatnonzero(~failed & ~(norm <= tolerance) & (iterations < limit))
        if open_.size == 0:
            break
        part = tuple(s[..., open_] for s in state)
        step = direction(r[:, open_], part, open_)
        largest = np.max(np.abs(step), axis=0)
        broken = ~np.isfinite(largest)
        failed[open_[broken]] = True
        keep = ~broken
        who, step, largest = open_[keep], step[:, keep], largest[keep]
        if who.size == 0:
            continue
        size = np.minimum(1.0, cap / np.maximum(largest, np.finfo(float).tiny))
        stalled = _line_search(evaluate, u, r, state, norm, who, step, size)
        iterations[who] += 1
        # No descent left: rounding has been reached, or the member is stuck.
        failed[who[stalled]] = True
        history.append(float(np.max(norm)))
    return Solution(
        u=u,
        state=state,
        norm=norm,
        iterations=iterations,
        converged=norm <= accept,
        worst=np.argmax(np.abs(r), axis=0),
        history=tuple(history),
    )


def _norm(r: Array) -> Array:
    """Largest residual of each member; NaN and infinity become infinity."""
    largest: Array = np.max(np.abs(r), axis=0, initial=0.0)
    return np.where(np.isfinite(largest), largest, np.inf)


def _line_search(
    evaluate: Callable[[Array, NDArray[np.int64]], tuple[Array, State]],
    u: Array,
    r: Array,
    state: State,
    norm: Array,
    who: NDArray[np.int64],
    step: Array,
    size: Array,
) -> NDArray[np.bool_]:
    """Move the members ``who`` in place along their steps; tells which of them found no descent."""
    stalled = np.zeros(who.size, dtype=bool)
    todo = np.arange(who.size)
    size = size.copy()
    merit = np.sqrt(np.sum(r[:, who] ** 2, axis=0))
    for attempt in range(HALVINGS + 1):
        members = who[todo]
        trial = u[:, members] - size[todo] * step[:, todo]
        r_new, state_new = evaluate(trial, members)
        size_now = size[todo]
        merit_new = np.sqrt(np.sum(r_new**2, axis=0))
        good = merit_new <= (1.0 - 1e-4 * size_now) * merit[todo]
        moved = members[good]
        u[:, moved] = trial[:, good]
        r[:, moved] = r_new[:, good]
        norm[moved] = _norm(r_new[:, good])
        for whole, new in zip(state, state_new, strict=True):
            whole[..., moved] = new[..., good]
        todo = todo[~good]
        if todo.size == 0:
            break
        size[todo] *= 0.5
        if attempt == HALVINGS:
            stalled[todo] = True
    return stalled
