"""Strips of many members at once, each of its own length: the least acid, and the acid that runs.

The least strip acid leaves ``residue`` of the loaded rare earth on the organic; what runs is that
with a margin. Members have 4 to 20 strip stages: all are solved in one batch, the shorter ones
with dead stages before the organic enters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.extraction import circuit, steered
from sepmodel.extraction.circuit_plan import CircuitInputs, Inlet, Section
from sepmodel.extraction.steered import Conditions, State
from sepmodel.plant.circuit_numbers import LEAST, Numbers

Array = NDArray[np.float64]
Members = NDArray[np.int64]

# Strip acid beside the design's least, in ln, from which a least that is far off is sought: ample,
# more than ample, scarce. The way from there in so many strides, each time shorter by a factor
# where one is too long, and the tries that it may take.
BESIDE = (0.3, 0.8, -0.8)
STRIDES, SHORTER, TRIES = 6, 4, 16
# Step of the numbers of a strip for the derivatives, and how far these are followed.
STEP, FAR = 1e-6, 1.5
# Iterations that a strip takes at most before it is sought from elsewhere.
LIMIT = 16


@dataclass(eq=False, slots=True)
class Strips:
    """The strips of all members: stages (B,), unknowns at the least acid and at the one that runs
    (B, K), live stages last, ln of the least acid (B, 1)."""

    stages: Members
    least: Array
    running: Array
    z: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Loaded:
    """What strips are fed: organic [m3/s] (B,), what it carries [mol/s] (B, C)."""

    flow: Array
    moles: Array

    def take(self, rows: Members) -> Loaded:
        """Some members."""
        return Loaded(flow=self.flow[rows], moles=self.moles[rows])


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Known:
    """A strip of one length at the built circuit: unknowns (k,) at the least acid, ln of that [mol]
    per m3 of organic, and what every number of ``_read`` does to both, (P, k) and (P,); unknowns
    with the margin, what these numbers and ln of the acid do to them (P + 1, k)."""

    u: Array
    acid: float
    by_u: Array
    by_acid: Array
    running: Array
    margin: float
    by_running: Array


class Stripper:
    """The strips of a built circuit: its model, unknowns ``closing`` (K,) and ln of the least acid
    ``place`` of the strip that is built, and what that is fed (one member)."""

    def __init__(
        self,
        components: tuple[str, ...],
        model: CationExchange,
        closing: Array,
        place: float,
        numbers: Numbers,
        loaded: Loaded,
    ) -> None:
        self.components, self.model = components, model
        self.closing, self.place = closing, place
        self.numbers, self.loaded = numbers, loaded
        self._lengths: dict[int, _Known | None] = {}
        self._chain: dict[int, tuple[Array, Array, Array]] = {}

    def _read(self, of: Numbers, loaded: Loaded) -> Array:
        """What a strip of one length depends on, as logarithms (B, P)."""
        fed = np.log(np.maximum(loaded.moles, LEAST) / loaded.flow[:, None])
        some = np.log(np.stack([of.strip_acid, of.dimer, of.residue], axis=1))
        return np.concatenate([fed, some, of.log_k], axis=1)

    def _written(self, numbers: Array) -> tuple[Numbers, Loaded]:
        """The same as numbers of members whose organic is 1 m3/s and whose acid counts in mol/s."""
        c = len(self.components)
        size = len(numbers)
        plain = np.exp(numbers[:, : c + 3])
        of = self.numbers.take(np.zeros(size, dtype=np.int64))
        one = np.ones(size)
        return replace(
            of,
            strip_acid=plain[:, c],
            dimer=plain[:, c + 1],
            residue=plain[:, c + 2],
            log_k=numbers[:, c + 3 :],
            organic=one,
            strip=of.strip / of.organic,
        ), Loaded(flow=one, moles=plain[:, :c])

    def _learn(self, lengths: Sequence[int]) -> None:
        """Strips of some lengths at the built circuit, and their derivatives."""
        stages = np.array(lengths, dtype=np.int64)
        size = stages.size
        centre = self._read(self.numbers, self.loaded)
        of, loaded = self._written(np.repeat(centre, size, axis=0))
        strips = self._as_built(stages)
        for i, k in enumerate(lengths):
            first = strips.least.shape[1] - k
            strips.least[i, first:], strips.z[i], strips.running[i, first:] = self._of_length(k)
        fine = self.least(of, strips, np.arange(size), loaded)
        count = centre.shape[1]
        moved = np.concatenate([centre, centre + STEP * np.eye(count)])
        good = np.flatnonzero(fine)
        if good.size:
            ran = self.run(of.take(good), strips, good, loaded.take(good), False)[1]
            fine[good] &= ran
        for i, k in enumerate(lengths):
            self._lengths[k] = self._one(k, moved, strips, i) if fine[i] else None

    def _of_length(self, k: int) -> tuple[Array, Array, Array]:
        """Where the built circuit's strip of some length is looked for: unknowns at the least acid,
        ln of that, unknowns with the margin.

        From the strip that is built, one stage at a time, each solved if it can be.
        """
        if k not in self._chain:
            built = len(self.closing)
            if k == built:
                u, z, running = self.closing, np.array([self.place]), self.closing
            else:
                more = k > built
                u, z, running = self._of_length(k - 1 if more else k + 1)
                u, running = _by_a_stage(u, more), _by_a_stage(running, more)
            of, loaded = self._written(self._read(self.numbers, self.loaded))
            stages = np.array([k], dtype=np.int64)
            asked = _asked(of, loaded)
            found, acid, fine = self._sought(of, stages, u[None], z[None], loaded, asked)
            if fine[0]:
                u, z = found[0], acid[0]
            cascade = self._cascade(
                of, stages, k, self.acid(of, z[None], loaded) * of.excess, loaded
            )
            found, _, fine = steered.solve(
                cascade, running[None], np.zeros((1, 0)), _nothing, LIMIT
            )
            self._chain[k] = u, z, found[0] if fine[0] else running
        return self._chain[k]

    def _one(self, k: int, moved: Array, strips: Strips, i: int) -> _Known:
        """The derivatives of strip ``i`` of length k, by differences of its closures alone."""
        of, loaded = self._written(moved)
        count = len(moved)
        stages = np.full(count, k)
        acid = of.strip * loaded.flow
        z = np.repeat(strips.z[i : i + 1], count, axis=0)
        u = np.repeat(strips.least[i : i + 1, -k:], count, axis=0)
        cascade = self._cascade(of, stages, k, acid, loaded, (0,))
        r, state = steered.evaluate(cascade, u, z)
        conditions = _leaves(state, _asked(of, loaded))
        both = np.concatenate([r, conditions.value], axis=1)
        by = _responses(cascade, state, conditions, (both - both[:1]) / STEP)
        # The acid that runs is one more number.
        again = np.append(np.arange(count), 0)
        z = z[again] + np.log(of.excess[0])
        z[-1] += STEP
        u = np.repeat(strips.running[i : i + 1, -k:], count + 1, axis=0)
        cascade = cascade.take(again)
        r, state = steered.evaluate(cascade, u, z)
        cascade = replace(cascade, free=())
        off = (r - r[:1]) / STEP
        by_running = _responses(cascade, state, _nothing(again, state), off)
        return _Known(
            u=strips.least[i, -k:],
            acid=float(strips.z[i, 0] + np.log(of.strip[0])),
            by_u=by[:, :k],
            by_acid=by[:, k] * steered.UNIT,
            running=u[0],
            margin=float(np.log(of.excess[0])),
            by_running=by_running,
        )

    def start(self, stages: Members, of: Numbers, loaded: Loaded) -> Strips:
        """Strips of some lengths, by the derivatives of the built circuit's of that length."""
        lengths = np.unique(stages).tolist()
        if new := [k for k in lengths if k not in self._lengths]:
            self._learn(new)
        strips = self._as_built(stages)
        way = self._way(of, loaded)
        for k in lengths:
            known = self._lengths[k]
            if known is None:
                continue
            rows = np.flatnonzero(stages == k)
            strips.least[rows, strips.least.shape[1] - k :] = known.u + _along(
                way[rows], known.by_u
            )
            acid = _along(way[rows], known.by_acid[:, None])
            scale = np.log(of.strip[rows] / of.organic[rows])
            strips.z[rows] = known.acid + acid - scale[:, None]
        return strips

    def _way(self, of: Numbers, loaded: Loaded) -> Array:
        """How far members are from the built circuit (B, P), in the numbers of ``_read``.

        What is fed less than there counts by the amount: the last traces of it change nothing.
        """
        way = self._read(of, loaded) - self._read(self.numbers, self.loaded)
        fed = way[:, : len(self.components)]
        np.expm1(fed, out=fed, where=fed < 0)
        return way

    def _begin(self, of: Numbers, strips: Strips, rows: Members, loaded: Loaded) -> None:
        """Where strips with their margin begin, once their least acid is known."""
        way = self._way(of, loaded)
        acid = strips.z[rows, 0] + np.log(of.strip / of.organic * of.excess)
        stages = strips.stages[rows]
        for k in np.unique(stages).tolist():
            known = self._lengths[k]
            if known is not None:
                here = np.flatnonzero(stages == k)
                more = acid[here] - known.acid - known.margin
                both = np.concatenate([way[here], more[:, None]], axis=1)
                strips.running[rows[here], strips.running.shape[1] - k :] = known.running + _along(
                    both, known.by_running
                )

    def _as_built(self, stages: Members) -> Strips:
        """Strips of some lengths, as the built one is.

        Where fresh acid meets lean organic, one more stage looks like the last.
        """
        longest = int(stages.max())
        at = np.arange(longest) - (longest - stages)[:, None]
        u = np.where(at < 0, 0.0, self.closing[np.clip(at, 0, len(self.closing) - 1)])
        return Strips(
            stages=stages, least=u, running=u.copy(), z=np.full((stages.size, 1), self.place)
        )

    def _cascade(
        self,
        of: Numbers,
        stages: Members,
        longest: int,
        acid: Array,
        loaded: Loaded,
        free: tuple[int, ...] = (),
    ) -> steered.Cascade:
        return steered.Cascade(
            stages=longest,
            charge=self.model.charge,
            log_k=of.log_k,
            dimer=of.dimer,
            organic=loaded.flow,
            barren=loaded.moles / loaded.flow[:, None],
            inlets=(
                steered.Inlet(
                    stage=longest - 1,
                    flow=acid / of.strip_acid,
                    moles=np.zeros_like(loaded.moles),
                    anions=acid,
                ),
            ),
            free=free,
            dead=longest - stages,
        )

    def acid(self, of: Numbers, z: Array, loaded: Loaded) -> Array:
        """Strip acid [mol/s] at ln z (B, 1), without the margin: it goes with the organic."""
        return np.asarray(np.exp(z[:, 0]) * of.strip * (loaded.flow / of.organic))

    def least(
        self, of: Numbers, strips: Strips, rows: Members, loaded: Loaded
    ) -> NDArray[np.bool_]:
        """The least acid of some strips, from where they stand; who has it.

        Where the way from the start is too far the strip is first solved with ample acid; what it
        leaves then rises to the residue in strides, which move its front by a few stages each. A
        front that stands between two pinches moves far for next to nothing: some residues are
        reached from strips with too little acid only.
        """
        stages = strips.stages[rows]
        asked = _asked(of, loaded)
        own, z = _last(strips.least[rows], stages), strips.z[rows]
        u, z, fine = self._sought(of, stages, own, z, loaded, asked)
        for more in BESIDE:
            rest = np.flatnonzero(~fine)
            if not rest.size:
                break
            own, acid, here = self._from_beside(
                of.take(rest), stages[rest], loaded.take(rest), asked[rest], more, u.shape[1]
            )
            u[rest[here]], z[rest[here]], fine[rest[here]] = own[here], acid[here], True
        who = rows[fine]
        strips.least[who, strips.least.shape[1] - u.shape[1] :] = u[fine]
        strips.z[who] = z[fine]
        return fine

    def _from_beside(
        self,
        of: Numbers,
        stages: Members,
        loaded: Loaded,
        target: Array,
        more: float,
        longest: int,
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Acid at which ln of the rare earths left is ``target``, from strips with so much more
        than the design's: unknowns, the acid, who got there."""
        z = np.full((stages.size, 1), self.place + more)
        own, first, here = self._at(of, stages, z, loaded, longest)

        def stride(on: Members, left: Array) -> NDArray[np.bool_]:
            goal = target[on] + left * (first - target)[on]
            moved, acid, there = self._sought(
                of.take(on), stages[on], own[on], z[on], loaded.take(on), goal
            )
            own[on[there]], z[on[there]] = moved[there], acid[there]
            return there

        return own, z, _in_strides(stride, here & ((first < target) == (more > 0)))

    def _sought(
        self, of: Numbers, stages: Members, u: Array, z: Array, loaded: Loaded, target: Array
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Acid at which ln of the rare earths left is ``target``."""

        def ask(who: Members, state: State) -> Conditions:
            return _leaves(state, target[who])

        acid = self.acid(of, np.zeros_like(z), loaded)
        return steered.solve(
            self._cascade(of, stages, u.shape[1], acid, loaded, (0,)), u, z, ask, LIMIT
        )

    def run(
        self, of: Numbers, strips: Strips, rows: Members, loaded: Loaded, first: bool
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Strips with their margin: what the organic still carries [mol/s], who is solved.

        The first time they start from the built circuit's.
        """
        if first:
            self._begin(of, strips, rows, loaded)
        stages = strips.stages[rows]
        cascade = self.cascade(of, strips, rows, loaded)
        u = _last(strips.running[rows], stages)
        none = np.zeros((rows.size, 0))
        found, _, fine = steered.solve(cascade, u, none, _nothing, LIMIT)
        again = np.flatnonzero(~fine)
        if again.size:
            acid = strips.z[rows[again]] + np.log(of.excess[again])[:, None]
            own, here = self._from_ample(
                of.take(again), stages[again], acid, loaded.take(again), u.shape[1]
            )
            found[again[here]], fine[again[here]] = own[here], True
        found = np.where(fine[:, None], found, u)
        strips.running[rows, strips.running.shape[1] - u.shape[1] :] = found
        return steered.evaluate(cascade, found, none)[1].product, fine

    def _from_ample(
        self, of: Numbers, stages: Members, z: Array, loaded: Loaded, longest: int
    ) -> tuple[Array, NDArray[np.bool_]]:
        """Strips at an acid as ``_at`` finds them, else in strides from more of it."""
        u, _, fine = self._at(of, stages, z, loaded, longest)
        rest = np.flatnonzero(~fine)
        if rest.size:
            some, fed, more = of.take(rest), loaded.take(rest), BESIDE[0]
            own, _, here = self._at(some, stages[rest], z[rest] + more, fed, longest)

            def stride(on: Members, left: Array) -> NDArray[np.bool_]:
                part, entering = some.take(on), fed.take(on)
                acid = self.acid(part, z[rest[on]] + left[:, None] * more, entering)
                cascade = self._cascade(part, stages[rest[on]], longest, acid, entering)
                moved, _, there = steered.solve(
                    cascade, own[on], np.zeros((on.size, 0)), _nothing, LIMIT
                )
                own[on[there]] = moved[there]
                return there

            here = _in_strides(stride, here)
            u[rest[here]], fine[rest[here]] = own[here], True
        return u, fine

    def cascade(
        self, of: Numbers, strips: Strips, rows: Members, loaded: Loaded
    ) -> steered.Cascade:
        """The strips with their margin."""
        acid = self.acid(of, strips.z[rows], loaded) * of.excess
        stages = strips.stages[rows]
        return self._cascade(of, stages, int(stages.max()), acid, loaded)

    def _at(
        self, of: Numbers, stages: Members, z: Array, loaded: Loaded, longest: int
    ) -> tuple[Array, Array, NDArray[np.bool_]]:
        """Strips at an acid: unknowns, ln of the rare earths they leave, whether it is solved."""
        size = stages.size
        u, left, fine = np.zeros((size, longest)), np.zeros(size), np.zeros(size, dtype=bool)
        for k in np.unique(stages).tolist():
            rows = np.flatnonzero(stages == k)
            own, fed = of.take(rows), loaded.take(rows)
            found = circuit.solve(
                CircuitInputs(
                    components=self.components,
                    model=self.model,
                    charge=self.model.charge,
                    sections=(Section(name="strip", stages=k),),
                    organic_flow=fed.flow,
                    dimer=own.dimer,
                    organic_conc=fed.moles / fed.flow[:, None],
                    inlets=(
                        Inlet(
                            name="strip",
                            section="strip",
                            stage=k,
                            flow=self.acid(own, z[rows], fed) / own.strip_acid,
                            conc=np.zeros(len(self.components)),
                            acid=own.strip_acid,
                        ),
                    ),
                    log_k_shift=own.log_k - self.model.log_k,
                ),
                failures="quick",
            )
            moles = found.outlets["organic"].moles[:, :-1].sum(1)
            left[rows] = np.log(np.where(found.converged, moles, 1.0))
            u[rows, longest - k :] = np.nan_to_num(found.u[..., 0])
            fine[rows] = found.converged
        return u, left, fine


def _in_strides(
    stride: Callable[[Members, Array], NDArray[np.bool_]], who: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Who gets to the end of a way: ``stride`` moves some on until so much of it is left and says
    who got there; where it is too long, a shorter one follows."""
    way, length = who.astype(float), np.full(who.size, 1 / STRIDES)
    for _ in range(TRIES):
        on = np.flatnonzero(way > 0)
        if not on.size:
            break
        left = np.maximum(way[on] - length[on], 0.0)
        there = stride(on, left)
        way[on[there]] = left[there]
        length[on[~there]] /= SHORTER
    arrived: NDArray[np.bool_] = who & (way == 0)
    return arrived


def _by_a_stage(u: Array, more: bool) -> Array:
    """A strip's unknowns with a stage more or less where they hardly change."""
    flat = int(np.argmin(np.abs(np.diff(u))))
    return np.insert(u, flat, u[flat]) if more else np.delete(u, flat)


def _last(u: Array, stages: Members) -> Array:
    """The columns of strips that any of some members needs."""
    return u[:, u.shape[1] - int(stages.max()) :]


def _along(way: Array, by: Array) -> Array:
    """A step along derivatives (P, n) for members (B, P), summed in a fixed order."""
    return np.asarray(np.clip(np.einsum("bp,pn->bn", way, by), -FAR, FAR))


def _responses(of: steered.Cascade, state: State, conditions: Conditions, off: Array) -> Array:
    """What unknowns and flows answer where members differ little from the first (B - 1, N + k)."""
    first = np.zeros(1, dtype=np.int64)
    own = of.take(first), state.take(first), conditions.take(first)
    return np.asarray(-steered.corrections(*own, off[None, 1:])[0])


def _asked(of: Numbers, loaded: Loaded) -> Array:
    """ln of the rare earths that may be left [mol/s] (B,)."""
    return np.asarray(np.log(of.residue * loaded.moles[:, :-1].sum(1)))


def _leaves(state: State, target: Array) -> Conditions:
    """ln of the rare earths that are left over that of what may be."""
    left = state.product[:, :-1]
    total = left.sum(1)
    share = np.zeros((len(left), 1, left.shape[1] + 1))
    share[:, 0, :-1] = left / total[:, None]
    return Conditions(
        value=(np.log(total) - target)[:, None],
        by_raffinate=np.zeros_like(share),
        by_product=share,
        by_z=np.zeros((len(left), 1, 1)),
    )


def _nothing(who: Members, state: State) -> Conditions:
    """No condition."""
    size, c = who.size, state.product.shape[1]
    return Conditions(
        value=np.zeros((size, 0)),
        by_raffinate=np.zeros((size, 0, c)),
        by_product=np.zeros((size, 0, c)),
        by_z=np.zeros((size, 0, 0)),
    )
