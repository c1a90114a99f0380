"""Steps in time: Radau IIA of order 9, all five stages at once, on the exact derivative.

What changes linearly on the way (the sum of what is held, what left, less what was fed) is kept by
every Newton step whatever it starts from, so balances close to rounding at any tolerance. Rates of
all stages are one call; the derivative is taken in the middle of the step, where the prediction has
been settled anyway; a prediction is the polynomial of the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, Trace
from sepmodel.extraction.dynamics import radau
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.mixers import CLOSE
from sepmodel.extraction.dynamics.radau import STAGES
from sepmodel.extraction.dynamics.stages import ROUGH, PlainStages, Stages, norm

Array = NDArray[np.float64]

# Step control: aim below the tolerance, and at most this change of the step at once.
SAFETY = 1.0 - 1.0 / 8.0
SHRINK, GROW = 1.0 / 8.0, 32.0
# A polynomial is trusted for so many of its own steps ahead.
AHEAD = 3.0
# What a prediction leaves at least, as a part of what is there, and the degree where it would not.
LITTLE = 1e-1
LOW = 2
# Newton: part of the tolerance that may be left, how far unknowns may be from their equations at
# the guess, steps, and what a step becomes if it fails.
LEFT = 1.0 / 32.0
BEGIN = 1.0 / 32.0
ROUNDS = 10
RETRY = 1.0 / 2.0
OVERSHOOT = 8.0
# First step after a break: its rate is taken this part of the time in which the state changes.
CAUTION = 1e-2
# Relative length within which the end of a stretch is reached.
INSTANT = 1e-6
# Part of the most any stage holds at the beginning that counts as held by all.
FIRST = 1e-6
# Carriers that change by less than this, relative to what passes, stand still.
STILL = 1e-13


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """Accuracy: relative tolerance of contents above ``floor`` of the most a stage has held so far.

    ``longest`` [s] bounds a step; ``most`` is the number of steps after which a run gives up;
    ``as_given`` takes steps of the length they have, whatever the error (to see the order).
    """

    rtol: float = 1e-5
    floor: float = 1e-3
    longest: float = np.inf
    most: int = 1_000_000
    as_given: bool = False


@dataclass(slots=True)
class Memory:
    """Everything the next step depends on: time, state, unknowns, step length, counts, the rate
    [.../s] of what is in the train at ``t``, and the stages of the step before (``past``, with the
    changes of the unknowns in it and its length; empty after a break)."""

    t: float
    y: Array
    u: Array
    h: float = 0.0
    failed: bool = False
    steps: int = 0
    rejected: int = 0
    factorised: int = 0
    newton: int = 0
    contraction: float = 1.0
    rate: Array = field(default_factory=lambda: np.zeros(0))
    past: Array = field(default_factory=lambda: np.zeros((0, 0)))
    past_u: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    past_h: float = 0.0
    most: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    leaving: Array = field(default_factory=lambda: np.zeros((0, 0)))

    ARRAYS = ("y", "u", "rate", "past", "past_u", "most", "leaving")


@dataclass(slots=True)
class Step:
    """An accepted step: ``moved`` (S, size) since ``t`` at the stages, ``moved_u`` of unknowns,
    ``flows`` (S, P, K) that leave at the stages; ``error`` (size,) the estimate of its error."""

    t: float
    h: float
    y: Array
    y_new: Array
    moved: Array
    u: Array
    moved_u: Array
    flows: Array
    kernel: Kernel
    error: Callable[[], Array]

    def at(self, s: Array) -> tuple[Array, Array]:
        """States and unknowns at t + s h, s (T,).

        By the step's polynomial, less what it errs by on the way: that is a known polynomial in
        proportion to the error estimate, and zero at both ends.
        """
        part = s[:, None] ** np.arange(1, STAGES + 1) @ radau.method().bend
        u = (part @ self.moved_u.reshape(STAGES, -1)).reshape(s.size, *self.u.shape)
        errs = np.zeros(s.size)
        for each in radau.method().beyond[::-1].tolist():
            errs = (errs + each) * s
        return self.y + part @ self.moved - np.outer(errs, self.error()), self.u + u


# Gives the kernel at a time, and whether it stays the same until the end of the stretch.
Kernels = Callable[[float], Kernel]


def scale(kernel: Kernel, memory: Memory, y: Array, options: Options) -> Array:
    """Tolerance of every state in the train (inner,), as the norm takes it.

    What is washed out of a stage is not followed to nothing: its tolerance has a floor, a part of
    the most the stage has held so far.
    """
    lay, c = kernel.lay, kernel.c
    out = np.abs(y[: lay.inner])
    layers = out.reshape(-1, lay.n, lay.k)
    held = layers[..., :c] @ kernel.counted
    if not memory.most.size:
        # A stage that holds nothing yet is measured by a little of what others hold.
        held = np.maximum(held, FIRST * held.max())
    memory.most = np.maximum(memory.most, held) if memory.most.size else held
    if lay.bypass:
        # What passes by is measured by what its mixer holds.
        memory.most[1] = memory.most[0]
    layers[..., :c] += options.floor * memory.most
    if kernel.t:
        layers[..., c:] += np.finfo(float).tiny
    out *= options.rtol
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
    exponent = 1.0 / (STAGES + 1)
    kernel = kernels(memory.t)
    inner, moving = kernel.lay.inner, bool(kernel.t)
    weight = scale(kernel, memory, memory.y, options)
    if fresh or memory.h <= 0 or not memory.rate.size:
        memory.past = np.zeros((0, 0))
        kernel.moving = bool(kernel.t)
        found = kernel.contents(memory.y, memory.u)
        memory.u, memory.contraction = found.u, 1.0
        memory.rate, exits = kernel.changes(memory.y, found)
        memory.leaving = kernel.leaving(memory.y, exits)
        if not options.as_given:
            memory.h = _first(kernel, memory, options, until)
    while memory.t < until:
        if memory.steps + memory.rejected >= options.most:
            raise _stuck(kernel, memory, options, "the limit of steps is reached")
        left = until - memory.t
        planned = memory.h
        h = min(planned, options.longest)
        last = h >= left * (1.0 - INSTANT)
        if last:
            h = left
        elif h > 0.5 * left:
            h = 0.5 * left
        # On a ramp carriers move even if they rest at its beginning; otherwise they rest for good.
        moving = moving and (not constant or _moving(kernel, memory.rate))
        kernel.moving = moving
        solved = _solve(kernels, kernel, memory, h, weight, options, constant)
        if solved is None:
            memory.rejected += 1
            memory.failed = True
            memory.h = h * RETRY
            if not memory.h > np.finfo(float).eps * max(abs(memory.t), h):
                raise _stuck(kernel, memory, options, "steps became too short")
            continue
        moved, moved_u, flows = solved.finish()
        y_new = memory.y + moved[-1]
        after = kernel if constant else kernels(until if last else memory.t + h)
        weight_new = scale(after, memory, y_new, options)
        estimate = solved.estimate()
        error = norm(estimate, np.maximum(weight, weight_new))
        if options.as_given:
            error = 1.0
        if not error <= 1.0:
            memory.rejected += 1
            memory.failed = True
            factor = SHRINK if not np.isfinite(error) else max(SHRINK, SAFETY * error**-exponent)
            memory.h = h * factor
            if not memory.h > np.finfo(float).eps * max(abs(memory.t), h):
                raise _stuck(kernel, memory, options, "steps became too short")
            continue
        factor = min(GROW, SAFETY * max(error, np.finfo(float).tiny) ** -exponent)
        if memory.failed:
            factor = min(factor, 1.0)
        if seen is not None:
            step = Step(
                t=memory.t, h=h, y=memory.y, y_new=y_new, moved=moved, u=memory.u,
                moved_u=moved_u, flows=flows, kernel=after,
                error=partial(solved.whole, estimate, memory.leaving, moved),
            )  # fmt: skip
        memory.t = until if last else memory.t + h
        memory.y, weight = y_new, weight_new
        near = CLOSE if options.as_given else ROUGH
        memory.u, memory.rate = solved.ended(after, y_new, memory.u + moved_u[-1], near)
        memory.leaving = flows[-1]
        memory.past, memory.past_u, memory.past_h = moved[:, :inner], moved_u, h
        # A step cut short by the end of a stretch says nothing about the next one.
        if options.as_given:
            factor = 1.0
        memory.h = max(h * factor, planned) if h < planned else h * factor
        memory.failed = False
        memory.steps += 1
        kernel = after
        if seen is not None:
            seen(step)


# A Newton step that goes astray ends as a number that is none, and the step is taken anew.
@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def _solve(
    kernels: Kernels,
    kernel: Kernel,
    memory: Memory,
    h: float,
    weight: Array,
    options: Options,
    constant: bool,
) -> Stages | None:
    """The stages of a step by Newton's method, or None if it does not get there."""
    method = radau.method()
    close = CLOSE if options.as_given else min((LEFT * options.rtol) ** 0.5, ROUGH)
    target = 1e-6 if options.as_given else LEFT
    z, moved_u = _predicted(kernel, memory, h)
    kind = PlainStages if constant and kernel.one_way else Stages
    at = [kernel] if constant else [kernels(memory.t + s * h) for s in method.nodes]
    step = kind(at, memory.y, memory.u, memory.rate, h, z, moved_u, weight)
    before = 0.0
    contraction = max(memory.contraction, np.finfo(float).eps) ** 0.5
    for k in range(ROUNDS):
        try:
            slack = step.evaluate(ROUGH if k else BEGIN)
        except ConvergenceError:
            if k or not np.any(z):
                return None
            try:
                step.restart()
                slack = step.evaluate()
            except ConvergenceError:
                return None
        if k == 0:
            step.linearise()
            memory.factorised += 1
        size = step.newton(first=k == 0)
        memory.newton += 1
        if not np.isfinite(size):
            return None
        # Below a thousandth of what may be left there is nothing but rounding.
        if k and size > 1e-3 * target:
            ratio = size / before
            # A first step from far away may overshoot.
            if ratio > (OVERSHOOT if k == 1 else 2.0 if k == 2 else 1.0):
                return None
            contraction = ratio / (1.0 - ratio) if ratio < 1.0 else np.inf
            if k > 3 and size * ratio ** (ROUNDS - 1 - k) * contraction > target:
                return None
        if size * contraction < target and slack < close and not (options.as_given and k < 3):
            memory.contraction = contraction
            return step
        before = size
    return None


