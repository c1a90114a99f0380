"""Ligand-assisted displacement by the constant-pattern theory: columns, ligands, zone splitting.

A feed loaded on a cation exchanger in the presaturant's form is driven by a ligand solution; the
metals order themselves by their ligand constants, strongest complex first, and travel as one train
of bands. Each boundary costs a mixed zone of fixed length. A first column gives the broad bands; a
mixed zone, with every band too short for it, goes to a column of its own whose mixed zones return
to its feed. Where another ligand tells neighbours apart better, they leave together and are split
on a second train with that ligand. Regeneration is charged to time and reagents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sepmodel import products as products_
from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.displacement_columns import (
    DisplacementColumn,
    bed_rate,
    circulated_ligand,
)
from sepmodel.chromatography.displacement_operation import (
    Operation,
    operation,
    presaturant_volume,
)
from sepmodel.chromatography.ligands import (
    Chemistry,
    boundary_alphas,
    groups_of,
    ligand_constants,
)
from sepmodel.chromatography.results import Pool, check_feed, check_groups, rare_earth_total
from sepmodel.chromatography.zone_trains import AHEAD, Separation
from sepmodel.chromatography.zones import resolvable_load
from sepmodel.data import Book, set_meta
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.products import Product
from sepmodel.result import Warned
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass, oxide_mass_per_mole

LOSS = "loss"
"""Name of the outlet that takes base metals and handling losses."""

_TIGHTENINGS = 32
# Rounds before a train is given up, and how often a round's gain the gap must then exceed.
_PATIENCE = 8
_HOPE = 64.0
_SETTLED = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplacementDesign:
    """A displacement plant, averaged over whole cycles; strict SI.

    ``pools`` by product, by-product, "ahead" (left with the presaturant) and "loss";
    ``one_column`` the recoveries by one pass of a single column, cut as this plant's and with its
    losses, against those demanded;
    ``alternatives`` ligand in circulation [mol/s] of every train that meets the products,
    ``refused`` why a ligand alone does not; ``duties`` under the names of the price tables.
    """

    products: tuple[Product, ...]
    pools: Mapping[str, Pool]
    columns: tuple[DisplacementColumn, ...]
    one_column: Mapping[str, tuple[float, float]]
    column_volume: float
    cycle_time: float
    productivity: float
    reagents: Mapping[str, float]
    ligand_circulated: Mapping[str, float]
    ligand_recycled: float
    presaturant_inventory: float
    salt: float
    water: float
    wastewater: float
    resin_makeup: float
    pump_power: float
    retention: Mapping[str, Mapping[str, float]]
    purity: Mapping[str, float]
    recovery: Mapping[str, float]
    shortfalls: Mapping[str, Mapping[str, tuple[float, float]]]
    alternatives: Mapping[str, float]
    refused: Mapping[str, str]
    warnings: tuple[Warned, ...]
    ligand_masses: Mapping[str, float]

    @property
    def volume_per_feed(self) -> float:
        """Column volume per rare earth fed [m3 per mol/s]."""
        fed = sum(pool.total for pool in self.pools.values())
        return self.column_volume / fed

    @property
    def duties(self) -> dict[str, float]:
        """Consumption and discharge: kg/s of substance, m3/s of water and resin, W of power."""
        return {
            **{name: self.reagents[name] * mass for name, mass in self.ligand_masses.items()},
            **{name: self.reagents[name] * molar_mass(name) for name in ("HCl", "NaOH", "CuSO4")},
            "water": self.water,
            "wastewater": self.wastewater,
            "salt": self.salt * molar_mass("NaCl"),
            "resin": self.resin_makeup,
            "power": self.pump_power,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """The chosen train, what it circulates, and what else was looked at."""

    columns: tuple[DisplacementColumn, ...]
    outlets: Mapping[str, Mapping[str, float]]
    circulated: Mapping[str, float]
    alternatives: Mapping[str, float] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


def design(
    feed: Mapping[str, float],
    products: Sequence[Product],
    book: Book,
    *,
    ligands: Sequence[str] = ("edta", "dtpa"),
    presaturant: str = "Cu",
    zone_splitting: bool = True,
    length: float | None = None,
    velocity: float | None = None,
    ligand_recycle: float | None = None,
    tighter: Mapping[str, float] | None = None,
) -> DisplacementDesign:
    """The displacement plant with the least ligand in circulation that meets the products.

    Every allowed ligand is tried for the whole train, and for the train without the neighbours that
    another ligand tells apart better, which then get a train of their own.

    Parameters
    ----------
    feed
        molar flows [mol/s] after iron and aluminium removal
    zone_splitting
        False: one column, no recycle; a minor band between two others then fails
    length, velocity
        packed length [m] and superficial velocity [m/s] instead of the book's; the velocity is
        lowered where mixed zones would take too much of a column
    ligand_recycle
        share of the circulated ligand that is used again, instead of the book's
    tighter
        share of its impurity allowance that the cuts of a product may use up, times the book's

    Raises
    ------
    InputError
        for an unusable feed or products that overlap.
    InfeasibleError
        with the limit and the nearest value when no ligand meets the specification.

    >>> wanted = [Product(name=e, elements=(e,), purity=0.99, recovery=0.9) for e in ("Nd", "Pr")]
    >>> plant = design({"Nd": 0.75, "Pr": 0.25}, wanted, Book())
    >>> {column.ligand for column in plant.columns}
    {'dtpa'}
    """
    check_feed(feed)
    check_groups([p.elements for p in products], feed)
    run = operation(book, length=length, velocity=velocity)
    if ligand_recycle is not None:
        run = replace(run, ligand_recycle=ligand_recycle)
    _check_base_metals(feed, run)
    moles = {e: n * (1 - run.loss) for e, n in feed.items() if e in RARE_EARTHS and n > 0}
    purity = {
        p.name: 1
        - (tighter or {}).get(p.name, 1.0) * run.allowance_used * (1 - _mole_purity(p, moles))
        for p in products
    }
    constants: dict[str, dict[str, float]] = {}
    refused: dict[str, str] = {}
    for ligand in ligands:
        try:
            constants[ligand] = ligand_constants(ligand, list(moles), book)
        except InputError as error:
            refused[ligand] = str(error)
    chemistry = Chemistry(
        constants=constants,
        ahead={k: ligand_constants(k, [presaturant], book)[presaturant] for k in constants},
        preference=math.log10(run.preference),
    )
    best: _Plan | None = None
    nearest: dict[str, float] = {}
    alternatives: dict[str, float] = {}
    for ligand in constants:
        for apart in (False, True):
            try:
                way = Separation(moles, products, ligand, apart, chemistry, run, zone_splitting)
                found = _meet(feed, products, purity, way, run, zone_splitting)
            except InfeasibleError as error:
                if not apart:
                    refused[ligand], nearest = str(error), error.nearest
                continue
            size = sum(found.circulated.values())
            alternatives[f"{ligand}, best ligand per pair" if apart else ligand] = size
            if best is None or size < sum(best.circulated.values()) * (1 - _SETTLED):
                best = found
    if best is None:
        raise InfeasibleError(
            "displacement does not meet the specification: "
            + "; ".join(f"{k}: {why}" for k, why in refused.items()),
            limit={p.name: p.purity for p in products},
            nearest=nearest,
        )
    plan = replace(best, alternatives=alternatives, refused=refused)
    return _assemble(feed, products, plan, purity, chemistry, run, presaturant)


def _check_base_metals(feed: Mapping[str, float], run: Operation) -> None:
    for metal in ("Fe", "Al"):
        ratio = feed.get(metal, 0.0) / rare_earth_total(feed)
        if ratio > run.base_metal_most:
            raise InfeasibleError(
                f"{metal} has to be removed before displacement: {ratio:.2g} mol per mol of rare "
                "earth",
                limit={f"{metal} per rare earth": run.base_metal_most},
                nearest={f"{metal} per rare earth": run.base_metal_most},
            )


def _meet(
    feed: Mapping[str, float],
    products: Sequence[Product],
    purity: Mapping[str, float],
    way: Separation,
    run: Operation,
    zone_splitting: bool,
) -> _Plan:
    """A train that meets the products: neighbours are purified until recoveries are met."""
    purity = dict(purity)
    gaps: list[float] = []
    for _ in range(_TIGHTENINGS):
        train = way.at(purity)
        missed = {p.name: _shortfalls(p, train.outlets[p.name], feed) for p in products}
        short = [p for p in products if missed[p.name]]
        if not short:
            columns = train.columns(run)
            return _Plan(
                columns=columns,
                outlets=train.outlets,
                circulated=circulated_ligand(columns, run),
            )
        if not zone_splitting:
            break
        gaps.append(sum(asked - got for p in short for got, asked in missed[p.name].values()))
        # Each round halves what neighbours may hold, so what it gains halves too: what is missed by
        # more than all further rounds can bring will not be met.
        if len(gaps) > _PATIENCE and gaps[-1] > _HOPE * max(gaps[-2] - gaps[-1], 0.0):
            break
        culprits = {_culprit(p, missed[p.name], train.outlets) for p in short} - {None}
        if not culprits:
            break
        for name in culprits:
            purity[str(name)] = 1 - 0.5 * (1 - purity.get(str(name), run.byproduct_purity))
    short.sort(key=lambda p: p.name)
    what, (reached, demanded) = next(iter(missed[short[0].name].items()))
    raise InfeasibleError(
        f"{what} of {short[0].name} reaches {reached:.4f} of {demanded:.4f}",
        limit={f"{short[0].name} {what}": demanded},
        nearest={f"{short[0].name} {what}": reached},
    )


def _culprit(
    product: Product,
    missed: Mapping[str, tuple[float, float]],
    outlets: Mapping[str, Mapping[str, float]],
) -> str | None:
    """The outlet to cut sharper: the product itself if impure, else whoever holds most of it."""
    if "recovery" not in missed:
        return product.name
    held = {
        name: sum(out.get(e, 0.0) for e in product.elements)
        for name, out in outlets.items()
        if name != product.name
    }
    name = max(sorted(held), key=lambda other: held[other])
    return name if held[name] > 0 else None


def _shortfalls(
    product: Product, moles: Mapping[str, float], feed: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """``products.shortfalls``, with an empty pool as a recovery of zero."""
    if not sum(moles.values()) > 0:
        return {"recovery": (0.0, product.recovery)}
    return products_.shortfalls(product, moles, feed)


def _mole_purity(product: Product, moles: Mapping[str, float]) -> float:
    """Mole purity that guarantees the product's purity on its own basis, whatever the impurity."""
    if product.purity_basis == "mole":
        return product.purity
    own = min(oxide_mass_per_mole(e) for e in product.elements)
    other = max(oxide_mass_per_mole(e) for e in moles)
    dirt = (1 - product.purity) / product.purity * own / other
    return 1 / (1 + dirt)


