"""Rare earths from a liquor into a washed solid: oxalate, carbonate or hydroxide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass, oxide_mass_per_mole

_SET = "solids/precipitation"
# What each method is: the reagent by its duty key and formula as sold, the charge one mole of it
# precipitates, atoms of carbon and oxygen in the solid per unit of metal charge (as fractions of
# two), the ion left in the liquor per unit of charge, and CO2 set free per unit of charge (of two).
REACTIONS = {
    "oxalate": ("oxalic_acid", "C2H6O6", 2, 2, 4, "H", 0),
    "carbonate": ("Na2CO3", "Na2CO3", 2, 1, 3, "Na", 0),
    "bicarbonate": ("NH4HCO3", "NH5CO3", 1, 1, 3, "NH4", 1),
    "hydroxide": ("NaOH", "NaOH", 1, 0, 2, "Na", 0),
}
# Which data a method reads: bicarbonate makes the same solid as soda ash.
_NUMBERS = {"bicarbonate": "carbonate"}
_COMPANIONS = {"Fe": "iron", "Al": "aluminium", "Ca": "calcium", "Mg": "calcium"}
_ALKALI = ("Na", "K", "NH4")
# A companion above this share of the oxide mass is worth a flag.
_NOTABLE = 1e-3
NEUTRALISERS = ("CaO", "NaOH")


@dataclass(frozen=True, kw_only=True, slots=True)
class Method:
    """How a product is precipitated; numbers in strict SI.

    ``excess`` reagent over the equation, ``free_reagent`` [mol/m3] that must stay dissolved,
    ``residual`` [mol/m3] rare earths left in the liquor, ``companions`` shares of other metals
    that end in the solid, ``wash_water`` [m3 per kg oxide], ``wash_loss`` share of the solid.
    """

    name: str
    excess: float
    free_reagent: float
    residual: float
    companions: Mapping[str, float]
    wash_water: float
    wash_loss: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Precipitate:
    """The washed solid and the liquor it leaves, as molar flows [mol/s] by element.

    ``carbon`` [mol/s] in the solid, ``anion_oxygen`` [mol/s] beside it; ``liquor`` holds what did
    not precipitate, what was washed away and the ions of the reagent, ``liquor_flow`` [m3/s] with
    the wash water; ``recovery`` by rare earth; ``duties`` [SI per s]; ``flags`` say what the
    product will carry.
    """

    method: str
    solid: dict[str, float]
    liquor: dict[str, float]
    liquor_flow: float
    carbon: float
    anion_oxygen: float
    reagent: float
    recovery: dict[str, float]
    duties: dict[str, float]
    flags: tuple[str, ...] = ()


def method(name: str, book: Book) -> Method:
    """The numbers of a precipitation method from the data set solids/precipitation.

    >>> method("oxalate", Book()).excess
    1.2
    """
    if name not in REACTIONS:
        raise InputError(
            Problem(
                message="unknown precipitation method", value=name, expected=", ".join(REACTIONS)
            )
        )
    stem = f"{_SET}:{_NUMBERS.get(name, name)}"
    return Method(
        name=name,
        excess=book[f"{stem}.excess"],
        free_reagent=book[f"{stem}.free_reagent"],
        residual=book[f"{stem}.residual"],
        companions={
            **{metal: book[f"{stem}.{key}"] for metal, key in _COMPANIONS.items()},
            **dict.fromkeys(_ALKALI, book[f"{stem}.alkali"]),
        },
        wash_water=book[f"{_SET}:wash_water"],
        wash_loss=book[f"{_SET}:wash_loss"],
    )


def reagent_mass(name: str, oxide: Mapping[str, float]) -> float:
    """Reagent [kg as sold] of the equation for moles of rare earths: m = 3 n M / (charge of one).

    >>> n = {"Nd": 1 / 0.168241}
    >>> [round(reagent_mass(m, n), 3) for m in ("oxalate", "carbonate", "bicarbonate")]
    [1.124, 0.945, 1.41]
    """
    _, formula, charge, *_ = REACTIONS[name]
    return sum(CHARGES[e] * n for e, n in oxide.items()) / charge * molar_mass(formula)


def pass_mass(reagent: str, element: str = "Nd", valence: int = 1) -> float:
    """Reagent [kg per kg of oxide] of one swing of acid or base: m = (z / v) M / M_oxide.

    One saponify, load, strip pass of a rare earth takes ``z`` equivalents of base and as many of
    acid and makes as much salt. ``reagent`` a formula of ``valence`` equivalents.

    >>> [round(pass_mass(f), 3) for f in ("HCl", "NaOH", "NH3", "NaCl")]
    [0.65, 0.713, 0.304, 1.042]
    """
    charge = CHARGES[element] / valence
    return charge * molar_mass(reagent) / oxide_mass_per_mole(element)


def precipitate(
    moles: Mapping[str, float],
    flow: float,
    method: Method,
    *,
    neutraliser: str = "CaO",
) -> Precipitate:
    """Precipitate the rare earths of a liquor: ``moles`` [mol/s] (with Ca, Fe, H ...), ``flow``.

    2 M3+ + 3 H2C2O4 = M2(C2O4)3 + 6 H+; 2 M3+ + 3 CO3-- = M2(CO3)3; 2 M3+ + 6 HCO3- = M2(CO3)3 +
    3 CO2 + 3 H2O; M3+ + 3 OH- = M(OH)3. Left dissolved: min(c_residual flow, all). Reagent: the
    equation (free acid first for the alkaline reagents) plus the larger of (excess - 1) times the
    equation and c_free flow. Acid set free, and oxalate left over, are neutralised with
    ``neutraliser`` and charged. ``flow`` in m3/s; amounts may equally be moles and m3 of a batch.

    >>> made = precipitate({"Nd": 1.0}, 0.01, method("oxalate", Book()))
    >>> round(made.recovery["Nd"], 4)
    0.9993
    """
    _check(moles, flow, neutraliser)
    key, formula, charge, carbon, oxygen, ion, gas = REACTIONS[method.name]
    rare = {e: n for e, n in moles.items() if e in RARE_EARTHS}
    total = math.fsum(rare.values())
    if not total > 0:
        raise InputError(
            Problem(message="the liquor holds no rare earth", value=dict(moles), key="moles")
        )
    dissolved = min(method.residual * flow / total, 1.0)
    share = (1 - dissolved) * (1 - method.wash_loss)
    solid = {e: n * share for e, n in rare.items()}
    solid |= {e: n * method.companions[e] for e, n in moles.items() if e in method.companions}
    equivalents = math.fsum(CHARGES[e] * n * (1 - dissolved) for e, n in rare.items())
    equivalents += math.fsum(CHARGES[e] * n for e, n in solid.items() if e not in rare)
    acid = moles.get("H", 0.0) if ion != "H" else 0.0
    needed = (equivalents + acid) / charge
    reagent = needed + max((method.excess - 1) * needed, method.free_reagent * flow)
    liquor = {e: n - solid.get(e, 0.0) for e, n in moles.items()}
    bound = math.fsum(CHARGES[e] * n for e, n in solid.items())
    left_over = reagent - bound / charge - acid / charge
    if ion == "H":
        liquor["H"] = liquor.get("H", 0.0) + bound
        liquor["C2O4"] = left_over
    else:
        liquor["H"] = 0.0
        liquor[ion] = liquor.get(ion, 0.0) + reagent * (charge if ion == "Na" else 1)
    carbon_dioxide = bound * gas / 2 + acid * carbon / charge
    oxide = math.fsum(solid[e] * oxide_mass_per_mole(e) for e in rare)
    wash = method.wash_water * oxide
    duties = {
        key: reagent * molar_mass(formula),
        "deionised_water": wash,
        "wastewater": flow + wash,
        "CO2": carbon_dioxide * molar_mass("CO2"),
    }
    for name, rate in _neutralised(liquor, neutraliser).items():
        duties[name] = duties.get(name, 0.0) + rate
    return Precipitate(
        method=method.name,
        solid=solid,
        liquor=liquor,
        liquor_flow=flow + wash,
        carbon=bound * carbon / 2,
        anion_oxygen=bound * oxygen / 2,
        reagent=reagent,
        recovery={e: solid[e] / n if n > 0 else 0.0 for e, n in rare.items()},
        duties={name: rate for name, rate in duties.items() if rate > 0},
        flags=_flags(solid, rare, oxide, dissolved, reagent, needed * method.excess),
    )


def _check(moles: Mapping[str, float], flow: float, neutraliser: str) -> None:
    """Refuse negative amounts, unknown names and unknown neutralisers, all at once."""
    problems = [
        Problem(message="an amount is negative or not finite", key=name, value=amount)
        for name, amount in moles.items()
        if not (math.isfinite(amount) and amount >= 0)
    ]
    if not (math.isfinite(flow) and flow > 0):
        problems.append(Problem(message="a liquor has a volume flow", key="flow", value=flow))
    if neutraliser not in NEUTRALISERS:
        problems.append(
            Problem(
                message="unknown neutraliser",
                value=neutraliser,
                expected=" or ".join(NEUTRALISERS),
            )
        )
    if problems:
        raise InputError(problems)


def _neutralised(liquor: Mapping[str, float], neutraliser: str) -> dict[str, float]:
    """Base, salt and sludge [kg/s] of bringing a chloride mother liquor to pH 7.

    Lime takes oxalate out as CaC2O4.H2O (solid waste); soda leaves it as dissolved salt.
    """
    acid, oxalate = liquor.get("H", 0.0), liquor.get("C2O4", 0.0)
    salt = liquor.get("Na", 0.0) * molar_mass("NaCl") + liquor.get("NH4", 0.0) * molar_mass("NH4Cl")
    if neutraliser == "NaOH":
        return {
            "NaOH": (acid + 2 * oxalate) * molar_mass("NaOH"),
            "salt": salt + acid * molar_mass("NaCl") + oxalate * molar_mass("Na2C2O4"),
        }
    return {
        "CaO": (acid / 2 + oxalate) * molar_mass("CaO"),
        "salt": salt + acid / 2 * molar_mass("CaCl2"),
        "solid_waste": oxalate * molar_mass("CaC2O5H2"),
    }


def _flags(
    solid: Mapping[str, float],
    rare: Mapping[str, float],
    oxide: float,
    dissolved: float,
    reagent: float,
    usual: float,
) -> tuple[str, ...]:
    """What the engineer must know of this precipitation, in words."""
    notes = []
    if oxide <= 0:
        return ("nothing precipitates: the liquor is below the residual concentration",)
    for name, amount in solid.items():
        if name in rare:
            continue
        mass = amount * (oxide_mass_per_mole(name) if name in _COMPANIONS else molar_mass(name))
        if mass > _NOTABLE * oxide:
            notes.append(f"{name} comes down with the product: {mass / oxide:.2%} of its oxide")
    if dissolved > 1e-2:
        notes.append(f"dilute liquor: {dissolved:.1%} of the rare earths stays dissolved")
    if reagent > 2 * usual:
        notes.append(
            f"dilute liquor: the reagent that must stay free makes the dose {reagent / usual:.1f} "
            "times the usual one"
        )
    return tuple(notes)
