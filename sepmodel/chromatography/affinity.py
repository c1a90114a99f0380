"""Lanmodulin columns for a group split: load, wash, selective elution, strip, re-equilibrate.

Heavy rare earths leave first, in the selective eluate at a chosen pH; light ones stay and leave in
the strip. Where one column does not reach the specification, columns in series pass their eluate
forward and their strip back. The eluent spent on protonating the protein is charged beside the
volume the equilibrium stages ask for.

Published lanmodulins do not split Nd from Pr, and Tb from Dy poorly: this is a group split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product as product_

import numpy as np
from numpy.typing import NDArray

from sepmodel import products as products_
from sepmodel.chromatography.binding import C_STANDARD, PairLaw, pair_law
from sepmodel.chromatography.results import Pool, check_feed, check_groups, rare_earth_total
from sepmodel.chromatography.series import (
    Goal,
    Menus,
    Settings,
    bed_rate,
    best_series,
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


@dataclass(frozen=True, kw_only=True, slots=True)
class AffinityColumn:
    """One column position of the plant: what it is fed, how it is run, what leaves it (mol/s)."""

    load_fraction: float
    elution_pH: float
    elution_volume: float
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
    ``reagents`` mol/s; ``duties`` kg/s, m3/s or W under the names of the price and factor tables.
    """

    products: tuple[Product, ...]
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
    heavy, light = products
    check_groups([heavy.elements, light.elements], feed)
    run = operation(book, plates)
    _check_iron(feed, run)
    known = [e for e in feed if e in RARE_EARTHS and feed[e] > 0]
    bindable = [e for e in known if f"proteins/{protein}:K-ratio-{e}" in book]
    law = pair_law(bindable, book, protein)
    moles = np.array([feed[e] for e in bindable]) * (1 - run.loss)
    conc = min(feed_conc or run.conc_most, run.conc_most)
    arriving = rare_earth_total(feed) / (feed_conc or run.conc_most)
    goal = goal_of(bindable, feed, (heavy, light))
    pH = elution_range(law, heavy, light)
    reached, settings = one_column(moles, law, run, goal, pH, conc)
    residual = 0.0
    if reached > 1:
        nearest, best = reached, settings
        menus = Menus(moles / moles.sum(), law, run, pH, conc, goal.members[0])
        for count, tighten in product_(range(2, columns_most + 1), range(_TIGHTENINGS)):
            settings = best_series(moles, law, run, goal, menus, count, tighten)
            promised = float(goal.misses(end_pools_of(column_feeds(moles, settings), settings)))
            if promised > 1:
                # A longer series that is hardly nearer will not arrive either.
                hopeless = count > 2 and promised > _PROGRESS * nearest
                if promised < nearest:
                    nearest, best = promised, settings
                if hopeless:
                    raise _infeasible(moles, goal, best, (heavy, light), count)
                continue
            reached, settings, residual = refine(moles, settings, law, run, goal, arriving)
            if reached <= 1:
                break
            if reached < nearest:
                nearest, best = reached, settings
        else:
            raise _infeasible(moles, goal, best, (heavy, light), columns_most)
    return _assemble(
        feed,
        moles,
        (heavy, light),
        settings,
        residual,
        law,
        run,
        book,
        arriving=arriving,
        feed_pH=run.load_pH if feed_pH is None else feed_pH,
        protein=protein,
    )


def _infeasible(
    moles: Array, goal: Goal, best: Settings, pair: tuple[Product, Product], most: int
) -> InfeasibleError:
    """What the best series of columns came to, as an error that names the nearest values."""
    nearest: dict[str, float] = {}
    pools = end_pools_of(column_feeds(moles, best), best)
    for product, pool, member, weight in zip(pair, pools, goal.members, goal.weights, strict=True):
        mine = float(pool @ (weight * member))
        nearest[f"{product.name} purity"] = mine / float(pool @ weight)
        nearest[f"{product.name} recovery"] = mine / float(goal.feed @ (weight * member))
    return InfeasibleError(
        f"{most} lanmodulin columns in series do not split "
        f"{'+'.join(pair[0].elements)} from {'+'.join(pair[1].elements)} as specified",
        limit={
            f"{p.name} {what}": value
            for p in pair
            for what, value in (("purity", p.purity), ("recovery", p.recovery))
        },
        nearest=nearest,
    )


def _check_iron(feed: Mapping[str, float], run: Operation) -> None:
    ratio = feed.get("Fe", 0.0) / rare_earth_total(feed)
    if ratio > run.iron_most:
        raise InfeasibleError(
            "iron has to be removed (hydrolysis near pH 3) before a lanmodulin column: colloids "
            f"stay in the bed and dissolve in the strip; {ratio:.2g} mol Fe per mol rare earth",
            limit={"Fe per rare earth": run.iron_most},
            nearest={"Fe per rare earth": run.iron_most},
        )


