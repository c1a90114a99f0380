"""What a case file of kind isotherm holds: a solvent, a feed, and the curves to draw of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sepmodel.fields import (
    PH,
    Case,
    Component,
    Concentration,
    Count,
    Flag,
    Fraction,
    Number,
    OpenFraction,
    Quantity,
    Ratio,
    SetId,
    Table,
    Text,
    refuse,
)

MOST_POINTS = 400
Amount = Annotated[float, Quantity("mol/m^3", above=0)]
Points = Annotated[int, Number("a number of points", low=2, high=MOST_POINTS, whole=True)]


class Model(Table):
    """The constants: one set, or two acids with the ``share`` of the first.

    ``separation_factors`` (a set of them) give the rare earths from the constant of ``level``;
    ``polymers`` lets chains form at high loading.
    """

    set: SetId
    second: SetId | None = None
    share: OpenFraction | None = None
    counter_ion: Literal["Na", "NH4", "Ca", "Mg"] | None = None
    separation_factors: SetId | None = None
    level: Component | None = None
    polymers: Flag = False


class Organic(Table):
    """The solvent: formal (monomer) concentration, mol counter-ion charge per mol extractant."""

    extractant: Amount
    saponification: Fraction = 0.0


class Feed(Table):
    """The liquor: metals by amount or by mass of the element, free acid, inert nitrate.

    ``sulfate`` in all goes with a correlation, whose ``acid`` is both protons of sulfuric acid.
    """

    composition: dict[Component, Text] = Field(min_length=1)
    acid: Concentration = 0.0
    salt: Concentration = 0.0
    sulfate: Concentration = 0.0


class Loading(Table):
    """Metal in the feed from ``low`` to ``high`` in all, at the shares of the feed."""

    low: Amount
    high: Amount
    points: Points = 40


class Acidity(Table):
    """Equilibrium pH from ``low`` to ``high``, set by acid or base added to the feed."""

    low: PH
    high: PH
    points: Points = 40


class Map(Table):
    """Separation factor of a pair over pH and over the metal in the feed."""

    heavy: Component
    light: Component
    pH_low: PH
    pH_high: PH
    low: Amount
    high: Amount
    points: Annotated[int, Number("a number of points", low=2, high=40, whole=True)] = 12


class Titration(Table):
    """Base against pH: from none to ``highest`` mol base per mol extractant, in ``salt`` water."""

    highest: Fraction
    salt: Amount
    points: Points = 40


class Stages(Table):
    """McCabe-Thiele steps of one metal from the feed to ``raffinate``."""

    metal: Component
    raffinate: Amount
    most: Count = 100


class IsothermCase(Case):
    """Curves of a solvent with a liquor; every table of a curve that is given is computed."""

    kind: Literal["isotherm"]
    components: tuple[Component, ...] = Field(min_length=1, max_length=24)
    model: Model
    organic: Organic
    feed: Feed
    phase_ratio: Ratio = 1.0
    loading: Loading | None = None
    acidity: Acidity | None = None
    map: Map | None = None
    titration: Titration | None = None
    stages: Stages | None = None

    @model_validator(mode="after")
    def _consistent(self) -> IsothermCase:
        model, components = self.model, ", ".join(self.components)
        if len(set(self.components)) < len(self.components):
            refuse("a component is named twice", "each once", components, "components")
        if model.counter_ion in self.components:
            expected = f"components without {model.counter_ion}"
            refuse(
                "the counter-ion is not listed among the components",
                expected,
                components,
                "components",
            )
        if (model.second is None) != (model.share is None):
            key = "model.share" if model.share is None else "model.second"
            refuse("a mixture of two acids names both", "model.second and model.share", key=key)
        if (model.separation_factors is None) != (model.level is None):
            key = "model.level" if model.level is None else "model.separation_factors"
            expected = "model.separation_factors and model.level"
            refuse("separation factors need a level", expected, key=key)
        if model.polymers and model.second is not None:
            refuse("polymers are known of one acid only", "false", True, "model.polymers")
        if (self.organic.saponification or self.titration) and model.counter_ion is None:
            refuse("soap needs its counter-ion", 'such as "Na"', key="model.counter_ion")
        named = [(f"feed.composition.{name}", name) for name in self.feed.composition]
        named += [(f"map.{end}", getattr(self.map, end)) for end in ("heavy", "light") if self.map]
        named += [("stages.metal", self.stages.metal)] if self.stages else []
        for key, name in named:
            if name not in self.components:
                expected = f"one of {components}"
                refuse("a component that the case does not have", expected, name, key)
        for table in ("loading", "acidity", "map"):
            curve = getattr(self, table)
            if curve is not None and not curve.low < curve.high:
                refuse("a curve goes from low to high", "low below high", curve.low, f"{table}.low")
        if self.map is not None and not self.map.pH_low < self.map.pH_high:
            given = self.map.pH_low
            refuse("a map goes from low to high", "pH_low below pH_high", given, "map.pH_low")
        curves = (self.loading, self.acidity, self.map, self.titration, self.stages)
        if not any(curves):
            refuse("no curve is asked for", "a table loading, acidity, map, titration or stages")
        return self
