"""Extraction circuits by mass action: sections in series, inlets, draws, organic loop closed.

Per stage the unknowns are those of the equilibrium model alone (for the usual acidic extractant
one, ln of free dimer over proton). Given them, all component fluxes follow exactly from their
linear balances (``chain``); Newton closes dimer and charge of all stages together, with the full
analytic Jacobian. A first guess comes from the same circuit with fewer stages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel import solvers
from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.chemistry.equilibrium import Equilibrium
from sepmodel.errors import ConvergenceError, InputError, Problem, Trace
from sepmodel.extraction import chain as chains
from sepmodel.extraction.stagewise import Plan, evaluate, iterate, take

Array = NDArray[np.float64]

PHASES = ("aqueous", "organic")
# A cascade is approached over cascades of two thirds of its stages each: from half as many, sharp
# cuts need ten times the iterations.
REFINEMENT = 1.5
# A step between two cascades is halved at most so often when Newton fails on it.
DEEPEST = 5
# Iterations from a caller's guess before it is given up.
GUESSED = 32
# Stages of the longest section of the cascade that a bad guess is averaged over.
AVERAGED = 4
# Coarser cascades need not be solved to the last digit.
ROUGH: dict[str, Any] = {"tolerance": 0.1, "accept": 0.1, "limit": 32}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Section:
    """Stages in series; stage 1 is where the organic enters.

    ``efficiency`` Murphree efficiency of the organic, one number or one per component;
    ``log_k_shift`` is added to ln D in this section (temperature), one number or one per component;
    ``carry_aq, carry_org`` part of the leaving aqueous (organic) carried along by the other phase;
    ``aqueous_to``: "below" (the section before it) or "out" (a product, named after the section).
    """

    name: str
    stages: int
    efficiency: ArrayLike = 1.0
    log_k_shift: ArrayLike = 0.0
    carry_aq: float = 0.0
    carry_org: float = 0.0
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

    @property
    def stages(self) -> int:
        """Total number of stages."""
        return sum(section.stages for section in self.sections)


def prepare(inputs: CircuitInputs, *, checked: bool = False) -> Plan:
    """Inputs as arrays over members and stages, checked unless they are known to be good."""
    if not checked:
        _check(inputs)
    c, n = len(inputs.components), inputs.stages
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    at = 0
    for section in inputs.sections:
        first[section.name], last[section.name] = at, at + section.stages - 1
        at += section.stages
    shapes = [np.shape(inputs.organic_flow), np.shape(inputs.dimer)]
    shapes.append(np.shape(inputs.organic_conc)[:-1])
    for inlet in inputs.inlets:
        shapes += [np.shape(inlet.flow), np.shape(inlet.conc)[:-1]]
        shapes += [np.shape(inlet.acid), np.shape(inlet.sulfate)]
    shapes += [np.shape(draw.flow) for draw in inputs.draws]
    batch = np.broadcast_shapes(*shapes)
    size = int(np.prod(batch, dtype=int))

    def members(value: ArrayLike, tail: tuple[int, ...] = ()) -> Array:
        full = np.broadcast_to(np.asarray(value, dtype=float), batch + tail)
        return full.reshape((size, *tail))

    feed = np.zeros((2, size, n, c))
    organic = members(inputs.organic_flow)
    feed[1, :, 0] = members(inputs.organic_conc, (c,)) * organic[:, None]
    water = np.zeros((size, n))
    acid = np.zeros((size, n))  # equivalents of anions [mol/s]
    sulfate = np.zeros((size, n))
    oil = np.zeros((size, n))
    oil[:, 0] = organic
    for inlet in inputs.inlets:
        stage = first[inlet.section] + inlet.stage - 1
        phase = PHASES.index(inlet.phase)
        flow, conc = members(inlet.flow), members(inlet.conc, (c,))
        feed[phase, :, stage] += flow[:, None] * conc
        if phase == 0:
            water[:, stage] += flow
            acid[:, stage] += flow * (members(inlet.acid) + conc @ inputs.charge)
            sulfate[:, stage] += flow * members(inlet.sulfate)
        else:
            oil[:, stage] += flow
    draw = np.zeros((2, size, n, 1))
    outlets: dict[str, tuple[int, int, Array]] = {}
    links: list[chains.Link] = []
    taken = [(first[d.section] + d.stage - 1, PHASES.index(d.phase), d) for d in inputs.draws]
    # Aqueous down the circuit, organic up; what is returned enters below where it came from.
    fed = (np.stack([water, acid, sulfate], axis=-1), oil.copy())
    # Water, anion equivalents and sulfate, in one.
    aqueous = fed[0].copy()
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
                fraction = members(item.flow) / np.maximum(passing[:, k, 0], np.finfo(float).tiny)
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
    flow_org = np.empty((size, n))
    up = np.zeros(size)
    start = 0
    for k in sorted({n - 1, *(stage for stage, phase, _ in taken if phase == 1)}):
        flow_org[:, start : k + 1] = up[:, None] + np.cumsum(oil[:, start : k + 1], axis=1)
        for stage, phase, item in taken:
            if stage == k and phase == 1:
                fraction = members(item.flow) / np.maximum(flow_org[:, k], np.finfo(float).tiny)
                outlets[item.name] = (k, 1, fraction)
                draw[1, :, k, 0] += fraction
        up = flow_org[:, k] * (1.0 - draw[1, :, k, 0])
        start = k + 1
    _check_flows(inputs, passing[..., 0], flow_org, draw)
    outlets["organic"] = (n - 1, 1, 1.0 - draw[1, :, n - 1, 0])
    if inputs.closed:
        rest = 1.0 - draw[1, :, n - 1, 0]
        kept = np.array([name not in inputs.reset for name in inputs.components], dtype=float)
        links.append(chains.Link(source=(n - 1, 1), target=(0, 1), share=rest[:, None] * kept))
        draw[1, :, n - 1, 0] = 1.0
    efficiency, shift, carry = _by_section(inputs, c)
    bypass = None
    if np.any(efficiency < 1.0):
        bypass = np.broadcast_to(1.0 - efficiency, (size, n, c))
        shift = shift + chains.log(efficiency)
    chain = chains.Chain(feed=feed, draw=draw, bypass=bypass, carry=carry, links=tuple(links))
    dimer = members(inputs.dimer)
    if carry is not None:
        passing, flow_org = _carried(chain, fed)
    flow_aq = passing[..., 0]
    dimers = np.broadcast_to(dimer[:, None, None], (size, n, 1))
    totals = np.concatenate([dimers, passing[..., 1:] / flow_aq[..., None]], axis=-1)
    log_ratio = np.log(flow_org / flow_aq)[..., None] + shift
    return Plan(
        batch=batch,
        model=inputs.model,
        chain=chain,
        shift=np.broadcast_to(log_ratio, (size, n, c)),
        totals=totals,
        flow_aq=flow_aq,
        flow_org=flow_org,
        outlets=outlets,
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
        if not (np.all(conc >= 0) and np.all(np.asarray(inlet.acid) >= 0)):
            problems.append(Problem(message="a concentration is negative", key=inlet.name))
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


def _by_section(inputs: CircuitInputs, c: int) -> tuple[Array, Array, Array | None]:
    """Efficiency (N, C), shift of ln D (N, C) and carry (2, 1, N, 1) or None."""
    counts = [section.stages for section in inputs.sections]

    def spread(values: list[ArrayLike]) -> Array:
        rows = [np.broadcast_to(np.asarray(v, dtype=float), (c,)) for v in values]
        return np.repeat(np.array(rows), counts, axis=0)

    efficiency = spread([section.efficiency for section in inputs.sections])
    shift = spread([section.log_k_shift for section in inputs.sections])
    carried = np.array(
        [[s.carry_aq for s in inputs.sections], [s.carry_org for s in inputs.sections]]
    )
    if not carried.any():
        return efficiency, shift, None
    return efficiency, shift, np.repeat(carried, counts, axis=1)[:, None, :, None]


def _carried(chain: chains.Chain, fed: tuple[Array, Array]) -> tuple[Array, Array]:
    """What the aqueous (water, anions, sulfate) and the organic carry when phases are entrained.

    Water and anions are components that never extract, the organic one that always does; they
    follow the same chain. The organic lost with the aqueous is made up at stage 1.
    """
    size, n = fed[1].shape
    feed = np.zeros((2, size, n, 4))
    feed[0, :, :, :3], feed[1, :, :, 3] = fed
    links = []
    for link in chain.links:
        share = np.repeat(np.max(link.share, axis=1)[:, None], 4, axis=1)
        if link.source[1] == 1:
            share[:, 3] = 0.0
        links.append(replace(link, share=share))
    far = 0.1 * chains.NOTHING
    ratio = np.broadcast_to(np.array([far, far, far, -far]), (size, n, 4))
    flows = chains.solve(
        chains.Chain(feed=feed, draw=chain.draw, carry=chain.carry, links=tuple(links)), ratio
    )
    return np.exp(flows.aqueous[..., :3]), np.exp(flows.organic[..., 3])


def with_stages(inputs: CircuitInputs, counts: Sequence[int]) -> CircuitInputs:
    """The same circuit with other stage counts, ports moved in proportion."""
    new = dict(zip((section.name for section in inputs.sections), counts, strict=True))
    old = {section.name: section.stages for section in inputs.sections}

    def stage(port: Inlet | Draw) -> int:
        fine, coarse = old[port.section], new[port.section]
        return 1 + round((port.stage - 1) * (coarse - 1) / (fine - 1)) if fine > 1 else 1

    return replace(
        inputs,
        sections=tuple(replace(s, stages=new[s.name]) for s in inputs.sections),
        inlets=tuple(replace(port, stage=stage(port)) for port in inputs.inlets),
        draws=tuple(replace(port, stage=stage(port)) for port in inputs.draws),
    )


def _levels(counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Stage counts from one a section to ``counts``, each about 1.5 times the one before."""
    levels = [counts]
    while max(levels[-1]) > 1:
        levels.append(tuple(max(1, round(c / REFINEMENT)) for c in levels[-1]))
    return levels[::-1]


