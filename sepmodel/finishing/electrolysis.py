"""Molten-salt electrolysis: reversible voltage, least electricity, and a practical cell.

Also the least work of separation, the floor under every route.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES, molar_mass

_GIBBS = "thermochemistry/freed"
# What is fed, and which gases the anode forms from carbon, in moles per mole of electrons.
ANODES = {
    "oxygen": ("oxide", {}),
    "carbon dioxide": ("oxide", {"CO2": 1 / 4}),
    "carbon monoxide": ("oxide", {"CO": 1 / 2}),
    "carbon tetrafluoride": ("fluoride", {"CF4": 1 / 4}),
    "chlorine": ("chloride", {}),
}
# A route's data set and its anode; the conventional cell shares its carbon between CO2 and CO.
ROUTES = {
    "oxide-fluoride": "carbon",
    "oxide-inert-anode": "oxygen",
    "chloride": "chlorine",
}
_CONTRIBUTIONS = ("anode_overvoltage", "cathode_overvoltage", "ohmic_bath", "bubbles", "leads")


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """Gibbs energy and enthalpy of formation [J/mol] of a compound at a temperature."""

    gibbs: float
    enthalpy: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A practical electrolysis cell, per kg of metal unless said otherwise.

    ``voltages`` [V] by contribution, ``reversible`` first; ``charge`` [C/kg] by Faraday; ``direct``
    and ``electricity`` [J/kg], direct current and from the grid with auxiliaries; ``minimum``
    [J/kg] reversible; ``thermoneutral`` [V]; ``heat_loss`` [J/kg]; ``feed`` [kg/kg] oxide or
    chloride; ``carbon`` [kg/kg] oxidised; ``emissions`` [kg/kg]; ``duties`` [SI per kg];
    ``window`` [V] left before perfluorocarbons, None without a carbon anode.
    """

    route: str
    temperature: float
    voltages: dict[str, float]
    charge: float
    current_efficiency: float
    direct: float
    electricity: float
    minimum: float
    thermoneutral: float
    heat_loss: float
    feed: float
    carbon: float
    emissions: dict[str, float]
    duties: dict[str, float]
    window: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def voltage(self) -> float:
        """Voltage of the cell [V]: the sum of its contributions."""
        return math.fsum(self.voltages.values())


def formation(species: str, temperature: float, book: Book) -> Energy:
    """Gibbs energy and enthalpy of formation [J/mol] at ``temperature`` [K] from the table.

    Between two rows G is linear: H = (G1 T2 - G2 T1) / (T2 - T1). InputError outside the table.
    Source: freed.

    >>> round(formation("Nd2O3", 1323.0, Book()).gibbs / 1000, 1)
    -1435.0
    """
    stem = f"{species}@"
    rows = sorted(
        float(name.removeprefix(stem).removesuffix("K"))
        for name in book.names(_GIBBS)
        if name.startswith(stem)
    )
    if not rows:
        raise InputError(Problem(message="no Gibbs energies for", value=species))
    if not rows[0] <= temperature <= rows[-1]:
        raise InputError(
            Problem(
                message=f"the Gibbs energies of {species} do not reach this temperature",
                value=f"{temperature:g} K",
                expected=f"{rows[0]:g} to {rows[-1]:g} K",
            )
        )
    upper = next(t for t in rows if t >= temperature)
    upper = max(upper, rows[1])
    lower = rows[rows.index(upper) - 1]
    low, high = (book[f"{_GIBBS}:{stem}{t:.0f}K"] for t in (lower, upper))
    slope = (high - low) / (upper - lower)
    return Energy(gibbs=low + slope * (temperature - lower), enthalpy=low - slope * lower)


def compound(element: str, kind: str) -> tuple[str, int]:
    """The compound of an element that is electrolysed, and its atoms of metal.

    >>> compound("Pr", "oxide")
    ('Pr2O3', 2)
    """
    if kind == "oxide":
        return f"{element}2O3", 2
    return f"{element}{'F3' if kind == 'fluoride' else 'Cl3'}", 1


