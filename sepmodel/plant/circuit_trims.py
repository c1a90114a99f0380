"""Many circuits of one build at once, each with its own liquor and constants: flows set anew.

The stages of extraction and scrub are those of a circuit that is solved already; what differs
between members is what enters, the chemistry, what may stray, and the stages of the strip. The
conditions are those of ``circuit_search``: the organic holds the split, the scrub the separation,
the strip acid is the least that leaves the allowed residue, and its margin. Stages and flows are
unknowns of one Newton iteration: with J the derivatives of the stages' closures r and g those by
the flows z,

    du = J^-1 r - J^-1 g dz,   (F_u V + F_z) dz = F - F_u J^-1 r,   V = -J^-1 g,

where the conditions' derivatives F are taken along du and dz by differences. What the stripped
organic brings back settles in a few rounds of extraction and strip, because it is little. Members
never influence one another; each stops by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import solvers
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.extraction import circuit, linearised
from sepmodel.extraction.circuit_plan import CircuitInputs, Inlet, Section, prepare
from sepmodel.extraction.stagewise import Plan, State, approach, chosen, system, take
from sepmodel.plant.circuit_search import SCRUBBED
from sepmodel.plant.circuits import COUNTER_ION, Chemistry, Liquor, Solved, Start, Task
from sepmodel.species import CHARGES

Array = NDArray[np.float64]
Members = NDArray[np.int64]

# Step of a difference, in ln of a flow and along the stages' unknowns.
STEP = 1e-6
# ln of a flow is counted in these, so that a Newton step never changes a flow by much.
UNIT = 0.1
# The product split is held this much closer than the separation: it decides what strays.
TOLERANCE, ACCEPT, LIMIT = 1e-11, 1e-7, 40
# Least unit of the split: finer, rounding would be seen.
FINEST = 1e-3
# Rounds of extraction and strip, and the change of what comes back at which they end, over what
# the organic carries.
ROUNDS, SETTLED = 12, 1e-10
# Scrub against the design's, in ln: above it stages are missing, below it nothing is saved.
MOST_SCRUB, LEAST_SCRUB = math.log(2.0), math.log(0.5)
# With the scrub held back the separation is at least what is asked, within this.
HELD = 1e-6
# Strip acid beside the design's least, in ln, from which its least is sought again; in so many
# steps; and how near to it (ln of what is left) the balance alone may lead.
BESIDE = (-0.3, 0.1, 0.3, 0.8)
SLOWLY = 4
NEARLY = 0.4
# Share of the product below which what strays counts as this much.
NOTHING = 1e-12
# What stands for none where a logarithm is taken: an element [mol/s], free acid [mol/m3].
LEAST, LEAST_ACID = 1e-60, 1e-9
# Strengths and shares of a chemistry that differ between members.
STRENGTHS = (
    "extractant",
    "saponification",
    "feed_acid",
    "scrub_acid",
    "strip_acid",
    "residue",
    "acid_excess",
    "phase_ratio_high",
)
# Step of the numbers of a member for the derivatives, and how far these are followed.
SMALL, FAR = 1e-3, 1.5
# Unknowns of a stage (ln d/h) and ln of flows beyond which nothing is looked at.
FARTHEST, WILD = 50.0, 20.0
# Chunk of members whose matrices stay in the processor's cache.
CHUNK = 64


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Job:
    """One member: what enters, its constants, what may stray [mol/s], the strip's stages."""

    liquor: Liquor
    chemistry: Chemistry
    down: float
    up: float
    strip: int


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Numbers:
    """The members of one chunk as arrays (B,) or (B, C); flows by ln z over their scales."""

    feed: Array
    flow: Array
    feed_acid: Array
    neutralised: Array
    log_k: Array
    dimer: Array
    soap: Array
    scrub_acid: Array
    strip_acid: Array
    residue: Array
    excess: Array
    organic: Array
    scrub: Array
    strip: Array
    asked: Array
    down: Array
    up: Array

    def take(self, who: Members) -> _Numbers:
        return _Numbers(**{name: getattr(self, name)[who] for name in self.__dataclass_fields__})