def _assemble(
    feed: Mapping[str, float],
    products: Sequence[Product],
    plan: _Plan,
    purity: Mapping[str, float],
    chemistry: Chemistry,
    run: Operation,
    presaturant: str,
) -> DisplacementDesign:
    """Reagents, water and make-up of a train, and where everything ends."""
    columns, circulated = plan.columns, plan.circulated
    beds = sum(bed_rate(c, run) for c in columns)
    volume = sum(c.volume for c in columns)
    ligand = sum(circulated.values())
    presaturant_used = beds * run.resin_eq / CHARGES["Cu"] * run.presaturant_excess
    displacer = ligand / run.ligand_conc
    water = displacer + beds * (presaturant_volume(run) + run.rinse_volume)
    pools = {
        name: Pool(name=name, moles=moles, flow=sum(moles.values()) / run.ligand_conc)
        for name, moles in plan.outlets.items()
        if sum(moles.values()) > 0
    }
    rest = {e: n - sum(p.moles.get(e, 0.0) for p in pools.values()) for e, n in feed.items()}
    pools[LOSS] = Pool(name=LOSS, moles={e: max(n, 0.0) for e, n in rest.items()})
    masses = {k: molar_mass(str(set_meta(f"ligands/{k}")["acid"])) for k in circulated}
    base = run.base_per_ligand * ligand
    return DisplacementDesign(
        products=tuple(products),
        pools=pools,
        columns=columns,
        one_column=_one_column(products, purity, columns[0].ligand, feed, chemistry, run),
        column_volume=volume,
        cycle_time=sum(c.volume * c.cycle_time for c in columns) / volume,
        productivity=rare_earth_total(feed) / volume,
        reagents={
            **{k.upper(): (1 - run.ligand_recycle) * n for k, n in circulated.items()},
            "HCl": run.acid_per_ligand * ligand,
            "NaOH": base,
            "CuSO4": (1 - run.presaturant_recycle) * presaturant_used,
        },
        ligand_circulated=dict(circulated),
        ligand_recycled=run.ligand_recycle,
        presaturant_inventory=volume * run.resin_eq / CHARGES["Cu"],
        salt=base,
        water=water,
        wastewater=water - sum(p.flow for p in pools.values()),
        resin_makeup=volume / run.resin_life,
        pump_power=water * run.pressure / run.pump_efficiency,
        retention={
            k: {e: chemistry.ahead[k] - v for e, v in chemistry.constants[k].items()}
            for k in circulated
        },
        purity={
            p.name: products_.purity(pools[p.name].moles, p.elements, p.purity_basis)
            for p in products
        },
        recovery={
            p.name: products_.recovery(pools[p.name].moles, feed, p.elements, p.purity_basis)
            for p in products
        },
        shortfalls={p.name: products_.shortfalls(p, pools[p.name].moles, feed) for p in products},
        ligand_masses={k.upper(): m for k, m in masses.items()},
        alternatives=dict(plan.alternatives),
        refused=dict(plan.refused),
        warnings=_warnings(feed, columns, pools.get(AHEAD), chemistry, presaturant),
    )


