"""A mass-flow design brought to specification by mass action: pH, saponification, real loading.

The product split is the controlled variable. For a given organic flow the scrub acid is set until
the organic carries away what the design wants (nearly linear, so a secant settles it); the organic
flow is set until both outlets meet their specification at that split. Where the organic flow that
takes is out of proportion, stages are added instead. The strip section then closes the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import products
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InfeasibleError, Trace
from sepmodel.extraction import circuit, derivatives, remarch_acid, tolerance
from sepmodel.extraction.design import CircuitDesign
from sepmodel.extraction.design_flows import Flows, Plant
from sepmodel.extraction.design_inputs import DesignCase
from sepmodel.extraction.design_spec import Spec
from sepmodel.extraction.remarch import COUNTS, agree
from sepmodel.result import amount

Array = NDArray[np.float64]

LN10 = math.log(10.0)
# The split is met to this part of the scarcer stray, the specification to this part of what strays.
SPLIT = 1e-2
CLOSE = 1e-2
# Rounds of either search, and steps in ln(organic flow).
ROUNDS = 32
STEP = 2.0**-5
# Stages are added when the organic flow would have to be more than this times the mass-flow one.
MOST = 1.5
MOST_ADDED = 16
# A secant stays this part of a bracket away from its ends.
EDGE = 0.1
# Strip acid is raised by this factor until the stripped organic is clean enough, at most so often.
MORE_ACID = 1.5
RAISES = 8
# Rounds of asking more where the closed loop falls short.
TIGHTENINGS = 4


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Confirmation:
    """The circuit by mass action that meets the specification.

    ``stages_extraction``, ``stages_scrub`` and flows [m3/s] with acid and base [mol/s]; ``purity``
    and ``recovery`` of both outlets; ``ph`` lowest and highest of extraction and scrub, ``loading``
    the largest part of the extractant bound to rare earth over the limit; ``open`` the solved
    extraction and scrub, ``closed`` the whole circuit with strip, where it was asked for.
    ``solvent`` is the most rare earth the organic carries per mole of ``feed`` [mol/s];
    ``feed_flow`` [m3/s], and ``strip_liquor`` the rare earth in the strip liquor [mol/m3].
    ``change`` names what differs from the mass-flow design, relative. ``solves`` counts circuits.
    """

    stages_extraction: int
    stages_scrub: int
    stages_strip: int
    organic: float
    scrub: float
    strip: float
    acid: float
    base: float
    purity: Mapping[str, float]
    recovery: Mapping[str, float]
    ph: tuple[float, float]
    loading: float
    solvent: float
    feed: float
    feed_flow: float
    strip_liquor: float
    change: Mapping[str, float]
    sensitivity: tolerance.Sensitivity
    open: circuit.CircuitResult
    closed: circuit.CircuitResult
    document: Mapping[str, Any]
    recheck: float
    solves: int

    @property
    def stages(self) -> int:
        """Extraction and scrub stages."""
        return self.stages_extraction + self.stages_scrub

    @property
    def flows(self) -> Flows:
        """Volume flows and reagents, as the mass-flow design tells its own."""
        return Flows(
            organic=self.organic,
            feed=self.feed_flow,
            scrub=self.scrub,
            strip=self.strip,
            acid=self.acid,
            base=self.base,
            strip_liquor=self.strip_liquor,
        )

    @property
    def phase_ratio(self) -> dict[str, float]:
        """Organic to aqueous flow of every section there is."""
        sections = (
            ("extraction", "scrub", "strip") if self.stages_scrub else ("extraction", "strip")
        )
        return {section: self.flows.ratio(section) for section in sections}

    def outlets(
        self, names: Sequence[str], feed: float
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Raffinate and strip liquor of the closed circuit, per mole of feed."""
        raffinate, strip = (self.closed.outlets[k].moles / feed for k in ("raffinate", "strip"))
        return (
            dict(zip(names, raffinate.tolist(), strict=False)),
            dict(zip(names, strip.tolist(), strict=False)),
        )

    def to_dict(self) -> dict[str, Any]:
        """The confirmation as the JSON object of a design."""
        return {
            "stages_extraction": self.stages_extraction,
            "stages_scrub": self.stages_scrub,
            "stages_strip": self.stages_strip,
            "organic": amount(self.organic, "m^3/h"),
            "scrub": amount(self.scrub, "m^3/h"),
            "strip": amount(self.strip, "m^3/h"),
            "acid": amount(self.acid, "mol/h"),
            "base": amount(self.base, "mol/h"),
            "purity": dict(self.purity),
            "recovery": dict(self.recovery),
            "pH_lowest": self.ph[0],
            "pH_highest": self.ph[1],
            "loading": self.loading,
            "phase_ratio": self.phase_ratio,
            "strip_liquor": amount(self.strip_liquor, "mol/L"),
            "solvent": self.solvent,
            "change": dict(self.change),
            "recheck": self.recheck,
            "solves": self.solves,
        }


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Circuit:
    """What stays the same while flows and stages are sought."""

    names: tuple[str, ...]
    ions: tuple[str, ...]
    model: CationExchange
    plant: Plant
    feed: Array
    feed_acid: float
    spec: Spec
    split: float
    ion: str
    efficiency: float

    def inputs(self, n: int, m: int, organic: float, scrub: float) -> circuit.CircuitInputs:
        """Extraction and scrub, fresh saponified organic."""
        plant = self.plant
        flow = plant.feed / plant.feed_conc
        none = np.zeros(len(self.ions))
        soap = none.copy()
        soap[-1] = plant.saponification * plant.extractant
        part = self.efficiency
        sections = [circuit.Section(name="extraction", stages=n, efficiency=part)]
        inlets = [
            circuit.Inlet(
                name="feed",
                section="extraction",
                stage=n,
                flow=flow,
                conc=np.append(self.feed, 0.0) * plant.feed_conc,
                acid=self.feed_acid,
            )
        ]
        if m:
            sections.append(circuit.Section(name="scrub", stages=m, efficiency=part))
            inlets.append(
                circuit.Inlet(
                    name="scrub-acid",
                    section="scrub",
                    stage=m,
                    flow=scrub,
                    conc=none,
                    acid=plant.scrub_acid,
                )
            )
        return circuit.CircuitInputs(
            components=self.ions,
            model=self.model,
            charge=self.model.charge,
            sections=tuple(sections),
            organic_flow=organic,
            dimer=plant.extractant / 2,
            organic_conc=soap,
            inlets=tuple(inlets),
        )

    def outlets(self, solved: circuit.CircuitResult) -> tuple[Array, Array]:
        """Raffinate and organic product per mole of feed, (C,) without the counter-ion."""
        feed = self.plant.feed
        return (
            solved.outlets["raffinate"].moles[:-1] / feed,
            solved.outlets["organic"].moles[:-1] / feed,
        )

    def violation(self, r: Array, d: Array) -> float:
        """ln of the worst of all that strays over what may; not above zero when all is met."""
        return max(self.violations(r, d).values())

    def violations(self, r: Array, d: Array) -> dict[str, float]:
        """The same for every specification of both outlets."""
        spec, out = self.spec, {}
        for outlet, flows in (("raffinate", r), ("organic", d)):
            product = spec.products[outlet]
            if product is None:
                continue
            moles = dict(zip(self.names, flows.tolist(), strict=True))
            if product.purity is not None:
                impure = 1 - products.purity(moles, product.elements, spec.basis)
                out[f"purity of {product.name}"] = _ln(impure / (1 - product.purity))
            if product.recovery is not None:
                kept = products.recovery(moles, spec.feed, product.elements, spec.basis)
                out[f"recovery of {product.name}"] = _ln((1 - kept) / (1 - product.recovery))
            weights = products.amounts(moles, spec.basis)
            for element, share in product.limits.items():
                value = weights[element] / sum(weights.values())
                out[f"{element} in {product.name}"] = _ln(value / share)
        return out


