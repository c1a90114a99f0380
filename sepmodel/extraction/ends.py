"""Two-outlet mass-flow circuits solved from their ends: a few unknowns whatever the stage count.

At constant S and W equilibrium and balance of a stage are linear but for a common factor, so a
whole section is the power of one small matrix. From the raffinate r the aqueous at the feed stage
is in proportion to M^(n-1) r with M = S diag(a) + r a', from the organic product d the organic
leaving the feed stage to K^m d with K = (W + d 1') diag(1/a). Both are the same stage:
a M^(n-1) r = c K^m d for every element, and r + d = f. Newton solves these in ln(r/d); powers are
taken by squaring, in logarithms and without a subtraction, so traces of any size are exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Closures of all elements, and what still counts when no step betters it.
TOLERANCE = 1e-12
ACCEPT = 1e-9
LIMIT = 64
# Step of the differences in ln(r/d), and the longest step taken at once.
STEP = 1e-6
LONGEST = 4.0
SHORTEST = 2.0**-10
# Beyond so much of ln(r/d) nothing is left on the other side, where totals are reckoned.
FAR = 100.0
# Stages from one size to the next when nothing is known.
GROWTHS = (1.5, 1 + 2.0**-3)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Ends:
    """ln of raffinate and organic product (B, C), and which members were solved."""

    log_raffinate: Array
    log_organic: Array
    error: Array
    converged: NDArray[np.bool_]


def solve(
    extractability: Array,
    feed: Array,
    solvent: Array,
    scrub: Array,
    n: NDArray[np.int64],
    m: NDArray[np.int64],
    start: Array,
    feed_phase: str = "aqueous",
) -> Ends:
    """Outlets of circuits of n extraction (feed stage included) and m scrub stages.

    Parameters
    ----------
    extractability, feed
        a and f, shape (C,) or (B, C).
    solvent, scrub, n, m
        shape (B,).
    start
        ln(r/d) to begin with, (B, C).

    >>> found = solve(np.array([1.0, 2.0]), np.array([0.5, 0.5]), np.array([1.7086449]),
    ...     np.array([1.2081944]), np.array([24]), np.array([21]), np.array([[7.0, -9.0]]))
    >>> d = np.exp(found.log_organic[0])
    >>> (d / d.sum()).round(6).tolist()
    [0.001007, 0.998993]
    """
    size, c = start.shape
    log_a = np.log(np.broadcast_to(extractability, (size, c)))
    log_f = np.log(np.broadcast_to(feed, (size, c)))
    fed = np.exp(log_f).sum(axis=1)
    product = solvent - scrub + (fed if feed_phase == "organic" else 0.0)
    raffinate = fed - product
    log_s, log_w = np.log(solvent), np.log(np.maximum(scrub, np.finfo(float).tiny))

    def closures(z: Array, who: NDArray[np.int64]) -> Array:
        """ln of both sides' ratio less its first, and the total, (b, C)."""
        r, d = _sides(z, log_f[who])
        low = log_a[who] + _power(_extraction(r, log_a[who], log_s[who]), r, n[who] - 1)
        high = _power(_scrub(d, log_a[who], log_w[who]), d, m[who])
        out = low - high
        total = np.where(
            raffinate[who] < product[who],
            np.logaddexp.reduce(r, axis=-1) - np.log(raffinate[who]),
            np.log(product[who]) - np.logaddexp.reduce(d, axis=-1),
        )
        return np.concatenate([out[:, 1:] - out[:, :1], total[:, None]], axis=1)

    z = np.array(start, dtype=float)
    everyone = np.arange(size)
    good = (raffinate > 0) & (product > 0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.full(size, np.inf)
        todo = everyone[good]
        value = np.full((size, c), np.inf)
        if todo.size:
            value[todo] = closures(z[todo], todo)
            error[todo] = _norm(value[todo])
        for _ in range(LIMIT):
            todo = todo[error[todo] > TOLERANCE]
            if not todo.size:
                break
            repeated = np.repeat(todo, c)
            moved = np.repeat(z[todo], c, axis=0)
            moved += STEP * np.tile(np.eye(c), (todo.size, 1))
            slopes = closures(moved, repeated).reshape(todo.size, c, c)
            matrix = np.swapaxes((slopes - value[todo][:, None]) / STEP, 1, 2)
            step = _steps(matrix, value[todo])
            step = _held(step, z[todo])
            todo = _advance(z, value, error, todo, step, closures)
    r, d = _sides(z, log_f)
    return Ends(log_raffinate=r, log_organic=d, error=error, converged=good & (error <= ACCEPT))


def cold(
    extractability: Array,
    feed: Array,
    solvent: Array,
    scrub: Array,
    n: NDArray[np.int64],
    m: NDArray[np.int64],
    feed_phase: str = "aqueous",
) -> Ends:
    """The same without a start: from few stages up, as ln(r/d) of a trace grows with the stages.

    What is not solved in long steps is tried again in shorter ones.
    """
    size, c = len(n), np.shape(extractability)[-1]
    a, f = (np.broadcast_to(v, (size, c)) for v in (extractability, feed))
    found = _climb(a, f, solvent, scrub, n, m, feed_phase, GROWTHS[0])
    for growth in GROWTHS[1:]:
        rest = np.flatnonzero(~found.converged & (solvent > 0))
        if not rest.size:
            break
        again = _climb(
            a[rest], f[rest], solvent[rest], scrub[rest], n[rest], m[rest], feed_phase, growth
        )
        for name in ("log_raffinate", "log_organic", "error", "converged"):
            getattr(found, name)[rest] = getattr(again, name)
    return found


def _climb(
    extractability: Array,
    feed: Array,
    solvent: Array,
    scrub: Array,
    n: NDArray[np.int64],
    m: NDArray[np.int64],
    feed_phase: str,
    growth: float,
) -> Ends:
    """Circuits of more and more stages, each from the one before."""
    size = len(feed)
    fed = feed.sum(axis=1)
    product = solvent - scrub + (fed if feed_phase == "organic" else 0.0)
    z = _reflux(np.log(extractability), feed, fed - product)
    most = int(max(n.max(), m.max(), 1))
    levels = [1.0]
    while levels[-1] * most > 2.0:
        levels.append(levels[-1] / growth)
    before = np.zeros(size)
    found: Ends | None = None
    for level in levels[::-1]:
        up = np.maximum(np.rint(n * level), 1).astype(np.int64)
        down = np.rint(m * level).astype(np.int64)
        counts = (up + down).astype(float)
        if found is not None:
            grown = counts / before
            # Elements that are parted go on parting; those near the cut stay where they are.
            z = np.where(np.abs(z) > LONGEST, z * grown[:, None], z)
        found = solve(extractability, feed, solvent, scrub, up, down, z, feed_phase)
        fresh = found.log_raffinate - found.log_organic
        z = np.where(np.isfinite(fresh), fresh, z)
        before = counts
    assert found is not None
    return found


def _reflux(log_a: Array, feed: Array, raffinate: Array) -> Array:
    """ln(r/d) of a single stage, -ln a + const, with the wanted total in the raffinate."""
    low = log_a.min(axis=1) - FAR
    high = log_a.max(axis=1) + FAR
    for _ in range(LIMIT):
        middle = 0.5 * (low + high)
        share = 1.0 / (1.0 + np.exp(np.clip(log_a - middle[:, None], -FAR, FAR)))
        over = (feed * share).sum(axis=1) > raffinate
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.asarray(middle[:, None] - log_a)


def _advance(
    z: Array, value: Array, error: Array, todo: NDArray[np.int64], step: Array, closures: object
) -> NDArray[np.int64]:
    """Take each member's step, halved until it is better; who still improves."""
    assert callable(closures)
    left, part = np.arange(todo.size), 1.0
    improved = np.zeros(todo.size, dtype=bool)
    while left.size and part >= SHORTEST:
        who = todo[left]
        trial = z[who] - part * step[left]
        found = closures(trial, who)
        norm = _norm(found)
        better = norm < error[who]
        take = who[better]
        z[take], value[take], error[take] = trial[better], found[better], norm[better]
        improved[left[better]] = True
        left, part = left[~better], 0.5 * part
    return todo[improved]


def _held(step: Array, z: Array) -> Array:
    """Steps cut to what the linear model bears: traces answer linearly, whatever their size."""
    most = np.maximum(LONGEST, 0.5 * np.abs(z))
    return np.clip(step, -most, most)


def _norm(values: Array) -> Array:
    norm = np.abs(values).max(axis=1)
    return np.where(np.isfinite(norm), norm, np.inf)


def _steps(matrices: Array, values: Array) -> Array:
    """Newton steps; nothing for a member whose matrix is singular."""
    out = np.zeros_like(values)
    for k, (matrix, value) in enumerate(zip(matrices, values, strict=True)):
        if np.all(np.isfinite(matrix)):
            try:
                out[k] = np.linalg.solve(matrix, value)
            except np.linalg.LinAlgError:
                continue
    return out


def _sides(z: Array, log_f: Array) -> tuple[Array, Array]:
    """ln r and ln d of ln(r/d)."""
    return log_f - np.logaddexp(0.0, -z), log_f - np.logaddexp(0.0, z)


def _extraction(r: Array, log_a: Array, log_s: Array) -> Array:
    """ln of M = S diag(a) + r a', (b, C, C)."""
    matrix = r[:, :, None] + log_a[:, None, :]
    i = np.arange(r.shape[1])
    matrix[:, i, i] = np.logaddexp(matrix[:, i, i], log_s[:, None] + log_a)
    return matrix


def _scrub(d: Array, log_a: Array, log_w: Array) -> Array:
    """ln of K = (W + d 1') diag(1/a), (b, C, C)."""
    matrix = np.repeat(d[:, :, None], d.shape[1], axis=2)
    i = np.arange(d.shape[1])
    matrix[:, i, i] = np.logaddexp(matrix[:, i, i], log_w[:, None])
    return matrix - log_a[:, None, :]


def _power(matrix: Array, vector: Array, count: NDArray[np.int64]) -> Array:
    """ln of matrix^count vector, by squaring; counts (b,) differ."""
    out, rest = vector, np.asarray(count).copy()
    while np.any(rest > 0):
        odd = (rest & 1) == 1
        out = np.where(odd[:, None], _sum(matrix + out[:, None, :]), out)
        rest >>= 1
        if np.any(rest > 0):
            matrix = _product(matrix)
    return out


def _sum(terms: Array) -> Array:
    """ln of the sum of exp over the last axis."""
    top = terms.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(terms - top).sum(axis=-1)))


