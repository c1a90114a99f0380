"""Many cases solved together: those of one shape share the kernel's batch axis.

A member the batch does not solve is solved again alone, so that its failure has the same reason it
would have alone, and no member's answer depends on its mates beyond the kernel's tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.data import Book
from sepmodel.errors import SepmodelError
from sepmodel.extraction import (
    cascade,
    circuit,
    circuit_approach,
    circuit_batch,
    circuit_solve,
    derivatives,
    solve,
)
from sepmodel.extraction.circuit_inputs import CircuitCase
from sepmodel.extraction.circuit_plan import chosen
from sepmodel.extraction.circuit_solve import Assembled
from sepmodel.extraction.inputs import CascadeCase
from sepmodel.result import Result

Array = NDArray[np.float64]
T = TypeVar("T")


def solve_cascades(
    cases: Sequence[CascadeCase], books: Sequence[Book]
) -> list[Result | SepmodelError]:
    """Results of mass-flow cascades, each with its own book; what fails is its error."""
    found: list[Result | SepmodelError | None] = [None] * len(cases)
    inputs: dict[int, cascade.MassFlowInputs] = {}
    for i, (case, book) in enumerate(zip(cases, books, strict=True)):
        try:
            inputs[i] = solve.kernel_inputs(case, book)
        except SepmodelError as error:
            found[i] = error
    for group in _groups(inputs, _shape):
        try:
            solved = cascade.solve(stacked([inputs[i] for i in group]), failures="record")
        except SepmodelError:  # something no member of a batch may have: each is told its own
            continue
        for place, i in enumerate(group):
            if solved.converged[place]:
                found[i] = solve.result_of(cases[i], inputs[i], member(solved, place), books[i])
    return [
        _alone(lambda i=i: solve.solve_case(cases[i], books[i]))  # type: ignore[misc]
        if answer is None
        else answer
        for i, answer in enumerate(found)
    ]


def solve_circuits(
    cases: Sequence[CircuitCase], books: Sequence[Book]
) -> list[Result | SepmodelError]:
    """Results of circuits, each with its own book; what fails is its error.

    Circuits with activities or with base in the loop are solved one by one.
    """
    found: list[Result | SepmodelError | None] = [None] * len(cases)
    made: dict[int, Assembled] = {}
    for i, (case, book) in enumerate(zip(cases, books, strict=True)):
        if case.model.activity == "ideal" and not any(inlet.base for inlet in case.inlet):
            try:
                made[i] = circuit_solve.assemble(case, book)
            except SepmodelError as error:
                found[i] = error
    for group in _groups(made, circuit_shape):
        if len(group) < 2:
            continue
        try:
            pieces = _together([made[i].inputs for i in group])
        except SepmodelError:  # something no member of a batch may have: each is told its own
            continue
        for here, solved in pieces:
            for place, k in enumerate(here.tolist()):
                i = group[k]
                if solved.converged[place]:
                    own = circuit_member(solved, place, made[i].inputs)
                    found[i] = circuit_solve.result(cases[i], books[i], made[i], own)
    return [
        _alone(lambda i=i: circuit_solve.solve_case(cases[i], books[i]))  # type: ignore[misc]
        if answer is None
        else answer
        for i, answer in enumerate(found)
    ]


def _together(
    many: Sequence[circuit.CircuitInputs],
) -> list[tuple[NDArray[np.int64], circuit.CircuitResult]]:
    """Members in chunks, each started from the derivatives of a circuit in their midst."""
    stack = circuit_batch.stack(many)
    base, _ = circuit_approach.solve(circuit_batch.middle(stack))
    names = derivatives.parameters(base.inputs)
    moves = derivatives.tangent(base, names)
    guess = base.u + np.tensordot(circuit_batch.changes(base.inputs, stack, names), moves, axes=1)
    pieces = []
    for first in range(0, len(many), circuit_batch.CHUNK):
        here = np.arange(first, min(first + circuit_batch.CHUNK, len(many)))
        part = chosen(stack, here)
        pieces.append((here, circuit.solve(part, guess=guess[here], failures="quick")))
    return pieces


def circuit_shape(made: Assembled) -> Hashable:
    """What circuits of a batch have in common: all but flows, concentrations and constants."""
    inputs = made.inputs
    return (
        inputs.components,
        made.dimers.tobytes(),
        tuple(
            (
                s.name,
                s.stages,
                s.aqueous_to,
                *(np.asarray(v).tobytes() for v in (s.efficiency, s.log_k_shift)),
                *(np.asarray(v).tobytes() for v in (s.carry_aq, s.carry_org)),
            )
            for s in inputs.sections
        ),
        # An input that is absent has no logarithm to move along.
        tuple((i.name, i.section, i.stage, _there(i.acid), _there(i.conc)) for i in inputs.inlets),
        tuple((d.name, d.section, d.stage, d.phase) for d in inputs.draws),
        _there(inputs.organic_conc),
        (type(inputs.model).__name__, inputs.closed, inputs.reset, tuple(inputs.reflux)),
    )


def _there(value: ArrayLike) -> bytes:
    return (np.asarray(value) > 0).tobytes()


def circuit_member(
    solved: circuit.CircuitResult, place: int, inputs: circuit.CircuitInputs
) -> circuit.CircuitResult:
    """One member of a solved batch with the inputs it has alone."""
    own = {}
    for f in fields(solved):
        value = getattr(solved, f.name)
        if isinstance(value, np.ndarray):
            own[f.name] = value[place]
    outlets = {
        name: replace(
            outlet,
            flow=outlet.flow[place],
            moles=outlet.moles[place],
            log_moles=outlet.log_moles[place],
            proton=outlet.proton[place],
        )
        for name, outlet in solved.outlets.items()
    }
    closure = {name: values[place] for name, values in solved.closure.items()}
    return replace(solved, **own, inputs=inputs, outlets=outlets, closure=closure, point=None)


def _alone(work: Callable[[], Result]) -> Result | SepmodelError:
    try:
        return work()
    except SepmodelError as error:
        return error


def _groups(inputs: dict[int, T], shape: Callable[[T], Hashable]) -> list[list[int]]:
    """Indices of the inputs of each shape."""
    found: dict[Hashable, list[int]] = {}
    for i, own in inputs.items():
        found.setdefault(shape(own), []).append(i)
    return list(found.values())


def _shape(inputs: cascade.MassFlowInputs) -> Hashable:
    """What members of a batch have in common: all but the numbers."""
    return (
        inputs.components,
        inputs.stages,
        tuple((inlet.name, inlet.phase) for inlet in inputs.inlets),
        tuple((draw.name, draw.phase) for draw in inputs.draws),
        np.shape(inputs.extractability),
        np.shape(inputs.efficiency),
    )


def stacked(many: Sequence[cascade.MassFlowInputs]) -> cascade.MassFlowInputs:
    """Inputs of one shape as one batch, the member axis first."""
    first = many[0]

    def stack(values: Sequence[ArrayLike]) -> Array:
        return np.stack([np.asarray(v, dtype=float) for v in values])

    # Stage by stage: as many members as stages would otherwise be taken for a stage axis.
    by_stage = (first.stages, len(first.components))
    return cascade.MassFlowInputs(
        components=first.components,
        extractability=stack([np.broadcast_to(one.extractability, by_stage) for one in many]),
        stages=first.stages,
        solvent=stack([one.solvent for one in many]),
        scrub=stack([one.scrub for one in many]),
        inlets=tuple(
            replace(
                inlet,
                stage=np.array([one.inlets[k].stage for one in many], dtype=np.int64),
                flows=stack([one.inlets[k].flows for one in many]),
            )
            for k, inlet in enumerate(first.inlets)
        ),
        draws=tuple(
            replace(
                draw,
                stage=np.array([one.draws[k].stage for one in many], dtype=np.int64),
                flow=stack([one.draws[k].flow for one in many]),
            )
            for k, draw in enumerate(first.draws)
        ),
        efficiency=stack([one.efficiency for one in many]),
    )


def member(solved: cascade.CascadeResult, place: int) -> cascade.CascadeResult:
    """One member of a solved batch."""
    own = {
        f.name: getattr(solved, f.name)[place]
        for f in fields(solved)
        if f.name not in ("components", "draws")
    }
    draws = {name: flows[place] for name, flows in solved.draws.items()}
    return cascade.CascadeResult(components=solved.components, draws=draws, **own)
