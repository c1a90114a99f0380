"""How a case's train is led at its start: as the case says, or by the best policy found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel import units
from sepmodel.errors import InfeasibleError, Problem
from sepmodel.extraction.dynamics import policies
from sepmodel.extraction.dynamics.control import Loop
from sepmodel.extraction.dynamics.hydraulics import Rules
from sepmodel.extraction.dynamics.inputs import (
    PRODUCTS,
    DynamicCircuitCase,
    DynamicMassFlowCase,
    Find,
    happenings,
)
from sepmodel.extraction.dynamics.network import AQUEOUS
from sepmodel.extraction.dynamics.policies import (
    Beside,
    CircuitPolicy,
    Lead,
    Leads,
    Outcome,
    Policy,
)
from sepmodel.extraction.dynamics.simulate import Begin, Specification
from sepmodel.extraction.dynamics.trains import CircuitTrain, MassFlowTrain, Train
from sepmodel.result import Profile, amount

Array = NDArray[np.float64]

# What is looked at when the case does not say: parts of a setting, and durations as times in which
# the train is fed what it holds.
FACTORS = tuple(1.0 + k / 16.0 for k in (-4, -2, -1, 1, 2))
FILLINGS = (0.5**2, 0.5, 1.0, 2.0)
# How much finer than the case's own tolerance a search need not be.
ROUGH = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Led:
    """The policy of a run, and what was tried to find it (the first without any policy)."""

    leads: Leads | None
    tried: tuple[Outcome, ...] = ()


def led(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    train: Train,
    specifications: Sequence[Specification],
    begin: Begin,
    rules: Rules | None,
    settings: Sequence[str],
    beside: Beside = policies.ALONE,
) -> Led:
    """The start-up policy of a case; ``settings`` are the train's of what a lead holds.

    ``beside`` are the case's events and loops, which act while a policy is sought too; a loop that
    begins when the policy is over may move what it led.

    Raises
    ------
    InputError
        where the policy is not one of this train; InfeasibleError where none tried can be run.
    """
    start = case.start
    if start.policy == "none":
        return Led(leads=None)

    made = _maker(case, train, settings)
    if start.find is None:
        return Led(leads=given(case, train, settings))
    free = min(
        (loop.start for loop in _taking(case, train, beside.loops, settings)), default=np.inf
    )
    return _found(case, train, specifications, begin, rules, start.find, made, beside, free)


def given(
    case: DynamicMassFlowCase | DynamicCircuitCase, train: Train, settings: Sequence[str]
) -> Leads | None:
    """The policy that a case gives; None where there is none, or it is to be found."""
    start = case.start
    if start.policy == "none" or start.find is not None:
        return None
    level = start.factor if start.policy == "lead" else start.product
    return _maker(case, train, settings)(level, start.duration)


def _maker(
    case: DynamicMassFlowCase | DynamicCircuitCase, train: Train, settings: Sequence[str]
) -> policies.Make:
    """Makes the case's policy of a level and a duration."""
    start = case.start
    circuit = None
    if start.policy != "lead" and not isinstance(train, MassFlowTrain):
        circuit = on_circuit(train, Policy(kind=start.policy))

    def made(level: float | None, duration: float) -> Leads:
        if start.policy == "lead":
            assert level is not None
            return Lead(factors=dict.fromkeys(settings, level), duration=duration)
        policy = Policy(kind=start.policy, duration=duration, product=level, steps=start.steps)
        return policy if circuit is None else replace(circuit, policy=policy)

    return made


def wrong(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    train: Train,
    loops: Sequence[Loop],
    settings: Sequence[str],
) -> list[Problem]:
    """What is wrong with the start-up policy of a case, as far as nothing need be run for it."""
    start, find = case.start, case.start.find
    out: list[Problem] = []
    if start.policy == "none":
        return out
    scrubs, feeds = levers(train)
    if isinstance(train, CircuitTrain) and start.policy != "lead" and not (scrubs and feeds):
        out.append(
            Problem(
                message="a circuit's split is set by its scrub acid, and this one has none"
                if feeds
                else "a policy leads the feed of the extraction or the scrub, and there is none",
                key="start.policy",
                value=start.policy,
                expected='policy = "lead" on one of its flows',
            )
        )
    taken = _taking(case, train, loops, settings)
    free = min((loop.start for loop in taken), default=np.inf)
    if find is None:
        return out + (_taken(case, taken, start.duration) if start.duration > free else [])
    if not case.specification:
        out.append(
            Problem(
                message="a policy is found for specifications, and there is none",
                key="start.find",
                expected="a [[specification]]",
            )
        )
    day, until = units.factor("d"), _until(case, find)
    if find.durations is not None and min(find.durations) >= until:
        out.append(
            Problem(
                message="no policy is over before the search ends",
                key="start.find.durations",
                value=f"{min(find.durations) / day:.6g} d",
                expected=f"below {until / day:.6g} d: the first event, the end or within",
            )
        )
    least = 0.0 if find.durations is None else min(find.durations)
    if least > free or (find.durations is None and free <= 0.0):
        out += _taken(case, taken, least)
    return out


