"""Steps in time: Rodas5P with error control on the exact derivative.

Every stage of the method obeys the same linear balances as the train, so moles in the train plus
moles that left minus moles fed stay what they were, to rounding, whatever the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, Trace
from sepmodel.extraction.dynamics import tableau
from sepmodel.extraction.dynamics.kernel import STILL, Kernel
from sepmodel.extraction.dynamics.mixers import Contents, Slopes

Array = NDArray[np.float64]

# Step control: aim below the tolerance, and at most this change of the step at once.
SAFETY = 1.0 - 1.0 / 8.0
SHRINK, GROW = 1.0 / 8.0, 8.0
# First step after a break: its rate is taken this part of the time in which the state changes.
CAUTION = 1e-2
# Relative length over which a derivative by time is taken.
INSTANT = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Accuracy: relative tolerance of contents above ``floor`` of a stage's total content.

    ``longest`` [s] bounds a step; ``most`` is the number of steps after which a run gives up.
    """

    rtol: float = 1e-5
    floor: float = 1e-3
    longest: float = np.inf
    most: int = 1_000_000


@dataclass(slots=True)
class Memory:
    """Everything the next step depends on: time, state, unknowns, step length, counts."""

    t: float
    y: Array
    u: Array
    h: float = 0.0
    failed: bool = False
    steps: int = 0
    rejected: int = 0
    factorised: int = 0


@dataclass(slots=True)
class Step:
    """An accepted step: dense output from ``t`` to ``t + h``."""

    t: float
    h: float
    y: Array
    y_new: Array
    q: Array
    u: Array
    kernel: Kernel

    def at(self, s: float) -> Array:
        """State at t + s h."""
        q = self.q
        bend = q[0] + s * (q[1] + s * q[2])
        out: Array = (1.0 - s) * self.y + s * (self.y_new + (1.0 - s) * bend)
        return out


# Gives the kernel at a time, and whether it stays the same until the end of the stretch.
Kernels = Callable[[float], Kernel]


def scale(kernel: Kernel, y: Array, options: Options) -> Array:
    """Tolerance of every state, as the norm takes it; 0 where the norm does not look."""
    lay, c = kernel.lay, kernel.c
    out = options.rtol * np.abs(y)
    out_mixer, out_by, *out_cells, ports, fed = lay.split(out)
    mixer, _, *cells, _, _ = lay.split(y)
    total = np.abs(mixer[:, :c]).sum(axis=1, keepdims=True)
    least = options.rtol * options.floor * total
    out_mixer[:, :c] += least
    out_mixer[:, c:] += np.finfo(float).tiny
    if out_by is not None:
        out_by += least
    for part, own in zip(cells, out_cells, strict=True):
        if part.size:
            own += options.rtol * options.floor * np.abs(part[..., :c]).sum(axis=-1, keepdims=True)
            own += np.finfo(float).tiny
    ports[:] = np.inf
    fed[:] = np.inf
    return out


def advance(
    kernels: Kernels,
    memory: Memory,
    until: float,
    options: Options,
    seen: Callable[[Step], None] | None = None,
    *,
    constant: bool = True,
    fresh: bool = False,
) -> None:
    """Integrate to ``until``, changing ``memory``; ``seen`` is shown every accepted step.

    ``constant``: the kernel does not change on the way; ``fresh``: the first step has no history.

    Raises
    ------
    ConvergenceError
        naming the stage where steps became too short.
    """
    a, c, b = tableau.A, tableau.C, tableau.B
    exponent = 1.0 / tableau.ORDER
    kernel = kernels(memory.t)
    size = kernel.lay.size
    watched = size - (kernel.lay.ports + 1) * kernel.lay.k
    k = np.empty((tableau.STAGES, size))
    found = kernel.contents(memory.y, memory.u)
    rate = kernel.rates(memory.y, found)
    weight = scale(kernel, memory.y, options)
    if fresh or memory.h <= 0:
        memory.h = _first(kernel, memory, found, rate, options, until)
    while memory.t < until:
        if memory.steps + memory.rejected >= options.most:
            raise _stuck(kernel, memory, rate, options, "the limit of steps is reached")
        left = until - memory.t
        planned = memory.h
        h = min(planned, options.longest)
        last = h >= left * (1.0 - INSTANT)
        if last:
            h = left
        elif h > 0.5 * left:
            h = 0.5 * left
        if kernel.t:
            # On a ramp carriers move even if they rest at its beginning.
            kernel.moving = not constant or _moving(kernel, rate)
        slope = kernel.linearise(found)
        w = 1.0 / (tableau.GAMMA * h)
        system = kernel.factor(found, slope, w)
        memory.factorised += 1
        by_time = None
        if not constant:
            nudge = INSTANT * h
            later = kernels(memory.t + nudge)
            by_time = (later.rates(memory.y, later.contents(memory.y, found.u)) - rate) / nudge
        y, u = memory.y, found.u
        good = True
        for i in range(tableau.STAGES):
            if i == 0:
                r = rate
            else:
                state = y + a[i, :i] @ k[:i]
                here = kernel if constant else kernels(memory.t + tableau.ALPHA[i] * h)
                moved = state - y
                guess = u + _predict(kernel, slope, moved)
                try:
                    inside = here.contents(state, guess)
                except ConvergenceError:
                    good = False
                    break
                r = here.rates(state, inside) + (c[i, :i] / h) @ k[:i]
            if by_time is not None:
                r = r + (tableau.D[i] * h) * by_time
            k[i] = system.solve(r)
        error = np.inf
        if good:
            y_new = y + b @ k
            weight_new = scale(kernel, y_new, options)
            ratio = k[-1, :watched] / np.maximum(weight, weight_new)[:watched]
            error = float(np.sqrt(np.mean(ratio * ratio)))
        if not error <= 1.0:
            memory.rejected += 1
            factor = SHRINK if not np.isfinite(error) else max(SHRINK, SAFETY * error**-exponent)
            memory.h = h * factor
            memory.failed = True
            if memory.h <= np.finfo(float).eps * max(abs(memory.t), h):
                raise _stuck(kernel, memory, rate, options, "steps became too short")
            continue
        start = memory.t
        memory.t = until if last else start + h
        memory.y, weight = y_new, weight_new
        after = kernel if constant else kernels(memory.t)
        guess = u + _predict(kernel, slope, y_new - y)
        # The guess, not what is found from it: so a resumed run repeats every bit.
        memory.u = guess
        found = after.contents(y_new, guess)
        rate = after.rates(y_new, found)
        factor = min(GROW, SAFETY * max(error, np.finfo(float).tiny) ** -exponent)
        factor = max(factor, SHRINK)
        if memory.failed:
            factor = min(factor, 1.0)
        # A step cut short by the end of a stretch says nothing about the next one.
        memory.h = max(h * factor, planned) if h < planned else h * factor
        memory.failed = False
        memory.steps += 1
        if seen is not None:
            q = tableau.DENSE @ k
            seen(Step(t=start, h=memory.t - start, y=y, y_new=y_new, q=q, u=u, kernel=after))
        kernel = after


