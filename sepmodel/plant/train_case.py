"""A train file: a feed, products, what is made least; and the plan it leads to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sepmodel import files
from sepmodel.data import Book, Constant, evidence
from sepmodel.extraction.design_flows import beyond_practice
from sepmodel.fields import (
    MOST_FLOW,
    Case,
    Flag,
    Number,
    Quantity,
    RareEarth,
    SetId,
    Table,
    refuse,
)
from sepmodel.plant import sequences, train
from sepmodel.plant.inputs import ProductTable
from sepmodel.plant.money import money_year
from sepmodel.result import Warned, amount
from sepmodel.species import oxide_mass_per_mole

Share = Annotated[float, Number("a share by mole", low=0, high=1e9)]


class Model(Table):
    """Separation factors, extractant and the practice of its circuits, as data sets."""

    separation_factors: SetId = train.FACTORS
    extractant: SetId = train.EXTRACTANT
    circuit: SetId = train.CIRCUIT


class Objective(Table):
    """What is made least, whether loaded organic may go on unstripped, how many are designed."""

    minimise: Literal["cost", "reagents", "inventory", "stages"] = "cost"
    links: Flag = True
    confirm: Annotated[int, Number("a count", low=1, high=64, whole=True)] = 3


class TrainCase(Case):
    """Several products from one feed: which cuts in which order."""

    kind: Literal["train"]
    rate: Annotated[float, Quantity("kg_REO/s", above=0, high=MOST_FLOW)]
    feed: dict[RareEarth, Share] = Field(min_length=2)
    model: Model = Model()
    objective: Objective = Objective()
    product: tuple[ProductTable, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> TrainCase:
        names = [p.name for p in self.product]
        if len(set(names)) < len(names):
            refuse("a product is named twice", value=", ".join(names))
        owned = [e for p in self.product for e in p.elements]
        twice = sorted({e for e in owned if owned.count(e) > 1})
        if twice:
            refuse("an element belongs to two products", value=", ".join(twice))
        if sum(1 for share in self.feed.values() if share > 0) < 2:
            refuse("a train parts at least two elements", "two shares above 0")
        windows = [p.name for p in self.product if p.window]
        if windows:
            refuse("ratios inside a product are not designed for", "no window", ", ".join(windows))
        return self

    @property
    def moles(self) -> dict[str, float]:
        """Molar flow of each rare earth [mol/s]."""
        mass = math.fsum(n * oxide_mass_per_mole(e) for e, n in self.feed.items())
        return {e: self.rate * n / mass for e, n in self.feed.items() if n > 0}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class TrainPlan:
    """The sequences of a train file, ranked, and the train of the best one."""

    name: str
    title: str
    ranking: sequences.Ranking
    base_per_metal: float
    warnings: tuple[Warned, ...] = ()
    used: Mapping[str, Constant] = field(default_factory=dict)
    inputs_hash: str = ""
    version: str = ""
    seconds: float = 0.0

    @property
    def train(self) -> train.Train:
        """The train of the best sequence, designed with real streams."""
        found = self.ranking.best.train
        assert found is not None
        return found

    def passes(self, figures: sequences.Figures) -> float:
        """Exchanges of each mole of feed, 1 for each time it is loaded and stripped."""
        return self.ranking.passes(figures, self.base_per_metal)

    def to_dict(self) -> dict[str, Any]:
        """The plan as one JSON object."""
        best = self.train
        document: dict[str, Any] = files.plain(
            {
                "schema": 1,
                "version": self.version,
                "kind": "train",
                "name": self.name,
                "status": "designed",
                "inputs_hash": self.inputs_hash,
                "objective": self.ranking.objective,
                "groups": list(self.ranking.groups),
                "sequences": [self._sequence(s) for s in self.ranking.sequences],
                "impossible": dict(self.ranking.impossible),
                "circuits": [_circuit(c) for c in best.circuits],
                "outlets": {
                    name: {e: amount(n, "mol/s") for e, n in moles.items()}
                    for name, moles in best.outlets.items()
                },
                "purity": dict(best.purity),
                "recovery": dict(best.recovery),
                "balance": {"components": dict(best.closure), "max": max(best.closure.values())},
                "warnings": [
                    *(dict(w) for w in best.warnings),
                    *(w.to_dict() for w in self.warnings),
                ],
                "sources": evidence(self.used),
            }
        )
        return document

    def _sequence(self, ranked: sequences.Ranked) -> dict[str, Any]:
        per = 1 / self.ranking.product_rate

        def told(figures: sequences.Figures) -> dict[str, Any]:
            return {
                "cost": amount(figures.cost, f"USD{money_year()}/kg_REO"),
                "acid": amount(figures.acid * per, "mol/kg_REO"),
                "base": amount(figures.base * per, "mol/kg_REO"),
                "stages": figures.stages,
                "inventory": amount(figures.inventory, "mol/s"),
                "passes": self.passes(figures),
            }

        return {
            "cuts": list(ranked.cuts),
            "linked": list(ranked.linked),
            "estimate": told(ranked.figures),
            "without_links": told(ranked.unlinked),
            "designed": None if ranked.reached is None else told(ranked.reached),
        }


def _circuit(circuit: train.TrainCircuit) -> dict[str, Any]:
    """A circuit of the best train."""
    design = circuit.design
    return {
        "cut": circuit.name,
        "feed_phase": design.feed_phase,
        "stages": {
            "extraction": design.stages_extraction,
            "scrub": design.stages_scrub,
            "strip": circuit.stages_strip,
        },
        "solvent": amount(design.solvent, "mol/s"),
        "scrub": amount(design.scrub, "mol/s"),
        "acid": amount(circuit.acid, "mol/s"),
        "base": amount(circuit.base, "mol/s"),
        "organic_flow": amount(circuit.flow_org, "m^3/h"),
        "raffinate_to": circuit.raffinate_to,
        "organic_to": circuit.organic_to,
        "minimum": dict(design.minimum),
    }


def solve(case: TrainCase, book: Book) -> TrainPlan:
    """Every sequence of a train file ranked, the best ones designed.

    Raises
    ------
    InputError, InfeasibleError
        as ``sequences.rank``.
    """
    ranking = sequences.rank(
        case.moles,
        [p.product for p in case.product],
        book,
        objective=case.objective.minimise,
        links=case.objective.links,
        confirm=case.objective.confirm,
        factor_set=case.model.separation_factors,
        extractant=case.model.extractant,
        circuit=case.model.circuit,
    )
    return TrainPlan(
        name=case.name,
        title=case.title,
        ranking=ranking,
        base_per_metal=book[f"{case.model.extractant}:base_per_metal"],
        warnings=tuple(beyond_practice({p.name: p.purity for p in case.product}, book)),
        used=book.used,
    )
