"""A mass-action circuit simulated again from its flows alone: stage to stage, with code of its own.

Every round marches each element through extraction and scrub from both ends, once for what the feed
brings and once for what the organic brings, and through the strip from the end where the organic
leaves it; the loop is closed by the sum of one geometric series. That gives the compositions of
every stage. Then one contact of every stage follows from them: the charge the organic carries is
what the acid and the anions of the stage above leave of it, which gives the free dimer, and the
acid that parts the phases in that proportion is found. One factor common to all elements of the
feed keeps the raffinate's charge (Holland's theta). Rounds are mixed (Anderson) until none moves.

``circuit`` solves the same by Newton's method on all stages together; neither its code nor its
solution is used here, only the constants of the exchange.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.errors import ConvergenceError, Trace

Array = NDArray[np.float64]

# Rounds end when no ln of acid or dimer moves by more, or after so many; what counts as solved.
TOLERANCE = 1e-10
ROUNDS = 256
ACCEPT = 1e-7
# Rounds that are mixed.
MIXED = 5
# Parts of the extractant that are bound, and of the anions' charge that is acid, at the start; and
# the least that is left free on the way.
BOUND = 0.5
ACID = 1e-1
LEAST = 1e-4
# Steps of a stage's search for its acid, when it ends, and how far down it looks.
STEPS = 64
FINE = 1e-13
FAR = 100.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Line:
    """A circuit in strict SI: stages of extraction (the feed enters the last), scrub and strip;
    flow [m3/s], metals (C,) and acid [mol/m3] of what enters; ``soap`` (C,) and ``dimer`` [mol/m3]
    of the organic. With strip stages the organic returns, its counter-ion replaced by ``soap``.
    ``efficiency``: the part of every stage's organic that is at equilibrium (Murphree).
    """

    model: CationExchange
    stages: tuple[int, int, int]
    organic: float
    dimer: float
    soap: Array
    feed: tuple[float, Array, float]
    scrub: tuple[float, float]
    strip: tuple[float, float]
    efficiency: float = 1.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Remarched:
    """Outlets (C,) [mol/s]: ``product`` is the strip liquor, without a strip the organic."""

    raffinate: Array
    product: Array
    rounds: int
    error: float


def remarch(line: Line) -> Remarched:
    """Outlets of a circuit of extraction and scrub, or of the whole loop with its strip.

    Raises
    ------
    ConvergenceError
        when the rounds do not settle.

    >>> model = CationExchange(log_k=np.log([2e-3, 4e-3, 1e-3]), charge=np.array([3.0, 3.0, 1.0]),
    ...     dimers=np.array([3.0, 3.0, 1.0]))
    >>> found = remarch(Line(model=model, stages=(6, 4, 0), organic=3e-3, dimer=500.0,
    ...     soap=np.array([0.0, 0.0, 350.0]), feed=(1e-3, np.array([100.0, 100.0, 0.0]), 10.0),
    ...     scrub=(3e-4, 2000.0), strip=(0.0, 0.0)))
    >>> bool(np.allclose(found.raffinate + found.product, [0.1, 0.1, 1.05]))
    True
    """
    n, m, s = line.stages
    flow, metals, acid = line.feed
    charge = line.model.charge
    inside = np.arange(n + m + s)
    aqueous = np.where(inside < n, flow + line.scrub[0], line.scrub[0])
    aqueous = np.where(inside < n + m, aqueous, line.strip[0])
    scrubbed, stripped = (given[0] * given[1] for given in (line.scrub, line.strip))
    brought = flow * (acid + float(metals @ charge)) + scrubbed
    anions = np.where(inside < n, brought, np.where(inside < n + m, scrubbed, stripped))
    state = np.concatenate(
        [np.log(ACID * anions / aqueous), np.full(n + m + s, np.log((1 - BOUND) * line.dimer))]
    )
    states: list[Array] = []
    moves: list[Array] = []
    count, error = 0, np.inf
    while error > TOLERANCE and count < ROUNDS:
        count += 1
        left = float(anions[0] - aqueous[0] * np.exp(state[0]))
        marched = _march(line, _ratios(line, aqueous, state), left)
        move = _contacts(line, aqueous, anions, state, marched) - state
        error = max(float(np.abs(move).max()), abs(marched.factor))
        if error > TOLERANCE:
            states, moves = [*states[-MIXED:], state], [*moves[-MIXED:], move]
            state = _mixed(states, moves)
    if not error <= ACCEPT:
        raise ConvergenceError(
            f"the circuit's second simulation does not settle: it still moves by {error:.1e}",
            trace=Trace(equation="stage-to-stage march by mass action"),
        )
    return Remarched(
        raffinate=np.exp(marched.aqueous[0]),
        product=np.exp(marched.aqueous[n + m] if s else marched.organic[n + m - 1]),
        rounds=count,
        error=error,
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Marched:
    """ln of every element's flow in both phases leaving each stage, (N, C), and what the organic
    brings back (C,) [mol/s]."""

    aqueous: Array
    organic: Array
    returned: Array
    factor: float


def _ratios(line: Line, aqueous: Array, state: Array) -> Array:
    """ln of organic over aqueous flow of every element in every stage, (N, C)."""
    acid, dimer = state.reshape(2, -1, 1) - np.log(C_STANDARD)
    flows = np.log(line.organic / aqueous)[:, None]
    return np.asarray(
        line.model.log_k + line.model.dimers * dimer - line.model.charge * acid + flows
    )


def _march(line: Line, ratio: Array, left: float) -> _Marched:
    """Every element's way through the stages at given ratios; ``left`` is the charge of the metals
    in the raffinate, which one factor on what is fed brings about."""
    n, m, s = line.stages
    c, both = ratio.shape[1], n + m
    flow, metals, _ = line.feed
    with np.errstate(divide="ignore"):
        fed, soap = np.log(flow * metals), np.log(line.organic * line.soap)
    # What passes a stage by and what leaves it at equilibrium, organic over aqueous.
    by = 1.0 - line.efficiency
    gain = ratio + np.log(line.efficiency)
    with np.errstate(divide="ignore"):
        through = np.logaddexp(np.log(by), gain)
    # Per raffinate, organic leaving stages 1 to n; per organic product, organic leaving N to 1.
    up = _chain(gain[0], through[1:n], gain[1:n])
    down = _chain(np.zeros(c), -through[1:both][::-1], (gain - through)[1:both][::-1])[::-1]
    above = down + np.log1p(-by * np.exp(-down)) - through[:both]
    # Of what the organic brings, the part that leaves with it, and the one that stays.
    first = above[0]
    kept, lost = -np.logaddexp(0.0, first), -np.logaddexp(0.0, -first)
    resets = line.soap > 0
    if s:
        # Per organic leaving the strip: organic leaving its stages from the last to what enters.
        strip = _chain(np.zeros(c), -through[both:][::-1], (gain - through)[both:][::-1])[::-1]
        rest = np.where(resets, -np.inf, -strip[0])
    else:
        rest = np.full(c, -np.inf)
    # What returns goes round again: a geometric series.
    series = np.log1p(-np.exp(kept + rest))
    # Of the feed: the marches meet at its stage; the factor sees to the charge in the raffinate.
    meet = up[-1] - down[n - 1]
    weight = fed + np.log(line.model.charge)
    own = left - float(np.exp(soap + lost) @ line.model.charge)
    own -= float(np.exp(weight + rest + lost - series).sum())
    factor = _factor(meet, weight + np.log1p(-np.exp(rest)) - series, own)
    meet = meet + factor
    product = fed - np.logaddexp(0.0, -meet)
    back = product - series + rest
    entering = np.where(resets, soap, back)
    # Aqueous of the feed below its stage, and of all that leaves with the organic above it.
    stays = np.concatenate([np.zeros((1, c)), np.logaddexp(0.0, up[:-1])])
    inside, organic = np.empty((2, len(ratio), c))
    raffinate, passing = fed - np.logaddexp(0.0, meet), entering + kept
    inside[:n] = np.logaddexp(stays + raffinate, above[:n] + passing)
    organic[:n] = np.logaddexp(up + raffinate, down[:n] + passing)
    whole = np.logaddexp(product, passing)
    inside[n:both], organic[n:both] = above[n:] + whole, down[n:] + whole
    if s:
        end = organic[both - 1] - strip[0]
        organic[both:] = strip[1:] + end
        inside[both:] = strip[1:] + np.log1p(-by * np.exp(-strip[1:])) - through[both:] + end
    return _Marched(inside, organic, np.exp(back), factor)


def _contacts(line: Line, aqueous: Array, anions: Array, state: Array, marched: _Marched) -> Array:
    """ln of acid and free dimer of every stage, from the compositions that were marched."""
    n, m, _ = line.stages
    both, charge, dimers = n + m, line.model.charge, line.model.dimers
    flow, metals, _ = line.feed
    one = marched.aqueous - np.logaddexp.reduce(marched.aqueous, axis=1)[:, None]
    other = np.exp(marched.organic - np.logaddexp.reduce(marched.organic, axis=1)[:, None])
    # Charge of the metals in the aqueous is what its acid leaves of the anions; in the organic,
    # what the balance of the stages on one side leaves.
    metal = anions - aqueous * np.exp(state[: len(aqueous)])
    brought = line.organic * float(line.soap @ charge) + float(marched.returned @ charge)
    above = np.append(metal[1:both], 0.0)
    carried = np.empty(len(aqueous))
    carried[:both] = above - metal[0] + brought
    carried[n - 1 : both] += flow * float(metals @ charge)
    most = line.organic * line.dimer
    carried[:both] = np.clip(carried[:both], LEAST * most, None)
    # Where all is stripped differences say nothing: as marched.
    carried[both:] = np.exp(marched.organic[both:]) @ charge
    free = np.maximum(most - carried * (other @ dimers) / (other @ charge), LEAST * most)
    dimer = np.log(free / line.organic)
    # What has passed a stage by is not at equilibrium with its aqueous.
    by = 1.0 - line.efficiency
    before = np.concatenate([[brought], carried[:-1]])
    exchanged = np.maximum(carried - by * before, LEAST * line.efficiency * carried)
    exchanged /= line.efficiency
    acid = _acid(line, aqueous, anions, dimer, one, exchanged)
    return np.concatenate([acid, dimer])


def _acid(
    line: Line, aqueous: Array, anions: Array, dimer: Array, one: Array, carried: Array
) -> Array:
    """ln of the acid at which each stage's organic carries so much charge: a falling function."""
    charge = line.model.charge
    top = np.log(anions / aqueous)
    low, high = top - FAR, top
    weight = np.log(charge) + one
    whole = np.log(carried) + np.logaddexp.reduce(weight, axis=1)
    at = top + np.log(ACID)
    for _ in range(STEPS):
        ratio = _ratios(line, aqueous, np.concatenate([at, dimer]))
        part = ratio + weight
        total = np.logaddexp.reduce(part, axis=1)
        rest = np.maximum(-np.expm1(at - top), np.finfo(float).tiny)
        over = total + np.log(anions * rest) - whole
        low, high = np.where(over > 0, at, low), np.where(over > 0, high, at)
        slope = np.exp(part - total[:, None]) @ charge + np.exp(at - top) / rest
        following = at + over / slope
        inside = (following > low) & (following < high)
        following = np.where(inside, following, 0.5 * (low + high))
        done = np.abs(following - at).max() <= FINE
        at = following
        if done:
            break
    return np.asarray(at)


