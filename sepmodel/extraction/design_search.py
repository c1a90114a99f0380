"""The smallest whole-stage circuit near a marched one, by solving circuits as a whole.

Nothing here shares code with the marches: ``cascade.solve`` closes all stages by Newton's method.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction import cascade
from sepmodel.extraction.design_march import Start
from sepmodel.extraction.design_task import ROUNDS, Task, meets

Array = NDArray[np.float64]
# A stage that improves the separation by less than this share is not worth another look.
_GAIN = 1e-2


def confirm(task: Task, start: Start) -> tuple[tuple[int, int, Array, Array] | None, int]:
    """The smallest circuit near ``start`` that meets every specification, solved as a whole.

    Pairs count steps of the two marches: with an aqueous feed the stages n and m, with an organic
    one, which enters the first stage of the march down, n - 1 and m + 1.
    """
    tried: dict[tuple[int, int], tuple[bool, Array, Array]] = {}

    def look(pairs: Sequence[tuple[int, int]]) -> None:
        new = [p for p in dict.fromkeys(pairs) if p not in tried and p[0] >= 1 and p[1] >= 0]
        if new:
            for pair, (r, d) in zip(new, _solve(task, start, new), strict=True):
                tried[pair] = (meets(task, r, d), r, d)

    def met(pair: tuple[int, int]) -> bool:
        return pair in tried and tried[pair][0]

    # A march counts equilibrium stages; about as many more as a stage falls short of one.
    n, m = (math.ceil(steps / task.efficiency) for steps in (start.up, start.down))
    look([(n, m), (n - 1, m), (n, m - 1)])
    best: tuple[int, int] | None = None
    for _ in range(ROUNDS):
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


def _solve(task: Task, start: Start, pairs: Sequence[tuple[int, int]]) -> list[tuple[Array, Array]]:
    """Raffinate and organic product of several circuits at once, padded to one length."""
    most = max(n + m for n, m in pairs)
    alone = [p for p in pairs if sum(p) == 1 and most > 1]
    if alone:
        # One stage has no inside to pad.
        rest = iter(_solve(task, start, [p for p in pairs if p not in alone]))
        (single,) = _solve(task, start, alone[:1])
        return [single if p in alone else next(rest) for p in pairs]
    efficiency = np.full((len(pairs), most, 1), task.efficiency)
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
    whole = task.efficiency == 1
    result = cascade.solve(inputs, guess=guess if whole else None, failures="record")
    if not np.all(result.converged):
        result = cascade.solve(inputs, failures="record" if len(pairs) > 1 else "raise")
    return list(zip(result.raffinate, result.loaded_organic, strict=True))


def _thetas(task: Task, start: Start, up: int, down: int) -> tuple[Array, Array]:
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
