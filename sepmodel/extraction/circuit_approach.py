"""A circuit that is not solved from its own first guess, approached from one that is.

Two things make a circuit hard: an element that the strip acid hardly removes and that therefore
goes round many times, and a cut so sharp that its place between two ends is all but free. A little
more strip acid takes away the first, a little more or less scrub acid the second; the way back to
the wanted acid is walked in steps that Newton follows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sepmodel.extraction import circuit, stagewise

# Sections whose acid is moved, and by how much (in ln), in the order they are tried.
STARTS = (
    ("strip", 2.0**-2),
    ("scrub", -(2.0**-6)),
    ("scrub", 2.0**-6),
    ("strip", 2.0**-1),
    ("scrub", -(2.0**-3)),
    ("scrub", 2.0**-3),
    ("strip", 1.0),
)
# The smallest part of the way that is tried as one step.
SHORTEST = 2.0**-8
# Iterations of Newton on a step of the way.
STEPS = 32


def solve(inputs: circuit.CircuitInputs) -> tuple[circuit.CircuitResult, str]:
    """The steady state of a single circuit, and how it was approached ("" when directly).

    Raises
    ------
    InputError, ConvergenceError
        as ``circuit.solve``.
    """
    direct = circuit.solve(inputs, failures="quick")
    if bool(direct.converged):
        return direct, ""
    spent = int(direct.iterations)
    for section, way in STARTS:
        if not any(_is_acid(inlet, section) for inlet in inputs.inlets):
            continue
        near = circuit.solve(_moved(inputs, section, way), failures="quick")
        spent += int(near.iterations)
        if not bool(near.converged):
            continue
        found, steps = _walk(inputs, section, way, near)
        spent += steps
        if found is not None:
            solved = replace(found, iterations=np.array(spent), fallbacks=found.fallbacks + 1)
            return solved, f"{section} acid from {np.exp(way):.3g} times its strength"
    return circuit.solve(inputs), ""


def _is_acid(inlet: circuit.Inlet, section: str) -> bool:
    return inlet.section == section and bool(np.all(np.asarray(inlet.acid) > 0))


def _moved(inputs: circuit.CircuitInputs, section: str, way: float) -> circuit.CircuitInputs:
    """The circuit with the acid of a section's inlets times e^``way``."""
    return replace(
        inputs,
        inlets=tuple(
            replace(i, acid=np.asarray(i.acid) * np.exp(way)) if _is_acid(i, section) else i
            for i in inputs.inlets
        ),
    )


def _walk(
    inputs: circuit.CircuitInputs, section: str, way: float, near: circuit.CircuitResult
) -> tuple[circuit.CircuitResult | None, int]:
    """From a solved neighbour back to the circuit, in steps that are halved where Newton fails."""
    at, step, spent = 0.0, 2.0**-4, 0
    u, rate = near.u, np.zeros_like(near.u)
    while at < 1.0:
        to = min(at + step, 1.0)
        plan = circuit.prepare(_moved(inputs, section, way * (1.0 - to)), checked=True)
        # Fronts move along the cascade: they are sent ahead the way they went.
        start = np.ascontiguousarray((u + (to - at) * rate)[None])
        tried = stagewise.iterate(plan, start, limit=STEPS)
        spent += int(tried.iterations[0])
        if bool(tried.converged[0]):
            found = tried.u.reshape(u.shape)
            rate, u, at, step = (found - u) / (to - at), found, to, 2 * step
            continue
        step *= 0.5
        if step < SHORTEST:
            return None, spent
    solved = circuit.solve(inputs, guess=u, failures="quick")
    return (solved if bool(solved.converged) else None), spent
