"""A circuit that is not solved from its own first guess, approached from one that is.

Two things make a circuit hard: an element that the strip acid hardly removes and that therefore
goes round many times, and a cut so sharp that its place between two ends is all but free. A little
more strip acid takes away the first, a little more or less scrub acid the second; the way back to
the wanted acid is walked in steps that Newton follows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sepmodel.errors import ConvergenceError
from sepmodel.extraction import circuit

# Sections whose acid is moved, and by which factors, in the order they are tried.
STARTS = (
    ("strip", 1.25),
    ("scrub", 0.98),
    ("scrub", 1.02),
    ("strip", 1.5),
    ("scrub", 0.9),
    ("scrub", 1.1),
    ("strip", 2.0),
)
# The smallest part of the way that is tried as one step.
SHORTEST = 2.0**-8


def solve(inputs: circuit.CircuitInputs) -> tuple[circuit.CircuitResult, str]:
    """The steady state of a single circuit, and how it was approached ("" when directly).

    Raises
    ------
    InputError, ConvergenceError
        as ``circuit.solve``; the error of the direct attempt when no approach succeeds.
    """
    try:
        return circuit.solve(inputs), ""
    except ConvergenceError as error:
        first = error
    spent = 0
    for section, factor in STARTS:
        if not any(i.section == section and np.all(np.asarray(i.acid) > 0) for i in inputs.inlets):
            continue
        try:
            near = circuit.solve(_moved(inputs, section, factor))
        except ConvergenceError:
            continue
        found, spent = _walk(inputs, section, factor, near)
        if found is not None:
            solved = replace(
                found,
                iterations=found.iterations + near.iterations + spent,
                fallbacks=found.fallbacks + 1,
            )
            return solved, f"{section} acid from {factor:g} times its strength"
    raise first


def _moved(inputs: circuit.CircuitInputs, section: str, factor: float) -> circuit.CircuitInputs:
    """The circuit with the acid of a section's inlets times ``factor``."""
    return replace(
        inputs,
        inlets=tuple(
            replace(i, acid=np.asarray(i.acid) * factor)
            if i.section == section and np.all(np.asarray(i.acid) > 0)
            else i
            for i in inputs.inlets
        ),
    )


def _walk(
    inputs: circuit.CircuitInputs, section: str, factor: float, near: circuit.CircuitResult
) -> tuple[circuit.CircuitResult | None, int]:
    """From a solved neighbour back to the circuit, in steps that are halved where Newton fails."""
    at, step, spent = 0.0, 0.5, 0
    while at < 1.0:
        to = min(at + step, 1.0)
        here = _moved(inputs, section, factor ** (1.0 - to))
        # Without its fallbacks: a step too long is shortened, not forced.
        tried = circuit.solve(here, guess=near.u, failures="record")
        spent += int(tried.iterations)
        if bool(tried.converged):
            near, at, step = tried, to, 2 * step
        else:
            step *= 0.5
            if step < SHORTEST:
                return None, spent
    return near, spent