def _acid(pH: float | Array) -> Array:
    """Hydrogen ions [mol/m3] at a pH."""
    return np.asarray(C_STANDARD * 10.0 ** -np.asarray(pH))


def _assemble(
    feed: Mapping[str, float],
    moles: Array,
    pair: tuple[Product, Product],
    chosen: Settings,
    residual: float,
    law: PairLaw,
    run: Operation,
    book: Book,
    *,
    arriving: float,
    feed_pH: float,
    protein: str,
) -> AffinityDesign:
    """Volumes, times, reagents and make-up of the chosen columns, and where everything ends."""
    flows = column_feeds(moles, chosen)
    fed, lost = flows.sum(axis=1), chosen.lost * flows
    rate = bed_rate(flows, chosen, law)
    load, dilution = load_flow_of(flows, chosen, law, run, arriving)
    eluate, strip = rate * chosen.volume * run.volume_factor, rate * run.strip_volume
    rinses = rate * (run.wash_volume + run.rinse_volume)
    through = load + eluate + strip + rinses
    cycle_time = through / rate * run.bed_length / run.velocity
    volume = rate * cycle_time

    # Protons taken up in the elution are charged beside the eluent's; the strip volume is measured.
    acid_eluate, acid_strip = eluate * _acid(chosen.pH), strip * _acid(run.strip_pH)
    taken_up = run.protons * (chosen.eluted * flows).sum(axis=1)
    acid = acid_eluate + taken_up + acid_strip + rinses * _acid(run.load_pH)
    # Base holds the loading pH against released protons and the acid of pools loaded again.
    base: Array = run.protons * (fed - lost.sum(axis=1))
    base[1:] += acid_eluate[:-1]
    base[:-1] += acid_strip[1:]
    base[chosen.position] += max(0.0, float(_acid(feed_pH) - _acid(run.load_pH))) * arriving
    density = book[f"proteins/{protein}:protein-density"]
    density *= book[f"proteins/{protein}:protein-molar-mass"]
    beads = float(rate.sum()) / run.cycles

    outlets = _outlets(feed, pair, law.names, flows, chosen, run)
    pools = _with_liquor(outlets, pair, eluate, strip, float((load + rinses).sum()), chosen, run)
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
            elution_volume=float(chosen.volume[k]) * run.volume_factor,
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
        pools=pools,
        columns=columns,
        feed_position=chosen.position,
        column_volume=float(volume.sum()),
        cycle_time=float((volume @ cycle_time) / volume.sum()),
        productivity=rare_earth_total(feed) / float(volume.sum()),
        recycle_ratio=float(fed.sum() / moles.sum()) - 1,
        reagents={"HCl": float(acid.sum()), "NaOH": float(base.sum())},
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
        warnings=_warnings(feed, law, run, columns),
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


def _with_liquor(
    outlets: Mapping[str, Mapping[str, float]],
    pair: tuple[Product, Product],
    eluate: Array,
    strip: Array,
    through: float,
    chosen: Settings,
    run: Operation,
) -> dict[str, Pool]:
    """The outlets as pools with their liquor: last eluate, first strip, everything that passed."""
    liquor = {
        pair[0].name: (float(eluate[-1]), float(chosen.pH[-1])),
        pair[1].name: (float(strip[0]), run.strip_pH),
        "flow-through": (through, run.load_pH),
    }
    return {
        name: Pool(name=name, moles=outlets[name], flow=flow, pH=pH)
        for name, (flow, pH) in liquor.items()
    }


def _polish(pair: tuple[Product, Product], feed: Mapping[str, float]) -> tuple[str, ...]:
    """Splits inside the groups, which this column does not make."""
    groups = [[e for e in p.elements if feed.get(e, 0.0) > 0] for p in pair]
    return tuple(" / ".join(group) for group in groups if len(group) > 1)


def _warnings(
    feed: Mapping[str, float], law: PairLaw, run: Operation, columns: tuple[AffinityColumn, ...]
) -> tuple[Warned, ...]:
    """What the reader of a design must know."""
    found = [
        Warned(
            code="self-acidification",
            message=f"the model holds pH {run.load_pH:g} while loading; the base for "
            f"{run.protons:g} protons per rare earth is charged, its control is not modelled",
        )
    ]
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
                message=f"{len(columns)} columns in series; pools in between are neutralised to "
                "the loading pH and loaded again",
            )
        )
    return tuple(found)
