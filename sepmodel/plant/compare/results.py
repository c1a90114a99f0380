"""Routes side by side: status, ranges, pairs, rankings, drivers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import statistics
from sepmodel.data import Book, Constant
from sepmodel.plant.compare.accounting import Account, figures, market_prices
from sepmodel.plant.compare.evaluation import (
    Case,
    End,
    State,
    evaluate_study,
    feed_liquor,
    misses,
    ranged,
)
from sepmodel.plant.compare.metrics import METRICS
from sepmodel.plant.compare.propagation import MEMBERS, Members, draw, respond, shares
from sepmodel.plant.compare.ranges import Range, Swing, moved
from sepmodel.plant.engine_check import Checked
from sepmodel.plant.flowsheet import Flowsheet
from sepmodel.plant.inputs import Route, Study
from sepmodel.stream import Stream


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RouteResult:
    """A route in the comparison.

    ``status`` is "meets", "FAILS" (a specification is missed, ``reasons`` say which) or
    "infeasible" (it could not be designed; nothing else is given then). ``swings`` holds, by
    metric, what each constant does to it; ``fragile`` the constants and their ends ("low", "high")
    at which the route cannot be designed or misses a specification. ``ranges`` come from members
    of all constants together; ``shares`` are the constants' shares in the spread of a ranked
    figure (squared rank correlations).
    """

    route: Route
    status: str
    reasons: tuple[str, ...] = ()
    sheet: Flowsheet | None = None
    account: Account | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    swings: Mapping[str, tuple[Swing, ...]] = field(default_factory=dict)
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    fragile: tuple[tuple[str, str], ...] = ()
    used: Mapping[str, Constant] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two routes on one metric under common constants: ratio of the first to the second.

    ``low, high``: 5 % and 95 % of the members; ``probability`` the share of them in which the
    first needs less.
    """

    metric: str
    first: str
    second: str
    ratio: float
    low: float
    high: float
    probability: float

    @property
    def decided(self) -> bool:
        """Whether 95 of 100 members leave the same route ahead."""
        return self.low > 1 or self.high < 1


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Comparison:
    """All routes of a study on one boundary, with ranges, rankings and evidence.

    ``engine``: by route, what the transport engine answers to the checks of its column units; None
    where it was not asked.
    """

    study: Study
    routes: tuple[RouteResult, ...]
    pairs: tuple[Pair, ...]
    liquor: Stream
    trains: float
    feed_confidence: str
    prices: Mapping[str, float]
    with_ranges: bool = True
    members: int = 0
    inputs_hash: str = ""
    seconds: float = 0.0
    engine: Mapping[str, tuple[Checked | None, ...]] = field(default_factory=dict)


def route_result(
    route: Route, base: State, moved: Mapping[str, tuple[End, End]], members: Members | None
) -> RouteResult:
    """A route with its figures, how each constant moves them, and their ranges."""
    name = route.name
    if name in base.failed:
        return RouteResult(route=route, status="infeasible", reasons=(base.failed[name],))
    sheet, booked = base.sheets[name], base.accounts[name]
    reasons = tuple(
        f"{product}: {what} {reached:.7g}, demanded {demanded:.7g}"
        for product, entry in booked.products.items()
        for what, (reached, demanded) in entry["missed"].items()
    )
    ends = {key: (low[name], high[name]) for key, (low, high) in moved.items()}
    fragile = tuple(
        (key, which)
        for key, pair in ends.items()
        for which, end in zip(("low", "high"), pair, strict=True)
        if end is None or (not reasons and misses(sheet, end))
    )
    swings: dict[str, tuple[Swing, ...]] = {}
    spans: dict[str, Range] = {}
    parts: dict[str, dict[str, float]] = {}
    for metric, value in figures(booked).items():
        # Where a route cannot be designed it has no figure: that end leaves the base where it is.
        reached = {
            key: tuple(value if end is None else end[metric] for end in pair)
            for key, pair in ends.items()
        }
        found = tuple(
            Swing(key=key, low=low, high=high)
            for key, (low, high) in reached.items()
            if low != value or high != value
        )
        swings[metric] = found
        if members is None:
            continue
        told = respond(members, value, {s.key: (s.low, s.high) for s in found})
        summary = statistics.summary(told, value)
        spans[metric] = Range(
            value=value,
            low=summary.low,
            high=summary.high,
            mean=summary.mean,
            median=summary.median,
        )
        if metric in METRICS and METRICS[metric].ranked:
            parts[metric] = shares(members, told, [s.key for s in found])
    return RouteResult(
        route=route,
        status="FAILS" if reasons else "meets",
        reasons=reasons,
        sheet=sheet,
        account=booked,
        ranges=spans,
        swings=swings,
        shares=parts,
        fragile=fragile,
        used={**base.feed_used, **sheet.used, **booked.used},
    )


