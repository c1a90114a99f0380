"""From product specifications to a circuit: stages of both sections, solvent and scrub.

``design_circuit`` works on the mass-flow model (``docs/theory/mass-flow-cascade.md``):

1. the specifications become the largest amounts of heavier elements in the raffinate and of
   lighter ones in the organic, and with them the flows of both products;
2. bounds: Underwood's least solvent, Fenske's least stages;
3. a grid of solvent flows is marched stage to stage from both ends to the feed, all members at
   once; where the two marches meet, the stages of both sections follow; the objective is
   interpolated over the grid and gives S;
4. the circuit found is solved as a whole by ``cascade.solve``, with its neighbours of one stage
   more or less, and the smallest one that meets every specification is the design;
5. from its stages and flows alone it is simulated again, stage to stage (``remarch``); where the
   two calculations contradict one another there is no design.

Marching alone would be exact for two elements; with more, the traces at the far ends are found
by repetition, and steps 4 and 5, which share no code with it nor with one another, decide.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel import products
from sepmodel.errors import InfeasibleError
from sepmodel.extraction import remarch, shortcut
from sepmodel.extraction.design_march import Start, choose
from sepmodel.extraction.design_search import confirm
from sepmodel.extraction.design_task import (
    MOST_STAGES,
    Outlet,
    Task,
    Weights,
    make_task,
    missed_specs,
    transfers,
)

__all__ = ["MOST_STAGES", "CircuitDesign", "Outlet", "Weights", "design_binary", "design_circuit"]

Array = NDArray[np.float64]
# Rounds of tightening the targets.
_TIGHTENINGS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """A side draw of a design: from which ``phase`` leaving which ``stage`` (from the raffinate
    end), and its flows by element."""

    name: str
    phase: str
    stage: int
    flows: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitDesign:
    """A two-outlet circuit: ``stages_extraction`` (feed stage included) and ``stages_scrub``,
    ``solvent`` S and ``scrub`` W [mol/s], outlets [mol/s] with what they reach, and bounds.

    ``minimum`` holds Underwood's solvent and scrub and Fenske's stages for the same outlets;
    ``active`` names the specifications that decide; ``iterations`` counts cascade solutions;
    ``draw`` is the third outlet, where there is one; ``recheck`` the largest difference of any
    outlet's flow to the independent simulation, not a number where none was asked for.
    """

    components: tuple[str, ...]
    extractability: Mapping[str, float]
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
    draw: Drawn | None = None
    recheck: float = math.nan

    @property
    def stages(self) -> int:
        """Extraction and scrub stages together, n + m."""
        return self.stages_extraction + self.stages_scrub

    @property
    def phi(self) -> float:
        """S (n + m) [mol/s]: proportional to the organic inventory. What an organic feed brings
        counts from its stage on: S (n - 1) + (S + f)(m + 1)."""
        joined = sum(self.feed.values()) if self.feed_phase == "organic" else 0.0
        return self.solvent * self.stages + joined * (self.stages_scrub + 1)


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
    efficiency: float = 1.0,
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
    efficiency
        Murphree efficiency of every stage; the marches count equilibrium stages, step 4 adds.
    exact
        False leaves out steps 4 and 5: stages as marched, and outlets at the specification itself,
        which the whole number of stages surpasses a little.

    Raises
    ------
    InfeasibleError
        with the bound that is violated and the nearest feasible value.
    ConvergenceError
        when the circuit's second simulation contradicts the first.

    >>> both = Outlet(purity=0.995, basis="mole")
    >>> found = design_circuit(
    ...     {"Pr": 0.25, "Nd": 0.75}, {"Pr": 1.0, "Nd": 1.5}, ["Pr"], raffinate=both, organic=both
    ... )
    >>> round(found.minimum["stages"], 1), round(found.recovery["organic"], 4)
    (26.1, 0.9984)
    """
    task = make_task(
        feed,
        extractability,
        light,
        raffinate or Outlet(),
        organic or Outlet(),
        feed_phase,
        weights or Weights(),
        most_stages,
        efficiency,
    )
    own_heavy, own_light = transfers(task)
    tightened, solved = 1.0, 0
    for _ in range(_TIGHTENINGS):
        stray_heavy, stray_light = tightened * own_heavy, tightened * own_light
        start = choose(task, stray_heavy, stray_light, solvent)
        if not exact:
            marched = (start.up, start.down, start.raffinate, task.f - start.raffinate)
            return _finished(task, start, marched, 0, math.nan)
        found, count = confirm(task, start)
        solved += count
        if found is not None and solvent is None and _stages(task, *found[:2])[1] == 0:
            start, found = _without_scrub(task, start, found)
        if found is not None:
            return _finished(task, start, found, solved, _again(task, start, found))
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


def _stages(task: Task, up: int, down: int) -> tuple[int, int]:
    """n and m of the steps of both marches: an organic feed enters the march down."""
    return (up + 1, down - 1) if task.phase == "organic" else (up, down)


def _without_scrub(
    task: Task, start: Start, found: tuple[int, int, Array, Array]
) -> tuple[Start, tuple[int, int, Array, Array]]:
    """The same circuit with nothing scrubbed back, where no stage is left to scrub in."""
    none = replace(start, solvent=start.solvent - start.scrub, scrub=0.0)
    if start.scrub <= 0 or none.solvent <= 0:
        return start, found
    again, _ = confirm(task, none)
    return (none, again) if again is not None and again[:2] == found[:2] else (start, found)


def _again(task: Task, start: Start, found: tuple[int, int, Array, Array]) -> float:
    """Difference to the circuit simulated again by code of its own, where they agree."""
    up, down, r, d = found
    n, m = _stages(task, up, down)
    second = remarch.remarch(
        task.a, task.f, start.solvent, start.scrub, n, m, task.phase, task.efficiency
    )
    outlets = {"raffinate": r, "organic": d}
    return remarch.agree(remarch.difference(second, task.f, outlets))


def _finished(
    task: Task,
    start: Start,
    found: tuple[int, int, Array, Array],
    solved: int,
    recheck: float,
) -> CircuitDesign:
    """The design as a result, in the caller's terms."""
    up, down, r, d = found
    n, m = _stages(task, up, down)
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
        extractability=dict(zip(task.names, task.a.tolist(), strict=True)),
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
        objective=float(task.cost(start.solvent, n + m, down)),
        active=tuple(missed_specs(task, r, d, -0.5)),
        iterations=solved,
        recheck=recheck,
    )
