"""What a route file and a study file hold.

A route is a list of units and the links between them; a study names a feed, a slate of products
and the routes to compare. Parameters of a unit that are choices of the engineer stand in the route
file; numbers of nature and prices stand in the data sets that the parameters name.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sepmodel import data, products
from sepmodel.fields import (
    MOST_FLOW,
    Case,
    Count,
    Flag,
    Name,
    NonNegative,
    Number,
    OpenFraction,
    Positive,
    Quantity,
    RareEarth,
    SetId,
    Table,
    Text,
    refuse,
)
from sepmodel.species import oxide


def _price_set(name: str) -> str:
    prices = [s.removeprefix("prices/") for s in data.set_ids() if s.startswith("prices/")]
    if name not in prices:
        refuse("no such price set", f"one of {', '.join(prices)}", name)
    return name


PriceSet = Annotated[SetId, AfterValidator(_price_set)]
End = Annotated[
    Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]*\.(\*|[A-Za-z0-9][A-Za-z0-9_+-]*)$")
]
Concentration = Annotated[float, Quantity("mol/m^3", above=0)]


class UnitTable(Table):
    """What every unit has."""

    id: Name
    notes: Text = ""


class IronRemoval(UnitTable):
    """Iron and aluminium precipitated as hydroxide by base after oxidation, filtered, washed."""

    type: Literal["iron-removal"]
    set: SetId = "process/iron-removal"


class Conditioning(UnitTable):
    """Dilution and neutralisation of a liquor to a concentration and acidity a step can take."""

    type: Literal["conditioning"]
    set: SetId = "process/conditioning"
    rare_earths: Concentration | None = None
    acid: Annotated[float, Quantity("mol/m^3")]


class Weighing(Table):
    """What a train is optimised for: see ``sepmodel.extraction.design.Weights``."""

    inventory: NonNegative
    solvent: NonNegative
    stages: NonNegative


class ExtractionTrain(UnitTable):
    """A train of extraction circuits, designed for the products it is given.

    ``model``: "mass-action" solves every circuit with its acid, base and soap, the constants by the
    log K of ``level`` in ``constants`` and the separation factors; "mass-flow" reckons 3 S.
    ``elements`` restricts it to the products made of them (a group split stands before it).
    ``downstream_loss`` is the share of each product reckoned lost after it, when the recovery it
    has to reach is set.
    """

    type: Literal["extraction-train"]
    model: Literal["mass-action", "mass-flow"] = "mass-action"
    factors: SetId = "separation_factors/pc88a-hcl"
    constants: SetId = "extractants/li1987-pc88a-ideal"
    level: RareEarth = "Nd"
    set: SetId = "process/extraction"
    elements: tuple[RareEarth, ...] = ()
    downstream_loss: Annotated[float, Number("a fraction", low=0, below=1)] = 0.0
    weights: Weighing
    cells: Literal["box", "industrial"] = "box"


class Group(Table):
    """One side of a group split: the elements that belong to it."""

    elements: tuple[RareEarth, ...] = Field(min_length=1)


class ProteinColumn(UnitTable):
    """Affinity columns that split the rare earths into a heavy and a light group.

    What the split has to reach follows from the products: those of the heavy group have to be
    eluted, those of the light group must not be lost, with ``loss_share`` of what they may still
    lose; ``downstream_loss`` is the share of each reckoned lost after the columns and their
    polishing. ``light_kept`` is the share of the light products that has to stay for the strip.
    ``buffer`` names what holds the pH of the load; with "none" the liquor is diluted.
    """

    type: Literal["protein-column"]
    protein: Name = "lanmodulin-mex"
    columns: Count
    buffer: Literal["acetate", "none"] = "acetate"
    light_kept: OpenFraction
    loss_share: OpenFraction = 0.5
    downstream_loss: Annotated[float, Number("a fraction", low=0, below=1)] = 0.0
    heavy: Group
    light: Group


class DisplacementTrain(UnitTable):
    """Ligand-assisted displacement columns with zone splitting, a ligand chosen for each pair."""

    type: Literal["displacement-train"]
    ligands: tuple[Name, ...] = ("edta", "dtpa")
    presaturant: Name = "Cu"
    downstream_loss: Annotated[float, Number("a fraction", low=0, below=1)] = 0.0


class Concentrating(UnitTable):
    """A dilute liquor precipitated and dissolved again in acid at feed strength.

    Before that, membranes take water out of it until it has 1 / ``membranes`` of its volume.
    """

    type: Literal["concentrating"]
    method: Literal["carbonate", "bicarbonate", "hydroxide"]
    membranes: Annotated[float, Number("a ratio of volumes, 1 or more", low=1)] = 1.0
    set: SetId = "process/concentrating"
    rare_earths: Concentration


class ByProduct(UnitTable):
    """Rare earths outside the slate precipitated together, so that none is thrown away."""

    type: Literal["by-product"]
    method: Literal["carbonate", "bicarbonate", "oxalate"] = "carbonate"


class Finishing(UnitTable):
    """Each product liquor precipitated, washed and calcined to oxide."""

    type: Literal["finishing"]
    method: Literal["oxalate", "carbonate", "bicarbonate"] = "oxalate"


class Effluent(UnitTable):
    """All spent liquors mixed, neutralised and treated to the study's effluent limit."""

    type: Literal["effluent"]
    set: SetId = "process/effluent"


