"""Three outlets from one circuit, from specifications alone: a middle product is drawn.

The product flows follow from the specifications: a purity with a recovery fixes an outlet; what no
recovery is asked of gets the rest. For a solvent flow and a number of stages the feed and draw
stages that leave the most margin are sought among whole circuits, many at once; the number of
stages is the least at which every specification is met.

About the feed stage the margin is flat: several circuits of that size and draw stage will do. Among
them the feed enters where stage-by-stage design ends its first section, at the first stage whose
liquor has passed the feed in the ratio of the keys, the two elements at the feed's own cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel import products
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction import cascade, remarch, shortcut
from sepmodel.extraction.design import CircuitDesign, Drawn

Array = NDArray[np.float64]

# Places tried for the feed and for the draw along the stages, and how far around the best ones.
COARSE = 9
AROUND = 2
HILLS = 6
# The least number of stages is bracketed by growing steps from the bound.
GROWTH = 1.5
# Solvent above its bound, in multiples of the scrub's bound, when it is free.
EXCESS = 2.0 ** (np.arange(4, -7, -1) / 2)
ROUNDING = 1e-9
ROUNDS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One outlet of three: its elements and what is asked of them, as in a design file."""

    name: str
    elements: tuple[str, ...]
    purity: float | None = None
    recovery: float | None = None
    limits: Mapping[str, float] | None = None


