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
from sepmodel.extraction import cascade, solve
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