def _taking(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    train: Train,
    loops: Sequence[Loop],
    settings: Sequence[str],
) -> list[Loop]:
    """Loops that move what the start-up policy leads."""
    if case.start.policy == "lead":
        moved = set(settings)
    else:
        scrubs, feeds = levers(train)
        moved = {*scrubs, *(() if case.start.policy == "split" else feeds)}
    return [loop for loop in loops if loop.setting in moved]


def _until(case: DynamicMassFlowCase | DynamicCircuitCase, find: Find) -> float:
    """When [s] a search ends: when the first thing happens."""
    until = min(
        [case.time.end, *(e.at for _, e in happenings(case) if e.at > 0)]
        + [outage.at for outage in case.outage if outage.at > 0]
    )
    return until if find.within is None else min(until, find.within)


def _taken(
    case: DynamicMassFlowCase | DynamicCircuitCase, taken: Sequence[Loop], until: float
) -> list[Problem]:
    """That loops move what a policy leads before it is over at ``until`` [s]."""
    names = [given.name for given in case.controller]
    hour = units.factor("h")
    return [
        Problem(
            message="the start-up policy leads what it moves",
            key=f"controller.{names.index(loop.name)}.start",
            value=f"{loop.start / hour:.6g} h",
            expected=f"not before the policy is over, at {until / hour:.6g} h"
            if until > 0
            else "a time for the policy before it",
        )
        for loop in taken
        if loop.start < until or until <= 0.0
    ]


def levers(train: Train) -> tuple[list[str], list[str]]:
    """The settings of flows by which a train is led: those that set the split, and the feeds."""
    if not isinstance(train, CircuitTrain):
        names = train.settings
        return ["scrub"], [n for n in names if n.startswith("inlet.") and n.endswith(".flow")]
    scrubs, feeds = [], []
    for inlet in train.inputs.inlets:
        if inlet.phase == "organic" or inlet.section in PRODUCTS:
            continue
        if np.asarray(inlet.conc).any():
            feeds.append(f"inlet.{inlet.name}.flow")
        elif inlet.section == "scrub" and float(np.asarray(inlet.acid)) > 0:
            scrubs.append(f"inlet.{inlet.name}.flow")
    return scrubs, feeds


def on_circuit(train: Train, policy: Policy) -> CircuitPolicy:
    """A policy on a circuit by mass action, its equivalents from the steady state."""
    assert isinstance(train, CircuitTrain)
    given, base = train.inputs, train.settings
    z = given.charge
    fed = np.zeros(len(train.components))
    acid = 0.0
    scrubs, feeds = levers(train)
    for inlet in given.inlets:
        flow = float(np.asarray(inlet.flow))
        if f"inlet.{inlet.name}.flow" in feeds:
            fed += flow * np.asarray(inlet.conc, dtype=float)
        elif f"inlet.{inlet.name}.flow" in scrubs:
            acid += flow * float(np.asarray(inlet.acid))
    x, _, _ = train.steady(base)
    net = train.network(base)
    first = _first(train)
    left = np.zeros(len(train.components))
    for port in net.ports.values():
        product = any(port.stage >= first[name] for name in PRODUCTS if name in first)
        if port.phase == AQUEOUS and not product:
            flow = net.flow[AQUEOUS, port.stage]
            left += port.share[: left.size] * flow * x[port.stage]
    counted = np.where(fed > 0, z, 0.0)
    return CircuitPolicy(
        policy=policy,
        scrubs=tuple(scrubs),
        feeds=tuple(feeds),
        acid=acid,
        made=float(np.maximum(fed - left, 0.0) @ counted),
        fed=float(fed @ counted),
    )


def _first(train: CircuitTrain) -> dict[str, int]:
    """First stage (from 0) of every section."""
    out, at = {}, 0
    for section in train.inputs.sections:
        out[section.name] = at
        at += section.stages
    return out


