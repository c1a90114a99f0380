"""Many circuits of one build at once, each with its own liquor and constants: flows set anew.

The stages of extraction and scrub are those of a circuit that is solved already; what differs
between members is what enters, the chemistry, what may stray, and the stages of the strip. The
conditions are those of ``circuit_search``: the organic holds the split, the scrub the separation,
the strip acid is the least that leaves the allowed residue, and its margin (``circuit_strips``).
Stages and flows are unknowns of one Newton iteration (``extraction.steered``). What the stripped
organic brings back settles in a few rounds of extraction and strip, because it is little. Members
never influence one another; each stops by itself.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.extraction import steered
from sepmodel.extraction.steered import Conditions, State
from sepmodel.plant import circuit_told
from sepmodel.plant.circuit_numbers import Job, Numbers, Reader
from sepmodel.plant.circuit_strips import Loaded, Stripper, Strips
from sepmodel.plant.circuits import Liquor, Solved, Task
from sepmodel.solvers import Secants
from sepmodel.species import CHARGES

__all__ = ["Job", "Trimmer"]

Array = NDArray[np.float64]
Members = NDArray[np.int64]

# Least unit of the split: finer, rounding would be seen.
FINEST = 1e-3
# Rounds of extraction and strip, and the change of what comes back at which they end, over what
# the organic carries.
ROUNDS, SETTLED = 16, 1e-10
# Share of an element that counts as coming back, at most, before the secants know.
MOST_BACK = 0.9
# Scrub against the design's, in ln: above it stages are missing, and a plant that cannot have more
# of them runs with up to ample scrub; below it nothing is saved.
MOST_SCRUB, AMPLE_SCRUB, LEAST_SCRUB = math.log(2.0), math.log(4.0), math.log(0.5)
# With the scrub held back the separation is at least what is asked, within this.
HELD = 1e-6
# Share of the product below which what strays counts as this much.
NOTHING = 1e-12
# Step of the numbers of a member for the derivatives, and how far these are followed.
SMALL, FAR = 1e-3, 1.5


@dataclass(eq=False, slots=True)
class _Open:
    """Extraction and scrub of all members: unknowns, ln of both flows, what the organic brings
    back [mol/m3], who is still good, whose scrub is free (not held back), and who is solved, but
    with more scrub than there may be."""

    u: Array
    z: Array
    barren: Array
    good: NDArray[np.bool_]
    free: NDArray[np.bool_]
    short: NDArray[np.bool_]


class Trimmer:
    """Circuits built as ``built`` (solved for ``task``): flows for other liquors and constants."""

    def __init__(self, built: Solved, task: Task) -> None:
        assert built.start is not None
        assert built.chemistry is not None
        n, m, _ = built.start.stages
        self.task, self.built = task, built
        self.stages, self.most_scrub = (n, m), MOST_SCRUB
        self.reader = Reader(task=task, names=tuple(e for e in task.feed if e in built.start.names))
        names = self.reader.names
        self.light, self.per_mole = self.reader.light, self.reader.per_mole
        self.charge = np.array([*(float(CHARGES[e]) for e in names), 1.0])
        chemistry = built.chemistry
        self.log_k = np.array([chemistry.log_k[e] for e in self.reader.components])
        whole = built.start.u[:, 0]
        if built.start.u.shape[1] > 1:
            whole = built.start.u[:, 0] - built.start.u[:, 1]
        self.open = whole[: n + m]
        self.flows = built.start.flows
        self._known: tuple[Array, Array] | None = None
        self.reached: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        self.short: NDArray[np.bool_] = np.zeros(0, dtype=bool)
        own = Liquor(moles=task.feed, flow=task.flow, acid=task.acid)
        self.centre = self.reader.vectors(
            [Job(liquor=own, chemistry=chemistry, down=task.down, up=task.up, strip=0)]
        )
        base = self.reader.numbers(self.centre)
        plain = self._cascade(base, np.zeros_like(base.feed), (-1, 1), self.flows[1:2])
        state = steered.evaluate(plain, self.open[None], self.flows[None, :2])[1]
        self.stripper = Stripper(
            components=self.reader.components,
            # Half a dimer more or less for the counter-ion changes no figure in its third digit.
            model=CationExchange(log_k=self.log_k, charge=self.charge, dimers=self.charge.copy()),
            closing=whole[n + m :],
            place=float(self.flows[2]) - math.log(chemistry.acid_excess),
            numbers=base,
            loaded=Loaded(flow=state.organic_flow, moles=state.product),
        )

    def longer(self, more: int, most_scrub: float) -> Trimmer:
        """The same with so many stages more in extraction and in scrub, and ln of the scrub there
        may be; strips are shared."""
        n, m = self.stages
        out = copy.copy(self)
        out.stages, out.most_scrub = (n + more, m + more), most_scrub
        out.open = _stretched(self.open, self.stages, out.stages)
        out._known = None
        return out

    def solve(self, jobs: Sequence[Job]) -> list[Solved | None]:
        """Every member's circuit, None where no flows do what is asked of it.

        ``reached`` then says of each whether its extraction and scrub were solved at all, and
        ``short`` who would do with more scrub than there may be.
        """
        if not jobs:
            return []
        of = self.reader.numbers(vectors := self.reader.vectors(jobs))
        open_ = self._first(vectors, of)
        self.reached = open_.good.copy()
        state = self._at(of, open_, np.arange(len(jobs)))[1]
        loaded = Loaded(flow=state.organic_flow, moles=state.product)
        strips = self.stripper.start(np.array([job.strip for job in jobs]), of, loaded)
        self._settle(of, open_, strips)
        self.short = open_.short
        return self._told(jobs, of, open_, strips)

    # --- extraction and scrub ----------------------------------------------------------------

    def _cascade(
        self,
        of: Numbers,
        barren: Array,
        free: tuple[int, ...],
        scrub: Array,
    ) -> steered.Cascade:
        """Extraction and scrub; ln of the ``scrub`` counts where it is not among the free flows."""
        n, m = self.stages
        carried = barren.copy()
        carried[:, -1] = of.soap
        times = np.exp(scrub) if len(free) == 1 else np.ones_like(scrub)
        return steered.Cascade(
            stages=n + m,
            charge=self.charge,
            log_k=of.log_k,
            dimer=of.dimer,
            organic=of.organic,
            barren=carried,
            inlets=(
                steered.Inlet(
                    stage=n - 1,
                    flow=of.flow,
                    moles=of.feed,
                    anions=of.flow * of.feed_acid + (of.feed * self.charge).sum(1),
                ),
                steered.Inlet(
                    stage=n + m - 1,
                    flow=times * of.scrub / of.scrub_acid,
                    moles=np.zeros_like(of.feed),
                    anions=times * of.scrub,
                ),
            ),
            free=free,
        )

    def _ask(self, of: Numbers, barren: Array, state: State, count: int, near: bool) -> Conditions:
        """F1 and F2: the split, in units of what may stray, and the separation.

        ``near``: what strays at both ends, each by itself: no rounding of a sum hides it.
        """
        c, size = self.charge.size, of.asked.size
        raffinate = state.raffinate[:, :-1]
        returned = barren[:, :-1] * state.organic_flow[:, None]
        product = state.product[:, :-1] - returned
        least = NOTHING * of.asked
        heavy = (raffinate * ~self.light).sum(1)
        light = (product * self.light).sum(1)
        whole = product.sum(1)
        by_raffinate, by_product = np.zeros((size, 2, c)), np.zeros((size, 2, c))
        by_z = np.zeros((size, 2, 2))
        # What strays below: heavy in the raffinate; above: light in the product.
        above = light > least
        there = np.where(above, light, 1.0)[:, None]
        down, up = (
            np.log(np.maximum(heavy, least) / np.maximum(of.down, least)),
            np.log(np.maximum(light, least) / np.maximum(of.up, least)),
        )
        by_heavy = np.where(
            (heavy > least)[:, None],
            raffinate * ~self.light / np.maximum(heavy, least)[:, None],
            0.0,
        )
        by_light = np.where(above[:, None], state.product[:, :-1] * self.light / there, 0.0)
        lost = np.where(above, -(returned * self.light).sum(1) / there[:, 0], 0.0)
        if near:
            value = np.stack([down, up], axis=1)
            by_raffinate[:, 0, :-1] = by_heavy
            by_product[:, 1, :-1] = by_light
            by_z[:, 1, 0] = lost
        else:
            fine = np.maximum((of.down + of.up) / of.asked, FINEST)
            value = np.stack([np.log(whole / of.asked) / fine, 0.5 * (down + up)], axis=1)
            by_product[:, 0, :-1] = state.product[:, :-1] / (whole * fine)[:, None]
            by_z[:, 0, 0] = -returned.sum(1) / (whole * fine)
            by_raffinate[:, 1, :-1] = 0.5 * by_heavy
            by_product[:, 1, :-1] = 0.5 * by_light
            by_z[:, 1, 0] = 0.5 * lost
        return Conditions(
            value=value[:, :count],
            by_raffinate=by_raffinate[:, :count],
            by_product=by_product[:, :count],
            by_z=by_z[:, :count, :count],
        )

    def _opened(
        self, of: Numbers, u: Array, z: Array, barren: Array, count: int, near: bool
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Extraction and scrub solved with both flows, or with the organic alone."""
        free = (-1, 1)[:count]
        near = near and count == 2

        def ask(who: Members, state: State) -> Conditions:
            return self._ask(of.take(who), barren[who], state, count, near)

        cascade = self._cascade(of, barren, free, z[:, 1])
        u, own, fine = steered.solve(cascade, u, z[:, :count], ask)
        return u, np.concatenate([own, z[:, count:]], axis=1), fine

    def _at(self, of: Numbers, open_: _Open, who: Members) -> tuple[steered.Cascade, State]:
        """Extraction and scrub of some members as they are."""
        cascade = self._cascade(of, open_.barren[who], (-1, 1), open_.z[who, 1])
        return cascade, steered.evaluate(cascade, open_.u[who], open_.z[who])[1]

    def _first(self, vectors: Array, of: Numbers) -> _Open:
        """Extraction and scrub of all members before anything comes back with the organic.

        Newton starts at the circuit that is built; where that is too far, halfway or a quarter of
        the way (of all numbers, in logarithms) is solved first.
        """
        # For the few that need more stages the derivatives would cost more than they save.
        own = self.stages == self.built.stages[:2]
        open_ = self._start(vectors, own)
        self._improve(of, open_, np.arange(len(vectors)))
        for parts, along in (((1, False),) if own else ()) + ((2, own), (4, own)):
            far = np.flatnonzero(~open_.good & ~open_.short)
            if not far.size:
                break
            way = vectors[far] - self.centre
            tried = self._start(self.centre + way / parts, along)
            before: tuple[Array, Array] | None = None
            for part in range(1, parts + 1):
                then = self.reader.numbers(self.centre + way * part / parts)
                here = np.flatnonzero(tried.good)
                last = tried.u.copy(), tried.z.copy()
                if before is not None:
                    tried.u[here] += (tried.u - before[0])[here]
                    tried.z[here] += (tried.z - before[1])[here]
                self._improve(then, tried, here)
                before = last
            for name in ("u", "z", "good", "free", "short"):
                getattr(open_, name)[far] = getattr(tried, name)
        return open_

    def _start(self, vectors: Array, along: bool) -> _Open:
        """Where members begin: at the built circuit, or ``along`` its derivatives from there."""
        size = len(vectors)
        of = self.reader.numbers(vectors)
        # To first order the unknowns of extraction go with the level of the constants.
        level = (of.log_k - self.log_k)[:, :-1].mean(axis=1) / self.per_mole
        u = self.open[None] - level[:, None]
        z = np.repeat(self.flows[None, :2], size, axis=0)
        if along:
            way = vectors - self.centre
            # Sums in a fixed order: a product of matrices may round by how many rows it has.
            by_u, by_z = self._derivatives()
            u = self.open[None] + np.clip(np.einsum("bp,pn->bn", way, by_u), -FAR, FAR)
            z = z + np.clip(np.einsum("bp,pk->bk", way, by_z), -FAR, FAR)
        return _Open(
            u=u,
            z=z,
            barren=np.zeros_like(of.feed),
            good=np.ones(size, dtype=bool),
            free=np.ones(size, dtype=bool),
            short=np.zeros(size, dtype=bool),
        )

    def _derivatives(self) -> tuple[Array, Array]:
        """What every number of a member does to the built circuit: (P, N) and (P, 2)."""
        if self._known is None:
            count = self.centre.shape[1]
            vectors = np.concatenate([self.centre, self.centre + SMALL * np.eye(count)])
            found = self._start(vectors, False)
            # The built circuit stands closed, this one is fed nothing back.
            self._improve(self.reader.numbers(vectors), found, np.arange(count + 1))
            moved = found.good[1:] & found.free[1:] & found.good[0] & found.free[0]
            by_u, by_z = (found.u[1:] - found.u[0]) / SMALL, (found.z[1:] - found.z[0]) / SMALL
            by_u[~moved], by_z[~moved] = 0.0, 0.0
            self._known = by_u, by_z
        return self._known

    def _improve(self, of: Numbers, open_: _Open, who: Members, near: bool = False) -> None:
        """Extraction and scrub of some members with their flows, as they are now.

        Where hardly any scrub would do, it is held at half of the design's: less is not worth
        having, and the separation is better than asked.
        """
        part = who[open_.free[who]]
        if part.size:
            u, z, fine = self._opened(
                of.take(part), open_.u[part], open_.z[part], open_.barren[part], 2, near
            )
            enough = fine & (z[:, 1] >= LEAST_SCRUB)
            open_.u[part[enough]], open_.z[part[enough]] = u[enough], z[enough]
            open_.short[part[enough]] = z[enough, 1] >= self.most_scrub
            # Who is lost on the way, and wants no less scrub, is no better with it held back.
            open_.good[part] = enough & ~open_.short[part]
            open_.free[part[z[:, 1] < LEAST_SCRUB]] = False
        held = who[~open_.free[who]]
        open_.good[held] = True
        open_.z[held, 1] = LEAST_SCRUB
        if held.size:
            part = held
            own = of.take(part)
            u, z, fine = self._opened(
                own, open_.u[part], open_.z[part], open_.barren[part], 1, near
            )
            cascade = self._cascade(own, open_.barren[part], (-1, 1), z[:, 1])
            with np.errstate(all="ignore"):
                state = steered.evaluate(cascade, np.where(fine[:, None], u, 0.0), z)[1]
                asked = self._ask(own, open_.barren[part], state, 2, False)
            fine &= asked.value[:, 1] < HELD
            open_.u[part[fine]], open_.z[part[fine]] = u[fine], z[fine]
            open_.good[part] &= fine

    # --- both --------------------------------------------------------------------------------

    def _settle(self, of: Numbers, open_: _Open, strips: Strips) -> None:
        """Extraction and strip in turn until what the organic brings back stands still.

        An element comes back nearly by the share of it that the strip leaves at first; secants
        learn the rest (``solvers.Secants``).
        """
        going = np.arange(len(of.asked))
        secants: Secants | None = None
        # What comes back is counted in what is fed.
        unit = np.maximum(of.feed, np.finfo(float).tiny) / of.organic[:, None]
        for number in range(ROUNDS):
            if number:
                self._improve(of, open_, going, near=True)
            going = going[open_.good[going]]
            if not going.size:
                break
            out, share = self._strip(of.take(going), strips, going, open_, number == 0)
            if secants is None:
                guess = np.zeros_like(open_.barren)
                guess[going] = share
                secants = Secants(guess, MOST_BACK)
            fed, own = open_.barren[going], unit[going]
            still = np.abs(out - fed) * np.exp(open_.z[going, :1]) <= SETTLED * own
            done = np.all(still, axis=1)
            onward = secants.onward(going, fed / own, out / own)
            open_.barren[going] = np.where(done[:, None], out, np.maximum(onward, 0.0) * own)
            going = going[open_.good[going] & ~done]
        open_.good[going] = False

    def _strip(
        self, own: Numbers, strips: Strips, rows: Members, open_: _Open, first: bool
    ) -> tuple[Array, Array]:
        """The strip of some members for what extraction loads: what it sends back [mol/m3], and
        the share of what it was fed."""
        state = self._at(own, open_, rows)[1]
        loaded = Loaded(flow=state.organic_flow, moles=state.product)
        fine = self.stripper.least(own, strips, rows, loaded)
        moles, solved = self.stripper.run(own, strips, rows, loaded, first)
        open_.good[rows] &= fine & solved
        moles = np.where(solved[:, None], moles, 0.0)
        # The counter-ion is given anew.
        moles[:, -1] = 0.0
        return moles / loaded.flow[:, None], moles / np.maximum(loaded.moles, np.finfo(float).tiny)

    def _told(
        self, jobs: Sequence[Job], of: Numbers, open_: _Open, strips: Strips
    ) -> list[Solved | None]:
        """The circuits in the plant's terms, from extraction and strip at their last flows."""
        out: list[Solved | None] = [None] * len(jobs)
        for rows in steered.pieces(np.flatnonzero(open_.good)):
            own = of.take(rows)
            opened = self._at(own, open_, rows)
            loaded = Loaded(flow=opened[1].organic_flow, moles=opened[1].product)
            cascade = self.stripper.cascade(own, strips, rows, loaded)
            u = strips.running[rows, strips.running.shape[1] - cascade.stages :]
            strip = cascade, steered.evaluate(cascade, u, np.zeros((rows.size, 0)))[1]
            flows = np.concatenate(
                [open_.z[rows], strips.z[rows] + np.log(own.excess)[:, None]], axis=1
            )
            found = circuit_told.told(
                self.reader,
                self.built,
                self.stages,
                [jobs[i] for i in rows],
                own,
                opened,
                strip,
                flows,
            )
            for row, one in zip(rows.tolist(), found, strict=True):
                out[row] = one
        return out


def _stretched(u: Array, old: Sequence[int], new: Sequence[int]) -> Array:
    """Unknowns (N,) carried over to sections of other lengths, by interpolation."""
    if tuple(old) == tuple(new):
        return u
    parts, at = [], 0
    for a, b in zip(old, new, strict=True):
        parts.append(np.interp(np.linspace(0.0, a - 1.0, b), np.arange(a), u[at : at + a]))
        at += a
    return np.concatenate(parts)
