"""What every plant needs beside its separation: solvent make-up and effluent treatment."""

from __future__ import annotations

from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem

_RULES = "equipment/sizing"
LIMITS = ("discharge", "zero-liquid")


@dataclass(frozen=True, kw_only=True, slots=True)
class Effluent:
    """Treatment of an effluent: its ``duties``, and the ``water`` [m3/s] it gives back."""

    duties: dict[str, float]
    water: float = 0.0


def organic_makeup(
    aqueous_out: float, settler_area: float, book: Book, *, extractant: str = "extractant"
) -> dict[str, float]:
    """Extractant and kerosene [kg/s] lost with the aqueous outlets [m3/s] and to the air.

    entrained and dissolved organic c_org Q_aq, shared by mass fraction; kerosene evaporates from
    ``settler_area`` [m2].

    >>> makeup = organic_makeup(1.0, 0.0, Book())
    >>> round(sum(makeup.values()), 3)
    0.03
    """
    if not (aqueous_out >= 0 and settler_area >= 0):
        raise InputError(Problem(message="a flow or area is negative", value=aqueous_out))
    lost = aqueous_out * book[f"{_RULES}:organic_in_aqueous"]
    share = book[f"{_RULES}:extractant_mass_fraction"]
    evaporated = settler_area * book[f"{_RULES}:evaporation"]
    return {extractant: lost * share, "kerosene": lost * (1 - share) + evaporated}


def effluent(wastewater: float, salt: float, book: Book, *, limit: str = "discharge") -> Effluent:
    """Duties of an effluent of ``wastewater`` [m3/s] that carries ``salt`` [kg/s].

    ``limit`` "discharge": treated and let go with its salt. "zero-liquid": evaporated, power per
    volume, the condensate returned, the salt landfilled. Source: equipment/sizing.

    >>> effluent(1.0, 50.0, Book(), limit="zero-liquid").water
    0.9
    """
    if limit not in LIMITS:
        raise InputError(
            Problem(message="unknown effluent limit", value=limit, expected=" or ".join(LIMITS))
        )
    if not (wastewater >= 0 and salt >= 0):
        raise InputError(Problem(message="an effluent is negative", value=wastewater))
    if limit == "discharge":
        return Effluent(duties={"wastewater": wastewater, "salt": salt})
    return Effluent(
        duties={
            "zld_water": wastewater,
            "power": wastewater * book[f"{_RULES}:zld_power"],
            "salt": salt,
        },
        water=wastewater * book[f"{_RULES}:zld_recovery"],
    )