UnitCase = Annotated[
    IronRemoval
    | Conditioning
    | ExtractionTrain
    | ProteinColumn
    | DisplacementTrain
    | Concentrating
    | ByProduct
    | Finishing
    | Effluent,
    Field(discriminator="type"),
]


class LinkTable(Table):
    """``from`` and ``to`` as unit.port; the star means the ports of all products."""

    source: End = Field(alias="from")
    target: End = Field(alias="to")


class Polish(Table):
    """Which units polish what the route's own separation cannot bring to specification."""

    units: tuple[Name, ...]
    why: Text


class Route(Case):
    """A route: units, links, and what of it polishes."""

    kind: Literal["route"]
    maturity: Literal["sx", "displacement", "protein"]
    level: Text
    unit: tuple[UnitCase, ...] = Field(min_length=1)
    link: tuple[LinkTable, ...] = Field(min_length=1)
    polish: Polish | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Route:
        ids = [u.id for u in self.unit]
        for name in ids:
            if ids.count(name) > 1 or name == "feed":
                refuse("a unit id is used twice, or is the reserved id feed", value=name)
        for link in self.link:
            for end, known in ((link.source, ["feed", *ids]), (link.target, ids)):
                if end.partition(".")[0] not in known:
                    refuse("a link to no unit", f"one of {', '.join(known)}", end)
            if link.source.startswith("feed.") and link.source != "feed.liquor":
                refuse("the feed has one port", "feed.liquor", link.source)
        for name in self.polish.units if self.polish else ():
            if name not in ids:
                refuse("no such unit", f"one of {', '.join(ids)}", name)
        return self


class ProductTable(Table):
    """One product of the slate, as in ``sepmodel.products.Product``.

    ``window`` bounds the mole ratio of two of its elements: ``{ "Nd:Pr" = [2.0, 6.0] }``.
    ``price`` names its price in the market's set; by default that of its oxide.
    """

    name: Name
    elements: tuple[RareEarth, ...] = Field(min_length=1)
    form: Literal["oxide"] = "oxide"
    purity: OpenFraction
    recovery: OpenFraction
    purity_basis: Literal["oxide-mass", "mole"] = "oxide-mass"
    window: dict[Text, tuple[Positive, Positive]] = Field(default_factory=dict)
    price: Text = ""

    @property
    def product(self) -> products.Product:
        """The specification the plant computes with."""
        return products.Product(
            name=self.name,
            elements=self.elements,
            purity=self.purity,
            recovery=self.recovery,
            purity_basis=self.purity_basis,
            form=self.form,
            window=self.window,
        )

    @property
    def price_name(self) -> str:
        """Name of the product's price in a price set."""
        if self.price:
            return self.price
        if len(self.elements) == 1:
            return oxide(self.elements[0])
        return f"{self.name}_oxide"


class Study(Case):
    """One feed, one slate, several routes, one set of prices, grid and effluent limit.

    ``train`` is the size of one train of equipment: the plant has rate / train of them, so that
    per-kilogram figures do not depend on the rate. ``confidence`` says how far the feed itself can
    be trusted.
    """

    kind: Literal["study"]
    feed: Name
    rate: Annotated[float, Quantity("kg_REO/s", above=0, high=MOST_FLOW)]
    train: Annotated[float, Quantity("kg_REO/s", above=0, high=MOST_FLOW)] | None = None
    market: PriceSet = "ex-china-2025"
    reagents: PriceSet = "reagents-us-2025"
    grid: Name = "US"
    effluent: Literal["discharge", "zero-liquid"] = "zero-liquid"
    routes: tuple[Name, ...] = Field(min_length=1)
    functional_unit: Literal["separated-oxide"] = "separated-oxide"
    confidence: Literal["usual", "low"] = "usual"
    see_also: tuple[Name, ...] = ()
    product: tuple[ProductTable, ...] = Field(min_length=1)
    by_products_count: Flag = False

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        names = [p.name for p in self.product]
        if len(set(names)) < len(names):
            refuse("a product is named twice", value=", ".join(names))
        elements = [e for p in self.product for e in p.elements]
        for element in elements:
            if elements.count(element) > 1:
                refuse("an element belongs to two products", value=element)
        for product in self.product:
            for pair, (low, high) in product.window.items():
                if set(pair.split(":")) - set(product.elements) or not low < high:
                    refuse(
                        "a window is two elements of the product and a low and a high ratio",
                        '{ "Nd:Pr" = [2.0, 6.0] }',
                        f"{pair} = [{low}, {high}]",
                    )
        if len(set(self.routes)) < len(self.routes):
            refuse("a route is named twice", value=", ".join(self.routes))
        if self.train is not None and self.train > self.rate:
            refuse(
                "one train of equipment is larger than the plant",
                "a train of at most the rate, or none",
                "train above rate",
            )
        return self

    @property
    def train_size(self) -> float:
        """Oxide in the feed of one train [kg_REO/s]."""
        return self.train if self.train is not None else self.rate