def anode_energy(element: str, temperature: float, anode: str, book: Book) -> Energy:
    """Gibbs energy and enthalpy of the cell reaction per mole of electrons [J/mol].

    M2O3 (+ C) = 2 M + O2, CO2 or CO; MF3 + C = M + CF4; MCl3 = M + Cl2, all at unit activity.
    """
    if anode not in ANODES:
        raise InputError(
            Problem(message="unknown anode reaction", value=anode, expected=", ".join(ANODES))
        )
    kind, gases = ANODES[anode]
    formula, atoms = compound(element, kind)
    electrons = atoms * CHARGES[element]
    fed = formation(formula, temperature, book)
    made = {gas: formation(gas, temperature, book) for gas in gases}
    return Energy(
        gibbs=-fed.gibbs / electrons + math.fsum(n * made[g].gibbs for g, n in gases.items()),
        enthalpy=-fed.enthalpy / electrons
        + math.fsum(n * made[g].enthalpy for g, n in gases.items()),
    )


def reversible_voltage(element: str, temperature: float, anode: str, book: Book) -> float:
    """Reversible decomposition voltage [V] at ``temperature`` [K]: E = dG / F per electron.

    ``anode``: oxygen, carbon dioxide, carbon monoxide, carbon tetrafluoride or chlorine.

    >>> round(reversible_voltage("Nd", 1323.0, "oxygen", Book()), 3)
    2.479
    """
    return anode_energy(element, temperature, anode, book).gibbs / book["physics:faraday"]


def charge_per_mass(element: str, book: Book) -> float:
    """Charge that makes a kg of metal by Faraday [C/kg]: q = z F / M.

    >>> round(charge_per_mass("Nd", Book()) / 3.6e6, 4)
    0.5574
    """
    return CHARGES[element] * book["physics:faraday"] / molar_mass(element)


def minimum_energy(element: str, temperature: float, anode: str, book: Book) -> float:
    """Least electric energy [J per kg metal]: w = E q.

    >>> round(minimum_energy("Nd", 1323.0, "oxygen", Book()) / 3.6e6, 3)
    1.382
    """
    return reversible_voltage(element, temperature, anode, book) * charge_per_mass(element, book)


def anode_carbon(element: str, share: float) -> float:
    """Carbon [kg per kg metal] the current oxidises, ``share`` of its moles to CO2, the rest to CO.

    c = (M_C / M) z / (4 s + 2 (1 - s)). All to CO2 is the floor.

    >>> round(anode_carbon("Nd", 1.0) * 1000, 1), round(anode_carbon("Nd", 0.0) * 1000, 1)
    (62.5, 124.9)
    """
    _fraction("carbon_dioxide_share", share)
    electrons = 4 * share + 2 * (1 - share)
    return molar_mass("C") / molar_mass(element) * CHARGES[element] / electrons


def current_efficiency(mass: float, current: float, time: float, element: str, book: Book) -> float:
    """Metal made over metal by Faraday: CE = m q / (I t); ``mass`` kg, ``current`` A, ``time`` s.

    >>> month = 720 * 3600.0
    >>> round(current_efficiency(2300.0, 2500.0, month, "Nd", Book()), 2)
    0.71
    """
    return mass * charge_per_mass(element, book) / (current * time)