def _ln(value: float) -> float:
    return math.log(max(value, np.finfo(float).tiny))


def exchange(case: DesignCase, spec: Spec, book: Book) -> CationExchange:
    """Mass action of the case: the level of one element, separation factors, the soap."""
    model = case.model
    base = model.log_k.get(model.level)
    if base is None:
        base = book[f"{model.set}:{model.level}"]
    if model.level in spec.extractability:
        reference = spec.extractability[model.level]
    else:
        from sepmodel.extraction import factors

        pair = factors.extractabilities(
            book, str(model.separation_factors), [spec.names[0], model.level]
        )
        reference = float(pair[1] / pair[0])
    log_k = [
        model.log_k.get(e, base + math.log10(spec.extractability[e] / reference))
        for e in spec.names
    ]
    log_k.append(book[f"{model.soap}:log-K-{model.counter_ion}"])
    charge = np.append(np.full(len(spec.names), 3.0), 1.0)
    dimers = charge.copy()
    dimers[-1] = book[f"{model.soap}:dimers-{model.counter_ion}"]
    return CationExchange(log_k=LN10 * np.array(log_k), charge=charge, dimers=dimers)


def confirm(
    case: DesignCase,
    book: Book,
    spec: Spec,
    plant: Plant,
    found: CircuitDesign,
    qualities: Sequence[tolerance.Quality],
) -> Confirmation:
    """The mass-action circuit that meets the specification of a mass-flow design.

    Raises
    ------
    InfeasibleError
        when neither organic flow nor stages bring it there, or a stage leaves the pH window.
    ConvergenceError
        when the circuit is not solved, or contradicts its own re-calculation.
    """
    task = _Circuit(
        names=spec.names,
        ions=(*spec.names, case.model.counter_ion),
        model=exchange(case, spec, book),
        plant=plant,
        feed=np.array([spec.feed[e] for e in spec.names]),
        feed_acid=case.feed.acid,
        spec=spec,
        split=sum(found.organic[e] for e in spec.names),
        ion=case.model.counter_ion,
        efficiency=case.circuit.efficiency,
    )
    search = _Search(task, found)
    flows = plant.flows(found.solvent, found.scrub, task.split)
    for _ in range(TIGHTENINGS):
        n, m, organic, scrub, solved = search.run(case.circuit.most_stages)
        closed, strip, missed = search.stripped(n, m, organic, scrub)
        if missed <= 0:
            break
        # What the stripped organic brings back is made up by asking more of the open circuit.
        search.slack += missed + CLOSE
    else:
        raise InfeasibleError(
            "the stripped organic brings back more than the specification bears, with "
            f"{MORE_ACID**RAISES:.0f} times the acid that is exchanged",
            limit={"strip stages": float(plant.strip_stages)},
            nearest={"strip stages": float(2 * plant.strip_stages)},
        )
    r, d = task.outlets(solved)
    rare = len(spec.names)
    carried = solved.organic[:, :rare].sum(axis=1)
    ph = float(solved.ph.min()), float(solved.ph.max())
    _inside(case, book, ph)
    recheck = _again(task, (n, m), (organic, scrub, strip), solved, closed)
    moles = {
        "raffinate": dict(zip(spec.names, r.tolist(), strict=True)),
        "organic": dict(zip(spec.names, d.tolist(), strict=True)),
    }
    sides = {"raffinate": spec.light, "organic": spec.heavy}
    own = {
        outlet: product.elements if product is not None else sides[outlet]
        for outlet, product in spec.products.items()
    }
    base = plant.saponification * plant.extractant * organic
    strip_acid = strip * plant.strip_acid
    return Confirmation(
        stages_extraction=n,
        stages_scrub=m,
        stages_strip=plant.strip_stages,
        organic=organic,
        scrub=scrub,
        strip=strip,
        acid=scrub * plant.scrub_acid + strip_acid,
        base=base,
        purity={k: products.purity(v, own[k], spec.basis) for k, v in moles.items()},
        recovery={k: products.recovery(v, spec.feed, own[k], spec.basis) for k, v in moles.items()},
        ph=ph,
        loading=float(np.max(solved.conc_org[:, :rare].sum(axis=1))) / plant.loading_limit,
        solvent=float(carried.max()) / plant.feed,
        feed=plant.feed,
        feed_flow=flows.feed,
        strip_liquor=float(closed.outlets["strip"].moles[:rare].sum())
        / float(closed.outlets["strip"].flow),
        change={
            "organic": organic / flows.organic - 1,
            "scrub": scrub / flows.scrub - 1 if flows.scrub > 0 else 0.0,
            "strip": strip / flows.strip - 1,
            "stages": (n + m) / found.stages - 1,
        },
        sensitivity=slopes(task, solved, qualities),
        open=solved,
        closed=closed,
        document=document(case, task, (n, m), organic, scrub, strip),
        recheck=recheck,
        solves=search.solves,
    )


