"""Stage-to-stage marches from both ends of a circuit to its feed, many solvent flows at once.

The solvent is chosen on a grid by the objective; where the marches meet, the stages of both
sections follow. Exact for two elements; with more, the traces at the far ends are found by
repetition, and ``design_search`` decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import InfeasibleError
from sepmodel.extraction import shortcut
from sepmodel.extraction.design_task import ROUNDING, Task, first_split

Array = NDArray[np.float64]
# Repetitions of the two marches that settle the traces at the far ends.
_SWEEPS = 3
# Solvent grid: scrub above its minimum by these multiples of the minimum.
_EXCESS = 2.0 ** np.arange(-5, 5)
# Points around the choice, and how far below a whole number of stages the marches must meet.
_AROUND = 2.0 ** (np.arange(-4, 5) / 8)
_MARGIN = 1e-2


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Start:
    """Where the search among integer stages begins, with the bounds found on the way."""

    solvent: float
    scrub: float
    up: int
    down: int
    raffinate: Array
    organic: Array
    minimum: Mapping[str, float]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Marched:
    """Steps up (whole) and down (fractional) at each solvent flow, and where they start."""

    up: Array
    down: Array
    raffinate: Array
    organic: Array

    @property
    def steps(self) -> Array:
        """Steps of both marches: the stages of the circuit."""
        return self.up + self.down


def choose(task: Task, stray_heavy: float, stray_light: float, solvent: float | None) -> Start:
    """Solvent by the objective over the grid (or as given), and stages by marching."""
    r, d = first_split(task, stray_heavy, stray_light)
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
            rough = march(task, stray_heavy, stray_light, grid, offset, longest, every=False)
            if np.any(rough.steps <= task.most) or longest >= task.most:
                break
            longest = min(2 * longest, task.most)
        stages, guess = _best(task, grid, rough, minimum)
        near = int(np.argmin(np.abs(grid - guess)))
        steps = max(rough.up[near], rough.down[near])
        if math.isfinite(steps):
            longest = min(longest, math.ceil(1.5 * steps) + 4)
        fine = least + (guess - least) * _AROUND
        closer = march(task, stray_heavy, stray_light, fine, offset, longest, every=True)
        solvent = _solvent_for(stages - _MARGIN, fine, closer.steps, least)
    elif solvent <= offset:
        raise InfeasibleError(
            f"the solvent carries {solvent:.4g} mol/s, less than the product asks for",
            limit={"solvent": least},
            nearest={"solvent": least},
        )
    chosen = np.array([solvent])
    # For two elements the bound is exact: no need to march into the pinch.
    sharp = len(task.f) == 2 and solvent < least * (1 - ROUNDING)
    while not sharp:
        marched = march(task, stray_heavy, stray_light, chosen, offset, longest, every=True)
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
    return Start(
        solvent=float(solvent),
        scrub=float(solvent - offset),
        up=int(marched.up[0]),
        down=math.ceil(marched.down[0] - ROUNDING),
        raffinate=marched.raffinate[0],
        organic=marched.organic[0],
        minimum=minimum,
    )


def _best(
    task: Task, grid: Array, rough: Marched, minimum: Mapping[str, float]
) -> tuple[int, float]:
    """Whole stages of least objective, and the solvent they take, from the rough grid.

    Each whole number has its own least solvent, at which nothing of its last stage is wasted; so
    the objective is a continuous function of the task, and of everything the task depends on.
    """
    steps = rough.steps
    cost = np.where(steps <= task.most, task.cost(grid, steps, rough.down), np.inf)
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
        down = np.interp(solvent, grid[np.isfinite(steps)], rough.down[np.isfinite(steps)])
        value = float(task.cost(solvent, stages, down))
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


def march(
    task: Task,
    stray_heavy: float,
    stray_light: float,
    solvent: Array,
    offset: float,
    longest: int,
    every: bool,
) -> Marched:
    """Extraction stages n and (fractional) scrub stages m at each solvent flow, shapes (G,).

    From the raffinate: Y' = S norm(a (Y + r)); from the organic product: X' = W norm((X + d)/a).
    The marches meet at the feed, where Y_n = X_m + d (aqueous feed) or Y_n + r = X_m (organic).
    The traces at the far ends (heavy ones in r, light ones in d) are those that arrive at the
    feed in the proportion in which the other march brings them. Infinite where the marches do not
    meet within ``longest`` steps; ``every``: try each count, else a dozen and interpolate.
    """
    scrub = solvent - offset
    r_0, d_0 = first_split(task, stray_heavy, stray_light)
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
    return Marched(up=n, down=m, raffinate=r[member, at_n], organic=d[member, at_m])


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
