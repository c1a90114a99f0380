"""One feed, several routes, one boundary: the same liquor to oxide, every burden charged.

Every route is evaluated for one train of equipment; the plant is rate / train of them, so that no
figure per kilogram depends on the rate while the study's ``train`` stays the same. The range of a
figure comes from the ranges of the constants it rests on: each is moved to its low and its high end
alone, the plant is designed anew, and the swings are combined by the root of the sum of their
squares, upwards and downwards apart, on the logarithm of the figure. A ranking of two routes is
decided when the range of their ratio, under common constants, does not contain one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from sepmodel import feed as feeds
from sepmodel import files, units
from sepmodel.data import Book, Constant, evidence
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError, Problem
from sepmodel.plant import economics, equipment, impacts
from sepmodel.plant.flowsheet import (
    Context,
    Flowsheet,
    Link,
    Memo,
    NotKeptError,
    Unit,
    UnitResult,
    evaluate,
    liquor,
    rare_earths,
)
from sepmodel.plant.inputs import Route, Study
from sepmodel.plant.operations import OPERATIONS
from sepmodel.products import Product, amounts, purity, recovery, shortfalls
from sepmodel.species import molar_mass
from sepmodel.stream import Stream

SLATE = "slate"
# Relative shortfall of a specification that is taken for rounding.
_ROUNDING = 1e-6
ALLOCATIONS = ("mass", "value", "duty")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A column of the comparison: what it is called, in which unit, whether routes are ranked."""

    label: str
    unit: str
    ranked: bool = False
    what: str = ""


# The order is the order of every table. All are per kg of separated oxide unless the unit says so.
METRICS: Mapping[str, Metric] = {
    "cost": Metric(
        label="cost",
        unit="USD2025/kg_REO",
        ranked=True,
        what="operating cost and annualised capital",
    ),
    "opex": Metric(label="operating cost", unit="USD2025/kg_REO", what="all but capital"),
    "capital": Metric(
        label="capital, annualised",
        unit="USD2025/kg_REO",
        what="interest on the rare earths and fillings held included",
    ),
    "investment": Metric(label="investment", unit="USD2025*year/kg_REO"),
    "carbon": Metric(
        label="CO2e", unit="kg/kg_REO", ranked=True, what="cradle of reagents to gate"
    ),
    "energy": Metric(
        label="energy on site", unit="kWh/kg_REO", ranked=True, what="electricity and heat"
    ),
    "power": Metric(label="electricity", unit="kWh/kg_REO"),
    "heat": Metric(label="heat", unit="MJ/kg_REO"),
    "acid": Metric(label="acid", unit="kg/kg_REO", what="as 100 % HCl"),
    "base": Metric(label="base", unit="kg/kg_REO", what="NaOH and its equivalents, as NaOH"),
    "precipitant": Metric(label="precipitant", unit="kg/kg_REO", what="oxalic acid, carbonates"),
    "salt": Metric(label="salt made", unit="kg/kg_REO", ranked=True),
    "water": Metric(label="water drawn", unit="L/kg_REO", what="beyond what comes back"),
    "effluent": Metric(label="spent liquor", unit="L/kg_REO", ranked=True, what="before treatment"),
    "ligand": Metric(label="ligand made up", unit="g/kg_REO"),
    "protein": Metric(label="protein made up", unit="g/kg_REO"),
    "solvent": Metric(label="solvent made up", unit="g/kg_REO"),
    "waste": Metric(label="solid waste", unit="kg/kg_REO"),
    "stages": Metric(label="extraction stages", unit="1"),
    "columns": Metric(label="column volume", unit="L*day/kg_REO", what="per kg oxide a day"),
    "held": Metric(label="rare earths held", unit="day", what="in the separation, days of feed"),
    "polishing": Metric(label="polishing, share of cost", unit="percent"),
}
MONEY = ("cost", "opex", "capital", "investment", "polishing")
ACIDS = ("HCl",)
# Bases bought, their formula and the moles of hydroxide one mole stands for.
BASES = {"NaOH": ("NaOH", 1), "NH3": ("NH3", 1), "CaO": ("CaO", 2), "MgO": ("MgO", 2)}
PRECIPITANTS = ("oxalic_acid", "Na2CO3", "NH4HCO3")
LIGANDS = ("EDTA", "DTPA", "citric_acid", "malonic_acid")
SOLVENTS = ("extractant", "D2EHPA", "TBP", "kerosene")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Contribution:
    """What one unit of a route adds to a headline, per kg of slate oxide (SI)."""

    unit: str
    line: str
    metric: str
    value: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Account:
    """A route's figures at one set of constants: SI, per kg of slate oxide or as ``METRICS`` say.

    ``products`` holds, by product, purity, recovery, what is missed, oxide made [kg/s], and cost
    and carbon per kg of it under each allocation.
    """

    metrics: Mapping[str, float]
    products: Mapping[str, Mapping[str, Any]]
    contributions: tuple[Contribution, ...]
    used: Mapping[str, Constant]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Range:
    """A figure with the ends of its range (SI)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Swing:
    """How one constant moves a figure: its value at the low and at the high end of the constant."""

    key: str
    low: float
    high: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RouteResult:
    """A route in the comparison.

    ``status`` is "meets", "FAILS" (a specification is missed, ``reasons`` say which) or
    "infeasible" (it could not be designed; nothing else is given then). ``swings`` holds, by
    metric, what each constant does to it; ``fragile`` the constants and their ends ("low", "high")
    at which the route cannot be designed or misses a specification.
    """

    route: Route
    status: str
    reasons: tuple[str, ...] = ()
    sheet: Flowsheet | None = None
    account: Account | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    swings: Mapping[str, tuple[Swing, ...]] = field(default_factory=dict)
    fragile: tuple[tuple[str, str], ...] = ()
    used: Mapping[str, Constant] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """Two routes on one metric under common constants: ratio of the first to the second."""

    metric: str
    first: str
    second: str
    ratio: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Whether the range of the ratio leaves one route ahead."""
        return self.low > 1 or self.high < 1


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Comparison:
    """All routes of a study on one boundary, with ranges, rankings and evidence."""

    study: Study
    routes: tuple[RouteResult, ...]
    pairs: tuple[Pair, ...]
    liquor: Stream
    trains: float
    feed_confidence: str
    prices: Mapping[str, float]
    with_ranges: bool = True
    inputs_hash: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Case:
    """Everything an evaluation of a study needs beside the constants."""

    study: Study
    routes: tuple[Route, ...]
    products: tuple[Product, ...]
    memo: Memo = field(default_factory=Memo)
    exact: bool = True


