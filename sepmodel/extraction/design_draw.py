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
from dataclasses import dataclass, replace

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
# A free solvent: the scrub is doubled, or raised by what strays (at most exp(FURTHEST)), at most so
# often, until a circuit with ROOM times the stages of total reflux does (what strays by more than
# exp(HOPELESS) no better place mends); from ABOVE times that it goes down by half powers of two
# until circuits have grown past all use. One refusal does not end it: the next steps along, in half
# powers from the last that was found, are tried.
CLIMBS = 10
FURTHEST = 5.0
HOPELESS = 0.5
ROOM = 2
STEP = math.sqrt(2)
ABOVE = 2
STEPS = (1.0, 2.0, 0.5)
# Times the stages of the last circuit at which the next one down is given up.
GROWN = 3
# Of the feed, the least scrub a search begins at.
SMALL = 1e-2
# The nearest scrub that will do is told within this factor.
CLOSE = 1.5
# From so many stages on, places are sought around those of the last circuit alone.
LONG = 100
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
    score = score or (lambda design: design.phi)
    if solvent is not None:
        try:
            found = _fewest(task, solvent, most_stages)
        except InfeasibleError as error:
            raise _refused(task, error, solvent, most_stages) from None
        only = _finished(task, _by_keys(task, found))
        return only, [only]
    least = _total_reflux(task, most_stages)
    top, some = _climb(task, task.least_scrub(), least, most_stages, 2.0)
    if some is None:
        raise InfeasibleError(
            f"no circuit of up to {_roomy(task, least, most_stages)} stages was found that meets "
            f"the three specifications, with a solvent of up to {task.solvent(top):.4g}; "
            f"at total reflux {least} stages do",
            limit={"stages": float(least)},
        )
    members: dict[float, CircuitDesign] = {}
    near: _Found | None = None

    def step(scrub: float, most: int) -> bool:
        """Whether one circuit more was found."""
        nonlocal near
        try:
            near = _fewest(task, task.solvent(scrub), most, near)
        except InfeasibleError:
            return False
        members[scrub] = _finished(task, _by_keys(task, near), check=False)
        return True

    # From much solvent, where circuits are short, down to little, each from the one before.
    more = step(ABOVE * top, most_stages)
    while more and score(members[min(members)]) <= GROWTH * min(map(score, members.values())):
        assert near is not None
        lowest, enough = min(members), min(most_stages, GROWN * near.stages)
        more = any(step(lowest / STEP**power, enough) for power in STEPS)
    # Up again, where the first circuit is the best so far.
    near = None
    while members and min(members, key=lambda w: score(members[w])) == max(members):
        if len(members) > 2 * CLIMBS or not step(STEP * max(members), most_stages):
            break
    if not members:
        return design_draw(
            feed,
            extractability,
            outlets,
            solvent=task.solvent(top),
            draw_phase=draw_phase,
            feed_phase=feed_phase,
            basis=basis,
            most_stages=most_stages,
            efficiency=efficiency,
        )
    # Between the best and its neighbours, where circuits are short and a stage counts for much.
    best_scrub = min(members, key=lambda w: score(members[w]))
    for scrub in (best_scrub / math.sqrt(STEP), best_scrub * math.sqrt(STEP)):
        near = None
        step(scrub, most_stages)
    curve = [members[w] for w in sorted(members)]
    best = min(range(len(curve)), key=lambda k: score(curve[k]))
    curve[best] = replace(curve[best], recheck=_again(task, curve[best]))
    return curve[best], curve


