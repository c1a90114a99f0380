"""Routes side by side: status, ranges, pairs, rankings, drivers."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import statistics
from sepmodel.data import Book, Constant
from sepmodel.errors import InputError, Problem
from sepmodel.plant.compare import members as member_plants
from sepmodel.plant.compare.accounting import Account, figures, market_prices
from sepmodel.plant.compare.evaluation import (
    Case,
    State,
    evaluate_study,
    feed_liquor,
    ranged,
)
from sepmodel.plant.compare.members import EXTENDED, MEMBERS, SEED, Drawn, Told
from sepmodel.plant.compare.metrics import METRICS
from sepmodel.plant.compare.ranges import Driver, Range, Share, common, drivers_of, misses_of
from sepmodel.plant.engine_check import Checked
from sepmodel.plant.flowsheet import Flowsheet
from sepmodel.plant.inputs import Route, Study
from sepmodel.stream import Stream

Array = NDArray[np.float64]
# Members that have to meet the specifications for a range to be told: below, 5 and 95 % of them are
# the least and the most.
FEWEST = 20
MOST_DRAWS = 2**20


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RouteResult:
    """A route in the comparison.

    ``status`` is "meets", "FAILS" (a specification is missed, ``reasons`` say which) or
    "infeasible" (it could not be designed; nothing else is given then). ``ranges`` are those of the
    draws whose plant meets every specification: ``met`` is their share and ``met_between`` its 95 %
    interval (Wilson), ``as_built`` the share that does so with the stages of the base; ``misses``
    say why the others do not, ``fragile`` which constants they have in common ("low" or "high" in
    them). ``drivers`` are, by ranked figure, the constants that carry its spread.
    """

    route: Route
    status: str
    reasons: tuple[str, ...] = ()
    sheet: Flowsheet | None = None
    account: Account | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    drivers: Mapping[str, tuple[Driver, ...]] = field(default_factory=dict)
    met: float | None = None
    met_between: tuple[float, float] | None = None
    as_built: float | None = None
    misses: tuple[Share, ...] = ()
    fragile: tuple[tuple[str, str], ...] = ()
    told: Told | None = field(default=None, repr=False)
    used: Mapping[str, Constant] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two routes on one metric under common constants: ratio of the first to the second.

    ``low, high``: 5 % and 95 % of the members in which both routes meet the specifications, the
    share ``both`` of all ``draws``; ``probability`` the share of these in which the first needs
    less, None where they are too few to say or there are no draws.
    """

    metric: str
    first: str
    second: str
    ratio: float
    low: float
    high: float
    probability: float | None
    both: float | None = None
    draws: int = 0

    @property
    def decided(self) -> bool:
        """Whether 95 of 100 members leave the route ahead that is ahead at the base."""
        return (self.low > 1 and self.ratio > 1) or (self.high < 1 and self.ratio < 1)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Comparison:
    """All routes of a study on one boundary, with ranges, rankings and evidence.

    ``drawn``: the members' constants, drawn with ``seed``. ``as_built``: constants at which plants
    designed for the others are run. ``engine``: by route, what the transport engine answers to the
    checks of its column units; None where it was not asked.
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
    seed: int = SEED
    drawn: Drawn | None = field(default=None, repr=False)
    as_built: Mapping[str, float] = field(default_factory=dict)
    inputs_hash: str = ""
    seconds: float = 0.0
    engine: Mapping[str, tuple[Checked | None, ...]] = field(default_factory=dict)


def route_result(route: Route, base: State, drawn: Drawn | None, told: Told | None) -> RouteResult:
    """A route with its figures, their ranges over the members, and what carries them."""
    name = route.name
    if name in base.failed:
        return RouteResult(route=route, status="infeasible", reasons=(base.failed[name],))
    sheet, booked = base.sheets[name], base.accounts[name]
    reasons = tuple(
        f"{product}: {what} {reached:.7g}, demanded {demanded:.7g}"
        for product, entry in booked.products.items()
        for what, (reached, demanded) in entry["missed"].items()
    )
    result = RouteResult(
        route=route,
        status="FAILS" if reasons else "meets",
        reasons=reasons,
        sheet=sheet,
        account=booked,
        used={**base.feed_used, **sheet.used, **booked.used},
    )
    if drawn is None or told is None:
        return result
    met = told.met
    drawn = Drawn(keys=drawn.keys, values=drawn.values[: met.size])
    spans: dict[str, Range] = {}
    carried: dict[str, tuple[Driver, ...]] = {}
    if np.count_nonzero(met) >= FEWEST:
        for metric, value in figures(booked).items():
            own = told.figures[metric][met]
            found = statistics.summary(own, value)
            spans[metric] = Range(
                value=value,
                low=found.low,
                high=found.high,
                mean=found.mean,
                median=found.median,
                error=found.error,
            )
            if metric in METRICS and METRICS[metric].ranked:
                carried[metric] = drivers_of(drawn, met, own, result.used)
    share, *between = statistics.probability(int(np.count_nonzero(met)), met.size)
    return replace(
        result,
        ranges=spans,
        drivers=carried,
        met=share,
        met_between=(between[0], between[1]),
        as_built=float(np.mean(met & (np.array(told.status) != EXTENDED))),
        misses=misses_of(told.reasons),
        fragile=common(drawn, met, {**base.feed_used, **sheet.used}),
        told=told,
    )


def pair(
    metric: str, one: str, other: str, base: State, members: Mapping[str, Told] | None
) -> Pair:
    """Two routes on one metric, every member's constants the same for both."""
    value = base.accounts[one].metrics[metric] / base.accounts[other].metrics[metric]
    plain = Pair(
        metric=metric, first=one, second=other, ratio=value, low=value, high=value,
        probability=None,
    )  # fmt: skip
    if members is None:
        return plain
    count = min(members[one].met.size, members[other].met.size)
    both = members[one].met[:count] & members[other].met[:count]
    if np.count_nonzero(both) < FEWEST:
        return replace(plain, low=0.0, high=np.inf, both=float(np.mean(both)), draws=count)
    first, second = (members[name].figures[metric][:count][both] for name in (one, other))
    ratios = first / second
    found = statistics.summary(ratios, value)
    return replace(
        plain,
        low=found.low,
        high=found.high,
        probability=float(np.mean(ratios < 1)),
        both=float(np.mean(both)),
        draws=count,
    )


