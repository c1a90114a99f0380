"""What settings may become in time: held to what the same keys of the case are held to.

Each value is checked by the case's own field, and what several settings are together (flows that
must suffice, an organic that must hold its soap) by building the train as it is after every event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import PydanticCustomError

from sepmodel import units
from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.chemistry.soap_exchange import SoapExchange
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction import circuit_limits
from sepmodel.extraction import inputs as mass_flow
from sepmodel.extraction.circuit import CircuitInputs
from sepmodel.extraction.circuit_inputs import Draw, Inlet, Organic, Section
from sepmodel.extraction.dynamics.control import Loop
from sepmodel.extraction.dynamics.inputs import DynamicCircuitCase, DynamicMassFlowCase, happenings
from sepmodel.extraction.dynamics.schedule import Event, Schedule
from sepmodel.extraction.dynamics.simulate import Run, RunResult
from sepmodel.extraction.dynamics.trains import CircuitTrain, MassFlowTrain, Train
from sepmodel.fields import Number, Quantity, Table

if TYPE_CHECKING:
    from sepmodel.result import Warned

Array = NDArray[np.float64]

# Bisections that find the nearest value a train could run with.
HALVINGS = 32
# Protons [mol/m3] below which there are none.
TINY = 1e-30
# Efficiencies may fall to nothing for a time, and pumps may stop.
STANDING = Number("a stage efficiency", low=0, high=1)
# What an outage by mass flow may be.
SPARED = (
    "an outage that spares the stages the organic enters and leaves by; by mass action any stage "
    "may stand still"
)
TABLES: dict[str, type[Table]] = {
    "organic": Organic,
    "inlet": Inlet,
    "draw": Draw,
    "section": Section,
}
MASS_FLOW: dict[str, type[Table]] = {
    "inlet": mass_flow.Inlet, "draw": mass_flow.Draw, "section": mass_flow.Section,
}  # fmt: skip


# Raises an InputError for what cannot be made.
Possible = Callable[[CircuitInputs], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """Where the case says something: its key, and the value that stands there."""

    key: str
    value: Any


def beyond(path: str, value: float, *, circuit: bool) -> tuple[str, str] | None:
    """What is wrong with a value (SI) of a path, and what is expected; None if nothing is.

    >>> beyond("organic.saponification", 2.0, circuit=True)
    ('out of range', 'a fraction at least 0 and at most 1: 2 % is 0.02')
    >>> beyond("inlet.feed.flow", 0.0, circuit=True) is None
    True
    """
    rule = _rule(path.split("."), circuit)
    try:
        if isinstance(rule, Quantity):
            # A pump may stop, though a case without the stream would be another case.
            low = None if rule.low is None or not path.endswith(".flow") else 0.0
            rule = replace(rule, low=rule.low if low is None else low)
            rule.parse(f"{value!r} {rule.unit}")
        elif rule is not None:
            rule.parse(value)
    except PydanticCustomError as error:
        context = error.context or {}
        return str(context["said"]), str(context["expected"])
    return None


def _rule(parts: list[str], circuit: bool) -> Quantity | Number | None:
    """The rule of the case's own field, or None."""
    last = parts[-1]
    if last == "efficiency":
        return STANDING
    if "composition" in parts:
        return Quantity("mol/m^3", low=0) if circuit else Number("a share by mole", low=0)
    if not circuit and (last == "flow" or parts[0] in ("mass_flow", "solvent", "scrub")):
        return Number("a molar flow", low=0)
    table = (TABLES if circuit else MASS_FLOW).get(parts[0])
    field = None if table is None else table.model_fields.get(last)
    rules = () if field is None else field.metadata
    return next((rule for rule in rules if isinstance(rule, Quantity | Number)), None)


