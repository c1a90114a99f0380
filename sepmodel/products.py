"""What a product must be: elements, form, purity, recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sepmodel.errors import InputError, Problem
from sepmodel.species import oxide_mass_per_mole

PURITY_BASES = ("oxide-mass", "mole")


@dataclass(frozen=True, kw_only=True, slots=True)
class Product:
    """A product specification.

    ``purity`` is the least share of ``elements`` in the product's total rare-earth oxide (mass, or
    moles when ``purity_basis`` is "mole"); ``recovery`` the least share of the feed's ``elements``,
    taken together on the same basis, that must arrive in it. ``window`` bounds the mole ratio of
    two of its elements, ``{"Nd:Pr": (2.0, 6.0)}``.
    """

    name: str
    elements: tuple[str, ...]
    purity: float
    recovery: float
    purity_basis: str = "oxide-mass"
    form: str = "oxide"
    window: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            Problem(
                message=f"{key} of product {self.name} is a fraction below one",
                key=key,
                value=value,
                expected="a number above 0 and below 1",
            )
            for key, value in (("purity", self.purity), ("recovery", self.recovery))
            if not 0 < value < 1
        ]
        if not self.elements:
            problems.append(Problem(message=f"product {self.name} names no elements"))
        if self.purity_basis not in PURITY_BASES:
            problems.append(
                Problem(
                    message="unknown purity basis",
                    value=self.purity_basis,
                    expected=" or ".join(PURITY_BASES),
                )
            )
        if problems:
            raise InputError(problems)


def amounts(moles: Mapping[str, float], basis: str = "oxide-mass") -> dict[str, float]:
    """Moles of rare earths as oxide mass [kg] or, with ``basis="mole"``, unchanged."""
    if basis == "mole":
        return dict(moles)
    return {e: n * oxide_mass_per_mole(e) for e, n in moles.items()}


def purity(moles: Mapping[str, float], elements: Sequence[str], basis: str = "oxide-mass") -> float:
    """Share of ``elements`` in the rare earths of a product, from their moles.

    >>> round(purity({"Nd": 1.0, "Pr": 3.0}, ["Nd"], basis="mole"), 6)
    0.25
    """
    weight = amounts(moles, basis)
    total = sum(weight.values())
    if not total > 0:
        raise InputError(Problem(message="nothing arrives in the product", value=dict(moles)))
    return sum(weight.get(e, 0.0) for e in elements) / total


def recovery(
    moles: Mapping[str, float],
    feed: Mapping[str, float],
    elements: Sequence[str],
    basis: str = "oxide-mass",
) -> float:
    """Share of the feed's ``elements`` that arrives, from the moles that arrive and were fed."""
    arrived, fed = amounts(moles, basis), amounts(feed, basis)
    total = sum(fed.get(e, 0.0) for e in elements)
    if not total > 0:
        raise InputError(Problem(message="the feed holds none of", value=list(elements)))
    return sum(arrived.get(e, 0.0) for e in elements) / total


def shortfalls(
    product: Product, moles: Mapping[str, float], feed: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """What of the specification is not met: name -> (reached, demanded); empty when all is met.

    ``moles`` are the rare earths that arrive in the product, ``feed`` those that were fed.
    """
    missed: dict[str, tuple[float, float]] = {}
    reached = purity(moles, product.elements, product.purity_basis)
    if reached < product.purity:
        missed["purity"] = (reached, product.purity)
    recovered = recovery(moles, feed, product.elements, product.purity_basis)
    if recovered < product.recovery:
        missed["recovery"] = (recovered, product.recovery)
    for pair, (low, high) in product.window.items():
        first, _, second = pair.partition(":")
        denominator = moles.get(second, 0.0)
        ratio = moles.get(first, 0.0) / denominator if denominator > 0 else float("inf")
        if not low <= ratio <= high:
            missed[f"{pair} mole ratio"] = (ratio, low if ratio < low else high)
    return missed
