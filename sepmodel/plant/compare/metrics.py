"""The columns of the comparison and the duties behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SLATE = "slate"
ALLOCATIONS = ("mass", "value", "duty")


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """A column of the comparison: what it is called, in which unit, whether routes are ranked."""

    label: str
    unit: str
    ranked: bool = False
    what: str = ""


# The order is the order of every table. All are per kg of separated oxide unless the unit says so.
METRICS: Mapping[str, Metric] = {
    "cost": Metric(
        label="cost",
        unit="USD2025/kg_REO",
        ranked=True,
        what="operating cost and annualised capital",
    ),
    "opex": Metric(label="operating cost", unit="USD2025/kg_REO", what="all but capital"),
    "capital": Metric(
        label="capital, annualised",
        unit="USD2025/kg_REO",
        what="annuity on the plant; interest on rare earths and fillings held",
    ),
    "investment": Metric(label="investment", unit="USD2025*year/kg_REO"),
    "carbon": Metric(
        label="CO2e", unit="kg/kg_REO", ranked=True, what="cradle of reagents to gate"
    ),
    "energy": Metric(
        label="energy on site", unit="kWh/kg_REO", ranked=True, what="electricity and heat"
    ),
    "power": Metric(label="electricity", unit="kWh/kg_REO"),
    "heat": Metric(label="heat", unit="MJ/kg_REO"),
    "acid": Metric(label="acid", unit="kg/kg_REO", what="as 100 % HCl"),
    "base": Metric(label="base", unit="kg/kg_REO", what="NaOH and its equivalents, as NaOH"),
    "precipitant": Metric(label="precipitant", unit="kg/kg_REO", what="oxalic acid, carbonates"),
    "salt": Metric(label="salt made", unit="kg/kg_REO", ranked=True),
    "water": Metric(label="water drawn", unit="L/kg_REO", what="beyond what comes back"),
    "effluent": Metric(label="spent liquor", unit="L/kg_REO", ranked=True, what="before treatment"),
    "ligand": Metric(label="ligand made up", unit="g/kg_REO"),
    "protein": Metric(label="protein made up", unit="g/kg_REO"),
    "solvent": Metric(label="solvent made up", unit="g/kg_REO"),
    "waste": Metric(label="solid waste", unit="kg/kg_REO"),
    "stages": Metric(
        label="extraction stages", unit="1", what="those that saponify and wash included"
    ),
    "columns": Metric(label="column volume", unit="L*day/kg_REO", what="per kg oxide a day"),
    "held": Metric(label="rare earths held", unit="day", what="in the separation, days of feed"),
    "people": Metric(label="people on shift", unit="1", what="operators and who supports them"),
    "polishing": Metric(label="polishing, share of cost", unit="percent"),
}
# What depends on the size of a train beside the rates: money, and who is paid.
MONEY = ("cost", "opex", "capital", "investment", "people", "polishing")
ACIDS = ("HCl",)
# Bases bought, their formula and the moles of hydroxide one mole stands for.
BASES = {"NaOH": ("NaOH", 1), "NH3": ("NH3", 1), "CaO": ("CaO", 2), "MgO": ("MgO", 2)}
PRECIPITANTS = ("oxalic_acid", "Na2CO3", "NH4HCO3")
LIGANDS = ("EDTA", "DTPA", "citric_acid", "malonic_acid")
SOLVENTS = ("extractant", "D2EHPA", "TBP", "kerosene")