def estimated(result: RouteResult, metric: str = "cost") -> dict[str, Any]:
    """How much of a route rests on estimates: by count, and by share of a figure's sensitivity."""
    count = sum(1 for c in result.used.values() if c.provenance == "estimated")
    return {
        "count": count,
        "of": len(result.used),
        "share_of_sensitivity": _estimated_share(result, metric),
        "explained": explained(result, metric),
    }


def explained(result: RouteResult, metric: str) -> float | None:
    """How much of a figure's spread the constants explain one by one; None without draws."""
    parts = result.drivers.get(metric, ())
    return sum(d.share for d in parts) if parts else None


def _estimated_share(result: RouteResult, metric: str) -> float | None:
    parts = result.drivers.get(metric, ())
    if not parts:
        return None
    return sum(d.share for d in parts if result.used[d.key].provenance == "estimated")


def drivers(result: RouteResult, metric: str, count: int = 8) -> list[Driver]:
    """The constants that carry most of a figure's spread, the strongest first."""
    return list(result.drivers.get(metric, ()))[:count]


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
                "low": p.low if math.isfinite(p.high) else None,
                "high": p.high if math.isfinite(p.high) else None,
                "decided": p.decided if comparison.with_ranges else None,
                "probability_first_is_less": p.probability,
                "draws_in_which_both_meet": p.both,
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
    seed: int = SEED,
    as_built: Mapping[str, float] | int | None = None,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """Compare ``routes`` on the boundary of ``study``.

    Parameters
    ----------
    overrides
        constants to replace, key -> strict SI; they are not drawn.
    ranges
        whether to draw members (the bulk of the work), or the keys of the constants to draw.
    members
        how many plants are computed, each with its own draw of all constants together.
    seed
        decides the draws; draws of one seed are the same however many are taken.
    as_built
        constants (key -> strict SI) at which the plants designed for all others are run: cuts,
        stages and columns stand, flows and sizes are found anew, as for a draw. A number is the
        draw of that number, from 0: its figures are that member's. There are no ranges then.
    workers
        processes that share the routes and the ranges; 1 computes everything in this one.
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
    base = evaluate_study(case, book, workers)
    # What the caller sets is taken as known.
    moving = {key: c for key, c in ranged(base).items() if key not in book.overrides}
    if not isinstance(ranges, bool):
        moving = {key: moving[key] for key in ranges if key in moving}
    drawn, told = None, None
    values: Mapping[str, float] = {}
    if as_built is not None:
        if isinstance(as_built, int):
            if not 0 <= as_built < MOST_DRAWS:
                raise InputError(
                    Problem(message="no such draw", value=as_built, expected="0, 1, 2 ...")
                )
            as_built = member_plants.one_draw(moving, as_built, seed, book)
        values = as_built
        base = member_plants.standing(case, book, base, values)
    elif ranges and moving:
        drawn = member_plants.draw(moving, members, seed, book)
        told = member_plants.evaluate(case, book, base, drawn, workers, progress)
    results = tuple(
        route_result(route, base, drawn, None if told is None else told.get(route.name))
        for route in case.routes
    )
    names = [r.route.name for r in results if r.status == "meets"]
    return Comparison(
        study=study,
        routes=results,
        pairs=tuple(
            pair(metric, one, other, base, told)
            for metric, column in METRICS.items()
            if column.ranked
            for k, one in enumerate(names)
            for other in names[k + 1 :]
        ),
        liquor=base.liquor,
        trains=study.rate / study.train_size,
        feed_confidence=feed_liquor(case, Book())[0].header.confidence,
        prices=market_prices(study, book),
        with_ranges=told is not None,
        members=0 if drawn is None else len(drawn.values),
        seed=seed,
        drawn=drawn,
        as_built=dict(values),
    )