def _again(
    task: _Circuit,
    stages: tuple[int, int],
    flows: tuple[float, float, float],
    solved: circuit.CircuitResult,
    closed: circuit.CircuitResult,
) -> float:
    """Largest difference of any outlet of both circuits to their second simulation, of its flow.

    Raises
    ------
    ConvergenceError
        when the two contradict one another.
    """
    plant = task.plant
    organic, scrub, strip = flows
    none = np.zeros(len(task.ions))
    soap = none.copy()
    soap[-1] = plant.saponification * plant.extractant
    worst = 0.0
    for strips, found, product in (
        (0, solved, "organic"),
        (plant.strip_stages, closed, "strip"),
    ):
        second = remarch_acid.remarch(
            remarch_acid.Line(
                model=task.model,
                stages=(*stages, strips),
                organic=organic,
                dimer=plant.extractant / 2,
                soap=soap,
                feed=(
                    plant.feed / plant.feed_conc,
                    np.append(task.feed, 0.0) * plant.feed_conc,
                    task.feed_acid,
                ),
                scrub=(scrub if stages[1] else 0.0, plant.scrub_acid),
                strip=(strip, plant.strip_acid),
                efficiency=task.efficiency,
            )
        )
        for again, name in ((second.raffinate, "raffinate"), (second.product, product)):
            told = found.outlets[name].moles[:-1]
            least = COUNTS * plant.feed * task.feed
            off = np.abs(again[:-1] - told) / np.maximum(told, least)
            worst = max(worst, float(off.max()))
    return agree(worst)


