"""Gradients of a circuit's answers by all inputs of a study, at the cost of one solution.

The solved circuit is linearised once: one transposed solve an answer gives its derivatives by every
constant, flow and concentration of the kernel (``extraction.derivatives``). What an input of the
study does to those is read off the case assembled a small step to either side of it: nothing is
solved again. A purity P_e moves by sum_i P_e (delta_ei - P_i) d ln n_i, a recovery R_e by
R_e (d ln n_e - d ln fed_e), n the moles that leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import Book
from sepmodel.extraction import circuit, circuit_approach, circuit_batch, derivatives, many
from sepmodel.extraction import circuit_solve as circuits
from sepmodel.extraction.circuit_inputs import CircuitCase
from sepmodel.extraction.circuit_streams import LIQUORS
from sepmodel.result import Result
from sepmodel.run import LoadedCase, changed
from sepmodel.study.answers import Answer
from sepmodel.study.jobs import Job

Array = NDArray[np.float64]

_KINDS = ("purity", "recovery")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Place:
    """An answer as purity or recovery of a component in an outlet of the kernel."""

    outlet: str
    kind: str
    component: str


def possible(loaded: LoadedCase, wanted: Sequence[Answer]) -> bool:
    """Whether all answers are purities and recoveries of a circuit the adjoint covers."""
    case = loaded.inputs
    return (
        isinstance(case, CircuitCase)
        and case.model.activity == "ideal"
        and not any(inlet.base for inlet in case.inlet)
        and bool(wanted)
        and all(_place(case, answer) is not None for answer in wanted)
    )


def _place(case: CircuitCase, answer: Answer) -> _Place | None:
    parts = answer.path.split(".")
    if len(parts) != 4 or parts[0] != "streams" or parts[2] not in _KINDS:
        return None
    ends: list[str] = ["raffinate", *(s.name for s in case.section), *(d.name for d in case.draw)]
    outlets = {LIQUORS.get(name, name): name for name in ends if name != "extraction"}
    if parts[1] not in outlets or parts[3] not in case.components:
        return None
    return _Place(outlet=outlets[parts[1]], kind=parts[2], component=parts[3])


def swings(
    loaded: LoadedCase,
    wanted: Sequence[Answer],
    steps: Sequence[tuple[Job, Job]],
    part: float,
) -> dict[str, Array]:
    """Swing of every answer over each input's 5-95 % width by the gradient: name -> (inputs,).

    ``steps`` are the jobs ``part`` of the width below and above for each input. Empty when an input
    changes what the derivatives do not cover (the stoichiometry of a soap).
    """
    case = cast("CircuitCase", loaded.inputs)
    book = Book()
    made = circuits.assemble(case, book)
    solved, _ = circuit_approach.solve(made.inputs)
    result = circuits.result(case, book, made, solved)
    shape = many.circuit_shape(made)
    sides: list[list[circuit.CircuitInputs]] = []
    for pair in steps:
        ends = []
        for job in pair:
            moved = changed(loaded, job.settings) if job.settings else loaded
            there = circuits.assemble(cast("CircuitCase", moved.inputs), Book(dict(job.constants)))
            if many.circuit_shape(there) != shape:
                return {}
            ends.append(there.inputs)
        sides.append(ends)
    names = derivatives.parameters(made.inputs)
    stack = circuit_batch.stack([end for ends in sides for end in ends])
    change = circuit_batch.changes(made.inputs, stack, names).reshape(len(steps), 2, -1)
    moves = (change[:, 1] - change[:, 0]) / (2 * part)
    found: dict[str, Array] = {}
    places = {answer.name: _place(case, answer) for answer in wanted}
    known = {name: place for name, place in places.items() if place is not None}
    gradients = derivatives.adjoint(
        solved,
        [
            derivatives.Output(name=name, weights=_weights(case, result, place))
            for name, place in known.items()
        ],
        names,
    )
    for name, by in zip(gradients.outputs, gradients.values, strict=True):
        found[name] = moves @ by
        place = known[name]
        if place.kind == "recovery":
            i = made.inputs.components.index(place.component)
            fed = np.log([[_fed(end, i) for end in ends] for ends in sides])
            size = _share(result, case, place)
            found[name] = found[name] - size * (fed[:, 1] - fed[:, 0]) / (2 * part)
    return found


def _stream(case: CircuitCase, place: _Place) -> str:
    return "raffinate" if place.outlet == "raffinate" else LIQUORS.get(place.outlet, place.outlet)


def _share(result: Result, case: CircuitCase, place: _Place) -> float:
    outlet = result.streams[_stream(case, place)]
    table = outlet.purity if place.kind == "purity" else outlet.recovery
    return table[place.component]


def _weights(case: CircuitCase, result: Result, place: _Place) -> dict[tuple[str, str], float]:
    """Derivatives of a purity or recovery by ln of the moles that leave the outlet."""
    own = _share(result, case, place)
    if place.kind == "recovery":
        return {(place.outlet, place.component): own}
    shares = result.streams[_stream(case, place)].purity
    return {
        (place.outlet, name): own * ((name == place.component) - share)
        for name, share in shares.items()
        if share > 0
    }


def _fed(inputs: circuit.CircuitInputs, i: int) -> float:
    return float(sum(np.asarray(k.flow) * np.asarray(k.conc)[i] for k in inputs.inlets))
