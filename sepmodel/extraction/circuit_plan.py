"""What an extraction circuit is made of, and its streams as arrays over members and stages.

Water, anions and solvent follow from the inputs alone: aqueous down the circuit, organic up, less
what is drawn. Axis order: [member, stage, component].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry.equilibrium import Equilibrium
from sepmodel.errors import InputError, Problem
from sepmodel.extraction import chain as chains
from sepmodel.extraction.stagewise import Plan

Array = NDArray[np.float64]

PHASES = ("aqueous", "organic")
# Relative error of a draw's volume under entrainment, and rounds allowed to reach it.
EXACT = 1e-14
DRAWN = 64


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Section:
    """Stages in series; stage 1 is where the organic enters.

    ``efficiency`` Murphree efficiency of the organic, one number, one per component, or one row
    per stage (stages, 1 or C);
    ``log_k_shift`` is added to ln D in this section (temperature), one number or one per component;
    ``carry_aq, carry_org`` part of the leaving aqueous (organic) carried along by the other phase,
    one number or one per stage;
    ``aqueous_to``: "below" (the section before it) or "out" (a product, named after the section).
    """

    name: str
    stages: int
    efficiency: ArrayLike = 1.0
    log_k_shift: ArrayLike = 0.0
    carry_aq: ArrayLike = 0.0
    carry_org: ArrayLike = 0.0
    aqueous_to: str = "below"


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Inlet:
    """A stream entering ``stage`` (1-based) of ``section``.

    ``flow`` [m3/s] (...), ``conc`` [mol/m3] (..., C), ``acid`` [mol/m3] (...) titratable protons,
    ``sulfate`` [mol/m3] (...) with bisulfate, of an aqueous inlet. The organic inlet of the whole
    circuit is part of :class:`CircuitInputs`.
    """

    name: str
    section: str
    stage: int
    flow: ArrayLike
    conc: ArrayLike
    acid: ArrayLike = 0.0
    sulfate: ArrayLike = 0.0
    phase: str = "aqueous"


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Draw:
    """A side stream taken from what leaves ``stage`` of ``section``; ``flow`` [m3/s] (...)."""

    name: str
    phase: str
    section: str
    stage: int
    flow: ArrayLike


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CircuitInputs:
    """A circuit: sections in the direction of the organic.

    Parameters
    ----------
    components: names in the order of the component axis; metals and the counter-ion.
    model: equilibrium between the phases.
    charge: z of every component, shape (C,).
    sections: extraction first.
    organic_flow: [m3/s], shape (...).
    dimer: total dimer of the organic [mol/m3], shape (...).
    organic_conc: what the organic carries into stage 1 of the first section [mol/m3], (..., C); in
        a closed loop, of the ``reset`` components only.
    inlets, draws: further streams.
    closed: the organic leaving the last section returns to the first.
    reset: components whose content the organic is given anew before stage 1 (the counter-ion:
        saponification).
    reflux: (from section, to section, part): that part of the aqueous product of one section
        enters the last stage of another as well.
    log_k_shift: added to ln D everywhere, shape (..., C): constants that differ between members.
    """

    components: tuple[str, ...]
    model: Equilibrium
    charge: Array
    sections: Sequence[Section]
    organic_flow: ArrayLike
    dimer: ArrayLike
    organic_conc: ArrayLike
    inlets: Sequence[Inlet]
    draws: Sequence[Draw] = ()
    closed: bool = False
    reset: tuple[str, ...] = ()
    reflux: Sequence[tuple[str, str, float]] = ()
    log_k_shift: ArrayLike = 0.0

    @property
    def stages(self) -> int:
        """Total number of stages."""
        return sum(section.stages for section in self.sections)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Flows:
    """Streams of both phases: ``aqueous`` (B, N, 3) water [m3/s], anion equivalents and sulfate
    [mol/s], ``organic`` (B, N) [m3/s], leaving each stage before draws.

    ``draw`` (2, B, N, 1) fractions taken, ``links`` what is fed back, ``outlets``: name -> stage,
    phase, fraction (B,). ``first``: first stage (0-based) of every section. ``carry``: parts of the
    aqueous and of the organic that the other phase carries along, (2, 1, N, 1) or None.
    """

    aqueous: Array
    organic: Array
    draw: Array
    links: tuple[chains.Link, ...]
    outlets: dict[str, tuple[int, int, Array]]
    first: dict[str, int]
    carry: Array | None


def batch_of(inputs: CircuitInputs) -> tuple[int, ...]:
    """Leading axes of the inputs, broadcast together."""
    shapes = [np.shape(inputs.organic_flow), np.shape(inputs.dimer)]
    shapes += [np.shape(inputs.organic_conc)[:-1], np.shape(inputs.log_k_shift)[:-1]]
    for inlet in inputs.inlets:
        shapes += [np.shape(inlet.flow), np.shape(inlet.conc)[:-1]]
        shapes += [np.shape(inlet.acid), np.shape(inlet.sulfate)]
    shapes += [np.shape(draw.flow) for draw in inputs.draws]
    return np.broadcast_shapes(*shapes)


def members(value: ArrayLike, batch: tuple[int, ...], tail: tuple[int, ...] = ()) -> Array:
    """A value over the batch, flattened: (B, *tail)."""
    array = np.asarray(value, dtype=float)
    shape = (*batch, *tail)
    if array.shape != shape:
        array = np.broadcast_to(array, shape)
    return array.reshape((-1, *tail)) if batch else array[None]


def chosen(inputs: CircuitInputs, rows: NDArray[np.int64]) -> CircuitInputs:
    """Inputs of some members of a batch, which is flattened; what all share stays as it is."""
    batch = batch_of(inputs)

    def pick(value: ArrayLike, tail: int = 0) -> ArrayLike:
        array = np.asarray(value, dtype=float)
        if array.ndim <= tail:
            return value
        return members(array, batch, array.shape[array.ndim - tail :])[rows]

    out = replace(
        inputs,
        organic_flow=pick(inputs.organic_flow),
        dimer=pick(inputs.dimer),
        organic_conc=pick(inputs.organic_conc, 1),
        inlets=tuple(
            replace(
                i,
                flow=pick(i.flow),
                conc=pick(i.conc, 1),
                acid=pick(i.acid),
                sulfate=pick(i.sulfate),
            )
            for i in inputs.inlets
        ),
        draws=tuple(replace(d, flow=pick(d.flow)) for d in inputs.draws),
        log_k_shift=pick(inputs.log_k_shift, 1),
    )
    return out if batch_of(out) else replace(out, dimer=np.full(rows.size, inputs.dimer))


def leaving(aqueous: Array, organic: Array, carry: Array | None) -> tuple[Array, Array]:
    """Volume flows [m3/s] leaving each stage downwards and upwards, entrained phase included."""
    if carry is None:
        return aqueous, organic
    with_org, with_aq = carry[..., 0]
    return (
        (1.0 - with_org) * aqueous + with_aq * organic,
        (1.0 - with_aq) * organic + with_org * aqueous,
    )


def flows(inputs: CircuitInputs, batch: tuple[int, ...], *, checked: bool = False) -> Flows:
    """Water, anions and solvent of every stage.

    A draw is a volume of the stream that leaves, droplets of the other phase included; how much of
    the stream that is depends on what is entrained, which depends on the draw: repeated until the
    draws are what they should be.
    """
    carry = carried(inputs)
    if carry is None or not inputs.draws:
        return _flows(inputs, batch, checked=checked)
    wanted = [members(draw.flow, batch) for draw in inputs.draws]
    asked = wanted
    for _ in range(DRAWN):
        draws = tuple(
            replace(draw, flow=flow.reshape(batch))
            for draw, flow in zip(inputs.draws, asked, strict=True)
        )
        found = _flows(replace(inputs, draws=draws), batch, checked=checked)
        streams = leaving(found.aqueous[..., 0], found.organic, carry)
        took = []
        for draw in inputs.draws:
            stage, phase, fraction = found.outlets[draw.name]
            took.append(fraction * streams[phase][:, stage])
        ratios = [want / got for want, got in zip(wanted, took, strict=True)]
        if all(np.all(np.abs(ratio - 1.0) < EXACT) for ratio in ratios):
            return found
        asked = [flow * ratio for flow, ratio in zip(asked, ratios, strict=True)]
    raise InputError(
        Problem(
            message="the draws cannot be met with so much entrainment",
            key=", ".join(draw.name for draw in inputs.draws),
        )
    )


def _flows(inputs: CircuitInputs, batch: tuple[int, ...], *, checked: bool = False) -> Flows:
    """The same with draws as parts of what would leave if nothing were entrained."""
    c, n = len(inputs.components), inputs.stages
    size = int(np.prod(batch, dtype=int))
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    at = 0
    for section in inputs.sections:
        first[section.name], last[section.name] = at, at + section.stages - 1
        at += section.stages
    aqueous, oil = np.zeros((size, n, 3)), np.zeros((size, n))
    oil[:, 0] = members(inputs.organic_flow, batch)
    for inlet in inputs.inlets:
        stage = first[inlet.section] + inlet.stage - 1
        flow = members(inlet.flow, batch)
        if inlet.phase == "organic":
            oil[:, stage] += flow
            continue
        anions = np.asarray(inlet.acid) + np.asarray(inlet.conc, dtype=float) @ inputs.charge
        anions = np.maximum(anions, 0.0)
        aqueous[:, stage, 0] += flow
        aqueous[:, stage, 1] += flow * members(anions, batch)
        aqueous[:, stage, 2] += flow * members(inlet.sulfate, batch)
    draw = np.zeros((2, size, n, 1))
    outlets: dict[str, tuple[int, int, Array]] = {}
    links: list[chains.Link] = []
    taken = [(first[d.section] + d.stage - 1, PHASES.index(d.phase), d) for d in inputs.draws]
    # Aqueous down the circuit, organic up; what is returned enters below where it came from.
    entered = (aqueous.copy(), oil)
    passing = np.empty_like(aqueous)
    down = np.zeros((size, 3))
    leaves = {first[s.name]: s.name for s in inputs.sections[1:] if s.aqueous_to == "out"}
    stops = sorted({0, *leaves, *(stage for stage, phase, _ in taken if phase == 0)})
    top = n
    for k in reversed(stops):
        here = np.cumsum(aqueous[:, k:top][:, ::-1], axis=1)[:, ::-1]
        passing[:, k:top] = down[:, None] + here
        part = np.zeros(size)
        for stage, phase, item in taken:
            if stage == k and phase == 0:
                fraction = members(item.flow, batch) / np.maximum(
                    passing[:, k, 0], np.finfo(float).tiny
                )
                outlets[item.name] = (k, 0, fraction)
                part = part + fraction
        rest = np.maximum(1.0 - part, 0.0)
        if k in leaves:
            returned = 0.0
            for source, target, share in inputs.reflux:
                if source == leaves[k]:
                    returned += share
                    stage = last[target]
                    aqueous[:, stage] += (rest * share)[:, None] * passing[:, k]
                    links.append(
                        chains.Link(
                            source=(k, 0),
                            target=(stage, 0),
                            share=np.repeat((rest * share)[:, None], c, axis=1),
                        )
                    )
            outlets[leaves[k]] = (k, 0, rest * (1.0 - returned))
            draw[0, :, k, 0] = 1.0
            down = np.zeros((size, 3))
        else:
            draw[0, :, k, 0] = part
            down = rest[:, None] * passing[:, k]
        top = k
    outlets["raffinate"] = (0, 0, 1.0 - draw[0, :, 0, 0])
    organic = np.empty((size, n))
    up = np.zeros(size)
    start = 0
    for k in sorted({n - 1, *(stage for stage, phase, _ in taken if phase == 1)}):
        organic[:, start : k + 1] = up[:, None] + np.cumsum(oil[:, start : k + 1], axis=1)
        for stage, phase, item in taken:
            if stage == k and phase == 1:
                fraction = members(item.flow, batch) / np.maximum(
                    organic[:, k], np.finfo(float).tiny
                )
                outlets[item.name] = (k, 1, fraction)
                draw[1, :, k, 0] += fraction
        up = organic[:, k] * (1.0 - draw[1, :, k, 0])
        start = k + 1
    if not checked:
        _check_flows(inputs, passing[..., 0], organic, draw)
    rest = 1.0 - draw[1, :, n - 1, 0]
    outlets["organic"] = (n - 1, 1, rest)
    if inputs.closed:
        kept = np.array([name not in inputs.reset for name in inputs.components], dtype=float)
        links.append(chains.Link(source=(n - 1, 1), target=(0, 1), share=rest[:, None] * kept))
        draw[1, :, n - 1, 0] = 1.0
    carry = carried(inputs)
    if carry is not None:
        passing, organic = _carried(draw, links, carry, entered)
    return Flows(
        aqueous=passing,
        organic=organic,
        draw=draw,
        links=tuple(links),
        outlets=outlets,
        first=first,
        carry=carry,
    )


def prepare(inputs: CircuitInputs, *, checked: bool = False) -> Plan:
    """Inputs as arrays over members and stages, checked unless they are known to be good."""
    if not checked:
        _check(inputs)
    c, n = len(inputs.components), inputs.stages
    batch = batch_of(inputs)
    streams = flows(inputs, batch, checked=checked)
    size = streams.organic.shape[0]
    feed = np.zeros((2, size, n, c))
    organic = members(inputs.organic_flow, batch)
    feed[1, :, 0] = members(inputs.organic_conc, batch, (c,)) * organic[:, None]
    for inlet in inputs.inlets:
        stage = streams.first[inlet.section] + inlet.stage - 1
        conc = members(inlet.conc, batch, (c,))
        feed[PHASES.index(inlet.phase), :, stage] += members(inlet.flow, batch)[:, None] * conc
    flow_aq = streams.aqueous[..., 0]
    log_ratio = np.log(streams.organic / flow_aq)[..., None]
    shifts = [section.log_k_shift for section in inputs.sections]
    if not _all_are(shifts, 0.0):
        log_ratio = log_ratio + _by_section(inputs, shifts)
    if not _all_are([inputs.log_k_shift], 0.0):
        log_ratio = log_ratio + members(inputs.log_k_shift, batch, (c,))[:, None]
    bypass = None
    efficiencies = [section.efficiency for section in inputs.sections]
    if not _all_are(efficiencies, 1.0):
        efficiency = _by_section(inputs, efficiencies)
        bypass = np.broadcast_to(1.0 - efficiency, (size, n, c))
        log_ratio = log_ratio + chains.log(efficiency)
    totals = np.empty((size, n, 3))
    totals[..., 0] = members(inputs.dimer, batch)[:, None]
    np.divide(streams.aqueous[..., 1:], flow_aq[..., None], out=totals[..., 1:])
    return Plan(
        batch=batch,
        model=inputs.model,
        chain=chains.Chain(
            feed=feed,
            draw=streams.draw,
            bypass=bypass,
            carry=streams.carry,
            links=streams.links,
        ),
        shift=np.broadcast_to(log_ratio, (size, n, c)),
        totals=totals,
        flow_aq=flow_aq,
        flow_org=streams.organic,
        outlets=streams.outlets,
    )


def _check(inputs: CircuitInputs) -> None:
    """Names, stages and numbers that make no sense, all at once."""
    problems: list[Problem] = []
    names = [section.name for section in inputs.sections]
    stages = {section.name: section.stages for section in inputs.sections}
    if not names or len(set(names)) != len(names):
        problems.append(Problem(message="sections have different names", value=names))
    for section in inputs.sections:
        if section.stages < 1:
            problems.append(
                Problem(message="a section has stages", key=section.name, value=section.stages)
            )
        for label, value in (
            ("efficiency", section.efficiency),
            ("carry_aq", section.carry_aq),
            ("carry_org", section.carry_org),
        ):
            number = np.asarray(value, dtype=float)
            top = 1.0 if label == "efficiency" else 0.5
            if not (np.all(number >= 0) and np.all(number <= top)):
                problems.append(
                    Problem(
                        message=f"{label} is a fraction",
                        key=section.name,
                        value=number.tolist(),
                        expected=f"0 to {top}",
                    )
                )
    ports: list[Inlet | Draw] = [*inputs.inlets, *inputs.draws]
    for port in ports:
        if port.phase not in PHASES:
            problems.append(Problem(message="unknown phase", key=port.name, value=port.phase))
        if port.section not in stages:
            problems.append(
                Problem(
                    message="unknown section",
                    key=port.name,
                    value=port.section,
                    expected=", ".join(names),
                )
            )
        elif not 1 <= port.stage <= stages[port.section]:
            problems.append(
                Problem(
                    message="no such stage",
                    key=port.name,
                    value=port.stage,
                    expected=f"1 to {stages[port.section]}",
                )
            )
        if not np.all(np.asarray(port.flow, dtype=float) > 0):
            problems.append(
                Problem(message="a flow is positive", key=port.name, value=np.asarray(port.flow))
            )
    for inlet in inputs.inlets:
        conc = np.asarray(inlet.conc, dtype=float)
        if conc.shape[-1:] != (len(inputs.components),):
            problems.append(Problem(message="one concentration a component", key=inlet.name))
        elif not np.all(conc >= 0):
            problems.append(Problem(message="a concentration is negative", key=inlet.name))
        elif inlet.phase == "aqueous":
            # A base brings its cation without an anion: its acid is negative.
            metals = conc @ inputs.charge
            if not np.all(np.asarray(inlet.acid) + metals >= -np.finfo(float).eps * metals):
                problems.append(
                    Problem(
                        message="more base than its own cations: anions would be negative",
                        key=inlet.name,
                        value=np.asarray(inlet.acid),
                    )
                )
    for label, value in (("organic_flow", inputs.organic_flow), ("dimer", inputs.dimer)):
        if not np.all(np.asarray(value, dtype=float) > 0):
            problems.append(Problem(message="is positive", key=label, value=np.asarray(value)))
    for source, target, share in inputs.reflux:
        order = [source in names, target in names]
        if not all(order) or names.index(target) >= names.index(source) or not 0 <= share < 1:
            problems.append(
                Problem(
                    message="reflux goes from a section to one before it, a part below 1",
                    value=f"{source} -> {target}: {share}",
                )
            )
    if problems:
        raise InputError(problems)


def _check_flows(inputs: CircuitInputs, flow_aq: Array, flow_org: Array, draw: Array) -> None:
    """Every stage has both phases, and nothing is drawn twice."""
    at = 0
    problems = []
    for section in inputs.sections:
        here = slice(at, at + section.stages)
        at += section.stages
        for phase, flow in zip(PHASES, (flow_aq, flow_org), strict=True):
            if not np.all(flow[:, here] > 0):
                problems.append(
                    Problem(
                        message=f"no {phase} flow in section {section.name!r}",
                        key=section.name,
                        value=float(np.min(flow[:, here])),
                        expected="an inlet above, and draws that leave something",
                    )
                )
    if np.any(draw > 1.0 + 1e-12):
        problems.append(Problem(message="a draw takes more than its stream carries"))
    if problems:
        raise InputError(problems)


def _all_are(values: Sequence[ArrayLike], number: float) -> bool:
    """Whether all values are that one number, which most are, and plain."""
    return all(
        v == number if isinstance(v, float | int) else bool(np.all(np.asarray(v) == number))
        for v in values
    )


def _by_section(inputs: CircuitInputs, values: Sequence[ArrayLike]) -> Array:
    """A number, a row of components or a row per stage of every section, (N, C)."""
    c = len(inputs.components)
    rows = zip(values, inputs.sections, strict=True)
    return np.concatenate(
        [np.broadcast_to(np.asarray(v, dtype=float), (s.stages, c)) for v, s in rows]
    )


def carried(inputs: CircuitInputs) -> Array | None:
    """Parts of the aqueous and of the organic that the other phase carries, (2, 1, N, 1)."""
    if _all_are([v for s in inputs.sections for v in (s.carry_aq, s.carry_org)], 0.0):
        return None
    parts = [
        [
            np.broadcast_to(np.asarray(v, dtype=float), (s.stages,))
            for v in (s.carry_aq, s.carry_org)
        ]
        for s in inputs.sections
    ]
    return np.concatenate(parts, axis=1)[:, None, :, None]


def _carried(
    draw: Array, links: Sequence[chains.Link], carry: Array, fed: tuple[Array, Array]
) -> tuple[Array, Array]:
    """What the aqueous (water, anions, sulfate) and the organic carry when phases are entrained.

    Water and anions are components that never extract, the organic one that always does; they
    follow the same chain. The organic lost with the aqueous is made up at stage 1.
    """
    size, n = fed[1].shape
    feed = np.zeros((2, size, n, 4))
    feed[0, :, :, :3], feed[1, :, :, 3] = fed
    whole = []
    for link in links:
        share = np.repeat(np.max(link.share, axis=1)[:, None], 4, axis=1)
        if link.source[1] == 1:
            share[:, 3] = 0.0
        whole.append(replace(link, share=share))
    far = 0.1 * chains.NOTHING
    ratio = np.broadcast_to(np.array([far, far, far, -far]), (size, n, 4))
    found = chains.solve(chains.Chain(feed=feed, draw=draw, carry=carry, links=tuple(whole)), ratio)
    return np.exp(found.aqueous[..., :3]), np.exp(found.organic[..., 3])
