"""From product specifications to a circuit: stages of both sections, solvent and scrub.

``design_circuit`` works on the mass-flow model (``docs/theory/mass-flow-cascade.md``):

1. the specifications become the largest amounts of heavier elements in the raffinate and of
   lighter ones in the organic, and with them the flows of both products;
2. bounds: Underwood's least solvent, Fenske's least stages;
3. a grid of solvent flows is marched stage to stage from both ends to the feed, all members at
   once; where the two marches meet, the stages of both sections follow; the objective is
   interpolated over the grid and gives S;
4. the circuit found is solved as a whole by ``cascade.solve``, with its neighbours of one stage
   more or less, and the smallest one that meets every specification is the design.

Marching alone would be exact for two elements; with more, the traces at the far ends are found
by repetition, and step 4, which shares no code with it, decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepmodel import products
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction import cascade, shortcut

Array = NDArray[np.float64]
# Most stages (extraction and scrub) a design may have unless the caller says otherwise.
MOST_STAGES = 1000
# Repetitions of the two marches that settle the traces at the far ends.
_SWEEPS = 3
# Solvent grid: scrub above its minimum by these multiples of the minimum.
_EXCESS = 2.0 ** np.arange(-5, 5)
# Points around the choice, and how far below a whole number of stages the marches must meet.
_AROUND = 2.0 ** (np.arange(-4, 5) / 8)
_MARGIN = 1e-2
# Rounds of the search among neighbouring stage counts, and of tightening the targets.
_ROUNDS = 40
_TIGHTENINGS = 6
# A stage that improves the separation by less than this share is not worth another look.
_GAIN = 1e-2
# A specification counts as met within rounding.
_ROUNDING = 1e-9
# An element below this share of the feed cannot decide how a circuit is built.
_TRACE = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlet:
    """What one outlet of a circuit must be; everything left out is free.

    ``purity``: least share of the outlet's own group of elements; ``recovery``: least share of
    the group's feed that arrives; both on ``basis`` ("oxide-mass" or "mole"). ``limits``: largest
    share of single foreign elements on the same basis. ``foreign``: largest flow [mol/s] of all
    foreign elements together.
    """

    purity: float | None = None
    recovery: float | None = None
    basis: str = "oxide-mass"
    limits: Mapping[str, float] = field(default_factory=dict)
    foreign: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Objective = inventory * S * (n + m) + solvent * S + stages * (n + m), as plain numbers.

    S in mol/s. ``inventory`` weighs what grows with the organic held in the stages, ``solvent``
    what grows with the reagents of one pass, ``stages`` what each stage costs whatever its size.
    """

    inventory: float = 1.0
    solvent: float = 0.0
    stages: float = 0.0

    def __post_init__(self) -> None:
        values = (self.inventory, self.solvent, self.stages)
        if any(not w >= 0 for w in values) or not self.inventory + self.solvent > 0:
            raise InputError(
                Problem(
                    message="weights are not negative, and inventory or solvent counts",
                    key="weights",
                    value=list(values),
                )
            )

    def of(self, solvent: Array | float, stages: Array | float) -> Array:
        """The objective, element by element."""
        s, n = np.asarray(solvent, dtype=float), np.asarray(stages, dtype=float)
        finite = np.isfinite(s) & np.isfinite(n)
        s, n = np.where(finite, s, 0.0), np.where(finite, n, 0.0)
        cost = (self.inventory * s + self.stages) * n + self.solvent * s
        return np.where(finite, cost, np.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitDesign:
    """A two-outlet circuit: ``stages_extraction`` (feed stage included) and ``stages_scrub``,
    ``solvent`` S and ``scrub`` W [mol/s], outlets [mol/s] with what they reach, and bounds.

    ``minimum`` holds Underwood's solvent and scrub and Fenske's stages for the same outlets;
    ``active`` names the specifications that decide; ``iterations`` counts cascade solutions.
    """

    components: tuple[str, ...]
    light: tuple[str, ...]
    heavy: tuple[str, ...]
    feed_phase: str
    stages_extraction: int
    stages_scrub: int
    solvent: float
    scrub: float
    feed: Mapping[str, float]
    raffinate: Mapping[str, float]
    organic: Mapping[str, float]
    purity: Mapping[str, float]
    recovery: Mapping[str, float]
    minimum: Mapping[str, float]
    objective: float
    active: tuple[str, ...]
    iterations: int

    @property
    def stages(self) -> int:
        """Extraction and scrub stages together, n + m."""
        return self.stages_extraction + self.stages_scrub

    @property
    def phi(self) -> float:
        """S (n + m) [mol/s]: proportional to the organic inventory."""
        return self.solvent * self.stages


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Task:
    """A circuit to design: components ascending in extractability a, feed f, cut after ``cut``.

    ``traces``: what is too scarce to decide anything; it leaves with its own group.
    """

    names: tuple[str, ...]
    a: Array
    f: Array
    cut: int
    phase: str
    weights: Weights
    most: int
    raffinate: Outlet
    organic: Outlet
    traces: Mapping[str, float]
    trace_light: tuple[str, ...]

    @property
    def light(self) -> tuple[str, ...]:
        """The group that leaves with the raffinate."""
        return self.names[: self.cut]

    @property
    def heavy(self) -> tuple[str, ...]:
        """The group that leaves with the organic."""
        return self.names[self.cut :]


def design_circuit(
    feed: Mapping[str, float],
    extractability: Mapping[str, float],
    light: Sequence[str],
    *,
    raffinate: Outlet | None = None,
    organic: Outlet | None = None,
    feed_phase: str = "aqueous",
    weights: Weights | None = None,
    solvent: float | None = None,
    most_stages: int = MOST_STAGES,
    exact: bool = True,
) -> CircuitDesign:
    """The circuit of least objective that parts ``light`` from the rest of the feed.

    Parameters
    ----------
    feed
        molar flow [mol/s] of each element; elements of zero flow are left out.
    extractability
        relative extractability of each element (ratios are separation factors).
    light
        the elements that leave with the raffinate: all of them lighter than all others.
    raffinate, organic
        specifications of the two outlets. Each side needs a bound on what reaches it from the
        other: its own purity, limits or ``foreign``, or the recovery of the other outlet.
    solvent
        S [mol/s], when it is given and not to be chosen.
    exact
        False leaves out step 4: stages as marched, and outlets at the specification itself, which
        the whole number of stages surpasses a little.

    Raises
    ------
    InfeasibleError
        with the bound that is violated and the nearest feasible value.

    >>> both = Outlet(purity=0.995, basis="mole")
    >>> found = design_circuit(
    ...     {"Pr": 0.25, "Nd": 0.75}, {"Pr": 1.0, "Nd": 1.5}, ["Pr"], raffinate=both, organic=both
    ... )
    >>> round(found.minimum["stages"], 1), round(found.recovery["organic"], 4)
    (26.1, 0.9984)
    """
    task = _task(
        feed,
        extractability,
        light,
        raffinate or Outlet(),
        organic or Outlet(),
        feed_phase,
        weights or Weights(),
        most_stages,
    )
    own_heavy, own_light = _transfers(task)
    tightened, solved = 1.0, 0
    for _ in range(_TIGHTENINGS):
        stray_heavy, stray_light = tightened * own_heavy, tightened * own_light
        start = _choose(task, stray_heavy, stray_light, solvent)
        if not exact:
            marched = (start.up, start.down, start.raffinate, task.f - start.raffinate)
            return _finished(task, start, marched, 0)
        found, count = _confirm(task, start)
        solved += count
        if found is not None:
            return _finished(task, start, found, solved)
        tightened *= 0.5
    raise InfeasibleError(
        f"no circuit of at most {task.most} stages parts {task.light[-1]} from {task.heavy[0]} "
        "to these specifications",
        limit={"stages": float(task.most)},
        nearest={"solvent": start.solvent, "stages": float(start.up + start.down)},
    )


def design_binary(
    separation_factor: float,
    feed_heavy: float,
    purity_heavy: float,
    purity_light: float,
    *,
    solvent: float | None = None,
    feed_phase: str = "aqueous",
    weights: Weights | None = None,
    most_stages: int = MOST_STAGES,
) -> CircuitDesign:
    """The circuit for two elements, all flows per mole of feed; A is the heavier, B the lighter.

    Parameters
    ----------
    separation_factor
        D(A)/D(B), above 1.
    feed_heavy, purity_heavy, purity_light
        mole fractions: A in the feed, A in the organic, B in the raffinate.

    Raises
    ------
    InfeasibleError
        as ``design_circuit``.

    >>> found = design_binary(2.0, 0.5, 0.999, 0.9999, solvent=1.7086449)
    >>> found.stages_extraction, found.stages_scrub, round(found.scrub, 7)
    (25, 21, 1.2081944)
    """
    return design_circuit(
        {"B": 1 - feed_heavy, "A": feed_heavy},
        {"B": 1.0, "A": separation_factor},
        ["B"],
        raffinate=Outlet(purity=purity_light, basis="mole"),
        organic=Outlet(purity=purity_heavy, basis="mole"),
        feed_phase=feed_phase,
        weights=weights,
        solvent=solvent,
        most_stages=most_stages,
    )


def _task(
    feed: Mapping[str, float],
    extractability: Mapping[str, float],
    light: Sequence[str],
    raffinate: Outlet,
    organic: Outlet,
    phase: str,
    weights: Weights,
    most: int,
) -> _Task:
    """The checked task, components in ascending order of extractability."""
    missing = [e for e in feed if e not in extractability]
    if missing:
        raise InputError(Problem(message="no extractability is known for", value=missing))
    if any(not (f >= 0 and math.isfinite(f)) for f in feed.values()):
        raise InputError(Problem(message="a feed flow is negative or not finite", value=dict(feed)))
    if phase not in ("aqueous", "organic"):
        raise InputError(
            Problem(message="unknown phase", value=phase, expected="aqueous or organic")
        )
    total = sum(feed.values())
    names = sorted((e for e in feed if feed[e] > _TRACE * total), key=lambda e: extractability[e])
    own = [e for e in names if e in light]
    if not own or len(own) == len(names) or names[: len(own)] != own:
        raise InputError(
            Problem(
                message="a circuit parts the lighter elements of its feed from the heavier",
                key="light",
                value=list(light),
                expected=f"the first ones of {', '.join(names)}",
            )
        )
    return _Task(
        names=tuple(names),
        a=np.array([extractability[e] for e in names]) / extractability[names[0]],
        f=np.array([feed[e] for e in names]),
        cut=len(own),
        phase=phase,
        weights=weights,
        most=most,
        raffinate=raffinate,
        organic=organic,
        traces={e: f for e, f in feed.items() if e not in names},
        trace_light=tuple(e for e in feed if e not in names and e in light),
    )


def _transfers(task: _Task) -> tuple[float, float]:
    """Largest flows [mol/s] of heavier elements in the raffinate and lighter in the organic."""
    light = dict(zip(task.light, task.f[: task.cut].tolist(), strict=True))
    heavy = dict(zip(task.heavy, task.f[task.cut :].tolist(), strict=True))
    stray_heavy, stray_light = sum(heavy.values()), sum(light.values())
    for _ in range(_ROUNDS):
        heavy_before, light_before = stray_heavy, stray_light
        stray_heavy = _foreign(task.raffinate, light, heavy, task.heavy[0], light_before)
        stray_heavy = min(stray_heavy, _lost(task.organic, heavy, task.heavy[0]))
        stray_light = _foreign(task.organic, heavy, light, task.light[-1], heavy_before)
        stray_light = min(stray_light, _lost(task.raffinate, light, task.light[-1]))
        moved = abs(stray_heavy - heavy_before) + abs(stray_light - light_before)
        if moved <= _TRACE * min(stray_heavy, stray_light):
            break
    whole = (sum(heavy.values()), sum(light.values()))
    for moved, group, into in (
        (stray_heavy, whole[0], "raffinate"),
        (stray_light, whole[1], "organic"),
    ):
        if not moved < group:
            other = "organic" if into == "raffinate" else "raffinate"
            raise InputError(
                Problem(
                    message=f"nothing keeps the other elements out of the {into}",
                    key=into,
                    expected=f"a purity, limit or foreign of the {into} that its feed does not "
                    f"meet already, or a recovery of the {other}",
                )
            )
        if not moved > 0:
            raise InputError(
                Problem(message="a purity or recovery of exactly one cannot be reached", key=into)
            )
    return stray_heavy, stray_light


def _foreign(
    spec: Outlet,
    own: Mapping[str, float],
    other: Mapping[str, float],
    neighbour: str,
    lost: float,
) -> float:
    """Largest flow of the other group that ``spec`` lets into an outlet, were it all neighbour."""
    own_mass = sum(products.amounts(own, spec.basis).values())
    kept = own_mass * (1 - min(lost / sum(own.values()), 1.0)) if lost < sum(own.values()) else 0.0
    unit = products.amounts({neighbour: 1.0}, spec.basis)[neighbour]
    bounds = [sum(other.values())]
    if spec.foreign is not None:
        bounds.append(spec.foreign)
    shares = [1 - spec.purity] if spec.purity is not None else []
    if neighbour in spec.limits:
        shares.append(spec.limits[neighbour])
    bounds += [(kept or own_mass) * share / (1 - share) / unit for share in shares]
    return min(bounds)


def _lost(spec: Outlet, own: Mapping[str, float], neighbour: str) -> float:
    """Largest flow of the outlet's own group that may be lost, were it all the neighbour."""
    if spec.recovery is None:
        return sum(own.values())
    unit = products.amounts({neighbour: 1.0}, spec.basis)[neighbour]
    return (1 - spec.recovery) * sum(products.amounts(own, spec.basis).values()) / unit


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Start:
    """Where the search among integer stages begins, with the bounds found on the way."""

    solvent: float
    scrub: float
    up: int
    down: int
    raffinate: Array
    organic: Array
    minimum: Mapping[str, float]


def _choose(task: _Task, stray_heavy: float, stray_light: float, solvent: float | None) -> _Start:
    """Solvent by the objective over the grid (or as given), and stages by marching."""
    r, d = _first_split(task, stray_heavy, stray_light)
    organic_total = float(d.sum())
    least = float(shortcut.minimum_solvent(task.a, task.f, d, task.cut, task.phase))
    offset = organic_total - (task.f.sum() if task.phase == "organic" else 0.0)
    if not math.isfinite(least):
        raise InfeasibleError(
            f"{task.light[-1]} and {task.heavy[0]} have the same extractability",
            limit={"separation_factor": 1.0},
        )
    # Loose specifications need no scrub at all; the organic carries the product in any case.
    least = max(least, offset, 0.0)
    minimum = {
        "solvent": least,
        "scrub": least - offset,
        "stages": float(shortcut.fenske_multicomponent(task.a, r, d, task.cut)),
    }
    # Steps of one march: generous for a free choice of solvent, then as many as it takes.
    longest = min(task.most, 8 + 4 * math.ceil(max(minimum["stages"], 1.0)))
    if solvent is None:
        unit = max(least - offset, _EXCESS[0] * organic_total)
        while True:
            grid = least + unit * _EXCESS
            rough = _march(task, stray_heavy, stray_light, grid, offset, longest, every=False)
            if np.any(rough.steps <= task.most) or longest >= task.most:
                break
            longest = min(2 * longest, task.most)
        stages, guess = _best(task, grid, rough.steps, minimum)
        near = int(np.argmin(np.abs(grid - guess)))
        steps = max(rough.up[near], rough.down[near])
        if math.isfinite(steps):
            longest = min(longest, math.ceil(1.5 * steps) + 4)
        fine = least + (guess - least) * _AROUND
        closer = _march(task, stray_heavy, stray_light, fine, offset, longest, every=True)
        solvent = _solvent_for(stages - _MARGIN, fine, closer.steps, least)
    elif solvent <= offset:
        raise InfeasibleError(
            f"the solvent carries {solvent:.4g} mol/s, less than the product asks for",
            limit={"solvent": least},
            nearest={"solvent": least},
        )
    chosen = np.array([solvent])
    # For two elements the bound is exact: no need to march into the pinch.
    sharp = len(task.f) == 2 and solvent < least * (1 - _ROUNDING)
    while not sharp:
        marched = _march(task, stray_heavy, stray_light, chosen, offset, longest, every=True)
        if marched.steps[0] <= task.most or longest >= task.most:
            break
        longest = min(2 * longest, task.most)
    if sharp or not marched.steps[0] <= task.most:
        raise InfeasibleError(
            f"with a solvent of {solvent:.6g} mol/s no number of stages up to {task.most} parts "
            f"{task.light[-1]} from {task.heavy[0]}: the least solvent is {least:.6g} mol/s",
            limit=minimum,
            nearest={"solvent": least},
        )
    return _Start(
        solvent=float(solvent),
        scrub=float(solvent - offset),
        up=int(marched.up[0]),
        down=math.ceil(marched.down[0] - _ROUNDING),
        raffinate=marched.raffinate[0],
        organic=marched.organic[0],
        minimum=minimum,
    )


def _first_split(task: _Task, stray_heavy: float, stray_light: float) -> tuple[Array, Array]:
    """Raffinate and organic product [mol/s]: the transfers carried by the elements at the cut."""
    r = np.where(np.arange(len(task.f)) < task.cut, task.f, 0.0)
    rest = stray_heavy
    for i in range(task.cut, len(task.f)):
        r[i] = min(rest, 0.5 * task.f[i] if rest > 0.5 * task.f[i] else rest)
        rest -= r[i]
    rest = stray_light
    for i in range(task.cut - 1, -1, -1):
        moved = min(rest, 0.5 * task.f[i] if rest > 0.5 * task.f[i] else rest)
        r[i] -= moved
        rest -= moved
    return r, task.f - r


def _best(
    task: _Task, grid: Array, steps: Array, minimum: Mapping[str, float]
) -> tuple[int, float]:
    """Whole stages of least objective, and the solvent they take, from the rough grid.

    Each whole number has its own least solvent, at which nothing of its last stage is wasted; so
    the objective is a continuous function of the task, and of everything the task depends on.
    """
    cost = np.where(steps <= task.most, task.weights.of(grid, steps), np.inf)
    if not np.any(np.isfinite(cost)):
        raise InfeasibleError(
            f"no circuit of at most {task.most} stages parts {task.light[-1]} from "
            f"{task.heavy[0]}; endless time at total reflux takes {minimum['stages']:.0f}",
            limit={"stages": minimum["stages"]},
            nearest={"stages": minimum["stages"]},
        )
    k = int(np.argmin(cost))
    shift = 0.0
    if 0 < k < len(grid) - 1 and np.isfinite(cost[k - 1]):
        low, mid, high = np.log(cost[k - 1 : k + 2])
        bend = low - 2 * mid + high
        shift = 0.5 * (low - high) / bend if bend > 0 else 0.0
    around = float(np.interp(k + shift, np.arange(len(grid)), steps)) if shift else steps[k]
    least = minimum["solvent"]
    best: tuple[float, int, float] | None = None
    for stages in range(max(math.floor(around) - 2, 1), math.ceil(around) + 3):
        solvent = _solvent_for(float(stages), grid, steps, least)
        reached = steps.min() <= stages <= task.most
        value = float(task.weights.of(solvent, stages))
        if reached and (best is None or value < best[0]):
            best = (value, stages, solvent)
    if best is None:
        return math.ceil(steps[k]), float(grid[k])
    return best[1], best[2]


def _solvent_for(stages: float, grid: Array, steps: Array, least: float) -> float:
    """Solvent at which ``stages`` suffice: linear in ln(excess) between points of the grid."""
    known = np.isfinite(steps)
    if not known.any():
        return float(grid[-1])
    falling = np.minimum.accumulate(steps[known])
    excess = np.log(grid[known] - least)
    return float(least + math.exp(np.interp(-stages, -falling, excess)))


def _march(
    task: _Task,
    stray_heavy: float,
    stray_light: float,
    solvent: Array,
    offset: float,
    longest: int,
    every: bool,
) -> _Marched:
    """Extraction stages n and (fractional) scrub stages m at each solvent flow, shapes (G,).

    From the raffinate: Y' = S norm(a (Y + r)); from the organic product: X' = W norm((X + d)/a).
    The marches meet at the feed, where Y_n = X_m + d (aqueous feed) or Y_n + r = X_m (organic).
    The traces at the far ends (heavy ones in r, light ones in d) are those that arrive at the
    feed in the proportion in which the other march brings them. Infinite where the marches do not
    meet within ``longest`` steps; ``every``: try each count, else a dozen and interpolate.
    """
    scrub = solvent - offset
    r_0, d_0 = _first_split(task, stray_heavy, stray_light)
    counts = _counts(longest, every)
    keys = task.cut, task.cut - 1
    proportion_up = _proportion(task.f, keys[0])
    proportion_down = _proportion(task.a * task.f, keys[1])
    shape = (len(solvent), len(counts), len(task.f))
    up_target = np.broadcast_to(proportion_up, shape)
    down_target = np.broadcast_to(proportion_down, shape)
    factor_up = _growth(task.a, solvent, r_0)
    factor_down = _growth(1 / task.a, scrub, d_0)
    up_log = _traces(up_target, factor_up, counts, keys[0])
    down_log = _traces(down_target, factor_down, counts, keys[1])
    heavier = np.arange(shape[2]) >= task.cut
    sweeps = (_SWEEPS if every else _SWEEPS - 1) if shape[2] > 2 else 1
    for sweep in range(sweeps):
        r = np.where(heavier, _shared(up_log, heavier, stray_heavy, task.f), r_0)
        d = np.where(heavier, d_0, _shared(down_log, ~heavier, stray_light, task.f))
        up = _walk(solvent, task.a, r, counts) + (0 if task.phase == "aqueous" else r)
        down = _walk(scrub, 1 / task.a, d, counts) + (d if task.phase == "aqueous" else 0)
        rise, fall = _key_ratio(up, keys), _key_ratio(down, keys)
        if sweep + 1 < sweeps:
            up_target = _across(down, -fall, -rise, keys[0])
            down_target = _across(up, rise, fall, keys[1])
            up_log = up_log + _correction(up_target, up, keys[0])
            down_log = down_log + _correction(down_target, down, keys[1])
    found = [_fewest(rise[g], fall[g], counts, longest) for g in range(shape[0])]
    n, m = np.array(found).T
    met = np.isfinite(n + m)
    at_n = np.searchsorted(counts, np.where(met, n, 0)).clip(max=len(counts) - 1)
    at_m = np.searchsorted(counts, np.where(met, m, 0)).clip(max=len(counts) - 1)
    member = np.arange(shape[0])
    return _Marched(up=n, down=m, raffinate=r[member, at_n], organic=d[member, at_m])


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Marched:
    """Steps up (whole) and down (fractional) at each solvent flow, and where they start."""

    up: Array
    down: Array
    raffinate: Array
    organic: Array

    @property
    def steps(self) -> Array:
        """Steps of both marches: the stages of the circuit."""
        return self.up + self.down


def _counts(longest: int, every: bool) -> NDArray[np.int64]:
    """Step counts to try, from none to ``longest``."""
    if every or longest <= 16:
        return np.arange(longest + 1)
    spread = np.rint(np.geomspace(2, longest, 16)).astype(int)
    return np.unique(np.concatenate([[0, 1], spread]))


def _proportion(flows: Array, key: int) -> Array:
    """ln of each flow relative to that of the element at the cut."""
    return np.asarray(np.log(flows) - np.log(flows[key]))


def _growth(weight: Array, flow: Array, product: Array) -> Array:
    """Factor by which each element grows a step near the outlet, shape (G, 1, C)."""
    return np.asarray((flow / (weight @ product))[:, None, None] * weight)


def _traces(target: Array, factor: Array, counts: NDArray[np.int64], key: int) -> Array:
    """ln of the outlet's traces, relative to the key, that grow to ``target`` in so many steps."""
    n = counts[:, None].astype(float)
    log_factor = np.log(factor)
    # A geometric series from the outlet: growth^n over (1 - 1/growth), where it grows at all.
    start = np.log(-np.expm1(-np.maximum(log_factor, 0.1)))
    gained = n * log_factor - start
    return np.asarray(target - (gained - gained[..., key : key + 1]))


def _shared(log_share: Array, members: NDArray[np.bool_], total: float, feed: Array) -> Array:
    """``total`` divided among ``members`` in proportion to exp(log_share), none above its feed."""
    top = np.where(members, log_share, -np.inf).max(axis=-1, keepdims=True)
    share = np.where(members, np.exp(np.minimum(log_share - top, 0.0)), 0.0)
    flows = total * share / share.sum(axis=-1, keepdims=True)
    return np.asarray(np.minimum(flows, 0.5 * feed))


def _walk(flow: Array, weight: Array, product: Array, counts: NDArray[np.int64]) -> Array:
    """Flux Z after the counted steps of Z' = flow norm(weight (Z + product)), from none."""
    state, out = np.zeros(product.shape), np.zeros(product.shape)
    flow, ones = flow[:, None], np.ones(product.shape[-1])
    first = 0
    for step in range(counts[-1] + 1):
        while first < len(counts) and counts[first] == step:
            out[:, first] = state[:, first]
            first += 1
        # Members that have walked their count stay behind.
        moving = weight * (state[:, first:] + product[:, first:])
        # A product with ones sums a short last axis several times faster than a sum.
        state[:, first:] = moving * (flow / (moving @ ones))[..., None]
    return out


def _key_ratio(flux: Array, keys: tuple[int, int]) -> Array:
    """ln(heavy/light) of the elements at the cut; -inf before the first step."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(flux[..., keys[0]]) - np.log(flux[..., keys[1]])
    return np.where(np.isfinite(ratio), ratio, -np.inf)


def _across(flux: Array, level: Array, wanted: Array, key: int) -> Array:
    """ln proportions to ``key`` that one march has where it reaches the levels of the other."""
    out = np.empty((*wanted.shape, flux.shape[-1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.log(flux) - np.log(flux[..., key : key + 1])
    for g in range(len(level)):
        usable = np.isfinite(level[g]) & np.isfinite(relative[g]).all(axis=-1)
        x, path = np.maximum.accumulate(level[g][usable]), relative[g][usable]
        # One search for all components: where along the march, then between its points.
        at = np.interp(wanted[g], x, np.arange(float(len(x))))
        before = np.minimum(at.astype(int), max(len(x) - 2, 0))
        after = np.minimum(before + 1, len(x) - 1)
        out[g] = path[before] + (at - before)[:, None] * (path[after] - path[before])
    return out


def _correction(target: Array, flux: Array, key: int) -> Array:
    """Change of ln traces that brings the marched proportions to ``target``."""
    with np.errstate(divide="ignore", invalid="ignore"):
        reached = np.log(flux) - np.log(flux[..., key : key + 1])
        change = target - reached
    return np.where(np.isfinite(change), np.clip(change, -10, 10), 0.0)


def _fewest(
    rise: Array, fall: Array, counts: NDArray[np.int64], longest: int
) -> tuple[float, float]:
    """Whole n and fractional m of least sum at which the marches meet; infinite if they do not."""
    n = np.arange(1, longest + 1)
    reached = np.interp(n, counts[1:], np.maximum.accumulate(rise[1:]))
    known = np.isfinite(fall)
    level = np.maximum.accumulate(-fall[known])
    m = np.interp(-reached, level, counts[known].astype(float), right=np.inf)
    m[-reached > level[-1]] = np.inf
    best = int(np.argmin(n + m))
    return float(n[best]), float(m[best])


def _confirm(task: _Task, start: _Start) -> tuple[tuple[int, int, Array, Array] | None, int]:
    """The smallest circuit near ``start`` that meets every specification, solved as a whole.

    Pairs count steps of the two marches: with an aqueous feed the stages n and m, with an organic
    one, which enters the first stage of the march down, n - 1 and m + 1.
    """
    tried: dict[tuple[int, int], tuple[bool, Array, Array]] = {}

    def look(pairs: Sequence[tuple[int, int]]) -> None:
        new = [p for p in dict.fromkeys(pairs) if p not in tried and p[0] >= 1 and p[1] >= 0]
        if new:
            for pair, (r, d) in zip(new, _solve(task, start, new), strict=True):
                tried[pair] = (_meets(task, r, d), r, d)

    def met(pair: tuple[int, int]) -> bool:
        return pair in tried and tried[pair][0]

    n, m = start.up, start.down
    look([(n, m), (n - 1, m), (n, m - 1)])
    best: tuple[int, int] | None = None
    for _ in range(_ROUNDS):
        good = [p for p in tried if met(p)]
        if not good:
            before, (n, m) = (n, m), _stronger(tried, n, m)
            if n + m > task.most or _pinched(tried, before, (n, m)):
                return None, len(tried)
            look([(n, m), (n + 1, m), (n, m + 1)])
            continue
        # Fewest stages; among equals the one that leaves least of the heavier in the raffinate.
        best = min(good, key=lambda p: (sum(p), tried[p][1][task.cut :].sum()))
        n, m = best
        look([(n - 1, m), (n, m - 1)])
        if not any(met(p) and sum(p) < sum(best) for p in tried):
            break
    if best is None:
        return None, len(tried)
    return (*best, *tried[best][1:]), len(tried)


def _pinched(
    tried: Mapping[tuple[int, int], tuple[bool, Array, Array]],
    fewer: tuple[int, int],
    more: tuple[int, int],
) -> bool:
    """Whether another stage hardly separates better: this solvent flow cannot do what is asked."""
    if fewer not in tried or more not in tried:
        return False
    strays = [float(tried[pair][1] @ tried[pair][2]) for pair in (fewer, more)]
    return strays[1] > (1 - _GAIN) * strays[0]


def _stronger(
    tried: Mapping[tuple[int, int], tuple[bool, Array, Array]], n: int, m: int
) -> tuple[int, int]:
    """Of the larger neighbours of (n, m), the one that separates better."""
    around = [p for p in ((n + 1, m), (n, m + 1)) if p in tried]
    if not around:
        return n + 1, m + 1
    stray = {p: float(tried[p][1] @ tried[p][2]) for p in around}
    return min(around, key=lambda p: (stray[p] if stray[p] == stray[p] else math.inf, p))


def _solve(
    task: _Task, start: _Start, pairs: Sequence[tuple[int, int]]
) -> list[tuple[Array, Array]]:
    """Raffinate and organic product of several circuits at once, padded to one length."""
    most = max(n + m for n, m in pairs)
    alone = [p for p in pairs if sum(p) == 1 and most > 1]
    if alone:
        # One stage has no inside to pad.
        rest = iter(_solve(task, start, [p for p in pairs if p not in alone]))
        (single,) = _solve(task, start, alone[:1])
        return [single if p in alone else next(rest) for p in pairs]
    efficiency = np.ones((len(pairs), most, 1))
    guess = np.zeros((len(pairs), most))
    feed_stage = []
    up, down = _thetas(task, start, max(n for n, _ in pairs), max(m for _, m in pairs))
    for row, (n, m) in enumerate(pairs):
        idle = most - n - m
        # Idle stages pass both phases on; they stand above stage 1, where flows are uniform.
        efficiency[row, 1 : 1 + idle] = 0.0
        guess[row, [0, *range(1 + idle, n + idle)]] = up[:n]
        guess[row, n + idle :] = down[:m][::-1]
        feed_stage.append(n + idle + (task.phase == "organic"))
    inputs = cascade.MassFlowInputs(
        components=task.names,
        extractability=task.a,
        stages=most,
        solvent=np.full(len(pairs), start.solvent),
        scrub=np.full(len(pairs), start.scrub),
        inlets=(
            cascade.Inlet(name="feed", phase=task.phase, stage=np.array(feed_stage), flows=task.f),
        ),
        efficiency=efficiency,
    )
    result = cascade.solve(inputs, guess=guess, failures="record")
    if not np.all(result.converged):
        result = cascade.solve(inputs, failures="record" if len(pairs) > 1 else "raise")
    return list(zip(result.raffinate, result.loaded_organic, strict=True))


def _thetas(task: _Task, start: _Start, up: int, down: int) -> tuple[Array, Array]:
    """First guess of ``cascade.solve`` along both marches: ln(organic flux / sum(a x)) a stage."""
    a = task.a / task.a.max()
    path = []
    for steps, flow, weight, product in (
        (up, start.solvent, task.a, start.raffinate),
        (down, start.scrub, 1 / task.a, start.organic),
    ):
        state, thetas = np.zeros(len(a)), np.zeros(steps)
        for k in range(steps):
            before = state + product
            state = weight * before
            state = state * (flow / state.sum())
            aqueous, organic = (before, state) if weight is task.a else (state, before)
            thetas[k] = math.log(organic.sum() / (a @ aqueous))
        path.append(thetas)
    return path[0], path[1]


def _meets(task: _Task, r: Array, d: Array) -> bool:
    """Whether both outlets meet everything asked of them, within rounding."""
    solved = bool(np.all(np.isfinite(r)) and np.all(np.isfinite(d)))
    return solved and not _missed(task, r, d, _ROUNDING)


def _missed(task: _Task, r: Array, d: Array, slack: float) -> list[str]:
    """Names of the specifications that are not met with so much relative slack."""
    feed = dict(zip(task.names, task.f.tolist(), strict=True))
    missed = []
    for name, spec, flows, own in (
        ("raffinate", task.raffinate, r, task.light),
        ("organic", task.organic, d, task.heavy),
    ):
        moles = dict(zip(task.names, flows.tolist(), strict=True))
        foreign = sum(n for e, n in moles.items() if e not in own)
        amounts = products.amounts(moles, spec.basis)
        total = sum(amounts.values())
        impure = 1 - products.purity(moles, own, spec.basis)
        if spec.purity is not None and impure > (1 - spec.purity) * (1 + slack):
            missed.append(f"purity of the {name}")
        if spec.foreign is not None and foreign > spec.foreign * (1 + slack):
            missed.append(f"other elements in the {name}")
        missed += [
            f"{element} in the {name}"
            for element, share in spec.limits.items()
            if amounts.get(element, 0.0) > share * total * (1 + slack)
        ]
        if spec.recovery is not None:
            lost = 1 - products.recovery(moles, feed, own, spec.basis)
            if lost > (1 - spec.recovery) * (1 + slack):
                missed.append(f"recovery of the {name}")
    return missed


def _finished(
    task: _Task, start: _Start, found: tuple[int, int, Array, Array], solved: int
) -> CircuitDesign:
    """The design as a result, in the caller's terms."""
    n, m, r, d = found
    if task.phase == "organic":
        n, m = n + 1, m - 1
    feed = {**dict(zip(task.names, task.f.tolist(), strict=True)), **task.traces}
    raffinate = dict(zip(task.names, r.tolist(), strict=True))
    organic = dict(zip(task.names, d.tolist(), strict=True))
    for element, flow in task.traces.items():
        (raffinate if element in task.trace_light else organic)[element] = flow
    groups = {"raffinate": (raffinate, task.light), "organic": (organic, task.heavy)}
    specs = {"raffinate": task.raffinate, "organic": task.organic}
    # A specification decides where a quarter less of what it allows would not be met.
    return CircuitDesign(
        components=task.names,
        light=task.light,
        heavy=task.heavy,
        feed_phase=task.phase,
        stages_extraction=n,
        stages_scrub=m,
        solvent=start.solvent,
        scrub=start.scrub,
        feed=feed,
        raffinate=raffinate,
        organic=organic,
        purity={k: products.purity(v, own, specs[k].basis) for k, (v, own) in groups.items()},
        recovery={
            k: products.recovery(v, feed, own, specs[k].basis) for k, (v, own) in groups.items()
        },
        minimum={
            **start.minimum,
            "stages": min(
                start.minimum["stages"],
                float(shortcut.fenske_multicomponent(task.a, r, d, task.cut)),
            ),
        },
        objective=float(task.weights.of(start.solvent, n + m)),
        active=tuple(_missed(task, r, d, -0.5)),
        iterations=solved,
    )