def _inside(case: DesignCase, book: Book, ph: tuple[float, float]) -> None:
    """Refuse a circuit that leaves the pH window."""
    from sepmodel.extraction.design_flows import LIMITS

    low, high = case.limits.pH_low, case.limits.pH_high
    low = book[f"{LIMITS}:pH_low"] if low is None else low
    high = book[f"{LIMITS}:pH_high"] if high is None else high
    for value, edge, beyond in ((ph[0], low, ph[0] < low), (ph[1], high, ph[1] > high)):
        if beyond:
            raise InfeasibleError(
                f"pH {value:.2f} in a stage leaves the window {low:g} to {high:g}: other scrub "
                "acid, or another saponification",
                limit={"pH": edge},
                nearest={"pH": value},
            )


class _Search:
    """Organic flow, scrub acid and stages of one specification; remembers the last solution."""

    def __init__(self, task: _Circuit, found: CircuitDesign) -> None:
        self.task = task
        self.found = found
        self.solves = 0
        self.u: Array | None = None
        self.shape = (0, 0)
        # How much further inside the specification to aim, in ln of what strays.
        self.slack = 0.0

    def solve(self, n: int, m: int, organic: float, scrub: float) -> circuit.CircuitResult:
        """The circuit, from the last one of its size."""
        self.solves += 1
        guess = self.u if self.shape == (n, m) else None
        solved = circuit.solve(self.task.inputs(n, m, organic, scrub), guess=guess)
        self.u, self.shape = solved.u, (n, m)
        return solved

    def run(self, most: int) -> tuple[int, int, float, float, circuit.CircuitResult]:
        """Stages and flows that meet every specification."""
        n, m = self.found.stages_extraction, self.found.stages_scrub
        flows = self.task.plant.flows(self.found.solvent, self.found.scrub, self.task.split)
        top = math.log(flows.organic * MOST)
        for added in range(MOST_ADDED):
            if n + m > most:
                break
            try:
                return (n, m, *self.at_stages(n, m, flows.organic, flows.scrub, top))
            except _TooLittle:
                n, m = (n + 1, m) if added % 2 and m else (n, m + 1)
        raise InfeasibleError(
            f"by mass action no circuit of {n + m} stages meets the specification with up to "
            f"{MOST:g} times the organic",
            limit={"stages": float(n + m)},
            nearest={"stages": float(n + m), "organic": float(flows.organic * MOST)},
        )

    def at_stages(
        self, n: int, m: int, organic: float, scrub: float, top: float
    ) -> tuple[float, float, circuit.CircuitResult]:
        """Organic and scrub flow of given stages: the least organic that will do."""
        state = {"scrub": scrub, "organic": organic}

        def missing(log_organic: float) -> tuple[float, circuit.CircuitResult]:
            flow = math.exp(log_organic)
            # What more is carried has to be taken back by the scrub.
            ratio = self.found.solvent / self.found.scrub if m else 0.0
            more = ratio * (flow / state["organic"] - 1.0)
            state["scrub"], solved = self.split(n, m, flow, state["scrub"] * (1.0 + more))
            state["organic"] = flow
            return self.task.violation(*self.task.outlets(solved)) + self.slack, solved

        # Bracket the flow at which the worst specification is just met, from the design's.
        here = math.log(organic)
        value, solved = missing(here)
        low: tuple[float, float] | None = None
        high: tuple[float, float] | None = None
        for _ in range(ROUNDS):
            if -CLOSE <= value <= 0:
                return math.exp(here), state["scrub"], solved
            if value > 0:
                low = (here, value)
            else:
                high = (here, value)
            if low is None:
                here -= STEP
            elif high is None:
                if here >= top:
                    raise _TooLittle
                here = min(here + STEP, top)
            else:
                # Aim a little inside what is allowed.
                aim = -0.5 * CLOSE
                share = (low[1] - aim) / (low[1] - high[1])
                here = low[0] + min(max(share, EDGE), 1 - EDGE) * (high[0] - low[0])
            value, solved = missing(here)
        raise ConvergenceError(
            "the organic flow that meets the specification was not found",
            trace=Trace(equation="specification", advice="another start: fewer or more stages"),
        )

    def split(
        self, n: int, m: int, organic: float, scrub: float
    ) -> tuple[float, circuit.CircuitResult]:
        """Scrub flow at which the organic carries away the product that is wanted."""
        task = self.task
        solved = self.solve(n, m, organic, scrub)
        if not m:
            return scrub, solved
        # Both strays are asked to shrink alike, which fixes the split between them.
        down = math.exp(-self.slack) * sum(self.found.raffinate[e] for e in task.spec.heavy)
        up = math.exp(-self.slack) * sum(self.found.organic[e] for e in task.spec.light)
        wanted = sum(task.spec.feed[e] for e in task.spec.heavy) - down + up
        stray = min(self.found.solvent, down, up)
        # More acid leaves less for the organic: the product falls with the scrub flow.
        low, high = 0.0, math.inf
        before: tuple[float, float] | None = None
        rate = task.plant.scrub_acid / task.plant.acid_per_metal / task.plant.feed
        for _ in range(ROUNDS):
            over = float(task.outlets(solved)[1].sum()) - wanted
            if abs(over) <= SPLIT * stray:
                return scrub, solved
            low, high = (scrub, high) if over > 0 else (low, scrub)
            if before is not None and over != before[1]:
                slope = -(over - before[1]) / (scrub - before[0])
                rate = slope if slope > 0 else rate
            before = (scrub, over)
            scrub += over / rate
            if not low < scrub < high:
                scrub = 0.5 * (low + high) if math.isfinite(high) else 2.0 * low
            solved = self.solve(n, m, organic, scrub)
        raise ConvergenceError(
            "the scrub flow of the wanted product split was not found",
            trace=Trace(equation="product split", advice="more organic or stronger scrub acid"),
        )

    def stripped(
        self, n: int, m: int, organic: float, scrub: float
    ) -> tuple[circuit.CircuitResult, float, float]:
        """The whole circuit with as much strip acid as it takes: that flow, and what is missed."""
        task, plant = self.task, self.task.plant
        acid = plant.acid_per_metal * task.split * plant.feed * plant.strip_excess
        strip = acid / plant.strip_acid
        best: tuple[circuit.CircuitResult, float, float] | None = None
        for _ in range(RAISES):
            closed = self.closed(n, m, organic, scrub, strip)
            ends = [closed.outlets[k].moles[:-1] / plant.feed for k in ("raffinate", "strip")]
            missed = task.violation(ends[0], ends[1])
            gained = math.inf if best is None else best[2] - missed
            best = (closed, strip, missed)
            if missed <= 0 or gained < CLOSE:
                break
            strip *= MORE_ACID
        assert best is not None
        return best

    def closed(
        self, n: int, m: int, organic: float, scrub: float, strip: float
    ) -> circuit.CircuitResult:
        """The same circuit with its strip section, the organic returned."""
        task, plant = self.task, self.task.plant
        inputs = task.inputs(n, m, organic, scrub)
        strip_inlet = circuit.Inlet(
            name="strip-acid",
            section="strip",
            stage=plant.strip_stages,
            flow=strip,
            conc=np.zeros(len(task.ions)),
            acid=plant.strip_acid,
        )
        self.solves += 1
        return circuit.solve(
            replace(
                inputs,
                sections=(
                    *inputs.sections,
                    circuit.Section(
                        name="strip",
                        stages=plant.strip_stages,
                        aqueous_to="out",
                        efficiency=task.efficiency,
                    ),
                ),
                inlets=(*inputs.inlets, strip_inlet),
                closed=True,
                reset=(task.ion,),
            )
        )


