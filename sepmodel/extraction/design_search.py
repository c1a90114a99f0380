"""The smallest whole-stage circuit near a marched one.

Circuits of equilibrium stages are solved from their ends (``ends``), which takes a few unknowns
whatever the number of stages. The one that is chosen is solved again by ``cascade.solve``, all
stages together by Newton's method, which shares no code with it and has the last word; ``remarch``
then simulates it once more.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, InfeasibleError
from sepmodel.extraction import cascade, ends
from sepmodel.extraction.design_march import Start
from sepmodel.extraction.design_task import ROUNDS, Task, meets

Array = NDArray[np.float64]
# A stage that improves the separation by less than this share is not worth another look.
_GAIN = 1e-2
# Beyond so many times the stages allowed an estimate of them refuses.
GROWN = 2
# ln(r/d) beyond which an element is in one outlet alone.
_FAR = 1e3


def confirm(task: Task, start: Start) -> tuple[tuple[int, int, Array, Array] | None, int]:
    """The smallest circuit near ``start`` that meets every specification, solved as a whole.

    Pairs count steps of the two marches: with an aqueous feed the stages n and m, with an organic
    one, which enters the first stage of the march down, n - 1 and m + 1.
    """
    tried: dict[tuple[int, int], tuple[bool, Array, Array]] = {}
    logs: dict[tuple[int, int], tuple[Array, Array] | None] = {}

    def look(pairs: Sequence[tuple[int, int]]) -> None:
        new = [p for p in dict.fromkeys(pairs) if p not in tried and p[0] >= 1 and p[1] >= 0]
        if new:
            for pair, (r, d, sides) in zip(new, _solve(task, start, new), strict=True):
                tried[pair] = (meets(task, r, d), r, d)
                logs[pair] = sides

    def met(pair: tuple[int, int]) -> bool:
        return pair in tried and tried[pair][0]

    # A march counts equilibrium stages; about as many more as a stage falls short of one.
    n, m = (math.ceil(steps / task.efficiency) for steps in (start.up, start.down))
    if n + m > GROWN * task.most:
        raise InfeasibleError(
            f"about {n + m} stages of efficiency {task.efficiency:g} part {task.light[-1]} from "
            f"{task.heavy[0]} with a solvent of {start.solvent:.6g}, more than the {task.most} "
            "allowed",
            limit={"stages": float(task.most)},
        )
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
    # The search solves circuits from their ends; all stages together have the last word.
    sides = logs[best]
    r, d = tried[best][1:]
    if sides is not None:
        # Traces far apart may stall them: then the ends stand, if the second simulation agrees.
        with contextlib.suppress(ConvergenceError):
            r, d = _together(task, start, best, sides)
    return (*best, r, d), len(tried) + 1


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
    task: Task, start: Start, pairs: Sequence[tuple[int, int]]
) -> list[tuple[Array, Array, tuple[Array, Array] | None]]:
    """Raffinate and organic product of several circuits at once, with their logarithms."""
    if task.efficiency < 1:
        return [(r, d, None) for r, d in _padded(task, start, pairs)]
    shift = int(task.phase == "organic")
    n = np.array([pair[0] + shift for pair in pairs])
    m = np.array([pair[1] - shift for pair in pairs])
    possible = m >= 0
    solvent, scrub = np.full(len(pairs), start.solvent), np.full(len(pairs), start.scrub)
    with np.errstate(divide="ignore"):
        z = np.clip(np.log(start.raffinate) - np.log(start.organic), -_FAR, _FAR)
    down = np.maximum(m, 0)
    found = ends.solve(
        task.a, task.f, solvent, scrub, n, down, np.repeat(z[None], len(pairs), axis=0), task.phase
    )
    rest = np.flatnonzero(~found.converged)
    r, d = found.log_raffinate, found.log_organic
    if rest.size:
        again = ends.cold(
            task.a, task.f, solvent[rest], scrub[rest], n[rest], down[rest], task.phase
        )
        lost = ~again.converged[:, None]
        r[rest] = np.where(lost, np.nan, again.log_raffinate)
        d[rest] = np.where(lost, np.nan, again.log_organic)
    r[~possible], d[~possible] = np.nan, np.nan
    return [(np.exp(x), np.exp(y), (x, y)) for x, y in zip(r, d, strict=True)]


def _together(
    task: Task, start: Start, pair: tuple[int, int], sides: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Raffinate and organic product of one circuit, all stages solved together."""
    shift = int(task.phase == "organic")
    n, m = pair[0] + shift, pair[1] - shift
    guess = ends.profile(task.a, task.f, start.solvent, start.scrub, n, m, sides, task.phase)
    inputs = cascade.MassFlowInputs(
        components=task.names,
        extractability=task.a,
        stages=n + m,
        solvent=start.solvent,
        scrub=start.scrub,
        inlets=(cascade.Inlet(name="feed", phase=task.phase, stage=n, flows=task.f),),
    )
    result = cascade.solve(inputs, guess=guess)
    return result.raffinate, result.loaded_organic


def _padded(
    task: Task, start: Start, pairs: Sequence[tuple[int, int]]
) -> list[tuple[Array, Array]]:
    """Circuits of stages below equilibrium, all stages together, padded to one length."""
    most = max(n + m for n, m in pairs)
    alone = [p for p in pairs if sum(p) == 1 and most > 1]
    if alone:
        # One stage has no inside to pad.
        rest = iter(_padded(task, start, [p for p in pairs if p not in alone]))
        (single,) = _padded(task, start, alone[:1])
        return [single if p in alone else next(rest) for p in pairs]
    efficiency = np.full((len(pairs), most, 1), task.efficiency)
    feed_stage = []
    for row, (n, m) in enumerate(pairs):
        idle = most - n - m
        # Idle stages pass both phases on; they stand above stage 1, where flows are uniform.
        efficiency[row, 1 : 1 + idle] = 0.0
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
    result = cascade.solve(inputs, failures="record" if len(pairs) > 1 else "raise")
    return list(zip(result.raffinate, result.loaded_organic, strict=True))