@dataclass(eq=False, slots=True)
class _Open:
    """Extraction and scrub of all members: unknowns, ln of both flows, what the organic brings
    back [mol/m3], who is still good, and whose scrub is free (not held back)."""

    u: Array
    z: Array
    barren: Array
    good: NDArray[np.bool_]
    free: NDArray[np.bool_]


@dataclass(eq=False, slots=True)
class _Strip:
    """The strips of one length: whose, unknowns with the margin and at the least acid, ln of it."""

    who: Members
    u: Array
    least: Array
    z: Array


class Trimmer:
    """Circuits built as ``built`` (solved for ``task``): flows for other liquors and constants."""

    def __init__(self, built: Solved, task: Task, more: int = 0) -> None:
        assert built.start is not None
        assert built.chemistry is not None
        n, m, _ = built.start.stages
        self.task, self.built = task, built
        self.stages = (n + more, m + more)
        self.names = tuple(e for e in task.feed if e in built.start.names)
        self.components = (*self.names, COUNTER_ION)
        self.light = np.array([e in task.light for e in self.names])
        self.charge = np.array([*(float(CHARGES[e]) for e in self.names), 1.0])
        self.per_mole = float(CHARGES[self.names[0]])
        chemistry = built.chemistry
        log_k = np.array([chemistry.log_k[e] for e in self.components])
        # Half a dimer more or less for the counter-ion changes no figure in its third digit.
        self.model = CationExchange(log_k=log_k, charge=self.charge, dimers=self.charge.copy())
        whole = built.start.u[:, :1] if built.start.u.shape[1] == 1 else None
        if whole is None:
            logs = built.start.u
            whole = logs[:, :1] - logs[:, 1:]
        self.open = _stretched(whole[: n + m], (n, m), self.stages)
        self.closing = whole[n + m :]
        self.flows = built.start.flows
        self.margin = math.log(chemistry.acid_excess)
        self.least = self.closing
        self._known: tuple[Array, Array] | None = None
        self.reached: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        own = Liquor(moles=task.feed, flow=task.flow, acid=task.acid)
        self.centre = self.vectors(
            [Job(liquor=own, chemistry=chemistry, down=task.down, up=task.up, strip=0)]
        )

    def vectors(self, jobs: Sequence[Job]) -> Array:
        """What differs between members (B, P): logarithms, in the order of ``_read``."""
        names = self.names
        rows = []
        for j in jobs:
            c = j.chemistry
            rows.append(
                [
                    *(max(j.liquor.moles.get(e, 0.0), LEAST) for e in names),
                    j.liquor.flow,
                    max(j.liquor.acid, LEAST_ACID * j.liquor.flow),
                    j.down,
                    j.up,
                    *(getattr(c, name) for name in STRENGTHS),
                ]
            )
        numbers = np.log(np.array(rows))
        log_k = np.array([[j.chemistry.log_k[e] for e in self.components] for j in jobs])
        return np.concatenate([numbers, log_k], axis=1)

    def numbers(self, vectors: Array) -> _Numbers:
        """The members as arrays, from their logarithms (B, P)."""
        task, names = self.task, self.names
        c = len(names)
        plain = np.exp(vectors[:, : c + 4 + len(STRENGTHS)])
        feeds, (flow, fed_acid, down, up) = plain[:, :c], plain[:, c : c + 4].T
        of = dict(zip(STRENGTHS, plain[:, c + 4 :].T, strict=True))
        neutralised = np.maximum(fed_acid - of["feed_acid"] * flow, 0.0)
        # Flows are counted in those of the design, for as much of its feed.
        size = feeds.sum(1) / sum(task.feed[e] for e in names)
        soap = of["extractant"] * of["saponification"]
        organic = task.solvent * size * self.per_mole / soap
        scrub = self.per_mole * max(task.scrub, SCRUBBED * task.solvent) * size
        asked = feeds[:, ~self.light].sum(1) - down + up
        return _Numbers(
            feed=np.concatenate([feeds, np.zeros((len(feeds), 1))], axis=1),
            flow=flow,
            feed_acid=(fed_acid - neutralised) / flow,
            neutralised=neutralised,
            log_k=vectors[:, c + 4 + len(STRENGTHS) :],
            dimer=of["extractant"] / 2,
            soap=soap,
            scrub_acid=np.minimum(
                of["scrub_acid"], scrub / (1.5 * organic / of["phase_ratio_high"])
            ),
            strip_acid=of["strip_acid"],
            residue=of["residue"],
            excess=of["acid_excess"],
            organic=organic,
            scrub=scrub,
            strip=self.per_mole * asked,
            asked=asked,
            down=down,
            up=up,
        )

    def solve(self, jobs: Sequence[Job]) -> list[Solved | None]:
        """Every member's circuit, None where no flows do what is asked of it.

        ``reached`` then says of each whether its extraction and scrub were solved at all.
        """
        return self._told(jobs, *self._settled(jobs)) if jobs else []

    # --- extraction and scrub ----------------------------------------------------------------

    def _open_inputs(self, of: _Numbers, z: Array, barren: Array) -> CircuitInputs:
        """Extraction and scrub at ln of organic and scrub flow, (B, 2), over their scales."""
        n, m = self.stages
        organic, scrub = np.exp(z.T)
        soap = barren.copy()
        soap[:, -1] = of.soap
        return CircuitInputs(
            components=self.components,
            model=self.model,
            charge=self.charge,
            sections=(Section(name="extraction", stages=n), Section(name="scrub", stages=m)),
            organic_flow=organic * of.organic,
            dimer=of.dimer,
            organic_conc=soap,
            inlets=(
                Inlet(
                    name="feed",
                    section="extraction",
                    stage=n,
                    flow=of.flow,
                    conc=of.feed / of.flow[:, None],
                    acid=of.feed_acid,
                ),
                Inlet(
                    name="scrub",
                    section="scrub",
                    stage=m,
                    flow=scrub * of.scrub / of.scrub_acid,
                    conc=np.zeros(len(self.components)),
                    acid=of.scrub_acid,
                ),
            ),
            log_k_shift=of.log_k - self.model.log_k,
        )

    def _split(self, of: _Numbers, state: State, returned: Array, near: bool) -> Array:
        """F1 and F2 (B, 2): the split, in units of what may stray, and the separation."""
        assert state.aqueous is not None
        assert state.organic is not None
        raffinate = state.aqueous[:, 0, :-1]
        product = state.organic[:, -1, :-1] - returned[:, :-1]
        least = NOTHING * of.asked
        heavy = np.maximum(raffinate[:, ~self.light].sum(1), least)
        light = np.maximum(product[:, self.light].sum(1), least)
        fine = np.maximum((of.down + of.up) / of.asked, FINEST)
        first = np.log(product.sum(1) / of.asked) / fine
        strayed = (
            np.log(heavy / np.maximum(of.down, least)),
            np.log(light / np.maximum(of.up, least)),
        )
        if near:
            # The same two conditions, each by itself: no rounding of a sum hides what strays.
            return np.stack(strayed, axis=1)
        return np.stack([first, 0.5 * (strayed[0] + strayed[1])], axis=1)

    def _opened(
        self, of: _Numbers, u: Array, z: Array, barren: Array, count: int, near: bool
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Extraction and scrub solved with both flows, or with the organic alone."""

        def plan_at(who: Members, own: Array) -> tuple[Plan, Array]:
            part = of.take(who)
            flows = np.concatenate([own, z[who, count:]], axis=1)
            plan = prepare(self._open_inputs(part, flows, barren[who]), checked=True)
            return plan, barren[who] * (np.exp(flows[:, 0]) * part.organic)[:, None]

        def conditions(who: Members, state: State, extra: Array) -> Array:
            return self._split(of.take(who), state, extra, near and count == 2)[:, :count]

        u, own, fine = _bordered(u, z[:, :count], plan_at, conditions)
        return u, np.concatenate([own, z[:, count:]], axis=1), fine

    # --- strip -------------------------------------------------------------------------------

    def _strip_inputs(
        self, of: _Numbers, stages: int, strip: Array, organic_flow: Array, loaded: Array
    ) -> CircuitInputs:
        """The strip alone: acid flow (B,) [m3/s], the organic and what it carries [mol/s]."""
        return CircuitInputs(
            components=self.components,
            model=self.model,
            charge=self.charge,
            sections=(Section(name="strip", stages=stages),),
            organic_flow=organic_flow,
            dimer=of.dimer,
            organic_conc=loaded / organic_flow[:, None],
            inlets=(
                Inlet(
                    name="strip",
                    section="strip",
                    stage=stages,
                    flow=strip,
                    conc=np.zeros(len(self.components)),
                    acid=of.strip_acid,
                ),
            ),
            log_k_shift=of.log_k - self.model.log_k,
        )

    def _stripped(
        self, of: _Numbers, stages: int, u: Array, z: Array, organic_flow: Array, loaded: Array
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """The strip solved with the least acid that leaves the residue.

        Where the way from the start is too far the strip is first solved with ample acid; what it
        leaves then rises to the residue in steps, which move its front by a few stages each.
        """
        scale = of.strip / of.strip_acid * (organic_flow / of.organic)
        asked = np.log(of.residue * loaded[:, :-1].sum(1))

        def left(state: State) -> Array:
            assert state.organic is not None
            out: Array = np.log(state.organic[:, -1, :-1].sum(1))
            return out

        def plan_of(who: Members, z: Array) -> Plan:
            flow = np.exp(z[:, 0]) * scale[who]
            return prepare(
                self._strip_inputs(of.take(who), stages, flow, organic_flow[who], loaded[who]),
                checked=True,
            )

        def solved(
            rows: Members, u: Array, z: Array, target: Array
        ) -> tuple[Array, Array, NDArray[np.bool_]]:
            return _bordered(
                u,
                z,
                lambda who, z: (plan_of(rows[who], z), target[who]),
                lambda who, state, target: (left(state) - target)[:, None],
            )

        u, z, fine = solved(np.arange(len(u)), u, z, asked)
        carried = np.log(loaded[:, :-1].sum(1))
        for more in BESIDE:
            rest = np.flatnonzero(~fine)
            if not rest.size:
                break
            acid = np.full((rest.size, 1), self.flows[2] - self.margin + more)
            own, first, here = self._stripped_at(
                of, stages, rest, acid, scale, organic_flow, loaded
            )
            if more < 0:
                # What acid is short of takes nothing off: the rest follows from the balance.
                gone = -np.expm1(np.minimum(asked[rest] + NEARLY - carried[rest], 0.0))
                with np.errstate(invalid="ignore", divide="ignore"):
                    acid += np.log(gone / -np.expm1(first - carried[rest]))[:, None]
                acid = np.where(np.isfinite(acid), acid, 0.0)
                own, first, here = self._stripped_at(
                    of, stages, rest, acid, scale, organic_flow, loaded
                )
            here &= (first < asked[rest]) == (more > 0)
            for part in range(1, SLOWLY + 1):
                on = np.flatnonzero(here)
                if not on.size:
                    break
                target = first + (asked[rest] - first) * part / SLOWLY
                own[on], acid[on], here[on] = solved(rest[on], own[on], acid[on], target[on])
            u[rest[here]], z[rest[here]], fine[rest[here]] = own[here], acid[here], True
        return u, z, fine

    def _stripped_at(
        self,
        of: _Numbers,
        stages: int,
        who: Members,
        z: Array,
        scale: Array,
        organic_flow: Array,
        loaded: Array,
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """The strip at an acid: unknowns, ln of the rare earths it leaves, whether it is solved."""
        inputs = self._strip_inputs(
            of.take(who), stages, np.exp(z[:, 0]) * scale[who], organic_flow[who], loaded[who]
        )
        found = circuit.solve(inputs, failures="quick")
        moles = found.outlets["organic"].moles[:, :-1].sum(1)
        left = np.log(np.where(found.converged, moles, 1.0))
        return np.nan_to_num(found.u), left, found.converged.copy()

    # --- both --------------------------------------------------------------------------------

    def _settled(self, jobs: Sequence[Job]) -> tuple[_Numbers, _Open, dict[int, _Strip]]:
        """Extraction and strip in turn until what the organic brings back stands still."""
        vectors = self.vectors(jobs)
        of = self.numbers(vectors)
        size = len(jobs)
        open_ = self._first(vectors)
        self.reached = open_.good.copy()
        counts = np.array([job.strip for job in jobs])
        strips = {}
        for k in np.unique(counts).tolist():
            who = np.flatnonzero(counts == k)
            # Where fresh acid meets lean organic, one more stage looks like the last.
            last = np.minimum(np.arange(k), len(self.closing) - 1)
            u, least = (
                np.repeat(part[last][None], who.size, axis=0) for part in (self.closing, self.least)
            )
            place = np.full((who.size, 1), self.flows[2] - self.margin)
            strips[k] = _Strip(who=who, u=u, least=least, z=place)
        going = np.arange(size)
        for number in range(ROUNDS):
            if number:
                self._improve(of, open_, going, near=True)
            going = going[open_.good[going]]
            before = open_.barren.copy()
            for k, strip in strips.items():
                here = np.flatnonzero(np.isin(strip.who, going, assume_unique=True))
                for rows in _pieces(here):
                    self._strip(of.take(strip.who[rows]), k, strip, rows, open_)
            moved = np.abs(open_.barren - before)[going] * np.exp(open_.z[going, :1])
            moved *= of.organic[going, None]
            still = moved <= SETTLED * np.maximum(of.feed[going], np.finfo(float).tiny)
            still[:, -1] = True
            going = going[open_.good[going] & ~still.all(axis=1)]
            if not going.size:
                break
        open_.good[going] = False
        return of, open_, strips

    def _first(self, vectors: Array) -> _Open:
        """Extraction and scrub of all members before anything comes back with the organic.

        Newton starts at the circuit that is built; where that is too far, halfway or a quarter of
        the way (of all numbers, in logarithms) is solved first.
        """
        of = self.numbers(vectors)
        # For the few that need more stages the derivatives would cost more than they save.
        own = self.stages == self.built.stages[:2]
        open_ = self._start(vectors, own)
        self._improve(of, open_, np.arange(len(vectors)))
        for parts, along in ((1, False), (2, own), (4, own)):
            far = np.flatnonzero(~open_.good)
            if not far.size:
                break
            way = vectors[far] - self.centre
            tried = self._start(self.centre + way / parts, along)
            before: tuple[Array, Array] | None = None
            for part in range(1, parts + 1):
                then = self.numbers(self.centre + way * part / parts)
                here = np.flatnonzero(tried.good)
                last = tried.u.copy(), tried.z.copy()
                if before is not None:
                    tried.u[here] += (tried.u - before[0])[here]
                    tried.z[here] += (tried.z - before[1])[here]
                self._improve(then, tried, here)
                before = last
            for name in ("u", "z", "good", "free"):
                getattr(open_, name)[far] = getattr(tried, name)
        return open_

    def _start(self, vectors: Array, along: bool) -> _Open:
        """Where members begin: at the built circuit, or ``along`` its derivatives from there."""
        size = len(vectors)
        of = self.numbers(vectors)
        u = self.open[None] - self._level(of)[:, None, None]
        z = np.repeat(self.flows[None, :2], size, axis=0)
        if along:
            way = vectors - self.centre
            # Sums in a fixed order: a product of matrices may round by how many rows it has.
            by_u, by_z = self._derivatives()
            u = self.open[None] + np.clip(np.einsum("bp,pnm->bnm", way, by_u), -FAR, FAR)
            z = z + np.clip(np.einsum("bp,pk->bk", way, by_z), -FAR, FAR)
        return _Open(
            u=u,
            z=z,
            barren=np.zeros_like(of.feed),
            good=np.ones(size, dtype=bool),
            free=np.ones(size, dtype=bool),
        )

    def _derivatives(self) -> tuple[Array, Array]:
        """What every number of a member does to the built circuit: (P, N, 1) and (P, 2)."""
        if self._known is None:
            count = self.centre.shape[1]
            vectors = np.concatenate([self.centre, self.centre + SMALL * np.eye(count)])
            found = self._start(vectors, False)
            # The built circuit stands closed, this one is fed nothing back.
            self._improve(self.numbers(vectors), found, np.arange(count + 1))
            moved = found.good[1:] & found.free[1:] & found.good[0] & found.free[0]
            by_u, by_z = (found.u[1:] - found.u[0]) / SMALL, (found.z[1:] - found.z[0]) / SMALL
            by_u[~moved], by_z[~moved] = 0.0, 0.0
            self._known = by_u, by_z
        return self._known

    def _improve(self, of: _Numbers, open_: _Open, who: Members, near: bool = False) -> None:
        """Extraction and scrub of some members with their flows, as they are now.

        Where hardly any scrub would do, it is held at half of the design's: less is not worth
        having, and the separation is better than asked.
        """
        for part in _pieces(who[open_.free[who]]):
            u, z, fine = self._opened(
                of.take(part), open_.u[part], open_.z[part], open_.barren[part], 2, near
            )
            enough = fine & (z[:, 1] >= LEAST_SCRUB)
            open_.u[part[enough]], open_.z[part[enough]] = u[enough], z[enough]
            open_.good[part[enough]] &= z[enough, 1] < MOST_SCRUB
            open_.free[part[~enough]] = False
        held = who[~open_.free[who]]
        open_.z[held, 1] = LEAST_SCRUB
        for part in _pieces(held):
            own = of.take(part)
            u, z, fine = self._opened(
                own, open_.u[part], open_.z[part], open_.barren[part], 1, near
            )
            plan = prepare(self._open_inputs(own, z, open_.barren[part]), checked=True)
            returned = open_.barren[part] * (np.exp(z[:, 0]) * own.organic)[:, None]
            fine &= self._split(own, _states(plan, u)[1], returned, False)[:, 1] < HELD
            open_.u[part[fine]], open_.z[part[fine]] = u[fine], z[fine]
            open_.good[part] &= fine

    def _level(self, of: _Numbers) -> Array:
        """Where the unknowns of extraction go, to first order, with the level of the constants."""
        return np.asarray((of.log_k - self.model.log_k)[:, :-1].mean(axis=1) / self.per_mole)

    def _strip(self, own: _Numbers, k: int, strip: _Strip, rows: Members, open_: _Open) -> None:
        """The strip of some members for what extraction loads, and what it sends back."""
        who = strip.who[rows]
        plan = prepare(self._open_inputs(own, open_.z[who], open_.barren[who]), checked=True)
        organic = _states(plan, open_.u[who])[1].organic
        assert organic is not None
        loaded = organic[:, -1]
        flow = np.exp(open_.z[who, 0]) * own.organic
        strip.least[rows], strip.z[rows], fine = self._stripped(
            own, k, strip.least[rows], strip.z[rows], flow, loaded
        )
        result = circuit.solve(
            self._strip_inputs(own, k, self._acid(own, strip.z[rows], open_.z[who]), flow, loaded),
            guess=strip.u[rows],
            failures="quick",
        )
        open_.good[who] &= fine & result.converged
        strip.u[rows] = np.where(result.converged[:, None, None], result.u, strip.u[rows])
        out = result.outlets["organic"].moles / flow[:, None]
        # The counter-ion is given anew.
        out[:, -1] = 0.0
        open_.barren[who] = np.where(result.converged[:, None], out, 0.0)

    def _acid(self, of: _Numbers, least: Array, z: Array) -> Array:
        """Flow of the strip acid [m3/s], (B,): the least and its margin."""
        return np.asarray(np.exp(least[:, 0] + z[:, 0]) * of.excess * of.strip / of.strip_acid)

    def _told(
        self, jobs: Sequence[Job], of: _Numbers, open_: _Open, strips: Mapping[int, _Strip]
    ) -> list[Solved | None]:
        """The circuits in the plant's terms, from extraction and strip at their last flows."""
        out: list[Solved | None] = [None] * len(jobs)
        for k, strip in strips.items():
            for rows in _pieces(np.flatnonzero(open_.good[strip.who])):
                who = strip.who[rows]
                own = of.take(who)
                opened = circuit.solve(
                    self._open_inputs(own, open_.z[who], open_.barren[who]),
                    guess=open_.u[who],
                    failures="quick",
                )
                flow = np.exp(open_.z[who, 0]) * own.organic
                acid = self._acid(own, strip.z[rows], open_.z[who])
                stripped = circuit.solve(
                    self._strip_inputs(own, k, acid, flow, opened.outlets["organic"].moles),
                    guess=strip.u[rows],
                    failures="quick",
                )
                for i, row in enumerate(who.tolist()):
                    if opened.converged[i] and stripped.converged[i]:
                        place = np.append(open_.z[row], strip.z[rows[i]] + np.log(own.excess[i]))
                        out[row] = self._one(jobs[row], own, i, opened, stripped, acid, place, k)
        return out

    def _one(
        self,
        job: Job,
        of: _Numbers,
        i: int,
        opened: circuit.CircuitResult,
        strip: circuit.CircuitResult,
        acid: Array,
        flows: Array,
        k: int,
    ) -> Solved:
        n, m = self.stages
        raffinate, product = opened.outlets["raffinate"], strip.outlets["raffinate"]
        organic_flow = float(opened.flow_org[i, 0])
        scrub = float(opened.flow_aq[i, -1])
        rare_aq = np.concatenate([opened.conc_aq[i, :, :-1], strip.conc_aq[i, :, :-1]]).sum(-1)
        rare_org = np.concatenate([opened.conc_org[i, :, :-1], strip.conc_org[i, :, :-1]]).sum(-1)
        bound = opened.conc_org[i] @ self.charge
        returned = strip.outlets["organic"].moles[i]
        recycle = returned[:-1] / np.maximum(of.feed[i, :-1], np.finfo(float).tiny)
        most = int(np.argmax(recycle))
        held = tuple(
            (float(rare_org[part].mean()), float(rare_aq[part].mean()))
            for part in (slice(0, n), slice(n, n + m), slice(n + m, n + m + k))
        )
        ph = np.concatenate([opened.ph[i], strip.ph[i]])
        named = dict(zip(self.names, range(len(self.names)), strict=True))

        def told(moles: Array, light: bool) -> dict[str, float]:
            own = {e: float(moles[j]) for e, j in named.items()}
            rest = {
                e: amount
                for e, amount in job.liquor.moles.items()
                if e not in named and amount > 0 and (e in self.task.light) == light
            }
            return {**own, **rest}

        return Solved(
            name=self.task.name,
            raffinate_to=self.built.raffinate_to,
            organic_to=self.built.organic_to,
            stages=(n, m, k),
            flow_org=organic_flow,
            flow_feed=job.liquor.flow,
            flow_scrub=scrub,
            flow_strip=float(acid[i]),
            acid_scrub=scrub * float(of.scrub_acid[i]),
            acid_strip=float(acid[i] * of.strip_acid[i]),
            base_soap=float(of.soap[i]) * organic_flow - float(returned[-1]),
            base_feed=float(of.neutralised[i]),
            solvent_3s=float(of.organic[i] * of.soap[i] / self.per_mole),
            scrub_3s=float(of.scrub[i] / self.per_mole),
            feed=dict(job.liquor.moles),
            raffinate=told(raffinate.moles[i], True),
            product=told(product.moles[i], False),
            raffinate_acid=float(raffinate.proton[i] * raffinate.flow[i]),
            product_acid=float(product.proton[i] * product.flow[i]),
            solvent=float(
                max(opened.organic[i, :, :-1].sum(-1).max(), strip.organic[i, :, :-1].sum(-1).max())
            ),
            loading=float(bound.max() / of.dimer[i]),
            ph=(float(ph.min()), float(ph.max())),
            recycle=(self.names[most], float(recycle[most])),
            held=held,
            stages_3s=self.built.stages_3s,
            acid_fed=max(job.liquor.acid, 0.0),
            chemistry=job.chemistry,
            start=Start(
                stages=(n, m, k),
                flows=flows,
                u=np.concatenate([opened.u[i], strip.u[i]]),
                names=self.names,
            ),
        )


def _stretched(u: Array, old: Sequence[int], new: Sequence[int]) -> Array:
    """Unknowns (N, m) carried over to sections of other lengths, by interpolation."""
    if tuple(old) == tuple(new):
        return u
    parts, at = [], 0
    for a, b in zip(old, new, strict=True):
        here = u[at : at + a]
        at += a
        x = np.linspace(0.0, a - 1.0, b)
        parts.append(
            np.stack([np.interp(x, np.arange(a), here[:, k]) for k in range(u.shape[1])], axis=1)
        )
    return np.concatenate(parts)


def _pieces(who: Members) -> list[Members]:
    """Members in pieces that go through the kernel together."""
    count = max(1, math.ceil(who.size / CHUNK))
    return [part for part in np.array_split(who, count) if part.size]


def _states(plan: Plan, u: Array) -> tuple[Array, State]:
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return approach(plan, u)


def _bordered(
    u: Array,
    z: Array,
    plan_at: Callable[[Members, Array], tuple[Plan, Array]],
    conditions: Callable[[Members, State, Array], Array],
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Newton on stages' unknowns u (B, N, 1) and ln of flows z (B, k) together.

    ``plan_at`` gives the plan of some members at their flows and what the conditions need of it;
    ``conditions`` the k conditions at a state.
    """
    size, stages, _ = u.shape
    count = z.shape[1]

    def parts(x: Array) -> tuple[Array, Array]:
        return x[:, :stages, None], x[:, stages:] * UNIT

    def looked(who: Members, u: Array, z: Array) -> tuple[Array, Array, Plan, State]:
        # The kernel takes all members in one sweep: what is not a number must not get into it.
        lost = ~(np.all(np.abs(u[..., 0]) < FARTHEST, axis=1) & np.all(np.abs(z) < WILD, axis=1))
        if lost.any():
            u, z = np.where(lost[:, None, None], 0.0, u), np.where(lost[:, None], 0.0, z)
        plan, extra = plan_at(who, z)
        r, state = approach(plan, u)
        f = conditions(who, state, extra)
        if lost.any():
            r[lost], f[lost] = np.nan, np.nan
        return r[..., 0], f, plan, state

    def evaluate(x: Array, who: Members) -> tuple[Array, Any]:
        own, flows = parts(x)
        r, f, plan, state = looked(who, own, flows)
        return np.concatenate([r, f], axis=1), (who, own, flows, r, f, plan, state)

    def linearise(known: Any, _: Members) -> solvers.Linear:
        who, own, flows, r, f, plan, state = known
        linear = linearised.closing(linearised.factorise(system(plan, state)))
        everyone = np.arange(who.size)
        answers, slopes = [], []
        for j in range(count):
            moved = flows.copy()
            moved[:, j] += STEP
            by_flow = (looked(who, own, moved)[0] - r) / STEP
            answer = -linear(by_flow, everyone)
            along = own + STEP * answer[..., None]
            slopes.append((looked(who, along, moved)[1] - f) / STEP)
            answers.append(answer)
        by_z = np.stack(slopes, axis=-1)

        def step(both: Array, rows: Members) -> Array:
            here = who[rows]
            first = linear(both[:, :stages], rows)
            largest = np.maximum(np.abs(first).max(axis=1), 1.0)
            h = STEP / largest
            along = own[rows] + (h[:, None] * first)[..., None]
            dropped = (looked(here, along, flows[rows])[1] - f[rows]) / h[:, None]
            dz = _small(by_z[rows], both[:, stages:] - dropped)
            du = first + sum(answers[j][rows] * dz[:, j, None] for j in range(count))
            return np.concatenate([du, dz / UNIT], axis=1)

        return step

    def select(known: Any, rows: Members) -> Any:
        who, own, flows, r, f, plan, state = known
        return (
            who[rows],
            own[rows],
            flows[rows],
            r[rows],
            f[rows],
            take(plan, rows),
            chosen(state, rows),
        )

    start = np.concatenate([u[..., 0], z / UNIT], axis=1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        found = solvers.newton(
            evaluate,
            linearise,
            start,
            tolerance=TOLERANCE,
            accept=ACCEPT,
            limit=LIMIT,
            select=select,
        )
        own, flows = parts(found.u)
        everyone = np.arange(size)
        free = looked(everyone, own, flows)[3].spot.free
    positive = np.ones(size, dtype=bool) if free is None else np.all(free > 0, axis=(1, 2))
    return own, flows, found.converged & positive


def _small(matrices: Array, rhs: Array) -> Array:
    """Solutions of systems of one or two unknowns, (B, k, k) and (B, k)."""
    if matrices.shape[-1] == 1:
        return np.asarray(rhs / matrices[..., 0])
    (a, b), (c, d) = np.moveaxis(matrices, 0, -1)
    det = a * d - b * c
    return np.stack(
        [(d * rhs[:, 0] - b * rhs[:, 1]) / det, (a * rhs[:, 1] - c * rhs[:, 0]) / det], axis=1
    )
