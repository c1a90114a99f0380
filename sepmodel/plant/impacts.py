"""From duties to greenhouse gases, energy, water, salt and waste, and their shares by product."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem

_CARBON = "factors/carbon"
_ENERGY = "factors/energy"
_GRID = "factors/grid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Impacts:
    """Impacts as rates [per s], or per kg after ``per``.

    ``carbon`` [kg CO2e] and ``energy`` [J primary] by duty; ``power`` [J electric], ``heat``
    [J useful]; ``water``, ``effluent`` [m3]; ``salt``, ``solid_waste``, ``hazardous_waste`` [kg].
    """

    carbon: dict[str, float]
    energy: dict[str, float]
    power: float
    heat: float
    water: float
    effluent: float
    salt: float
    solid_waste: float
    hazardous_waste: float

    @property
    def carbon_total(self) -> float:
        """Greenhouse gases of all duties together [kg CO2e]."""
        return math.fsum(self.carbon.values())

    @property
    def energy_total(self) -> float:
        """Primary energy of all duties together [J]."""
        return math.fsum(self.energy.values())

    def per(self, amount: float) -> Impacts:
        """The same impacts per unit of ``amount`` [kg/s of product]."""
        if not amount > 0:
            raise InputError(Problem(message="impacts per kg need a product", value=amount))
        return Impacts(
            carbon={k: v / amount for k, v in self.carbon.items()},
            energy={k: v / amount for k, v in self.energy.items()},
            power=self.power / amount,
            heat=self.heat / amount,
            water=self.water / amount,
            effluent=self.effluent / amount,
            salt=self.salt / amount,
            solid_waste=self.solid_waste / amount,
            hazardous_waste=self.hazardous_waste / amount,
        )


def weighted(duties: Mapping[str, float], factors: Mapping[str, float]) -> dict[str, float]:
    """Each duty times its factor; InputError lists the duties without one.

    >>> weighted({"NaOH": 2.0}, {"NaOH": 0.5})
    {'NaOH': 1.0}
    """
    if missing := [key for key in duties if key not in factors]:
        raise InputError(
            [Problem(message="no emission factor for this duty", key=key) for key in missing]
        )
    return {key: rate * factors[key] for key, rate in duties.items()}


def assess(duties: Mapping[str, float], book: Book, *, grid: str = "US") -> Impacts:
    """Impacts of duties [SI per s]: kg CO2e = sum of duty x factor, electricity by ``grid``.

    Sources: factors/carbon, factors/energy, factors/grid.

    >>> round(assess({"NaOH": 1.0, "power": 3.6e6}, Book()).carbon_total, 2)
    2.4
    """
    sets = {_CARBON: book.names(_CARBON), _ENERGY: book.names(_ENERGY)}
    carbon = {k: book[f"{_CARBON}:{k}"] for k in duties if k in sets[_CARBON]}
    if "power" in duties:
        carbon["power"] = book[f"{_GRID}:{grid}"]
    energy = {k: book[f"{_ENERGY}:{k}"] for k in duties if k in sets[_ENERGY]}

    def rate(*keys: str) -> float:
        return math.fsum(duties.get(key, 0.0) for key in keys)

    return Impacts(
        carbon=weighted(duties, carbon),
        energy=weighted(duties, energy),
        power=rate("power"),
        heat=rate("heat"),
        water=rate("water", "deionised_water"),
        effluent=rate("wastewater", "zld_water"),
        salt=rate("salt"),
        solid_waste=rate("solid_waste"),
        hazardous_waste=rate("hazardous_waste", "norm_waste"),
    )


def allocate(total: float, weights: Mapping[str, float]) -> dict[str, float]:
    """``total`` shared over products in proportion to their weights (not negative, not all zero).

    >>> allocate(10.0, {"NdPr": 3.0, "Dy": 1.0})
    {'NdPr': 7.5, 'Dy': 2.5}
    """
    whole = math.fsum(weights.values())
    if not (whole > 0 and all(w >= 0 for w in weights.values())):
        raise InputError(
            Problem(message="weights are not negative and not all zero", value=dict(weights))
        )
    return {name: total * weight / whole for name, weight in weights.items()}


def allocations(
    total: float,
    masses: Mapping[str, float],
    prices: Mapping[str, float],
    separation: Mapping[str, float],
) -> dict[str, dict[str, float]]:
    """``total`` per kg of each product under three rules: mass, economic, separation duty.

    ``masses`` [kg or kg/s], ``prices`` per kg, ``separation`` the duty of each product (such as the
    organic flux its cuts need); all by product name. Each rule shares out the whole total.

    >>> shares = allocations(10.0, {"A": 9.0, "B": 1.0}, {"A": 1.0, "B": 91.0}, {"A": 1, "B": 1})
    >>> shares["mass"]["B"], shares["economic"]["B"], shares["separation duty"]["B"]
    (1.0, 9.1, 5.0)
    """
    if not set(masses) == set(prices) == set(separation):
        raise InputError(
            Problem(
                message="masses, prices and separation duties name different products",
                value=sorted(set(masses) ^ set(prices) | set(masses) ^ set(separation)),
            )
        )
    weights = {
        "mass": dict(masses),
        "economic": {name: masses[name] * prices[name] for name in masses},
        "separation duty": dict(separation),
    }
    return {
        rule: {name: share / masses[name] for name, share in allocate(total, weight).items()}
        for rule, weight in weights.items()
    }