def pair(
    metric: str,
    one: str,
    other: str,
    base: State,
    moved: Mapping[str, tuple[End, End]],
    members: Members | None,
) -> Pair:
    """Two routes on one metric, every member's constants the same for both."""

    def told(name: str) -> NDArray[np.float64]:
        value = base.accounts[name].metrics[metric]
        ends = {}
        for key, (low, high) in moved.items():
            at = [of[one] is not None and of[other] is not None for of in (low, high)]
            figures_ = [of[name] for of in (low, high)]
            ends[key] = (
                figures_[0][metric] if at[0] and figures_[0] else value,
                figures_[1][metric] if at[1] and figures_[1] else value,
            )
        assert members is not None
        return respond(members, value, ends)

    value = base.accounts[one].metrics[metric] / base.accounts[other].metrics[metric]
    if members is None:
        return Pair(
            metric=metric, first=one, second=other, ratio=value, low=value, high=value,
            probability=float(value < 1),
        )  # fmt: skip
    ratios = told(one) / told(other)
    found = statistics.summary(ratios, value)
    return Pair(
        metric=metric,
        first=one,
        second=other,
        ratio=value,
        low=found.low,
        high=found.high,
        probability=float(np.mean(ratios < 1)),
    )


def estimated(result: RouteResult, metric: str = "cost") -> dict[str, Any]:
    """How much of a route rests on estimates: by count, and by share of a figure's sensitivity."""
    count = sum(1 for c in result.used.values() if c.provenance == "estimated")
    return {
        "count": count,
        "of": len(result.used),
        "share_of_sensitivity": _estimated_share(result, metric),
    }


def _estimated_share(result: RouteResult, metric: str) -> float | None:
    parts = result.shares.get(metric, {})
    total = sum(parts.values())
    if not total > 0:
        return None
    guessed = sum(w for key, w in parts.items() if result.used[key].provenance == "estimated")
    return guessed / total


def drivers(result: RouteResult, metric: str, count: int = 8) -> list[Swing]:
    """The constants that move a figure most, the strongest first."""
    return sorted(result.swings.get(metric, ()), key=lambda s: (-abs(s.high - s.low), s.key))[
        :count
    ]


def ranking(comparison: Comparison, metric: str) -> dict[str, Any]:
    """The routes that meet the specification in the order of a metric, and what is undecided."""
    there = [r for r in comparison.routes if r.status == "meets" and r.account is not None]
    order = sorted(there, key=lambda r: r.account.metrics[metric] if r.account else math.inf)
    pairs = [p for p in comparison.pairs if p.metric == metric]
    return {
        "metric": metric,
        "order": [r.route.name for r in order],
        "ranges": comparison.with_ranges,
        "undecided": [
            [p.first, p.second] for p in pairs if comparison.with_ranges and not p.decided
        ],
        "pairs": [
            {
                "first": p.first,
                "second": p.second,
                "ratio": p.ratio,
                "low": p.low,
                "high": p.high,
                "decided": p.decided if comparison.with_ranges else None,
                "probability_first_is_less": p.probability if comparison.with_ranges else None,
            }
            for p in pairs
        ],
    }


def compare(
    study: Study,
    routes: Sequence[Route],
    *,
    overrides: Mapping[str, float] | None = None,
    ranges: bool | Collection[str] = True,
    members: int = MEMBERS,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Compare ``routes`` on the boundary of ``study``.

    Parameters
    ----------
    overrides
        constants to replace, key -> strict SI.
    ranges
        whether to move every constant through its range (the bulk of the work), or the keys of
        those to move.
    members
        how many are drawn from the constants together, from what each does alone.
    workers
        processes that share the ranges; 1 computes everything in this one.
    progress
        called with a text, the steps done and the steps in all.

    Raises
    ------
    InputError
        a study or route that cannot be used. A route that cannot meet the specification is no
        error: its row says so.
    """
    case = Case(
        study=study,
        routes=tuple(sorted(routes, key=lambda r: study.routes.index(r.name))),
        products=tuple(p.product for p in study.product),
    )
    book = Book(overrides=dict(overrides or {}))
    base = evaluate_study(case, book, None, frozenset())
    moving = ranged(base)
    if not isinstance(ranges, bool):
        moving = {key: moving[key] for key in ranges if key in moving}
    ends = moved(case, book, base, moving, workers, progress) if ranges else {}
    drawn = draw({key: moving[key] for key in ends}, members) if ends else None
    results = tuple(route_result(route, base, ends, drawn) for route in case.routes)
    names = [r.route.name for r in results if r.status == "meets"]
    return Comparison(
        study=study,
        routes=results,
        pairs=tuple(
            pair(metric, one, other, base, ends, drawn)
            for metric, column in METRICS.items()
            if column.ranked
            for k, one in enumerate(names)
            for other in names[k + 1 :]
        ),
        liquor=base.liquor,
        trains=study.rate / study.train_size,
        feed_confidence=feed_liquor(case, Book())[0].header.confidence,
        prices=market_prices(study, book),
        with_ranges=bool(ends),
        members=members if ends else 0,
    )
