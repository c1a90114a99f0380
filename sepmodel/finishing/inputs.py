"""Case-file tables of the finishing steps: how a liquor becomes oxide, and oxide metal."""

from __future__ import annotations

from typing import Annotated, Literal

from sepmodel.fields import Quantity, Table


class Oxide(Table):
    """Precipitation, washing and firing of one product."""

    by: Literal["oxalate", "carbonate", "bicarbonate", "hydroxide"] = "oxalate"
    neutraliser: Literal["CaO", "NaOH"] = "CaO"


class Metal(Table):
    """Electrolysis of one product; the temperature of the route's data set unless given."""

    route: Literal["oxide-fluoride", "oxide-inert-anode", "chloride"] = "oxide-fluoride"
    temperature: Annotated[float, Quantity("K", above=0)] | None = None
