"""Lanmodulin columns for a group split: load, wash, selective elution, strip, re-equilibrate.

Heavy rare earths leave first, in the selective eluate at a chosen pH; light ones stay and leave in
the strip. Where one column does not reach the specification, columns in series pass their eluate
forward and their strip back. Every metal that binds releases the protons the protein held: a load
stays above the pH at which heavy metals bind because it is buffered, or because it is dilute. The
stages carry protons and buffer (``proton_stages``), so pH in the bed is an outcome.

Published lanmodulins do not split Nd from Pr, and Tb from Dy poorly: this is a group split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product as product_

import numpy as np
from numpy.typing import NDArray

from sepmodel import products as products_
from sepmodel.chromatography.binding import C_STANDARD, PairLaw, half_loading_pH, pair_law
from sepmodel.chromatography.proton_stages import Buffer, liquor_at
from sepmodel.chromatography.results import Pool, check_feed, check_groups, rare_earth_total
from sepmodel.chromatography.series import (
    Bed,
    Goal,
    Menus,
    Settings,
    acid_of,
    bed_rate,
    best_series,
    buffer_ratio,
    column_feeds,
    elution_range,
    end_pools_of,
    goal_of,
    load_flow_of,
    one_column,
    refine,
)
from sepmodel.chromatography.stages import Operation, operation
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.products import Product
from sepmodel.result import Warned
from sepmodel.species import RARE_EARTHS, molar_mass

Array = NDArray[np.float64]

_TIGHTENINGS = 2
_PROGRESS = 9 / 10
BUFFERS = {"acetate": ("acetic_acid", "C2H4O2")}
"""Buffers a load can have: the reagent as prices and factors call it, and its formula."""
NO_BUFFER = ""
# Rare earth [mol/m3] tried in a liquor without buffer, which acidifies itself.
_DILUTE = (2.0, 1.0, 0.5, 0.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class AffinityColumn:
    """One column position of the plant: what it is fed, how it is run, what leaves it (mol/s).

    ``elution_volume`` is that of the stages [bed volumes]; ``eluate_flow`` has the eluent really
    needed. The liquor it is loaded with has ``buffer`` [mol/m3].
    """

    load_fraction: float
    elution_pH: float
    elution_volume: float
    buffer: float
    plates: int
    volume: float
    cycle_time: float
    feed: Mapping[str, float]
    eluate: Mapping[str, float]
    strip: Mapping[str, float]
    effluent: Mapping[str, float]
    load_flow: float
    eluate_flow: float
    strip_flow: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AffinityDesign:
    """A lanmodulin plant for one group split, averaged over whole cycles; strict SI.

    ``pools`` by product name and "flow-through"; ``columns`` from the light to the heavy end;
    ``each`` the products that the groups have to bring, with ``brought`` what they do (recoveries
    of what the columns are loaded with); ``buffer`` of the load ("" for none), its ``load_pH``
    and most rare earth ``load_conc`` [mol/m3]; the heavy group half loads the protein at
    ``reference_pH``;
    ``reagents`` mol/s; ``duties`` kg/s, m3/s or W under the names of the price and factor tables.
    """

    products: tuple[Product, ...]
    each: tuple[Product, ...]
    brought: Mapping[str, float]
    buffer: str
    load_pH: float
    load_conc: float
    reference_pH: float
    pools: Mapping[str, Pool]
    columns: tuple[AffinityColumn, ...]
    feed_position: int
    column_volume: float
    cycle_time: float
    productivity: float
    recycle_ratio: float
    reagents: Mapping[str, float]
    salt: float
    water: float
    wastewater: float
    protein_inventory: float
    protein_makeup: float
    bead_makeup: float
    cycles_to_end_of_life: float
    pump_power: float
    purity: Mapping[str, float]
    recovery: Mapping[str, float]
    shortfalls: Mapping[str, Mapping[str, tuple[float, float]]]
    polish: tuple[str, ...]
    residual: float
    warnings: tuple[Warned, ...]

    @property
    def volume_per_feed(self) -> float:
        """Column volume per rare earth fed [m3 per mol/s]."""
        return 1 / self.productivity

    @property
    def duties(self) -> dict[str, float]:
        """Consumption and discharge: kg/s of substance, m3/s of water and beads, W of power."""
        return {
            "HCl": self.reagents["HCl"] * molar_mass("HCl"),
            "NaOH": self.reagents["NaOH"] * molar_mass("NaOH"),
            **{
                BUFFERS[name][0]: moles * molar_mass(BUFFERS[name][1])
                for name, moles in self.reagents.items()
                if name in BUFFERS
            },
            "water": self.water,
            "wastewater": self.wastewater,
            "salt": self.salt * molar_mass("NaCl"),
            "protein": self.protein_makeup,
            "bead": self.bead_makeup,
            "power": self.pump_power,
        }


def design(
    feed: Mapping[str, float],
    products: Sequence[Product],
    book: Book,
    *,
    protein: str = "lanmodulin-mex",
    each: Sequence[Product] = (),
    buffer: str = "acetate",
    feed_conc: float | None = None,
    feed_pH: float | None = None,
    columns_most: int = 4,
    plates: int | None = None,
) -> AffinityDesign:
    """The lanmodulin plant with the fewest columns that splits ``feed`` into two groups.

    Loading, elution pH and elution volume of each column are searched by marching its cells; if one
    column is not enough, up to ``columns_most`` in series, each passing its strip back to the one
    before it and its eluate on to the next.

    Parameters
    ----------
    feed
        molar flows [mol/s] of the liquor after iron removal; base metals pass at the void
    products
        two: the heavy group (leaves in the eluate), then the light group (leaves in the strip)
    each
        products the groups have to bring, by recovery of what the columns are loaded with: those
        with an element of the heavy group in the eluate, others in eluate and strip together
    buffer
        of the load, its strength from the protons that binding releases; "" loads dilute liquor
    feed_conc, feed_pH
        rare earth [mol/m3] and pH of the liquor that arrives; by default those the column likes
    plates
        effective equilibrium stages of a column instead of bed length over plate height

    Raises
    ------
    InputError
        for an unusable feed or groups that overlap.
    InfeasibleError
        when no series of columns reaches the specification, or iron was not removed.

    >>> heavy = Product(name="heavy", elements=("Dy",), purity=0.5, recovery=0.9)
    >>> light = Product(name="light", elements=("Nd",), purity=0.9, recovery=0.9)
    >>> plant = design({"Nd": 0.8, "Dy": 0.2}, (heavy, light), Book())
    >>> len(plant.columns), plant.recovery["heavy"] >= 0.9
    (1, True)
    """
    check_feed(feed)
    if len(products) != 2:
        raise InputError(
            Problem(message="a group split has a heavy and a light product", value=len(products))
        )
    check_groups([p.elements for p in products], feed)
    run = operation(book, plates, protons=True)
    check_iron(feed, run)
    law = pair_law(bindable(feed, book, protein), book, protein)
    found: AffinityDesign | None = None
    for conc in (run.conc_most,) if buffer else _DILUTE:
        bed = bed_of(law, run, book, buffer, min(feed_conc or conc, conc))
        try:
            settings, residual = _settled(feed, bed, products, each, feed_conc, columns_most)
        except InfeasibleError as error:
            failure = error
            continue
        found = assemble(
            feed,
            products,
            each,
            settings,
            residual,
            bed,
            book,
            feed_conc=feed_conc,
            feed_pH=feed_pH,
            protein=protein,
        )
        break
    if found is None:
        raise failure
    return found


def bindable(feed: Mapping[str, float], book: Book, protein: str) -> tuple[str, ...]:
    """The rare earths of a feed that ``protein`` has a pair constant for."""
    return tuple(
        e
        for e in feed
        if e in RARE_EARTHS and feed[e] > 0 and f"proteins/{protein}:K-ratio-{e}" in book
    )


def bed_of(law: PairLaw, run: Operation, book: Book, buffer: str, conc: float) -> Bed:
    """The column and the liquor it is loaded with: ``conc`` [mol/m3] of rare earth, buffered.

    Raises
    ------
    InputError
        for a buffer that is none of ``BUFFERS``.
    """
    if not buffer:
        pH = book["proteins/lanmodulin-column:plain-load-pH"]
        return Bed(law=law, run=run, conc=conc, pH=pH)
    if buffer not in BUFFERS:
        raise InputError(
            Problem(
                message="no such buffer of a lanmodulin load",
                key="buffer",
                value=buffer,
                expected=f"one of {', '.join(BUFFERS)}, or nothing",
            )
        )
    key = f"ligands/{buffer}:log-"
    made = Buffer(
        name=buffer,
        acidity=float(acid_of(book[f"{key}protonation-1"])),
        complexes=tuple(
            10.0 ** book[f"{key}K-{e}"] / C_STANDARD if f"{key}K-{e}" in book else 0.0
            for e in law.names
        ),
    )
    return Bed(
        law=law,
        run=run,
        conc=conc,
        pH=run.load_pH,
        buffer=made,
        ratio=buffer_ratio(law, run, made),
    )


def reference_pH(law: PairLaw, heavy: Product) -> float:
    """Mean pH at which a heavy metal at a tenth of a full column's content half loads it."""
    known = [e for e in heavy.elements if e in law.names]
    return float(np.mean([half_loading_pH(e, law.capacity / 10, law) for e in known]))


