"""What was measured on a train, and how it follows from flows, feed and efficiencies.

The unknowns stand in one vector: ln flows, ln feed shares against each feed's first element,
efficiencies, ln separation factors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import InputError, Problem
from sepmodel.extraction import cascade

Array = NDArray[np.float64]

# An efficiency below this is a stage out of order, not a slow one.
LEAST_EFFICIENCY = 1e-1
_START = 1 - 1e-1
_STEP = 1e-4


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Assay:
    """One analysed sample: amounts of the components by mole, in any unit, NaN where not measured.

    ``stage`` counts from 1 through all sections; ``accuracy`` is the relative standard deviation.
    """

    name: str
    stage: int
    phase: str
    amounts: Array
    accuracy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A flow that was read: "solvent", "scrub", an inlet, a draw, or an outlet of the cascade."""

    name: str
    value: float
    accuracy: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Model:
    """The unknowns in one vector, and how measurements follow from it.

    Order: ln flows, ln feed shares against the first (each inlet), efficiencies, ln factors.
    """

    base: cascade.MassFlowInputs
    sections: tuple[tuple[str, int, int], ...]
    by: str
    flows: tuple[str, ...]
    present: tuple[NDArray[np.int64], ...]  # components in each inlet, the most abundant first
    factors: bool
    assays: tuple[Assay, ...]
    readings: tuple[Reading, ...]
    measured: Array  # ln, (M,)
    sd: Array  # (M,)
    group: NDArray[np.int64]  # (M,) row whose total is free, -1 for none
    names: tuple[str, ...]

    @property
    def groups(self) -> list[tuple[str, str]]:
        """The efficiencies: (section, element or "")."""
        if self.by == "none":
            return []
        elements = self.base.components if self.by == "element" else ("",)
        return [(section, e) for section, _, _ in self.sections for e in elements]

    def start(self) -> Array:
        flows = [math.log(v) for v in nominal(self.base).values()]
        shares: list[float] = []
        for inlet, here in zip(self.base.inlets, self.present, strict=True):
            given = np.asarray(inlet.flows, dtype=float)
            shares += np.log(given[here[1:]] / given[here[0]]).tolist()
        return np.array([*flows, *shares, *[_START] * len(self.groups), *[0.0] * self.factor_count])

    @property
    def factor_count(self) -> int:
        return len(self.base.components) - 1 if self.factors else 0

    def bounds(self) -> tuple[Array, Array]:
        count = self.start().size
        low, high = np.full(count, -np.inf), np.full(count, np.inf)
        first = count - len(self.groups) - self.factor_count
        low[first : first + len(self.groups)] = LEAST_EFFICIENCY
        high[first : first + len(self.groups)] = 1.0
        return low, high

    def cascade(self, p: Array) -> cascade.MassFlowInputs:
        """The cascades of a batch of unknowns (B, P)."""
        size, n = p.shape[0], self.base.stages
        c = len(self.base.components)
        flow = dict(zip(self.flows, np.exp(p[:, : len(self.flows)]).T, strict=True))
        at = len(self.flows)
        inlets = []
        for inlet, here in zip(self.base.inlets, self.present, strict=True):
            shares = np.zeros((size, c))
            shares[:, here[0]] = 1.0
            shares[:, here[1:]] = np.exp(p[:, at : at + here.size - 1])
            at += here.size - 1
            shares /= shares.sum(axis=1, keepdims=True)
            inlets.append(replace(inlet, flows=flow[inlet.name][:, None] * shares))
        efficiency = np.broadcast_to(_efficiency(self.base), (size, n, c)).copy()
        for _, first, last in self.sections if self.by != "none" else ():
            width = c if self.by == "element" else 1
            efficiency[:, first - 1 : last] = p[:, None, at : at + width]
            at += width
        a = np.asarray(self.base.extractability, dtype=float)
        shift = np.zeros((size, c))
        if self.factors:
            shift[:, 1:] = p[:, at:]
        return replace(
            self.base,
            extractability=a * np.exp(shift),
            solvent=flow["solvent"],
            scrub=flow["scrub"],
            inlets=tuple(inlets),
            draws=tuple(replace(d, flow=flow[d.name]) for d in self.base.draws),
            efficiency=efficiency,
        )

    def predict(self, p: Array, guess: Array | None = None) -> Array:
        """ln of everything measured, (B, M); NaN where a cascade has no solution."""
        inputs = self.cascade(p)
        solved = cascade.solve(inputs, guess=guess, failures="record")
        phases = {"aqueous": solved.log_aqueous, "organic": solved.log_organic}
        columns: list[Array] = []
        for assay in self.assays:
            cells = np.flatnonzero(np.isfinite(assay.amounts))
            columns += list(phases[assay.phase][:, assay.stage - 1, cells].T)
        for inlet, here in zip(inputs.inlets, self.present, strict=True):
            if here.size > 1:
                columns += list(np.log(np.asarray(inlet.flows)[:, here]).T)
        totals = dict(zip(self.flows, p[:, : len(self.flows)].T, strict=True))
        with np.errstate(divide="ignore", invalid="ignore"):
            for name, stream in solved.outlets.items():
                totals.setdefault(name, np.log(stream.sum(axis=-1)))
        columns += [totals[reading.name] for reading in self.readings]
        columns += list(p[:, p.shape[1] - self.factor_count :].T)
        out: Array = np.stack(columns, axis=1)
        return out

    def weighted(self, values: Array, keep: NDArray[np.bool_]) -> Array:
        """(..., M) in units of the errors, free totals taken out, zero where not kept."""
        out: Array = np.where(keep, values, 0.0) / self.sd
        for row in range(int(self.group.max(initial=-1)) + 1):
            at = np.flatnonzero((self.group == row) & keep)
            if at.size:
                v = 1.0 / self.sd[at]
                out[..., at] -= (out[..., at] @ v)[..., None] * v / (v @ v)
        return out

    def jacobian(self, p: Array) -> Array:
        """d predictions / d unknowns, (M, P), by central differences inside the bounds."""
        low, high = self.bounds()
        up = np.minimum(p + _STEP, high)
        down = np.maximum(p - _STEP, low)
        count = p.size
        batch = np.tile(p, (2 * count, 1))
        here = np.arange(count)
        batch[here, here], batch[count + here, here] = up, down
        middle = cascade.solve(self.cascade(p[None]))
        found = self.predict(batch, middle.theta[0])
        out: Array = ((found[:count] - found[count:]) / (up - down)[:, None]).T
        return out


