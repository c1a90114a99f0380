"""Many mass-flow cascades at once: the same equations with the member axis innermost.

The general kernel works in logarithms and with one dense matrix a member. For large batches of few
components it is far cheaper to march stage by stage, every operation over all members: fluxes by
first-passage probabilities in plain numbers, the Newton correction by block elimination. Members
whose traces leave the range of plain numbers, or that do not converge, are left to the general
kernel.

Axis order: [stage, component, member].
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sepmodel import solvers
from sepmodel.processes import processors

Array = NDArray[np.float64]
Members = NDArray[np.int64]

# Members handled together: their arrays stay in the processor's cache.
CHUNK = 4096
# Components beyond which the dense kernel is as fast.
MOST = 6
# Below this a flux has lost its meaning in plain numbers.
SMALLEST = 1e-250
# Stages taken together for the first guess, and how well that is solved.
GROUP = 4
ROUGH = 0.1
# Corrections of the middle's solution towards each member.
CORRECTIONS = 2


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Cascades:
    """Extractabilities, feeds (N, C, B), draws (fractions) and prescribed organic totals (N, B)."""

    extractability: Array
    feed_aq: Array
    feed_org: Array
    draw_aq: Array
    draw_org: Array
    total: Array

    def take(self, members: Members) -> Cascades:
        """Some of the members."""
        return Cascades(
            extractability=self.extractability[..., members],
            feed_aq=self.feed_aq[..., members],
            feed_org=self.feed_org[..., members],
            draw_aq=self.draw_aq[..., members],
            draw_org=self.draw_org[..., members],
            total=self.total[..., members],
        )


def solve(
    cascades: Cascades, start: Array, *, tolerance: float, accept: float, limit: int
) -> tuple[Array, Array, NDArray[np.int64], NDArray[np.bool_]]:
    """theta (N, B), residual (B,), iterations (B,), success (B,); members in chunks."""
    size = start.shape[1]
    theta = np.array(start)
    norm = np.full(size, np.inf)
    iterations = np.zeros(size, dtype=np.int64)
    good = np.zeros(size, dtype=bool)
    with np.errstate(all="ignore"):
        base = _middle(cascades, start, limit)

    def chunk(first: int) -> None:
        who = np.arange(first, min(first + CHUNK, size))
        part = cascades.take(who)
        with np.errstate(all="ignore"):
            found = solvers.newton(
                _evaluator(part),
                _lineariser(part),
                (_approach(part, start[:, who]) if base is None else _near(part, base)).T,
                tolerance=tolerance,
                accept=accept,
                limit=limit,
                natural=True,
            )
            aqueous, organic = fluxes(part, np.ascontiguousarray(found.u.T))
        theta[:, who] = found.u.T
        norm[who], iterations[who] = found.norm, found.iterations
        fed = (part.feed_aq + part.feed_org).sum(axis=0) > 0
        least = np.minimum(aqueous.min(axis=0), organic.min(axis=0))
        clear = np.all(~fed | (least > SMALLEST), axis=0)
        good[who] = found.converged & clear

    chunks = range(0, size, CHUNK)
    if len(chunks) == 1:
        chunk(0)
    else:
        # Chunks write to members of their own; numpy lets go of the interpreter inside its loops.
        with ThreadPoolExecutor(max_workers=min(len(chunks), processors())) as pool:
            list(pool.map(chunk, chunks))
    return theta, norm, iterations, good


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Middle:
    """The solved cascade of the medians of all inputs: theta (1, N) and J^-1, transposed."""

    theta: Array
    inverse: Array


def _middle(cascades: Cascades, start: Array, limit: int) -> _Middle | None:
    """A cascade in the midst of all members, or None where it is not solved."""
    medians = {
        part.name: np.median(getattr(cascades, part.name), axis=-1, keepdims=True)
        for part in fields(cascades)
    }
    one = Cascades(**medians)
    evaluate, linearise = _evaluator(one), _lineariser(one)
    begin = _approach(one, np.median(start, axis=1, keepdims=True)).T
    found = solvers.newton(evaluate, linearise, begin, limit=limit, natural=True)
    if not found.converged.all():
        return None
    first = np.zeros(1, dtype=np.int64)
    linear = linearise(evaluate(found.u, first)[1], first)
    stages = start.shape[0]
    inverse = linear(np.eye(stages), np.zeros(stages, dtype=np.int64))
    return _Middle(theta=found.u, inverse=inverse) if np.isfinite(inverse).all() else None


def _near(cascades: Cascades, base: _Middle) -> Array:
    """First guesses (N, B): from the middle, corrected with its Jacobian where that helps."""
    evaluate = _evaluator(cascades)
    size = cascades.total.shape[1]
    who = np.arange(size)
    theta = np.repeat(base.theta, size, axis=0)
    r, _ = evaluate(theta, who)
    for _ in range(CORRECTIONS):
        trial = theta - r @ base.inverse
        r_new, _ = evaluate(trial, who)
        with_it, without = (np.einsum("bn,bn->b", part, part) for part in (r_new, r))
        better = (with_it < without)[:, None]
        theta, r = np.where(better, trial, theta), np.where(better, r_new, r)
    return theta.T


def _approach(cascades: Cascades, start: Array) -> Array:
    """A better first guess: theta of the cascade with groups of stages taken as one."""
    stages = start.shape[0]
    if stages < 2 * GROUP:
        return start
    first = np.arange(0, stages, GROUP)
    last = np.append(first[1:], stages) - 1
    coarse = Cascades(
        extractability=cascades.extractability[last],
        feed_aq=np.add.reduceat(cascades.feed_aq, first, axis=0),
        feed_org=np.add.reduceat(cascades.feed_org, first, axis=0),
        draw_aq=1.0 - np.multiply.reduceat(1.0 - cascades.draw_aq, first, axis=0),
        draw_org=1.0 - np.multiply.reduceat(1.0 - cascades.draw_org, first, axis=0),
        total=cascades.total[last],
    )
    found = solvers.newton(
        _evaluator(coarse),
        _lineariser(coarse),
        start[last].T,
        tolerance=ROUGH,
        accept=1.0,
        limit=2 * GROUP,
        natural=True,
    )
    theta = found.u.T
    # The scrub acts on the last stage alone: the stages before it follow the group below.
    inner = np.minimum(np.arange(stages) / GROUP, last.size - 2.0)
    low = inner.astype(int)
    weight = (inner - low)[:, None]
    high = np.minimum(low + 1, last.size - 2)
    out = (1.0 - weight) * theta[low] + weight * theta[high]
    out[-1] = theta[-1]
    good = np.all(np.isfinite(out), axis=0)
    return np.where(good, out, start)


def fluxes(cascades: Cascades, theta: Array) -> tuple[Array, Array]:
    """Aqueous and organic fluxes leaving each stage, (N, C, B), exact for given theta (N, B)."""
    ratio = cascades.extractability * np.exp(theta)[:, None]
    stages = ratio.shape[0]
    lost = np.ones(ratio.shape[1:])
    source = np.zeros(ratio.shape[1:])
    inverse, pool = np.empty_like(ratio), np.empty_like(ratio)
    fed = np.any(cascades.feed_aq + cascades.feed_org > 0, axis=(1, 2))
    taken_aq = np.any(cascades.draw_aq > 0, axis=1)
    taken_org = np.any(cascades.draw_org > 0, axis=1)
    for n in range(stages):
        if taken_aq[n]:
            lost = cascades.draw_aq[n] + (1.0 - cascades.draw_aq[n]) * lost
        if fed[n]:
            source = source + cascades.feed_aq[n] + cascades.feed_org[n]
        pool[n] = source
        inverse[n] = 1.0 / (ratio[n] + lost)
        source = source * ratio[n] * inverse[n]
        if taken_org[n]:
            lost = lost + cascades.draw_org[n] * ratio[n]
            source = source * (1.0 - cascades.draw_org[n])
        lost = lost * inverse[n]
    aqueous = np.empty_like(ratio)
    down = np.zeros(ratio.shape[1:])
    for n in range(stages - 1, -1, -1):
        down = (pool[n] + down) * inverse[n]
        aqueous[n] = down
        if taken_aq[n]:
            down = down * (1.0 - cascades.draw_aq[n])
    return aqueous, ratio * aqueous


def _evaluator(cascades: Cascades) -> Callable[[Array, Members], tuple[Array, tuple[Array, ...]]]:
    """Residuals ln(organic total / prescribed) for solvers.newton."""
    everyone = cascades.total.shape[1]
    log_total = np.log(cascades.total)

    def evaluate(u: Array, who: Members) -> tuple[Array, tuple[Array, ...]]:
        whole = who.size == everyone
        part = cascades if whole else cascades.take(who)
        aqueous, organic = fluxes(part, np.ascontiguousarray(u.T))
        total = organic.sum(axis=1)
        r = np.log(total) - (log_total if whole else log_total[:, who])
        return r.T, (aqueous, organic, total)

    return evaluate


def _lineariser(cascades: Cascades) -> Callable[[tuple[Array, ...], Members], solvers.Linear]:
    """The Newton correction by block elimination along the cascade.

    Below each cut the perturbations obey du = P dd + q (organic up, aqueous down). With w = A l and
    m = A / sum(w) the stage's own unknown drops out: M dl = dd + q + w r with
    M = diag(1 + A) - P - w m'.
    """

    def linearise(state: tuple[Array, ...], who: Members) -> solvers.Linear:
        aqueous, organic, total = state
        part = cascades if who.size == cascades.total.shape[1] else cascades.take(who)
        stages, c, size = aqueous.shape
        ratio = organic / aqueous
        slope = ratio / total[:, None]
        keep_aq, keep_org = 1.0 - part.draw_aq, 1.0 - part.draw_org
        inverses = np.empty((stages, c, c, size))
        carried = np.empty((stages, c, c, size))
        p = np.zeros((c, c, size))
        for n in range(stages):
            pairs = organic[n][:, None] * slope[n][None]
            matrix = -(p * keep_aq[n] + pairs)
            up = -pairs
            for i in range(c):
                matrix[i, i] += 1.0 + ratio[n, i]
                up[i, i] += ratio[n, i]
            inverse = _inverse(matrix)
            p = keep_org[n] * _product(up, inverse)
            inverses[n], carried[n] = inverse, p
        return _Elimination(
            inverses=inverses,
            carried=carried,
            organic=organic,
            slope=slope,
            keep_aq=keep_aq,
            keep_org=keep_org,
        ).correct

    return linearise


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Elimination:
    """The factorised linear system of all members, to be applied to residuals."""

    inverses: Array
    carried: Array
    organic: Array
    slope: Array
    keep_aq: Array
    keep_org: Array

    def correct(self, r: Array, rows: Members) -> Array:
        """J^-1 r for residuals r (b, N) of the members ``rows``."""
        stages, c, _, size = self.inverses.shape
        part = slice(None) if rows.size == size else rows
        r = np.ascontiguousarray(r.T)
        q = np.zeros((c, rows.size))
        changes = np.empty((stages, c, rows.size))
        for n in range(stages):
            weight = self.organic[n][:, part] * r[n]
            entering = q + weight
            changes[n] = entering
            # du = P dd + q with q the answer to what enters here.
            q = _times(self.carried[n][..., part], entering) - self.keep_org[n, part] * weight
        step = np.empty((stages, rows.size))
        down = np.zeros((c, rows.size))
        for n in range(stages - 1, -1, -1):
            change = _times(self.inverses[n][..., part], down + changes[n])
            step[n] = r[n] + (self.slope[n][:, part] * change).sum(axis=0)
            down = self.keep_aq[n, part] * change
        return step.T


def _times(matrix: Array, vector: Array) -> Array:
    """Matrix (C, C, B) times vector (C, B)."""
    out: Array = matrix[:, 0] * vector[0]
    for k in range(1, vector.shape[0]):
        out += matrix[:, k] * vector[k]
    return out


def _product(a: Array, b: Array) -> Array:
    """Product of matrices (C, C, B)."""
    out: Array = a[:, 0, None] * b[None, 0]
    for k in range(1, a.shape[1]):
        out += a[:, k, None] * b[None, k]
    return out


def _inverse(matrix: Array) -> Array:
    """Inverse of matrices (C, C, B), whose columns are dominated by their diagonals."""
    c = matrix.shape[0]
    if c == 1:
        return 1.0 / matrix
    if c == 2:
        (a, b), (d, e) = matrix
        scale = 1.0 / (a * e - b * d)
        return np.array([[e * scale, -b * scale], [-d * scale, a * scale]])
    work = matrix.copy()
    for k in range(c):
        pivot = 1.0 / work[k, k]
        work[k, k] = 1.0
        work[k] *= pivot
        for i in range(c):
            if i != k:
                factor = work[i, k].copy()
                work[i, k] = 0.0
                work[i] -= factor * work[k]
    return work
