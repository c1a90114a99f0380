"""Organic, scrub and strip flow at which a mass-action circuit does what its design asks.

Extraction and scrub are solved for the organic, which holds the product split, and the scrub,
which sets the separation; the strip for its acid; in turn, until what the organic brings back
settles. The whole circuit with its loop closed then confirms the flows. The split is nearly linear
in the organic flow, and along a held split the separation falls smoothly with the scrub: that is
why they are not searched for at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.errors import ConvergenceError, Trace
from sepmodel.extraction import circuit
from sepmodel.plant.circuits import COUNTER_ION, Chemistry, Solved, Start, Task
from sepmodel.species import CHARGES

Array = NDArray[np.float64]
# Extraction, scrub, strip.
Stages = tuple[int, int, int]
WHOLE, OPEN, STRIP = slice(0, 3), slice(0, 2), slice(2, 3)
# Stages added to each of extraction and scrub over the mass-flow design, in the order they are
# tried: soap and acid take a stage each that the mass-flow model does not know.
MORE = (1, 2, 3, 5)
# Scrub against the design's: where the search is given up, and where less is not worth having.
MOST_SCRUB, LEAST_SCRUB = math.log(2.0), math.log(0.5)
# Scrub over solvent, counted where the design asks for none.
SCRUBBED = 1e-2
# Step of a difference in the logarithm of a flow.
FLOW_STEP = 1e-6
# Longest steps in the logarithm of a flow.
LONGEST = 1e-1
# Organic over its scale at which a circuit is first looked at.
SCAN = np.linspace(-0.375, 0.125, 9)
NEAREST = 1e-3
ROUNDS = 40
HALVINGS = 5
# Rounds of circuit and strip in turn, and those in which the strip acid is still chosen.
PASSES, FREE_PASSES = 8, 2
# Share of the feed below which an element is no unknown of a circuit.
TRACE = 1e-6
# Share of the product below which what strays counts as this much.
NOTHING = 1e-12
# Conditions are met within this.
MET = 1e-4
# Strip acid over one pass of the product, where the search for it starts.
STRIP_GRID = np.linspace(0.0, 4.0, 12)
STRIP_NEAR = np.array([-0.15, -0.05, 0.0, 0.05, 0.15])
STRIP_FINE, STRIP_ROUNDS = 2e-2, 6


def run(task: Task, chemistry: Chemistry, start: Start | None = None) -> Solved:
    """The circuit with its three flows set so that both ends meet the design.

    Where the stages do not suffice, some are added; where none does, the nearest is returned and
    ``missed`` says by how much.

    Raises
    ------
    ConvergenceError
        when no state of the circuit near the design can be computed.
    """
    problem = _Problem(task, chemistry)
    if start is not None:
        warm = problem.found(start.stages, start)
        if warm is not None and warm.met:
            return problem.solved(warm)
    nearest: _Point | None = None
    for more in MORE:
        n, m, k = task.stages
        found = problem.found((n + more, m + more, k), None)
        if found is None:
            continue
        if nearest is None or found.separation < nearest.separation:
            nearest = found
        if found.met:
            return problem.solved(found)
    if nearest is None:
        raise ConvergenceError(
            f"{task.name}: no state of the circuit near its design was found",
            trace=Trace(equation="split, separation and strip of the circuit", component=task.name),
        )
    return problem.solved(nearest)


def near(task: Task, chemistry: Chemistry, start: Start) -> Solved | None:
    """The circuit with the stages of ``start`` and flows found from there; None if that fails."""
    problem = _Problem(task, chemistry)
    found = problem.found(start.stages, start)
    return problem.solved(found) if found is not None and found.met else None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Point:
    """A solved circuit with the logarithms of its flows and the three conditions."""

    stages: Stages
    flows: Array
    conditions: Array
    result: circuit.CircuitResult
    held_back: bool = False
    tangent: tuple[float, float] = (0.0, 0.0)

    @property
    def separation(self) -> float:
        return float(self.conditions[1])

    @property
    def met(self) -> bool:
        """The split holds, and the separation is at least what is asked."""
        if self.held_back:
            return self.separation < MET
        return abs(self.separation) < 2 * MET


class _Problem:
    """One circuit's inputs as a function of stages and flows, and the search for the flows."""

    def __init__(self, task: Task, chemistry: Chemistry) -> None:
        self.task, self.chemistry = task, chemistry
        # A trace would pile up on the organic over years and decide nothing: it leaves with its
        # own.
        least = TRACE * sum(task.feed.values())
        self.names = tuple(e for e in task.feed if task.feed[e] > least)
        self.traces = {e: n for e, n in task.feed.items() if 0 < n <= least}
        self.light = np.array([e in task.light for e in self.names])
        self.feed = np.array([task.feed[e] for e in self.names])
        self.asked = float(self.feed[~self.light].sum()) - task.down + task.up
        c = chemistry
        self.components = (*self.names, COUNTER_ION)
        charge = np.array([*(float(CHARGES[e]) for e in self.names), 1.0])
        dimers = np.array([*charge[:-1], c.dimers])
        log_k = np.array([c.log_k[e] for e in self.components])
        self.model = CationExchange(log_k=log_k, charge=charge, dimers=dimers)
        self.soap = np.zeros(len(self.components))
        self.soap[-1] = c.extractant * c.saponification
        self.empty = np.zeros(len(self.components))
        # Acid beyond what the circuit is fed at is neutralised before.
        fed = max(task.acid, 0.0)
        self.neutralised = max(fed - c.feed_acid * task.flow, 0.0)
        self.feed_acid = (fed - self.neutralised) / task.flow
        # Organic that would carry S at the loading of its soap: the scale of the search, no more.
        self.organic = task.solvent * float(CHARGES[self.names[0]]) / self.soap[-1]
        # Scrub acid is diluted until the phases can be mixed.
        self.scrub = float(CHARGES[self.names[0]]) * max(task.scrub, SCRUBBED * task.solvent)
        least = 1.5 * self.organic / c.phase_ratio_high
        self.scrub_acid = min(c.scrub_acid, self.scrub / least)
        self.pass_of_product = float(CHARGES[self.names[0]]) * self.asked
        # Shift of the split that matters to what strays.
        self.fine = (task.down + task.up) / self.asked

    def inputs(
        self, stages: Stages, flows: Array, *, sections: slice = WHOLE
    ) -> circuit.CircuitInputs:
        """The circuit at flows (..., 3): ln of organic, scrub, strip over their scales."""
        c, task = self.chemistry, self.task
        n, m, k = stages
        # Strip acid goes with the organic it meets.
        organic, scrub, strip = np.moveaxis(np.exp(flows), -1, 0)
        strip = strip * organic
        conc = np.append(self.feed / task.flow, 0.0)
        all_sections: Sequence[circuit.Section] = (
            circuit.Section(name="extraction", stages=n),
            circuit.Section(name="scrub", stages=m),
            circuit.Section(name="strip", stages=k, aqueous_to="out"),
        )
        inlets: Sequence[circuit.Inlet] = (
            circuit.Inlet(
                name="feed",
                section="extraction",
                stage=n,
                flow=task.flow,
                conc=conc,
                acid=self.feed_acid,
            ),
            circuit.Inlet(
                name="scrub",
                section="scrub",
                stage=m,
                flow=scrub * self.scrub / self.scrub_acid,
                conc=self.empty,
                acid=self.scrub_acid,
            ),
            circuit.Inlet(
                name="strip",
                section="strip",
                stage=k,
                flow=strip * self.pass_of_product / c.strip_acid,
                conc=self.empty,
                acid=c.strip_acid,
            ),
        )
        closed = sections == WHOLE
        return circuit.CircuitInputs(
            components=self.components,
            model=self.model,
            charge=self.model.charge,
            sections=all_sections[sections],
            organic_flow=organic * self.organic,
            dimer=c.extractant / 2,
            organic_conc=self.soap,
            inlets=inlets[sections],
            closed=closed,
            reset=(COUNTER_ION,) if closed else (),
        )

    def split(self, raffinate: Array, product: Array, returned: Array) -> tuple[Array, Array]:
        """F1 and F2 from what leaves (..., C) and what of the product the organic ``returned``."""
        product = product - returned
        heavy = raffinate[..., :-1][..., ~self.light].sum(-1)
        light = product[..., :-1][..., self.light].sum(-1)
        first = np.log(product[..., :-1].sum(-1) / self.asked)
        # What no assay finds is as good as nothing.
        least = NOTHING * self.asked
        with np.errstate(invalid="ignore"):
            strayed = np.maximum(heavy, least) * np.maximum(light, least)
        second = 0.5 * np.log(strayed / max(self.task.down, least) / max(self.task.up, least))
        return first, second

    def _opened(
        self, stages: Stages, flows: Array, guess: Array | None, barren: Array
    ) -> tuple[circuit.CircuitResult, Array]:
        """Extraction and scrub with what the organic brings back; conditions (..., 2)."""
        inputs = self.inputs(stages, flows, sections=OPEN)
        inputs = replace(inputs, organic_conc=self.soap + barren)
        found = circuit.solve(inputs, guess=guess, failures="quick")
        both = self.split(
            found.outlets["raffinate"].moles,
            found.outlets["organic"].moles,
            barren * np.asarray(inputs.organic_flow)[..., None],
        )
        return found, np.stack(both, axis=-1)

    def found(self, stages: Stages, start: Start | None) -> _Point | None:
        """The flows that do what is asked, with these stages.

        Extraction and scrub are solved for organic and scrub flow, the strip for its acid, in turn
        until what the organic brings back settles; the whole circuit then confirms it.
        """
        barren = self.empty
        place: float | None = None
        if start is None:
            opened = self._search(stages, np.zeros(3), None, barren)
        else:
            first = stages[0] + stages[1]
            opened = self._search(stages, start.flows, start.u[:first], barren)
            place = float(start.flows[2])
        strip: Array | None = None if start is None else start.u[stages[0] + stages[1] :]
        whole: Array | None = None
        for number in range(PASSES):
            if opened is None:
                return None
            if number < FREE_PASSES:
                chosen = self._strip(stages, opened, place)
                if chosen is None:
                    return None
                place = chosen
            assert place is not None
            flows = np.array([*opened.flows[:2], place])
            stripped = self._stripped(stages, opened, flows, strip)
            if stripped is None:
                return None
            strip, barren = stripped
            if number >= FREE_PASSES or opened.held_back:
                guess = np.concatenate([opened.result.u, strip]) if whole is None else whole
                closed = self._closed(stages, flows, guess, opened.held_back)
                if closed is None:
                    return None
                whole = closed.result.u
                if closed.met or opened.separation > MET:
                    return closed
            opened = self._search(stages, flows, opened.result.u, barren)
        return None

    def _closed(self, stages: Stages, flows: Array, guess: Array, held_back: bool) -> _Point | None:
        """The whole circuit with its loop closed, as it is."""
        found = circuit.solve(self.inputs(stages, flows), guess=guess, failures="quick")
        if not found.converged:
            return None
        both = self.split(
            found.outlets["raffinate"].moles, found.outlets["strip"].moles, self.empty
        )
        return _Point(
            stages=stages,
            flows=flows,
            conditions=np.array(both),
            result=found,
            held_back=held_back,
        )

    def _search(
        self, stages: Stages, flows: Array, guess: Array | None, barren: Array
    ) -> _Point | None:
        """Organic and scrub flow at which extraction and scrub do what is asked.

        The organic holds the split (``_held``) while the scrub is moved until the separation is
        what is asked, by Newton along the held split, inside the two scrubs that enclose it.
        """
        starts = [(flows, guess)] if guess is not None else self._scanned(stages)
        first: _Point | None = None
        for flows, guess in starts:
            first = self._held(stages, flows, guess, barren)
            if first is not None:
                break
        if first is None:
            return None
        short: _Point | None = None
        ample: _Point | None = None
        point: _Point | None = first
        before: _Point | None = None
        for _ in range(ROUNDS):
            if point is None:
                if before is None:
                    return None
                # Halfway back to where it was solved.
                flows = 0.5 * (flows + before.flows)
                if abs(flows[1] - before.flows[1]) < NEAREST:
                    return ample
                point = self._held(stages, flows, before.result.u, barren)
                continue
            guess, off, scrub = point.result.u, point.separation, float(point.flows[1])
            if abs(off) < MET:
                return point
            if off > 0:
                short = point
            else:
                ample = point
                if scrub <= LEAST_SCRUB:
                    return replace(point, held_back=True)
            slope = min(point.tangent[1], -0.5)
            new = scrub - float(np.clip(off / slope, -LONGEST, LONGEST))
            if short is not None and ample is not None:
                low, high = float(short.flows[1]), float(ample.flows[1])
                if not min(low, high) < new < max(low, high):
                    new = 0.5 * (low + high)
            elif scrub >= MOST_SCRUB:
                return point
            new = min(max(new, LEAST_SCRUB), MOST_SCRUB)
            flows = point.flows + np.array([point.tangent[0], 1.0, 0.0]) * (new - scrub)
            before, point = point, self._held(stages, flows, guess, barren)
        return point

    def _scanned(self, stages: Stages) -> list[tuple[Array, Array]]:
        """Organic flows near the asked split at the design's scrub, and unknowns to start from.

        From a row of organic flows at once: the two of them between which the split lies.
        """
        grid = np.zeros((SCAN.size, 3))
        grid[:, 0] = SCAN
        result, conditions = self._opened(stages, grid, None, self.empty)
        good = np.flatnonzero(result.converged)
        off = conditions[good, 0]
        if not good.size:
            return []
        above = np.flatnonzero(off > 0)
        k = int(above[0]) if above.size else good.size - 1
        starts = [(grid[good[k]].copy(), result.u[good[k]])]
        if above.size and k > 0:
            # From too little organic the way is smooth; from too much it leads over a cliff.
            starts.insert(0, (grid[good[k - 1]].copy(), result.u[good[k - 1]]))
        return starts

    def _held(self, stages: Stages, flows: Array, guess: Array, barren: Array) -> _Point | None:
        """Organic flow at which the split is what is asked, at a scrub flow.

        ``tangent`` of the point: what the organic and the separation do along the held split for a
        change of the scrub (all logarithms).
        """
        flows, good = np.array(flows), np.array(flows)
        steps = np.zeros((3, 3))
        steps[1, 0] = steps[2, 1] = FLOW_STEP
        halved = -1
        for _ in range(ROUNDS):
            result, conditions = self._opened(stages, flows + steps, guess, barren)
            if not result.converged.all():
                if halved in (-1, HALVINGS):
                    return None
                halved += 1
                flows = 0.5 * (good + flows)
                continue
            halved = 0
            base = conditions[0]
            slopes = (conditions[1:] - base) / FLOW_STEP
            good, guess = flows.copy(), result.u[0]
            if abs(base[0]) < self.fine * MET:
                organic = -slopes[1, 0] / slopes[0, 0]
                return _Point(
                    stages=stages,
                    flows=flows,
                    conditions=base,
                    result=_first(result),
                    tangent=(organic, float(slopes[1, 1] + organic * slopes[0, 1])),
                )
            flows[0] -= float(np.clip(base[0] / slopes[0, 0], -LONGEST, LONGEST))
        return None

    def _strip_inputs(self, stages: Stages, opened: _Point, flows: Array) -> circuit.CircuitInputs:
        """The strip alone, for the loaded organic of ``opened``."""
        out = opened.result.outlets["organic"]
        return replace(
            self.inputs(stages, flows, sections=STRIP),
            organic_flow=out.flow,
            organic_conc=out.moles / out.flow,
        )

    def _strip(self, stages: Stages, opened: _Point, place: float | None) -> float | None:
        """Strip flow (its logarithm): the least that leaves the allowed residue, and its margin.

        Found between two points of a grid, then of a finer one: what is left falls off a cliff.
        """
        margin = math.log(self.chemistry.acid_excess)
        loaded = opened.result.outlets["organic"].moles[:-1].sum()
        asked = math.log(self.chemistry.residue)
        grid = STRIP_GRID if place is None else place - margin + STRIP_NEAR
        for _ in range(STRIP_ROUNDS):
            flows = np.repeat(opened.flows[None], grid.size, axis=0)
            flows[:, 2] = grid
            inputs = self._strip_inputs(stages, opened, flows)
            result = circuit.solve(inputs, failures="quick")
            left = np.log(result.outlets["organic"].moles[:, :-1].sum(-1) / loaded)
            enough = np.flatnonzero(result.converged & (left < asked))
            k = int(enough[0]) if enough.size else -1
            # On the cliff itself a point may stay unsolved: the next one below does as well.
            below = np.flatnonzero(result.converged[:k]) if k > 0 else enough[:0]
            if not below.size:
                if grid[0] == STRIP_GRID[0] and grid[-1] == STRIP_GRID[-1]:
                    return None if k < 0 else float(grid[k]) + margin
                grid = STRIP_GRID
                continue
            j = int(below[-1])
            if grid[k] - grid[j] < STRIP_FINE:
                part = (asked - left[j]) / (left[k] - left[j])
                return float(grid[j] + part * (grid[k] - grid[j])) + margin
            grid = np.linspace(grid[j], grid[k], STRIP_GRID.size // 2)
        return None

    def _stripped(
        self, stages: Stages, opened: _Point, flows: Array, guess: Array | None
    ) -> tuple[Array, Array] | None:
        """Unknowns of the strip, and the concentrations [mol/m3] of the organic that leaves it."""
        inputs = self._strip_inputs(stages, opened, flows)
        result = circuit.solve(inputs, guess=guess, failures="quick")
        if not result.converged:
            return None
        out = result.outlets["organic"]
        # The counter-ion is given anew.
        return result.u, np.append(out.moles[:-1] / out.flow, 0.0)

    def _named(self, moles: Array, *, light: bool) -> dict[str, float]:
        """Rare earths of an outlet by name, with the traces that belong to it."""
        own = {e: n for e, n in self.traces.items() if (e in self.task.light) == light}
        return {**dict(zip(self.names, moles[:-1].tolist(), strict=True)), **own}

    def solved(self, point: _Point) -> Solved:
        """The circuit at a point, told in the plant's terms."""
        task, r = self.task, point.result
        inputs = r.inputs
        raffinate, product = r.outlets["raffinate"], r.outlets["strip"]
        heavy = float(raffinate.moles[:-1][~self.light].sum())
        light = float(product.moles[:-1][self.light].sum())
        acids = {i.name: float(np.asarray(i.flow) * np.asarray(i.acid)) for i in inputs.inlets}
        flows = {i.name: float(np.asarray(i.flow)) for i in inputs.inlets}
        ends = np.cumsum(point.stages)
        places = [slice(int(e) - s, int(e)) for e, s in zip(ends, point.stages, strict=True)]
        rare_aq, rare_org = r.conc_aq[:, :-1].sum(-1), r.conc_org[:, :-1].sum(-1)
        bound = r.conc_org @ self.model.dimers
        most = int(np.argmax(r.recycle[:-1]))
        return Solved(
            name=task.name,
            raffinate_to="",
            organic_to="",
            stages=point.stages,
            flow_org=float(np.asarray(inputs.organic_flow)),
            flow_feed=task.flow,
            flow_scrub=flows["scrub"],
            flow_strip=flows["strip"],
            acid_scrub=acids["scrub"],
            acid_strip=acids["strip"],
            base_soap=float(r.supplied[-1]),
            base_feed=self.neutralised,
            solvent_3s=task.solvent,
            scrub_3s=task.scrub,
            feed=dict(task.feed),
            raffinate=self._named(raffinate.moles, light=True),
            product=self._named(product.moles, light=False),
            raffinate_acid=float(raffinate.proton * raffinate.flow),
            product_acid=float(product.proton * product.flow),
            solvent=float(r.organic[:, :-1].sum(-1).max()),
            loading=float(bound.max() / (self.chemistry.extractant / 2)),
            ph=(float(r.ph.min()), float(r.ph.max())),
            recycle=(self.names[most], float(r.recycle[most])),
            held=tuple((float(rare_org[p].mean()), float(rare_aq[p].mean())) for p in places),
            stages_3s=task.stages,
            missed=(1.0, 1.0) if point.met else (heavy / task.down, light / task.up),
            acid_fed=max(task.acid, 0.0),
            chemistry=self.chemistry,
            start=Start(stages=point.stages, flows=point.flows, u=r.u, names=self.names),
            task=task,
        )


def _first(result: circuit.CircuitResult) -> circuit.CircuitResult:
    """The first member of a batch of one axis."""

    def pick(value: Array) -> Array:
        return np.asarray(np.asarray(value)[0])

    inputs = result.inputs

    def member(value: ArrayLike) -> Array:
        array = np.asarray(value, dtype=float)
        return np.asarray(array[0]) if array.ndim == 1 else array

    return replace(
        result,
        inputs=replace(
            inputs,
            organic_flow=member(inputs.organic_flow),
            inlets=tuple(replace(i, flow=member(i.flow)) for i in inputs.inlets),
        ),
        aqueous=pick(result.aqueous),
        organic=pick(result.organic),
        log_aqueous=pick(result.log_aqueous),
        log_organic=pick(result.log_organic),
        conc_aq=pick(result.conc_aq),
        conc_org=pick(result.conc_org),
        flow_aq=pick(result.flow_aq),
        flow_org=pick(result.flow_org),
        free=pick(result.free),
        proton=pick(result.proton),
        ph=pick(result.ph),
        outlets={
            name: replace(
                o,
                flow=pick(o.flow),
                moles=pick(o.moles),
                log_moles=pick(o.log_moles),
                proton=pick(o.proton),
            )
            for name, o in result.outlets.items()
        },
        recycle=pick(result.recycle),
        supplied=pick(result.supplied),
        u=pick(result.u),
    )
