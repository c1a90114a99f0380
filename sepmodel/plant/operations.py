"""The unit operations a route is made of: plain functions from inlets to outlets and duties.

Each takes the inlet streams by port, the parameters of its table in the route file, the context of
the plant and a book of constants, and returns a ``UnitResult``. Every reagent enters through
``duties`` and is found again, ion by ion, in an outlet: the plant's closure checks it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sepmodel import units
from sepmodel.chromatography import affinity, displacement
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.extraction.design import Weights
from sepmodel.finishing import calcination, precipitation
from sepmodel.plant import auxiliaries, equipment
from sepmodel.plant import train as trains
from sepmodel.plant.flowsheet import (
    CLOSURE_LIMIT,
    Context,
    Operation,
    UnitResult,
    free_acid,
    liquor,
    rare_earths,
    reagent_ions,
    reagent_mass,
)
from sepmodel.plant.inputs import (
    ByProduct,
    Concentrating,
    Conditioning,
    DisplacementTrain,
    Effluent,
    ExtractionTrain,
    Finishing,
    IronRemoval,
    ProteinColumn,
)
from sepmodel.products import Product, amounts
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass, oxide_mass_per_mole
from sepmodel.stream import Stream, mix

HYDROLYSED = ("Fe", "Al")
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
    "B": "B(OH)3",
    "C2O4": "C2O4",
}
# Moles of oxalate in the precipitate per mole of rare earth, RE2(C2O4)3: burnt on calcining.
OXALATE_PER_RARE_EARTH = 3 / 2
# The standard state behind pH [mol/m3].
C_STANDARD = 1e3
# Free acid [mol/m3] of pH 7: the least a pH is reckoned from.
NEUTRAL_ACID = 1e-4
# What the displacement design calls a reagent, in the words of the price and emission sets.
DISPLACING = "resins/displacement-operation"
DISPLACEMENT_KEYS = {"H4EDTA": "EDTA", "H5DTPA": "DTPA"}
# A separation is never asked for more than this recovery: beyond it lies nothing but stages.
HIGHEST_RECOVERY = 1 - 1e-3
# Recoveries and compositions are asked for in steps, so that rounding asks for no new design.
STEP = 1e-9
DIGITS = 10


def single_inlet(inlets: Mapping[str, Stream], unit: str) -> Stream:
    """The one stream of a unit with one inlet."""
    if len(inlets) != 1:
        raise InputError(
            Problem(message=f"{unit} takes one inlet", key="link", value=sorted(inlets))
        )
    return next(iter(inlets.values()))


def moles_of(stream: Stream) -> dict[str, float]:
    """Molar flows [mol/s] of a stream by name."""
    return {n: float(m) for n, m in zip(stream.names, stream.moles, strict=True)}


def add(*parts: Mapping[str, float]) -> dict[str, float]:
    """The sum of molar flows or duties.

    >>> add({"Na": 1.0}, {"Na": 2.0, "Cl": 1.0})
    {'Na': 3.0, 'Cl': 1.0}
    """
    total: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def less(whole: Mapping[str, float], part: Mapping[str, float]) -> dict[str, float]:
    """``whole`` without ``part``."""
    return {name: amount - part.get(name, 0.0) for name, amount in whole.items()}


def neutralisation(acid: float) -> tuple[str, float]:
    """Reagent and moles that bring free acid [mol/s] to zero: base for acid, acid for alkali.

    >>> neutralisation(-2.0)
    ('HCl', 2.0)
    """
    return ("NaOH", acid) if acid >= 0 else ("HCl", -acid)


# Cost accounts are stated in American units; sizes are told in metric ones.
_METRIC = {
    "gallon": "m^3",
    "ft^3": "m^3",
    "ft^2": "m^2",
    "gallon/min": "m^3/hour",
    "ft^3/min": "m^3/hour",
    "horsepower": "kW",
    "MBTU/hour": "kW",
}


def sizes(*sized: equipment.Sized) -> tuple[dict[str, str], ...]:
    """One warning for all equipment of a unit whose cost is taken beyond its correlation."""
    outside = [
        f"{item.name} ({units.show(item.size, _METRIC.get(item.unit, item.unit), 2)})"
        for part in sized
        for item in part.items
        if item.extrapolated
    ]
    if not outside:
        return ()
    message = f"cost taken from beyond the sizes of its correlation: {', '.join(outside)}"
    return ({"code": "equipment-size", "message": message},)


def iron_removal(
    inlets: Mapping[str, Stream], unit: IronRemoval, context: Context, book: Book
) -> UnitResult:
    """Iron and aluminium as hydroxides: base by charge balance, peroxide for ferrous iron.

    Outlets ``filtrate`` (neutral) and ``cake``.
    """
    stream = single_inlet(inlets, "iron-removal")

    def get(name: str) -> float:
        return book[f"{unit.set}:{name}"]

    removed, lost = get("removed"), get("rare_earth_loss")
    entering = moles_of(stream)
    cake = {n: m * removed for n, m in entering.items() if n in HYDROLYSED}
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
        facts={"iron cake": (dry + moisture, "t/day"), "iron left": (filtrate["Fe"], "mol/s")},
        warnings=sizes(plant, vessels),
    )


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
        warnings=sizes(vessels),
    )


def concentrating(
    inlets: Mapping[str, Stream], unit: Concentrating, context: Context, book: Book
) -> UnitResult:
    """Precipitate a dilute eluate and dissolve it at feed strength.

    Base for the eluate's acid, precipitation by ``finishing.precipitation``, 3 mol acid per mol of
    rare earth with its excess. Outlets ``liquor`` and ``spent``.
    """
    stream = single_inlet(inlets, "concentrating")

    def get(name: str) -> float:
        return book[f"{unit.set}:{name}"]

    reagent, moles = neutralisation(free_acid(stream))
    neutral = {reagent: reagent_mass(reagent, moles * get("base_excess"))}
    done = precipitation.precipitate(
        moles_of(stream), stream.flow, precipitation.method(unit.method, book)
    )
    solid = {n: m for n, m in done.solid.items() if m > 0}
    first = add(neutral, _own_duties(done.duties))
    kept = sum(m for n, m in solid.items() if n in RARE_EARTHS)
    acid = sum(CHARGES[n] * m for n, m in solid.items()) * get("acid_excess")
    second = {"HCl": reagent_mass("HCl", acid)}
    flow = kept / unit.rare_earths
    spent = less(add(moles_of(stream), reagent_ions(first)), solid)
    oxide = sum(m * oxide_mass_per_mole(n) for n, m in solid.items() if n in RARE_EARTHS)
    plant = equipment.precipitation_train(stream.flow, oxide, 0.0, book, name=unit.id)
    vessels = equipment.tanks(stream.flow, book, time=get("residence"), name=f"{unit.id}: tanks")
    return UnitResult(
        outlets={
            "liquor": liquor(add(solid, reagent_ions(second)), flow),
            "spent": liquor(spent, done.liquor_flow),
        },
        duties=add(first, second, {"water": flow, "power": plant.power + vessels.power}),
        equipment=(*vessels.items, *plant.items),
        facts={"eluate": (sum(rare_earths(stream).values()) / stream.flow, "mol/m^3")},
        warnings=sizes(plant, vessels),
    )


def sought(
    context: Context, elements: Sequence[str], arriving: Mapping[str, float], later: float
) -> tuple[Product, ...]:
    """The products a separation is designed for, with the recovery that is left for it to reach.

    What is lost before (seen in ``arriving``, mol/s) and after it (``later``, a share) tightens
    the recovery: R = R_spec / (arrived share x (1 - later)), at most 0.999.
    """
    found = []
    for product in context.products:
        if elements and not set(product.elements) <= set(elements):
            continue
        fed, here = (
            sum(
                amounts({e: m.get(e, 0.0) for e in product.elements}, product.purity_basis).values()
            )
            for m in (context.feed, arriving)
        )
        needed = product.recovery / (here / fed * (1 - later)) if here > 0 else HIGHEST_RECOVERY
        found.append(
            Product(
                name=product.name,
                elements=product.elements,
                purity=product.purity,
                recovery=min(math.ceil(needed / STEP) * STEP, HIGHEST_RECOVERY),
                purity_basis=product.purity_basis,
                form=product.form,
                window=product.window,
            )
        )
    if not found:
        raise InputError(
            Problem(
                message="no product of the study is made of these elements",
                key="elements",
                value=list(elements),
            )
        )
    return tuple(found)


def extraction_train(
    inlets: Mapping[str, Stream], unit: ExtractionTrain, context: Context, book: Book
) -> UnitResult:
    """A train of extraction circuits, itself optimised, from the design of ``plant.train``.

    Acid and base are 3 S of each circuit times their excess; solvent is lost with every aqueous
    outlet. Outlets: one per product, ``lighter`` (rare earths before the first product),
    ``by-products`` (the other rare earths) and ``raffinate`` (the salt the pass made, with what of
    the rare earths is lost in handling). Separation
    duty: each circuit's S shared by what crosses it.
    """
    stream = mix([inlets[port] for port in sorted(inlets)])
    kept = 1 - book[f"{unit.set}:handling_loss"]
    feed = _scaled(rare_earths(stream), kept)
    products = sought(context, unit.elements, feed, unit.downstream_loss)
    fed_in_all = sum(feed.values())
    weights = Weights(
        inventory=unit.weights.inventory,
        solvent=unit.weights.solvent,
        stages=unit.weights.stages,
    )
    train: trains.Train = context.memo(
        ("train", _composition(feed), _asked(products), unit.factors, weights, context.exact),
        book,
        lambda own: trains.design_train(
            dict(_composition(feed)),
            products,
            own,
            factor_set=unit.factors,
            weights=weights,
            exact=context.exact,
        ),
    )
    train = _scaled_train(train, fed_in_all)
    names = [p.name for p in products]
    first = next(k for k, name in enumerate(train.outlets) if name in names)
    place = {
        outlet: outlet if outlet in names else ("lighter" if k < first else "by-products")
        for k, outlet in enumerate(train.outlets)
    }
    pools: dict[str, dict[str, float]] = {n: {} for n in (*names, "lighter", "by-products")}
    for outlet, moles in train.outlets.items():
        pools[place[outlet]] = add(pools[place[outlet]], moles)
    reagents = {
        "HCl": reagent_mass("HCl", train.acid * book[f"{unit.set}:acid_excess"]),
        "NaOH": reagent_mass("NaOH", train.base * book[f"{unit.set}:base_excess"]),
    }
    water = sum(c.flow_scrub + c.flow_strip for c in train.circuits)
    fed, flows = _train_flows(train, stream.flow)
    volumes = dict.fromkeys(pools, 0.0)
    for outlet, flow in flows.items():
        volumes[place[outlet]] += flow
    cells = [
        equipment.mixer_settlers(
            c.stages,
            fed[c.name] + c.flow_scrub,
            c.flow_org,
            book,
            cell_class=unit.cells,
            name=f"{unit.id} {c.name}",
        )
        for c in train.circuits
    ]
    area = sum(cell.settler_area for cell in cells)
    organic = sum(cell.organic_volume for cell in cells)
    makeup = auxiliaries.organic_makeup(stream.flow + water, area, book)
    held = sum(_held(cell, c, fed[c.name]) for cell, c in zip(cells, train.circuits, strict=True))
    return UnitResult(
        outlets=_pooled(stream, pools, reagents, water, volumes, "raffinate"),
        duties=add(reagents, makeup, {"water": water, "power": sum(c.power for c in cells)}),
        equipment=(
            *(item for cell in cells for item in cell.items),
            *equipment.solvent_fill(organic, book),
        ),
        facts={
            "stages": (float(train.stages), "1"),
            "circuits": (float(len(train.circuits)), "1"),
            "organic flux over feed": (train.solvent / fed_in_all, "1"),
            "solvent in the cells": (organic, "m^3"),
            "rare earths held": (held, "mol"),
            **{
                f"{c.name} extraction + scrub + strip stages": (float(c.stages), "1")
                for c in train.circuits
            },
        },
        shares=_duty_shares(train, names),
        warnings=(
            *train.warnings,
            *sizes(*cells),
        ),
    )


def _composition(feed: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """Mole shares of a feed, in a fixed order: designs are made per mole and scaled."""
    total = sum(feed.values())
    return tuple((n, float(f"{m / total:.{DIGITS}g}")) for n, m in sorted(feed.items()))


def _asked(products: Sequence[Product]) -> tuple[Any, ...]:
    """Specifications as something that can be looked up."""
    return tuple(
        (p.name, p.elements, p.purity, p.recovery, p.purity_basis, *sorted(p.window.items()))
        for p in products
    )


def _scaled(moles: Mapping[str, float], factor: float) -> dict[str, float]:
    return {n: m * factor for n, m in moles.items()}


def _scaled_train(train: trains.Train, factor: float) -> trains.Train:
    """The same train for ``factor`` times its feed: every flow is proportional to it."""
    return replace(
        train,
        feed=_scaled(train.feed, factor),
        outlets={name: _scaled(moles, factor) for name, moles in train.outlets.items()},
        circuits=tuple(
            replace(
                c,
                design=replace(
                    c.design,
                    solvent=c.design.solvent * factor,
                    scrub=c.design.scrub * factor,
                    feed=_scaled(c.design.feed, factor),
                    raffinate=_scaled(c.design.raffinate, factor),
                    organic=_scaled(c.design.organic, factor),
                ),
                acid=c.acid * factor,
                base=c.base * factor,
                flow_org=c.flow_org * factor,
                flow_feed=c.flow_feed * factor,
                flow_scrub=c.flow_scrub * factor,
                flow_strip=c.flow_strip * factor,
            )
            for c in train.circuits
        ),
    )


def _train_flows(train: trains.Train, flow: float) -> tuple[dict[str, float], dict[str, float]]:
    """Liquor [m3/s] fed to each circuit, and leaving at each outlet of the train.

    A raffinate is the circuit's feed with its spent scrub; what the organic carried leaves in the
    strip liquor.
    """
    flows = {train.circuits[0].name: flow}
    fed = {}
    for circuit in train.circuits:
        entering = flows.pop(circuit.name)
        fed[circuit.name] = entering
        flows[circuit.raffinate_to] = entering + circuit.flow_scrub
        flows[circuit.organic_to] = circuit.flow_strip
    return fed, flows


def _held(cell: equipment.Sized, circuit: trains.TrainCircuit, fed: float) -> float:
    """Rare earths [mol] in the stages of a circuit: the organic's S and the aqueous' W."""
    whole = sum(item.size * item.count for item in cell.items)
    aqueous = circuit.design.scrub / (fed + circuit.flow_scrub)
    return (
        cell.organic_volume * circuit.design.solvent / circuit.flow_org
        + (whole - cell.organic_volume) * aqueous
    )


def _duty_shares(train: trains.Train, names: Sequence[str]) -> dict[str, float]:
    """Share of the organic flux that serves each product: S of every circuit it passes, by moles.

    What by-products carry is borne by the products, in proportion.
    """
    weight = dict.fromkeys(names, 0.0)
    for circuit in train.circuits:
        there = {
            p.name: sum(circuit.design.feed.get(e, 0.0) for e in p.elements)
            for p in train.products
            if sum(circuit.design.feed.get(e, 0.0) for e in p.elements) > 0
        }
        total = sum(there.values())
        for name, moles in there.items():
            weight[name] += circuit.design.solvent * moles / total
    total = sum(weight.values())
    return {name: w / total for name, w in weight.items()} if total > 0 else {}


def _pooled(
    stream: Stream,
    pools: Mapping[str, Mapping[str, float]],
    reagents: Mapping[str, float],
    water: float,
    flows: Mapping[str, float],
    rest: str,
    acid: Mapping[str, float] | None = None,
) -> dict[str, Stream]:
    """Outlets of a separation: each pool's rare earths with the chloride that carries them.

    ``acid`` is the free acid [mol/s] of a pool. Everything else that came in or was bought leaves
    in the outlet named ``rest``, with the water that is left.
    """
    left = add(moles_of(stream), reagent_ions(reagents))
    left_flow = stream.flow + water
    outlets = {}
    for name, moles in pools.items():
        carried = {n: m for n, m in moles.items() if m > 0}
        charge = sum(CHARGES[n] * m for n, m in carried.items()) + (acid or {}).get(name, 0.0)
        pool = add(carried, {"Cl": charge})
        outlets[name] = liquor(pool, flows[name])
        left = less(left, pool)
        left_flow -= flows[name]
    short = {
        n: m for n, m in left.items() if m < 0 and -m > CLOSURE_LIMIT * sum(map(abs, left.values()))
    }
    if short or left_flow < -CLOSURE_LIMIT * stream.flow:
        raise InputError(
            Problem(
                message=f"a separation hands out more than it was given ({rest})",
                value={**short, "flow": left_flow},
                expected="reagents and water that cover the product liquors",
            )
        )
    outlets[rest] = liquor(left, max(left_flow, 0.0))
    return outlets


def protein_column(
    inlets: Mapping[str, Stream], unit: ProteinColumn, context: Context, book: Book
) -> UnitResult:
    """Affinity columns that split the rare earths into a heavy and a light group.

    Outlets ``heavy`` (selective eluate), ``light`` (strip) and ``flow-through`` (base metals, salt
    and what was not bound). Beads and protein are filled once and made up as they wear.
    """
    stream = single_inlet(inlets, "protein-column")
    groups = [
        Product(
            name=name, elements=_present(g.elements, stream), purity=g.purity, recovery=g.recovery
        )
        for name, g in (("heavy", unit.heavy), ("light", unit.light))
    ]
    metals = _metals(stream)
    conc = _rounded(sum(rare_earths(stream).values()) / stream.flow)
    pH = _rounded(_pH(free_acid(stream) / stream.flow))
    done = context.memo(
        ("affinity", _composition(metals), _asked(groups), unit.protein, conc, pH),
        book,
        lambda own: affinity.design(
            dict(_composition(metals)),
            groups,
            own,
            protein=unit.protein,
            feed_conc=conc,
            feed_pH=pH,
        ),
    )
    scale = sum(metals.values())
    reagents = {n: reagent_mass(n, moles * scale) for n, moles in done.reagents.items()}
    pools = {name: done.pools[name] for name in ("heavy", "light")}
    volume = done.column_volume * scale
    bead = done.bead_makeup * scale
    depth = book["proteins/lanmodulin-column:bed-length"]
    count = max(unit.columns, equipment.least_columns(volume, depth, book))
    sized = equipment.columns(volume / count, count, book, name=unit.id)
    fills = (
        equipment.first_fill("protein", done.protein_inventory * scale, book),
        equipment.first_fill("bead", volume, book),
    )
    return UnitResult(
        outlets=_pooled(
            stream,
            {name: _scaled(pool.moles, scale) for name, pool in pools.items()},
            reagents,
            done.water * scale,
            {name: pool.flow * scale for name, pool in pools.items()},
            "flow-through",
            {name: _free(pool.pH) * pool.flow * scale for name, pool in pools.items()},
        ),
        duties=add(
            reagents,
            {
                "water": done.water * scale,
                "power": done.pump_power * scale,
                "protein": done.protein_makeup * scale,
                "bead": bead,
                "hazardous_waste": bead * book["process/columns:spent_density"],
            },
        ),
        equipment=(*sized.items, *fills),
        # Each mole takes the same binding site, whatever it is.
        shares=_by_moles(context, metals),
        facts={
            "column volume": (volume, "m^3"),
            "columns in series": (float(len(done.columns)), "1"),
            "vessels": (float(count), "1"),
            "cycle": (done.cycle_time, "hour"),
            "cycles of a bead": (done.cycles_to_end_of_life, "1"),
            "protein": (done.protein_inventory * scale, "kg"),
            "pools loaded again over feed": (done.recycle_ratio, "1"),
            "rare earths held": (
                scale * sum(sum(c.feed.values()) * c.cycle_time for c in done.columns),
                "mol",
            ),
        },
        warnings=tuple(w.to_dict() for w in done.warnings),
    )


def _by_moles(context: Context, moles: Mapping[str, float]) -> dict[str, float]:
    """Share of each product in the moles of all products."""
    weight = {p.name: sum(moles.get(e, 0.0) for e in p.elements) for p in context.products}
    total = sum(weight.values())
    return {name: w / total for name, w in weight.items()} if total > 0 else {}


def _by_columns(
    done: displacement.DisplacementDesign, products: Sequence[Product]
) -> dict[str, float]:
    """Share of each product in the column volume: each position by the moles fed to it."""
    weight = dict.fromkeys((p.name for p in products), 0.0)
    for column in done.columns:
        there = {p.name: sum(column.fresh.get(e, 0.0) for e in p.elements) for p in products}
        total = sum(there.values())
        for name, moles in there.items():
            weight[name] += column.volume * moles / total if total > 0 else 0.0
    whole = sum(weight.values())
    return {name: w / whole for name, w in weight.items()} if whole > 0 else {}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _present(elements: Sequence[str], stream: Stream) -> tuple[str, ...]:
    return tuple(e for e in elements if stream[e] > 0)


def _metals(stream: Stream) -> dict[str, float]:
    """Molar flows of the dissolved cations that are not alkali."""
    return {n: m for n, m in moles_of(stream).items() if CHARGES.get(n, 0) > 1 and m > 0}


def _rare(moles: Mapping[str, float]) -> dict[str, float]:
    return {n: m for n, m in moles.items() if n in RARE_EARTHS}


def _pH(acid: float) -> float:
    """pH of a free acid [mol/m3]; that of neutral water when there is none."""
    neutral = NEUTRAL_ACID
    return -math.log10(max(acid, neutral) / C_STANDARD)


def _free(pH: float | None) -> float:
    """Free acid [mol/m3] at a pH; none where no pH is given."""
    return 0.0 if pH is None else C_STANDARD * 10.0**-pH


def displacement_train(
    inlets: Mapping[str, Stream], unit: DisplacementTrain, context: Context, book: Book
) -> UnitResult:
    """Ligand-assisted displacement columns: every product and the other rare earths as pools.

    The ligand is set free and recovered inside the unit; what is lost of it, and of the
    presaturant, leaves in ``spent``. Outlets: one per product, ``by-products``, ``spent``.
    """
    stream = single_inlet(inlets, "displacement-train")
    feed = rare_earths(stream)
    products = sought(context, (), feed, unit.downstream_loss)
    metals = _metals(stream)
    done = context.memo(
        ("displacement", _composition(metals), _asked(products), unit.ligands, unit.presaturant),
        book,
        lambda own: displacement.design(
            dict(_composition(metals)),
            products,
            own,
            ligands=unit.ligands,
            presaturant=unit.presaturant,
        ),
    )
    scale = sum(metals.values())
    names = [p.name for p in products]
    others = [p for name, p in done.pools.items() if name not in (*names, "loss")]
    pools = {name: _scaled(_rare(done.pools[name].moles), scale) for name in names}
    pools["by-products"] = _scaled(add(*(_rare(p.moles) for p in others)), scale)
    flows = {name: done.pools[name].flow * scale for name in names}
    flows["by-products"] = sum(p.flow for p in others) * scale
    reagents = {
        key: reagent_mass(key, moles * scale)
        for key, moles in (
            (DISPLACEMENT_KEYS.get(n, n), moles) for n, moles in done.reagents.items()
        )
    }
    volume = done.column_volume * scale
    resin = done.resin_makeup * scale
    depth = book[f"{DISPLACING}:length"]
    count = max(len(done.columns), equipment.least_columns(volume, depth, book))
    sized = equipment.columns(volume / count, count, book, name=unit.id)
    # Ligand set free by acid is crystallised, filtered, washed and dissolved again.
    ligands = {
        k.upper(): reagent_mass(k.upper(), n * scale) for k, n in done.ligand_circulated.items()
    }
    displacer = sum(done.ligand_circulated.values()) * scale / book[f"{DISPLACING}:ligand-conc"]
    recovery = equipment.precipitation_train(
        displacer, sum(ligands.values()), 0.0, book, name=f"{unit.id}: ligand recovery"
    )
    vessels = equipment.tanks(displacer, book, name=f"{unit.id}: displacer tanks")
    hold = book["equipment/sizing:tank_time"]
    copper = reagent_mass("CuSO4", done.presaturant_inventory * scale)
    fills = (
        equipment.first_fill("resin", volume, book),
        equipment.first_fill("CuSO4", copper, book),
        *(equipment.first_fill(key, rate * hold, book) for key, rate in ligands.items()),
    )
    return UnitResult(
        outlets=_pooled(stream, pools, reagents, done.water * scale, flows, "spent"),
        duties=add(
            reagents,
            {
                "water": done.water * scale,
                "power": done.pump_power * scale + recovery.power + vessels.power,
                "resin": resin,
                "hazardous_waste": resin * book["process/columns:spent_density"],
            },
        ),
        equipment=(*sized.items, *recovery.items, *vessels.items, *fills),
        shares=_by_columns(done, products),
        facts={
            "column volume": (volume, "m^3"),
            "column positions": (float(len(done.columns)), "1"),
            "vessels": (float(count), "1"),
            "ligand crystallised": (sum(ligands.values()), "t/day"),
            "cycle": (done.cycle_time, "hour"),
            **{
                f"{name} circulated over feed": (moles / _share_of_rare(metals), "1")
                for name, moles in done.ligand_circulated.items()
            },
            "rare earths held": (_held_in_columns(done, scale), "mol"),
        },
        warnings=(
            *(w.to_dict() for w in done.warnings),
            *sizes(sized, recovery, vessels),
        ),
    )


def _share_of_rare(metals: Mapping[str, float]) -> float:
    """Moles of rare earths per mole of all metals."""
    return sum(_rare(metals).values()) / sum(metals.values())


def _held_in_columns(done: displacement.DisplacementDesign, scale: float) -> float:
    """Rare earths [mol] in the columns: what enters each during its cycle."""
    return scale * sum(c.throughput * c.cycle_time for c in done.columns)


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
        own = _own_duties(done.duties)
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
        released=released,
        warnings=(*warnings, *sizes(*plants)),
    )


# What a precipitation reports of its own effluent is charged by the plant's effluent unit instead.
_EFFLUENT_DUTIES = ("CaO", "wastewater", "salt", "solid_waste")


def _own_duties(duties: Mapping[str, float]) -> dict[str, float]:
    return {key: rate for key, rate in duties.items() if key not in _EFFLUENT_DUTIES}


def by_product(
    inlets: Mapping[str, Stream], unit: ByProduct, context: Context, book: Book
) -> UnitResult:
    """The rare earths outside the slate as one wet concentrate.

    Several inlets are mixed. Outlets ``concentrate`` and ``spent``.
    """
    stream = mix([inlets[port] for port in sorted(inlets)])
    method = precipitation.method(unit.method, book)
    name, moles = neutralisation(free_acid(stream))
    neutral = {name: reagent_mass(name, moles)}
    done = precipitation.precipitate(moles_of(stream), stream.flow, method)
    solid = {n: m for n, m in done.solid.items() if m > 0}
    duties = add(_own_duties(done.duties), neutral)
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
        facts={"oxide in the concentrate": (oxide, "t_REO/day")},
        warnings=sizes(plant),
    )


def effluent(
    inlets: Mapping[str, Stream], unit: Effluent, context: Context, book: Book
) -> UnitResult:
    """All spent liquors: neutralised, metals out, then to the effluent limit.

    Under "zero-liquid" membranes first concentrate what is weaker than ``brine_strength``; the
    brine is evaporated, permeate and condensate go back into the plant. Outlets ``sludge`` and
    ``salt``.
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
    salt = less(entering, sludge)
    dissolved = sum(m * ion_mass(n) for n, m in salt.items())
    duties = add(neutral, {"solid_waste": dry * (1 + get("sludge_moisture"))})
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


OPERATIONS: Mapping[str, Operation] = {
    "iron-removal": iron_removal,
    "conditioning": conditioning,
    "concentrating": concentrating,
    "extraction-train": extraction_train,
    "protein-column": protein_column,
    "finishing": finishing,
    "by-product": by_product,
    "displacement-train": displacement_train,
    "effluent": effluent,
}