def _factor(ratio: Array, log_feed: Array, wanted: float) -> float:
    """ln of the factor on all elements' ratios, product over raffinate, that leaves so much in the
    raffinate: a falling function of it; nothing where that cannot be."""
    fed = float(np.exp(log_feed).sum())
    if not LEAST**2 * fed < wanted < (1 - LEAST**2) * fed:
        return 0.0
    low, high = -float(ratio.max()) - FAR, -float(ratio.min()) + FAR
    at = 0.0
    for _ in range(STEPS):
        stays = np.exp(log_feed - np.logaddexp(0.0, ratio + at))
        over = float(stays.sum()) - wanted
        low, high = (at, high) if over > 0 else (low, at)
        slope = float(stays @ np.exp(-np.logaddexp(0.0, -(ratio + at))))
        following = at + over / slope if slope > 0 else np.inf
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - at) <= np.finfo(float).eps * max(1.0, abs(at)):
            break
        at = following
    return at


def _chain(start: Array, factor: Array, source: Array) -> Array:
    """ln u of u' = exp(factor) u + exp(source) from ``start`` on, (K + 1, C)."""
    grown = np.concatenate([np.zeros((1, len(start))), np.cumsum(factor, axis=0)])
    parts = np.concatenate([start[None], source - grown[1:]])
    return np.asarray(grown + np.logaddexp.accumulate(parts, axis=0))


def _mixed(states: list[Array], moves: list[Array]) -> Array:
    """The next state: Anderson's combination of the last rounds whose moves cancel best."""
    state, move = states[-1], moves[-1]
    if len(states) == 1:
        return state + move
    by_state = np.diff(np.array(states), axis=0).T
    by_move = np.diff(np.array(moves), axis=0).T
    part, *_ = np.linalg.lstsq(by_move, move, rcond=TOLERANCE)
    return np.asarray(state + move - (by_state + by_move) @ part)