def along(
    train: Train,
    schedule: Schedule,
    said: Mapping[Event, Said],
    loops: Sequence[tuple[Loop, str]],
    possible: Possible | None = None,
    doubtful: Sequence[tuple[float, float]] = (),
) -> list[Problem]:
    """Problems of the train as it is after every event, and with every loop at its limits.

    ``said`` are the events of the case with their keys; ``loops`` the loops with theirs;
    ``possible`` raises for liquors that nobody can make; ``doubtful`` are times [s] of which too
    little is known.
    """
    out: list[Problem] = []
    blamed: set[str] = set()
    moments = [
        (t, schedule.at(t, before=before))
        for t in (0.0, *schedule.breaks)
        for before in (True, False)
        if t or not before
    ]
    last: dict[str, float] | None = None
    for t, settings in moments:
        if settings == last or any(begin <= t <= end for begin, end in doubtful):
            continue
        last = settings
        wrong = _wrong(train, settings, possible)
        if wrong is None:
            continue
        active = [e for e in said if e.start <= t < e.end + e.ramp or t == e.end]
        changing = [e for e in active if t in (e.start, e.start + e.ramp, e.end, e.end + e.ramp)]
        event = max(changing or active, key=lambda e: e.start, default=None)
        if event is None or said[event].key in blamed:
            continue
        blamed.add(said[event].key)
        nearest = _nearest(train, schedule, settings, event, possible)
        if said[event].key.startswith("outage") and isinstance(train, MassFlowTrain):
            nearest = SPARED
        with_others = sorted({said[e].key for e in active} - {said[event].key})
        beside = f", with {' and '.join(with_others)}" if with_others else ""
        out.append(
            Problem(
                message=f"the train cannot run like that from {_days(t)} on"
                f"{f' ({event.name})' if event.name else ''}{beside}: {wrong}",
                key=said[event].key,
                value=said[event].value,
                expected="" if nearest is None else nearest,
            )
        )
    for loop, key in loops:
        for name in ("low", "high"):
            wrong = _wrong(train, {**schedule.at(0.0), loop.setting: getattr(loop, name)}, possible)
            if wrong is not None:
                out.append(
                    Problem(
                        message=f"the train cannot run with it: {wrong}",
                        key=f"{key}.{name}",
                        value=getattr(loop, name),
                    )
                )
    return out


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Moments:
    """Liquors of all stages at all recorded times, one after the other (T N, C)."""

    conc_aq: Array
    conc_org: Array
    ph: Array


def left(
    case: DynamicCircuitCase, book: Book, train: CircuitTrain, found: RunResult
) -> list[Warned]:
    """Where and when liquors leave what is known (loading, hydroxides, salt), at their worst."""
    if found.proton is None or found.dimer is None:
        return []
    held = case.organic.extractant * found.dimer / float(np.asarray(train.inputs.dimer))
    stages = found.conc_aq.shape[1]
    flat = (-1, found.conc_aq.shape[2])
    moments = Moments(
        conc_aq=np.maximum(found.conc_aq, 0.0).reshape(flat),
        conc_org=found.conc_org.reshape(flat),
        ph=-np.log10(np.maximum(found.proton, TINY) / C_STANDARD).reshape(-1),
    )

    def where(row: int) -> str:
        at = circuit_limits.place(case, row % stages)
        return f"{at}, {_days(float(found.times[row // stages]))}"

    return [
        *circuit_limits.liquors_left(case, book, train.inputs, moments, where, held.reshape(-1)),
        *circuit_limits.impurities(case, book, train.inputs, moments),
    ]


def driven(
    case: DynamicCircuitCase, book: Book, train: CircuitTrain, schedule: Schedule
) -> list[Warned]:
    """Phase ratios and soaps that the schedule asks for, each at its first moment."""
    found: dict[tuple[str, str], Warned] = {}
    ion = case.model.counter_ion
    for t in (0.0, *(t for t in schedule.breaks if t < case.time.end)):
        settings = schedule.at(t)
        net = train.network(settings)
        when = f", {_days(t)}"
        listed = circuit_limits.phase_ratios(case, book, net.flow[0], net.flow[1], when)
        if ion is not None and case.section[-1].name != "saponify":
            soap = settings[f"organic.composition.{ion}"] * float(train.inputs.charge[-1])
            degree = 0.5 * soap / settings["organic.dimer"]
            listed += circuit_limits.gelling(book, degree, f"organic{when}")
        for warning in listed:
            found.setdefault((warning.code, warning.where.split(",")[0]), warning)
    return list(found.values())