def model(
    train: cascade.MassFlowInputs,
    sections: Sequence[tuple[str, int, int]],
    assays: Sequence[Assay],
    readings: Sequence[Reading],
    feed_accuracy: float,
    factor_accuracy: float,
    by: str,
) -> Model:
    """The measurements in one vector; InputError for what does not fit the train."""
    problems: list[Problem] = []
    if by not in ("section", "element", "none"):
        problems.append(
            Problem(
                message="unknown choice",
                key="efficiencies",
                value=by,
                expected="section, element or none",
            )
        )
    flows = tuple(nominal(train))
    outlets = ("raffinate", "loaded_organic")
    for reading in readings:
        if reading.name not in (*flows, *outlets):
            problems.append(
                Problem(
                    message="no such flow",
                    key="reading",
                    value=reading.name,
                    expected=f"one of {', '.join((*flows, *outlets))}",
                )
            )
    if not any(reading.name in (*flows, *outlets) for reading in readings):
        problems.append(Problem(message="no flow was read, so that none is known", key="reading"))
    c = len(train.components)
    present = []
    for inlet in train.inlets:
        given = np.asarray(inlet.flows, dtype=float)
        order = np.argsort(-given, kind="stable")
        present.append(order[given[order] > 0])
    ever = np.zeros(c, dtype=bool)
    for here in present:
        ever[here] = True
    for assay in assays:
        amounts = np.asarray(assay.amounts, dtype=float)
        known = np.isfinite(amounts)
        if known.sum() < 2 or not np.all(amounts[known] > 0) or np.any(known & ~ever):
            problems.append(
                Problem(
                    message="an assay tells at least two elements of the feed, each above zero",
                    key=assay.name,
                    value=amounts.tolist(),
                )
            )
    if problems:
        raise InputError(problems)
    measured: list[float] = []
    sd: list[float] = []
    group: list[int] = []
    names: list[str] = []
    row = 0
    for assay in assays:
        for i in np.flatnonzero(np.isfinite(assay.amounts)):
            measured.append(math.log(assay.amounts[i]))
            sd.append(assay.accuracy)
            group.append(row)
            names.append(f"{assay.name}: {train.components[i]}")
        row += 1
    for inlet, here in zip(train.inlets, present, strict=True):
        given = np.asarray(inlet.flows, dtype=float)
        for i in here if here.size > 1 else ():
            measured.append(math.log(given[i]))
            sd.append(feed_accuracy)
            group.append(row)
            names.append(f"{inlet.name}: {train.components[i]}")
        row += 1
    for reading in readings:
        measured.append(math.log(reading.value))
        sd.append(reading.accuracy)
        group.append(-1)
        names.append(f"flow of {reading.name}")
    if factor_accuracy > 0:
        for name in train.components[1:]:
            measured.append(0.0)
            sd.append(factor_accuracy)
            group.append(-1)
            names.append(f"separation factor {name}/{train.components[0]}")
    return Model(
        base=train,
        sections=tuple(sections),
        by=by,
        flows=flows,
        present=tuple(present),
        factors=factor_accuracy > 0,
        assays=tuple(assays),
        readings=tuple(readings),
        measured=np.array(measured),
        sd=np.array(sd),
        group=np.array(group),
        names=tuple(names),
    )


def nominal(train: cascade.MassFlowInputs) -> dict[str, float]:
    """The flows of the train by name, as given."""
    flows = {"solvent": float(np.asarray(train.solvent)), "scrub": float(np.asarray(train.scrub))}
    flows |= {inlet.name: float(np.sum(inlet.flows)) for inlet in train.inlets}
    return flows | {draw.name: float(np.asarray(draw.flow)) for draw in train.draws}


def _efficiency(train: cascade.MassFlowInputs) -> Array:
    """Efficiencies of the train as (N, C) or a shape that broadcasts to it."""
    given = np.asarray(train.efficiency, dtype=float)
    return given[:, None] if given.ndim == 1 else given