@dataclass(eq=False, slots=True)
class _State:
    """One evaluation of a study: liquor, flowsheets and accounts by route, and what failed."""

    liquor: Stream
    feed_used: Mapping[str, Constant]
    sheets: dict[str, Flowsheet] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def compare(
    study: Study,
    routes: Sequence[Route],
    *,
    overrides: Mapping[str, float] | None = None,
    ranges: bool | Collection[str] = True,
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
    case = _Case(
        study=study,
        routes=tuple(sorted(routes, key=lambda r: study.routes.index(r.name))),
        products=tuple(p.product for p in study.product),
    )
    book = Book(overrides=dict(overrides or {}))
    base = _state(case, book, None, frozenset())
    moving = _ranged(base)
    if not isinstance(ranges, bool):
        moving = {key: moving[key] for key in ranges if key in moving}
    moved = _moved(case, book, base, moving, workers, progress) if ranges else {}
    results = tuple(_route_result(route, base, moved) for route in case.routes)
    names = [r.route.name for r in results if r.status == "meets"]
    return Comparison(
        study=study,
        routes=results,
        pairs=tuple(
            _pair(metric, one, other, base, moved)
            for metric, column in METRICS.items()
            if column.ranked
            for k, one in enumerate(names)
            for other in names[k + 1 :]
        ),
        liquor=base.liquor,
        trains=study.rate / study.train_size,
        feed_confidence=_feed(case, Book())[0].header.confidence,
        prices=_prices(study, book),
        with_ranges=bool(moved),
    )


def _feed(case: _Case, book: Book) -> tuple[feeds.Feed, Stream]:
    """The feed and its liquor for one train, while the plant runs."""
    feed = feeds.read(case.study.feed, book)
    running = economics.running_rate(case.study.train_size, book)
    stream = feed.liquor(feeds.Rate(value=running, per="TREO"))
    kept = {n: float(m) for n, m in zip(stream.names, stream.moles, strict=True) if n != "H"}
    # Bisulfate is sulfate and free acid; free acid is what electroneutrality leaves.
    bisulfate = kept.pop("HSO4", 0.0)
    if bisulfate:
        kept["SO4"] = kept.get("SO4", 0.0) + bisulfate
    return feed, liquor(kept, stream.flow)


def _state(case: _Case, book: Book, base: _State | None, changed: frozenset[str]) -> _State:
    """Evaluate every route at the constants of ``book``; reuse what ``changed`` cannot touch."""
    own = replace(book, used={})
    if base is not None and not changed & base.feed_used.keys():
        state = _State(liquor=base.liquor, feed_used=base.feed_used)
    else:
        stream = _feed(case, own)[1]
        state = _State(liquor=stream, feed_used=own.used)
    context = Context(
        products=case.products,
        feed=rare_earths(state.liquor),
        effluent=case.study.effluent,
        memo=case.memo,
        exact=case.exact,
    )
    for route in case.routes:
        name = route.name
        former = base.sheets.get(name) if base else None
        if base is not None and name in base.failed:
            continue
        sheet = former
        fed_anew = bool(changed & base.feed_used.keys()) if base else True
        if former is None or fed_anew or changed & former.used.keys():
            try:
                sheet = _evaluated(route, state.liquor, context, book, former, changed)
            except (InfeasibleError, ConvergenceError) as error:
                state.failed[name] = str(error)
                continue
        elif base and not changed & base.accounts[name].used.keys():
            state.sheets[name], state.accounts[name] = former, base.accounts[name]
            continue
        assert sheet is not None
        state.sheets[name] = sheet
        state.accounts[name] = account(sheet, route, case.study, book)
    return state


def _evaluated(
    route: Route,
    entering: Stream,
    context: Context,
    book: Book,
    former: Flowsheet | None,
    changed: frozenset[str],
) -> Flowsheet:
    return evaluate(
        [Unit(id=u.id, operate=OPERATIONS[u.type], parameters=u) for u in route.unit],
        [Link(source=_end(k.source), target=_end(k.target)) for k in route.link],
        entering,
        context,
        book,
        base=former,
        changed=changed,
    )


def _end(text: str) -> tuple[str, str]:
    unit, _, port = text.partition(".")
    return unit, port


def account(sheet: Flowsheet, route: Route, study: Study, book: Book) -> Account:
    """A route's figures from its flowsheet: costs, impacts, products, and who causes what."""
    own = replace(book, used={})
    context = sheet.context
    made = {p.name: _product_oxide(sheet, p.name) for p in context.products}
    masses = {name: sum(amounts(m).values()) for name, m in made.items()}
    slate = sum(masses.values())
    duties = _net_duties(sheet)
    fills = {name: _fill(unit.result) for name, unit in sheet.units.items()}
    items = [
        item
        for unit in sheet.units.values()
        for item in unit.result.equipment
        if item.account != FIRST_FILL
    ]
    cost = economics.annual_cost(
        duties,
        items,
        slate,
        own,
        handled=sum(amounts(context.feed).values()),
        prices=f"prices/{study.reagents}",
        maturity=route.maturity,
    )
    impact = impacts.assess(duties, own, grid=study.grid).per(slate)
    prices = _prices(study, own)
    worth = sum(prices[name] * mass for name, mass in masses.items()) / slate
    held = _fact(sheet, "rare earths held") / sum(context.feed.values())
    interest = own["economics/finance:discount_rate"]
    tied = held * worth * interest / units.factor("year")
    filled = {name: interest * fill / cost.annual_product for name, fill in fills.items()}
    metrics = _metrics(sheet, duties, slate, cost, impact, tied + math.fsum(filled.values()))
    metrics["investment"] += math.fsum(fills.values()) / cost.annual_product * units.factor("year")
    contributions = _contributions(sheet, route, cost, impact, tied, filled, own)
    if route.polish:
        metrics["polishing"] = (
            sum(
                c.value
                for c in contributions
                if c.metric == "cost" and c.unit in route.polish.units
            )
            / metrics["cost"]
        )
    else:
        metrics["polishing"] = 0.0
    shares = _allocation(sheet, masses, prices, contributions)
    products = {
        p.name: {
            "oxide": masses[p.name],
            "moles": made[p.name],
            "purity": purity(made[p.name], p.elements, p.purity_basis) if made[p.name] else 0.0,
            "recovery": recovery(made[p.name], context.feed, p.elements, p.purity_basis),
            "missed": shortfalls(p, made[p.name], context.feed)
            if made[p.name]
            else {"oxide": (0.0, p.recovery)},
            **{
                f"{metric} by {basis}": metrics[metric] * slate * by[p.name] / masses[p.name]
                for metric in ("cost", "carbon")
                for basis, by in shares[metric].items()
                if masses[p.name] > 0
            },
        }
        for p in context.products
    }
    return Account(metrics=metrics, products=products, contributions=contributions, used=own.used)


# How duties are grouped into the lines of a breakdown; what is in no group is "other".
LINES: Mapping[str, tuple[str, ...]] = {
    "acid and base": ("HCl", "NaOH", "NH3", "CaO", "MgO", "H2SO4", "H2O2", "NaCl", "NH4Cl"),
    "precipitants": PRECIPITANTS,
    "ligand": (*LIGANDS, "CuSO4"),
    "protein and beads": ("protein", "bead"),
    "resin": ("resin",),
    "solvent": SOLVENTS,
    "energy": ("power", "heat"),
    "process gas": ("CO2", "CO"),
    "water and effluent": (
        "water",
        "deionised_water",
        "wastewater",
        "zld_water",
        "salt",
        "solid_waste",
        "hazardous_waste",
    ),
}
CAPITAL, FIXED, TIED, OTHER = "capital", "labour and fixed", "stock and fillings", "other"
# Equipment account of what is filled once and kept up by make-up: it costs interest, no write-off.
FIRST_FILL = "inventory"
# Cost lines that follow the equipment of a unit.
BY_EQUIPMENT = ("capital", "maintenance", "insurance")
# A unit whose burden no product causes alone: what labour and overheads are booked on.
PLANT = "plant"


def _line(key: str) -> str:
    return next((line for line, keys in LINES.items() if key in keys), OTHER)


def _metrics(
    sheet: Flowsheet,
    duties: Mapping[str, float],
    slate: float,
    cost: economics.Cost,
    impact: impacts.Impacts,
    tied: float,
) -> dict[str, float]:
    """The figures of a route that do not depend on a product, per kg of slate oxide."""

    def per(*keys: str) -> float:
        return math.fsum(duties.get(k, 0.0) for k in keys) / slate

    moles_of_base = math.fsum(
        count * duties.get(key, 0.0) / molar_mass(formula)
        for key, (formula, count) in BASES.items()
    )
    fed = sum(sheet.context.feed.values())
    return {
        "cost": cost.total + tied,
        "opex": cost.total - cost.lines["capital"],
        "capital": cost.lines["capital"] + tied,
        "investment": cost.capital / cost.annual_product * units.factor("year"),
        "carbon": impact.carbon_total,
        "energy": per("power", "heat"),
        "power": per("power"),
        "heat": per("heat"),
        "acid": per(*ACIDS),
        "base": moles_of_base * molar_mass("NaOH") / slate,
        "precipitant": per(*PRECIPITANTS),
        "salt": _fact(sheet, "dissolved salt") / slate,
        "water": per("water", "deionised_water"),
        "effluent": _fact(sheet, "spent liquor") / slate,
        "ligand": per(*LIGANDS),
        "protein": per("protein"),
        "solvent": per(*SOLVENTS),
        "waste": per("solid_waste", "hazardous_waste"),
        "stages": _fact(sheet, "stages"),
        "columns": _fact(sheet, "column volume") / slate,
        "held": _fact(sheet, "rare earths held") / fed,
    }


def _fact(sheet: Flowsheet, name: str) -> float:
    """The sum of a fact over the units that state it."""
    return sum(u.result.facts[name][0] for u in sheet.units.values() if name in u.result.facts)


def _product_oxide(sheet: Flowsheet, name: str) -> dict[str, float]:
    """Rare earths [mol/s] that leave the plant in the product's port, as solid."""
    ends = [s for port, s in sheet.leaving.items() if port.partition(".")[2] == name]
    if len(ends) != 1 or ends[0].phase != "solid":
        raise InputError(
            Problem(
                message="the route does not bring this product out as oxide",
                key="link",
                value=name,
                expected="one finishing unit that is linked to the product's liquor",
            )
        )
    return rare_earths(ends[0])


def _contributions(
    sheet: Flowsheet,
    route: Route,
    cost: economics.Cost,
    impact: impacts.Impacts,
    tied: float,
    filled: Mapping[str, float],
    book: Book,
) -> tuple[Contribution, ...]:
    """Cost and carbon by unit and line; they add up to the route's figures.

    What follows a duty goes to the units in proportion to it, what follows equipment in proportion
    to its total plant cost; people and overheads are the plant's own.
    """
    found: dict[tuple[str, str, str], float] = {}

    def book_on(unit: str, line: str, metric: str, value: float) -> None:
        place = (unit, line, metric)
        found[place] = found.get(place, 0.0) + value

    built = {
        name: economics.total_plant_cost(
            [item for item in unit.result.equipment if item.account != FIRST_FILL],
            book,
            maturity=route.maturity,
        )
        for name, unit in sheet.units.items()
    }
    held = {
        name: unit.result.facts["rare earths held"][0]
        if unit.result.facts.get("rare earths held")
        else 0.0
        for name, unit in sheet.units.items()
    }
    gross = sheet.duties
    by_equipment = math.fsum(cost.lines[line] for line in BY_EQUIPMENT)
    for name, unit in sheet.units.items():
        for key, amount in unit.result.duties.items():
            share = amount / gross[key] if gross[key] > 0 else 0.0
            book_on(name, _line(key), "cost", cost.lines.get(key, 0.0) * share)
            book_on(name, _line(key), "carbon", impact.carbon.get(key, 0.0) * share)
        book_on(name, CAPITAL, "cost", _share(built, name) * by_equipment)
        book_on(name, TIED, "cost", _share(held, name) * tied + filled[name])
    people = math.fsum(
        value
        for line, value in cost.lines.items()
        if line not in cost.duties and line not in BY_EQUIPMENT
    )
    book_on(PLANT, FIXED, "cost", people)
    return tuple(
        Contribution(unit=unit, line=line, metric=metric, value=value)
        for (unit, line, metric), value in found.items()
        if value != 0
    )


def _fill(result: UnitResult) -> float:
    """What the first fills of a unit cost: solvent, resin, beads, protein, ligand."""
    return equipment.bare_cost(i for i in result.equipment if i.account == FIRST_FILL)


def _net_duties(sheet: Flowsheet) -> dict[str, float]:
    """The duties of the plant, with the water the effluent treatment gives back used again.

    Permeate and condensate stand in for deionised water first, then for water.
    """
    duties = sheet.duties
    back = _fact(sheet, "water returned")
    for key in ("deionised_water", "water"):
        if key in duties:
            used = min(duties[key], back)
            duties[key] -= used
            back -= used
    return duties


def _share(parts: Mapping[str, float], name: str) -> float:
    total = math.fsum(parts.values())
    return parts[name] / total if total > 0 else 0.0


def _allocation(
    sheet: Flowsheet,
    masses: Mapping[str, float],
    prices: Mapping[str, float],
    contributions: Sequence[Contribution],
) -> dict[str, dict[str, dict[str, float]]]:
    """Shares of the products in cost and in carbon: metric -> allocation -> product -> share.

    By mass, by value at the study's market, and by separation duty: the burden of every unit goes
    to the products that cause it (organic flux by what enters a circuit, column volume by what
    passes it), the rest by mass.
    """
    slate = sum(masses.values())
    by_mass = {name: mass / slate for name, mass in masses.items()}
    worth = {name: mass * prices[name] for name, mass in masses.items()}
    by_value = {name: w / sum(worth.values()) for name, w in worth.items()}
    shares: dict[str, dict[str, dict[str, float]]] = {}
    for metric in ("cost", "carbon"):
        by_duty = dict.fromkeys(masses, 0.0)
        total = 0.0
        for part in contributions:
            if part.metric != metric:
                continue
            unit = sheet.units.get(part.unit)
            own = unit.result.shares if unit else {}
            total += part.value
            for name in masses:
                by_duty[name] += part.value * (own.get(name, 0.0) if own else by_mass[name])
        shares[metric] = {
            "mass": by_mass,
            "value": by_value,
            "duty": {name: value / total for name, value in by_duty.items()},
        }
    return shares


def _prices(study: Study, book: Book) -> dict[str, float]:
    """Price of each product [USD/kg_REO] in the study's market."""
    return {p.name: book[f"prices/{study.market}:{p.price_name}"] for p in study.product}


# --- ranges ----------------------------------------------------------------------------------


def _ranged(base: _State) -> dict[str, Constant]:
    """The constants with a range that anything in the comparison read."""
    used: dict[str, Constant] = dict(base.feed_used)
    for name, sheet in base.sheets.items():
        used.update(sheet.used)
        used.update(base.accounts[name].used)
    return {
        key: constant
        for key, constant in sorted(used.items())
        if constant.si_range[0] < constant.si_range[1]
    }


# What a study gives at one end of one constant: the figures of each route, None where it cannot be
# designed.
_End = Mapping[str, Mapping[str, float] | None]


def _moved(
    case: _Case,
    book: Book,
    base: _State,
    ranged: Mapping[str, Constant],
    workers: int,
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, tuple[_End, _End]]:
    """The study at the low and at the high end of every constant, one at a time."""
    keys = list(ranged)
    found: dict[str, tuple[_End, _End]] = {}

    def take(part: Mapping[str, tuple[_End, _End]]) -> None:
        found.update(part)
        if progress:
            progress("moving every constant through its range", len(found), len(keys))

    clean = replace(book, used={})
    # What the ends of most constants are compared with: designed once, for all processes.
    near = _state(replace(case, exact=False), clean, None, frozenset()) if keys else base
    work = partial(_at_ends, case, clean, base, near)
    parts = 8 * max(workers, 2)
    chunks = [chunk for chunk in (tuple(keys[k::parts]) for k in range(parts)) if chunk]
    if workers <= 1 or len(chunks) < parts:
        for part in map(work, chunks):
            take(part)
    else:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(max_workers=workers) as pool:
            for part in pool.map(work, chunks):
                take(part)
    return {key: found[key] for key in keys}


def _at_ends(
    case: _Case, book: Book, base: _State, near: _State, keys: Sequence[str]
) -> dict[str, tuple[_End, _End]]:
    """Figures of all routes with each of ``keys`` at its low and at its high end.

    An end that asks for a train of extraction circuits not designed yet is reckoned from trains
    designed by marching alone, as those of ``near``: the base times what marching says the constant
    does to it.
    """
    kept = replace(case, memo=case.memo.limited_to_kept("train"))
    marched = replace(case, exact=False)
    found: dict[str, tuple[_End, _End]] = {}
    for key in keys:
        ends: list[_End] = []
        for value in book.constant(key).si_range:
            at = book.with_values({key: value})
            changed = frozenset((key,))
            try:
                ends.append(_end_figures(_state(kept, at, base, changed)))
            except NotKeptError:
                end = _end_figures(_state(marched, at, near, changed))
                ends.append(_carried(end, _end_figures(near), _end_figures(base)))
        found[key] = (ends[0], ends[1])
    return found


def _carried(end: _End, near: _End, base: _End) -> _End:
    """What ``end`` is to ``near``, applied to ``base``: by ratio, by difference where near is 0."""
    found: dict[str, Mapping[str, float] | None] = {}
    for name, figures_ in end.items():
        beside, own = near.get(name), base.get(name)
        if figures_ is None or beside is None or own is None:
            found[name] = None
            continue
        found[name] = {
            k: own[k] * value / beside[k] if beside[k] > 0 else own[k] + value - beside[k]
            for k, value in figures_.items()
        }
    return found


def _end_figures(state: _State) -> _End:
    names = {**dict.fromkeys(state.failed), **dict.fromkeys(state.accounts)}
    return {n: figures(state.accounts[n]) if n in state.accounts else None for n in names}


def _combined(value: float, ends: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Low and high of a figure from its values at the ends of each constant.

    Swings are taken on the logarithm (on the figure itself when one is not positive); the largest
    swing each constant makes upwards, and downwards, enters a root of a sum of squares.

    >>> low, high = _combined(1.0, [(0.5, 2.0)])
    >>> round(low, 12), round(high, 12)
    (0.5, 2.0)
    """
    logs = value > 0 and all(low > 0 and high > 0 for low, high in ends)

    def distance(end: float) -> float:
        return math.log(end / value) if logs else end - value

    up = math.sqrt(sum(max(distance(low), distance(high), 0.0) ** 2 for low, high in ends))
    down = math.sqrt(sum(min(distance(low), distance(high), 0.0) ** 2 for low, high in ends))
    if logs:
        return value * math.exp(-down), value * math.exp(up)
    least = value - down
    if value >= 0 and all(low >= 0 and high >= 0 for low, high in ends):
        least = max(least, 0.0)
    return least, value + up


def _route_result(
    route: Route, base: _State, moved: Mapping[str, tuple[_End, _End]]
) -> RouteResult:
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
        if end is None or (not reasons and _misses(sheet, end))
    )
    swings: dict[str, tuple[Swing, ...]] = {}
    spans: dict[str, Range] = {}
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
        bottom, top = _combined(value, [(s.low, s.high) for s in found])
        spans[metric] = Range(value=value, low=bottom, high=top)
    return RouteResult(
        route=route,
        status="FAILS" if reasons else "meets",
        reasons=reasons,
        sheet=sheet,
        account=booked,
        ranges=spans,
        swings=swings,
        fragile=fragile,
        used={**base.feed_used, **sheet.used, **booked.used},
    )


def _misses(sheet: Flowsheet, of: Mapping[str, float]) -> bool:
    """Whether figures miss the purity or the recovery of a product."""
    return any(
        of[f"{product.name}/{what}"] < demanded * (1 - _ROUNDING)
        for product in sheet.context.products
        for what, demanded in (("purity", product.purity), ("recovery", product.recovery))
    )


def figures(of: Account) -> dict[str, float]:
    """All numbers of an account by name; a product's carry its name before a slash."""
    flat = dict(of.metrics)
    for product, entry in of.products.items():
        flat.update({f"{product}/{k}": v for k, v in entry.items() if isinstance(v, float)})
    return flat


def _pair(
    metric: str, one: str, other: str, base: _State, moved: Mapping[str, tuple[_End, _End]]
) -> Pair:
    """Two routes on one metric, each constant moved for both at once."""

    def ratio(of: _End) -> float | None:
        first, second = of[one], of[other]
        return None if first is None or second is None else first[metric] / second[metric]

    value = base.accounts[one].metrics[metric] / base.accounts[other].metrics[metric]
    ratios = [(ratio(low) or value, ratio(high) or value) for low, high in moved.values()]
    low, high = _combined(value, ratios)
    return Pair(metric=metric, first=one, second=other, ratio=value, low=low, high=high)


# --- what is handed out ------------------------------------------------------------------------

BOUNDARY = (
    "from the leach liquor, the same for every route, to calcined oxide at the gate; leaching and "
    "what comes before it are outside, and so are packing and transport; iron removal, dilution, "
    "pH correction, regeneration, make-up of ligand, solvent, protein and bead, precipitation, "
    "calcination and the treatment of every spent liquor to the study's limit are inside; rare "
    "earths outside the slate leave as mixed carbonate that carries no burden and earns no credit"
)
UNIT_OF_COMPARISON = {
    "separated-oxide": "1 kg of separated oxide, all products of the slate together"
}
RANGES = (
    "each constant with a range is moved alone to its low and its high end and the plant designed "
    "anew (extraction trains by marching alone, as a ratio to marching at the base); the swings "
    "are combined by the root of the sum of their squares of logarithms, upwards "
    "and downwards apart, which takes the constants as independent of each other; what the models "
    "leave out is in no range"
)


def quantity(value: float, metric: str, span: Range | None = None) -> dict[str, Any]:
    """A figure as a quantity of the result, with the ends of its range."""
    unit = METRICS[metric].unit
    document: dict[str, Any] = {"value": units.to(value, unit), "unit": unit}
    if span is not None:
        document |= {"low": units.to(span.low, unit), "high": units.to(span.high, unit)}
    return document


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per route and product, and one per route for the slate as a whole.

    A product's cost and carbon are those by separation duty; ``low`` and ``high`` of their
    ``allocation`` are the least and most of the three ways to share the route's burden.
    """
    found = []
    for result in comparison.routes:
        common = {
            "route": result.route.name,
            "status": result.status,
            "reasons": list(result.reasons),
            "model_level": result.route.level,
            "estimated": estimated(result),
        }
        booked = result.account
        found.append(
            {
                **common,
                "product": SLATE,
                "meets_spec": result.status == "meets",
                "purity": None,
                "recovery": None,
                "metrics": {
                    metric: quantity(booked.metrics[metric], metric, result.ranges.get(metric))
                    for metric in METRICS
                }
                if booked
                else {},
            }
        )
        for product in comparison.study.product:
            entry = booked.products[product.name] if booked else None
            found.append(
                {
                    **common,
                    "product": product.name,
                    "meets_spec": entry is not None and not entry["missed"],
                    "purity": entry["purity"] if entry else None,
                    "recovery": entry["recovery"] if entry else None,
                    "metrics": _product_metrics(result, product.name) if entry else {},
                }
            )
    return found


def _product_metrics(result: RouteResult, product: str) -> dict[str, Any]:
    assert result.account is not None
    entry = result.account.products[product]
    found = {}
    for metric in ("cost", "carbon"):
        if f"{metric} by duty" not in entry:
            continue
        ways = [entry[f"{metric} by {basis}"] for basis in ALLOCATIONS]
        name = f"{product}/{metric} by duty"
        found[metric] = {
            **quantity(entry[f"{metric} by duty"], metric, result.ranges.get(name)),
            "allocation": {
                basis: units.to(value, METRICS[metric].unit)
                for basis, value in zip(ALLOCATIONS, ways, strict=True)
            },
        }
    return found


def estimated(result: RouteResult, metric: str = "cost") -> dict[str, Any]:
    """How much of a route rests on estimates: by count, and by share of a figure's sensitivity."""
    count = sum(1 for c in result.used.values() if c.provenance == "estimated")
    return {
        "count": count,
        "of": len(result.used),
        "share_of_sensitivity": _estimated_share(result, metric),
    }


def _estimated_share(result: RouteResult, metric: str) -> float | None:
    base = result.ranges.get(metric)
    if base is None or not base.value > 0:
        return None
    weight = {
        s.key: math.log(max(s.high, s.low) / min(s.high, s.low)) ** 2
        for s in result.swings[metric]
        if min(s.high, s.low) > 0
    }
    total = sum(weight.values())
    if not total > 0:
        return None
    guessed = sum(w for key, w in weight.items() if result.used[key].provenance == "estimated")
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
            }
            for p in pairs
        ],
    }


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """The comparison as one JSON object, without NaN or Infinity."""
    study = comparison.study
    used: dict[str, Constant] = {}
    for result in comparison.routes:
        used.update(result.used)
    document: dict[str, Any] = files.plain(
        {
            "schema": 1,
            "study": study.name,
            "title": study.title,
            "status": "computed",
            "inputs_hash": comparison.inputs_hash,
            "seconds": comparison.seconds,
            "functional_unit": UNIT_OF_COMPARISON[study.functional_unit],
            "boundary": BOUNDARY,
            "basis": {
                "feed": study.feed,
                "feed_confidence": comparison.feed_confidence,
                "rate": {"value": units.to(study.rate, "t_REO/year"), "unit": "t_REO/year"},
                "train": {"value": units.to(study.train_size, "t_REO/year"), "unit": "t_REO/year"},
                "trains": comparison.trains,
                "market": study.market,
                "reagents": study.reagents,
                "grid": study.grid,
                "effluent": study.effluent,
                "ranges": RANGES,
            },
            "rows": rows(comparison),
            "rankings": [ranking(comparison, m) for m, c in METRICS.items() if c.ranked],
            "routes": [_route_dict(result) for result in comparison.routes],
            "sources": evidence(used),
        }
    )
    return document