def returned(case: DynamicCircuitCase, book: Book, run: Run, found: RunResult) -> list[Warned]:
    """Where and when the organic comes back as it should not.

    Base that it takes no more of, and soap that may gel, when first recorded; an element that is
    hardly removed by the strip, against what the design is fed of it, at its worst.
    """
    train = run.train
    if not (isinstance(train, CircuitTrain) and train.inputs.closed):
        return []
    out: list[Warned] = []
    if isinstance(train.inputs.model, SoapExchange) and found.proton is not None:
        out += _saponified(case, book, run, found)
    row = found.outlets.index("organic")
    fed = train.network(train.settings).feed.sum(axis=(0, 1))
    strongest = max((i.acid for i in case.inlet if i.section == "strip"), default=0.0)
    for i, name in enumerate(found.components):
        if name == case.model.counter_ion or not fed[i] > 0:
            continue
        shares = found.running[:, row, i] / fed[i]
        worst = int(np.argmax(shares))
        when = f"strip, {_days(float(found.times[worst]))}"
        out += circuit_limits.recycled(book, name, float(shares[worst]), strongest, when)
    return out


def _saponified(case: DynamicCircuitCase, book: Book, run: Run, found: RunResult) -> list[Warned]:
    """Base that leaves the saponify section as it came, and its organic where it may gel."""
    train = run.train
    assert isinstance(train, CircuitTrain)
    assert isinstance(train.inputs.model, SoapExchange)
    assert found.proton is not None
    assert found.dimer is not None
    port = found.network.ports["saponify"]
    names = [i.name for i in train.inputs.inlets if i.section == "saponify"]

    def water(settings: Mapping[str, float]) -> float:
        return sum(settings[f"inlet.{name}.flow"] for name in names)

    def base(settings: Mapping[str, float]) -> float:
        acids = {name: settings[f"inlet.{name}.acid"] for name in names}
        return sum(settings[f"inlet.{n}.flow"] * max(-a, 0.0) for n, a in acids.items())

    design = train.network(train.settings)
    leaves = float(design.flow[port.phase, port.stage] * np.max(port.running))
    leaves /= water(train.settings)
    first: dict[str, Warned] = {}
    began, worst = 0.0, (0.0, "")
    for t, (time, settings) in enumerate(_recorded(run, found)):
        free = leaves * water(settings) * train.inputs.model.kw / found.proton[t, port.stage]
        soap = found.conc_org[t, -1, -1] * train.inputs.charge[-1]
        degree = float(soap) / (2.0 * float(found.dimer[t, -1]))
        brought = base(settings)
        listed = circuit_limits.gelling(book, degree, f"saponify, {_days(time)}")
        # Of a base that has stopped, what the section held leaves.
        if brought > circuit_limits.NOTABLE * base(train.settings):
            where = f"{circuit_limits.place(case, port.stage)}, {_days(time)}"
            unused = circuit_limits.base_unused(float(free), brought, where)
            share = float(free) / brought
            began = began or (share if unused else 0.0)
            worst = max(worst, (share, _days(time)), key=lambda at: at[0])
            listed += unused
        for warning in listed:
            first.setdefault(warning.code, warning)
    if "base-unused" in first and f"{worst[0]:.2g}" != f"{began:.2g}":
        told = first["base-unused"]
        message = f"{told.message}; up to {worst[0]:.3g} of it, at {worst[1]}"
        first["base-unused"] = replace(told, message=message)
    return list(first.values())