def design_draw(
    feed: Mapping[str, float],
    extractability: Mapping[str, float],
    outlets: Sequence[Wanted],
    *,
    solvent: float | None = None,
    draw_phase: str = "aqueous",
    feed_phase: str = "aqueous",
    basis: str = "mole",
    most_stages: int = 1000,
    efficiency: float = 1.0,
    score: Callable[[CircuitDesign], float] | None = None,
) -> tuple[CircuitDesign, list[CircuitDesign]]:
    """The smallest circuit with a side draw that meets the specifications of three outlets.

    Parameters
    ----------
    feed
        molar flow of each element.
    outlets
        raffinate, draw and organic product, lightest first; two of them at least with purity and
        recovery, or the draw's purity beside one such outlet.
    solvent
        S; None chooses the one of least ``score`` on a grid, by default S (n + m).

    Returns
    -------
    the design, and all circuits of the grid in ascending solvent.

    Raises
    ------
    InputError, InfeasibleError
        flows that the specifications leave open, or that no circuit can part.

    >>> found, _ = design_draw(
    ...     {"Sm": 0.51, "Eu": 0.10, "Gd": 0.39}, {"Sm": 1.0, "Eu": 2.0, "Gd": 2.8},
    ...     [Wanted(name="Sm", elements=("Sm",), purity=0.9999, recovery=0.999),
    ...      Wanted(name="Eu", elements=("Eu",), purity=0.40),
    ...      Wanted(name="Gd", elements=("Gd",), purity=0.999)],
    ...     solvent=2.0)
    >>> found.stages, found.draw.stage
    (60, 30)
    """
    task = _task(feed, extractability, outlets, draw_phase, feed_phase, basis, efficiency)
    least = task.least_solvent()
    score = score or (lambda design: design.phi)
    if solvent is not None:
        only = _finished(task, _by_keys(task, _fewest(task, solvent, most_stages, least)), least)
        return only, [only]
    # From much solvent, where circuits are short, down to little, each from the one before.
    members: list[CircuitDesign] = []
    near: _Found | None = None
    refused: InfeasibleError | None = None
    for excess in EXCESS.tolist():
        try:
            near = _fewest(task, least * (1 + excess), most_stages, least, near)
        except InfeasibleError as error:
            refused = error
            break
        members.append(_finished(task, _by_keys(task, near), least))
        if score(members[-1]) > GROWTH * min(map(score, members)):
            break
    if not members:
        assert refused is not None
        raise refused
    return min(members, key=score), members[::-1]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Task:
    names: tuple[str, ...]
    a: Array
    f: Array
    outlets: tuple[Wanted, ...]
    flows: tuple[float, float, float]
    draw_phase: str
    feed_phase: str
    weights: Array
    efficiency: float

    def least_solvent(self) -> float:
        """The smaller of Underwood's bounds for the two cuts: which one the feed sees depends on
        which side of it the draw is on."""
        ends = [len(self.outlets[0].elements), len(self.names) - len(self.outlets[2].elements)]
        bounds = []
        for cut, carried in zip(ends, (1.0 - self.flows[0], self.flows[2]), strict=True):
            heavy = np.where(np.arange(len(self.names)) >= cut, self.f, 0.0)
            heavy *= min(carried / heavy.sum(), 1.0)
            bounds.append(
                float(shortcut.minimum_solvent(self.a, self.f, heavy, cut, self.feed_phase))
            )
        product = self.flows[2] + (self.flows[1] if self.draw_phase == "organic" else 0.0)
        return max(min(bounds), product)

    def scrub(self, solvent: float) -> float:
        """W that leaves the wanted flows at every outlet."""
        scrub = solvent - self.flows[2]
        if self.draw_phase == "organic":
            scrub -= self.flows[1]
        return scrub + (float(self.f.sum()) if self.feed_phase == "organic" else 0.0)

    def solve(
        self, solvent: float, stages: int, places: NDArray[np.int64]
    ) -> cascade.CascadeResult:
        """Circuits of so many stages with feed and draw at each pair of places, (B, 2)."""
        return cascade.solve(
            cascade.MassFlowInputs(
                components=self.names,
                extractability=self.a,
                stages=stages,
                solvent=solvent,
                scrub=self.scrub(solvent),
                inlets=(
                    cascade.Inlet(
                        name="feed", phase=self.feed_phase, stage=places[:, 0], flows=self.f
                    ),
                ),
                draws=(
                    cascade.Draw(
                        name="draw",
                        phase=self.draw_phase,
                        stage=places[:, 1],
                        flow=self.flows[1],
                    ),
                ),
                efficiency=self.efficiency,
            ),
            failures="record",
        )

    def violation(self, solved: cascade.CascadeResult) -> Array:
        """ln of the worst of what strays over what may, of each member; infinite if unsolved."""
        found = (solved.raffinate, solved.draws["draw"], solved.loaded_organic)
        worst = np.full(len(solved.raffinate), -np.inf)
        with np.errstate(invalid="ignore", divide="ignore"):
            for wanted, flows in zip(self.outlets, found, strict=True):
                for value, allowed in self.strays(wanted, flows):
                    worst = np.maximum(worst, np.log(value / allowed))
        return np.where(np.isfinite(worst), worst, np.inf)

    def passing(self, solved: cascade.CascadeResult, *, above: bool) -> int:
        """First stage, marched from the end the feed does not enter, whose liquor (the feed's
        phase) is beyond the feed in the keys' ratio; ``above``: the draw is above the feed."""
        heavy = len(self.outlets[0].elements)
        if not above:
            heavy += len(self.outlets[1].elements)
        flows = solved.log_aqueous if self.feed_phase == "aqueous" else solved.log_organic
        beyond = flows[:, heavy] - flows[:, heavy - 1] - np.log(self.f[heavy] / self.f[heavy - 1])
        if self.feed_phase == "aqueous":
            passed = np.flatnonzero(beyond >= 0)
            return int(passed[0]) + 1 if passed.size else len(flows)
        passed = np.flatnonzero(beyond <= 0)
        return int(passed[-1]) + 1 if passed.size else 1

    def strays(self, wanted: Wanted, flows: Array) -> list[tuple[Array, float]]:
        """What each specification of an outlet counts, and how much of it is allowed."""
        own = np.array([name in wanted.elements for name in self.names])
        mass = flows * self.weights
        total = mass.sum(axis=-1)
        out = []
        if wanted.purity is not None:
            out.append((mass[..., ~own].sum(axis=-1) / total, 1 - wanted.purity))
        if wanted.recovery is not None:
            fed = float((self.f * self.weights)[own].sum())
            # What the flow itself gives is met by construction, to rounding.
            kept = mass[..., own].sum(axis=-1) / fed
            out.append((1 - kept, (1 - wanted.recovery) * (1 + ROUNDING) + ROUNDING))
        for element, share in (wanted.limits or {}).items():
            out.append((mass[..., self.names.index(element)] / total, share))
        return out


