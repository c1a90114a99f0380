"""How the equations of a solved circuit answer to its inputs.

Every input acts through few doors: ln A of a stage, moles that enter a stage, and the flows of
water and solvent with the anions they bring. For the adjoint the multipliers are pulled back
through these doors for all inputs at once; forward, each door is opened once and every input is a
sum of doors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import InputError, Problem
from sepmodel.extraction import linearised, stagewise
from sepmodel.extraction.by_streams import MOVES, STENCIL, WEIGHTS, Solved, Stream, streams
from sepmodel.extraction.chain import Link
from sepmodel.extraction.circuit_plan import CircuitInputs

Array = NDArray[np.float64]


def parameters(inputs: CircuitInputs) -> tuple[str, ...]:
    """Names of all parameters: log_k of each component, flows, concentrations and acids above zero.

    ``log_k:Nd`` stands for ln K; for every other name the derivative is by the logarithm of the
    input (an elasticity).
    """
    names = [f"log_k:{c}" for c in inputs.components] + ["organic_flow", "dimer"]
    carried = np.asarray(inputs.organic_conc).tolist()
    names += [f"organic_conc:{c}" for c, v in zip(inputs.components, carried, strict=True) if v > 0]
    for inlet in inputs.inlets:
        names.append(f"flow:{inlet.name}")
        if float(np.asarray(inlet.acid)) > 0:
            names.append(f"acid:{inlet.name}")
        conc = np.asarray(inlet.conc).tolist()
        names += [
            f"conc:{inlet.name}:{c}" for c, v in zip(inputs.components, conc, strict=True) if v > 0
        ]
    names += [f"draw:{draw.name}" for draw in inputs.draws]
    return tuple(names)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Doors:
    """What each of P parameters opens, and how far.

    ``ratio`` change of ln A of a component at every stage (P, C), ``dimer`` relative (P,),
    ``entering`` (phase, stage) -> moles (P, C), ``streams`` (P, K) of the ``keys``.
    """

    ratio: Array
    dimer: Array
    entering: dict[tuple[int, int], Array]
    keys: tuple[str, ...]
    streams: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Taken:
    """What O outputs take: ``flows`` weights of ln(flow leaving) of both phases at ``stages``
    (2, O, E, C), ``fractions`` weights of ln of the outlets' fractions (O,)."""

    stages: tuple[int, ...]
    flows: Array
    fractions: dict[str, Array]


