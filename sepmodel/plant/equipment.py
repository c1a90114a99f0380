"""From flows to equipment sizes and their bare cost, with the year of the money."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.plant.money import PRICES, in_money_of, money_year

_ACCOUNTS = "equipment/prommis"
_RULES = "equipment/sizing"
_CURVES = "equipment/correlations"
# Accounts of one kind share cost/size^exponent; their sizes span the range it was drawn for.
FAMILIES = {
    "tank": ("5.1", "4.2", "6.1", "7.1", "10.1", "11.1"),
    "mixer": ("5.2", "4.3", "6.2", "7.2", "8.2", "9.3", "10.2"),
    "pump": ("5.3", "4.4", "6.3", "7.3", "9.4", "10.3", "11.2"),
    "filter": ("8.4", "4.6", "7.5", "9.5", "11.3"),
    "thickener": ("9.7", "4.5", "8.6"),
    "kiln": ("9.8", "3.3"),
}
CELL_CLASSES = ("industrial", "box")


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """Equipment of one kind: ``count`` pieces of ``size`` [SI ``unit``], cost of all together.

    ``cost`` is bare (before the Lang factor when ``installs``) in money of ``year``. A first fill
    of solvent or sorbent does not install: it is bought, not built.
    """

    name: str
    count: float
    size: float
    unit: str
    cost: float
    year: int
    account: str = ""
    extrapolated: bool = False
    installs: bool = True
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sized:
    """Equipment of a plant section, the electric ``power`` [W] it draws, and what it holds.

    ``mixer_volume``, ``settler_area`` and ``organic_volume`` (all stages, m3 or m2) are zero where
    there is no mixer-settler. ``warnings`` say which sizes lie outside a correlation.
    """

    items: tuple[Item, ...]
    power: float = 0.0
    mixer_volume: float = 0.0
    settler_area: float = 0.0
    organic_volume: float = 0.0
    warnings: tuple[str, ...] = ()


def scaled_cost(size: float, cost: float, reference: float, exponent: float) -> float:
    """Cost of one piece of ``size``: C = C_ref (S / S_ref)^n, all in the units of the reference.

    >>> round(scaled_cost(2.0, 100.0, 1.0, 0.6), 2)
    151.57
    """
    if not (size >= 0 and reference > 0):
        raise InputError(Problem(message="a size is not negative", value=size))
    return cost * (size / reference) ** exponent if size > 0 else 0.0


def account(
    number: str, size: float, book: Book, *, name: str = "", count: float = 1.0, year: int = 0
) -> Item:
    """Cost of ``count`` pieces of ``size`` [SI] by a PrOMMiS account, in money of ``year``.

    BEC = count BEC_ref (S / S_ref)^n I(year) / I(reference year). ``year`` 0 means the year of the
    default prices. ``extrapolated`` is set more than tenfold from the reference size.

    >>> item = account("5.4", Book()["equipment/prommis:5.4_size"], Book(), year=2016)
    >>> round(item.cost)
    1285340
    """
    year = year or money_year(PRICES)
    reference = book[f"{_ACCOUNTS}:{number}_size"]
    one = scaled_cost(
        size,
        in_money_of(f"{_ACCOUNTS}:{number}_cost", year, book),
        reference,
        book[f"{_ACCOUNTS}:{number}_exponent"],
    )
    unit = book.constant(f"{_ACCOUNTS}:{number}_size").unit
    return Item(
        name=name or f"account {number}",
        account=number,
        count=count,
        size=size,
        unit=unit,
        cost=count * one,
        year=year,
        extrapolated=size > 0 and abs(math.log10(size / reference)) > 1,
    )


def piece(
    kind: str, size: float, book: Book, *, name: str = "", count: float = 1.0, year: int = 0
) -> Item:
    """Cost of ``count`` pieces of a kind of ``FAMILIES``; sizes beyond its accounts are flagged.

    ``size`` [SI]: tank m3, mixer W, pump m3/s, filter m3 of chamber, thickener m2, kiln W of heat.
    A piece smaller than any that is built (equipment/sizing) is that smallest one.

    >>> piece("tank", 20.0, Book(), count=2.0).extrapolated
    False
    >>> piece("tank", 0.01, Book()).size
    1.0
    """
    if kind not in FAMILIES:
        raise InputError(
            Problem(message="unknown equipment", value=kind, expected=", ".join(FAMILIES))
        )
    numbers = FAMILIES[kind]
    if size > 0:
        size = max(size, book[f"{_RULES}:{kind}_smallest"])
    item = account(numbers[0], size, book, name=name or kind, count=count, year=year)
    sizes = [book[f"{_ACCOUNTS}:{number}_size"] for number in numbers]
    return Item(
        name=item.name,
        account=item.account,
        count=count,
        size=size,
        unit=item.unit,
        cost=item.cost,
        year=item.year,
        extrapolated=size > 0 and not min(sizes) <= size <= max(sizes),
    )


def mixer_settlers(
    stages: float,
    flow_aq: float,
    flow_org: float,
    book: Book,
    *,
    cell_class: str = "box",
    name: str = "mixer-settlers",
    year: int = 0,
) -> Sized:
    """Size and cost of ``stages`` equal mixer-settlers carrying two phase flows [m3/s].

    V_mixer = (A + O) tau, A_settler = (A + O) / flux, V = V_mixer + A_settler depth, cost of a
    stage = c (V / 1 m3)^n. ``cell_class``: "box" (plastic box cells, as rare-earth plants build; at
    least the cost of the smallest) or "industrial" (PrOMMiS accounts, 9 to 231 m3, some ten times
    dearer at small volumes). The settler holds both phases in equal layers.

    >>> sized = mixer_settlers(10, 1e-3, 1e-3, Book())
    >>> round(sized.mixer_volume, 2), round(sized.settler_area, 1)
    (4.8, 28.8)
    """
    if cell_class not in CELL_CLASSES:
        raise InputError(
            Problem(
                message="unknown class of cell",
                value=cell_class,
                expected=" or ".join(CELL_CLASSES),
            )
        )
    if not (flow_aq >= 0 and flow_org >= 0 and flow_aq + flow_org > 0 and stages > 0):
        raise InputError(
            Problem(
                message="mixer-settlers need stages and flows",
                value={"stages": stages, "aqueous": flow_aq, "organic": flow_org},
            )
        )
    year = year or money_year(PRICES)
    total = flow_aq + flow_org
    mixer = total * book[f"{_RULES}:mixer_residence"]
    area = total / book[f"{_RULES}:settler_flux"]
    settler = area * book[f"{_RULES}:settler_depth"]
    volume = mixer + settler
    smallest = book[f"{_CURVES}:{cell_class}_smallest"]
    largest = book[f"{_CURVES}:{cell_class}_largest"]
    # A cell smaller than any that is built costs what the smallest does.
    one = scaled_cost(
        max(volume, smallest) if cell_class == "box" else volume,
        in_money_of(f"{_CURVES}:{cell_class}_coefficient", year, book),
        book[f"{_CURVES}:cubic_metre"],
        book[f"{_CURVES}:{cell_class}_exponent"],
    )
    outside = volume > largest or (volume < smallest and cell_class != "box")
    item = Item(
        name=name,
        account=f"{cell_class} mixer-settler",
        count=stages,
        size=volume,
        unit="m^3",
        cost=stages * one,
        year=year,
        extrapolated=outside,
    )
    warning = (
        f"{name}: a cell of {volume:.2g} m3 lies outside {smallest:.2g} to {largest:.3g} m3, the "
        f"range of the {cell_class} cost correlation"
    )
    return Sized(
        items=(item,),
        power=stages * mixer * book[f"{_RULES}:mixer_power"],
        mixer_volume=stages * mixer,
        settler_area=stages * area,
        organic_volume=stages * (mixer * flow_org / total + settler / 2),
        warnings=(warning,) if outside else (),
    )


def least_columns(bed_volume: float, depth: float, book: Book) -> int:
    """Columns that hold ``bed_volume`` [m3] at a bed ``depth`` [m], none wider than can be packed.

    n = ceil(V / (depth pi d^2 / 4)), d the widest bed of equipment/sizing.

    >>> least_columns(10.0, 1.0, Book()), least_columns(10.0, 0.1, Book())
    (2, 15)
    """
    if not (bed_volume > 0 and depth > 0):
        raise InputError(Problem(message="columns need a volume and a depth", value=bed_volume))
    widest = math.pi * book[f"{_RULES}:column_diameter_most"] ** 2 / 4
    return math.ceil(bed_volume / depth / widest)


def columns(
    bed_volume: float, count: float, book: Book, *, name: str = "columns", year: int = 0
) -> Sized:
    """Cost of ``count`` column vessels for beds of ``bed_volume`` [m3] each, with their tanks.

    C = a (V / 1 gallon)^b for the vessel (bed and freeboard), and one backwash and one
    regeneration tank of a vessel's volume for the set. A vessel smaller than any that is built
    costs what the smallest does. Sources: equipment/correlations, equipment/sizing.

    >>> columns(1.0, 2, Book()).items[0].count
    2
    """
    if not (bed_volume > 0 and count > 0):
        raise InputError(Problem(message="columns need a volume and a count", value=bed_volume))
    year = year or money_year(PRICES)
    volume = max(
        bed_volume * book[f"{_RULES}:column_vessel_over_bed"],
        book[f"{_RULES}:column_vessel_smallest"],
    )
    gallon = book[f"{_CURVES}:gallon"]

    def item(kind: str, pieces: float) -> Item:
        one = scaled_cost(
            volume,
            in_money_of(f"{_CURVES}:{kind}_coefficient", year, book),
            gallon,
            book[f"{_CURVES}:{kind}_exponent"],
        )
        label = name if kind == "vessel" else f"{name}: {kind.replace('_', ' ')}"
        return Item(
            name=label,
            account=kind,
            count=pieces,
            size=volume,
            unit="m^3",
            cost=pieces * one,
            year=year,
        )

    return Sized(
        items=(item("vessel", count), item("backwash_tank", 1), item("regeneration_tank", 1))
    )


def first_fill(
    key: str, amount: float, book: Book, *, prices: str = PRICES, name: str = ""
) -> Item:
    """The first fill of solvent, resin, beads or protein: ``amount`` [kg or m3] at its price.

    >>> round(first_fill("resin", 2.0, Book()).cost)
    30000
    """
    if not amount >= 0:
        raise InputError(Problem(message="an amount is not negative", key=key, value=amount))
    unit = "m^3" if key in ("resin", "bead") else "kg"
    return Item(
        name=name or f"first fill of {key}",
        account="inventory",
        count=1,
        size=amount,
        unit=unit,
        cost=amount * book[f"{prices}:{key}"],
        year=money_year(prices),
        installs=False,
    )


def solvent_fill(organic_volume: float, book: Book, *, prices: str = PRICES) -> tuple[Item, Item]:
    """The first fill of extractant and kerosene for ``organic_volume`` [m3] of solvent.

    >>> [item.name for item in solvent_fill(1.0, Book())]
    ['first fill of extractant', 'first fill of kerosene']
    """
    mass = organic_volume * book[f"{_RULES}:organic_density"]
    share = book[f"{_RULES}:extractant_mass_fraction"]
    return (
        first_fill("extractant", mass * share, book, prices=prices),
        first_fill("kerosene", mass * (1 - share), book, prices=prices),
    )


def tanks(
    flow: float, book: Book, *, time: float = 0.0, name: str = "tanks", year: int = 0
) -> Sized:
    """A surge tank that holds ``flow`` [m3/s] for ``time`` [s] (default: the sizing rule).

    >>> round(tanks(1e-3, Book()).items[0].size)
    36
    """
    hold = time or book[f"{_RULES}:tank_time"]
    volume = flow * hold / book[f"{_RULES}:tank_fill"]
    return _train([("tank", volume, name)], book, year)


def precipitation_train(
    flow: float,
    oxide: float,
    heat: float,
    book: Book,
    *,
    name: str = "precipitation",
    year: int = 0,
) -> Sized:
    """Tanks, mixers, pump, thickener, filter and kiln for one product.

    ``flow`` [m3/s] liquor, ``oxide`` [kg/s] product, ``heat`` [W] of the kiln. Sizes: residence
    time, rise velocity, filter cycle (solids/precipitation, equipment/sizing).

    >>> sorted(i.name for i in precipitation_train(1e-4, 1e-3, 4500.0, Book()).items)[0]
    'precipitation: filter'
    """
    volume = flow * book["solids/precipitation:precipitation_time"] / book[f"{_RULES}:tank_fill"]
    stirring = volume * book[f"{_RULES}:tank_mixer_power"]
    pumping = pump_power(flow, book)
    cake = oxide * book[f"{_RULES}:filter_cycle"] / book[f"{_RULES}:cake_density"]
    sized = _train(
        [
            ("tank", volume, f"{name}: tank"),
            ("mixer", stirring, f"{name}: mixer"),
            ("pump", flow, f"{name}: pump"),
            ("thickener", flow / book[f"{_RULES}:thickener_flux"], f"{name}: thickener"),
            ("filter", cake, f"{name}: filter"),
            ("kiln", heat, f"{name}: kiln"),
        ],
        book,
        year,
    )
    return Sized(items=sized.items, power=stirring + pumping, warnings=sized.warnings)


def _train(sizes: Iterable[tuple[str, float, str]], book: Book, year: int) -> Sized:
    """Pieces by kind, size and name, and a warning for each outside its correlation."""
    items = tuple(
        piece(kind, size, book, name=name, year=year) for kind, size, name in sizes if size > 0
    )
    warnings = tuple(
        f"{i.name}: {i.size:.2g} (SI) lies outside the sizes of the cost account"
        for i in items
        if i.extrapolated
    )
    return Sized(items=items, warnings=warnings)


def pump_power(flow: float, book: Book, *, pressure: float = 0.0) -> float:
    """Electric power [W] of pumping ``flow`` [m3/s] against ``pressure`` [Pa]: P = Q dp / eta."""
    return flow * (pressure or book[f"{_RULES}:pump_head"]) / book[f"{_RULES}:pump_efficiency"]


def electrolysis_cells(current: float, book: Book, *, year: int = 0) -> Item:
    """Installed electrolysis cells for a total ``current`` [A], by a cost per ampere.

    >>> electrolysis_cells(3000.0, Book()).cost
    120000.0
    """
    year = year or money_year(PRICES)
    return Item(
        name="electrolysis cells",
        account="per ampere",
        count=1,
        size=current,
        unit="A",
        cost=current * in_money_of(f"{_CURVES}:electrolysis_cell", year, book),
        year=year,
        installs=False,
        note="cost per ampere is installed, with rectifier and off-gas",
    )


def bare_cost(items: Iterable[Item], *, installs: bool | None = None) -> float:
    """Sum of the costs of items; InputError when they are in money of different years."""
    chosen = [i for i in items if installs is None or i.installs is installs]
    years = {i.year for i in chosen}
    if len(years) > 1:
        raise InputError(
            Problem(message="equipment in money of different years", value=sorted(years))
        )
    return math.fsum(i.cost for i in chosen)
