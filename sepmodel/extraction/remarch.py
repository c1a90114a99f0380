"""A circuit simulated again from its numbers alone: stage to stage, by code nothing else uses.

Given only stages, flows, feed and extractabilities, each round marches every element from the
raffinate up and from the organic product down to the feed stage with the distribution ratios of the
round before; where the marches meet, the element's outlets follow (Thiele and Geddes). One factor
common to all elements gives the product its flow (Holland's theta), and the compositions so found
give the next ratios; Anderson's mixing of the last rounds saves most of them. Marches run in
logarithms and never subtract, so that traces and long circuits keep their digits.

The design's own calculation (``ends``, ``cascade``) is Newton's method on powers of matrices and on
all stages together; nothing of it is used here, neither its code nor its solution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, Trace

Array = NDArray[np.float64]

# Rounds end when no ratio moves by more than this part, or after so many; what counts as solved.
TOLERANCE = 1e-11
ROUNDS = 64
ACCEPT = 1e-8
# Steps in which the extractabilities are brought in, one way after the other; what does between.
WAYS = (1, 16, 64)
ROUGH = 0.5
# Rounds that are mixed.
MIXED = 6
# Steps of the common factors' search, and the longest of them.
STEPS = 100
LONGEST = 8.0
# The two calculations of a design agree to this part of every outlet's flow of every element...
AGREE = 1e-6
# ... that is more than this part of the feed.
COUNTS = 1e-12


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Remarched:
    """Outlets (C,) of a circuit simulated again, in how many rounds, and its largest move at the
    end; ``draw`` is zero without one."""

    raffinate: Array
    organic: Array
    draw: Array
    rounds: int
    error: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Line:
    """Totals of every stage from the raffinate up, (N,): aqueous and organic leaving it, part of
    the organic that passes it, what remains for equilibrium, drawn parts of both phases."""

    log_a: Array
    feed: Array
    n: int
    phase: str
    aqueous: Array
    passed: Array
    rest: Array
    off_aq: Array
    off_org: Array
    at: int
    taken: float
    product: float


def remarch(
    extractability: Array,
    feed: Array,
    solvent: float,
    scrub: float,
    n: int,
    m: int,
    feed_phase: str = "aqueous",
    efficiency: float = 1.0,
    draw: tuple[int, str, float] | None = None,
) -> Remarched:
    """Outlets of a circuit of n extraction (feed stage included) and m scrub stages.

    Parameters
    ----------
    extractability, feed
        a and f of each component, shape (C,).
    draw
        stage (from 1, at the raffinate), phase and flow of a side draw.

    Raises
    ------
    ConvergenceError
        when the rounds do not settle.

    >>> found = remarch(np.array([1.0, 2.0]), np.array([0.5, 0.5]), 1.7086449, 1.2081944, 24, 21)
    >>> (found.organic / found.organic.sum()).round(6).tolist()
    [0.001007, 0.998993]
    """
    line = _line(extractability, feed, solvent, scrub, n, m, feed_phase, efficiency, draw)
    rounds = 0
    for steps in WAYS:
        # Where the rounds run in circles the elements are parted step by step.
        level = np.log(line.rest / line.aqueous)
        for step in range(1, steps + 1):
            closer = replace(line, log_a=step / steps * line.log_a)
            found, level = _settled(closer, level, TOLERANCE if step == steps else ROUGH)
            rounds += found.rounds
        if found.error <= ACCEPT:
            return replace(found, rounds=rounds)
    raise ConvergenceError(
        f"the circuit's second simulation does not settle: it still moves by {found.error:.1e}",
        trace=Trace(equation="stage-to-stage march"),
    )


def _settled(line: _Line, level: Array, tolerance: float) -> tuple[Remarched, Array]:
    """Rounds from a level of every stage until it moves no more than ``tolerance``."""
    levels: list[Array] = []
    moves: list[Array] = []
    count = 0
    for _ in range(ROUNDS):
        r, d, q, compositions, factor = _round(line, level)
        leaned = np.logaddexp.reduce(compositions + line.log_a, axis=1)
        move = np.log(line.rest / line.aqueous) - leaned - level
        error = max(float(np.abs(move).max()), factor)
        count += 1
        if not error > tolerance:
            break
        levels, moves = [*levels[-MIXED:], level], [*moves[-MIXED:], move]
        level = _mixed(levels, moves)
    return Remarched(raffinate=r, organic=d, draw=q, rounds=count, error=error), level


def difference(found: Remarched, feed: Array, outlets: Mapping[str, Array]) -> float:
    """Largest difference of any element's flow in any outlet, as a part of that flow.

    ``outlets``: raffinate, organic and, where there is one, draw, (C,). What is less than
    ``COUNTS`` of the feed is compared as that.
    """
    worst = 0.0
    for name, flows in outlets.items():
        again = getattr(found, name)
        worst = max(worst, float(np.max(np.abs(again - flows) / np.maximum(flows, COUNTS * feed))))
    return worst


def agree(worst: float) -> float:
    """``worst``, where both calculations say the same.

    Raises
    ------
    ConvergenceError
        when they contradict one another: such a design is not reported.
    """
    if not worst <= AGREE:
        raise ConvergenceError(
            f"two independent calculations of the design differ by {worst:.1e} of an outlet's flow",
            trace=Trace(equation="stage-to-stage march"),
        )
    return worst


def _line(
    extractability: Array,
    feed: Array,
    solvent: float,
    scrub: float,
    n: int,
    m: int,
    feed_phase: str,
    efficiency: float,
    draw: tuple[int, str, float] | None,
) -> _Line:
    """What every stage carries in all, from the balances of totals."""
    stages = n + m
    at, taken_from, taken = (0, "", 0.0) if draw is None else draw
    fed = float(feed.sum())
    k = np.arange(1, stages + 1)
    organic = np.full(stages, float(solvent))
    if feed_phase == "organic":
        organic[k >= n] += fed
    if taken_from == "organic":
        organic[k > at] -= taken
    organic[-1] -= scrub
    product = float(organic[-1]) - (taken if taken_from == "organic" and at == stages else 0.0)
    below = np.concatenate([[0.0], organic[:-1]])
    aqueous = fed - product - taken + below - np.where(k > n, fed, 0.0)
    if taken_from == "aqueous":
        aqueous[k >= at] += taken
    elif taken_from == "organic":
        aqueous[k > at + 1] += taken
    off_aq, off_org = np.zeros(stages), np.zeros(stages)
    if taken_from == "aqueous":
        off_aq[at - 1] = taken / aqueous[at - 1]
    elif taken_from == "organic":
        off_org[at - 1] = taken / organic[at - 1]
    entering = below * (1 - np.concatenate([[0.0], off_org[:-1]]))
    if feed_phase == "organic":
        entering[n - 1] += fed
    with np.errstate(divide="ignore"):
        passed = np.where(entering > 0, (1 - efficiency) * np.minimum(1.0, organic / entering), 0.0)
    return _Line(
        log_a=np.log(extractability) - 0.5 * np.log(extractability[0] * extractability[-1]),
        feed=feed,
        n=n,
        phase=feed_phase,
        aqueous=aqueous,
        passed=passed,
        rest=organic - passed * entering,
        off_aq=off_aq,
        off_org=off_org,
        at=at,
        taken=float(taken),
        product=product,
    )


def _round(line: _Line, level: Array) -> tuple[Array, Array, Array, Array, float]:
    """Raffinate, organic product, draw, ln compositions of the aqueous (N, C), and the largest
    factor (ln).

    ``level``: ln of organic at equilibrium over a times aqueous, of each stage, (N,).
    """
    gain = level[:, None] + line.log_a
    low_x, low_y, low_q, low_from = _upward(line, gain)
    high_x, high_y, high_q, high_from = _downward(line, gain)
    # Both marches hold the feed stage: per raffinate below, per organic product above.
    meet = low_y[-1] - high_y[-1] if line.phase == "aqueous" else low_x[-1] - high_x[-1]
    ratios = np.stack([meet, np.logaddexp(low_q, meet + high_q)])
    by_product, by_draw = _factors(line, ratios)
    log_r, log_d, log_q = _shares(line, ratios, np.array([by_product, by_draw]))
    # Between draw and feed the draw goes by as well, and takes its own factor.
    low_x[low_from:] += np.logaddexp(0.0, low_q + by_draw) - np.logaddexp(0.0, low_q)
    more = by_draw - by_product
    high_x[high_from:] += np.logaddexp(0.0, high_q + more) - np.logaddexp(0.0, high_q)
    # The march down reaches the feed stage too, which is told once.
    inside = np.concatenate([low_x + log_r, high_x[:-1][::-1] + log_d])
    inside -= np.logaddexp.reduce(inside, axis=1)[:, None]
    moved = max(abs(by_product), abs(by_draw))
    return np.exp(log_r), np.exp(log_d), np.exp(log_q), inside, moved


def _upward(line: _Line, gain: Array) -> tuple[Array, Array, Array, int]:
    """ln aqueous and organic leaving stages 1 to n and the draw among them, per raffinate, and
    where in this order the stages beyond the draw begin."""
    count, c = line.n, gain.shape[1]
    keep_aq, keep_org = np.log1p(-line.off_aq), np.log1p(-line.off_org)
    passed = _ln(line.passed)
    x, y = np.empty((count, c)), np.empty((count, c))
    x[0] = -keep_aq[0]
    y[0] = gain[0] + x[0]
    # Aqueous enters a stage with what leaves below: organic, raffinate and, beyond it, the draw.
    leaving, drawn = np.zeros(c), np.full(c, -np.inf)
    joined = min(line.at + int(line.off_org.any()), count) if line.at else count
    for start, stop, beyond in ((1, joined, False), (joined, count, True)):
        if beyond and 0 < line.at < count + int(line.off_aq.any()):
            drawn = _drawn(line, line.at - 1, x[line.at - 1], y[line.at - 1])
            leaving = np.logaddexp(leaving, drawn)
        if start < stop:
            k = slice(start, stop)
            up = gain[k] - keep_aq[k, None]
            through = (passed[k] + keep_org[start - 1 : stop - 1])[:, None]
            factor = np.logaddexp(through, up)
            y[start - 1 : stop] = _chain(factor, up + leaving, y[start - 1])
            x[k] = np.logaddexp(y[start - 1 : stop - 1], leaving) - keep_aq[k, None]
    return x, y, drawn, joined


def _downward(line: _Line, gain: Array) -> tuple[Array, Array, Array, int]:
    """The same of stages N to n, in this order, per organic product."""
    stages, c = gain.shape
    count = stages - line.n + 1
    gain, keep_org = gain[::-1], np.log1p(-line.off_org)[::-1]
    passed = line.passed[::-1, None]
    both = np.logaddexp(gain, _ln(passed))
    x, y = np.empty((count, c)), np.empty((count, c))
    y[0] = -keep_org[0]
    # Organic enters a stage with what leaves above: aqueous, product and, beyond it, the draw.
    leaving, drawn = np.zeros(c), np.full(c, -np.inf)
    place = stages - line.at
    joined = min(place + int(line.off_aq.any()), count) if line.at else count
    for start, stop, beyond in ((0, joined, False), (joined, count, True)):
        if beyond and joined < count:
            drawn = _drawn(line, line.at - 1, x[place], y[place])
            leaving = np.logaddexp(leaving, drawn)
        if start < stop:
            last = min(stop, count - 1)
            if start < last:
                factor = -both[start:last] - keep_org[start + 1 : last + 1, None]
                source = gain[start:last] + leaving + factor
                y[start : last + 1] = _chain(factor, source, y[start])
            k = slice(start, stop)
            # Of the organic leaving, what passed by is not in equilibrium.
            by = passed[k] * np.exp(leaving - y[k])
            x[k] = y[k] + np.log1p(-by) - both[k]
    return x, y, drawn, joined


def _drawn(line: _Line, k: int, x: Array, y: Array) -> Array:
    """ln of what the draw takes of what leaves its stage."""
    return np.asarray(np.logaddexp(_ln(line.off_aq[k]) + x, _ln(line.off_org[k]) + y))


def _chain(factor: Array, source: Array, start: Array) -> Array:
    """ln u of u' = exp(factor) u + exp(source), from the start on, (K + 1, C)."""
    grown = np.concatenate([np.zeros((1, len(start))), np.cumsum(factor, axis=0)])
    parts = np.concatenate([start[None], source - grown[1:]])
    return np.asarray(grown + np.logaddexp.accumulate(parts, axis=0))