def goal_at(
    feed: Mapping[str, float], pair: Sequence[Product], each: Sequence[Product], bed: Bed
) -> Goal:
    """What the columns are designed for."""
    return goal_of(bed.law.names, feed, pair, each, bed.run.loss, bed.run.margin)


def _settled(
    feed: Mapping[str, float],
    bed: Bed,
    products: Sequence[Product],
    each: Sequence[Product],
    feed_conc: float | None,
    columns_most: int,
) -> tuple[Settings, float]:
    """The operating points of the fewest columns that meet the goal, and how still they stand."""
    heavy, light = products
    goal = goal_at(feed, products, each, bed)
    moles = goal.loaded
    arriving = rare_earth_total(feed) / (feed_conc or bed.conc)
    pH = elution_range(bed.law, heavy, light)
    reached, settings = one_column(moles, bed, goal, pH)
    residual = 0.0
    if reached <= 1:
        return settings, residual
    nearest, best = reached, settings
    menus = Menus(moles / moles.sum(), bed, pH, goal.members[0])
    for count, tighten in product_(range(2, columns_most + 1), range(_TIGHTENINGS)):
        settings = best_series(moles, bed, goal, menus, count, tighten)
        promised = float(goal.misses(end_pools_of(column_feeds(moles, settings), settings)))
        if promised > 1:
            # A longer series that is hardly nearer will not arrive either.
            hopeless = count > 2 and promised > _PROGRESS * nearest
            if promised < nearest:
                nearest, best = promised, settings
            if hopeless:
                raise infeasible(goal, best, (heavy, light), count)
            continue
        reached, settings, residual = refine(moles, settings, bed, goal, arriving)
        if reached <= 1:
            return settings, residual
        if reached < nearest:
            nearest, best = reached, settings
    raise infeasible(goal, best, (heavy, light), columns_most)