def _fraction(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(
            Problem(message="a share lies between 0 and 1", key=key, value=value, expected="0 to 1")
        )


def cell(
    metal: Mapping[str, float] | str,
    book: Book,
    *,
    route: str = "oxide-fluoride",
    temperature: float | None = None,
) -> Cell:
    """A practical cell for a metal or an alloy (``metal``: an element, or moles by element).

    U = E_rev - (R T / n F) ln a + overvoltages + ohmic + bubbles + leads; electricity = U q / (CE
    rectifier) + auxiliaries. Carbon: Faraday at the stated share of CO2, over CE, times 1 + air
    burn. Everything but E_rev and q is an estimate with a range (electrolysis/<route>).

    >>> made = cell("Nd", Book())
    >>> round(made.voltage, 1), round(made.electricity / 3.6e6, 1)
    (9.5, 8.6)
    """
    if route not in ROUTES:
        raise InputError(
            Problem(message="unknown electrolysis route", value=route, expected=", ".join(ROUTES))
        )
    moles = {metal: 1.0} if isinstance(metal, str) else dict(metal)
    total = math.fsum(moles.values())
    if not (total > 0 and all(n >= 0 for n in moles.values())):
        raise InputError(Problem(message="an alloy needs amounts of its metals", value=moles))
    mix = {e: n / total for e, n in moles.items() if n > 0}
    stem = f"electrolysis/{route}"
    warm = book[f"{stem}:temperature"] if temperature is None else temperature
    faraday = book["physics:faraday"]
    mass = math.fsum(x * molar_mass(e) for e, x in mix.items())
    charge = math.fsum(x * CHARGES[e] for e, x in mix.items()) * faraday / mass
    energy, share = _reaction(mix, warm, route, book)
    kind = ANODES["chlorine" if route == "chloride" else "oxygen"][0]
    atoms = 2 if kind == "oxide" else 1
    dilution = -book["physics:gas_constant"] * warm * math.log(book[f"{stem}:oxide_activity"])
    reversible = energy.gibbs / faraday
    voltages = {
        "reversible": reversible,
        "dilution": dilution / (3 * atoms * faraday),
        **{name: book[f"{stem}:{name}"] for name in _CONTRIBUTIONS},
    }
    efficiency = book[f"{stem}:current_efficiency"]
    direct = math.fsum(voltages.values()) * charge / efficiency
    electricity = direct / book[f"{stem}:rectifier_efficiency"] + book[f"{stem}:auxiliary"]
    thermoneutral = energy.enthalpy / faraday
    fed = math.fsum(x * molar_mass(compound(e, kind)[0]) / atoms for e, x in mix.items())
    feed = fed / mass / book[f"{stem}:metal_yield"]
    carbon, emissions, duties = _anode_products(mix, mass, share, efficiency, route, book)
    duties["power"] = electricity
    window = _window(mix, warm, voltages, book) if share is not None else None
    return Cell(
        route=route,
        temperature=warm,
        voltages=voltages,
        charge=charge,
        current_efficiency=efficiency,
        direct=direct,
        electricity=electricity,
        minimum=reversible * charge,
        thermoneutral=thermoneutral,
        heat_loss=direct - thermoneutral * charge,
        feed=feed,
        carbon=carbon,
        emissions=emissions,
        duties=duties,
        window=window,
        flags=_cell_flags(route, window),
    )


def _reaction(
    mix: Mapping[str, float], temperature: float, route: str, book: Book
) -> tuple[Energy, float | None]:
    """Cell reaction per mole of electrons, mean over the alloy, and the CO2 share of its carbon."""
    if ROUTES[route] == "carbon":
        share = book[f"electrolysis/{route}:carbon_dioxide_share"]
        _fraction("carbon_dioxide_share", share)
        to_dioxide = 4 * share / (4 * share + 2 * (1 - share))
        parts = {"carbon dioxide": to_dioxide, "carbon monoxide": 1 - to_dioxide}
    else:
        share = None
        parts = {ROUTES[route]: 1.0}
    found = {
        (e, a): anode_energy(e, temperature, a, book) for e in mix for a in parts if parts[a] > 0
    }
    weight = {(e, a): mix[e] * parts[a] for e, a in found}
    return (
        Energy(
            gibbs=math.fsum(weight[k] * found[k].gibbs for k in found),
            enthalpy=math.fsum(weight[k] * found[k].enthalpy for k in found),
        ),
        share,
    )


def _anode_products(
    mix: Mapping[str, float],
    mass: float,
    share: float | None,
    efficiency: float,
    route: str,
    book: Book,
) -> tuple[float, dict[str, float], dict[str, float]]:
    """Carbon oxidised, emissions, and duties beside power, all per kg of metal."""
    stem = f"electrolysis/{route}"
    if route == "chloride":
        return 0.0, {}, {"LiF": book[f"{stem}:chloride_loss"]}
    duties = {
        "rare_earth_fluoride": book[f"{stem}:fluoride_loss"],
        "LiF": book[f"{stem}:lithium_fluoride_loss"],
        "tungsten": book[f"{stem}:tungsten_loss"],
    }
    if share is None:
        return 0.0, {}, duties
    by_current = math.fsum(x * molar_mass(e) * anode_carbon(e, share) for e, x in mix.items())
    carbon = by_current / mass / efficiency * (1 + book[f"{stem}:air_burn"])
    monoxide = book[f"{stem}:carbon_monoxide_emitted"]
    emissions = {
        "CO2": carbon * (1 - monoxide) * molar_mass("CO2") / molar_mass("C"),
        "CO": carbon * monoxide * molar_mass("CO") / molar_mass("C"),
        "CF4": book[f"{stem}:CF4"],
        "C2F6": book[f"{stem}:C2F6"],
    }
    duties["graphite"] = carbon / (1 - book[f"{stem}:butts"])
    return carbon, emissions, duties | emissions


def _window(
    mix: Mapping[str, float], temperature: float, voltages: Mapping[str, float], book: Book
) -> float:
    """Voltage left between the anode's potential and the onset of CF4 (unit activities)."""
    onset = math.fsum(
        x * reversible_voltage(e, temperature, "carbon tetrafluoride", book) for e, x in mix.items()
    )
    return onset - voltages["reversible"] - voltages["dilution"] - voltages["anode_overvoltage"]


def _cell_flags(route: str, window: float | None) -> tuple[str, ...]:
    """What the result does not contain, and what it warns of."""
    notes = []
    if route == "chloride":
        notes.append(
            "the making of anhydrous chloride and the recycling of chlorine are not included"
        )
        notes.append("salt withdrawn with the metal is counted at the price of LiF")
    if route != "oxide-fluoride":
        notes.append("a scenario: no plant has published voltage or current efficiency")
    if window is not None and window <= 0:
        notes.append("the anode lies beyond the onset of CF4: perfluorocarbons are underestimated")
    return tuple(notes)


def perfluorocarbon(share: float, current_efficiency: float, element: str) -> float:
    """CF4 [kg per kg metal] when ``share`` of the anode charge makes it: z M_CF4 f / (4 M CE).

    >>> round(perfluorocarbon(1e-4, 0.75, "Nd") * 1e6)
    61
    """
    _fraction("share", share)
    per_mole = CHARGES[element] * molar_mass("CF4") / 4
    return per_mole * share / (molar_mass(element) * current_efficiency)


def unmixing_work(
    feed: Mapping[str, float],
    book: Book,
    *,
    products: Sequence[Mapping[str, float]] | None = None,
    temperature: float | None = None,
) -> float:
    """Least work [J] to split ideal ``feed`` [mol] into ``products`` (default: pure elements).

    W = R T [sum over products of n ln x - sum over feed of n ln x].

    >>> round(unmixing_work({"Nd": 0.5, "Pr": 0.5}, Book()))
    1718
    """
    warm = book["physics:reference_temperature"] if temperature is None else temperature
    after = math.fsum(_mixing(product) for product in products or ())
    return book["physics:gas_constant"] * warm * (after - _mixing(feed))


def _mixing(moles: Mapping[str, float]) -> float:
    """Sum of n ln x of a mixture [mol]; zero amounts add nothing."""
    total = math.fsum(moles.values())
    return math.fsum(n * math.log(n / total) for n in moles.values() if n > 0)


def concentration_work(
    ions: float, dilute: float, strong: float, book: Book, *, temperature: float | None = None
) -> float:
    """Least work [J/mol of salt] to concentrate a salt of ``ions`` ions: W = nu R T ln(c2 / c1).

    >>> round(concentration_work(4, 10.0, 1000.0, Book()) / molar_mass("Nd") / 1000)
    317
    """
    warm = book["physics:reference_temperature"] if temperature is None else temperature
    return ions * book["physics:gas_constant"] * warm * math.log(strong / dilute)