class _TooLittle(Exception):
    """More organic than allowed would be needed at these stages."""


def slopes(
    task: _Circuit, solved: circuit.CircuitResult, qualities: Sequence[tolerance.Quality]
) -> tolerance.Sensitivity:
    """Derivatives of purities and recoveries by every input of the circuit, by the adjoint."""
    outputs = [_output(task, solved, quality) for quality in qualities]
    names = {
        "organic_flow": "organic flow",
        "flow:scrub-acid": "scrub flow",
        "acid:scrub-acid": "scrub acid strength",
        "flow:feed": "feed flow",
        "acid:feed": "acid of the feed",
        "dimer": "extractant",
        f"organic_conc:{task.ion}": "saponification",
        **{f"conc:feed:{e}": f"feed:{e}" for e in task.names},
    }
    present = set(derivatives.parameters(solved.inputs))
    wanted = [name for name in names if name in present]
    factors = [f"log_k:{e}" for e in task.ions]
    found = derivatives.adjoint(solved, outputs, [*wanted, *factors])
    values = found.values
    columns = [values[:, k] for k in range(len(wanted))]
    labels = [names[name] for name in wanted]
    if {"extractant", "saponification"} <= set(labels):
        # More extractant at the same degree of saponification, as a file gives it, is more soap.
        soap = columns[labels.index("saponification")]
        columns[labels.index("extractant")] = columns[labels.index("extractant")] + soap
    by_k = values[:, len(wanted) :]
    for k in range(len(task.names) - 1):
        # A factor moves everything above its cut.
        columns.append(by_k[:, k + 1 : len(task.names)].sum(axis=1))
        labels.append(f"factor:{task.names[k + 1]}/{task.names[k]}")
    columns += [by_k[:, : len(task.names)].sum(axis=1), by_k[:, -1]]
    labels += ["level of all constants", f"constant of the {task.ion} soap"]
    r, d = task.outlets(solved)
    base = np.array([_reached(task, q, r, d) for q in qualities])
    for label, column in _stage_losses(task, solved, qualities, base):
        columns.append(column)
        labels.append(label)
    return tolerance.Sensitivity(
        qualities=tuple(qualities),
        parameters=tuple(labels),
        values=np.stack(columns, axis=1),
        reached=base,
    )