def infeasible(goal: Goal, best: Settings, pair: Sequence[Product], most: int) -> InfeasibleError:
    """What the best series of columns came to, as an error that names the nearest values."""
    nearest: dict[str, float] = {}
    pools = end_pools_of(column_feeds(goal.loaded, best), best)
    for product, pool, member, weight in zip(pair, pools, goal.members, goal.weights, strict=True):
        mine = float(pool @ (weight * member))
        nearest[f"{product.name} purity"] = mine / float(pool @ weight)
        nearest[f"{product.name} recovery"] = mine / float(goal.feed @ (weight * member))
    limit = {}
    for demand in goal.demands:
        there = pools[0] if demand.eluted else pools[0] + pools[1]
        nearest[f"{demand.name} brought"] = float(there @ (demand.weights / goal.loaded))
        limit[f"{demand.name} brought"] = demand.recovery
    columns = "column does" if len(best.load) == 1 else "columns in series do"
    return InfeasibleError(
        f"{most if len(best.load) > 1 else 1} lanmodulin {columns} not split "
        f"{'+'.join(pair[0].elements)} from {'+'.join(pair[1].elements)} as specified",
        limit={
            f"{p.name} {what}": value
            for p in pair
            for what, value in (("purity", p.purity), ("recovery", p.recovery))
        }
        | limit,
        nearest=nearest,
    )


def check_iron(feed: Mapping[str, float], run: Operation) -> None:
    ratio = feed.get("Fe", 0.0) / rare_earth_total(feed)
    if ratio > run.iron_most:
        raise InfeasibleError(
            "iron has to be removed (hydrolysis near pH 3) before a lanmodulin column: colloids "
            f"stay in the bed and dissolve in the strip; {ratio:.2g} mol Fe per mol rare earth",
            limit={"Fe per rare earth": run.iron_most},
            nearest={"Fe per rare earth": run.iron_most},
        )