class Point:
    """A circuit at its solution: its equations linearised, factorised, and their doors."""

    def __init__(self, inputs: CircuitInputs, plan: stagewise.Plan, state: stagewise.State) -> None:
        solved = Solved(inputs, plan, state)
        self.inputs, self.plan, self.state = inputs, plan, state
        self.stages, self.count, self.port = solved.stages, solved.count, solved.port
        self.unknowns = plan.model.unknowns
        self.pitch = 1 if state.fluxes is None else 2
        self.width = self.count * self.pitch + self.unknowns
        self.by_fluxes = tuple(part[0] for part in stagewise.by_fluxes(plan, state))
        self.by_aq, self.by_org = (part.sum(axis=-1) for part in self.by_fluxes)
        self.by_totals = _by_totals(plan, state)
        self.streams = streams(solved)

    @cached_property
    def system(self) -> linearised.System:
        """The equations of all fluxes and unknowns."""
        return stagewise.system(self.plan, self.state)

    @cached_property
    def factors(self) -> linearised.Factors:
        """Their factors."""
        return linearised.factorise(self.system)

    @property
    def answers(self) -> linearised.Answers:
        """How they answer to what is no unknown."""
        return self.system.answers

    def names(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The parameters asked for, which have to exist."""
        known = parameters(self.inputs)
        if names is None:
            return known
        if unknown := sorted(set(names) - set(known)):
            raise InputError(Problem(message="no such parameter", value=", ".join(unknown)))
        return tuple(names)

    def taken(self, outputs: Sequence[Mapping[tuple[str, str], float]]) -> Taken:
        """What weighted sums of ln(outlet flows) take from where."""
        index = {c: i for i, c in enumerate(self.inputs.components)}
        places: dict[int, int] = {}
        rows: dict[tuple[str, int], tuple[int, int, list[int], list[float]]] = {}
        fractions: dict[str, Array] = {}
        for o, weights in enumerate(outputs):
            for (outlet, component), weight in weights.items():
                stage, phase, _ = self.plan.outlets[outlet]
                if (outlet, o) not in rows:
                    rows[outlet, o] = (phase, places.setdefault(stage, len(places)), [], [])
                _, _, which, amounts = rows[outlet, o]
                which.append(index[component])
                amounts.append(weight)
        flows = np.zeros((2, len(outputs), len(places), self.count))
        for (outlet, o), (phase, e, which, amounts) in rows.items():
            flows[phase, o, e, which] += amounts
            fractions.setdefault(outlet, np.zeros(len(outputs)))[o] = sum(amounts)
        return Taken(stages=tuple(places), flows=flows, fractions=fractions)

    def by_unknowns(self, taken: Taken) -> Array:
        """Derivatives of outputs by all unknowns, (O, N K)."""
        out = np.zeros((taken.flows.shape[1], self.stages, self.width))
        at = list(taken.stages)
        if self.pitch == 2:
            for phase in (0, 1):
                out[:, at, self._component_rows(1 - phase)] = taken.flows[phase]
        else:
            out[:, at, : self.count] = taken.flows.sum(axis=0)
            out[:, at, -self.unknowns :] = self.by_own(taken)
        return out.reshape(out.shape[0], -1)

    def by_own(self, taken: Taken) -> Array:
        """Derivatives of outputs by the own unknowns of the stages they are taken from, where the
        fluxes are those of the aqueous: the organic's follow by ln A, (O, E, m)."""
        slope = self.state.spot.slope[0]
        at = slope[list(taken.stages)] if slope.shape[0] == self.stages else slope
        out: Array = (taken.flows[1][..., None] * at).sum(axis=2)
        return out

    def by_ratio(self, taken: Taken) -> Array:
        """Derivatives of outputs by ln A besides, (O, E, C)."""
        out: Array = taken.flows[1] if self.pitch == 1 else np.zeros_like(taken.flows[1])
        return out

    # --- backwards ---------------------------------------------------------------------------

    def pulled(
        self,
        names: Sequence[str],
        multipliers: Array,
        taken: Taken,
    ) -> Array:
        """d(outputs)/d(parameters) (O, P) from the multipliers (O, N K) of the equations."""
        inputs = self.inputs
        multipliers = multipliers.reshape(-1, self.stages, self.width)
        closing = multipliers[:, :, -self.unknowns :]
        by_ratio = -self._pulled_ratio(multipliers, closing)
        by_ratio[:, list(taken.stages)] += self.by_ratio(taken)
        every = by_ratio.sum(axis=2)
        water = (closing * self.by_aq).sum(axis=2) - every
        solvent = (closing * self.by_org).sum(axis=2) + every
        totals = -np.einsum("onm,nmt->ont", closing, self.by_totals)

        brought = totals[:, :, 1:].reshape(totals.shape[0], -1)

        def stream(moved: Stream) -> Array:
            out: Array = water @ moved.water + solvent @ moved.solvent
            out += brought @ moved.totals.ravel()
            for phase, stage, moles in moved.moles:
                out += self._worth(multipliers, phase, stage) @ moles
            for outlet, change in (moved.fractions or {}).items():
                if outlet in taken.fractions:
                    out += taken.fractions[outlet] * change
            return out

        found: dict[str, Array] = {}
        for name, column in zip(inputs.components, by_ratio.sum(axis=1).T, strict=True):
            found[f"log_k:{name}"] = column
        found["dimer"] = totals[:, :, 0].sum(axis=1) * float(np.asarray(inputs.dimer))
        fresh = np.asarray(inputs.organic_conc) * np.asarray(inputs.organic_flow)
        own = self._worth(multipliers, 1, 0) * fresh
        for name, column in zip(inputs.components, own.T, strict=True):
            found[f"organic_conc:{name}"] = column
        streams = self.streams
        found["organic_flow"] = own.sum(axis=1) + stream(streams["organic_flow"])
        for inlet in inputs.inlets:
            moles = np.asarray(inlet.conc, dtype=float) * np.asarray(inlet.flow)
            own = self._worth(multipliers, *self.port(inlet)) * moles
            found[f"flow:{inlet.name}"] = own.sum(axis=1) + stream(streams[f"flow:{inlet.name}"])
            if inlet.phase == "aqueous":
                anions = stream(streams[f"anions:{inlet.name}"])
                own = own + anions[:, None] * (moles * inputs.charge)
                acid = float(np.asarray(inlet.acid) * np.asarray(inlet.flow))
                found[f"acid:{inlet.name}"] = anions * acid
            for name, column in zip(inputs.components, own.T, strict=True):
                found[f"conc:{inlet.name}:{name}"] = column
        for draw in inputs.draws:
            found[f"draw:{draw.name}"] = stream(streams[f"draw:{draw.name}"])
        return np.stack([found[name] for name in names], axis=1)

    def _pulled_ratio(self, multipliers: Array, closing: Array) -> Array:
        """Multipliers times the equations' derivatives by ln A, (O, N, C)."""
        answers = self.answers
        out: Array = np.einsum("onm,nmc->onc", closing, answers.closing[0])
        for first, own in enumerate(answers.own):
            out += own[0] * multipliers[:, :, self._component_rows(first)]
        if answers.following is not None:
            rows = self._component_rows(0)
            out[:, :-1] += answers.following[0] * multipliers[:, 1:, rows]
            for link, flow in self._organic_links():
                out[:, link.source[0]] -= self._worth(multipliers, *link.target[::-1]) * flow
        return out

    def _component_rows(self, first: int) -> slice:
        return slice(first, first + self.count * self.pitch, self.pitch)

    def _organic_links(self) -> list[tuple[Link, Array]]:
        assert self.state.links is not None
        pairs = zip(self.plan.chain.links, self.state.links, strict=True)
        return [(link, flow[0]) for link, flow in pairs if link.source[1] == 1]

    def _worth(self, multipliers: Array, phase: int, stage: int) -> Array:
        """Multipliers times what one mole entering a stage does, (O, C)."""
        out: Array = np.zeros(1)
        for first, weights in enumerate(self.answers.entering):
            here = weights[phase][0, stage]
            out = out + multipliers[:, stage, self._component_rows(first)] * here
        return out

    # --- forwards ----------------------------------------------------------------------------

    def doors(self, names: Sequence[str]) -> Doors:
        """The doors each parameter opens."""
        inputs, size = self.inputs, len(names)
        index = {c: i for i, c in enumerate(inputs.components)}
        fresh = np.asarray(inputs.organic_conc) * np.asarray(inputs.organic_flow)
        ports = {}
        for inlet in inputs.inlets:
            moles = np.asarray(inlet.conc, dtype=float) * np.asarray(inlet.flow)
            acid = float(np.asarray(inlet.acid) * np.asarray(inlet.flow))
            anions = (moles * inputs.charge).tolist() if inlet.phase == "aqueous" else []
            ports[inlet.name] = (self.port(inlet), moles, anions, acid)
        dimer, ratio = np.zeros(size), np.zeros((size, self.count))
        opened: dict[str, list[tuple[int, float]]] = {}
        entering: dict[tuple[int, int], Array] = {}

        def into(place: tuple[int, int]) -> Array:
            if place not in entering:
                entering[place] = np.zeros((size, self.count))
            return entering[place]

        for k, name in enumerate(names):
            kind, _, rest = name.partition(":")
            if kind == "log_k":
                ratio[k, index[rest]] = 1.0
            elif kind == "conc":
                port, _, component = rest.partition(":")
                place, moles, anions, _ = ports[port]
                i = index[component]
                into(place)[k, i] = moles[i]
                if anions:
                    opened.setdefault(f"anions:{port}", []).append((k, anions[i]))
            elif kind == "dimer":
                dimer[k] = 1.0
            elif kind == "organic_conc":
                into((1, 0))[k, index[rest]] = fresh[index[rest]]
            elif kind == "acid":
                _, _, anions, acid = ports[rest]
                if anions:
                    opened.setdefault(f"anions:{rest}", []).append((k, acid))
            else:
                opened.setdefault(name, []).append((k, 1.0))
                if kind != "draw":
                    place, moles = ports[rest][:2] if kind == "flow" else ((1, 0), fresh)
                    if moles.any():
                        into(place)[k] = moles
        streams = np.zeros((size, len(opened)))
        for j, weights in enumerate(opened.values()):
            for k, weight in weights:
                streams[k, j] = weight
        return Doors(
            ratio=ratio, dimer=dimer, entering=entering, keys=tuple(opened), streams=streams
        )

    def direct(self, doors: Doors, taken: Taken) -> Array:
        """Derivatives of outputs at fixed unknowns, (O, P)."""
        by_ratio = self.by_ratio(taken)
        out: Array = by_ratio.sum(axis=1) @ doors.ratio.T
        if not doors.keys:
            return out
        moved, at = [self.streams[key] for key in doors.keys], list(taken.stages)
        shifts = np.array([(s.solvent - s.water)[at] for s in moved])
        by = by_ratio.sum(axis=2) @ shifts.T
        for k, stream in enumerate(moved):
            for outlet, change in (stream.fractions or {}).items():
                if outlet in taken.fractions:
                    by[:, k] += taken.fractions[outlet] * change
        out += by @ doors.streams.T
        return out

    def rows(self, doors: Doors) -> Array:
        """Derivatives of the equations by each parameter at fixed unknowns, (P, N K)."""
        size, answers = len(doors.dimer), self.answers
        rows = np.zeros((size, self.stages, self.width))
        ratio = doors.ratio[:, None]
        for first, own in enumerate(answers.own):
            rows[:, :, self._component_rows(first)] += ratio * own[0]
        if answers.following is not None:
            rows[:, 1:, self._component_rows(0)] += ratio * answers.following[0]
            for link, flow in self._organic_links():
                self._enter(rows, *link.target[::-1], doors.ratio * flow)
        rows[..., -self.unknowns :] += np.tensordot(doors.ratio, answers.closing[0], (1, 2))
        fresh = self.by_totals[..., 0] * np.asarray(self.inputs.dimer)
        rows[..., -self.unknowns :] += doors.dimer[:, None, None] * fresh
        for place, moles in doors.entering.items():
            self._enter(rows, *place, moles)
        if doors.keys:
            moved = np.stack([self._stream(self.streams[key]) for key in doors.keys])
            rows += np.tensordot(doors.streams, moved, 1)
        return rows.reshape(size, -1)

    def _enter(self, rows: Array, phase: int, stage: int, moles: Array) -> None:
        """Subtract from rows (..., N, K) what moles (..., C) entering a stage do."""
        for first, weights in enumerate(self.answers.entering):
            with np.errstate(invalid="ignore", over="ignore"):
                effect = np.nan_to_num(moles * weights[phase][0, stage])
            rows[..., stage, self._component_rows(first)] -= effect

    def _stream(self, moved: Stream) -> Array:
        """What a stream does to the equations, (N, K)."""
        answers, rows = self.answers, np.zeros((self.stages, self.width))
        change = (moved.solvent - moved.water)[:, None]
        for first, own in enumerate(answers.own):
            rows[:, self._component_rows(first)] += own[0] * change
        if answers.following is not None:
            rows[1:, self._component_rows(0)] += answers.following[0] * change[:-1]
            for link, flow in self._organic_links():
                self._enter(rows, *link.target[::-1], flow * change[link.source[0]])
        closing = np.einsum("nmt,nt->nm", self.by_totals[..., 1:], moved.totals)
        closing -= self.by_aq * moved.water[:, None] + self.by_org * moved.solvent[:, None]
        rows[:, -self.unknowns :] = closing + answers.closing[0].sum(axis=-1) * change
        for phase, stage, moles in moved.moles:
            self._enter(rows, phase, stage, moles)
        return rows


def _by_totals(plan: stagewise.Plan, state: stagewise.State) -> Array:
    """Derivative of the closures by the totals, (N, m, T): the model's own, or by a stencil."""
    if state.spot.by_totals is not None:
        own: Array = state.spot.by_totals[0]
        return own
    count = plan.totals.shape[-1]
    totals = np.tile(plan.totals, (count, len(STENCIL), 1, 1))
    for t in range(count):
        totals[t, :, :, t] *= np.exp(MOVES)[:, None]
    conc_aq, conc_org = stagewise.concentrations(plan, state)
    found = plan.model.spot(
        np.broadcast_to(state.u, (*totals.shape[:-1], state.u.shape[-1])),
        totals,
        np.broadcast_to(conc_aq, (*totals.shape[:-1], conc_aq.shape[-1])),
        np.broadcast_to(conc_org, (*totals.shape[:-1], conc_org.shape[-1])),
    ).residual
    assert found is not None
    by = np.moveaxis(np.tensordot(WEIGHTS, found, axes=(0, 1)), 0, -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        out: Array = np.nan_to_num(by / plan.totals[0][:, None])
    return out