def _one_column(
    products: Sequence[Product],
    purity: Mapping[str, float],
    ligand: str,
    feed: Mapping[str, float],
    chemistry: Chemistry,
    run: Operation,
) -> dict[str, tuple[float, float]]:
    """Yield of every product from one pass of one column with ``ligand``, and what is demanded."""
    moles = feed_earths(feed)
    found = {p.name: (0.0, p.recovery) for p in products}
    try:
        groups = groups_of(moles, products, ligand, chemistry)
        alphas = boundary_alphas(groups, ligand, chemistry)
    except InfeasibleError:
        return found
    longest, mixing = resolvable_load(alphas, run) * run.length, run.mixing(run.velocity)
    total = sum(moles.values())
    sides = zip(groups, [None, *alphas], [*alphas, None], strict=True)
    for group, front, rear in sides:
        if group.name in found:
            band = longest * sum(moles[e] for e in group.elements) / total
            asked = purity[group.name]
            reached = pattern.pool_yield(band, asked, mixing, front, rear)
            found[group.name] = (reached * (1 - run.loss), found[group.name][1])
    return found


def feed_earths(feed: Mapping[str, float]) -> dict[str, float]:
    """The rare earths of a feed."""
    return {e: n for e, n in feed.items() if e in RARE_EARTHS and n > 0}