def _predicted(kernel: Kernel, memory: Memory, h: float) -> tuple[Array, Array]:
    """Stages by the polynomial of the step before; at rest without one, or far beyond it.

    Where that would take more of something than there is, the whole stage is carried on by a
    polynomial of low degree, and a little is left: what is spent does not spoil all others.
    """
    inner, u = kernel.lay.inner, memory.u
    if not memory.past.size or h > AHEAD * memory.past_h:
        return np.zeros((STAGES, inner)), np.zeros((STAGES, *u.shape))
    past_u = memory.past_u.reshape(STAGES, -1)
    ratio = h / memory.past_h
    part = radau.ahead(ratio)
    z, moved = part @ memory.past, (part @ past_u).reshape(memory.past_u.shape)
    least = (LITTLE - 1.0) * memory.y[:inner]
    below = z < least
    if not below.any():
        return z, moved
    short = np.any(below.reshape(-1, kernel.lay.n, kernel.lay.k)[..., : kernel.c], axis=(0, 2))
    bad = np.flatnonzero(short)
    if bad.size:
        lower = radau.ahead(ratio, LOW)
        by_stage = (STAGES, -1, kernel.lay.n, kernel.lay.k)
        z.reshape(by_stage)[:, :, bad] = (lower @ memory.past).reshape(by_stage)[:, :, bad]
        moved[:, bad] = (lower @ past_u).reshape(moved.shape)[:, bad]
        np.maximum(z, least, out=z)
    return z, moved


