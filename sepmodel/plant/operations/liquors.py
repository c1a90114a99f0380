"""Liquors made ready for a separation: iron out, acid and strength set."""

from __future__ import annotations

from collections.abc import Mapping

from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.finishing import precipitation
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
from sepmodel.plant.inputs import Concentrating, Conditioning, IronRemoval
from sepmodel.plant.operations.common import (
    add,
    less,
    moles_of,
    neutralisation,
    own_duties,
    single_inlet,
    sizes,
)
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass, oxide_mass_per_mole
from sepmodel.stream import Stream

HYDROLYSED = ("Fe", "Al")


def iron_removal(
    inlets: Mapping[str, Stream], unit: IronRemoval, context: Context, book: Book
) -> UnitResult:
    """Iron and aluminium as hydroxides: base by charge balance, peroxide for ferrous iron.

    Rare earths that stay in the cake are in proportion to it. Outlets ``filtrate`` (neutral) and
    ``cake``.
    """
    stream = single_inlet(inlets, "iron-removal")

    def get(name: str) -> float:
        return book[f"{unit.set}:{name}"]

    entering = moles_of(stream)
    cake = {n: m * get("removed") for n, m in entering.items() if n in HYDROLYSED}
    ratio = sum(cake.values()) / sum(rare_earths(stream).values())
    lost = min(get("rare_earth_loss") * ratio / get("loss_stated_at"), 1.0)
    known = book.used[f"{unit.set}:rare_earth_loss"].si_range[1]
    cake |= {n: m * lost for n, m in entering.items() if n in RARE_EARTHS}
    remaining = less(entering, cake)
    # Charge the precipitated cations leave behind, and the acid that came with the liquor.
    base = free_acid(liquor(remaining, stream.flow)) * get("base_excess")
    oxidant = 0.5 * stream["Fe"] * get("ferrous_share") * get("oxidant_excess")
    if base < 0:
        raise InputError(
            Problem(
                message="the leach liquor is alkaline: its anions do not carry its cations",
                value=base,
                expected="a liquor with at least as much anion as cation charge",
            )
        )
    dry = sum(m * molar_mass(f"{n}(OH)3") for n, m in cake.items())
    washing = get("wash_water") * dry
    moisture = get("cake_moisture") * dry
    flow = stream.flow + washing
    duties = {
        "NaOH": reagent_mass("NaOH", base),
        "H2O2": oxidant * molar_mass("H2O2"),
        "water": washing,
        "heat": stream.flow * get("heating") * get("heat_capacity"),
        "solid_waste": dry + moisture,
    }
    filtrate = add(remaining, {"Na": base})
    plant = equipment.precipitation_train(flow, dry, 0.0, book, name="iron removal")
    vessels = equipment.tanks(stream.flow, book, time=get("residence"), name="iron removal: tanks")
    return UnitResult(
        outlets={"filtrate": liquor(filtrate, flow), "cake": liquor(cake, 0.0, "solid")},
        duties=add(duties, {"power": plant.power + vessels.power}),
        equipment=(*vessels.items, *plant.items),
        sections={"solids-fluids": 1},
        facts={"iron cake": (dry + moisture, "t/day"), "iron left": (filtrate["Fe"], "mol/s")},
        warnings=(*_much_cake(lost, known, ratio), *sizes(plant, vessels)),
    )


def _much_cake(lost: float, known: float, ratio: float) -> tuple[dict[str, str], ...]:
    """A warning where the cake holds more rare earth than anything its loss was estimated for."""
    if lost <= known:
        return ()
    message = (
        f"{ratio:.2g} mol of iron and aluminium fall out per mol of rare earth, and by proportion "
        f"{100 * lost:.2g} % of the rare earths with them; the estimate was made for up to "
        f"{100 * known:.2g} %"
    )
    return ({"code": "much-cake", "message": message},)