def _product(matrix: Array) -> Array:
    """ln of the square of a matrix given in logarithms."""
    # Rows and columns brought near one another first, so that plain products stay in range.
    return _sum(matrix[:, :, None, :] + np.swapaxes(matrix, 1, 2)[:, None, :, :])


def profile(
    extractability: Array,
    feed: Array,
    solvent: float,
    scrub: float,
    n: int,
    m: int,
    ends: tuple[Array, Array],
    feed_phase: str = "aqueous",
) -> Array:
    """theta = ln(organic flux / sum a x) of every stage, a first guess of ``cascade.solve``, (N,).

    ``ends``: ln r and ln d, (C,).
    """
    log_a = np.log(extractability / extractability.max())
    r, d = ends
    theta = np.empty(n + m)
    fed = float(feed.sum()) if feed_phase == "organic" else 0.0
    aqueous = r
    for k in range(n):
        level = np.logaddexp.reduce(log_a + aqueous)
        carried = solvent + (fed if k == n - 1 else 0.0)
        if k == n + m - 1:
            carried -= scrub
        theta[k] = np.log(carried) - level
        organic = np.log(solvent) - level + log_a + aqueous
        aqueous = np.logaddexp(organic, r)
    organic = d
    for k in range(n + m - 1, n - 1, -1):
        level = np.logaddexp.reduce(organic - log_a)
        below = np.log(scrub) - level + organic - log_a
        carried = np.logaddexp.reduce(organic)
        theta[k] = carried - np.logaddexp.reduce(log_a + below)
        organic = np.logaddexp(below, d)
    return theta