def _task(
    feed: Mapping[str, float],
    extractability: Mapping[str, float],
    outlets: Sequence[Wanted],
    draw_phase: str,
    feed_phase: str,
    basis: str,
    efficiency: float,
) -> _Task:
    """The checked task, components ascending, and the flows of its outlets."""
    names = sorted((e for e in feed if feed[e] > 0), key=lambda e: extractability[e])
    listed = [e for wanted in outlets for e in sorted(wanted.elements, key=names.index)]
    if len(outlets) != 3 or listed != names:
        raise InputError(
            Problem(
                message="three outlets share all elements, lightest first",
                key="product",
                value=[list(wanted.elements) for wanted in outlets],
                expected=f"neighbours in the order {', '.join(names)}",
            )
        )
    f = np.array([feed[e] for e in names])
    weights = np.array([products.amounts({e: 1.0}, basis)[e] for e in names])
    return _Task(
        names=tuple(names),
        a=np.array([extractability[e] for e in names]) / extractability[names[0]],
        f=f,
        outlets=tuple(outlets),
        flows=_flows(outlets, dict(zip(names, f.tolist(), strict=True))),
        draw_phase=draw_phase,
        feed_phase=feed_phase,
        weights=weights,
        efficiency=efficiency,
    )


def _flows(outlets: Sequence[Wanted], feed: Mapping[str, float]) -> tuple[float, float, float]:
    """Molar flows of raffinate, draw and organic product that the specifications ask for.

    An outlet with purity and recovery has flow f Y/P. The draw without a recovery takes all of its
    elements that the other two do not hold as impurity; what is left over goes to the third.
    """
    total = sum(feed.values())
    own = [sum(feed[e] for e in wanted.elements) for wanted in outlets]
    flows: list[float | None] = [
        share * wanted.recovery / wanted.purity
        if wanted.purity is not None and wanted.recovery is not None
        else None
        for wanted, share in zip(outlets, own, strict=True)
    ]
    open_ = [k for k, flow in enumerate(flows) if flow is None]
    if len(open_) == 2 and 1 in open_ and outlets[1].purity is not None:
        other = 2 if 0 not in open_ else 0
        known = flows[2 - other]
        assert known is not None
        if outlets[other].purity is None:
            raise _open(outlets[other])
        draw, middle = own[1], outlets[1].purity
        for _ in range(ROUNDS):
            third = total - known - draw
            lost = third * (1 - (outlets[other].purity or 1.0))
            lost += known * (1 - (outlets[2 - other].purity or 1.0))
            draw = (own[1] - lost) / middle
        flows[1], flows[other] = draw, total - known - draw
    elif len(open_) == 1:
        flows[open_[0]] = total - sum(flow for flow in flows if flow is not None)
    elif len(open_) == 0:
        # Each has its recovery: what more there is to give goes where there is most of it.
        given = [flow for flow in flows if flow is not None]
        largest = max(range(3), key=lambda k: own[k])
        flows[largest] = total - sum(flow for k, flow in enumerate(given) if k != largest)
    else:
        raise _open(outlets[open_[0]])
    settled = [flow for flow in flows if flow is not None]
    if min(settled) <= 0:
        worst = int(np.argmin(settled))
        raise InfeasibleError(
            f"the specifications leave no flow for {outlets[worst].name}: the other two take "
            f"{total - settled[worst]:.4g} of {total:.4g}",
            limit={"flow": total},
            nearest={"flow": total - settled[worst]},
        )
    return settled[0], settled[1], settled[2]


