"""Start-up policies of a mass-flow train compared, and the best one found.

A train that is filled with feed lacks what the minor product's end must hold; at the design split
it comes out of the feed a little at a time. Two levers bring it there: total reflux (nothing in,
nothing out) moves what is there to its end, and a split that sends (nearly) all of the feed to one
end lets the other end's element pile up in the train until its profile stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sepmodel.errors import InfeasibleError
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.schedule import Event, Schedule
from sepmodel.extraction.dynamics.simulate import Run, Specification, simulate
from sepmodel.extraction.dynamics.trains import TRICKLE, MassFlowTrain

# Rounds of refinement, points a side in each, and how much finer each is.
ROUNDS, SIDE, FINER = 4, 2, 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How a train is led for ``duration`` before its design flows hold.

    ``kind``: "none"; "reflux" (no feed, nothing leaves); "split": the part ``product`` of the feed
    leaves with the organic.
    """

    kind: str = "none"
    duration: float = 0.0
    product: float = 0.0

    def events(self, base: dict[str, float]) -> tuple[Event, ...]:
        """The policy as events on a mass-flow train's settings."""
        feeds = [name for name in base if name.startswith("inlet.") and name.endswith(".flow")]
        fed = sum(base[name] for name in feeds)
        if self.kind == "none" or self.duration <= 0:
            return ()
        if self.kind == "split":
            part = min(max(self.product, TRICKLE), 1.0 - TRICKLE)
            scrub = base["solvent"] - part * fed
            return (Event(setting="scrub", start=0.0, value=scrub, end=self.duration),)
        off = [
            Event(setting=name, start=0.0, value=TRICKLE * base[name], end=self.duration)
            for name in feeds
        ]
        scrub = base["solvent"] - 0.5 * TRICKLE * fed
        return (*off, Event(setting="scrub", start=0.0, value=scrub, end=self.duration))


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a policy gives: first and lasting crossing of every specification (infinite if never),
    when all last, and what left off specification (sum over the specified outlets)."""

    policy: Policy
    first: tuple[float, ...]
    lasting: tuple[float, ...]
    time: float
    off: float


def outcome(
    train: MassFlowTrain,
    policy: Policy,
    specifications: Sequence[Specification],
    until: float,
    *,
    rtol: float = 1e-4,
    start: str = "feed",
) -> Outcome:
    """Run a policy and see when the specifications are met for good.

    Raises
    ------
    InfeasibleError
        when the policy asks for flows that cannot be.
    """
    base = train.settings
    run = Run(
        train=train,
        schedule=Schedule(base=base, events=policy.events(base)),
        start=start,
        until=until,
        outputs=np.array([0.0, until]),
        specifications=specifications,
        options=Options(rtol=rtol),
    )
    found = simulate(run)
    never = np.inf
    first = tuple(never if c.first is None else c.first for c in found.crossings)
    lasting = tuple(never if c.lasting is None else c.lasting for c in found.crossings)
    off = sum(float(c.off.sum()) for c in found.crossings)
    return Outcome(policy=policy, first=first, lasting=lasting, time=max(lasting), off=off)


def scan(
    train: MassFlowTrain,
    policies: Sequence[Policy],
    specifications: Sequence[Specification],
    until: float,
    *,
    rtol: float = 1e-4,
) -> list[Outcome]:
    """Outcomes of policies, those with impossible flows left out."""
    out = []
    for policy in policies:
        try:
            out.append(outcome(train, policy, specifications, until, rtol=rtol))
        except InfeasibleError:
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
) -> tuple[Outcome, list[Outcome]]:
    """The split policy with the earliest lasting crossing of all specifications, and all tried.

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
    policies = [Policy(kind="split", duration=t, product=p) for p in products for t in durations]
    tried = scan(train, policies, specifications, until, rtol=rtol)
    width = (1.0 - design) / (4 * SIDE)
    ratio = float(durations[1] / durations[0]) if len(durations) > 1 else 1.5
    for _ in range(rounds):
        top = min(tried, key=lambda o: o.time).policy
        steps = np.linspace(-1.0, 1.0, 2 * SIDE + 1)
        around = [
            Policy(
                kind="split",
                duration=top.duration * ratio**a,
                product=min(top.product + b * width, 1.0),
            )
            for a in steps
            for b in steps
            if (a or b) and top.product + b * width <= 1.0 + 0.5 * width / SIDE
        ]
        tried += scan(train, around, specifications, until, rtol=rtol)
        width *= FINER
        ratio **= FINER
    return min(tried, key=lambda o: o.time), tried
