"""How the equations of a solved circuit answer to its inputs.

Every input acts through few doors: ln A of a stage, moles that enter a stage, and the flows of
water and solvent with the anions they bring. For the adjoint the multipliers are pulled back
through these doors for all inputs at once; forward, the doors are opened one input after another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import InputError, Problem
from sepmodel.extraction import circuit_plan, linearised, stagewise
from sepmodel.extraction.chain import Link
from sepmodel.extraction.circuit_plan import PHASES, CircuitInputs, Inlet

Array = NDArray[np.float64]

# Step of the stencil in the logarithm of a parameter; its error is of the fourth power.
STEP = 1e-3
STENCIL = ((-2.0, 1.0), (-1.0, -8.0), (1.0, 8.0), (2.0, -1.0))
MOVES = STEP * np.array([s for s, _ in STENCIL])
WEIGHTS = np.array([w for _, w in STENCIL]) / (4.0 * 3.0 * STEP)


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
class Stream:
    """What one stream's flow, or the anions it brings, does to all stages.

    ``water, solvent`` d ln(flow) (N,), ``totals`` (N, T - 1) anions and sulfate [mol/m3];
    ``moles`` [mol/s] that enter (phase, stage) besides (C,), ``fractions`` d ln of outlets'.
    """

    water: Array
    solvent: Array
    totals: Array
    moles: tuple[tuple[int, int, Array], ...] = ()
    fractions: Mapping[str, float] | None = None


class Point:
    """A circuit at its solution: its equations linearised, factorised, and their doors."""

    def __init__(self, inputs: CircuitInputs, plan: stagewise.Plan, state: stagewise.State) -> None:
        self.inputs, self.plan, self.state = inputs, plan, state
        system = stagewise.system(plan, state)
        self.factors = linearised.factorise(system)
        self.answers, self.unknowns = system.answers, system.unknowns
        self.stages, self.width = system.band.shape[1:3]
        self.count = len(inputs.components)
        self.by_aq, self.by_org = (
            part[0].sum(axis=-1) for part in stagewise.by_fluxes(plan, state)
        )
        self.by_totals = _by_totals(plan, state)
        at = 0
        self.first: dict[str, int] = {}
        for section in inputs.sections:
            self.first[section.name] = at
            at += section.stages

    def names(self, names: Sequence[str] | None) -> tuple[str, ...]:
        """The parameters asked for, which have to exist."""
        known = parameters(self.inputs)
        if names is None:
            return known
        if unknown := sorted(set(names) - set(known)):
            raise InputError(Problem(message="no such parameter", value=", ".join(unknown)))
        return tuple(names)

    def port(self, inlet: Inlet) -> tuple[int, int]:
        """Phase and stage (0-based) of an inlet."""
        return PHASES.index(inlet.phase), self.first[inlet.section] + inlet.stage - 1

    def outputs(
        self, weights: Sequence[Mapping[tuple[str, str], float]]
    ) -> tuple[Array, Array, dict[str, Array]]:
        """Derivatives of weighted ln(outlet flows): by all unknowns (O, N K), besides by ln A
        (O, N, C) and by the ln of outlets' fractions (O,)."""
        count, index = len(weights), {c: i for i, c in enumerate(self.inputs.components)}
        out = np.zeros((count, self.stages, self.width))
        by_ratio = np.zeros((count, self.stages, self.count))
        by_fraction: dict[str, Array] = {}
        for o, output in enumerate(weights):
            for (outlet, component), weight in output.items():
                stage, phase, _ = self.plan.outlets[outlet]
                i = index[component]
                by_fraction.setdefault(outlet, np.zeros(count))[o] += weight
                if self.answers.pitch == 2:
                    out[o, stage, 2 * i + 1 - phase] += weight
                    continue
                out[o, stage, i] += weight
                if phase == 1:
                    slope = self.state.spot.slope[0, stage, i]
                    out[o, stage, -self.unknowns :] += weight * slope
                    by_ratio[o, stage, i] += weight
        return out.reshape(count, -1), by_ratio, by_fraction

    # --- backwards ---------------------------------------------------------------------------

    def pulled(
        self,
        names: Sequence[str],
        multipliers: Array,
        by_ratio: Array,
        by_fraction: Mapping[str, Array],
    ) -> Array:
        """d(outputs)/d(parameters) (O, P) from the multipliers (O, N K) of the equations."""
        inputs = self.inputs
        multipliers = multipliers.reshape(-1, self.stages, self.width)
        closing = multipliers[:, :, -self.unknowns :]
        by_ratio = by_ratio - self._pulled_ratio(multipliers, closing)
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
                if outlet in by_fraction:
                    out += by_fraction[outlet] * change
            return out

        found: dict[str, Array] = {}
        for name, column in zip(inputs.components, by_ratio.sum(axis=1).T, strict=True):
            found[f"log_k:{name}"] = column
        found["dimer"] = totals[:, :, 0].sum(axis=1) * float(np.asarray(inputs.dimer))
        fresh = np.asarray(inputs.organic_conc) * np.asarray(inputs.organic_flow)
        own = self._worth(multipliers, 1, 0) * fresh
        for name, column in zip(inputs.components, own.T, strict=True):
            found[f"organic_conc:{name}"] = column
        streams = self.streams()
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
        pitch = self.answers.pitch
        return slice(first, first + self.count * pitch, pitch)

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

    def rows(self, names: Sequence[str], by_ratio: Array) -> tuple[Array, Array, dict[str, Array]]:
        """Derivatives by each parameter at fixed unknowns: of the equations (P, N K), of outputs
        through ln A (O, P), given theirs by it (O, N, C), and of the ln of outlets' fractions (P,).
        """
        inputs = self.inputs
        rows = np.zeros((len(names), self.stages, self.width))
        direct = np.zeros((by_ratio.shape[0], len(names)))
        by_component, by_stage = by_ratio.sum(axis=1), by_ratio.sum(axis=2)
        fractions = {outlet: np.zeros(len(names)) for outlet in self.plan.outlets}
        index = {c: i for i, c in enumerate(inputs.components)}
        ports = {inlet.name: inlet for inlet in inputs.inlets}
        streams = {key: (moved, self._stream(moved)) for key, moved in self.streams().items()}
        fresh = np.asarray(inputs.organic_conc) * np.asarray(inputs.organic_flow)
        each = np.arange(self.count)

        def follow(k: int, key: str, weight: float) -> None:
            moved, row = streams[key]
            rows[k] += weight * row
            direct[:, k] += weight * (by_stage @ (moved.solvent - moved.water))
            for outlet, change in (moved.fractions or {}).items():
                fractions[outlet][k] += weight * change

        for k, name in enumerate(names):
            kind, _, rest = name.partition(":")
            port, _, component = rest.partition(":")
            if kind == "log_k":
                i = index[rest]
                self._move(rows[k], np.ones(1), slice(i, i + 1))
                direct[:, k] = by_component[:, i]
            elif kind == "dimer":
                rows[k, :, -self.unknowns :] += self.by_totals[..., 0] * np.asarray(inputs.dimer)
            elif kind == "organic_conc":
                self._enter(rows[k], 1, 0, np.where(each == index[rest], fresh, 0.0))
            elif kind == "organic_flow":
                self._enter(rows[k], 1, 0, fresh)
                follow(k, name, 1.0)
            elif kind == "draw":
                follow(k, name, 1.0)
            else:
                inlet = ports[port]
                moles = np.asarray(inlet.conc, dtype=float) * np.asarray(inlet.flow)
                anions = 0.0
                if kind == "flow":
                    self._enter(rows[k], *self.port(inlet), moles)
                    follow(k, name, 1.0)
                elif kind == "conc":
                    i = index[component]
                    self._enter(rows[k], *self.port(inlet), np.where(each == i, moles, 0.0))
                    anions = float(inputs.charge[i] * moles[i])
                else:
                    anions = float(np.asarray(inlet.acid) * np.asarray(inlet.flow))
                if anions and inlet.phase == "aqueous":
                    follow(k, f"anions:{port}", anions)
        return rows.reshape(len(names), -1), direct, fractions

    def _enter(self, rows: Array, phase: int, stage: int, moles: Array) -> None:
        """Subtract from rows (..., N, K) what moles (..., C) entering a stage do."""
        for first, weights in enumerate(self.answers.entering):
            with np.errstate(invalid="ignore", over="ignore"):
                effect = np.nan_to_num(moles * weights[phase][0, stage])
            rows[..., stage, self._component_rows(first)] -= effect

    def _move(self, rows: Array, change: Array, which: slice) -> None:
        """Add to rows (N, K) what a change of ln A, (N,) or (1,), of some components does."""
        answers = self.answers
        change = change[:, None]
        for first, own in enumerate(answers.own):
            rows[:, self._component_rows(first)][:, which] += own[0][:, which] * change
        if answers.following is not None:
            below = change if change.shape[0] == 1 else change[:-1]
            rows[1:, self._component_rows(0)][:, which] += answers.following[0][:, which] * below
            for link, flow in self._organic_links():
                moles = np.zeros(self.count)
                moles[which] = flow[which] * change[min(link.source[0], change.shape[0] - 1)]
                self._enter(rows, *link.target[::-1], moles)
        rows[:, -self.unknowns :] += answers.closing[0][:, :, which].sum(axis=-1) * change

    def _stream(self, moved: Stream) -> Array:
        """What a stream does to the equations, (N, K)."""
        rows = np.zeros((self.stages, self.width))
        closing = np.einsum("nmt,nt->nm", self.by_totals[..., 1:], moved.totals)
        closing -= self.by_aq * moved.water[:, None] + self.by_org * moved.solvent[:, None]
        rows[:, -self.unknowns :] = closing
        self._move(rows, moved.solvent - moved.water, slice(None))
        for phase, stage, moles in moved.moles:
            self._enter(rows, phase, stage, moles)
        return rows

    # --- water and solvent ---------------------------------------------------------------------

    def streams(self) -> dict[str, Stream]:
        """Answers to each stream: by ln of its flow and by the anions [mol/s] it brings."""
        if self.inputs.draws or self.plan.chain.carry is not None:
            return self._stencilled()
        inputs, plan = self.inputs, self.plan
        water, solvent = plan.flow_aq[0], plan.flow_org[0]
        totals = plan.totals[0, :, 1:]
        none, nothing = np.zeros(self.stages), np.zeros((self.stages, 2))
        share = float(np.asarray(inputs.organic_flow)) / solvent
        out = {"organic_flow": Stream(water=none, solvent=share, totals=nothing)}
        for inlet in inputs.inlets:
            flow = float(np.asarray(inlet.flow))
            phase, stage = self.port(inlet)
            if phase == 1:
                share = np.where(np.arange(self.stages) >= stage, flow, 0.0) / solvent
                out[f"flow:{inlet.name}"] = Stream(water=none, solvent=share, totals=nothing)
                continue
            by_flow = np.zeros(self.stages)
            self._descend(stage, 1.0, by_flow)
            by_flow /= water
            acid = float(np.asarray(inlet.acid) + np.asarray(inlet.conc) @ inputs.charge)
            brought = np.array([acid, float(np.asarray(inlet.sulfate))])
            share = flow * by_flow
            out[f"flow:{inlet.name}"] = Stream(
                water=share, solvent=none, totals=share[:, None] * (brought - totals)
            )
            out[f"anions:{inlet.name}"] = Stream(
                water=none, solvent=none, totals=np.stack([by_flow, none], axis=1)
            )
        return out

    def _descend(self, stage: int, part: float, passing: Array) -> None:
        """Where part of the aqueous entering a stage passes, down to the section it leaves from."""
        inputs = self.inputs
        names = [section.name for section in inputs.sections]
        at = max(k for k, name in enumerate(names) if self.first[name] <= stage)
        while at > 0 and inputs.sections[at].aqueous_to != "out":
            at -= 1
        passing[self.first[names[at]] : stage + 1] += part
        for source, target, share in inputs.reflux:
            if source == names[at] and at > 0:
                last = self.first[target] + inputs.sections[names.index(target)].stages - 1
                self._descend(last, part * share, passing)

    def _leaving(self, phase: int, stage: int) -> Array:
        """Flux that leaves a stage in a phase before draws, (C,)."""
        state = self.state
        if state.fluxes is None:
            assert state.aqueous is not None
            assert state.organic is not None
            flux = state.organic if phase else state.aqueous
        else:
            flux = np.exp(state.fluxes.up if phase else state.fluxes.down)
        out: Array = flux[0, stage]
        return out

    def _stencilled(self) -> dict[str, Stream]:
        """The same where fractions are drawn or carried: a few smooth quotients, by a stencil."""
        inputs = self.inputs
        keys = ["organic_flow", *(f"flow:{i.name}" for i in inputs.inlets)]
        keys += [f"anions:{i.name}" for i in inputs.inlets if i.phase == "aqueous"]
        keys += [f"draw:{draw.name}" for draw in inputs.draws]
        count, scales = len(keys), np.ones(len(keys))

        def moves(key: str) -> Array:
            out = np.zeros((count, len(STENCIL)))
            out[keys.index(key)] = MOVES
            return out.ravel()

        inlets = []
        for inlet in inputs.inlets:
            flow, acid = np.asarray(inlet.flow), np.asarray(inlet.acid)
            if inlet.phase == "aqueous":
                brought = float(acid + np.asarray(inlet.conc) @ inputs.charge) or 1.0
                acid = acid + brought * moves(f"anions:{inlet.name}")
                scales[keys.index(f"anions:{inlet.name}")] = brought * float(flow)
            inlets.append(
                replace(inlet, flow=flow * np.exp(moves(f"flow:{inlet.name}")), acid=acid)
            )
        moved = replace(
            inputs,
            organic_flow=np.asarray(inputs.organic_flow) * np.exp(moves("organic_flow")),
            inlets=tuple(inlets),
            draws=tuple(
                replace(d, flow=np.asarray(d.flow) * np.exp(moves(f"draw:{d.name}")))
                for d in inputs.draws
            ),
        )
        flows = circuit_plan.flows(moved, (count * len(STENCIL),))

        def change(values: Array) -> Array:
            by = np.tensordot(values.reshape(count, len(STENCIL), -1), WEIGHTS, axes=(1, 0))
            out: Array = (by / scales[:, None]).reshape(count, *values.shape[1:])
            return out

        water = change(np.log(flows.aqueous[..., 0]))
        solvent = change(np.log(flows.organic))
        totals = change(flows.aqueous[..., 1:] / flows.aqueous[..., :1])
        tiny = np.finfo(float).tiny
        fractions = {
            outlet: change(np.log(np.maximum(fraction, tiny)))
            for outlet, (_, _, fraction) in flows.outlets.items()
        }
        entering: list[list[tuple[int, int, Array]]] = [[] for _ in keys]
        chain = self.plan.chain
        for phase in (0, 1):
            by = change(flows.draw[phase, :, :, 0])
            for stage in np.flatnonzero(by.any(axis=0)).tolist():
                leaving = by[:, stage, None] * self._leaving(phase, stage)
                target = stage + 2 * phase - 1
                for k, moles in enumerate(leaving):
                    if 0 <= target < self.stages:
                        entering[k].append((phase, target, -moles))
                    for link in chain.links:
                        if link.source == (stage, phase):
                            entering[k].append((*link.target[::-1], moles * link.share[0]))
        for link, other in zip(chain.links, flows.links, strict=True):
            stage, phase = link.source
            drawn = chain.draw[phase, 0, stage, 0] * self._leaving(phase, stage)
            for k, share in enumerate(change(other.share)):
                entering[k].append((*link.target[::-1], drawn * share))
        return {
            key: Stream(
                water=water[k],
                solvent=solvent[k],
                totals=totals[k],
                moles=tuple(entering[k]),
                fractions={outlet: float(by[k]) for outlet, by in fractions.items()},
            )
            for k, key in enumerate(keys)
        }


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
