"""Protein and displacement columns as units of a route."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from sepmodel.chromatography import affinity, displacement
from sepmodel.chromatography.affinity_built import AskedColumns
from sepmodel.data import Book, split_key
from sepmodel.errors import InfeasibleError
from sepmodel.plant import equipment
from sepmodel.plant.engine_check import Check
from sepmodel.plant.flowsheet import Context, UnitResult, free_acid, rare_earths, reagent_mass
from sepmodel.plant.inputs import DisplacementTrain, ProteinColumn
from sepmodel.plant.operations.common import (
    DIGITS,
    HIGHEST_RECOVERY,
    add,
    asked,
    composition,
    moles_of,
    pooled,
    scaled,
    single_inlet,
    sizes,
    sought,
    within_reach,
)
from sepmodel.products import Product, amounts
from sepmodel.species import CHARGES, RARE_EARTHS
from sepmodel.stream import Stream

# The standard state behind pH [mol/m3].
C_STANDARD = 1e3
# Free acid [mol/m3] of pH 7: the least a pH is reckoned from.
NEUTRAL_ACID = 1e-4
# Protein columns in series that are tried at most.
MOST_IN_SERIES = 4
# The purity of a group that is asked for none.
NO_PURITY = 1e-9
# What the displacement design calls a reagent, in the words of the price and emission sets.
DISPLACING = "resins/displacement-operation"
DISPLACEMENT_KEYS = {"H4EDTA": "EDTA", "H5DTPA": "DTPA"}


def protein_column(
    inlets: Mapping[str, Stream], unit: ProteinColumn, context: Context, book: Book
) -> UnitResult:
    """Affinity columns that split the rare earths into a heavy and a light group.

    Outlets ``heavy`` (selective eluate), ``light`` (strip) and ``flow-through`` (base metals, salt
    and what was not bound). Beads and protein are filled once and made up as they wear.
    """
    stream = single_inlet(inlets, "protein-column")
    metals = _metals(stream)
    groups, each = _split(stream, unit, context, book)
    conc = _rounded(sum(rare_earths(stream).values()) / stream.flow)
    pH = _rounded(_pH(free_acid(stream) / stream.flow))
    before = set(book.used)
    buffer = "" if unit.buffer == "none" else unit.buffer
    options: dict[str, Any] = {
        "protein": unit.protein,
        "buffer": buffer,
        "feed_conc": conc,
        "feed_pH": pH,
    }
    shares = dict(composition(metals))
    if context.trims is not None:
        asks = AskedColumns(feed=shares, products=groups, each=each, book=book, **options)
        done: affinity.AffinityDesign = context.trims.found(unit.id, asks)
    else:
        options["columns_most"] = MOST_IN_SERIES
        done = context.memo(
            ("affinity", composition(metals), asked(groups), asked(each), *options.values()),
            book,
            lambda own: affinity.design(shares, groups, own, each=each, **options),
        )
    check = Check(
        kind="protein",
        unit=unit.id,
        feed=shares,
        products=groups,
        each=each,
        options=options,
        constants=_read(book, before),
        overrides=book.overrides,
    )
    scale = sum(metals.values())
    reagents = {
        key: reagent_mass(key, moles * scale)
        for key, moles in (
            (affinity.BUFFERS[n][0] if n in affinity.BUFFERS else n, moles)
            for n, moles in done.reagents.items()
        )
    }
    pools = {name: done.pools[name] for name in ("heavy", "light")}
    volume = done.column_volume * scale
    bead = done.bead_makeup * scale
    depth = book["proteins/lanmodulin-column:bed-length"]
    count = max(unit.columns, equipment.least_columns(volume, depth, book))
    widest = math.sqrt(4 * volume / (count * depth * math.pi))
    sized = equipment.columns(volume / count, count, book, name=unit.id)
    loaded = sum(c.load_flow for c in done.columns) * scale
    vessels = equipment.tanks(loaded, book, name=f"{unit.id}: liquor tanks")
    fills = (
        equipment.first_fill("protein", done.protein_inventory * scale, book),
        equipment.first_fill("bead", volume, book),
    )
    return UnitResult(
        outlets=pooled(
            stream,
            {name: scaled(pool.moles, scale) for name, pool in pools.items()},
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
                "power": done.pump_power * scale + vessels.power,
                "protein": done.protein_makeup * scale,
                "bead": bead,
                "hazardous_waste": bead * book["process/columns:spent_density"],
            },
        ),
        equipment=(*sized.items, *vessels.items, *fills),
        checks=(check,),
        sections={"cyclic": 1},
        # Each mole takes the same binding site, whatever it is.
        shares=_by_moles(context, metals),
        facts={
            "column volume": (volume, "m^3"),
            "columns in series": (float(len(done.columns)), "1"),
            "load of the capacity": (done.columns[done.feed_position].load_fraction, "1"),
            "elution pH": (done.columns[-1].elution_pH, "1"),
            "buffer in the load": (done.columns[done.feed_position].buffer, "mol/m^3"),
            "vessels": (float(count), "1"),
            "widest bed": (widest, "m"),
            "cycle": (done.cycle_time, "hour"),
            "cycles of a bead": (done.cycles_to_end_of_life, "1"),
            "protein": (done.protein_inventory * scale, "kg"),
            "pools loaded again over feed": (done.recycle_ratio, "1"),
            "rare earths held": (
                scale * sum(sum(c.feed.values()) * c.cycle_time for c in done.columns),
                "mol",
            ),
        },
        warnings=(
            *(w.to_dict() for w in done.warnings),
            *_shape(widest, depth),
            *sizes(sized, vessels),
        ),
        design=done,
    )


def _split(
    stream: Stream, unit: ProteinColumn, context: Context, book: Book
) -> tuple[tuple[Product, Product], tuple[Product, ...]]:
    """What the columns are asked for: the two groups, and the recovery of each product.

    A product may lose here ``loss_share`` of what is left for it to lose after handling, finishing
    and what went before. The groups are what the products need of them: the heavy one the recovery
    that its products have together, the light one ``light_kept``; purity is left to polishing.
    """
    arriving = rare_earths(stream)
    handled = 1 - book["proteins/lanmodulin-column:handling-loss"]
    each = tuple(
        replace(
            p,
            recovery=1 - unit.loss_share * (1 - min(p.recovery / handled, HIGHEST_RECOVERY)),
        )
        for p in sought(context, (), scaled(arriving, handled), unit.downstream_loss)
    )
    slate = {e for p in each for e in p.elements}
    weight = amounts(arriving)
    groups = []
    for name, group in (("heavy", unit.heavy), ("light", unit.light)):
        present = _present(group.elements, stream)
        if not present:
            raise InfeasibleError(
                f"{unit.id}: the liquor has none of the {name} rare earths "
                f"({', '.join(group.elements)}), so that there is nothing to part",
                limit={name: group.elements},
            )
        wanted = tuple(e for e in present if e in slate) or present
        mine = [p for p in each if set(p.elements) & set(wanted)]
        heavy = sum(p.recovery * sum(weight.get(e, 0.0) for e in p.elements) for p in mine)
        total = sum(weight.get(e, 0.0) for p in mine for e in p.elements)
        groups.append(
            Product(
                name=name,
                elements=wanted,
                purity=NO_PURITY,
                recovery=unit.light_kept
                if name == "light" or not mine
                else _rounded(handled * heavy / total),
            )
        )
    return (groups[0], groups[1]), each


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
    within_reach(context.products, context, feed)
    products = sought(context, (), feed, unit.downstream_loss)
    metals = _metals(stream)
    before = set(book.used)
    done = context.memo(
        ("displacement", composition(metals), asked(products), unit.ligands, unit.presaturant),
        book,
        lambda own: displacement.design(
            dict(composition(metals)),
            products,
            own,
            ligands=unit.ligands,
            presaturant=unit.presaturant,
        ),
    )
    check = Check(
        kind="displacement",
        unit=unit.id,
        feed=dict(composition(metals)),
        products=products,
        options={"ligands": unit.ligands, "presaturant": unit.presaturant},
        constants=_read(book, before),
        overrides=book.overrides,
    )
    scale = sum(metals.values())
    names = [p.name for p in products]
    others = [p for name, p in done.pools.items() if name not in (*names, "loss")]
    pools = {name: scaled(_rare(done.pools[name].moles), scale) for name in names}
    pools["by-products"] = scaled(add(*(_rare(p.moles) for p in others)), scale)
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
    # Every position has vessels of its own: it runs on its own liquors, at its own time.
    sized, count, widest = [], 0, 0.0
    for number, column in enumerate(done.columns, 1):
        bed = column.volume * scale
        vessels = equipment.least_columns(bed, depth, book)
        sized.append(
            equipment.columns(bed / vessels, vessels, book, name=f"{unit.id} position {number}")
        )
        count += vessels
        widest = max(widest, math.sqrt(4 * bed / (vessels * depth * math.pi)))
    # Ligand set free by acid is crystallised, filtered, washed and dissolved again.
    ligands = {
        k.upper(): reagent_mass(k.upper(), n * scale) for k, n in done.ligand_circulated.items()
    }
    displacer = sum(done.ligand_circulated.values()) * scale / book[f"{DISPLACING}:ligand-conc"]
    recovery = equipment.precipitation_train(
        displacer, sum(ligands.values()), 0.0, book, name=f"{unit.id}: ligand recovery"
    )
    tanks = equipment.tanks(displacer, book, name=f"{unit.id}: displacer tanks")
    hold = book["equipment/sizing:tank_time"]
    copper = reagent_mass("CuSO4", done.presaturant_inventory * scale)
    fills = (
        equipment.first_fill("resin", volume, book),
        equipment.first_fill("CuSO4", copper, book),
        *(equipment.first_fill(key, rate * hold, book) for key, rate in ligands.items()),
    )
    return UnitResult(
        outlets=pooled(stream, pools, reagents, done.water * scale, flows, "spent"),
        duties=add(
            reagents,
            {
                "water": done.water * scale,
                "power": done.pump_power * scale + recovery.power + tanks.power,
                "resin": resin,
                "hazardous_waste": resin * book["process/columns:spent_density"],
            },
        ),
        equipment=(
            *(item for part in (*sized, recovery, tanks) for item in part.items),
            *fills,
        ),
        checks=(check,),
        # Columns on one ligand are a section, and what recovers the ligand is another.
        sections={"cyclic": sum(1 for rate in ligands.values() if rate > 0), "solids-fluids": 1},
        shares=_by_columns(done, products),
        facts={
            "column volume": (volume, "m^3"),
            "column positions": (float(len(done.columns)), "1"),
            "vessels": (float(count), "1"),
            "widest bed": (widest, "m"),
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
            *_shape(widest, depth),
            *sizes(*sized, recovery, tanks),
        ),
    )


def _shape(width: float, depth: float) -> tuple[dict[str, str], ...]:
    """A warning where a bed is wider than deep: the design's mixing is that of a narrow one."""
    if width <= depth:
        return ()
    message = (
        f"beds up to {width:.1f} m wide and {depth:g} m deep: the mixing length is that of columns "
        "whose liquor is spread evenly, and uneven spreading is not in it"
    )
    return ({"code": "wide-bed", "message": message},)


def _read(book: Book, before: AbstractSet[str]) -> dict[str, float]:
    """The constants read since ``before``, and replacements in the same data sets."""
    keys = book.used.keys() - before
    sets = {split_key(key)[0] for key in keys}
    more = {key for key in book.overrides if split_key(key)[0] in sets}
    return {key: book.overrides.get(key, book.used[key].si) for key in sorted(keys)} | {
        key: book.overrides[key] for key in sorted(more)
    }


def _share_of_rare(metals: Mapping[str, float]) -> float:
    """Moles of rare earths per mole of all metals."""
    return sum(_rare(metals).values()) / sum(metals.values())


def _held_in_columns(done: displacement.DisplacementDesign, scale: float) -> float:
    """Rare earths [mol] in the columns: what enters each during its cycle."""
    return scale * sum(c.throughput * c.cycle_time for c in done.columns)