def _open(wanted: Wanted) -> InputError:
    return InputError(
        Problem(
            message=f"the flow of {wanted.name} is left open",
            key="product",
            expected="a purity and a recovery of two products, or of one beside the draw's purity",
        )
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Found:
    solvent: float
    stages: int
    feed_stage: int
    draw_stage: int
    violation: float
    solved: cascade.CascadeResult
    count: int


def _best_places(task: _Task, solvent: float, stages: int, near: _Found | None) -> _Found:
    """Feed and draw stages of most margin for so many stages."""
    tried: dict[tuple[int, int], float] = {}
    kept: dict[tuple[int, int], tuple[cascade.CascadeResult, int]] = {}

    def look(pairs: Sequence[tuple[int, int]]) -> None:
        new = [
            p
            for p in dict.fromkeys(pairs)
            if p not in tried and p[0] != p[1] and all(1 <= s <= stages for s in p)
        ]
        if new:
            solved = task.solve(solvent, stages, np.array(new))
            for k, (pair, value) in enumerate(
                zip(new, task.violation(solved).tolist(), strict=True)
            ):
                tried[pair] = value
                kept[pair] = (solved, k)

    if near is None:
        along = np.unique(np.rint(np.linspace(1, stages, COARSE + 2))[1:-1].astype(int)).tolist()
        look([(n, i) for n in along for i in along])
    else:
        # Stages that were added or taken: the places move with their sections.
        low = near.feed_stage * stages / near.stages
        high = near.draw_stage * stages / near.stages
        look(_around(round(low), round(high), AROUND + 1))
    if not tried:
        look([(n, i) for n in range(1, stages + 1) for i in range(1, stages + 1)])
    for _ in range(HILLS * max(1, stages // (COARSE * AROUND))):
        best = min(tried, key=lambda p: tried[p])
        before = len(tried)
        look(_around(*best, AROUND))
        if len(tried) == before or min(tried, key=lambda p: tried[p]) == best:
            break
    best = min(tried, key=lambda p: tried[p])
    solved, k = kept[best]
    return _Found(
        solvent=solvent,
        stages=stages,
        feed_stage=best[0],
        draw_stage=best[1],
        violation=tried[best],
        solved=_member(solved, k),
        count=len(tried),
    )


def _around(n: int, i: int, reach: int) -> list[tuple[int, int]]:
    steps = range(-reach, reach + 1)
    return [(n + x, i + y) for x in steps for y in steps]


def _member(solved: cascade.CascadeResult, k: int) -> cascade.CascadeResult:
    """One member of a batch."""
    from dataclasses import replace

    return replace(
        solved,
        aqueous=solved.aqueous[k],
        organic=solved.organic[k],
        log_aqueous=solved.log_aqueous[k],
        log_organic=solved.log_organic[k],
        raffinate=solved.raffinate[k],
        loaded_organic=solved.loaded_organic[k],
        draws={name: flows[k] for name, flows in solved.draws.items()},
        closure=solved.closure[k],
        iterations=solved.iterations[k],
        residual=solved.residual[k],
        converged=solved.converged[k],
        theta=solved.theta[k],
    )


def _fewest(
    task: _Task, solvent: float, most: int, least: float, near: _Found | None = None
) -> _Found:
    """The least number of stages at which every specification is met."""
    if task.scrub(solvent) < 0:
        raise InfeasibleError(
            f"a solvent of {solvent:.6g} carries less than the products ask for",
            limit={"solvent": least},
            nearest={"solvent": least},
        )
    purest = max(1 / max(1 - (w.purity or 0.5), ROUNDING) for w in task.outlets)
    bound = math.log(purest) / math.log(float(task.a[-1]))
    low = 2
    stages = max(3, math.ceil(GROWTH * bound)) if near is None else near.stages
    found = _best_places(task, solvent, stages, near)
    gained = math.inf
    while found.violation > 0:
        low, before = stages, found.violation
        if stages >= most or gained < 1 / most:
            raise InfeasibleError(
                f"no circuit of up to {stages} stages meets the three specifications with a "
                f"solvent of {solvent:.6g}",
                limit={"stages": float(stages)},
                nearest={"solvent": GROWTH * solvent},
            )
        stages = min(most, math.ceil(GROWTH * stages))
        found = _best_places(task, solvent, stages, near and found)
        gained = before - found.violation
    while stages - low > 1:
        middle = (low + stages) // 2
        member = _best_places(task, solvent, middle, found)
        if member.violation <= 0:
            found, stages = member, middle
        else:
            low = middle
    # Once more from scratch: a smaller circuit may hide elsewhere.
    again = _best_places(task, solvent, stages - 1, None) if stages > 3 and not near else found
    return again if again.violation <= 0 else found


def _by_keys(task: _Task, found: _Found) -> _Found:
    """Of the circuits of this size and draw stage, the one fed where the keys pass the feed.

    The keys are the neighbours at the cut between the outlets on both sides of the feed. From the
    end the march begins at, the feed stage is the first whose liquor holds them in a ratio beyond
    the feed's; of circuits that hold none such, the one whose own passing is nearest.
    """
    near = range(found.feed_stage - COARSE, found.feed_stage + COARSE + 1)
    places = [n for n in near if 1 <= n <= found.stages and n != found.draw_stage]
    solved = task.solve(
        found.solvent, found.stages, np.array([(n, found.draw_stage) for n in places])
    )
    best, at = found, math.inf
    for k, violation in enumerate(task.violation(solved).tolist()):
        if violation > 0:
            continue
        member = _member(solved, k)
        off = abs(task.passing(member, above=found.draw_stage > places[k]) - places[k])
        if (off, violation) < (at, best.violation):
            at = off
            best = _Found(
                solvent=found.solvent,
                stages=found.stages,
                feed_stage=places[k],
                draw_stage=found.draw_stage,
                violation=violation,
                solved=member,
                count=found.count + len(places),
            )
    return best


def _finished(task: _Task, found: _Found, least: float) -> CircuitDesign:
    """The design in the caller's terms, once its second simulation says the same."""
    solved = found.solved
    scrub = task.scrub(found.solvent)
    flows = {
        "raffinate": solved.raffinate,
        "draw": solved.draws["draw"],
        "organic": solved.loaded_organic,
    }
    second = remarch.remarch(
        task.a,
        task.f,
        found.solvent,
        scrub,
        found.feed_stage,
        found.stages - found.feed_stage,
        task.feed_phase,
        task.efficiency,
        draw=(found.draw_stage, task.draw_phase, task.flows[1]),
    )
    recheck = remarch.agree(remarch.difference(second, task.f, flows))
    moles = {k: dict(zip(task.names, v.tolist(), strict=True)) for k, v in flows.items()}
    feed = dict(zip(task.names, task.f.tolist(), strict=True))
    active = []
    for wanted, (outlet, array) in zip(task.outlets, flows.items(), strict=True):
        for value, allowed in task.strays(wanted, array):
            if float(value) > 0.5 * allowed:
                active.append(f"the {outlet}")
    basis = "mole" if np.all(task.weights == 1) else "oxide-mass"
    light, heavy = task.outlets[0].elements, task.outlets[2].elements
    cut = len(light)
    fenske = [
        shortcut.fenske_multicomponent(task.a, flows["raffinate"], flows["organic"], k)
        for k in (cut, len(task.names) - len(heavy))
    ]
    return CircuitDesign(
        components=task.names,
        extractability=dict(zip(task.names, task.a.tolist(), strict=True)),
        light=tuple(e for e in task.names if e in light),
        heavy=tuple(e for e in task.names if e in heavy),
        feed_phase=task.feed_phase,
        stages_extraction=found.feed_stage,
        stages_scrub=found.stages - found.feed_stage,
        solvent=found.solvent,
        scrub=scrub,
        feed=feed,
        raffinate=moles["raffinate"],
        organic=moles["organic"],
        purity={
            k: products.purity(v, w.elements, basis)
            for (k, v), w in zip(moles.items(), task.outlets, strict=True)
        },
        recovery={
            k: products.recovery(v, feed, w.elements, basis)
            for (k, v), w in zip(moles.items(), task.outlets, strict=True)
        },
        minimum={
            "solvent": least,
            "scrub": max(task.scrub(least), 0.0),
            "stages": float(min(fenske)),
        },
        objective=found.solvent * found.stages,
        active=tuple(dict.fromkeys(f"purity of {name}" for name in active)),
        iterations=found.count,
        recheck=recheck,
        draw=Drawn(
            name=task.outlets[1].name,
            phase=task.draw_phase,
            stage=found.draw_stage,
            flows=moles["draw"],
        ),
    )