def _refused(
    task: _Task, error: InfeasibleError, solvent: float, most_stages: int
) -> InfeasibleError:
    """The refusal of a given solvent with a larger one at which a circuit was found, if any was."""
    try:
        least = _total_reflux(task, most_stages)
    except InfeasibleError as none:
        return none
    first = max(2 * task.scrub(solvent), task.least_scrub())
    _, near = _climb(task, first, least, most_stages, CLOSE)
    if near is None:
        return InfeasibleError(str(error), limit=error.limit)
    return InfeasibleError(
        str(error),
        limit=error.limit,
        nearest={"solvent": near.solvent, "stages": float(near.stages)},
    )


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
        which side of it the draw is on.

        Both hold for products that hold little of what lies beyond a neighbour: a scale to begin a
        search at, and no bound where a draw may hold much of everything.
        """
        ends = [len(self.outlets[0].elements), len(self.names) - len(self.outlets[2].elements)]
        bounds = []
        for cut, carried in zip(ends, (1.0 - self.flows[0], self.flows[2]), strict=True):
            heavy = np.where(np.arange(len(self.names)) >= cut, self.f, 0.0)
            heavy *= min(carried / heavy.sum(), 1.0)
            bounds.append(
                float(shortcut.minimum_solvent(self.a, self.f, heavy, cut, self.feed_phase))
            )
        return max(min(bounds), self.solvent(0.0))

    def least_scrub(self) -> float:
        """Scrub to begin a search at: that of Underwood's bound, or a part of the feed."""
        scrub = self.scrub(self.least_solvent())
        least = SMALL * float(self.f.sum())
        return max(scrub, least) if math.isfinite(scrub) else float(self.f.sum())

    def solvent(self, scrub: float) -> float:
        """S that carries the products and so much scrubbed back."""
        return scrub - self.scrub(0.0)

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
        return self.worst((solved.raffinate, solved.draws["draw"], solved.loaded_organic))

    def worst(self, found: tuple[Array, Array, Array]) -> Array:
        """The same of the flows of three outlets, (B, C) each."""
        worst = np.full(len(found[0]), -np.inf)
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


def _roomy(task: _Task, least: int, most: int) -> int:
    """So many stages that, if circuits of any length do, one of these should."""
    return min(most, math.ceil(ROOM * least / task.efficiency) + 2)


def _climb(
    task: _Task, scrub: float, least: int, most: int, close: float
) -> tuple[float, _Found | None]:
    """A scrub, from the one given up, at which a circuit of ample stages meets everything.

    What strays falls with the solvent, at high reflux in proportion to it: so far the next one
    goes up, then back until the last that does is within a factor ``close`` of one that does not.
    """
    stages, found, low = _roomy(task, least, most), None, 0.0
    for _ in range(CLIMBS):
        if task.solvent(scrub) > 0:
            member = _best_places(task, task.solvent(scrub), stages, None, enough=True)
            if member.violation <= 0:
                found = member
                break
            strays = member.violation if math.isfinite(member.violation) else 0.0
        else:
            strays = 0.0
        low, scrub = scrub, scrub * max(2.0, math.exp(min(strays, FURTHEST)))
    while found is not None and low > 0 and scrub > close * low:
        middle = math.sqrt(low * scrub)
        if task.solvent(middle) > 0:
            member = _best_places(task, task.solvent(middle), stages, None, enough=True)
        if task.solvent(middle) > 0 and member.violation <= 0:
            found, scrub = member, middle
        else:
            low = middle
    return scrub, found


def _total_reflux(task: _Task, most: int) -> int:
    """The least stages of any solvent flow, endless reflux.

    There the ratio of two elements grows by that of their extractabilities a stage, wherever the
    feed enters: outlet shares of element i are 1 : u a_i^I : v a_i^N, and u and v follow from the
    outlets' flows.

    Raises
    ------
    InfeasibleError
        when it takes more than ``most``.
    """
    low, high = 1, 2
    while not _parts(task, high):
        if high >= most:
            raise InfeasibleError(
                f"no circuit of up to {most} stages meets the three specifications, not even at "
                "total reflux",
                limit={"stages": float(most)},
            )
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _parts(task, middle) else (middle, high)
    return high