def _recorded(run: Run, found: RunResult) -> Iterator[tuple[float, dict[str, float]]]:
    """Every recorded time with the settings that held there, those of loops included."""
    for time in found.times.tolist():
        settings = run.schedule.at(time)
        for loop in run.loops:
            seen = found.signals[loop.name]
            row = int(np.searchsorted(seen[:, 0], time, side="right"))
            if row:
                settings[loop.setting] = float(seen[row - 1, 2])
        yield time, settings


def idle(case: DynamicMassFlowCase | DynamicCircuitCase) -> list[Warned]:
    """Warnings of what a run is too short for: events after its end, loops that never act."""
    from sepmodel.result import Warned

    end = case.time.end
    listed = [
        (
            f"event.{event.name}.at" if event.name and key.startswith("event") else f"{key}.at",
            event.at,
        )
        for key, event in happenings(case)
    ]
    listed += [(f"outage.{i}.at", outage.at) for i, outage in enumerate(case.outage)]
    found = {
        key: ("never-happens", f"it never happens: it begins at {_days(at)}")
        for key, at in listed
        if at >= end
    }
    if case.start.policy != "none" and case.start.duration >= end:
        found["start.duration"] = "leads-to-the-end", f"it leads for {_days(case.start.duration)}"
    for loop in case.controller:
        key = f"controller.{loop.name}"
        if loop.start >= end:
            found[f"{key}.start"] = "never-acts", f"it never acts: it starts at {_days(loop.start)}"
        elif loop.start + loop.delay >= end:
            learns = _days(loop.start + loop.delay)
            found[f"{key}.delay"] = "never-acts", f"it never acts: it first learns at {learns}"
        elif loop.start + loop.interval + loop.delay >= end:
            learns = _days(loop.start + loop.interval + loop.delay)
            found[f"{key}.interval"] = (
                "acts-once", f"it acts only once: it would learn again at {learns}"
            )  # fmt: skip
    return [
        Warned(code=code, message=f"{said}, the run ends at {_days(end)}", where=key)
        for key, (code, said) in found.items()
    ]


def _days(t: float) -> str:
    return f"{t / units.factor('d'):.4g} d"


def _wrong(
    train: Train, settings: Mapping[str, float], possible: Possible | None = None
) -> str | None:
    """Why a train cannot run with these settings."""
    try:
        train.network(settings)
        if possible is not None and isinstance(train, CircuitTrain):
            possible(train.apply(settings))
    except InputError as error:
        return "; ".join(f"{f'{p.key}: ' if p.key else ''}{p.message}" for p in error.problems)
    except InfeasibleError as error:
        return str(error)
    if isinstance(train, CircuitTrain):
        given = train.apply(settings)
        dimers = getattr(given.model, "dimers", None)
        if dimers is not None:
            held = float(np.asarray(given.organic_conc) @ dimers)
            if held >= float(np.asarray(given.dimer)):
                return "the organic that enters cannot hold so much soap"
    return None


def _nearest(
    train: Train,
    schedule: Schedule,
    settings: dict[str, float],
    event: Event,
    possible: Possible | None = None,
) -> str | None:
    """The nearest value of the event's setting that the train could run with, in words."""
    beside = replace(schedule, events=tuple(e for e in schedule.events if e is not event))
    good = beside.at(event.start)[event.setting]
    bad = event.value
    if _wrong(train, settings | {event.setting: good}, possible) is not None:
        return None
    for _ in range(HALVINGS):
        middle = 0.5 * (good + bad)
        if _wrong(train, settings | {event.setting: middle}, possible) is None:
            good = middle
        else:
            bad = middle
    design = schedule.base[event.setting]
    value = f"{good / design:.6g} of the design's" if design else f"{good:.6g} in SI units"
    # A base is less acid than none.
    return f"{'more' if abs(event.value) < abs(good) else 'less'} than {value}"
