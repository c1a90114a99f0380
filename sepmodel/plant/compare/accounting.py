"""A route's figures from its flowsheet: cost, carbon, reagents, and who causes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sepmodel import units
from sepmodel.data import Book, Constant
from sepmodel.errors import InputError, Problem
from sepmodel.plant import economics, equipment, impacts
from sepmodel.plant.compare.metrics import ACIDS, BASES, LIGANDS, PRECIPITANTS, SOLVENTS
from sepmodel.plant.flowsheet import Flowsheet, UnitResult, rare_earths
from sepmodel.plant.inputs import Route, Study
from sepmodel.products import amounts, purity, recovery, shortfalls
from sepmodel.species import molar_mass


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Contribution:
    """What one unit of a route adds to a headline, per kg of slate oxide (SI).

    ``line`` is the group it is told in, ``item`` the duty or the kind of cost itself.
    """

    unit: str
    line: str
    metric: str
    value: float
    item: str = ""


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
        sections=_sections(sheet),
        prices=f"prices/{study.reagents}",
        maturity=route.maturity,
    )
    impact = impacts.assess(duties, own, grid=study.grid).per(slate)
    prices = market_prices(study, own)
    worth = sum(prices[name] * mass for name, mass in masses.items()) / slate
    held = fact(sheet, "rare earths held") / sum(context.feed.values())
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
# "capital" is the same everywhere: the annuity on equipment, and interest on stock and fillings.
CAPITAL, UPKEEP, LABOUR, OVERHEADS = "capital", "upkeep", "labour", "overheads"
OTHER = "other"
# Equipment account of what is filled once and kept up by make-up: it costs interest, no write-off.
FIRST_FILL = "inventory"
# Cost lines that follow the equipment of a unit, and those that are the plant's: name -> group.
BY_EQUIPMENT = {"capital": CAPITAL, "maintenance": UPKEEP, "insurance": UPKEEP}
BY_PLANT = {
    "labour": LABOUR,
    "quality": OVERHEADS,
    "administration": OVERHEADS,
    "overhead": OVERHEADS,
}
ITEMS = {
    "capital": "equipment, annuity",
    "quality": "quality assurance",
    "overhead": "plant overhead",
    "stock": "interest on rare earths held",
    "fill": "interest on first fillings",
}
# A unit whose burden no product causes alone: what labour and overheads are booked on.
PLANT = "plant"


def breakdown(of: Account, metric: str) -> dict[str, float]:
    """What a figure is made of, by group, in SI: the parts of a table, a bar, a file.

    They add up to the figure; for cost, carbon and energy, in the order units first name them.
    """
    parts: dict[str, float] = {}
    for part in of.contributions:
        if part.metric == metric:
            parts[part.line] = parts.get(part.line, 0.0) + part.value
    return parts


def _sections(sheet: Flowsheet) -> dict[str, float]:
    """Process sections of all units by kind."""
    total: dict[str, float] = {}
    for unit in sheet.units.values():
        for kind, count in unit.result.sections.items():
            total[kind] = total.get(kind, 0.0) + count
    return total


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
        "salt": fact(sheet, "dissolved salt") / slate,
        "water": per("water", "deionised_water"),
        "effluent": fact(sheet, "spent liquor") / slate,
        "ligand": per(*LIGANDS),
        "protein": per("protein"),
        "solvent": per(*SOLVENTS),
        "waste": per("solid_waste", "hazardous_waste"),
        "stages": fact(sheet, "stages"),
        "columns": fact(sheet, "column volume") / slate,
        "held": fact(sheet, "rare earths held") / fed,
        "people": cost.people,
    }


def fact(sheet: Flowsheet, name: str) -> float:
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
    """Cost, carbon and energy by unit, line and item; they add up to the route's figures.

    What follows a duty goes to the units in proportion to it, what follows equipment in proportion
    to its total plant cost; people and overheads are the plant's own.
    """
    found: dict[tuple[str, str, str, str], float] = {}

    def book_on(unit: str, line: str, metric: str, item: str, value: float) -> None:
        place = (unit, line, metric, ITEMS.get(item, item))
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
    equipped, holding = _shares(built), _shares(held)
    gross = sheet.duties
    energy = {"power": impact.power, "heat": impact.heat}
    for name, unit in sheet.units.items():
        for key, amount in unit.result.duties.items():
            share = amount / gross[key] if gross[key] > 0 else 0.0
            book_on(name, _line(key), "cost", key, cost.lines.get(key, 0.0) * share)
            book_on(name, _line(key), "carbon", key, impact.carbon.get(key, 0.0) * share)
            book_on(name, key, "energy", key, energy.get(key, 0.0) * share)
        for line, group in BY_EQUIPMENT.items():
            book_on(name, group, "cost", line, equipped[name] * cost.lines[line])
        book_on(name, CAPITAL, "cost", "stock", holding[name] * tied)
        book_on(name, CAPITAL, "cost", "fill", filled[name])
    for line, group in BY_PLANT.items():
        book_on(PLANT, group, "cost", line, cost.lines[line])
    return tuple(
        Contribution(unit=unit, line=line, metric=metric, value=value, item=item)
        for (unit, line, metric, item), value in found.items()
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
    back = fact(sheet, "water returned")
    for key in ("deionised_water", "water"):
        if key in duties:
            used = min(duties[key], back)
            duties[key] -= used
            back -= used
    return duties


def _shares(parts: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(parts.values())
    return {name: part / total if total > 0 else 0.0 for name, part in parts.items()}


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


def market_prices(study: Study, book: Book) -> dict[str, float]:
    """Price of each product [USD/kg_REO] in the study's market."""
    return {p.name: book[f"prices/{study.market}:{p.price_name}"] for p in study.product}


def figures(of: Account) -> dict[str, float]:
    """All numbers of an account by name; a product's carry its name before a slash."""
    flat = dict(of.metrics)
    for product, entry in of.products.items():
        flat.update({f"{product}/{k}": v for k, v in entry.items() if isinstance(v, float)})
    return flat