def _parts(task: _Task, stages: int) -> bool:
    """Whether so many stages at total reflux meet everything, with the draw at the best of them."""
    total = float(task.f.sum())
    log_a = np.log(task.a)
    place = np.arange(1, stages + 1) - (task.draw_phase == "aqueous")
    # Grow along the draw stage, (places, two outlets above the raffinate, elements).
    growth = np.stack(
        [place[:, None] * log_a, np.broadcast_to(stages * log_a, (stages, len(log_a)))], axis=1
    )
    wanted = np.array(task.flows[1:]) / total
    share = task.f / total
    # Newton on a convex function of ln u and ln v, a damped step at a time.
    level = -np.einsum("kjc,c->kj", growth, share)
    for _ in range(4 * ROUNDS):
        part = level[..., None] + growth
        top = np.maximum(part.max(axis=1, keepdims=True), 0.0)
        weight = np.exp(part - top)
        weight /= weight.sum(axis=1, keepdims=True) + np.exp(-top)
        off = wanted - weight @ share
        if np.max(np.abs(off)) < ROUNDING * float(wanted.min()):
            break
        bend = -np.einsum("kic,kjc,c->kij", weight, weight, share)
        bend[:, [0, 1], [0, 1]] += weight @ share
        bend[:, [0, 1], [0, 1]] += np.finfo(float).tiny
        move = np.linalg.solve(bend + ROUNDING * np.eye(2) * wanted.min(), off[..., None])[..., 0]
        level += move / np.maximum(np.max(np.abs(move), axis=1, keepdims=True) / 2, 1.0)
    flows = np.maximum(1 - weight.sum(axis=1, keepdims=True), 0.0)
    parts = np.concatenate([flows, weight], axis=1) * task.f
    settled = np.max(np.abs(off), axis=1) < np.sqrt(ROUNDING) * wanted.min()
    worst = task.worst((parts[:, 0], parts[:, 1], parts[:, 2]))
    return bool(np.any((worst <= np.sqrt(ROUNDING)) & settled))


def _best_places(
    task: _Task, solvent: float, stages: int, near: _Found | None, *, enough: bool = False
) -> _Found:
    """Feed and draw stages of most margin for so many stages; ``enough``: of any margin."""
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
        if enough and not 0 < tried[best] < HOPELESS:
            break
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


def _fewest(task: _Task, solvent: float, most: int, near: _Found | None = None) -> _Found:
    """The least number of stages at which every specification is met."""
    if task.scrub(solvent) < 0 or solvent <= 0:
        least = max(task.solvent(0.0), 0.0)
        raise InfeasibleError(
            f"a solvent of {solvent:.6g} carries less than the products ask for, {least:.6g}",
            limit={"solvent": least},
        )
    purest = max(1 / max(1 - (w.purity or 0.5), ROUNDING) for w in task.outlets)
    bound = math.log(purest) / math.log(float(task.a[-1]))
    low = 2
    stages = max(3, math.ceil(GROWTH * bound)) if near is None else near.stages
    stages = min(stages, most)
    found = _best_places(task, solvent, stages, near)
    gained = math.inf
    while found.violation > 0:
        low, before = stages, found.violation
        if stages >= most or gained < 1 / most:
            raise InfeasibleError(
                f"no circuit of up to {stages} stages was found that meets the three "
                f"specifications with a solvent of {solvent:.6g}",
                limit={"stages": float(stages)},
            )
        stages = min(most, math.ceil(GROWTH * stages))
        found = _best_places(task, solvent, stages, found if near or stages > LONG else None)
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


def _again(task: _Task, found: CircuitDesign) -> float:
    """Difference of a circuit's outlets to its second simulation, where the two agree."""
    assert found.draw is not None
    second = remarch.remarch(
        task.a,
        task.f,
        found.solvent,
        found.scrub,
        found.stages_extraction,
        found.stages_scrub,
        task.feed_phase,
        task.efficiency,
        draw=(found.draw.stage, task.draw_phase, task.flows[1]),
    )
    outlets = {"raffinate": found.raffinate, "draw": found.draw.flows, "organic": found.organic}
    flows = {k: np.array([v[e] for e in task.names]) for k, v in outlets.items()}
    return remarch.agree(remarch.difference(second, task.f, flows))


def _finished(task: _Task, found: _Found, *, check: bool = True) -> CircuitDesign:
    """The design in the caller's terms, once (``check``) its second simulation says the same."""
    solved = found.solved
    scrub = task.scrub(found.solvent)
    flows = {
        "raffinate": solved.raffinate,
        "draw": solved.draws["draw"],
        "organic": solved.loaded_organic,
    }
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
    # Where the draw may hold much of everything, Underwood's flow is no bound: the products' is.
    least = task.least_solvent()
    if not least <= found.solvent:
        least = max(task.solvent(0.0), 0.0)
    made = CircuitDesign(
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
        draw=Drawn(
            name=task.outlets[1].name,
            phase=task.draw_phase,
            stage=found.draw_stage,
            flows=moles["draw"],
        ),
    )
    return replace(made, recheck=_again(task, made)) if check else made
