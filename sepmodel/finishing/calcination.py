"""From precipitate to the reported oxide: mass, off-gas, oxygen and heat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.finishing.precipitation import Precipitate, method, precipitate
from sepmodel.species import RARE_EARTHS, composition, molar_mass, oxide, oxide_mass_per_mole

_SET = "solids/precipitation"


@dataclass(frozen=True, kw_only=True, slots=True)
class Conditions:
    """Useful ``heat`` and electric ``power`` of drying and firing [J per kg of oxide]."""

    heat: float
    power: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Calcined:
    """The fired product: ``moles`` [mol/s] by element, ``oxide_mass`` [kg/s] of each oxide.

    ``mass`` [kg/s] of rare-earth oxide, ``companions`` [kg/s] of other oxides in it, ``oxygen``
    [mol/s of O2] taken up (negative: given off), ``duties`` [SI per s].
    """

    moles: dict[str, float]
    oxide_mass: dict[str, float]
    mass: float
    companions: dict[str, float]
    oxygen: float
    duties: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finished:
    """A liquor brought to oxide: the product, what was lost, what it took, what to build.

    ``moles``, ``lost`` [mol/s] by rare earth; ``oxide_mass`` [kg/s] by element and ``mass`` in all;
    ``liquor`` [mol/s] and ``liquor_flow`` [m3/s] to effluent; ``duties`` [SI per s]; ``sizes`` the
    flow [m3/s], oxide [kg/s] and heat [W] that size the equipment.
    """

    moles: dict[str, float]
    lost: dict[str, float]
    oxide_mass: dict[str, float]
    mass: float
    liquor: dict[str, float]
    liquor_flow: float
    duties: dict[str, float]
    sizes: dict[str, float]
    flags: tuple[str, ...] = ()


def conditions(book: Book) -> Conditions:
    """Heat and power of firing from the data set solids/precipitation."""
    return Conditions(heat=book[f"{_SET}:firing_heat"], power=book[f"{_SET}:firing_power"])


def oxygen_per_metal(element: str) -> float:
    """Atoms of oxygen per atom of metal in the reported oxide.

    >>> oxygen_per_metal("Ce"), round(oxygen_per_metal("Pr"), 4)
    (2.0, 1.8333)
    """
    atoms = composition(oxide(element))
    return atoms["O"] / atoms[element]


def oxide_factor(element: str) -> float:
    """Mass of the reported oxide per mass of metal in it.

    >>> [round(oxide_factor(e), 4) for e in ("Nd", "Pr", "Dy", "Tb")]
    [1.1664, 1.2082, 1.1477, 1.1762]
    """
    return oxide_mass_per_mole(element) / molar_mass(element)


def calcine(made: Precipitate, firing: Conditions) -> Calcined:
    """Fire a precipitate in air to the oxides in which the elements are reported.

    All carbon leaves as CO2 (oxalate gives CO and CO2, the CO burns); oxygen closes the balance:
    O2 = (O in oxides + 2 CO2 + water - O in the solid) / 2. Ammonium leaves; alkali stays.

    >>> from sepmodel.data import Book
    >>> made = precipitate({"Nd": 1.0}, 0.01, method("oxalate", Book()))
    >>> fired = calcine(made, conditions(Book()))
    >>> round(fired.duties["CO2"] / fired.mass, 3)
    0.785
    """
    kept = {e: n for e, n in made.solid.items() if e != "NH4" and n > 0}
    rare = {e: n for e, n in kept.items() if e in RARE_EARTHS}
    masses = {e: n * _oxide_mass(e) for e, n in kept.items()}
    mass = math.fsum(masses[e] for e in rare)
    metal_oxygen = math.fsum(n * oxygen_per_metal(e) for e, n in kept.items() if e != "K")
    metal_oxygen += kept.get("K", 0.0) / 2
    water = made.anion_oxygen / 2 if made.method == "hydroxide" else 0.0
    oxygen = (metal_oxygen + 2 * made.carbon + water - made.anion_oxygen) / 2
    return Calcined(
        moles=rare,
        oxide_mass={e: masses[e] for e in rare},
        mass=mass,
        companions={e: m for e, m in masses.items() if e not in rare},
        oxygen=oxygen,
        duties={
            "heat": mass * firing.heat,
            "power": mass * firing.power,
            "CO2": made.carbon * molar_mass("CO2"),
        },
    )


def _oxide_mass(element: str) -> float:
    """Mass of oxide per mole of metal [kg/mol]; potassium as K2O."""
    return molar_mass("K2O") / 2 if element == "K" else oxide_mass_per_mole(element)


def to_oxide(
    moles: Mapping[str, float],
    flow: float,
    book: Book,
    *,
    by: str = "oxalate",
    neutraliser: str = "CaO",
) -> Finished:
    """Precipitate, wash and fire a liquor of ``moles`` [mol/s] in ``flow`` [m3/s].

    ``by``: oxalate, carbonate, bicarbonate or hydroxide. Every constant comes from ``book``.

    >>> done = to_oxide({"Nd": 1.0, "Pr": 0.3}, 0.01, Book())
    >>> round(done.mass, 4)
    0.2192
    """
    made = precipitate(moles, flow, method(by, book), neutraliser=neutraliser)
    fired = calcine(made, conditions(book))
    duties = dict(made.duties)
    for key, rate in fired.duties.items():
        duties[key] = duties.get(key, 0.0) + rate
    return Finished(
        moles=fired.moles,
        lost={e: moles[e] - n for e, n in fired.moles.items()},
        oxide_mass=fired.oxide_mass,
        mass=fired.mass,
        liquor=made.liquor,
        liquor_flow=made.liquor_flow,
        duties=duties,
        sizes={"flow": flow, "oxide": fired.mass, "heat": fired.duties["heat"]},
        flags=made.flags,
    )