def _route_dict(result: RouteResult) -> dict[str, Any]:
    """A route's units, balances, contributions, drivers and warnings."""
    document: dict[str, Any] = {
        "name": result.route.name,
        "title": result.route.title,
        "status": result.status,
        "reasons": result.reasons,
        "polish": result.route.polish.model_dump() if result.route.polish else None,
        "fragile": [{"key": key, "end": end} for key, end in result.fragile],
    }
    if result.sheet is None or result.account is None:
        return document
    return document | {
        "balance": {"components": result.sheet.closure, "max": max(result.sheet.closure.values())},
        "units": {
            name: {
                "facts": {
                    fact: {"value": units.to(value, unit), "unit": unit}
                    for fact, (value, unit) in unit_.result.facts.items()
                },
                "duties": unit_.result.duties,
            }
            for name, unit_ in result.sheet.units.items()
        },
        "contributions": [
            {
                "operation": c.unit,
                "line": c.line,
                "metric": c.metric,
                **quantity(c.value, c.metric),
            }
            for c in result.account.contributions
        ],
        "drivers": {
            metric: [
                {
                    "key": s.key,
                    "low": units.to(s.low, column.unit),
                    "high": units.to(s.high, column.unit),
                    "class": result.used[s.key].provenance,
                }
                for s in drivers(result, metric)
            ]
            for metric, column in METRICS.items()
            if column.ranked
        },
        "warnings": result.sheet.warnings,
    }


def csv_text(comparison: Comparison) -> str:
    """The rows as a table with the unit of every column in its header."""
    header = ["route", "product", "status", "meets_spec", "purity [1]", "recovery [1]"]
    for column in METRICS.values():
        header += [f"{column.label} {end}[{column.unit}]" for end in ("", "low ", "high ")]
    lines = []
    for row in rows(comparison):
        line = [row[k] for k in ("route", "product", "status", "meets_spec", "purity", "recovery")]
        for metric in METRICS:
            entry = row["metrics"].get(metric, {})
            line += [entry.get(end) for end in ("value", "low", "high")]
        lines.append(line)
    return files.csv_text(header, lines)