def _warnings(
    feed: Mapping[str, float],
    columns: Sequence[DisplacementColumn],
    ahead: Pool | None,
    chemistry: Chemistry,
    presaturant: str,
) -> tuple[Warned, ...]:
    """What the reader of a design must know."""
    found = []
    if ahead is not None:
        found.append(
            Warned(
                code="ahead-of-presaturant",
                message=f"{', '.join(ahead.moles)}: stronger complexes than {presaturant}'s, leave "
                f"with it ahead of the train",
                where=", ".join(ahead.moles),
            )
        )
    for ligand in dict.fromkeys(c.ligand for c in columns):
        inside = dict.fromkeys(e for c in columns if c.ligand == ligand for e in c.fresh)
        weak = [e for e in inside if chemistry.constants[ligand][e] > chemistry.ahead[ligand]]
        if weak:
            found.append(
                Warned(
                    code="presaturant-retention",
                    message=f"{ligand}: log K of {presaturant} is below that of "
                    f"{', '.join(weak)}; the front holds only by the resin's estimated preference",
                    where=ligand,
                )
            )
    for column in columns:
        short = _short_bands(column)
        if short and not column.recycled:
            found.append(
                Warned(
                    code="short-band",
                    message=f"{', '.join(short)}: band below 3 alpha Lambda/(alpha - 1); the "
                    "closed-form yield is a conservative estimate there",
                    where=column.name,
                )
            )
    metals = [e for e in feed if e not in RARE_EARTHS and feed[e] > 0]
    if metals:
        found.append(
            Warned(
                code="base-metals",
                message=f"{', '.join(metals)}: taken to leave beside the train, none in a product",
                where=", ".join(metals),
            )
        )
    return tuple(found)


def _short_bands(column: DisplacementColumn) -> list[str]:
    """Outlets whose band is shorter than the closed forms ask for."""
    alphas = list(column.alpha.values())
    short = []
    for name, front, rear in zip(column.outlets, [None, *alphas], [*alphas, None], strict=True):
        needs = max(
            (pattern.resolved_band(a, column.mixing_length) for a in (front, rear) if a),
            default=0.0,
        )
        if column.bands[name] < needs:
            short.append(name)
    return short