def _stage_losses(
    task: _Circuit,
    solved: circuit.CircuitResult,
    qualities: Sequence[tolerance.Quality],
    base: Array,
) -> list[tuple[str, Array]]:
    """By solving again with a little of each: efficiency lost, each phase carried along."""
    step = 1e-6
    out = []
    changes: list[tuple[str, Callable[[circuit.Section], circuit.Section]]] = [
        ("inefficiency", lambda s: replace(s, efficiency=task.efficiency - step)),
        ("aqueous_carried", lambda s: replace(s, carry_aq=step)),
        ("organic_carried", lambda s: replace(s, carry_org=step)),
    ]
    for label, change in changes:
        inputs = replace(
            solved.inputs, sections=tuple(change(section) for section in solved.inputs.sections)
        )
        moved = circuit.solve(inputs, guess=solved.u)
        r, d = task.outlets(moved)
        after = np.array([_reached(task, q, r, d) for q in qualities])
        logit = np.log(after / (1 - after)) - np.log(base / (1 - base))
        out.append((label, logit / step))
    return out


def _reached(task: _Circuit, quality: tolerance.Quality, r: Array, d: Array) -> float:
    flows = r if quality.outlet == "raffinate" else d
    moles = dict(zip(task.names, flows.tolist(), strict=True))
    if quality.kind == "purity":
        return products.purity(moles, quality.elements, quality.basis)
    return products.recovery(moles, task.spec.feed, quality.elements, quality.basis)


