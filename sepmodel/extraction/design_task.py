"""What a circuit is asked for: specifications of both outlets, as largest flows that may stray."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepmodel import products
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]
# Most stages (extraction and scrub) a design may have unless the caller says otherwise.
MOST_STAGES = 1000
# Rounds of a search that ends by itself long before.
ROUNDS = 32
# A specification counts as met within rounding.
ROUNDING = 1e-9
# An element below this share of the feed cannot decide how a circuit is built.
_TRACE = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlet:
    """What one outlet of a circuit must be; everything left out is free.

    ``purity``: least share of the outlet's own group of elements; ``recovery``: least share of
    the group's feed that arrives; both on ``basis`` ("oxide-mass" or "mole"). ``limits``: largest
    share of single foreign elements on the same basis. ``foreign``: largest flow [mol/s] of all
    foreign elements together.
    """

    purity: float | None = None
    recovery: float | None = None
    basis: str = "oxide-mass"
    limits: Mapping[str, float] = field(default_factory=dict)
    foreign: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Objective = inventory * S * (n + m) + solvent * S + stages * (n + m), as plain numbers.

    S in mol/s. ``inventory`` weighs what grows with the organic held in the stages, ``solvent``
    what grows with the reagents of one pass, ``stages`` what each stage costs whatever its size.
    """

    inventory: float = 1.0
    solvent: float = 0.0
    stages: float = 0.0

    def __post_init__(self) -> None:
        values = (self.inventory, self.solvent, self.stages)
        if any(not w >= 0 for w in values) or not self.inventory + self.solvent > 0:
            raise InputError(
                Problem(
                    message="weights are not negative, and inventory or solvent counts",
                    key="weights",
                    value=list(values),
                )
            )

    def of(self, solvent: Array | float, stages: Array | float) -> Array:
        """The objective, element by element."""
        s, n = np.asarray(solvent, dtype=float), np.asarray(stages, dtype=float)
        finite = np.isfinite(s) & np.isfinite(n)
        s, n = np.where(finite, s, 0.0), np.where(finite, n, 0.0)
        cost = (self.inventory * s + self.stages) * n + self.solvent * s
        return np.where(finite, cost, np.inf)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Task:
    """A circuit to design: components ascending in extractability a, feed f, cut after ``cut``.

    ``traces``: what is too scarce to decide anything; it leaves with its own group.
    """

    names: tuple[str, ...]
    a: Array
    f: Array
    cut: int
    phase: str
    weights: Weights
    most: int
    raffinate: Outlet
    organic: Outlet
    traces: Mapping[str, float]
    trace_light: tuple[str, ...]
    efficiency: float = 1.0

    @property
    def light(self) -> tuple[str, ...]:
        """The group that leaves with the raffinate."""
        return self.names[: self.cut]

    @property
    def heavy(self) -> tuple[str, ...]:
        """The group that leaves with the organic."""
        return self.names[self.cut :]

    def cost(self, solvent: Array | float, stages: Array | float, down: Array | float) -> Array:
        """The objective of circuits, with what an organic feed adds to the organic of the ``down``
        stages from its own on."""
        cost = self.weights.of(solvent, stages)
        if self.phase == "aqueous":
            return cost
        joined = self.weights.inventory * float(self.f.sum()) * np.asarray(down, dtype=float)
        return np.where(np.isfinite(cost), cost + joined, np.inf)


def make_task(
    feed: Mapping[str, float],
    extractability: Mapping[str, float],
    light: Sequence[str],
    raffinate: Outlet,
    organic: Outlet,
    phase: str,
    weights: Weights,
    most: int,
    efficiency: float = 1.0,
) -> Task:
    """The checked task, components in ascending order of extractability."""
    missing = [e for e in feed if e not in extractability]
    if missing:
        raise InputError(Problem(message="no extractability is known for", value=missing))
    if any(not (f >= 0 and math.isfinite(f)) for f in feed.values()):
        raise InputError(Problem(message="a feed flow is negative or not finite", value=dict(feed)))
    if phase not in ("aqueous", "organic"):
        raise InputError(
            Problem(message="unknown phase", value=phase, expected="aqueous or organic")
        )
    total = sum(feed.values())
    names = sorted((e for e in feed if feed[e] > _TRACE * total), key=lambda e: extractability[e])
    own = [e for e in names if e in light]
    if not own or len(own) == len(names) or names[: len(own)] != own:
        raise InputError(
            Problem(
                message="a circuit parts the lighter elements of its feed from the heavier",
                key="light",
                value=list(light),
                expected=f"the first ones of {', '.join(names)}",
            )
        )
    return Task(
        names=tuple(names),
        a=np.array([extractability[e] for e in names]) / extractability[names[0]],
        f=np.array([feed[e] for e in names]),
        cut=len(own),
        phase=phase,
        weights=weights,
        most=most,
        raffinate=raffinate,
        organic=organic,
        traces={e: f for e, f in feed.items() if e not in names},
        trace_light=tuple(e for e in feed if e not in names and e in light),
        efficiency=efficiency,
    )


