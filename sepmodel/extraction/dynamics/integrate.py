"""Steps in time: Radau IIA of order 9, all five stages at once, on the exact derivative.

What changes linearly on the way (the sum of what is held, what left, less what was fed) is kept by
every Newton step whatever it starts from, so balances close to rounding at any tolerance. Rates of
all stages are one call; the derivative is taken in the middle of the step, where the prediction has
been settled anyway; a prediction is the polynomial of the step before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, Trace
from sepmodel.extraction.dynamics import radau
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.mixers import CLOSE
from sepmodel.extraction.dynamics.plain import PlainStages
from sepmodel.extraction.dynamics.radau import STAGES
from sepmodel.extraction.dynamics.stages import ROUGH, Past, Stages, norm

Array = NDArray[np.float64]

# Step control: aim below the tolerance, and at most this change of the step at once.
SAFETY = 1.0 - 1.0 / 8.0
SHRINK, GROW = 1.0 / 8.0, 32.0
# What leaves is held to this part of the tolerance, of what runs there: outlets are looked at any
# time, and within a step its polynomial is of lower order than at the end.
OUTLETS = 1.0 / 8.0
# An outlet with less than this part of what goes through the train runs dry: it has no purity.
DRY = 1e-9
# Newton: part of the tolerance that may be left, how far unknowns may be from their equations at
# the guess, steps, and what a step becomes if it fails.
LEFT = 1.0 / 64.0
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
    [.../s] of what is in the train at ``t`` (of carriers alone where the rest is found with the
    next step), and the stages of the step before (``past``, with the changes of the unknowns in it
    and its length, which is zero after a break)."""

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
    past_u: Array = field(default_factory=lambda: np.zeros((0, 0)))
    past_h: float = 0.0
    most: Array = field(default_factory=lambda: np.zeros((0, 0, 0)))
    leaving: Array = field(default_factory=lambda: np.zeros((0, 0)))

    ARRAYS = ("y", "u", "rate", "past", "past_u", "most", "leaving")


@dataclass(slots=True)
class Step:
    """An accepted step from ``t`` of length ``h``: states and unknowns at its ends and in between;
    ``leaving`` (P, K) at the beginning, ``kernel`` at the end."""

    t: float
    h: float
    y: Array
    y_new: Array
    u: Array
    leaving: Array
    solved: Stages
    kernel: Kernel

    @property
    def flows(self) -> Array:
        """What leaves at the stages (S, P, K)."""
        return self.solved.flows

    def at(self, s: Array) -> tuple[Array, Array]:
        """States and unknowns at t + s h, s (T,).

        By the step's polynomial, less what it errs by on the way: that is a known polynomial in
        proportion to the error estimate, and zero at both ends.
        """
        part = s[:, None] ** np.arange(1, STAGES + 1) @ radau.method().bend
        u = (part @ self.solved.moved_u.reshape(STAGES, -1)).reshape(s.size, *self.u.shape)
        errs = np.zeros(s.size)
        for each in radau.method().beyond[::-1].tolist():
            errs = (errs + each) * s
        error = np.outer(errs, self.solved.errors(self.leaving))
        return self.y + part @ self.solved.moved() - error, self.u + u


# Gives the kernel at a time, and whether it stays the same until the end of the stretch.
Kernels = Callable[[float], Kernel]