def _predict(kernel: Kernel, slope: Slopes, moved: Array) -> Array:
    """Change of the unknowns for a change of the state, to first order."""
    lay, c = kernel.lay, kernel.c
    mixer = moved[: lay.mixers].reshape(lay.n, lay.k)
    out: Array = np.einsum("nmc,nc->nm", slope.u_m, mixer[:, :c])
    if slope.u_a is not None:
        beside = moved[lay.mixers : 2 * lay.mixers].reshape(lay.n, lay.k)[:, :c]
        out += np.einsum("nmc,nc->nm", slope.u_a, beside / kernel.net.aside[:, None])
    if slope.u_t is not None:
        out += np.einsum("nmt,nt->nm", slope.u_t, mixer[:, c:] * kernel.amount)
    return out


def _moving(kernel: Kernel, rate: Array) -> bool:
    """Whether any carrier still changes."""
    mixer, _, *cells, _, _ = kernel.lay.split(rate)
    c = kernel.c
    passing = np.abs(kernel.fed[c:]) + np.finfo(float).tiny
    parts = [mixer[:, c:], *(part[..., c:] for part in cells)]
    return any(bool(np.any(np.abs(part) > STILL * passing)) for part in parts if part.size)


def _first(
    kernel: Kernel, memory: Memory, found: Contents, rate: Array, options: Options, until: float
) -> float:
    """A first step from how fast the state and its rate change."""
    watched = kernel.lay.size - (kernel.lay.ports + 1) * kernel.lay.k
    weight = scale(kernel, memory.y, options)[:watched]

    def norm(v: Array) -> float:
        ratio = v[:watched] / weight
        return float(np.linalg.norm(ratio)) / float(np.sqrt(ratio.size))

    first = norm(rate)
    if first == 0.0:
        return min(until - memory.t, options.longest)
    h = CAUTION / (options.rtol * first)
    moved = memory.y + h * rate
    try:
        later = kernel.rates(moved, kernel.contents(moved, found.u))
        second = norm(later - rate) / h
    except ConvergenceError:
        return h * CAUTION
    if second <= 0:
        return min(until - memory.t, options.longest)
    # In so long the rate changes the state by one tolerance.
    step = float(np.sqrt(2.0 / second))
    return min(max(step, h * CAUTION), until - memory.t, options.longest)


def _stuck(
    kernel: Kernel, memory: Memory, rate: Array, options: Options, what: str
) -> ConvergenceError:
    weight = scale(kernel, memory.y, options)
    mixer = kernel.lay.split(np.abs(rate) / np.maximum(weight, np.finfo(float).tiny))[0]
    stage = int(np.argmax(mixer.max(axis=1)))
    return ConvergenceError(
        f"the run stopped at {memory.t:.6g} s: {what}; the contents of stage {stage + 1} change "
        "fastest",
        trace=Trace(
            equation="contents of the mixers",
            stage=stage + 1,
            advice="look at what is scheduled there and then; a larger rtol goes on",
        ),
    )