def _refine(u: Array, coarse: CircuitInputs, fine: CircuitInputs) -> Array:
    """Unknowns (B, N, m) of a coarser circuit, interpolated section by section."""
    parts = []
    at = 0
    for a, b in zip(coarse.sections, fine.sections, strict=True):
        here = u[:, at : at + a.stages]
        at += a.stages
        x = (np.arange(b.stages) + 0.5) / b.stages * a.stages - 0.5
        x = np.clip(x, 0, a.stages - 1)
        low = np.minimum(x.astype(int), max(a.stages - 2, 0))
        high = np.minimum(low + 1, a.stages - 1)
        weight = (x - low)[None, :, None]
        parts.append((1 - weight) * here[:, low] + weight * here[:, high])
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


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Outlet:
    """A stream that leaves: ``flow`` [m3/s] (...), ``moles`` [mol/s] (..., C), ``log_moles`` its
    natural logarithm, ``proton`` free acid [mol/m3] (...) of an aqueous stream."""

    phase: str
    flow: Array
    moles: Array
    log_moles: Array
    proton: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CircuitResult:
    """A solved circuit, leading batch axes (...), N stages, C components.

    Fluxes [mol/s] ``aqueous, organic`` (..., N, C) leave each stage before draws, with natural
    logarithms ``log_aqueous, log_organic``; ``conc_aq, conc_org`` [mol/m3]. ``free`` (..., N, F)
    free extractant and protons [mol/m3]; ``proton`` (..., N) and ``ph``; ``loading`` (..., N) the
    bound part of the extractant. ``recycle`` (..., C) is what the returning organic carries over
    what is fed. ``supplied`` (..., C) [mol/s] is what the reset components are given (base).
    ``closure`` holds the largest relative errors: component (global), local (stage by stage, of
    each component's own throughput) and closures (dimer, charge). ``u`` starts a neighbour.
    """

    inputs: CircuitInputs
    aqueous: Array
    organic: Array
    log_aqueous: Array
    log_organic: Array
    conc_aq: Array
    conc_org: Array
    flow_aq: Array
    flow_org: Array
    free: Array
    proton: Array
    ph: Array
    outlets: dict[str, Outlet]
    recycle: Array
    supplied: Array
    closure: dict[str, Array]
    iterations: NDArray[np.int64]
    residual: Array
    converged: NDArray[np.bool_]
    fallbacks: NDArray[np.int64]
    u: Array