def scale(kernel: Kernel, memory: Memory, y: Array, options: Options) -> Array:
    """Tolerance of every state in the train (inner,), as the norm takes it.

    What is washed out of a stage is not followed to nothing: its tolerance has a floor, a part of
    the most the stage has held so far.
    """
    lay = kernel.lay
    out = np.abs(y[: lay.inner])
    layers = out.reshape(-1, lay.n, lay.k)
    held = (out.reshape(-1, lay.k) @ kernel.counted).reshape(-1, lay.n, 1)
    if not memory.most.size:
        # A stage that holds nothing yet is measured by a little of what others hold, or, in a train
        # that is empty, of what is fed while mixers are passed.
        most = held.max()
        if most == 0.0:
            passed = (kernel.va + kernel.vo) / (kernel.qa + kernel.qo)
            most = kernel.fed @ kernel.counted * passed.max()
        held = np.maximum(held, FIRST * most)
    memory.most = np.maximum(memory.most, held) if memory.most.size else held
    if lay.bypass:
        # What passes by is measured by what its mixer holds.
        memory.most[1] = memory.most[0]
    layers += memory.most * (options.floor * kernel.counted)
    if kernel.t:
        out += np.finfo(float).tiny
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
    moving = bool(kernel.t)
    weight = scale(kernel, memory, memory.y, options)
    if fresh or memory.h <= 0:
        memory.past_h = 0.0
        kernel.moving = bool(kernel.t)
        found = kernel.contents(memory.y, memory.u)
        memory.u, memory.contraction = found.u, 1.0
        memory.rate, exits = kernel.changes(memory.y, found)
        memory.leaving = kernel.leaving(memory.y, exits)
        if not options.as_given:
            memory.h = _first(kernel, memory, options, until)
    # The stages of a step that was solved, but too long.
    tried: Past | None = None
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
        solved = _solve(kernels, kernel, memory, h, weight, options, constant, tried)
        if solved is None:
            tried = None
            # Unknowns at the beginning that are too far off stay so in a shorter step.
            memory.u = _settled(kernel, memory)
            memory.rejected += 1
            memory.failed = True
            memory.h = h * RETRY
            if not memory.h > np.finfo(float).eps * max(abs(memory.t), h):
                raise _stuck(kernel, memory, options, "steps became too short")
            continue
        solved.finish()
        y_new = solved.reached()
        after = kernel if constant else kernels(until if last else memory.t + h)
        weight_new = scale(after, memory, y_new, options)
        error = 1.0
        if not options.as_given:
            inside = solved.size(np.maximum(weight, weight_new))
            error = max(inside, _at_outlets(kernel, memory, solved, options))
        if not error <= 1.0:
            memory.rejected += 1
            memory.failed = True
            factor = SHRINK if not np.isfinite(error) else max(SHRINK, SAFETY * error**-exponent)
            memory.h = h * factor
            tried = replace(solved.past(), begun=True)
            if not memory.h > np.finfo(float).eps * max(abs(memory.t), h):
                raise _stuck(kernel, memory, options, "steps became too short")
            continue
        factor = min(GROW, SAFETY * max(error, np.finfo(float).tiny) ** -exponent)
        if memory.failed:
            factor = min(factor, 1.0)
        if seen is not None:
            taken = Step(
                t=memory.t, h=h, y=memory.y, y_new=y_new, u=memory.u, leaving=memory.leaving,
                solved=solved, kernel=after,
            )  # fmt: skip
        memory.t = until if last else memory.t + h
        memory.y, weight = y_new, weight_new
        near = CLOSE if options.as_given else ROUGH
        memory.u, memory.rate = solved.ended(after, y_new, near)
        memory.leaving = solved.flows[-1]
        past = solved.past()
        memory.past, memory.past_u, memory.past_h = past.z, past.u, past.h
        tried = None
        # A step cut short by the end of a stretch says nothing about the next one.
        if options.as_given:
            factor = 1.0
        memory.h = max(h * factor, planned) if h < planned else h * factor
        memory.failed = False
        memory.steps += 1
        kernel = after
        if seen is not None:
            seen(taken)


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
    tried: Past | None,
) -> Stages | None:
    """The stages of a step by Newton's method, or None if it does not get there."""
    method = radau.method()
    close = CLOSE if options.as_given else min((LEFT * options.rtol) ** 0.5, ROUGH)
    target = 1e-6 if options.as_given else LEFT
    past = tried
    if past is None and memory.past_h > 0.0:
        past = Past(memory.past, memory.past_u, memory.past_h)
    kind = PlainStages if constant and kernel.one_way else Stages
    at = [kernel] if constant else [kernels(memory.t + s * h) for s in method.nodes]
    step = kind(at, memory.y, memory.u, memory.rate, h, past, weight)
    before = 0.0
    contraction = max(memory.contraction, np.finfo(float).eps) ** 0.5
    for k in range(ROUNDS):
        try:
            slack = step.evaluate(ROUGH if k else BEGIN)
        except ConvergenceError:
            if k or not np.any(step.z):
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


def _at_outlets(kernel: Kernel, memory: Memory, solved: Stages, options: Options) -> float:
    """Error of what leaves in the end, in tolerances of all that runs there; what trickles is
    followed to a part of the strongest outlet.

    What is fed, or went in or out so far in the mean, sets an end to that: in a train without metal
    outlets rise from nothing and through hundreds of powers of ten, and in one washed out they fall
    for ever.
    """
    c, products = kernel.c, kernel.products
    runs = np.maximum(solved.flows[-1, :, :c] @ products, memory.leaving[:, :c] @ products)
    through = kernel.fed[:c] @ products
    if memory.t > 0.0:
        *out, fed = memory.y[kernel.lay.inner :].reshape(-1, kernel.lay.k)[:, :c] @ products
        through = max(through, fed / memory.t, sum(out) / memory.t)
    runs = np.maximum(runs, max(options.floor * runs.max(initial=0.0), DRY * through))
    wrong = (np.abs(solved.error_leaving[:, :c]) * products).max(axis=1, initial=0.0)
    some = runs > 0.0
    if not some.any():
        return 0.0
    return float((wrong[some] / runs[some]).max()) / (OUTLETS * options.rtol)


def _settled(kernel: Kernel, memory: Memory) -> Array:
    """The unknowns at the beginning of a step, from the contents alone if need be."""
    try:
        return kernel.contents(memory.y, memory.u).u
    except ConvergenceError:
        return memory.u


def _moving(kernel: Kernel, rate: Array) -> bool:
    """Whether any carrier still changes."""
    passing = np.abs(kernel.fed[kernel.c :]) + np.finfo(float).tiny
    rows = rate.reshape(kernel.lay.inner // kernel.lay.k, -1)
    return bool((np.abs(rows[:, -kernel.t :]) > STILL * passing).any())


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
    weight = np.maximum(scale(kernel, memory, memory.y, options), np.finfo(float).tiny)
    try:
        rate = kernel.changes(memory.y, kernel.contents(memory.y, memory.u))[0]
    except ConvergenceError as error:
        stage = error.trace.stage if error.trace is not None and error.trace.stage else 1
    else:
        stage = int(np.argmax(kernel.lay.parts(np.abs(rate) / weight)[0].max(axis=1))) + 1
    return ConvergenceError(
        f"the run stopped: {what}; the contents of stage {stage} change fastest",
        trace=Trace(
            equation="contents of the mixers",
            stage=stage,
            advice="look at what is scheduled there and then; a larger time.tolerance takes fewer "
            "and longer steps",
        ),
    )
