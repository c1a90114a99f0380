"""From duties and equipment to cost per kg, present values and selling prices.

Annual cost and selling price are in real money (no inflation, a real discount rate). The
present-worth functions take rates as given: all real or all nominal, never mixed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sepmodel import units
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.plant import equipment
from sepmodel.plant.equipment import Item
from sepmodel.plant.money import PRICES, in_money_of, money_year
from sepmodel.species import oxide

_FINANCE = "economics/finance"
_LANG = "economics/lang"
_LABOUR = "economics/labour"
_STACK = "factors/stack"
MATURITIES = ("sx", "displacement", "protein")
# Who runs the sections of a plant, and who stands behind them.
OPERATORS = ("skilled", "unskilled")
SUPPORT = ("supervisor", "maintenance", "technician", "engineer")
# Process sections by what they handle, as labour is reckoned.
SECTIONS = ("fluids", "solids-fluids", "cyclic")


def capital_recovery_factor(rate: float, years: float) -> float:
    """Annual payment per unit of capital: i (1 + i)^n / ((1 + i)^n - 1), 1/n at i = 0.

    >>> round(capital_recovery_factor(0.10, 20), 4)
    0.1175
    """
    if not (rate > -1 and years > 0):
        raise InputError(Problem(message="no such discount rate or life", value=(rate, years)))
    if rate == 0:
        return 1 / years
    return rate / -math.expm1(-years * math.log1p(rate))


def present_worth(rate: float, growth: float, years: float, payment: float = 1.0) -> float:
    """Present worth of a series that starts with ``payment`` at the end of year 1 and grows.

    P/A(r, g, N) = (1 - ((1 + g) / (1 + r))^N) / (r - g), N / (1 + r) when r = g. Source: crf.

    >>> round(present_worth(0.10, 0.0, 10), 4)
    6.1446
    """
    if not (rate > -1 and growth > -1 and years >= 0):
        raise InputError(Problem(message="no such rate or number of years", value=(rate, growth)))
    # Written in ln((1 + g) / (1 + r)), which stays exact when the two rates nearly meet.
    step = math.log1p(growth) - math.log1p(rate)
    terms = math.expm1(years * step) / math.expm1(step) if step else years
    return payment * terms / (1 + rate)


def delayed_present_worth(
    rate: float, growth: float, years: float, delay: float, payment: float = 1.0
) -> float:
    """Present worth of the same series when its first ``delay`` years pay nothing.

    P/A(r, g, N + T) - P/A(r, g, T).

    >>> round(delayed_present_worth(0.10, 0.03, 20, 3), 4)
    8.5796
    """
    whole = present_worth(rate, growth, years + delay, payment)
    return whole - present_worth(rate, growth, delay, payment)


def capital_present_worth(
    capital: float, shares: Sequence[float], rate: float, escalation: float
) -> float:
    """Present worth of capital spent in ``shares`` by year: sum of p_i C [P/A(i) - P/A(i - 1)].

    >>> round(capital_present_worth(133.226, [0.1, 0.6, 0.3], 0.10, 0.036), 2)
    112.78
    """
    if not math.isclose(math.fsum(shares), 1, abs_tol=1e-9):
        raise InputError(Problem(message="the shares of spending add to one", value=list(shares)))
    worth = [present_worth(rate, escalation, year) for year in range(len(shares) + 1)]
    return capital * math.fsum(
        share * (later - earlier)
        for share, earlier, later in zip(shares, worth, worth[1:], strict=False)
    )


def loan_present_worth(debt: float, rate: float, loan_rate: float, years: float) -> float:
    """Present worth of the interest on a loan: D [P/A(r, 0, n) / P/A(i, 0, n) - 1].

    Negative when money is lent below the discount rate.

    >>> round(loan_present_worth(66.613, 0.10, 0.06, 10), 2)
    -11.0
    """
    return debt * (present_worth(rate, 0.0, years) / present_worth(loan_rate, 0.0, years) - 1)


def net_present_value(rate: float, flows: Sequence[float]) -> float:
    """Sum of flows_t / (1 + r)^t, the first flow at time zero.

    >>> round(net_present_value(0.10, [-100.0, 60.0, 60.0]), 3)
    4.132
    """
    return math.fsum(flow / (1 + rate) ** year for year, flow in enumerate(flows))


def internal_rate_of_return(flows: Sequence[float]) -> float:
    """The rate at which the net present value vanishes; InputError when there is none above -1.

    >>> round(internal_rate_of_return([-100.0, 60.0, 60.0]), 4)
    0.1307
    """
    from scipy.optimize import brentq

    low, high = -1 + 1e-3, 1e3
    if net_present_value(low, flows) * net_present_value(high, flows) > 0:
        raise InputError(
            Problem(
                message="the cash flows have no internal rate of return",
                value=list(flows),
                expected="spending first and earnings after",
            )
        )
    root = brentq(lambda rate: net_present_value(rate, flows), low, high, xtol=1e-12)
    return float(root)


def minimum_selling_price(
    *,
    capital: float,
    operating: float,
    product: float,
    rate: float,
    years: float,
    tax: float = 0.0,
    working_capital: float = 0.0,
) -> float:
    """Price that makes the net present value zero, real money, straight-line depreciation.

    p Q = O + [(C + W (1 - v^N)) CRF - t C / N] / (1 - t) with v = 1 / (1 + r); ``operating`` and
    ``product`` per year, ``working_capital`` W returned at the end. ``tax`` a fraction below one.

    >>> costs = {"capital": 100.0, "operating": 5.0}
    >>> round(minimum_selling_price(**costs, product=1.0, rate=0.1, years=20), 4)
    16.746
    """
    if not (product > 0 and 0 <= tax < 1):
        raise InputError(Problem(message="a selling price needs a product", value=product))
    returned = working_capital * -math.expm1(-years * math.log1p(rate))
    annuity = (capital + returned) * capital_recovery_factor(rate, years)
    return (operating + (annuity - tax * capital / years) / (1 - tax)) / product


def nth_plant(first: float, number: float, learning: float) -> float:
    """Cost of the N-th plant: C_1 N^(-b), b = -log(1 - R) / log 2, R the saving per doubling.

    >>> round(nth_plant(100.0, 2, 0.04), 6)
    96.0
    """
    return first * math.exp(math.log(number) * math.log1p(-learning) / math.log(2))


def lang_factor(shares: Iterable[float]) -> float:
    """Total plant cost over bare erected cost: 1 + sum of the installation shares.

    >>> lang_factor([0.2, 0.3])
    1.5
    """
    return 1 + math.fsum(shares)


def plant_cost(bare: float, factor: float, bought: float = 0.0) -> float:
    """Total plant cost: Lang ``factor`` x ``bare`` erected cost + what is ``bought`` as it stands.

    >>> round(plant_cost(44.308, 2.97, 1.6309), 2)
    133.23
    """
    return bare * factor + bought


def installation(book: Book) -> float:
    """The Lang factor of the data set economics/lang (2.97), times its uncertainty factor."""
    shares = [n for n in book.names(_LANG) if n != "scale"]
    return lang_factor(book[f"{_LANG}:{n}"] for n in shares) * book[f"{_LANG}:scale"]


def total_plant_cost(items: Iterable[Item], book: Book, *, maturity: str = "sx") -> float:
    """Total plant cost: Lang x built equipment + what is only bought, times the maturity factor.

    Built: ``Item.installs``. The maturity factor charges what a first plant of its kind will meet.
    """
    if maturity not in MATURITIES:
        raise InputError(
            Problem(message="unknown maturity", value=maturity, expected=", ".join(MATURITIES))
        )
    items = tuple(items)
    equipment.bare_cost(items)
    return plant_cost(
        equipment.bare_cost(items, installs=True),
        installation(book) * book[f"{_FINANCE}:maturity_{maturity}"],
        equipment.bare_cost(items, installs=False),
    )


def operating_cost(duties: Mapping[str, float], prices: Mapping[str, float]) -> dict[str, float]:
    """Cost rate of each duty: rate x price; InputError for a duty without a price or below zero.

    >>> operating_cost({"HCl": 2.0}, {"HCl": 0.5})
    {'HCl': 1.0}
    """
    problems = [
        Problem(message="no price for this duty", key=key, expected="a name in the price set")
        for key in duties
        if key not in prices
    ]
    problems += [
        Problem(message="a duty is negative or not finite", key=key, value=rate)
        for key, rate in duties.items()
        if not (math.isfinite(rate) and rate >= 0)
    ]
    if problems:
        raise InputError(problems)
    return {key: rate * prices[key] for key, rate in duties.items()}


def wage(book: Book, year: int, positions: Sequence[str] = OPERATORS) -> float:
    """Mean hourly cost of some positions [money of ``year`` per s], burden included.

    Staff-weighted mean of the wages of economics/labour, carried by the plant cost index.
    """
    staff = [book[f"{_LABOUR}:{n}_staff"] for n in positions]
    rates = [in_money_of(f"{_LABOUR}:{n}_rate", year, book) for n in positions]
    mean = math.fsum(s * r for s, r in zip(staff, rates, strict=True)) / math.fsum(staff)
    return mean * (1 + book[f"{_LABOUR}:burden"])


def operators(sections: Mapping[str, float], oxide: float, book: Book) -> float:
    """Operators on shift of a plant by its process sections.

    n = f (Q / Q_ref)^a sum of sections x operators each, at least one; ``sections`` by what they
    handle (``SECTIONS``), ``oxide`` the calendar-average rate Q [kg/s]. Sources: seider,
    peters-timmerhaus.

    >>> at_reference = Book()["economics/labour:reference_capacity"]
    >>> operators({"fluids": 5, "solids-fluids": 2}, at_reference, Book())
    9.0
    """
    if wrong := [k for k, n in sections.items() if k not in SECTIONS or not n >= 0]:
        raise InputError(
            Problem(
                message="no such process section",
                value=wrong,
                expected=f"a number of {', '.join(SECTIONS)}",
            )
        )
    if not oxide > 0:
        raise InputError(Problem(message="operators need an oxide rate above zero", value=oxide))
    at_reference = math.fsum(
        count * book[f"{_LABOUR}:operators_{kind.replace('-', '_')}"]
        for kind, count in sections.items()
    )
    size = oxide / book[f"{_LABOUR}:reference_capacity"]
    needed = at_reference * math.exp(book[f"{_LABOUR}:capacity_exponent"] * math.log(size))
    return max(needed * book[f"{_LABOUR}:staffing"], book[f"{_LABOUR}:least_operators"])


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """Cost of a plant in real money of ``year``, per kg of product and in total.

    ``capital`` total plant cost; ``annual_product`` kg a year; ``lines`` money per kg by name:
    capital, maintenance, insurance, labour, quality, administration, overhead, then every duty.
    ``operators`` on shift, and ``people`` with those who support them.
    """

    year: int
    operators: float
    people: float
    capital: float
    annual_product: float
    lines: dict[str, float]
    duties: tuple[str, ...]

    @property
    def total(self) -> float:
        """Cost per kg of product."""
        return math.fsum(self.lines.values())

    @property
    def variable(self) -> float:
        """Cost of reagents, utilities and disposal per kg of product."""
        return math.fsum(self.lines[key] for key in self.duties)

    @property
    def fixed(self) -> float:
        """Labour, maintenance, insurance and overhead per kg of product."""
        return math.fsum(
            value
            for key, value in self.lines.items()
            if key not in self.duties and key != "capital"
        )


def annual_cost(
    duties: Mapping[str, float],
    items: Iterable[Item],
    product_rate: float,
    book: Book,
    *,
    handled: float | None = None,
    sections: Mapping[str, float] | None = None,
    prices: str = PRICES,
    maturity: str = "sx",
) -> Cost:
    """Cost per kg of a plant from its duties [SI per s] and equipment, both while it runs.

    ``product_rate`` [kg/s] while running. Operators are counted by the process ``sections``
    (default: one of fluids) and the oxide ``handled`` [kg/s], by default the product; with them go
    supervisors, mechanics and the like. Capital: Lang x bare cost x CRF; fixed: labour,
    maintenance, insurance, quality, administration, overhead on these; variable: duties x prices,
    and for heat the price of the carbon dioxide its fuel gives off.
    The plant runs ``capacity_factor`` of the year; people are paid all year.

    >>> cost = annual_cost({"HCl": 0.65e-2}, [], 1e-2, Book())
    >>> round(cost.lines["HCl"], 3)
    0.453
    """
    items = tuple(items)
    if not product_rate > 0:
        raise InputError(Problem(message="the product rate is above zero", value=product_rate))
    year = money_year(prices)
    if other := sorted({i.year for i in items} - {year}):
        raise InputError(
            Problem(
                message="equipment and prices are in money of different years",
                value=other,
                expected=str(year),
            )
        )
    running = book[f"{_FINANCE}:capacity_factor"]
    seconds = units.factor("year")
    product = product_rate * running * seconds
    capital = total_plant_cost(items, book, maturity=maturity)
    recovery = capital_recovery_factor(
        book[f"{_FINANCE}:discount_rate"], book[f"{_FINANCE}:plant_life"]
    )
    count = operators(sections or {"fluids": 1.0}, (handled or product_rate) * running, book)
    behind = count * book[f"{_LABOUR}:support"]
    labour = (count * wage(book, year) + behind * wage(book, year, SUPPORT)) * seconds
    fixed = {
        "labour": labour,
        "quality": labour * book[f"{_FINANCE}:quality_assurance"],
        "administration": labour * book[f"{_FINANCE}:administration"],
        "maintenance": capital * book[f"{_FINANCE}:maintenance"],
        "insurance": capital * book[f"{_FINANCE}:property_tax_insurance"],
    }
    fixed["overhead"] = math.fsum(fixed.values()) * book[f"{_FINANCE}:overhead"]
    table = {key: book[f"{prices}:{key}"] for key in duties if f"{prices}:{key}" in book}
    if "heat" in table:
        table["heat"] += book[f"{_STACK}:heat"] * book[f"{prices}:CO2"]
    variable = operating_cost(duties, table)
    lines = {"capital": capital * recovery / product}
    lines |= {key: value / product for key, value in fixed.items()}
    lines |= {key: value / product_rate for key, value in variable.items()}
    return Cost(
        year=year,
        operators=count,
        people=count + behind,
        capital=capital,
        annual_product=product,
        lines=lines,
        duties=tuple(variable),
    )


def running_rate(annual: float, book: Book) -> float:
    """Rate while running [per s] of a calendar-average rate ``annual`` [per s]: over the factor."""
    return annual / book[f"{_FINANCE}:capacity_factor"]


def product_value(
    oxide_mass: Mapping[str, float], book: Book, *, market: str = "prices/ex-china-2025"
) -> float:
    """Value of a mixture of oxides (mass of each element's oxide) at the prices of ``market``.

    >>> round(product_value({"Dy": 2.0}, Book(), market="prices/china-2025"), 1)
    405.2
    """
    return math.fsum(m * book[f"{market}:{oxide(e)}"] for e, m in oxide_mass.items())


def stage_cost(stage: str, contained: float, book: Book) -> tuple[float, float, float]:
    """Low, middle and high cost [money of 2022 per kg oxide] of a stage of a published band.

    (a +- da) x^(b +- db), x the oxide [kg] contained over the life of the project, in tonnes.
    Source: natsust2023.

    >>> round(stage_cost("total_operating", 2e7, Book())[1], 2)
    11.41
    """
    key = f"economics/cost-bands:{stage}"
    a, da = book[f"{key}.coefficient"], book[f"{key}.coefficient_spread"]
    b, db = book[f"{key}.exponent"], book[f"{key}.exponent_spread"]
    tonnes = contained / units.factor("t")

    def cost(sign: int) -> float:
        return (a + sign * da) * math.exp((b + sign * db) * math.log(tonnes))

    return cost(-1), cost(0), cost(1)
