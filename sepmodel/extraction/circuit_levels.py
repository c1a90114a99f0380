"""How a circuit is approached: over the same circuit with fewer stages, or from a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import solvers
from sepmodel.extraction.circuit_plan import (
    CircuitInputs,
    Draw,
    Inlet,
    Section,
    chosen,
    prepare,
)
from sepmodel.extraction.stagewise import Plan, approach, iterate, take

Array = NDArray[np.float64]

# A cascade is approached over cascades of half its stages each, or of a third where the longest
# section has more than so many stages.
DOUBLED = 16
# Where the unknown of a coarser cascade changes by this part of its steepest change, a stretch gets
# half as many new stages as where it is flat.
FLAT = 2.0**-5
# A step between two cascades is halved at most so often when Newton fails on it.
DEEPEST = 5
# Stages of the longest section of the cascade that a bad guess is averaged over.
AVERAGED = 4
# Coarser cascades need not be solved to the last digit.
ROUGH: dict[str, Any] = {"tolerance": 0.2, "accept": 0.2, "limit": 32}


def with_stages(inputs: CircuitInputs, counts: Sequence[int]) -> CircuitInputs:
    """The same circuit with other stage counts, ports moved in proportion."""
    new = dict(zip((section.name for section in inputs.sections), counts, strict=True))
    old = {section.name: section.stages for section in inputs.sections}

    def stage(port: Inlet | Draw) -> int:
        fine, coarse = old[port.section], new[port.section]
        return 1 + round((port.stage - 1) * (coarse - 1) / (fine - 1)) if fine > 1 else 1

    def resampled(section: Section) -> Section:
        count = new[section.name]
        if not any(map(np.ndim, (section.efficiency, section.carry_aq, section.carry_org))):
            return replace(section, stages=count)
        near = np.arange(count) * section.stages
        rows: dict[str, Any] = {
            key: np.asarray(value)[near // count]
            for key, value, axes in (
                ("efficiency", section.efficiency, 2),
                ("carry_aq", section.carry_aq, 1),
                ("carry_org", section.carry_org, 1),
            )
            if np.ndim(value) == axes and np.shape(value)[0] == section.stages
        }
        return replace(section, stages=count, **rows)

    return replace(
        inputs,
        sections=tuple(resampled(section) for section in inputs.sections),
        inlets=tuple(replace(port, stage=stage(port)) for port in inputs.inlets),
        draws=tuple(replace(port, stage=stage(port)) for port in inputs.draws),
    )


def _levels(counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Stage counts from one a section to ``counts``, each two or three times the one before."""
    levels = [counts]
    while (longest := max(levels[-1])) > 1:
        factor = 3 if longest > DOUBLED else 2
        levels.append(tuple(max(1, round(c / factor)) for c in levels[-1]))
    return levels[::-1]


def _refine(u: Array, coarse: CircuitInputs, fine: CircuitInputs) -> Array:
    """Unknowns (B, N, m) of a coarser circuit, carried over section by section.

    Further stages lengthen the stretches where little changes; fronts keep their width in stages.
    So new stages go where the unknown is flat, and between them it is interpolated.
    """
    parts = []
    at = 0
    for a, b in zip(coarse.sections, fine.sections, strict=True):
        here = u[:, at : at + a.stages]
        at += a.stages
        if a.stages < 4:
            even = (np.arange(b.stages) + 0.5) / b.stages * a.stages - 0.5
            x = np.clip(even, 0, a.stages - 1)[None]
        else:
            change = np.abs(np.diff(here, axis=1)).max(axis=2)
            steepest = np.max(change, axis=1, keepdims=True) + np.finfo(float).tiny
            flat = 1.0 / (change / steepest + FLAT)
            room = 1.0 + (b.stages - a.stages) * flat / flat.sum(axis=1, keepdims=True)
            ends = np.zeros((here.shape[0], a.stages))
            np.cumsum(room, axis=1, out=ends[:, 1:])
            old, new = np.arange(a.stages), np.arange(b.stages)
            x = np.array([np.interp(new, end, old) for end in ends])
        low = np.minimum(x.astype(int), max(a.stages - 2, 0))
        high = np.minimum(low + 1, a.stages - 1)
        weight = (x - low)[..., None]
        rows = np.arange(here.shape[0])[:, None]
        below = here[rows, low]
        parts.append(below + weight * (here[rows, high] - below))
    return np.concatenate(parts, axis=1)


