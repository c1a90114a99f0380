"""Start-up policies of trains compared, and the best one found.

A train that is filled with feed lacks what the minor product's end must hold; at the design split
it comes out of the feed a little at a time. Two levers bring it there: total reflux (nothing in,
nothing out) moves what is there to its end, and a split that sends (nearly) all of the feed to one
end lets the other end's element pile up in the train until its profile stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from sepmodel.errors import ConvergenceError, InfeasibleError, InputError
from sepmodel.extraction.dynamics.control import Loop
from sepmodel.extraction.dynamics.hydraulics import Rules
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.schedule import Event, Schedule
from sepmodel.extraction.dynamics.simulate import Begin, Run, Specification, simulate
from sepmodel.extraction.dynamics.trains import TRICKLE, MassFlowTrain, Train

# A policy of a level (a factor, a part of the feed) and a duration [s], or None if there is none.
Make = Callable[[float | None, float], "Leads | None"]
# Rounds of refinement, points a side in each, and how much finer each is.
ROUNDS, SIDE, FINER = 4, 2, 0.5


class Leads(Protocol):
    """How a train is led for ``duration`` [s] before its design flows hold."""

    @property
    def duration(self) -> float: ...

    def events(self, base: Mapping[str, float]) -> tuple[Event, ...]:
        """As events on the train's settings."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Lead:
    """Settings of any train at ``factors`` times their design for ``duration`` [s].

    >>> Lead(factors={"inlet.scrub-acid.flow": 0.9}, duration=10.0).events(
    ...     {"inlet.scrub-acid.flow": 2.0})[0].value
    1.8
    """

    factors: Mapping[str, float]
    duration: float

    def events(self, base: Mapping[str, float]) -> tuple[Event, ...]:
        """As events on the train's settings."""
        if self.duration <= 0:
            return ()
        return tuple(
            Event(setting=name, start=0.0, value=factor * base[name], end=self.duration)
            for name, factor in self.factors.items()
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How a train is led for ``duration`` before its design flows hold.

    ``kind``: "none"; "reflux" (no feed, nothing leaves); "split": the part ``product`` of the feed
    leaves with the organic; "staged": the feed rises from nothing in ``steps``, the split that of
    ``product``, or the design's.
    """

    kind: str = "none"
    duration: float = 0.0
    product: float | None = None
    steps: int = 4

    def events(self, base: Mapping[str, float]) -> tuple[Event, ...]:
        """The policy as events on a mass-flow train's settings."""
        if self.kind == "none" or self.duration <= 0:
            return ()
        feeds = sorted(n for n in base if n.startswith("inlet.") and n.endswith(".flow"))
        fed = sum(base[name] for name in feeds)
        design = (base["solvent"] - base["scrub"]) / fed
        out = []
        for start, end, level, part in self.stretches(design):
            if level < 1.0:
                out += [
                    Event(setting=name, value=level * base[name], start=start, end=end)
                    for name in feeds
                ]
            scrub = base["solvent"] - part * fed * level
            out.append(Event(setting="scrub", value=scrub, start=start, end=end))
        return tuple(out)

    def stretches(self, design: float) -> list[tuple[float, float, float, float]]:
        """From when to when [s] which part of the feed runs, and which part of that is to leave
        with the organic (the ``design``'s where the policy says nothing)."""
        part = design if self.product is None else self.product
        part = min(max(part, TRICKLE), 1.0 - TRICKLE)
        levels = [1.0]
        if self.kind == "reflux":
            levels = [TRICKLE]
        elif self.kind == "staged":
            levels = [max(k / self.steps, TRICKLE) for k in range(self.steps)]
        each = self.duration / len(levels)
        # Of next to nothing half leaves at either end.
        return [
            (k * each, (k + 1) * each, level, part if level > TRICKLE else 0.5)
            for k, level in enumerate(levels)
        ]


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitPolicy:
    """The same policies on a circuit by mass action, whose scrub acid sets the split.

    What the soap of the organic takes, the scrub's acid and the product return: with equivalents
    (charge times moles) per s at the design, ``acid`` of the scrubs, ``made`` of the metals that
    leave with the organic and ``fed`` by all feeds,

        acid(t) = acid + made - part fed level

    lets the ``part`` of the ``level`` of the feed leave there. ``scrubs`` and ``feeds`` name the
    settings of their flows.

    >>> policy = CircuitPolicy(policy=Policy(kind="split", product=1.0, duration=10.0),
    ...     scrubs=("scrub",), feeds=("feed",), acid=8.0, made=2.0, fed=3.0)
    >>> [(e.setting, round(e.value, 6)) for e in policy.events({"scrub": 4.0, "feed": 1.0})]
    [('scrub', 3.5)]
    """

    policy: Policy
    scrubs: tuple[str, ...]
    feeds: tuple[str, ...]
    acid: float
    made: float
    fed: float

    @property
    def duration(self) -> float:
        """How long [s] it lasts."""
        return self.policy.duration

    def events(self, base: Mapping[str, float]) -> tuple[Event, ...]:
        """As events on a circuit's settings.

        Raises
        ------
        InfeasibleError
            where the feed brings more than the scrub's acid can give way for.
        """
        if self.policy.kind == "none" or self.duration <= 0:
            return ()
        out = []
        for start, end, level, part in self.policy.stretches(self.made / self.fed):
            acid = self.acid + self.made - part * self.fed * level
            if not acid > 0:
                most = (self.acid + self.made) / (self.fed * level)
                raise InfeasibleError(
                    f"even without scrub acid no more than {most:.3g} of the feed leaves with the "
                    "organic",
                    limit={"part of the feed": most},
                )
            changed = [(name, acid / self.acid) for name in self.scrubs]
            if level < 1.0:
                changed += [(name, level) for name in self.feeds]
            out += [
                Event(setting=name, value=factor * base[name], start=start, end=end)
                for name, factor in changed
            ]
        return tuple(out)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a policy gives: first and lasting crossing [s] of every specification (infinite if
    never), ``time`` when all last and the design flows hold (while a policy holds an outlet back,
    the purity of what trickles makes no product), ``missed`` [s] the sum of how long each was not
    met, ``off`` [mol] what left meanwhile through the outlets of all that counts in the purities.
    """

    policy: Leads
    first: tuple[float, ...]
    lasting: tuple[float, ...]
    time: float
    missed: float
    off: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Beside:
    """What else happens to a train while a policy leads it: events, and the loops that act."""

    events: tuple[Event, ...] = ()
    loops: tuple[Loop, ...] = ()


ALONE = Beside()
Goal = Literal["time", "missed", "off"]


def outcome(
    train: Train,
    policy: Leads,
    specifications: Sequence[Specification],
    until: float,
    *,
    rtol: float = 1e-4,
    start: Begin = "feed",
    rules: Rules | None = None,
    beside: Beside = ALONE,
) -> Outcome:
    """Run a policy and see when the specifications are met for good.

    ``beside`` it happens what else does.

    Raises
    ------
    InfeasibleError
        when the policy asks for flows that cannot be.
    """
    base = train.settings
    run = Run(
        train=train,
        schedule=Schedule(base=base, events=(*beside.events, *policy.events(base))),
        start=start,
        until=until,
        outputs=np.array([0.0, until]),
        specifications=specifications,
        loops=beside.loops,
        rules=rules,
        options=Options(rtol=rtol),
    )
    found = simulate(run)
    never = np.inf
    first = tuple(never if c.first is None else c.first for c in found.crossings)
    lasting = tuple(never if c.lasting is None else c.lasting for c in found.crossings)
    return Outcome(
        policy=policy,
        first=first,
        lasting=lasting,
        time=max(*lasting, policy.duration),
        missed=sum(c.missed for c in found.crossings),
        off=sum(
            float(c.off[: len(s.weights)][np.array(s.weights) > 0].sum())
            for c, s in zip(found.crossings, specifications, strict=True)
        ),
    )


def scan(
    train: Train,
    policies: Sequence[Leads],
    specifications: Sequence[Specification],
    until: float,
    *,
    rtol: float = 1e-4,
    start: Begin = "feed",
    rules: Rules | None = None,
    beside: Beside = ALONE,
) -> list[Outcome]:
    """Outcomes of policies, those left out that ask for what cannot be or empty a stage."""
    out = []
    for policy in policies:
        try:
            found = outcome(
                train, policy, specifications, until,
                rtol=rtol, start=start, rules=rules, beside=beside,
            )  # fmt: skip
            out.append(found)
        except (InfeasibleError, InputError, ConvergenceError):
            continue
    return out


def best(
    train: MassFlowTrain,
    specifications: Sequence[Specification],
    until: float,
    *,
    products: Sequence[float] | None = None,
    durations: Sequence[float] | None = None,
    rounds: int = ROUNDS,
    rtol: float = 1e-4,
    goal: Goal = "time",
) -> tuple[Outcome, list[Outcome]]:
    """The split policy of a mass-flow train with the least of ``goal``, and all tried.

    A grid of product shares between the design's and the whole feed and of durations up to what
    feeds the train's contents twice, then refined around the best point in ``rounds``.
    """
    base = train.settings
    fed = sum(v for k, v in base.items() if k.startswith("inlet.") and k.endswith(".flow"))
    design = (base["solvent"] - base["scrub"]) / fed
    held = float(np.sum(train.hold_aq) + np.sum(train.hold_org)) / fed
    if products is None:
        products = (1.0 - (1.0 - design) * np.linspace(0.0, 0.5, 2 * SIDE + 1)).tolist()
    if durations is None:
        durations = (held * np.geomspace(0.5, 2.0, 4 * SIDE + 1)).tolist()

    def split(product: float | None, duration: float) -> Policy | None:
        if product is None or not 0.0 < product <= 1.0 + 1e-9:
            return None
        return Policy(kind="split", duration=duration, product=min(product, 1.0))

    return search(
        split, products, durations, (1.0 - design) / (4 * SIDE), rounds,
        lambda policies: scan(train, policies, specifications, until, rtol=rtol), goal,
    )  # fmt: skip


def best_lead(
    train: Train,
    setting: str,
    specifications: Sequence[Specification],
    until: float,
    *,
    factors: Sequence[float],
    durations: Sequence[float],
    rounds: int = 2,
    rtol: float = 1e-3,
    goal: Goal = "time",
    start: Begin = "feed",
) -> tuple[Outcome, list[Outcome]]:
    """How long to hold a setting of any train (a flow of a mass-action circuit) at which part of
    its design: the policy with the least of ``goal``, and all tried, nothing held among them.

    Of policies equally good the one with less off specification is taken.
    """
    width = width_of(factors)

    def lead(factor: float | None, duration: float) -> Lead | None:
        if factor is None or not factor > 0:
            return None
        return Lead(factors={setting: factor}, duration=duration)

    def run(policies: Sequence[Leads]) -> list[Outcome]:
        return scan(train, policies, specifications, until, rtol=rtol, start=start)

    found, tried = search(lead, factors, durations, width, rounds, run, goal)
    plain = outcome(train, Lead(factors={}, duration=0.0), specifications, until,
                    rtol=rtol, start=start)  # fmt: skip
    return min((plain, found), key=by(goal)), [plain, *tried]


def width_of(levels: Sequence[float | None]) -> float:
    """How far from the best of some levels a finer search begins."""
    steps = np.diff(np.sort([level for level in levels if level is not None]))
    return 0.5 * float(steps.max()) if steps.size else 0.0


def by(goal: Goal) -> Callable[[Outcome], tuple[bool, float, float]]:
    """What is least for the best: first of all it meets the specifications at all."""
    return lambda found: (not np.isfinite(found.time), getattr(found, goal), found.off)


def search(
    make: Make,
    levels: Sequence[float | None],
    durations: Sequence[float],
    width: float,
    rounds: int,
    run: Callable[[Sequence[Leads]], list[Outcome]],
    goal: Goal,
) -> tuple[Outcome, list[Outcome]]:
    """A grid of levels and durations, then finer ones around the best point."""
    points: dict[int, tuple[float | None, float]] = {}

    def tried_at(pairs: Sequence[tuple[float | None, float]]) -> list[Outcome]:
        made = [(make(*pair), pair) for pair in pairs]
        for policy, pair in made:
            points[id(policy)] = pair
        return run([policy for policy, _ in made if policy is not None])

    tried = tried_at([(level, t) for level in levels for t in durations])
    ratio = float(durations[1] / durations[0]) if len(durations) > 1 else 1.5
    steps = np.linspace(-1.0, 1.0, 2 * SIDE + 1).tolist()
    for _ in range(rounds):
        if not tried:
            break
        level, duration = points[id(min(tried, key=by(goal)).policy)]
        around = [
            (None if level is None else level + b * width, duration * ratio**a)
            for a in steps
            for b in (steps if width else [0.0])
            if a or b
        ]
        tried += tried_at(around)
        width *= FINER
        ratio **= FINER
    if not tried:
        raise InfeasibleError("none of the policies can be run", limit={"policies": len(points)})
    return min(tried, key=by(goal)), tried