def conditioning(
    inlets: Mapping[str, Stream], unit: Conditioning, context: Context, book: Book
) -> UnitResult:
    """Neutralise to a free acid [mol/m3] and dilute to a rare-earth concentration [mol/m3].

    Outlet ``liquor``. A liquor weaker than asked for is left as it is: nothing is evaporated.
    """
    stream = single_inlet(inlets, "conditioning")
    total = sum(rare_earths(stream).values())
    flow = stream.flow
    if unit.rare_earths is not None:
        flow = max(flow, total / unit.rare_earths)
    name, moles = neutralisation(free_acid(stream) - unit.acid * flow)
    moles *= book[f"{unit.set}:reagent_excess"]
    duties = {name: reagent_mass(name, moles), "water": flow - stream.flow}
    vessels = equipment.tanks(flow, book, time=book[f"{unit.set}:residence"], name=unit.id)
    return UnitResult(
        outlets={"liquor": liquor(add(moles_of(stream), reagent_ions(duties)), flow)},
        duties=add(duties, {"power": vessels.power}),
        equipment=vessels.items,
        sections={"fluids": 1},
        warnings=sizes(vessels),
    )


def concentrating(
    inlets: Mapping[str, Stream], unit: Concentrating, context: Context, book: Book
) -> UnitResult:
    """Precipitate a dilute eluate and dissolve it at feed strength.

    Base for the eluate's acid, water out through membranes (it goes back into the plant: charged as
    treated water, with its power, as the effluent's would be), precipitation by
    ``finishing.precipitation``, 3 mol acid per mol of rare earth with its excess. Outlets
    ``liquor`` and ``spent``.
    """
    stream = single_inlet(inlets, "concentrating")

    def get(name: str) -> float:
        return book[f"{unit.set}:{name}"]

    reagent, moles = neutralisation(free_acid(stream))
    neutral = {reagent: reagent_mass(reagent, moles * get("base_excess"))}
    entering = stream.flow / unit.membranes
    permeate = stream.flow - entering
    through = {"wastewater": permeate, "power": permeate * get("membrane_energy")}
    done = precipitation.precipitate(
        moles_of(stream), entering, precipitation.method(unit.method, book)
    )
    solid = {n: m for n, m in done.solid.items() if m > 0}
    first = add(neutral, own_duties(done.duties))
    kept = sum(m for n, m in solid.items() if n in RARE_EARTHS)
    if not kept > 0:
        there = sum(rare_earths(stream).values()) / entering
        raise InfeasibleError(
            f"{unit.id}: nothing precipitates from so dilute an eluate",
            limit={"rare earths": there},
            nearest={"rare earths": book[f"solids/precipitation:{unit.method}.residual"]},
        )
    acid = sum(CHARGES[n] * m for n, m in solid.items()) * get("acid_excess")
    second = {"HCl": reagent_mass("HCl", acid)}
    flow = kept / unit.rare_earths
    spent = less(add(moles_of(stream), reagent_ions(first)), solid)
    oxide = sum(m * oxide_mass_per_mole(n) for n, m in solid.items() if n in RARE_EARTHS)
    plant = equipment.precipitation_train(entering, oxide, 0.0, book, name=unit.id)
    vessels = equipment.tanks(stream.flow, book, time=get("residence"), name=f"{unit.id}: tanks")
    return UnitResult(
        outlets={
            "liquor": liquor(add(solid, reagent_ions(second)), flow),
            "spent": liquor(spent, done.liquor_flow),
        },
        duties=add(
            first,
            second,
            {"water": flow, "power": plant.power + vessels.power},
            through if permeate > 0 else {},
        ),
        equipment=(*vessels.items, *plant.items),
        sections={"solids-fluids": 1},
        facts={
            "eluate": (sum(rare_earths(stream).values()) / stream.flow, "mol/m^3"),
            **({"water returned": (permeate, "m^3/day")} if permeate > 0 else {}),
        },
        warnings=sizes(plant, vessels),
    )