def _moving(kernel: Kernel, rate: Array) -> bool:
    """Whether any carrier still changes."""
    mixer, _, *cells = kernel.lay.parts(rate)
    c = kernel.c
    passing = np.abs(kernel.fed[c:]) + np.finfo(float).tiny
    parts = [mixer[:, c:], *(part[..., c:] for part in cells)]
    return any(bool(np.any(np.abs(part) > STILL * passing)) for part in parts if part.size)


def _first(kernel: Kernel, memory: Memory, options: Options, until: float) -> float:
    """A first step from how fast the state and its rate change."""
    inner = kernel.lay.inner
    weight = scale(kernel, memory, memory.y, options)
    first = norm(memory.rate, weight)
    if first == 0.0:
        return min(until - memory.t, options.longest)
    h = CAUTION / (options.rtol * first)
    if not h > 0.0:
        raise _stuck(kernel, memory, options, "its rates are beyond all numbers")
    moved = memory.y.copy()
    moved[:inner] += h * memory.rate
    try:
        later = kernel.changes(moved, kernel.contents(moved, memory.u))[0]
        second = norm(later - memory.rate, weight) / h
    except ConvergenceError:
        return h * CAUTION
    if second <= 0:
        return min(until - memory.t, options.longest)
    # The time in which the rate changes, shortened as the error of a step falls with its length.
    scale_of_time = first / second
    step = float(scale_of_time * max(first * scale_of_time, 1.0) ** (-1.0 / (STAGES + 1)))
    return min(max(step, h * CAUTION), until - memory.t, options.longest)


def _stuck(kernel: Kernel, memory: Memory, options: Options, what: str) -> ConvergenceError:
    weight = scale(kernel, memory, memory.y, options)
    mixer = kernel.lay.parts(np.abs(memory.rate) / np.maximum(weight, np.finfo(float).tiny))[0]
    stage = int(np.argmax(mixer.max(axis=1)))
    return ConvergenceError(
        f"the run stopped: {what}; the contents of stage {stage + 1} change fastest",
        trace=Trace(
            equation="contents of the mixers",
            stage=stage + 1,
            advice="look at what is scheduled there and then; a larger time.tolerance takes fewer "
            "and longer steps",
        ),
    )