def _output(
    task: _Circuit, solved: circuit.CircuitResult, quality: tolerance.Quality
) -> derivatives.Output:
    """ln(own) - ln(foreign), or ln(arrived) - ln(lost), as weights of ln flows."""
    weight = {e: products.amounts({e: 1.0}, quality.basis)[e] for e in task.names}
    r, d = (dict(zip(task.names, x.tolist(), strict=True)) for x in task.outlets(solved))
    here, other = ("raffinate", "organic") if quality.outlet == "raffinate" else (
        "organic",
        "raffinate",
    )  # fmt: skip
    flows = {"raffinate": r, "organic": d}
    own = [(here, e) for e in quality.elements]
    if quality.kind == "purity":
        against = [(here, e) for e in task.names if e not in quality.elements]
    else:
        against = [(other, e) for e in quality.elements]
    weights: dict[tuple[str, str], float] = {}
    for group, sign in ((own, 1.0), (against, -1.0)):
        total = sum(weight[e] * flows[o][e] for o, e in group)
        for o, e in group:
            weights[o, e] = weights.get((o, e), 0.0) + sign * weight[e] * flows[o][e] / total
    return derivatives.Output(name=quality.name, weights=weights)


def document(
    case: DesignCase,
    task: _Circuit,
    stages: tuple[int, int],
    organic: float,
    scrub: float,
    strip: float,
) -> dict[str, Any]:
    """Tables of the circuit's case file, strip and loop included."""
    plant = task.plant
    n, m = stages

    def flow(value: float) -> str:
        return f"{value:.15g} m^3/s"

    def conc(value: float) -> str:
        return f"{value:.15g} mol/m^3"

    inlets = [
        {
            "name": "feed",
            "section": "extraction",
            "flow": flow(plant.feed / plant.feed_conc),
            "composition": {e: conc(task.spec.feed[e] * plant.feed_conc) for e in task.names},
            "acid": conc(task.feed_acid),
        }
    ]
    if m:
        inlets.append(
            {
                "name": "scrub-acid",
                "section": "scrub",
                "flow": flow(scrub),
                "acid": conc(plant.scrub_acid),
            }
        )
    inlets.append(
        {
            "name": "strip-acid",
            "section": "strip",
            "flow": flow(strip),
            "acid": conc(plant.strip_acid),
        }
    )
    counts, part = {"extraction": n, "scrub": m, "strip": plant.strip_stages}, task.efficiency
    log_k = {e: float(k / LN10) for e, k in zip(task.ions, task.model.log_k, strict=True)}
    return {
        "schema": 1,
        "kind": "cascade",
        "name": f"{case.name}-circuit",
        "title": f"{task.spec.cut} as designed, by mass action with the organic loop closed",
        "components": list(task.names),
        "purity_basis": case.purity_basis,
        "model": {
            "equilibrium": "mass-action",
            "counter_ion": task.ion,
            "soap": case.model.soap,
            "log_k": {e: log_k[e] for e in task.names},
        },
        "organic": {
            "flow": flow(organic),
            "extractant": conc(plant.extractant),
            "saponification": plant.saponification,
        },
        "section": [
            {"name": k, "stages": v, **({"efficiency": part} if part < 1 else {})}
            for k, v in counts.items()
            if v
        ],
        "inlet": inlets,
        "recycle": {"organic": True},
    }
