"""A finished run as a result: outlets, everything over time, when specifications held."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepmodel import units
from sepmodel.chemistry.active_exchange import ActiveExchange
from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.data import Book
from sepmodel.extraction.dynamics.inputs import (
    DynamicCircuitCase,
    DynamicMassFlowCase,
    happenings,
)
from sepmodel.extraction.dynamics.settings import BEGIN
from sepmodel.extraction.dynamics.simulate import Run, RunResult, Specification, dry
from sepmodel.extraction.dynamics.trains import CircuitTrain
from sepmodel.result import Outlet, Profile, Result, Warned, amount
from sepmodel.species import RARE_EARTHS

Array = NDArray[np.float64]

LEVEL = "stage to stage in time, mixers in equilibrium"
HOUR = "h"
# Concentrations [mol/m3] and shares that no assay reaches: reported as nothing.
BELOW = 1e-30
# Part of what is fed by which what leaves in the end may differ from it without a word.
RESTLESS = 1e-2


def report(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    run: Run,
    found: RunResult,
    weights: tuple[float, ...],
    labels: dict[str, str],
    book: Book,
) -> Result:
    """The run as the result of its case."""
    molar = isinstance(case, DynamicCircuitCase)
    names = found.components
    closures = dict(zip(names, found.closure[: len(names)].tolist(), strict=True))
    carried = found.closure[len(names) :]
    balance: dict[str, object] = {
        "components": closures,
        "max": float(np.max(found.closure)),
    }
    if carried.size:
        balance |= {"dimer": float(carried[0]), "charge": float(np.max(carried[1:]))}
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": case.model.equilibrium,
            "set": case.model.set,
            "activity": case.model.activity,
            "level": LEVEL,
        },
        solver={
            "iterations": found.steps,
            "residual": float(np.max(found.closure)),
            "rejected_steps": found.rejected,
            "tolerance": run.options.rtol,
        },
        streams=_streams(case, run, found, weights, labels),
        profiles=_profiles(case, run, found, weights, labels, molar),
        quantities=_quantities(case, run, found, labels, molar),
        balance=balance,
        warnings=_warnings(case, run, found, labels),
        used=book.used,
    )


def _streams(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    run: Run,
    found: RunResult,
    weights: tuple[float, ...],
    labels: dict[str, str],
) -> dict[str, Outlet]:
    """What runs at the outlets at the end of the run, also where it returns to the train."""
    net, c = found.network, len(found.components)
    least = dry(run.train, weights)
    places = {}
    first = 1
    for section in case.section:
        for k in range(section.stages):
            places[first - 1 + k] = (section.name, k + 1)
        first += section.stages
    fed = net.feed.sum(axis=(0, 1))[:c]
    out = {}
    for row, name in enumerate(found.outlets):
        port = net.ports[name]
        moles = found.running[-1, row, :c]
        flow = float(net.flow[port.phase, port.stage] * np.max(port.running))
        molar = isinstance(case, DynamicCircuitCase)
        if molar:
            moles = np.where(moles >= BELOW * flow, moles, 0.0)
        weighted = moles * np.array(weights)
        ph = None
        if molar and port.phase == 0 and found.proton is not None:
            ph = float(-np.log10(found.proton[-1, port.stage] / C_STANDARD))
        out[labels.get(name, name)] = Outlet(
            phase=("aqueous", "organic")[port.phase],
            section=places[port.stage][0],
            stage=places[port.stage][1],
            flow=amount(flow, "L/h") if molar else amount(float(moles.sum()), "1"),
            moles={
                n: amount(float(m), "mol/h" if molar else "1")
                for n, m in zip(found.components, moles, strict=True)
            },
            conc={
                n: amount(float(m) / flow, "mol/L")
                if m > 0
                else {**amount(0.0, "mol/L"), "below": units.to(BELOW, "mol/L")}
                for n, m in zip(found.components, moles, strict=True)
            }
            if molar and flow > 0
            else {},
            pH=ph,
            purity=_named(found.components, weighted / weighted.sum(), np.array(weights) > 0)
            if weighted.sum() > least
            else {},
            recovery=_named(
                found.components, moles / np.where(fed > 0, fed, 1.0), (fed > 0) & _metals(case)
            ),
        )
    return out


def _metals(case: DynamicMassFlowCase | DynamicCircuitCase) -> NDArray[np.bool_]:
    names = list(case.components)
    ion = getattr(case.model, "counter_ion", None)
    return np.array([True] * len(names) + ([False] if ion else []))


def _named(names: tuple[str, ...], values: Array, which: NDArray[np.bool_]) -> dict[str, float]:
    return {n: float(v) for n, v, good in zip(names, values, which, strict=True) if good}


def _profiles(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    run: Run,
    found: RunResult,
    weights: tuple[float, ...],
    labels: dict[str, str],
    molar: bool,
) -> dict[str, Profile]:
    """Outlets, inventory and loops over time; stages over time; stages at the end."""
    bands, marks = _places(case)
    c = len(found.components)
    counted = [i for i in range(c) if weights[i] > 0]
    components = tuple(found.components[i] for i in counted)
    hours = _hours(found.times)
    time = {"time_h": hours}
    out: dict[str, Profile] = {}
    limits: dict[str, dict[str, float]] = {}
    for spec in case.specification:
        limits.setdefault(spec.outlet, {})[f"{spec.component} {spec.purity:g}"] = spec.purity
    events = _events(case, run, hours[-1])
    least = dry(run.train, weights)
    for row, name in enumerate(found.outlets):
        label = labels.get(name, name)
        flows = found.running[:, row, :c] * np.array(weights)
        total = flows.sum(axis=1, keepdims=True)
        # An outlet that carries no product has no purity to follow.
        if not np.any(total > least):
            continue
        total = np.where(total > least, total, np.nan)
        out[f"purity_{label}"] = Profile(
            unit="1",
            axes={**time, "component": components},
            values=_seen(flows / total)[:, counted],
            marks=limits.get(label, {}),
            bands=events,
        )
        unit = "mol/h" if molar else "1"
        factor = units.factor("mol/h") if molar else 1.0
        out[f"flow_{label}"] = Profile(
            unit=unit,
            axes={**time, "component": found.components},
            values=_seen(found.running[:, row, :c] / factor),
        )
    # Moles held; by mass flow in moles fed per hour, the unit the case's flows make.
    out["inventory"] = Profile(
        unit="mol" if molar else "h",
        axes={**time, "component": found.components},
        values=found.inventory[:, :c] / (1.0 if molar else units.factor(HOUR)),
    )
    few = np.unique(np.linspace(0, len(hours) - 1, min(case.time.maps, len(hours))).round())
    chosen = few.astype(int)
    shown = [hours[i] for i in chosen]
    stages = {"stage": range(1, case.stages + 1), "component": components}
    for phase, conc in (("aq", found.conc_aq), ("org", found.conc_org)):
        amounts = np.maximum(conc[:, :, counted], 0.0)
        total = amounts.sum(axis=2, keepdims=True)
        share = np.divide(amounts, total, out=np.zeros_like(amounts), where=total > 0)
        out[f"map_{phase}"] = Profile(
            unit="1",
            axes={"time_h": shown, **stages},
            values=_seen(share)[chosen],
        )
        out[f"share_{phase}"] = Profile(
            unit="1", axes=stages, values=_seen(share)[-1], bands=bands, marks=marks
        )
    if molar and found.proton is not None:
        ph = -np.log10(np.maximum(found.proton, BELOW) / C_STANDARD)
        out["pH_map"] = Profile(
            unit="1",
            axes={"time_h": shown, "stage": stages["stage"]},
            values=ph[chosen],
        )
    if found.volumes is not None:
        for row, name in ((0, "aqueous_in_mixers"), (1, "aqueous_in_settlers")):
            if not np.isnan(found.volumes[:, row]).any():
                out[name] = Profile(
                    unit="1",
                    axes={"time_h": shown, "stage": stages["stage"]},
                    values=found.volumes[chosen, row],
                )
    for loop in run.loops:
        seen = found.signals[loop.name]
        if seen.size:
            out[f"loop_{loop.name}"] = Profile(
                unit="1",
                axes={"time_h": _hours(seen[:, 0]), "signal": ("measured", "setting")},
                values=seen[:, 1:] / (1.0, loop.per),
                units={"setting": loop.unit},
                marks={"target": loop.target},
            )
    return out


def _seen(values: Array) -> Array:
    """Values with what no assay reaches as nothing."""
    out: Array = np.where(values < BELOW, 0.0, values)
    return out


def _events(
    case: DynamicMassFlowCase | DynamicCircuitCase, run: Run, last: float
) -> dict[str, tuple[float, float]]:
    """From when to when [h] the start-up policy, each event and outage lasts."""
    hour = units.factor(HOUR)
    out: dict[str, tuple[float, float]] = {}
    for led in run.schedule.events:
        if led.name.startswith(BEGIN):
            ends = out.get(led.name, (0.0, 0.0))[1]
            out[led.name] = (0.0, min(max(ends, led.end / hour), last))
    listed = [(event.name or event.setting, event.at, event.until) for _, event in happenings(case)]
    listed += [(f"outage in {o.section}", o.at, o.until) for o in case.outage]
    for name, at, until in listed:
        times = (at / hour, last if until is None else min(until / hour, last))
        # What happens again has a band of its own.
        again, own = 1, name
        while out.get(own, times) != times:
            again += 1
            own = f"{name} ({again})"
        out[own] = times
    return {name: times for name, times in out.items() if times[0] <= last}


def _hours(times: Array) -> list[float]:
    hours: list[float] = (times / units.factor(HOUR)).tolist()
    return hours


def _places(
    case: DynamicMassFlowCase | DynamicCircuitCase,
) -> tuple[dict[str, tuple[int, int]], dict[str, int]]:
    """Sections as bands of stages, feeds and draws as marks."""
    bands: dict[str, tuple[int, int]] = {}
    first = 1
    for section in case.section:
        bands[section.name] = (first, first + section.stages - 1)
        first += section.stages
    marks = {}
    for port in (*case.inlet, *case.draw):
        start, end = bands[port.section]
        marks[port.name] = end if port.stage is None else start + port.stage - 1
    return bands, marks


def _quantities(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    run: Run,
    found: RunResult,
    labels: dict[str, str],
    molar: bool,
) -> dict[str, dict[str, object]]:
    """When specifications were met, what left before, and what the train holds."""
    out: dict[str, dict[str, object]] = {}
    hour = units.factor(HOUR)
    per = 1.0 if molar else hour
    unit = "mol" if molar else HOUR
    c = len(found.components)
    rare = [i for i, n in enumerate(found.components) if run_counts(case, n)]
    for spec, crossing in zip(case.specification, found.crossings, strict=True):
        head = f"{spec.outlet}_{spec.component}_{spec.purity:g}"
        nothing: dict[str, object] = {"value": None, "unit": HOUR}
        for what in ("first", "lasting"):
            moment = getattr(crossing, what)
            out[f"{head}_{what}"] = nothing if moment is None else amount(moment, HOUR)
        out[f"{head}_missed"] = amount(crossing.missed, HOUR)
        off = float(crossing.off[:c][rare].sum())
        out[f"{head}_off"] = {"value": off / per, "unit": unit}
        if spec.price is not None:
            own = float(crossing.off[found.components.index(spec.component)])
            out[f"{head}_off_value"] = {"value": own * spec.price / per, "unit": "1"}
    held = found.inventory[:, rare].sum(axis=1) / per
    out["inventory_start"] = {"value": float(held[0]), "unit": unit}
    out["inventory_end"] = {"value": float(held[-1]), "unit": unit}
    out["fed"] = {"value": float(found.fed[-1, rare].sum()) / per, "unit": unit}
    out["steps"] = amount(found.steps, "1")
    model = found.network.model
    if isinstance(model, ActiveExchange) and found.proton is not None:
        anions = found.proton + found.conc_aq @ model.exchange.charge
        strength = model.strength(found.conc_aq, anions)
        out["ionic_strength_highest"] = amount(float(strength.max()), "mol/kg")
    return out


def _dry_since(found: RunResult, wanted: Specification) -> float | None:
    """From when on [s] an outlet that has delivered delivers nothing more, if it does not."""
    row = found.outlets.index(wanted.outlet)
    total = found.running[:, row, : len(found.components)] @ np.array(wanted.weights)
    delivers = np.flatnonzero(total > wanted.dry)
    if not delivers.size or delivers[-1] == total.size - 1:
        return None
    return float(found.times[delivers[-1] + 1])


def run_counts(case: DynamicMassFlowCase | DynamicCircuitCase, name: str) -> bool:
    """Whether a component counts as product: every component by mass flow, else rare earths."""
    return isinstance(case, DynamicMassFlowCase) or name in RARE_EARTHS


def _restless(case: DynamicMassFlowCase | DynamicCircuitCase, found: RunResult) -> list[Warned]:
    """Whether recoveries are those of a moment: what leaves in the end is not what is fed."""
    c = len(found.components)
    fed = np.where(_metals(case), found.network.feed.sum(axis=(0, 1))[:c], 0.0)
    share = found.flows[-1, :, :c].sum(axis=0)[fed > 0.0] / fed[fed > 0.0]
    if not share.size or np.abs(share - 1.0).max() < RESTLESS:
        return []
    worst = int(np.argmax(np.abs(share - 1.0)))
    name = found.components[int(np.flatnonzero(fed > 0.0)[worst])]
    return [
        Warned(
            code="not-at-rest",
            message=f"at the end {share[worst]:.4g} times as much {name} leaves as is fed: "
            "recoveries are rates of that moment",
            where="time.end",
        )
    ]


def _warnings(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    run: Run,
    found: RunResult,
    labels: dict[str, str],
) -> list[Warned]:
    out = []
    if found.ignored:
        out.append(
            Warned(
                code="checkpoint-unreadable",
                message="the checkpoint of a stopped run could not be read; the run began anew",
                where="checkpoint",
            )
        )
    for spec, wanted, crossing in zip(
        case.specification, run.specifications, found.crossings, strict=True
    ):
        since = _dry_since(found, wanted)
        if since is not None:
            out.append(
                Warned(
                    code="no-product",
                    message=f"next to nothing leaves there from {since / units.factor('d'):.4g} d "
                    f"to the end: {spec.component} {spec.purity:g} is judged by what left before",
                    where=spec.outlet,
                )
            )
        if not crossing.on_at_end:
            out.append(
                Warned(
                    code="off-specification",
                    message=f"{spec.component} is below {spec.purity:g} at the end of the run",
                    where=spec.outlet,
                )
            )
        elif crossing.first != crossing.lasting:
            out.append(
                Warned(
                    code="specification-lost",
                    message=f"{spec.component} {spec.purity:g} was met, lost, and met again",
                    where=spec.outlet,
                )
            )
    out += _restless(case, found)
    if isinstance(run.train, CircuitTrain) and run.train.inputs.closed:
        out.append(
            Warned(
                code="no-solvent-tank",
                message="the organic returns at once: tanks and lines between the last stage and "
                "the first hold nothing in this model",
                where="organic",
            )
        )
    return out