def _found(
    case: DynamicMassFlowCase | DynamicCircuitCase,
    train: Train,
    specifications: Sequence[Specification],
    begin: Begin,
    rules: Rules | None,
    find: Find,
    made: policies.Make,
    beside: Beside,
    free: float,
) -> Led:
    """The policy with the least of what is wanted, until the first thing happens.

    A loop moves what policies lead from ``free`` [s] on: they are over by then.
    """
    until = _until(case, find)
    kind = case.start.policy
    levels: Sequence[float | None]
    if kind == "reflux":
        levels = (None,)
    elif find.levels is not None:
        levels = find.levels
    elif kind == "lead":
        levels = FACTORS
    else:
        design, most = _design(train)
        levels = (most - (most - design) * np.linspace(0.0, 0.5, 3)).tolist()
    given = find.durations
    if given is None:
        filling = _filling(train, begin)
        given = tuple(min(part * filling, 0.5 * until) for part in FILLINGS)
        durations = {min(t, free) for t in given}
    else:
        durations = {t for t in given if t <= free}
    lasting = sorted(t for t in durations if 0 < t < until)
    rtol = max(ROUGH, case.time.tolerance)

    def run(chosen: Sequence[Leads]) -> list[Outcome]:
        return policies.scan(
            train, chosen, specifications, until,
            rtol=rtol, start=begin, rules=rules, beside=beside,
        )  # fmt: skip

    def possible(level: float | None, duration: float) -> Leads | None:
        good = level is None or (level > 0 if kind == "lead" else 0 < level <= 1)
        return made(level, duration) if good and duration < until and duration <= free else None

    plain = policies.outcome(
        train, Policy(), specifications, until,
        rtol=rtol, start=begin, rules=rules, beside=beside,
    )  # fmt: skip
    try:
        best, tried = policies.search(
            possible, levels, lasting, policies.width_of(levels), find.rounds, run, find.goal
        )
    except InfeasibleError:
        # The reason of one of them says more than that all failed.
        first = possible(levels[0], lasting[0])
        if first is not None:
            policies.outcome(
                train, first, specifications, until,
                rtol=rtol, start=begin, rules=rules, beside=beside,
            )  # fmt: skip
        raise
    chosen = min((plain, best), key=policies.by(find.goal))
    return Led(leads=chosen.policy, tried=(plain, *tried))


def shown(led: Led, molar: bool) -> tuple[dict[str, Profile], dict[str, dict[str, object]]]:
    """What was tried as a profile, and the policy found; nothing where nothing was sought."""
    if not led.tried:
        return {}, {}
    hour = units.factor("h")
    per = 1.0 if molar else hour
    rows = []
    for one in led.tried:
        level = level_of(one.policy)
        duration = one.policy.duration
        row = [np.nan if level is None else level, duration / hour, one.time / hour,
               one.missed / hour, one.off / per]  # fmt: skip
        rows.append([value if np.isfinite(value) else np.nan for value in row])
    profile = Profile(
        unit="1",
        axes={
            "policy": range(len(rows)),
            "of": ("level", "duration_h", "time_h", "missed_h", f"off_{'mol' if molar else 'h'}"),
        },
        values=np.array(rows),
    )
    assert led.leads is not None
    level = level_of(led.leads)
    nothing: dict[str, object] = {"value": None, "unit": "h"}
    best = next(one for one in led.tried if one.policy is led.leads)
    out: dict[str, dict[str, object]] = {
        "policy_level": {"value": level, "unit": "1"},
        "policy_duration": amount(led.leads.duration, "h"),
    }
    for name, one in (("policy_time", best), ("plain_time", led.tried[0])):
        out[name] = amount(one.time, "h") if np.isfinite(one.time) else nothing
    return {"policies": profile}, out


def level_of(leads: Leads) -> float | None:
    """The factor of a lead, or the product's part of a policy."""
    if isinstance(leads, Lead):
        return next(iter(leads.factors.values()), None)
    policy = leads.policy if isinstance(leads, CircuitPolicy) else leads
    return policy.product if isinstance(policy, Policy) else None


def _design(train: Train) -> tuple[float, float]:
    """Part of the feed that leaves with the organic at the design, and the most that can."""
    if isinstance(train, MassFlowTrain):
        base = train.settings
        fed = sum(v for k, v in base.items() if k.startswith("inlet.") and k.endswith(".flow"))
        return (base["solvent"] - base["scrub"]) / fed, 1.0
    found = on_circuit(train, Policy())
    # Some acid is left: a scrub without any holds nothing back.
    return found.made / found.fed, min(1.0, (0.5 * found.acid + found.made) / found.fed)


def _filling(train: Train, begin: Begin) -> float:
    """Time [s] in which the feeds bring what the mixers hold at the beginning."""
    net = train.network(train.settings)
    moles = train.start(net, begin)[0] if isinstance(begin, str) else begin[0]
    c = net.components
    fed = net.feed[AQUEOUS].sum(axis=0)[:c]
    counted = fed > 0
    held = moles[:, :c].sum(axis=0)
    out = float(held[counted].sum() / fed[counted].sum())
    if out > 0:
        return out
    # Nothing is in it yet: as much as the phases hold of the feed's strength.
    return float((net.mixer / net.flow).sum())
