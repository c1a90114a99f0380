"""Elements, ions, oxides, reagents: molar masses, charges, the order of the component axis."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import load_set
from sepmodel.errors import InputError, Problem

RARE_EARTHS = (
    "La",
    "Ce",
    "Pr",
    "Nd",
    "Pm",
    "Sm",
    "Eu",
    "Gd",
    "Tb",
    "Dy",
    "Ho",
    "Er",
    "Tm",
    "Yb",
    "Lu",
    "Y",
    "Sc",
)
# Charge of each dissolved ion: what makes a species a species, not a measured number.
CHARGES = {
    **dict.fromkeys(RARE_EARTHS, 3),
    "Al": 3,
    "Fe": 3,
    "Ca": 2,
    "Mg": 2,
    "Mn": 2,
    "Co": 2,
    "Ni": 2,
    "Cu": 2,
    "Zn": 2,
    "Na": 1,
    "K": 1,
    "NH4": 1,
    "H": 1,
    "Cl": -1,
    "NO3": -1,
    "SO4": -2,
    "HSO4": -1,
    "B": 0,  # boric acid in the acid liquors met here
}
# The oxide an assay or a product of the element is reported as.
OXIDES = {
    **{element: f"{element}2O3" for element in RARE_EARTHS},
    "Ce": "CeO2",
    "Pr": "Pr6O11",
    "Tb": "Tb4O7",
    "Al": "Al2O3",
    "Fe": "Fe2O3",
    "Ca": "CaO",
    "Mg": "MgO",
    "Mn": "MnO",
    "Co": "CoO",
    "Ni": "NiO",
    "Cu": "CuO",
    "Zn": "ZnO",
    "B": "B2O3",
    "Na": "Na2O",
}
_TOKEN = re.compile(r"([A-Z][a-z]?)(\d*)|(\()|\)(\d*)")


@lru_cache(maxsize=512)
def composition(formula: str) -> dict[str, int]:
    """Atoms of each element in a chemical formula.

    >>> composition("Nd2(C2O4)3")
    {'Nd': 2, 'C': 6, 'O': 12}
    """
    stack: list[dict[str, int]] = [{}]
    position = 0
    while position < len(formula):
        token = _TOKEN.match(formula, position)
        if token is None or (formula[position] == ")" and len(stack) == 1):
            raise InputError(Problem(message="not a chemical formula", value=formula))
        position = token.end()
        if token[1]:
            stack[-1][token[1]] = stack[-1].get(token[1], 0) + int(token[2] or 1)
        elif token[3]:
            stack.append({})
        else:
            group = stack.pop()
            for element, count in group.items():
                stack[-1][element] = stack[-1].get(element, 0) + count * int(token[4] or 1)
    if len(stack) != 1 or not stack[0]:
        raise InputError(Problem(message="not a chemical formula", value=formula))
    return stack[0]


@lru_cache(maxsize=512)
def molar_mass(formula: str) -> float:
    """Molar mass [kg/mol] of a formula, from the standard atomic weights in ``data/elements``.

    >>> round(molar_mass("Nd2O3"), 6)
    0.336481
    """
    weights = load_set("elements")
    total = 0.0
    for element, count in composition(formula).items():
        if element not in weights:
            raise InputError(
                Problem(message="unknown element", value=element, expected="a chemical symbol")
            )
        total += count * weights[element].si
    return total


def oxide(element: str) -> str:
    """Formula of the oxide an element is reported as (Pr6O11 for Pr, Tb4O7 for Tb)."""
    if element not in OXIDES:
        raise InputError(Problem(message="no oxide is known for", value=element))
    return OXIDES[element]


@lru_cache(maxsize=128)
def oxide_mass_per_mole(element: str) -> float:
    """Mass of oxide [kg] that holds one mole of the element.

    >>> round(oxide_mass_per_mole("Nd"), 6)
    0.168241
    """
    formula = oxide(element)
    return molar_mass(formula) / composition(formula)[element]


@dataclass(frozen=True, slots=True)
class Components:
    """The order of the component axis of every array in a calculation.

    >>> components = Components(("Nd", "Pr"))
    >>> components.index("Pr")
    1
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        problems = [
            Problem(
                message="unknown component", value=name, expected=f"one of {', '.join(CHARGES)}"
            )
            for name in self.names
            if name not in CHARGES
        ]
        if len(set(self.names)) != len(self.names):
            problems.append(Problem(message="a component is named twice", value=list(self.names)))
        if problems:
            raise InputError(problems)

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of a component on the component axis."""
        if name not in self.names:
            raise InputError(
                Problem(message="no such component", value=name, expected=", ".join(self.names))
            )
        return self.names.index(name)

    @property
    def charges(self) -> NDArray[np.float64]:
        """Ionic charges, shape (C,)."""
        return np.array([CHARGES[name] for name in self.names], dtype=float)

    @property
    def oxide_masses(self) -> NDArray[np.float64]:
        """Mass of oxide per mole of each component [kg/mol], shape (C,)."""
        return np.array([oxide_mass_per_mole(name) for name in self.names])

    @property
    def rare_earth(self) -> NDArray[np.bool_]:
        """True where the component is a rare earth, shape (C,)."""
        return np.array([name in RARE_EARTHS for name in self.names])