def assemble(
    feed: Mapping[str, float],
    products: Sequence[Product],
    each: Sequence[Product],
    chosen: Settings,
    residual: float,
    bed: Bed,
    book: Book,
    *,
    feed_conc: float | None,
    feed_pH: float | None,
    protein: str,
) -> AffinityDesign:
    """Volumes, times, reagents and make-up of the chosen columns, and where everything ends."""
    pair = (products[0], products[1])
    law, run = bed.law, bed.run
    arriving = rare_earth_total(feed) / (feed_conc or bed.conc)
    goal = goal_at(feed, pair, each, bed)
    moles = goal.loaded
    flows = column_feeds(moles, chosen)
    fed, lost = flows.sum(axis=1), chosen.lost * flows
    rate = bed_rate(flows, chosen, law)
    load, dilution = load_flow_of(flows, chosen, bed, arriving)
    eluate, strip = rate * chosen.volume * run.volume_factor, rate * run.strip_volume
    rinses = rate * (run.wash_volume + run.rinse_volume)
    through = load + eluate + strip + rinses
    cycle_time = through / rate * run.bed_length / run.velocity
    volume = rate * cycle_time

    # Eluent over that of the stages passes unchanged; the strip protonates what it sets free.
    washing = float(acid_of(run.wash_pH))
    spare = rate * chosen.volume * (run.volume_factor - 1)
    eluted_acid = rate * chosen.acid + spare * acid_of(chosen.pH)
    stripped = ((1 - chosen.eluted - chosen.lost) * flows).sum(axis=1)
    strip_acid = np.maximum(strip * acid_of(run.strip_pH) - bed.protons * stripped, 0.0)
    acid = eluate * acid_of(chosen.pH) + strip * acid_of(run.strip_pH) + rinses * washing
    # Acid comes with the liquor, with pools loaded again and on the buffer; what the liquor of the
    # load may hold of it is left, base takes the rest.
    conc = flows / load[:, None]
    buffer = bed.ratio * conc.sum(axis=1)
    held = liquor_at(bed.stack(len(load)), conc, buffer, np.full(len(load), bed.pH)).protons
    coming = load * buffer
    coming[1:] += eluted_acid[:-1]
    coming[:-1] += strip_acid[1:]
    liquor_pH = bed.pH if feed_pH is None else feed_pH
    coming[chosen.position] += float(acid_of(liquor_pH)) * arriving
    needed = coming - load * held
    base, more = np.maximum(needed, 0.0), np.maximum(-needed, 0.0)
    density = book[f"proteins/{protein}:protein-density"]
    density *= book[f"proteins/{protein}:protein-molar-mass"]
    beads = float(rate.sum()) / run.cycles

    outlets = _outlets(feed, pair, law.names, flows, chosen, run)
    liquors = {
        pair[0].name: (float(eluate[-1]), _pH(eluted_acid[-1] / eluate[-1])),
        pair[1].name: (float(strip[0]), _pH(strip_acid[0] / strip[0])),
        "flow-through": (float((load + rinses).sum()), run.wash_pH),
    }
    pools = {
        name: Pool(name=name, moles=outlets[name], flow=flow, pH=pH)
        for name, (flow, pH) in liquors.items()
    }
    ends = end_pools_of(flows, chosen)
    brought = {
        d.name: float((ends[0] if d.eluted else ends[0] + ends[1]) @ (d.weights / goal.loaded))
        for d in goal.demands
    }
    purity = {
        p.name: products_.purity(_earths(pools[p.name]), p.elements, p.purity_basis) for p in pair
    }
    recovery = {
        p.name: products_.recovery(_earths(pools[p.name]), feed, p.elements, p.purity_basis)
        for p in pair
    }
    columns = tuple(
        AffinityColumn(
            load_fraction=float(chosen.load[k]),
            elution_pH=float(chosen.pH[k]),
            elution_volume=float(chosen.volume[k]),
            buffer=float(buffer[k]),
            plates=run.plates,
            volume=float(volume[k]),
            cycle_time=float(cycle_time[k]),
            load_flow=float(load[k]),
            eluate_flow=float(eluate[k]),
            strip_flow=float(strip[k]),
            feed=_named(law.names, flows[k]),
            eluate=_named(law.names, chosen.eluted[k] * flows[k]),
            strip=_named(law.names, (1 - chosen.eluted[k] - chosen.lost[k]) * flows[k]),
            effluent=_named(law.names, lost[k]),
        )
        for k in range(len(rate))
    )
    return AffinityDesign(
        products=pair,
        each=tuple(each),
        brought=brought,
        buffer="" if bed.buffer is None else bed.buffer.name,
        load_pH=bed.pH,
        load_conc=bed.conc,
        reference_pH=reference_pH(law, pair[0]),
        pools=pools,
        columns=columns,
        feed_position=chosen.position,
        column_volume=float(volume.sum()),
        cycle_time=float((volume @ cycle_time) / volume.sum()),
        productivity=rare_earth_total(feed) / float(volume.sum()),
        recycle_ratio=float(fed.sum() / moles.sum()) - 1,
        reagents={
            "HCl": float((acid + more).sum()),
            "NaOH": float(base.sum()),
            **({} if bed.buffer is None else {bed.buffer.name: float((load * buffer).sum())}),
        },
        salt=float(base.sum()),
        water=float((eluate + strip + rinses + dilution).sum()),
        wastewater=float((load + rinses).sum()),
        protein_inventory=density * float(volume.sum()),
        protein_makeup=density * beads,
        bead_makeup=beads,
        cycles_to_end_of_life=run.cycles,
        pump_power=float(through.sum()) * run.pressure / run.pump_efficiency,
        purity=purity,
        recovery=recovery,
        shortfalls={p.name: products_.shortfalls(p, _earths(pools[p.name]), feed) for p in pair},
        polish=_polish(pair, feed),
        residual=residual,
        warnings=_warnings(feed, bed, columns),
    )