def transfers(task: Task) -> tuple[float, float]:
    """Largest flows [mol/s] of heavier elements in the raffinate and lighter in the organic."""
    light = dict(zip(task.light, task.f[: task.cut].tolist(), strict=True))
    heavy = dict(zip(task.heavy, task.f[task.cut :].tolist(), strict=True))
    stray_heavy, stray_light = sum(heavy.values()), sum(light.values())
    for _ in range(ROUNDS):
        heavy_before, light_before = stray_heavy, stray_light
        stray_heavy = _foreign(task.raffinate, light, heavy, task.heavy[0], light_before)
        stray_heavy = min(stray_heavy, _lost(task.organic, heavy, task.heavy[0]))
        stray_light = _foreign(task.organic, heavy, light, task.light[-1], heavy_before)
        stray_light = min(stray_light, _lost(task.raffinate, light, task.light[-1]))
        moved = abs(stray_heavy - heavy_before) + abs(stray_light - light_before)
        if moved <= _TRACE * min(stray_heavy, stray_light):
            break
    whole = (sum(heavy.values()), sum(light.values()))
    for moved, group, into in (
        (stray_heavy, whole[0], "raffinate"),
        (stray_light, whole[1], "organic"),
    ):
        if not moved < group:
            other = "organic" if into == "raffinate" else "raffinate"
            raise InputError(
                Problem(
                    message=f"nothing keeps the other elements out of the {into}",
                    key=into,
                    expected=f"a purity, limit or foreign of the {into} that its feed does not "
                    f"meet already, or a recovery of the {other}",
                )
            )
        if not moved > 0:
            raise InputError(
                Problem(message="a purity or recovery of exactly one cannot be reached", key=into)
            )
    return stray_heavy, stray_light


def _foreign(
    spec: Outlet,
    own: Mapping[str, float],
    other: Mapping[str, float],
    neighbour: str,
    lost: float,
) -> float:
    """Largest flow of the other group that ``spec`` lets into an outlet, were it all neighbour."""
    own_mass = sum(products.amounts(own, spec.basis).values())
    kept = own_mass * (1 - min(lost / sum(own.values()), 1.0)) if lost < sum(own.values()) else 0.0
    unit = products.amounts({neighbour: 1.0}, spec.basis)[neighbour]
    bounds = [sum(other.values())]
    if spec.foreign is not None:
        bounds.append(spec.foreign)
    shares = [1 - spec.purity] if spec.purity is not None else []
    if neighbour in spec.limits:
        shares.append(spec.limits[neighbour])
    bounds += [(kept or own_mass) * share / (1 - share) / unit for share in shares]
    return min(bounds)


def _lost(spec: Outlet, own: Mapping[str, float], neighbour: str) -> float:
    """Largest flow of the outlet's own group that may be lost, were it all the neighbour."""
    if spec.recovery is None:
        return sum(own.values())
    unit = products.amounts({neighbour: 1.0}, spec.basis)[neighbour]
    return (1 - spec.recovery) * sum(products.amounts(own, spec.basis).values()) / unit


def first_split(task: Task, stray_heavy: float, stray_light: float) -> tuple[Array, Array]:
    """Raffinate and organic product [mol/s]: the transfers carried by the elements at the cut."""
    r = np.where(np.arange(len(task.f)) < task.cut, task.f, 0.0)
    rest = stray_heavy
    for i in range(task.cut, len(task.f)):
        r[i] = min(rest, 0.5 * task.f[i] if rest > 0.5 * task.f[i] else rest)
        rest -= r[i]
    rest = stray_light
    for i in range(task.cut - 1, -1, -1):
        moved = min(rest, 0.5 * task.f[i] if rest > 0.5 * task.f[i] else rest)
        r[i] -= moved
        rest -= moved
    return r, task.f - r


def missed_specs(task: Task, r: Array, d: Array, slack: float) -> list[str]:
    """Names of the specifications that are not met with so much relative slack."""
    feed = dict(zip(task.names, task.f.tolist(), strict=True))
    missed = []
    for name, spec, flows, own in (
        ("raffinate", task.raffinate, r, task.light),
        ("organic", task.organic, d, task.heavy),
    ):
        moles = dict(zip(task.names, flows.tolist(), strict=True))
        foreign = sum(n for e, n in moles.items() if e not in own)
        amounts = products.amounts(moles, spec.basis)
        total = sum(amounts.values())
        impure = 1 - products.purity(moles, own, spec.basis)
        if spec.purity is not None and impure > (1 - spec.purity) * (1 + slack):
            missed.append(f"purity of the {name}")
        if spec.foreign is not None and foreign > spec.foreign * (1 + slack):
            missed.append(f"other elements in the {name}")
        missed += [
            f"{element} in the {name}"
            for element, share in spec.limits.items()
            if amounts.get(element, 0.0) > share * total * (1 + slack)
        ]
        if spec.recovery is not None:
            lost = 1 - products.recovery(moles, feed, own, spec.basis)
            if lost > (1 - spec.recovery) * (1 + slack):
                missed.append(f"recovery of the {name}")
    return missed


def meets(task: Task, r: Array, d: Array) -> bool:
    """Whether both outlets meet everything asked of them, within rounding."""
    solved = bool(np.all(np.isfinite(r)) and np.all(np.isfinite(d)))
    return solved and not missed_specs(task, r, d, ROUNDING)
