"""Product liquors to oxide, and the other rare earths to a concentrate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sepmodel.data import Book
from sepmodel.finishing import calcination, precipitation
from sepmodel.plant import equipment
from sepmodel.plant.flowsheet import (
    Context,
    UnitResult,
    free_acid,
    liquor,
    rare_earths,
    reagent_ions,
    reagent_mass,
)
from sepmodel.plant.inputs import ByProduct, Finishing
from sepmodel.plant.operations.common import add, less, moles_of, neutralisation, own_duties, sizes
from sepmodel.species import CHARGES, RARE_EARTHS, oxide_mass_per_mole
from sepmodel.stream import Stream, mix


def finishing(
    inlets: Mapping[str, Stream], unit: Finishing, context: Context, book: Book
) -> UnitResult:
    """Every product liquor, each on its own: precipitated, washed, calcined to oxide.

    Inlets and outlets are the products' ports; ``mother-liquor`` leaves to the effluent.
    """
    outlets: dict[str, Stream] = {}
    duties: dict[str, float] = {}
    released: dict[str, float] = {}
    spent: list[Stream] = []
    items: list[Any] = []
    plants: list[equipment.Sized] = []
    warnings: list[dict[str, str]] = []
    for name, stream in inlets.items():
        entering = moles_of(stream)
        done = calcination.to_oxide(entering, stream.flow, book, by=unit.method)
        own = own_duties(done.duties)
        product = {n: m for n, m in done.moles.items() if m > 0}
        gas = {}
        if unit.method == "oxalate":
            gas = {"C2O4": sum(CHARGES[n] * m for n, m in product.items()) / 2}
        rest = less(less(add(entering, reagent_ions(own)), product), gas)
        plant = equipment.precipitation_train(
            done.sizes["flow"],
            done.sizes["oxide"],
            done.sizes["heat"],
            book,
            name=f"{unit.id} {name}",
        )
        outlets[name] = liquor(product, 0.0, "solid")
        spent.append(liquor(rest, done.liquor_flow))
        items += plant.items
        plants.append(plant)
        duties = add(duties, own, {"power": plant.power})
        released = add(released, gas)
        warnings += [{"code": "finishing", "message": f, "where": name} for f in done.flags]
    outlets["mother-liquor"] = mix(spent)
    return UnitResult(
        outlets=outlets,
        duties=duties,
        equipment=tuple(items),
        # The products go through one hall, in turn or side by side.
        sections={"solids-fluids": 1},
        released=released,
        warnings=(*warnings, *sizes(*plants)),
    )


def by_product(
    inlets: Mapping[str, Stream], unit: ByProduct, context: Context, book: Book
) -> UnitResult:
    """The rare earths outside the slate as one wet concentrate.

    Several inlets are mixed. Outlets ``concentrate`` and ``spent``. Where every rare earth is in
    a product nothing is made and nothing stands here.
    """
    stream = mix([inlets[port] for port in sorted(inlets)])
    if not rare_earths(stream):
        return UnitResult(outlets={"concentrate": liquor({}, 0.0, "solid"), "spent": stream})
    method = precipitation.method(unit.method, book)
    name, moles = neutralisation(free_acid(stream))
    neutral = {name: reagent_mass(name, moles)}
    done = precipitation.precipitate(moles_of(stream), stream.flow, method)
    solid = {n: m for n, m in done.solid.items() if m > 0}
    duties = add(own_duties(done.duties), neutral)
    spent = less(add(moles_of(stream), reagent_ions(duties)), solid)
    oxide = sum(m * oxide_mass_per_mole(n) for n, m in solid.items() if n in RARE_EARTHS)
    plant = equipment.precipitation_train(stream.flow, oxide, 0.0, book, name=unit.id)
    return UnitResult(
        outlets={
            "concentrate": liquor(solid, 0.0, "solid"),
            "spent": liquor(spent, done.liquor_flow),
        },
        duties=add(duties, {"power": plant.power}),
        equipment=plant.items,
        sections={"solids-fluids": 1},
        facts={"oxide in the concentrate": (oxide, "t_REO/day")},
        warnings=sizes(plant),
    )