def _named(names: Sequence[str], values: Array) -> dict[str, float]:
    return dict(zip(names, values.tolist(), strict=True))


def _earths(pool: Pool) -> dict[str, float]:
    """The rare earths of a pool."""
    return {e: n for e, n in pool.moles.items() if e in RARE_EARTHS}


def _outlets(
    feed: Mapping[str, float],
    pair: tuple[Product, Product],
    names: Sequence[str],
    flows: Array,
    chosen: Settings,
    run: Operation,
) -> dict[str, dict[str, float]]:
    """Moles by outlet; the flow-through takes the rest of every element, so that all is there."""
    heavy, light = end_pools_of(flows, chosen)
    out = {pair[0].name: _named(names, heavy), pair[1].name: _named(names, light)}
    strip = out[pair[1].name]
    for element, amount in feed.items():
        if element in names:
            continue
        kept = 1 - run.loss if element in RARE_EARTHS else run.carryover
        strip[element] = amount * (1.0 if element == "Fe" else kept)
    rest = {e: n - out[pair[0].name].get(e, 0.0) - strip.get(e, 0.0) for e, n in feed.items()}
    return {**out, "flow-through": {e: max(n, 0.0) for e, n in rest.items()}}


def _pH(acid: float) -> float:
    """pH of free acid [mol/m3]."""
    return float(-np.log10(max(float(acid), 1 / C_STANDARD**2) / C_STANDARD))


def _polish(pair: tuple[Product, Product], feed: Mapping[str, float]) -> tuple[str, ...]:
    """Splits inside the groups, which this column does not make."""
    groups = [[e for e in p.elements if feed.get(e, 0.0) > 0] for p in pair]
    return tuple(" / ".join(group) for group in groups if len(group) > 1)


def _warnings(
    feed: Mapping[str, float], bed: Bed, columns: tuple[AffinityColumn, ...]
) -> tuple[Warned, ...]:
    """What the reader of a design must know."""
    law, found = bed.law, []
    if bed.buffer is not None:
        bare = [e for e, k in zip(law.names, bed.buffer.complexes, strict=True) if k == 0]
        if bare:
            found.append(
                Warned(
                    code="no-complex-constant",
                    message=f"{', '.join(bare)}: no {bed.buffer.name} complex in the data; taken "
                    "as free in the load",
                    where=", ".join(bare),
                )
            )
    unknown = [e for e in feed if e in RARE_EARTHS and feed[e] > 0 and e not in law.names]
    if unknown:
        found.append(
            Warned(
                code="no-pair-constant",
                message=f"{', '.join(unknown)}: no binding constant; counted into the strip",
                where=", ".join(unknown),
            )
        )
    metals = [e for e in feed if e not in RARE_EARTHS and feed[e] > 0]
    if metals:
        found.append(
            Warned(
                code="base-metals-at-void",
                message=f"{', '.join(metals)} pass at the void but for the stated carry-over; "
                "what Fe is left goes to the strip",
                where=", ".join(metals),
            )
        )
    if min(c.elution_pH for c in columns) < 2 + 1 / 10:
        found.append(
            Warned(
                code="elution-tail",
                message="near pH 2.0 published elution tails more than equilibrium stages do; the "
                "eluent volume carries a factor for it",
            )
        )
    if len(columns) > 1:
        found.append(
            Warned(
                code="pools-loaded-again",
                message=f"{len(columns)} columns in series; pools in between are brought to the "
                "loading pH and loaded again",
            )
        )
    return tuple(found)
