"""What a design file holds: a feed, products with their specifications, an extractant."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sepmodel.extraction.inputs import MOST_STAGES, Member
from sepmodel.fields import (
    PH,
    Case,
    Concentration,
    Count,
    Flow,
    Name,
    Number,
    OpenFraction,
    Positive,
    Quantity,
    Real,
    SetId,
    Table,
    Text,
    refuse,
)
from sepmodel.species import OXIDES

# Outlets of one circuit.
MOST_PRODUCTS = 3

Share = Annotated[float, Number("a share by mole", low=0, high=1e9)]
Part = Annotated[float, Number("a largest share of the product", above=0, below=1)]
Accuracy = Annotated[float, Number("a relative accuracy, such as 0.01", low=0, high=0.5)]
Efficiency = Annotated[float, Number("a stage efficiency", above=0, high=1)]
Excess = Annotated[float, Number("a number of at least 1", low=1)]
Acid = Annotated[float, Quantity("mol/m^3", above=0)]
Objectives = Literal["inventory", "reagents", "stages", "lock-up", "operating-cost"]


class Model(Table):
    """How elements part, and which model has the last word.

    ``mass-flow``: separation factors alone, from the set ``separation_factors`` or the pairs of
    ``factors``. ``mass-action``: the same factors, the level from log K of the element ``level`` in
    ``set``, pH and saponification with the ``counter_ion``; every circuit is confirmed by it.
    """

    equilibrium: Literal["mass-flow", "mass-action"] = "mass-flow"
    separation_factors: SetId | None = None
    factors: dict[Text, Positive] | None = None
    set: SetId = "extractants/li1987-pc88a-ideal"
    level: Member = "Nd"
    log_k: dict[Member, Real] = Field(default_factory=dict)
    counter_ion: Literal["Na", "NH4"] = "Na"
    soap: SetId = "extractants/soap"

    @model_validator(mode="after")
    def _one_kind_of_factors(self) -> Model:
        if (self.separation_factors is None) == (self.factors is None):
            refuse("separation factors from a set or as pairs", "one of the two")
        if self.factors is not None and self.equilibrium == "mass-action":
            refuse(
                "separation factors of the mass-action model come from a set",
                "model.separation_factors",
                "model.factors",
            )
        return self


class Feed(Table):
    """The liquor to be parted: shares by mole, rare earth in all, flow, free acid."""

    composition: dict[Member, Share] = Field(min_length=2)
    phase: Literal["aqueous", "organic"] = "aqueous"
    flow: Flow | None = None
    concentration: Acid | None = None
    acid: Concentration = 0.0


class Product(Table):
    """What one outlet must be; ``purity`` counts ``elements`` together, ``limits`` single others.

    The lightest product leaves with the raffinate, the heaviest with the organic; a third between
    them is drawn from the stages in ``phase``.
    """

    name: Name
    elements: tuple[Member, ...] = Field(min_length=1)
    purity: OpenFraction | None = None
    recovery: OpenFraction | None = None
    limits: dict[Member, Part] = Field(default_factory=dict)
    phase: Literal["aqueous", "organic"] = "aqueous"


class Objective(Table):
    """What is made least, among the circuits that meet everything."""

    minimise: Objectives = "inventory"


class Circuit(Table):
    """What is fixed beforehand; flows are rare-earth flows per mole of feed."""

    solvent: Positive | None = None
    efficiency: Efficiency = 1.0
    most_stages: Annotated[int, Number("a count", low=1, high=MOST_STAGES, whole=True)] = (
        MOST_STAGES
    )


class Organic(Table):
    """The solvent; what is not given is taken from ``extractant_set``."""

    extractant_set: SetId = "extractants/pc88a"
    extractant: Acid | None = None
    saponification: OpenFraction | None = None


class Scrub(Table):
    """Hydrochloric acid that scrubs, and its strength."""

    acid: Acid | None = None


class Strip(Table):
    """Hydrochloric acid that strips, in so many stages, with so much more than is exchanged."""

    acid: Acid | None = None
    stages: Count | None = None
    excess: Excess | None = None


class Limits(Table):
    """What no design may leave; what is not given is reported against the data sets' limits.

    ``phase_ratio_low`` and ``phase_ratio_high``: organic to aqueous flow of the extraction and
    scrub sections. ``strip_liquor``: rare earth in the strip liquor. ``pH_low`` and ``pH_high``
    hold in every stage (mass-action model).
    """

    phase_ratio_low: Positive | None = None
    phase_ratio_high: Positive | None = None
    strip_liquor: Acid | None = None
    pH_low: PH | None = None
    pH_high: PH | None = None


class Accuracies(Table):
    """How well a plant holds its flows and knows its feed: relative standard deviations.

    ``solvent``: of the organic flow, scrub following it. ``split``: of what leaves with the
    organic, after correction by assays. ``feed``: of each element's concentration.
    """

    solvent: Accuracy = 0.01
    split: Accuracy = 0.001
    feed: Accuracy = 0.01


class Robust(Table):
    """Stages are added until the specification is met with this probability."""

    probability: OpenFraction
    samples: Annotated[int, Number("a count", low=64, high=65536, whole=True)] = 1024
    factors: Literal["range", "fixed"] = "fixed"


class DesignCase(Case):
    """From product specifications to a circuit."""

    kind: Literal["design"]
    purity_basis: Literal["oxide-mass", "mole"] = "oxide-mass"
    model: Model
    feed: Feed
    product: tuple[Product, ...] = Field(min_length=1, max_length=MOST_PRODUCTS)
    objective: Objective = Objective()
    circuit: Circuit = Circuit()
    organic: Organic = Organic()
    scrub: Scrub = Scrub()
    strip: Strip = Strip()
    limits: Limits = Limits()
    accuracy: Accuracies = Accuracies()
    robust: Robust | None = None

    @property
    def components(self) -> tuple[str, ...]:
        """Elements that are fed, as the file lists them."""
        return tuple(name for name, share in self.feed.composition.items() if share > 0)

    @model_validator(mode="after")
    def _consistent(self) -> DesignCase:
        fed = self.components
        if len(fed) < 2:
            expected = "two elements at least with a share above 0"
            refuse("nothing is to be parted", expected, ", ".join(fed), "feed.composition")
        owner: dict[str, str] = {}
        names = [product.name for product in self.product]
        if len(set(names)) < len(names):
            refuse("a product is named twice", "names of their own", ", ".join(names), "product")
        for product in self.product:
            key = f"product.{product.name}"
            for element in product.elements:
                if element not in fed:
                    refuse(
                        f"{element} is not fed",
                        f"elements of the feed: {', '.join(fed)}",
                        element,
                        f"{key}.elements",
                    )
                if element in owner:
                    refuse(
                        f"{owner[element]} and {product.name} both ask for {element}",
                        "each element in one product",
                        element,
                        f"{key}.elements",
                    )
                owner[element] = product.name
            for element in product.limits:
                if element not in fed or element in product.elements:
                    refuse(
                        "a limit of what is not an impurity here",
                        "other elements of the feed",
                        element,
                        f"{key}.limits.{element}",
                    )
            if product.purity is None and product.recovery is None and not product.limits:
                refuse(
                    "nothing is specified",
                    "a purity, a recovery or limits",
                    key=key,
                )
        if len(self.product) == 1:
            alone = self.product[0]
            if len(owner) == len(fed):
                refuse(
                    "one product takes all elements: there is nothing to part",
                    "some of them",
                    ", ".join(alone.elements),
                    f"product.{alone.name}.elements",
                )
            if alone.recovery is None or (alone.purity is None and not alone.limits):
                refuse(
                    "one product alone leaves the other outlet open",
                    "a purity or limits, and a recovery",
                    key=f"product.{alone.name}",
                )
        if self.purity_basis == "oxide-mass" or self.model.equilibrium == "mass-action":
            bare = [name for name in fed if name not in OXIDES]
            if bare:
                refuse(
                    f"no oxide mass is known for {', '.join(bare)}",
                    "mole, and the mass-flow model",
                    self.purity_basis,
                    "purity_basis",
                )
        if self.model.equilibrium == "mass-action":
            if self.feed.phase == "organic":
                given = self.feed.phase
                refuse("a mass-action design takes an aqueous feed", "aqueous", given, "feed.phase")
            if len(self.product) == MOST_PRODUCTS:
                refuse(
                    "three outlets are designed by separation factors",
                    "mass-flow",
                    self.model.equilibrium,
                    "model.equilibrium",
                )
        return self
