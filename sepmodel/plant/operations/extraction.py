"""Trains of extraction circuits as one unit of a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sepmodel.data import Book
from sepmodel.extraction.design import Weights
from sepmodel.plant import auxiliaries, equipment
from sepmodel.plant import train as trains
from sepmodel.plant.flowsheet import Context, UnitResult, rare_earths, reagent_mass
from sepmodel.plant.inputs import ExtractionTrain
from sepmodel.plant.operations.common import add, asked, composition, pooled, scaled, sizes, sought
from sepmodel.stream import Stream, mix


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
    feed = scaled(rare_earths(stream), kept)
    products = sought(context, unit.elements, feed, unit.downstream_loss)
    fed_in_all = sum(feed.values())
    weights = Weights(
        inventory=unit.weights.inventory,
        solvent=unit.weights.solvent,
        stages=unit.weights.stages,
    )
    train: trains.Train = context.memo(
        ("train", composition(feed), asked(products), unit.factors, weights, context.exact),
        book,
        lambda own: trains.design_train(
            dict(composition(feed)),
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
        outlets=pooled(stream, pools, reagents, water, volumes, "raffinate"),
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


def _scaled_train(train: trains.Train, factor: float) -> trains.Train:
    """The same train for ``factor`` times its feed: every flow is proportional to it."""
    return replace(
        train,
        feed=scaled(train.feed, factor),
        outlets={name: scaled(moles, factor) for name, moles in train.outlets.items()},
        circuits=tuple(
            replace(
                c,
                design=replace(
                    c.design,
                    solvent=c.design.solvent * factor,
                    scrub=c.design.scrub * factor,
                    feed=scaled(c.design.feed, factor),
                    raffinate=scaled(c.design.raffinate, factor),
                    organic=scaled(c.design.organic, factor),
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
