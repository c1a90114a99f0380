"""What the flow of every stream, and the anions it brings, does to the stages of a solved circuit.

Where streams are drawn in part or carried along, their flows are differenced by a stencil;
everywhere else what they do is written down.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction import circuit_plan, stagewise
from sepmodel.extraction.circuit_plan import PHASES, CircuitInputs, Inlet

Array = NDArray[np.float64]

# Step of the stencil in the logarithm of a parameter; its error is of the fourth power.
STEP = 1e-3
STENCIL = ((-2.0, 1.0), (-1.0, -8.0), (1.0, 8.0), (2.0, -1.0))
MOVES = STEP * np.array([s for s, _ in STENCIL])
WEIGHTS = np.array([w for _, w in STENCIL]) / (4.0 * 3.0 * STEP)


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


class Solved:
    """A circuit at its solution and where its inlets are."""

    def __init__(self, inputs: CircuitInputs, plan: stagewise.Plan, state: stagewise.State) -> None:
        self.inputs, self.plan, self.state = inputs, plan, state
        self.stages, self.count = plan.shift.shape[1:]
        at = 0
        self.first: dict[str, int] = {}
        for section in inputs.sections:
            self.first[section.name] = at
            at += section.stages

    def port(self, inlet: Inlet) -> tuple[int, int]:
        """Phase and stage (0-based) of an inlet."""
        return PHASES.index(inlet.phase), self.first[inlet.section] + inlet.stage - 1


def streams(solved: Solved) -> dict[str, Stream]:
    """Answers to each stream: by ln of its flow and by the anions [mol/s] it brings."""
    if solved.inputs.draws or solved.plan.chain.carry is not None:
        return _stencilled(solved)
    inputs, plan = solved.inputs, solved.plan
    water, solvent = plan.flow_aq[0], plan.flow_org[0]
    totals = plan.totals[0, :, 1:]
    none, nothing = np.zeros(solved.stages), np.zeros((solved.stages, 2))
    share = float(np.asarray(inputs.organic_flow)) / solvent
    out = {"organic_flow": Stream(water=none, solvent=share, totals=nothing)}
    for inlet in inputs.inlets:
        flow = float(np.asarray(inlet.flow))
        phase, stage = solved.port(inlet)
        if phase == 1:
            share = np.where(np.arange(solved.stages) >= stage, flow, 0.0) / solvent
            out[f"flow:{inlet.name}"] = Stream(water=none, solvent=share, totals=nothing)
            continue
        by_flow = np.zeros(solved.stages)
        _descend(solved, stage, 1.0, by_flow)
        by_flow /= water
        acid = float(np.asarray(inlet.acid) + np.asarray(inlet.conc) @ inputs.charge)
        share = flow * by_flow
        out[f"flow:{inlet.name}"] = Stream(
            water=share,
            solvent=none,
            totals=share[:, None] * ((acid, float(np.asarray(inlet.sulfate))) - totals),
        )
        anions = np.zeros((solved.stages, 2))
        anions[:, 0] = by_flow
        out[f"anions:{inlet.name}"] = Stream(water=none, solvent=none, totals=anions)
    return out


def _descend(solved: Solved, stage: int, part: float, passing: Array) -> None:
    """Where part of the aqueous entering a stage passes, down to the section it leaves from."""
    inputs = solved.inputs
    names = [section.name for section in inputs.sections]
    at = max(k for k, name in enumerate(names) if solved.first[name] <= stage)
    while at > 0 and inputs.sections[at].aqueous_to != "out":
        at -= 1
    passing[solved.first[names[at]] : stage + 1] += part
    for source, target, share in inputs.reflux:
        if source == names[at] and at > 0:
            last = solved.first[target] + inputs.sections[names.index(target)].stages - 1
            _descend(solved, last, part * share, passing)


def _leaving(solved: Solved, phase: int, stage: int) -> Array:
    """Flux that leaves a stage in a phase before draws, (C,)."""
    state = solved.state
    if state.fluxes is None:
        assert state.aqueous is not None
        assert state.organic is not None
        flux = state.organic if phase else state.aqueous
    else:
        flux = np.exp(state.fluxes.up if phase else state.fluxes.down)
    out: Array = flux[0, stage]
    return out


def _stencilled(solved: Solved) -> dict[str, Stream]:
    """The same where fractions are drawn or carried: a few smooth quotients, by a stencil."""
    inputs = solved.inputs
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
        inlets.append(replace(inlet, flow=flow * np.exp(moves(f"flow:{inlet.name}")), acid=acid))
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
    chain = solved.plan.chain
    for phase in (0, 1):
        by = change(flows.draw[phase, :, :, 0])
        for stage in np.flatnonzero(by.any(axis=0)).tolist():
            leaving = by[:, stage, None] * _leaving(solved, phase, stage)
            target = stage + 2 * phase - 1
            for k, moles in enumerate(leaving):
                if 0 <= target < solved.stages:
                    entering[k].append((phase, target, -moles))
                for link in chain.links:
                    if link.source == (stage, phase):
                        entering[k].append((*link.target[::-1], moles * link.share[0]))
    for link, other in zip(chain.links, flows.links, strict=True):
        stage, phase = link.source
        drawn = chain.draw[phase, 0, stage, 0] * _leaving(solved, phase, stage)
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
