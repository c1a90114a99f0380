"""Spent liquors treated to the limit of the study."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sepmodel.data import Book
from sepmodel.plant import auxiliaries, equipment
from sepmodel.plant.flowsheet import (
    Context,
    UnitResult,
    free_acid,
    liquor,
    reagent_ions,
    reagent_mass,
)
from sepmodel.plant.inputs import Effluent
from sepmodel.plant.operations.common import add, less, moles_of, sizes
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass
from sepmodel.stream import Stream, mix

# Metals that leave the spent liquors as hydroxide, beside the rare earths.
FALLING_OUT = ("Fe", "Al", "Cu", "Co", "Ni", "Zn", "Mn")
# Ligands that hold metals against lime.
CHELATORS = ("EDTA", "DTPA")
# Formulas of dissolved species whose name is no formula.
SALT_FORMULAS = {
    "EDTA": "C10H12N2O8",
    "DTPA": "C14H18N3O10",
    "citrate": "C6H5O7",
    "malonate": "C3H2O4",
    "acetate": "C2H3O2",
    "B": "B(OH)3",
    "C2O4": "C2O4",
}
# What bacteria take out of a neutral liquor: moles of oxygen they use and of carbon per mole.
DIGESTED = {"acetate": (2, 2)}
# Moles of oxalate in the precipitate per mole of rare earth, RE2(C2O4)3: burnt on calcining.
OXALATE_PER_RARE_EARTH = 3 / 2


def effluent(
    inlets: Mapping[str, Stream], unit: Effluent, context: Context, book: Book
) -> UnitResult:
    """All spent liquors: neutralised, metals out, organic acids digested, then to the limit.

    Bacteria leave carbonate with the sodium of what they digest, and all its carbon is counted as
    dioxide. Under "zero-liquid" membranes first concentrate what is weaker than
    ``brine_strength``; the brine is evaporated, permeate and condensate go back into the plant.
    Outlets ``sludge`` and ``salt``.
    """
    stream = mix([inlets[port] for port in sorted(inlets)])

    def get(name: str) -> float:
        return book[f"{unit.set}:{name}"]

    acid = free_acid(stream) * get("reagent_excess")
    if acid < 0:
        neutral = {"HCl": reagent_mass("HCl", -acid)}
    elif context.effluent == "zero-liquid":
        # Calcium chloride does not crystallise to a dry salt: soda where the salt must.
        neutral = {"NaOH": reagent_mass("NaOH", acid)}
    else:
        neutral = {"CaO": reagent_mass("CaO", acid / CHARGES["Ca"])}
    entering = add(moles_of(stream), reagent_ions(neutral))
    gone = get("metals_removed")
    sludge = {
        n: m * gone for n, m in entering.items() if m > 0 and (n in RARE_EARTHS or n in FALLING_OUT)
    }
    dry = sum(m * molar_mass(f"{n}(OH)3") for n, m in sludge.items())
    # Lime takes oxalate out as CaC2O4.H2O.
    oxalate = min(entering.get("C2O4", 0.0), entering.get("Ca", 0.0)) * gone
    if oxalate > 0:
        sludge |= {"C2O4": oxalate, "Ca": oxalate}
        dry += oxalate * molar_mass("CaC2O5H2")
    digested = {n: entering[n] * get("organics_removed") for n in DIGESTED if n in entering}
    salt = less(less(entering, sludge), digested)
    dissolved = sum(m * ion_mass(n) for n, m in salt.items())
    duties = {}
    if digested:
        dissolved += 0.5 * math.fsum(digested.values()) * molar_mass("CO3")
        oxygen = math.fsum(m * DIGESTED[n][0] for n, m in digested.items()) * molar_mass("O2")
        dry += oxygen * get("biomass")
        carbon = math.fsum(m * DIGESTED[n][1] for n, m in digested.items())
        duties = {
            "power": oxygen * get("oxygen_energy"),
            "CO2": carbon * molar_mass("CO2"),
        }
    duties = add(duties, neutral, {"solid_waste": dry * (1 + get("sludge_moisture"))})
    if context.effluent == "zero-liquid":
        brine = min(stream.flow, dissolved / get("brine_strength"))
        permeate = stream.flow - brine
        treated = auxiliaries.effluent(brine, dissolved, book, limit=context.effluent)
        duties = add(
            duties,
            treated.duties,
            {"wastewater": stream.flow, "power": permeate * get("membrane_energy")},
        )
        back = permeate + treated.water
    else:
        treated = auxiliaries.effluent(stream.flow, dissolved, book, limit=context.effluent)
        duties, back = add(duties, treated.duties), 0.0
    vessels = equipment.tanks(stream.flow, book, name="effluent: tanks")
    return UnitResult(
        outlets={"sludge": liquor(sludge, 0.0, "solid"), "salt": liquor(salt, stream.flow)},
        duties=add(duties, {"power": vessels.power}),
        equipment=vessels.items,
        released=digested,
        sections={"solids-fluids": 1},
        facts={
            "spent liquor": (stream.flow, "m^3/day"),
            "dissolved salt": (dissolved, "t/day"),
            "water returned": (back, "m^3/day"),
        },
        warnings=(*_chelated(stream), *sizes(vessels)),
    )


def _chelated(stream: Stream) -> tuple[dict[str, str], ...]:
    """A warning where lost ligand holds metals that lime is taken to bring down."""
    ligand = math.fsum(stream[name] for name in CHELATORS)
    metals = math.fsum(stream[name] for name in (*FALLING_OUT, *RARE_EARTHS))
    if not min(ligand, metals) > 0:
        return ()
    return (
        {
            "code": "chelated-metal",
            "message": f"lost ligand ({ligand:.2g} mol/s) keeps up to as much of the "
            f"{metals:.2g} mol/s of metals dissolved in the salt; they are charged as fallen out",
        },
    )


def ion_mass(name: str) -> float:
    """Mass [kg/mol] of a dissolved species as it is weighed in a salt.

    >>> round(ion_mass("Cl") * 1000, 2)
    35.45
    """
    return molar_mass(SALT_FORMULAS.get(name, name))