def solve(
    inputs: CircuitInputs, *, guess: ArrayLike | None = None, failures: str = "raise"
) -> CircuitResult:
    """All stages of a circuit, or of a batch of circuits, at steady state.

    Parameters
    ----------
    inputs: the circuit.
    guess: ``u`` of a neighbouring result, (..., N, m). When Newton gets nowhere from it, its
        averages over neighbouring stages are tried; without a guess, or when that fails too, the
        circuit is approached over coarser ones. ``fallbacks`` of the result counts these steps.
    failures: "raise", or "record": failed members are NaN and not ``converged``; "quick": as
        "record", without the small steps a single stubborn member is otherwise led by.

    Raises
    ------
    InputError; ConvergenceError with the worst stage, component and advice.

    >>> import numpy as np
    >>> from sepmodel.chemistry.cation_exchange import CationExchange
    >>> exchange = CationExchange(
    ...     log_k=np.log([0.02]), charge=np.array([3.0]), dimers=np.array([3.0])
    ... )
    >>> feed = Inlet(name="feed", section="extraction", stage=1, flow=1e-6, acid=100.0,
    ...              conc=np.array([1e-6]))
    >>> result = solve(CircuitInputs(
    ...     components=("Nd",), model=exchange, charge=np.array([3.0]),
    ...     sections=(Section(name="extraction", stages=1),), organic_flow=1e-6, dimer=500.0,
    ...     organic_conc=np.array([0.0]), inlets=(feed,)))
    >>> ratio = result.conc_org[0, 0] / result.conc_aq[0, 0]
    >>> float(ratio.round(6))
    2.5
    """
    plan = prepare(inputs)
    size, n = plan.flow_aq.shape
    m = plan.model.unknowns
    u = np.zeros((size, n, m))
    done = np.zeros(size, dtype=bool)
    iterations = np.zeros(size, dtype=np.int64)
    fallbacks = np.zeros(size, dtype=np.int64)
    norm = np.full(size, np.inf)
    last: solvers.Solution | None = None
    if guess is not None:
        start = np.broadcast_to(np.asarray(guess, dtype=float), (*plan.batch, n, m))
        last = iterate(plan, np.ascontiguousarray(start.reshape(size, n, m)), limit=GUESSED)
        u, norm = last.u.reshape(size, n, m), last.norm
        iterations += last.iterations
        done = last.converged & _physical(plan, u)
        fallbacks[~done] += 1
        todo = np.flatnonzero(~done)
        if todo.size:
            # What is good in the guess survives in its averages over neighbouring stages.
            averaged = start.reshape(size, n, m)[todo]
            u[todo], norm[todo], done[todo], spent, last = _cold(inputs, plan, todo, averaged)
            iterations[todo] += spent
            fallbacks[todo[~done[todo]]] += 1
    todo = np.flatnonzero(~done)
    if todo.size:
        u[todo], norm[todo], done[todo], spent, last = _cold(inputs, plan, todo)
        iterations[todo] += spent
    for member in np.flatnonzero(~done) if failures != "quick" else ():
        alone = np.array([member])
        fallbacks[member] += 1
        u[alone], norm[alone], done[alone], spent, last = _patient(inputs, plan, alone)
        iterations[alone] += spent
    if failures == "raise" and not done.all():
        raise _failure(inputs, plan, u, norm, done, last)
    return _result(inputs, plan, u, norm, done, iterations, fallbacks)