def first_guess(plan: Plan, inputs: CircuitInputs) -> Array:
    """Unknowns (B, N, m) of sections that share their aqueous, each a single stage of all feeds."""
    moles = plan.chain.feed.sum(axis=(0, 2))
    u = np.empty((*plan.flow_aq.shape, plan.model.unknowns))
    at = 0
    groups: list[list[int]] = []
    for section in inputs.sections:
        if not groups or section.aqueous_to == "out":
            groups.append([at, at])
        at += section.stages
        groups[-1][1] = at
    for a, b in groups:
        guess = plan.model.guess(moles, plan.flow_aq[:, a], plan.flow_org[:, a], plan.totals[:, a])
        u[:, a:b] = guess[:, None]
    return u


def _average(u: Array, fine: CircuitInputs, coarse: CircuitInputs) -> Array:
    """Unknowns (B, N, m) averaged over the stages one stage of a coarser circuit stands for."""
    parts = []
    at = 0
    for a, b in zip(fine.sections, coarse.sections, strict=True):
        first = at + np.arange(b.stages) * a.stages // b.stages
        ends = np.append(first[1:], at + a.stages)
        sums = np.add.reduceat(u[:, : at + a.stages], first, axis=1)
        parts.append(sums / (ends - first)[None, :, None])
        at += a.stages
    return np.concatenate(parts, axis=1)


def member(inputs: CircuitInputs, plan: Plan, members: NDArray[np.int64]) -> CircuitInputs:
    """Inputs of some members on one batch axis."""
    size = plan.flow_aq.shape[0]
    return inputs if size == 1 or members.size == size else chosen(inputs, members)


def physical(plan: Plan, u: Array) -> NDArray[np.bool_]:
    """Members whose free amounts are all positive."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        free = approach(plan, u)[1].spot.free
    if free is None:
        return np.ones(u.shape[0], dtype=bool)
    return np.asarray(np.all(free > 0, axis=(1, 2)))


def cold(
    inputs: CircuitInputs,
    plan: Plan,
    members: NDArray[np.int64],
    guess: Array | None = None,
) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.int64], solvers.Solution]:
    """From one stage a section up to all stages, all members in step.

    With a guess (b, N, m), from its averages over the few stages of a cascade of some size.
    """
    inputs = member(inputs, plan, members)
    plan = take(plan, members)
    counts = tuple(section.stages for section in inputs.sections)
    levels = _levels(counts)
    if guess is not None:
        levels = [level for level in levels if max(level) >= AVERAGED] or levels[-1:]
    u, before = None, inputs
    spent = np.zeros(members.size, dtype=np.int64)
    for level in levels:
        final = level == counts
        here = inputs if final else with_stages(inputs, level)
        part = plan if final else prepare(here, checked=True)
        if u is not None:
            start = _refine(u, before, here)
        elif guess is not None:
            start = _average(guess, inputs, here)
        else:
            start = first_guess(part, here)
        found = iterate(part, start) if final else iterate(part, start, **ROUGH)
        spent += found.iterations
        u, before = found.u.reshape(start.shape), here
    assert u is not None
    return u, found.norm, found.converged & physical(plan, u), spent, found


def patient(
    inputs: CircuitInputs, plan: Plan, members: NDArray[np.int64]
) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.int64], solvers.Solution]:
    """As ``cold`` for one member, with smaller steps between cascades where Newton fails."""
    inputs = member(inputs, plan, members)
    plan = take(plan, members)
    counts = tuple(section.stages for section in inputs.sections)
    todo = _levels(counts)[::-1]
    u, before = None, inputs
    spent = np.zeros(1, dtype=np.int64)
    inserted = 0
    while True:
        level = todo[-1]
        final = level == counts
        here = inputs if final else with_stages(inputs, level)
        part = plan if final else prepare(here, checked=True)
        start = first_guess(part, here) if u is None else _refine(u, before, here)
        found = iterate(part, start)
        spent += found.iterations
        good = bool(found.converged[0])
        if final:
            good = good and bool(physical(part, found.u.reshape(start.shape))[0])
        if not good and u is not None and inserted < DEEPEST * len(_levels(counts)):
            old = tuple(section.stages for section in before.sections)
            middle = tuple(round(float(np.sqrt(a * b))) for a, b in zip(old, level, strict=True))
            if middle not in (old, level):
                todo.append(middle)
                inserted += 1
                continue
        u, before = found.u.reshape(start.shape), here
        todo.pop()
        if not todo:
            return u, found.norm, np.array([good]), spent, found