def _shares(line: _Line, ratios: Array, factors: Array) -> tuple[Array, Array, Array]:
    """ln raffinate, product and draw of ln(product/raffinate) and ln(draw/raffinate), (2, C)."""
    product, draw = ratios + factors[:, None]
    log_r = np.log(line.feed) - np.logaddexp(np.logaddexp(0.0, product), draw)
    return log_r, log_r + product, log_r + draw


def _factors(line: _Line, ratios: Array) -> tuple[float, float]:
    """ln of the factors on all elements' ratios that give product and draw their flows.

    The flows are the slopes of a convex function of both; its least point is found by Newton's
    steps, cut to what lowers it.
    """
    wanted = np.array([line.product, line.taken])
    kinds = 2 if line.taken > 0 else 1

    def look(at: Array) -> tuple[float, Array, Array]:
        """The function, its slopes, and the flows."""
        log_r, *others = _shares(line, ratios, at)
        flows = np.exp(np.stack(others[:kinds]))
        height = -float(line.feed @ log_r) - float(wanted[:kinds] @ at[:kinds])
        return height, flows.sum(axis=1) - wanted[:kinds], flows

    at = np.zeros(2)
    height, slope, flows = look(at)
    for _ in range(STEPS):
        if np.abs(slope).max() <= 4 * np.finfo(float).eps * line.feed.sum():
            break
        bend = np.diag(flows.sum(axis=1)) - (flows / line.feed) @ flows.T
        # Where nothing is shared the function is flat: a bend of its own.
        bend += np.finfo(float).tiny * np.eye(kinds)
        step = np.clip(np.linalg.solve(bend, -slope), -LONGEST, LONGEST)
        part, norm, low = 1.0, float(np.abs(slope).max()), height
        while part > TOLERANCE:
            trial = at.copy()
            trial[:kinds] += part * step
            height, slope, flows = look(trial)
            # Near the least point the slope still tells what the height cannot.
            if height < low or np.abs(slope).max() < norm:
                break
            part *= 0.5
        else:
            break
        at = trial
    return float(at[0]), float(at[1])


def _mixed(levels: list[Array], moves: list[Array]) -> Array:
    """The next levels: Anderson's combination of the last rounds whose moves cancel best."""
    level, move = levels[-1], moves[-1]
    if len(levels) == 1:
        return level + move
    by_level = np.diff(np.array(levels), axis=0).T
    by_move = np.diff(np.array(moves), axis=0).T
    part, *_ = np.linalg.lstsq(by_move, move, rcond=TOLERANCE)
    return np.asarray(level + move - (by_level + by_move) @ part)


def _ln(values: Array | float) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.asarray(values)))
