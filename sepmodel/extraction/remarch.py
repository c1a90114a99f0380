"""A circuit simulated again from its numbers alone: stage to stage, by code nothing else uses.

Given only stages, flows, feed and extractabilities, each round marches every element from the
raffinate up and from the organic product down to the feed stage with the distribution ratios of the
round before; where the marches meet, the element's outlets follow (Thiele and Geddes). One factor
common to all elements gives the product its flow (Holland's theta), and the compositions so found
give the next ratios; Anderson's mixing of the last rounds saves most of them. Marches run in
logarithms and never subtract, so that traces and long circuits keep their digits.

Near a pinch hundreds of stages are alike and the rounds creep or run in circles. Then only what
leaves is unknown: from given outlets both marches take their ratios as they go (Sorel), a round
with these ratios tells by how much the outlets are off, and Newton's steps, for two elements a
bracket, close that.

The design's own calculation (``ends``, ``cascade``) is Newton's method on powers of matrices and on
all stages together; nothing of it is used here, neither its code nor its solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
# Two elements part by so much (ln) at most; differences in ln of Newton's steps, the shortest step.
WIDEST = 512.0
SMALL = 1e-6
SHORTEST = 1e-4
# What a flow told in double precision leaves open, in units of rounding of all that flows.
ROUNDINGS = 16
# The two calculations of a design agree to this part of every outlet's flow of every element...
AGREE = 1e-6
# ... that is more than this part of the feed.
COUNTS = 1e-12


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Remarched:
    """Outlets (C,) of a circuit simulated again, in how many rounds, and its largest move at the
    end; ``draw`` is zero without one. ``rounding`` is the part of a flow that the circuit's own
    totals, told in double precision, leave open."""

    raffinate: Array
    organic: Array
    draw: Array
    rounds: int
    error: float
    rounding: float = 0.0


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
    rounding = float(ROUNDINGS * np.finfo(float).eps * (solvent + feed.sum()))
    rounds = 0
    for steps in WAYS:
        # Where the rounds run in circles the elements are parted step by step.
        level = np.log(line.rest / line.aqueous)
        for step in range(1, steps + 1):
            closer = replace(line, log_a=step / steps * line.log_a)
            found, level = _settled(closer, level, TOLERANCE if step == steps else ROUGH)
            rounds += found.rounds
        if not found.error <= ACCEPT:
            found = _ended(line, found)
            rounds += found.rounds
        if found.error <= ACCEPT:
            return replace(found, rounds=rounds, rounding=rounding)
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
    return _told(r, d, q, count, error), level


def _told(log_r: Array, log_d: Array, log_q: Array, rounds: int, error: float) -> Remarched:
    return Remarched(
        raffinate=np.exp(log_r),
        organic=np.exp(log_d),
        draw=np.exp(log_q),
        rounds=rounds,
        error=error,
    )


def _ended(line: _Line, near: Remarched) -> Remarched:
    """The outlets themselves sought, from those the rounds came to."""
    kinds = 2 if line.taken > 0 else 1
    log_r, log_d, log_q = _ln(near.raffinate), _ln(near.organic), _ln(near.draw)
    start = np.nan_to_num(np.stack([log_d, log_q])[:kinds] - log_r, posinf=WIDEST, neginf=-WIDEST)
    rounds = 0
    least = _told(log_r, log_d, log_q, 0, np.inf)

    def off(at: Array) -> Array:
        """What a round moves ln of product and draw over raffinate by, (kinds, C)."""
        nonlocal rounds, least
        rounds += 1
        with np.errstate(all="ignore"):
            level = _levels(line, at)
            log_r, log_d, log_q, inside, _ = _round(line, level)
            leaned = np.logaddexp.reduce(inside + line.log_a, axis=1)
            stages = np.log(line.rest / line.aqueous) - leaned - level
        move = np.stack([log_d, log_q])[:kinds] - log_r - at
        # What leaves is right when every stage is.
        error = max(float(np.abs(move).max()), float(np.abs(stages).max()))
        if error < least.error:
            least = _told(log_r, log_d, log_q, 0, error)
        return np.asarray(move)

    if start.size == 2:
        _bracket(line, off)
    else:
        _newton(off, start)
    return replace(least, rounds=rounds)


def _bracket(line: _Line, off: Callable[[Array], Array]) -> None:
    """Two elements: the further they are parted, the less the stages would part them."""

    def over(apart: float) -> float:
        at = np.array([[-0.5 * apart, 0.5 * apart]])
        at[0] += _factors(line, np.concatenate([at, at - WIDEST]))[0]
        move = off(at)[0]
        value = float(move[1] - move[0])
        # Beyond what can be marched they are too far apart.
        return value if np.isfinite(value) else -np.inf

    low, high = 0.0, 1.0
    while high < WIDEST and over(high) > 0:
        low, high = high, 2.0 * high
    # Half of what is left, as long as halves differ.
    while low < (middle := 0.5 * (low + high)) < high:
        low, high = (middle, high) if over(middle) > 0 else (low, middle)


def _newton(off: Callable[[Array], Array], at: Array) -> None:
    """Steps in ln of what leaves, cut until they better it."""
    value = off(at)
    for _ in range(ROUNDS):
        error = float(np.abs(value).max())
        if not TOLERANCE < error < np.inf:
            return
        slopes = np.empty((at.size, at.size))
        for k in range(at.size):
            moved = at.copy()
            moved.flat[k] += SMALL
            slopes[:, k] = (off(moved) - value).ravel() / SMALL
        if not np.isfinite(slopes).all():
            return
        step, *_ = np.linalg.lstsq(slopes, -value.ravel(), rcond=TOLERANCE)
        step = np.clip(step, -LONGEST, LONGEST).reshape(at.shape)
        part = 1.0
        while part > SHORTEST:
            trial = at + part * step
            tried = off(trial)
            if np.abs(tried).max() < error:
                break
            part *= 0.5
        else:
            return
        at, value = trial, tried


def _levels(line: _Line, at: Array) -> Array:
    """The level of every stage, (N,), as both marches find it on their way from given outlets.

    ``at``: ln of product and, with a draw, of draw over raffinate, (kinds, C).
    """
    stages, n = len(line.aqueous), line.n
    gone = np.full(at.shape[1], -np.inf)
    log_r, log_d, _ = _shares(line, np.stack([at[0], at[1] if len(at) > 1 else gone]), np.zeros(2))
    keep_aq, keep_org = np.log1p(-line.off_aq), np.log1p(-line.off_org)
    passed, whole = _ln(line.passed), np.log(line.rest / line.aqueous)
    after = line.at + int(line.off_org.any())
    level = np.empty(stages)
    leaving, drawn, y = log_r, gone, gone
    for k in range(n):
        if line.at and k == after:
            leaving = np.logaddexp(leaving, drawn)
        x = np.logaddexp(y, leaving) - keep_aq[k]
        level[k] = whole[k] + _sum(x) - _sum(x + line.log_a)
        stays = passed[k] + keep_org[k - 1] + y if k else gone
        y = np.logaddexp(stays, level[k] + line.log_a + x)
        if k == line.at - 1:
            drawn = _drawn(line, k, x, y)
    leaving, drawn, x = log_d, gone, gone
    # An organic draw is part of what its own stage's entering organic brings.
    after = line.at - 1 - int(line.off_aq.any())
    # An organic feed enters above: its stage is told by the march down.
    for k in range(stages - 1, n - 1 - int(line.phase == "organic"), -1):
        y = np.logaddexp(x, leaving) - keep_org[k]
        if k == line.at - 1 and line.off_org.any():
            drawn = _drawn(line, k, gone, y)
        if line.at and k == after:
            leaving = np.logaddexp(leaving, drawn)
        held = y + np.log1p(-np.exp(np.minimum(passed[k] + leaving - y, -SMALL)))
        level[k] = _level(line, k, held)
        x = held - np.logaddexp(level[k] + line.log_a, passed[k])
        if k == line.at - 1:
            drawn = _drawn(line, k, x, y)
    return level


def _level(line: _Line, k: int, held: Array) -> float:
    """The level at which a stage's aqueous is what its total says, by Newton's steps."""
    passed, wanted = float(line.passed[k]), float(np.log(line.aqueous[k]))
    at = _sum(held - line.log_a) - wanted
    if passed == 0.0:
        return at
    for _ in range(STEPS):
        parts = held - np.logaddexp(at + line.log_a, np.log(passed))
        total = _sum(parts)
        held_back = 1.0 + passed * np.exp(-at - line.log_a)
        falls = max(float(np.sum(np.exp(parts - total) / held_back)), SMALL)
        step = float(np.clip((total - wanted) / falls, -LONGEST, LONGEST))
        at += step
        if abs(step) < TOLERANCE * SMALL:
            break
    return at


def _sum(logs: Array) -> float:
    return float(np.logaddexp.reduce(logs))


def difference(found: Remarched, feed: Array, outlets: Mapping[str, Array]) -> float:
    """Largest difference of any element's flow in any outlet, as a part of that flow.

    ``outlets``: raffinate, organic and, where there is one, draw, (C,). What is less than
    ``COUNTS`` of the feed is compared as that, and what the rounding of the totals leaves open
    is no difference.
    """
    worst = 0.0
    for name, flows in outlets.items():
        off = np.maximum(np.abs(getattr(found, name) - flows) - found.rounding, 0.0)
        worst = max(worst, float(np.max(off / np.maximum(flows, COUNTS * feed))))
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
    """ln of raffinate, organic product and draw, of the aqueous compositions (N, C), and the
    largest factor (ln).

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
    return log_r, log_d, log_q, inside, moved


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

    def look(at: Array) -> tuple[float, Array, Array, float]:
        """The function, its slopes, how they bend, and what the slopes are differences of."""
        logs = _shares(line, ratios, at)
        height = -float(line.feed @ logs[0]) - float(wanted[:kinds] @ at[:kinds])
        r, d, q = np.exp(np.stack(logs))
        # The product is what strays into it less what strays from it, beside the elements that
        # belong there: strays keep their digits whatever the feed.
        own = d > r + q
        strays = [*d[~own].tolist(), *(-(r + q)[own]).tolist()]
        slope = np.array(
            [
                math.fsum([*strays, *line.feed[own].tolist(), -line.product]),
                float(q.sum()) - line.taken,
            ]
        )[:kinds]
        between = -float((d * q / line.feed).sum())
        bend = np.array(
            [
                [float((d * (r + q) / line.feed).sum()), between],
                [between, float((q * (r + d) / line.feed).sum())],
            ]
        )[:kinds, :kinds]
        size = math.fsum(abs(s) for s in strays) if kinds == 1 else float(line.feed.sum())
        return height, slope, bend, size

    at = np.zeros(2)
    height, slope, bend, size = look(at)
    for _ in range(STEPS):
        if np.abs(slope).max() <= 4 * np.finfo(float).eps * size:
            break
        # Where nothing is shared the function is flat: a bend of its own.
        bend = bend + np.finfo(float).tiny * np.eye(kinds)
        step = np.clip(np.linalg.solve(bend, -slope), -LONGEST, LONGEST)
        part, norm, low = 1.0, float(np.abs(slope).max()), height
        while part > TOLERANCE:
            trial = at.copy()
            trial[:kinds] += part * step
            height, slope, bend, size = look(trial)
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
