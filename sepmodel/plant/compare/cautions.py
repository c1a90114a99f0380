"""What a reader of a comparison has to be told before its figures are believed."""

from __future__ import annotations

from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.plant.compare.results import Comparison, RouteResult

_PUREST = "process/specification:purity_most"


@dataclass(frozen=True, kw_only=True, slots=True)
class Loading:
    """Circuits of a route loaded beyond the data behind their constants.

    ``loaded`` share of the stoichiometric limit by circuit; ``seen`` the most in the data;
    ``circuits`` how many there are in all.
    """

    loaded: dict[str, float]
    seen: float
    circuits: int


def beyond_practice(comparison: Comparison) -> list[dict[str, str]]:
    """Products asked purer than plants have shown: warnings ``purity-beyond-practice``."""
    most = Book()[_PUREST]
    return [
        {
            "code": "purity-beyond-practice",
            "message": f"{100 * product.purity:.7g} % is asked; beyond {100 * most:.5g} % "
            "reagents, vessels and entrainment decide, which no model here holds",
            "where": product.name,
        }
        for product in comparison.study.product
        if product.purity > most
    ]


def loading(result: RouteResult) -> Loading | None:
    """The circuits of a route that carry more than any data behind them; None when none does."""
    if result.sheet is None:
        return None
    circuits = [
        (unit, c)
        for unit, evaluated in result.sheet.units.items()
        for c in evaluated.result.circuits
        if c.loading == c.loading
    ]
    extractant = "extractants/pc88a"
    keys = [f"{extractant}:loading_highest_seen", f"{extractant}:loading_limit"]
    if not circuits or any(key not in result.used for key in keys):
        return None
    seen = result.used[keys[0]].si / result.used[keys[1]].si
    loaded = {f"{unit} {c.name}": c.loading for unit, c in circuits if c.loading > seen}
    return Loading(loaded=loaded, seen=seen, circuits=len(circuits)) if loaded else None