def _member(inputs: CircuitInputs, plan: Plan, members: NDArray[np.int64]) -> CircuitInputs:
    """Inputs of some members on one batch axis."""
    size = plan.flow_aq.shape[0]
    if size == 1 or members.size == size:
        return inputs

    def pick(value: ArrayLike, tail: int) -> Array:
        array = np.asarray(value, dtype=float)
        shape = array.shape[array.ndim - tail :]
        full = np.broadcast_to(array, plan.batch + shape).reshape((size, *shape))
        return full[members]

    return replace(
        inputs,
        organic_flow=pick(inputs.organic_flow, 0),
        dimer=pick(inputs.dimer, 0),
        organic_conc=pick(inputs.organic_conc, 1),
        inlets=tuple(
            replace(
                i,
                flow=pick(i.flow, 0),
                conc=pick(i.conc, 1),
                acid=pick(i.acid, 0),
                sulfate=pick(i.sulfate, 0),
            )
            for i in inputs.inlets
        ),
        draws=tuple(replace(d, flow=pick(d.flow, 0)) for d in inputs.draws),
    )


def _physical(plan: Plan, u: Array) -> NDArray[np.bool_]:
    """Members whose free amounts are all positive."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        free = evaluate(plan, u)[1][1].free
    if free is None:
        return np.ones(u.shape[0], dtype=bool)
    return np.asarray(np.all(free > 0, axis=(1, 2)))


def _cold(
    inputs: CircuitInputs,
    plan: Plan,
    members: NDArray[np.int64],
    guess: Array | None = None,
) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.int64], solvers.Solution]:
    """From one stage a section up to all stages, all members in step.

    With a guess (b, N, m), from its averages over the few stages of a cascade of some size.
    """
    inputs = _member(inputs, plan, members)
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
    return u, found.norm, found.converged & _physical(plan, u), spent, found


def _patient(
    inputs: CircuitInputs, plan: Plan, members: NDArray[np.int64]
) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.int64], solvers.Solution]:
    """As ``_cold`` for one member, with smaller steps between cascades where Newton fails."""
    inputs = _member(inputs, plan, members)
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
            good = good and bool(_physical(part, found.u.reshape(start.shape))[0])
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


def _failure(
    inputs: CircuitInputs,
    plan: Plan,
    u: Array,
    norm: Array,
    done: NDArray[np.bool_],
    last: solvers.Solution | None,
) -> ConvergenceError:
    """What went wrong with the worst member, and what to try."""
    bad = np.flatnonzero(~done)
    worst = bad[np.argmax(norm[bad])]
    alone = np.array([worst])
    part = take(plan, alone)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        r, (fluxes, spot) = evaluate(part, u[alone])
        inventory = fluxes.organic[0] - chains.log(part.chain.feed.sum(axis=(0, 2)))[0]
    stage = int(np.argmax(np.max(np.abs(np.nan_to_num(r[0], nan=np.inf)), axis=-1)))
    negative = spot.free is not None and bool(np.any(spot.free[0] <= 0))
    if negative:
        stage = int(np.argmin(np.min(spot.free[0], axis=-1)))
    fed = np.isfinite(inventory).any(axis=0)
    component = int(np.argmax(np.where(fed, np.max(inventory, axis=0), -np.inf)))
    factor = float(np.exp(np.minimum(np.max(inventory[:, component]), 100.0)))
    names = [section.name for section in inputs.sections]
    starts = np.cumsum([0] + [section.stages for section in inputs.sections])
    where = int(np.searchsorted(starts, stage, side="right")) - 1
    local = stage - int(starts[where]) + 1
    equation = "dimer and charge balance"
    advice = (
        f"{inputs.components[component]} piles up to {factor:.3g} times its feed: "
        "check that it can leave (strip acid and its flow, cut between solvent and scrub), "
        "then approach from a weaker loading with guess="
    )
    what = "no free extractant or acid is left" if negative else f"closure off by {norm[worst]:.1e}"
    return ConvergenceError(
        f"the circuit was not solved: {what} at stage {local} of {names[where]!r}; {advice}",
        trace=Trace(
            history=() if last is None else last.history,
            equation=equation,
            stage=stage + 1,
            component=inputs.components[component],
            advice=advice,
            extra={"section": names[where], "section_stage": local, "pile_up": factor},
        ),
    )


def _result(
    inputs: CircuitInputs,
    plan: Plan,
    u: Array,
    norm: Array,
    done: NDArray[np.bool_],
    iterations: NDArray[np.int64],
    fallbacks: NDArray[np.int64],
) -> CircuitResult:
    """Everything worth knowing of the solution, in the caller's axis order."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        r, (fluxes, spot) = evaluate(plan, u)
    missing = ~done

    def out(values: Array) -> Array:
        values = np.array(values, dtype=float)
        values[missing] = np.nan
        return values.reshape(plan.batch + values.shape[1:])

    aqueous, organic = np.exp(fluxes.aqueous), np.exp(fluxes.organic)
    up = np.exp(fluxes.up)
    free = np.ones((*plan.flow_aq.shape, 1)) if spot.free is None else spot.free
    proton = free[..., -1]
    outlets = {}
    flows = (plan.flow_aq, plan.flow_org)
    leaving = (fluxes.down, fluxes.up)
    for name, (stage, phase, fraction) in plan.outlets.items():
        if name == "organic" and inputs.closed:
            continue
        log_moles = leaving[phase][:, stage] + chains.log(fraction)[:, None]
        outlets[name] = Outlet(
            phase=PHASES[phase],
            flow=out(flows[phase][:, stage] * fraction),
            moles=out(np.exp(log_moles)),
            log_moles=out(log_moles),
            proton=out(proton[:, stage]),
        )
    feed = plan.chain.feed.sum(axis=(0, 2))
    returned = np.zeros_like(feed)
    kept = np.array([name not in inputs.reset for name in inputs.components])
    ends = sum(
        (np.exp(leaving[p][:, k]) * f[:, None] for name, (k, p, f) in plan.outlets.items()
         if not (name == "organic" and inputs.closed)),
        start=np.zeros_like(feed),
    )  # fmt: skip
    if inputs.closed:
        returned = up[:, -1] * plan.outlets["organic"][2][:, None]
        ends = ends + np.where(kept, 0.0, returned)
    supplied = np.where(kept, 0.0, plan.chain.feed[1, :, 0] - returned)
    if not inputs.closed:
        supplied = np.where(kept, 0.0, plan.chain.feed[1, :, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.nan_to_num(np.abs(feed - ends) / feed)
        recycle = np.nan_to_num(returned / feed)
    local = chains.local_closure(plan.chain, fluxes).max(axis=(1, 2))
    return CircuitResult(
        inputs=inputs,
        aqueous=out(aqueous),
        organic=out(organic),
        log_aqueous=out(fluxes.aqueous),
        log_organic=out(fluxes.organic),
        conc_aq=out(aqueous / plan.flow_aq[..., None]),
        conc_org=out(organic / plan.flow_org[..., None]),
        flow_aq=out(plan.flow_aq),
        flow_org=out(plan.flow_org),
        free=out(free),
        proton=out(proton),
        ph=out(-np.log10(np.where(proton > 0, proton, np.nan) / C_STANDARD)),
        outlets=outlets,
        recycle=out(recycle),
        supplied=out(supplied),
        closure={
            "component": out(total),
            "local": out(local),
            "closures": out(np.abs(r).max(axis=(1, 2))),
        },
        iterations=iterations.reshape(plan.batch),
        residual=out(norm),
        converged=done.reshape(plan.batch),
        fallbacks=fallbacks.reshape(plan.batch),
        u=out(u),
    )
