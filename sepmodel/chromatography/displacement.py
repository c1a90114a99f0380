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
from dataclasses import dataclass, replace
from itertools import pairwise

from sepmodel import products as products_
from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.results import Pool, check_feed, check_groups, rare_earth_total
from sepmodel.data import Book, set_meta
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.products import Product
from sepmodel.result import Warned
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass, oxide_mass_per_mole

LOSS = "loss"
"""Name of the outlet that takes base metals and handling losses."""

_TIGHTENINGS = 32
_HALVINGS = 10
_FIXED_POINT = 100
_SETTLED = 1e-12
_NOTHING = 1e-30
_SMALLEST_ALPHA = 1 + 1e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """Bed and operation of displacement columns, strict SI. Read by ``operation(book)``."""

    resin_eq: float
    void: float
    dispersion: float
    rate: float
    velocity_rated: float
    velocity: float
    ligand_conc: float
    length: float
    presaturant_conc: float
    presaturant_excess: float
    rinse_volume: float
    load_most: float
    mixed_most: float
    byproduct_purity: float
    ligand_recycle: float
    acid_per_ligand: float
    base_per_ligand: float
    presaturant_recycle: float
    loss: float
    preference: float
    base_metal_most: float
    pressure: float
    pump_efficiency: float
    resin_life: float

    @property
    def resin(self) -> float:
        """Rare earth on the resin per bed volume [mol/m3]: a third of the equivalents."""
        return self.resin_eq / CHARGES["Nd"]

    @property
    def capacity(self) -> float:
        """Rare earth per bed volume of train [mol/m3]."""
        return pattern.bed_capacity(self.void, self.ligand_conc, self.resin)

    def mixing(self, velocity: float) -> float:
        """Mixing length [m]; dispersion grows with velocity as in any packed bed."""
        dispersion = self.dispersion * velocity / self.velocity_rated
        return pattern.mixing_length(
            velocity, self.ligand_conc, self.capacity, self.void, dispersion, self.rate
        )


def operation(
    book: Book,
    *,
    resin: str = "strong-acid-x8",
    length: float | None = None,
    velocity: float | None = None,
) -> Operation:
    """Bed and operation from ``resins/``; ``length`` [m] and ``velocity`` [m/s] override."""
    bed, run = f"resins/{resin}:", "resins/displacement-operation:"
    rated = book[run + "velocity"]
    return Operation(
        resin_eq=book[bed + "capacity-eq"],
        void=book[bed + "void"],
        dispersion=book[bed + "dispersion"],
        rate=book[bed + "rate"],
        resin_life=book[bed + "life"],
        velocity_rated=rated,
        velocity=rated if velocity is None else velocity,
        length=book[run + "length"] if length is None else length,
        ligand_conc=book[run + "ligand-conc"],
        presaturant_conc=book[run + "presaturant-conc"],
        presaturant_excess=book[run + "presaturant-excess"],
        rinse_volume=book[run + "rinse-volume"],
        load_most=book[run + "load-most"],
        mixed_most=book[run + "mixed-most"],
        byproduct_purity=book[run + "byproduct-purity"],
        ligand_recycle=book[run + "ligand-recycle"],
        acid_per_ligand=book[run + "acid-per-ligand"],
        base_per_ligand=book[run + "base-per-ligand"],
        presaturant_recycle=book[run + "presaturant-recycle"],
        loss=book[run + "handling-loss"],
        preference=book[run + "resin-preference-presaturant"],
        base_metal_most=book[run + "base-metal-most"],
        pressure=book[run + "pressure-drop"],
        pump_efficiency=book[run + "pump-efficiency"],
    )


def ligand_constants(ligand: str, elements: Sequence[str], book: Book) -> dict[str, float]:
    """log10 of the 1:1 constants of a ligand (a set under ligands/) for some elements.

    >>> ligand_constants("edta", ["Dy", "Tb"], Book())
    {'Dy': 18.3, 'Tb': 17.87}
    """
    key = f"ligands/{ligand}:log-K-"
    missing = [e for e in elements if key + e not in book]
    if missing:
        raise InputError(Problem(message=f"{ligand} has no constant for", value=", ".join(missing)))
    return {e: book[key + e] for e in elements}


def selectivity(ligand: str, fast: str, slow: str, book: Book) -> float:
    """Separation factor of two metals: ratio of their 1:1 constants, the resin taken as neutral.

    >>> round(selectivity("dtpa", "Nd", "Pr", Book()), 1)
    3.3
    """
    log_k = ligand_constants(ligand, [fast, slow], book)
    return float(10.0 ** (log_k[fast] - log_k[slow]))


def retention(
    ligand: str, elements: Sequence[str], book: Book, presaturant: str = "Cu"
) -> dict[str, float]:
    """log10 by which the presaturant's complex is stronger than each element's; negative: it leaks.

    The retaining front holds only where the presaturant binds the ligand better than every metal of
    the feed.

    >>> {e: round(m, 2) for e, m in retention("edta", ["Dy", "Lu"], Book()).items()}
    {'Dy': 0.5, 'Lu': -0.94}
    """
    ahead = ligand_constants(ligand, [presaturant], book)[presaturant]
    return {e: ahead - k for e, k in ligand_constants(ligand, elements, book).items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplacementColumn:
    """One column position: what it separates, its bands, size and time; strict SI, mol/s.

    ``pools`` by outlet; ``mixed`` returns to the column's own feed (splitting columns) or goes to
    the columns named in ``hands_on``.
    """

    name: str
    ligand: str
    outlets: tuple[str, ...]
    alpha: Mapping[str, float]
    zone_length: Mapping[str, float]
    bands: Mapping[str, float]
    single_pass_yield: Mapping[str, float]
    load_fraction: float
    length: float
    velocity: float
    mixing_length: float
    fresh: Mapping[str, float]
    throughput: float
    mixed_share: float
    hands_on: tuple[str, ...]
    recycled: bool
    cycle_time: float
    volume: float
    productivity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplacementDesign:
    """A displacement plant, averaged over whole cycles; strict SI.

    ``pools`` by product, by-product and "loss"; ``one_column`` the yields of a single column
    without recycle against the recoveries demanded; ``alternatives`` ligand in circulation [mol/s]
    of every train that meets the products, ``refused`` why a ligand alone does not; ``duties``
    under the names of the price tables.
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
class _Group:
    """Elements that leave together, fastest first, at a mole purity ``purity``."""

    name: str
    elements: tuple[str, ...]
    purity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class _Train:
    """Columns and outlets of one way to separate the feed."""

    columns: tuple[DisplacementColumn, ...]
    outlets: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """The chosen train, what it circulates, and what else was looked at."""

    train: _Train
    circulated: Mapping[str, float]
    alternatives: Mapping[str, float]
    refused: Mapping[str, str]


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

    Raises
    ------
    InputError
        for an unusable feed or products that overlap.
    InfeasibleError
        with the limit and the nearest value when no ligand meets the specification.
    """
    check_feed(feed)
    check_groups([p.elements for p in products], feed)
    run = operation(book, length=length, velocity=velocity)
    _check_base_metals(feed, run)
    moles = {e: n * (1 - run.loss) for e, n in feed.items() if e in RARE_EARTHS and n > 0}
    constants: dict[str, dict[str, float]] = {}
    refused: dict[str, str] = {}
    for ligand in ligands:
        try:
            constants[ligand] = ligand_constants(ligand, list(moles), book)
        except InputError as error:
            refused[ligand] = str(error)
    chemistry = _Chemistry(
        constants=constants,
        ahead={k: ligand_constants(k, [presaturant], book)[presaturant] for k in constants},
        preference=math.log10(run.preference),
    )
    best: tuple[float, _Train, dict[str, float]] | None = None
    nearest: dict[str, float] = {}
    alternatives: dict[str, float] = {}
    for ligand in constants:
        for apart in (False, True):
            try:
                found = _meet(feed, moles, products, ligand, apart, chemistry, run, zone_splitting)
            except InfeasibleError as error:
                if not apart:
                    refused[ligand], nearest = str(error), error.nearest
                continue
            circulated = _circulated(found.columns, run)
            size = sum(circulated.values())
            alternatives[f"{ligand}, best ligand per pair" if apart else ligand] = size
            if best is None or size < best[0] * (1 - _SETTLED):
                best = (size, found, circulated)
    if best is None:
        raise InfeasibleError(
            "displacement does not meet the specification: "
            + "; ".join(f"{k}: {why}" for k, why in refused.items()),
            limit={p.name: p.purity for p in products},
            nearest=nearest,
        )
    plan = _Plan(train=best[1], circulated=best[2], alternatives=alternatives, refused=refused)
    return _assemble(feed, products, plan, chemistry, run, presaturant)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chemistry:
    """log10 constants by ligand and element, the presaturant's, and the resin's help to it."""

    constants: Mapping[str, Mapping[str, float]]
    ahead: Mapping[str, float]
    preference: float

    def holds(self, ligand: str, elements: Sequence[str]) -> list[str]:
        """Elements the presaturant cannot stay ahead of, even with the resin's help."""
        limit = self.ahead[ligand] + self.preference
        return [e for e in elements if self.constants[ligand][e] >= limit]

    def alpha(self, ligand: str, fast: str, slow: str) -> float:
        """Ratio of two constants."""
        return float(10.0 ** (self.constants[ligand][fast] - self.constants[ligand][slow]))


def _meet(
    feed: Mapping[str, float],
    moles: Mapping[str, float],
    products: Sequence[Product],
    ligand: str,
    apart: bool,
    chemistry: _Chemistry,
    run: Operation,
    zone_splitting: bool,
) -> _Train:
    """A train that meets the products: neighbours are purified until recoveries are met."""
    purity = {p.name: _mole_purity(p, moles) for p in products}
    for _ in range(_TIGHTENINGS):
        train = _separate(moles, products, purity, ligand, apart, chemistry, run, zone_splitting)
        missed = {p.name: _shortfalls(p, train.outlets[p.name], feed) for p in products}
        short = [p for p in products if missed[p.name]]
        if not short:
            return train
        if not zone_splitting:
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


def _groups(
    moles: Mapping[str, float],
    products: Sequence[Product],
    purity: Mapping[str, float],
    ligand: str,
    chemistry: _Chemistry,
    run: Operation,
) -> list[_Group]:
    """The outlets in the order they leave: products, and the runs of elements nobody ordered."""
    log_k = chemistry.constants[ligand]
    order = sorted(moles, key=lambda e: -log_k[e])
    owner = {e: p.name for p in products for e in p.elements}
    runs: list[tuple[str, list[str]]] = []
    for element in order:
        name = owner.get(element, "")
        if runs and runs[-1][0] == name:
            runs[-1][1].append(element)
        else:
            runs.append((name, [element]))
    names = [name or "-".join(members) for name, members in runs]
    if len(set(names)) != len(names):
        torn = next(name for name in names if names.count(name) > 1)
        raise InfeasibleError(
            f"with {ligand} the elements of {torn} do not leave one after the other",
            limit={"order": ", ".join(order)},
        )
    return [
        _Group(name=n, elements=tuple(members), purity=purity.get(n, run.byproduct_purity))
        for n, (_, members) in zip(names, runs, strict=True)
    ]


def _separate(
    moles: Mapping[str, float],
    products: Sequence[Product],
    purity: Mapping[str, float],
    ligand: str,
    apart: bool,
    chemistry: _Chemistry,
    run: Operation,
    zone_splitting: bool,
) -> _Train:
    """One train with ``ligand``; with ``apart``, neighbours another ligand splits better leave it
    together and get a train with that ligand."""
    leak = chemistry.holds(ligand, list(moles))
    if leak:
        raise InfeasibleError(
            f"with {ligand} the presaturant does not stay ahead of {', '.join(leak)}",
            limit={"log10 K of the presaturant": chemistry.ahead[ligand] + chemistry.preference},
            nearest={"log10 K": max(chemistry.constants[ligand][e] for e in leak)},
        )
    groups = _groups(moles, products, purity, ligand, chemistry, run)
    merged = _merge(groups, ligand, chemistry) if apart else [[g] for g in groups]
    if apart and len(merged) == len(groups):
        raise InfeasibleError(
            f"no pair of neighbours is split better by another ligand than {ligand}",
            limit={"ligand": ligand},
        )
    together = [
        _Group(
            name="+".join(g.name for g in part),
            elements=tuple(e for g in part for e in g.elements),
            purity=max(g.purity for g in part)
            if len(part) == 1
            else 1 - 0.5 * (1 - max(g.purity for g in part)),
        )
        for part in merged
    ]
    train = _train(moles, together, ligand, chemistry, run, zone_splitting)
    columns, outlets = list(train.columns), dict(train.outlets)
    for part, group in zip(merged, together, strict=True):
        if len(part) == 1:
            continue
        inside = outlets.pop(group.name)
        own = {e: n for e, n in inside.items() if e in group.elements}
        other = _better(part, ligand, chemistry)
        names = {e: g for g in part for e in g.elements}
        order = sorted(own, key=lambda e: -chemistry.constants[other][e])
        again: list[_Group] = []
        for e in order:
            if not again or again[-1].name != names[e].name:
                again.append(_Group(name=names[e].name, elements=(e,), purity=names[e].purity))
            else:
                again[-1] = replace(again[-1], elements=(*again[-1].elements, e))
        if len(again) != len(part):
            raise InfeasibleError(
                f"with {other} the elements of {group.name} leave in another order",
                limit={"ligand": other},
            )
        second = _train(own, again, other, chemistry, run, zone_splitting)
        columns += second.columns
        outlets.update(second.outlets)
        # What came along from neighbours ends in the pool next to where it came from.
        for e, n in inside.items():
            if e not in own:
                fast = chemistry.constants[ligand][e] > chemistry.constants[ligand][order[0]]
                target = (again[0] if fast else again[-1]).name
                outlets[target] = {**outlets[target], e: outlets[target].get(e, 0.0) + n}
    return _Train(columns=tuple(columns), outlets=outlets)


def _merge(groups: list[_Group], ligand: str, chemistry: _Chemistry) -> list[list[_Group]]:
    """Groups to leave together: neighbours with a better ligand that can be used for them alone."""
    merged = [[groups[0]]]
    for group in groups[1:]:
        pair = [merged[-1][-1], group]
        here = _alpha_between(pair[0], pair[1], ligand, chemistry)
        there = _alpha_between(pair[0], pair[1], _better(pair, ligand, chemistry), chemistry)
        if there > here:
            merged[-1].append(group)
        else:
            merged.append([group])
    return merged


def _better(part: Sequence[_Group], ligand: str, chemistry: _Chemistry) -> str:
    """The ligand that tells the groups apart best, among those the presaturant holds back for."""
    elements = [e for g in part for e in g.elements]
    usable = [k for k in chemistry.constants if k == ligand or not chemistry.holds(k, elements)]

    def worst(k: str) -> float:
        return min(_alpha_between(a, b, k, chemistry) for a, b in pairwise(part))

    return max(usable, key=worst)


def _alpha_between(fast: _Group, slow: _Group, ligand: str, chemistry: _Chemistry) -> float:
    """Smallest ratio of constants between an element of one group and one of the next."""
    return min(chemistry.alpha(ligand, a, b) for a in fast.elements for b in slow.elements)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Boundary:
    """What two cuts at one boundary do [m]: metal lost by either band, and how much of it the other
    pool takes as contamination; the difference is the mixed zone."""

    fast_lost: float
    fast_astray: float
    slow_lost: float
    slow_astray: float

    @property
    def mixed(self) -> float:
        """Length of the mixed zone's metal [m]."""
        return self.fast_lost - self.fast_astray + self.slow_lost - self.slow_astray


def _boundary(alpha: float, mixing: float, fast_depth: float, slow_depth: float) -> _Boundary:
    """A boundary cut for the fast pool at ``fast_depth`` and for the slow pool at ``slow_depth``.

    Where the two cuts would cross, both stand at one place between them and nothing is mixed.
    """
    fast_dirt, slow_dirt = -math.expm1(-fast_depth), -math.expm1(-slow_depth)
    if fast_dirt + slow_dirt >= 1:
        fast_dirt, slow_dirt = (
            fast_dirt / (fast_dirt + slow_dirt),
            slow_dirt / (fast_dirt + slow_dirt),
        )
        fast_depth, slow_depth = -math.log(slow_dirt), -math.log(fast_dirt)
        _, slow_astray = pattern.rear_cut(fast_depth, alpha, mixing)
        _, fast_astray = pattern.front_cut(slow_depth, alpha, mixing)
        return _Boundary(
            fast_lost=fast_astray,
            fast_astray=fast_astray,
            slow_lost=slow_astray,
            slow_astray=slow_astray,
        )
    fast_lost, slow_astray = pattern.rear_cut(fast_depth, alpha, mixing)
    slow_lost, fast_astray = pattern.front_cut(slow_depth, alpha, mixing)
    return _Boundary(
        fast_lost=fast_lost, fast_astray=fast_astray, slow_lost=slow_lost, slow_astray=slow_astray
    )


class _Bands:
    """The metal of each band [mol/s by element, fastest first], taken away from either end."""

    def __init__(self, groups: Sequence[_Group], moles: Mapping[str, float]) -> None:
        self.left = [{e: moles[e] for e in g.elements if moles.get(e, 0.0) > 0} for g in groups]

    def take(self, k: int, amount: float, rear: bool) -> dict[str, float]:
        """Up to ``amount`` [mol/s] of band ``k``, from its rear (slow) or its front end."""
        taken: dict[str, float] = {}
        band = self.left[k]
        for element in reversed(list(band)) if rear else list(band):
            part = min(amount, band[element])
            band[element] -= part
            taken[element] = part
            amount -= part
        return taken


def _add(pool: dict[str, float], more: Mapping[str, float]) -> None:
    for element, amount in more.items():
        pool[element] = pool.get(element, 0.0) + amount


def _alphas(groups: Sequence[_Group], ligand: str, chemistry: _Chemistry) -> list[float]:
    """Selectivity of every boundary; InfeasibleError where a ligand tells two groups not apart."""
    pairs = list(pairwise(groups))
    alphas = [_alpha_between(a, b, ligand, chemistry) for a, b in pairs]
    for (a, b), alpha in zip(pairs, alphas, strict=True):
        if alpha < _SMALLEST_ALPHA:
            raise InfeasibleError(
                f"{ligand} does not tell {a.name} from {b.name} (alpha {alpha:.3f})",
                limit={"alpha": _SMALLEST_ALPHA},
                nearest={"alpha": alpha},
            )
    return alphas


def _load(alphas: Sequence[float], run: Operation) -> float:
    """Loaded share of a column: what its hardest boundary lets it resolve, with a margin."""
    longest = float(max(pattern.minimum_position(list(alphas)))) if alphas else 1.0
    return run.load_most / longest


def _train(
    moles: Mapping[str, float],
    groups: Sequence[_Group],
    ligand: str,
    chemistry: _Chemistry,
    run: Operation,
    zone_splitting: bool,
) -> _Train:
    """A first column for the broad bands, and a column with recycle for each of its mixed zones."""
    alphas = _alphas(groups, ligand, chemistry)
    total = sum(moles[e] for g in groups for e in g.elements)
    sides = list(zip([None, *alphas], [*alphas, None], strict=True))
    velocity = run.velocity
    for _ in range(_HALVINGS):
        mixing = run.mixing(velocity)
        bands, yields = _first_pass(moles, groups, alphas, sides, mixing, run)
        pooled = sum(b * y for b, y in zip(bands, yields, strict=True)) / sum(bands)
        if pooled >= 1 - run.mixed_most or not zone_splitting:
            break
        velocity *= 0.5
    else:
        raise _too_mixed(ligand, alphas, run, 1 - pooled)
    per_length = total / sum(bands)
    depths = [
        pattern.pool_depth(b, g.purity, front, rear, mixing) if y > 0 else None
        for b, g, (front, rear), y in zip(bands, groups, sides, yields, strict=True)
    ]
    store = _Bands(groups, moles)
    outlets: dict[str, dict[str, float]] = {g.name: {} for g in groups}
    zones: list[list[tuple[_Group, dict[str, float]]]] = [[]]
    for k, (group, depth) in enumerate(zip(groups, depths, strict=True)):
        if k > 0:
            edge = _edge(alphas[k - 1], mixing, depths[k - 1], depth, bands[k - 1], bands[k])
            fast, slow = outlets[groups[k - 1].name], outlets[group.name]
            if depths[k - 1] is not None:
                _add(fast, store.take(k, edge.slow_astray * per_length, rear=False))
                lost = (edge.fast_lost - edge.fast_astray) * per_length
                zones[-1].append((groups[k - 1], store.take(k - 1, lost, rear=True)))
            if depth is not None:
                _add(slow, store.take(k - 1, edge.fast_astray * per_length, rear=True))
        if depth is None:
            continue
        if k > 0:
            # Bands too short for a pool went by; all that is left of them is mixed.
            for j in range(k - 1, -1, -1):
                if depths[j] is not None:
                    break
                zones[-1].append((groups[j], dict(store.left[j])))
                store.left[j] = {}
            lost = (edge.slow_lost - edge.slow_astray) * per_length
            zones[-1].append((group, store.take(k, lost, rear=False)))
        zones.append([])
    for j in range(len(groups) - 1, -1, -1):
        if depths[j] is not None:
            break
        zones[-1].append((groups[j], dict(store.left[j])))
        store.left[j] = {}
    for group, rest in zip(groups, store.left, strict=True):
        _add(outlets[group.name], rest)
    columns: list[DisplacementColumn] = []
    for zone in zones:
        zone_moles: dict[str, float] = {}
        for _, part in zone:
            _add(zone_moles, part)
        if not sum(zone_moles.values()) > _SETTLED * total:
            for group, part in zone:
                _add(outlets[group.name], part)
            continue
        if not zone_splitting:
            _add(outlets.setdefault("mixed", {}), zone_moles)
            continue
        members = [g for g in groups if any(g is z for z, part in zone if sum(part.values()) > 0)]
        if len(members) == 1:
            _add(outlets[members[0].name], zone_moles)
            continue
        other = _better(members, ligand, chemistry)
        column, pools = _split(members, zone_moles, other, chemistry, run)
        columns.append(column)
        for name, pool in pools.items():
            _add(outlets[name], pool)
    first = _column(
        groups,
        moles,
        ligand,
        alphas,
        bands,
        yields,
        run,
        velocity,
        mixed=1 - pooled,
        recycled=False,
        hands_on=tuple(c.name for c in columns),
    )
    return _Train(columns=(first, *columns), outlets=outlets)


def _first_pass(
    moles: Mapping[str, float],
    groups: Sequence[_Group],
    alphas: Sequence[float],
    sides: Sequence[tuple[float | None, float | None]],
    mixing: float,
    run: Operation,
) -> tuple[list[float], list[float]]:
    """Bands [m] and single-pass yields of a first column.

    Bands that give no pool need not be resolved: once they are known, the column is loaded up to
    what the boundaries of the others allow.
    """
    shares = [sum(moles[e] for e in g.elements) / sum(moles.values()) for g in groups]
    load = _load(alphas, run)
    yields = [0.0] * len(groups)
    open_ = [True] * len(groups)
    for _ in range(2):
        bands = [share * load * run.length for share in shares]
        yields = [
            pattern.pool_yield(b, g.purity, front, rear, mixing) if useful else 0.0
            for b, g, (front, rear), useful in zip(bands, groups, sides, open_, strict=True)
        ]
        open_ = [y > 0 for y in yields]
        needed = [a for k, a in enumerate(alphas) if open_[k] or open_[k + 1]]
        if not needed or len(needed) == len(alphas):
            break
        load = _load(needed, run)
    return bands, yields


def _edge(
    alpha: float,
    mixing: float,
    fast_depth: float | None,
    slow_depth: float | None,
    fast_band: float,
    slow_band: float,
) -> _Boundary:
    """The boundary of two bands of which either may be too short for a pool (depth None)."""
    if fast_depth is not None and slow_depth is not None:
        return _boundary(alpha, mixing, fast_depth, slow_depth)
    lost, astray = 0.0, 0.0
    if fast_depth is not None:
        lost, astray = pattern.rear_cut(fast_depth, alpha, mixing)
        # No more than half of a band that has no pool of its own goes astray on one side.
        return _Boundary(
            fast_lost=lost, fast_astray=0.0, slow_lost=0.0, slow_astray=min(astray, slow_band / 2)
        )
    if slow_depth is not None:
        lost, astray = pattern.front_cut(slow_depth, alpha, mixing)
    return _Boundary(
        fast_lost=0.0, fast_astray=min(astray, fast_band / 2), slow_lost=lost, slow_astray=0.0
    )


def _too_mixed(
    ligand: str, alphas: Sequence[float], run: Operation, share: float
) -> InfeasibleError:
    return InfeasibleError(
        f"with {ligand} mixed zones fill a column of {run.length:g} m at any velocity "
        f"(smallest alpha {min(alphas):.2f})",
        limit={"mixed share": run.mixed_most},
        nearest={"mixed share": share},
    )


def _split(
    groups: Sequence[_Group],
    moles: Mapping[str, float],
    ligand: str,
    chemistry: _Chemistry,
    run: Operation,
) -> tuple[DisplacementColumn, dict[str, dict[str, float]]]:
    """A column whose mixed zones return to its own feed, so that all it is fed leaves in pools.

    With s the fresh metal and m the mixed zones [m] the load is B = s + m; the cuts follow from the
    contamination each pool of known size may take.
    """
    alphas = _alphas(groups, ligand, chemistry)
    fresh = [sum(moles.get(e, 0.0) for e in g.elements) for g in groups]
    total, load = sum(fresh), _load(alphas, run)
    longest = load * run.length
    velocity = run.velocity
    edges: list[_Boundary] = []
    for _ in range(_HALVINGS):
        mixing = run.mixing(velocity)
        room = (1 - run.mixed_most) * longest
        edges = _recycled(groups, fresh, room / total, alphas, mixing)
        mixed = sum(e.mixed for e in edges)
        if mixed <= run.mixed_most * longest:
            break
        velocity *= 0.5
    else:
        raise _too_mixed(ligand, alphas, run, mixed / (mixed + room))
    for _ in range(_FIXED_POINT):
        before, room = room, longest - mixed
        edges = _recycled(groups, fresh, room / total, alphas, mixing)
        mixed = sum(e.mixed for e in edges)
        if abs(room - before) <= _SETTLED * longest:
            break
    per_length = total / room
    store = _Bands(groups, moles)
    pools: dict[str, dict[str, float]] = {g.name: {} for g in groups}
    for k, edge in enumerate(edges):
        astray = store.take(k, edge.fast_astray * per_length, rear=True)
        _add(pools[groups[k + 1].name], astray)
        _add(pools[groups[k].name], store.take(k + 1, edge.slow_astray * per_length, rear=False))
    for group, rest in zip(groups, store.left, strict=True):
        _add(pools[group.name], rest)
    share = mixed / longest
    bands = [n * longest / total for n in fresh]
    column = _column(
        groups,
        moles,
        ligand,
        alphas,
        bands,
        [1.0] * len(groups),
        run,
        velocity,
        mixed=share,
        recycled=True,
        hands_on=(),
    )
    return column, pools


def _recycled(
    groups: Sequence[_Group],
    fresh: Sequence[float],
    per_mole: float,
    alphas: Sequence[float],
    mixing: float,
) -> list[_Boundary]:
    """Boundaries of a column with recycle at ``per_mole`` [m per mol/s] of fresh metal.

    Half of a neighbour at most goes astray into one pool, which then is purer than it must be.
    """
    front: list[float] = []
    rear: list[float] = []
    for k, group in enumerate(groups):
        ahead = alphas[k - 1] if k > 0 else None
        behind = alphas[k] if k < len(alphas) else None
        if ahead is None and behind is None:
            return []
        allowed = (1 - group.purity) / group.purity * fresh[k] * per_mole
        depth = pattern.contamination_depth(max(allowed, _NOTHING), ahead, behind, mixing)
        front.append(depth)
        rear.append(depth)
        if ahead:
            most = fresh[k - 1] * per_mole / 2
            if pattern.front_cut(depth, ahead, mixing)[1] > most:
                front[k] = pattern.contamination_depth(max(most, _NOTHING), ahead, None, mixing)
        if behind:
            most = fresh[k + 1] * per_mole / 2
            if pattern.rear_cut(depth, behind, mixing)[1] > most:
                rear[k] = pattern.contamination_depth(max(most, _NOTHING), None, behind, mixing)
    return [_boundary(alpha, mixing, rear[k], front[k + 1]) for k, alpha in enumerate(alphas)]


def _column(
    groups: Sequence[_Group],
    moles: Mapping[str, float],
    ligand: str,
    alphas: Sequence[float],
    bands: Sequence[float],
    yields: Sequence[float],
    run: Operation,
    velocity: float,
    *,
    mixed: float,
    recycled: bool,
    hands_on: tuple[str, ...],
) -> DisplacementColumn:
    """Size, time and zone lengths of a column that handles ``moles`` of fresh metal [mol/s]."""
    names = [g.name for g in groups]
    pairs = [f"{a}/{b}" for a, b in pairwise(names)]
    fed = {e: n for e, n in moles.items() if n > 0}
    load, mixing = sum(bands) / run.length, run.mixing(velocity)
    throughput = sum(fed.values()) / (1 - mixed if recycled else 1.0)
    beds = throughput / (load * run.capacity)
    train = pattern.train_velocity(velocity, run.ligand_conc, run.capacity)
    regenerating = (_presaturant_volume(run) + run.rinse_volume) * run.length / velocity
    cycle = (1 + load) * run.length / train + regenerating
    return DisplacementColumn(
        name=f"{ligand}:{'|'.join(names)}",
        ligand=ligand,
        outlets=tuple(names),
        alpha=dict(zip(pairs, alphas, strict=True)),
        zone_length={
            pair: float(pattern.zone_length(alpha, mixing))
            for pair, alpha in zip(pairs, alphas, strict=True)
        },
        bands=dict(zip(names, bands, strict=True)),
        single_pass_yield=dict(zip(names, yields, strict=True)),
        load_fraction=load,
        length=run.length,
        velocity=velocity,
        mixing_length=mixing,
        fresh=fed,
        throughput=throughput,
        mixed_share=mixed,
        hands_on=hands_on,
        recycled=recycled,
        cycle_time=cycle,
        volume=beds * cycle,
        productivity=sum(fed.values()) / (beds * cycle),
    )


def _presaturant_volume(run: Operation) -> float:
    """Bed volumes of presaturant solution per regeneration."""
    return run.resin_eq / CHARGES["Cu"] * run.presaturant_excess / run.presaturant_conc


def _beds(column: DisplacementColumn, run: Operation) -> float:
    """Bed volume a column position turns over [m3/s]."""
    return column.throughput / (column.load_fraction * run.capacity)


def _circulated(columns: Sequence[DisplacementColumn], run: Operation) -> dict[str, float]:
    """Ligand that passes the columns [mol/s] by ligand: (1 + load) bed capacities a cycle."""
    used: dict[str, float] = {}
    for c in columns:
        amount = _beds(c, run) * (1 + c.load_fraction) * run.capacity
        used[c.ligand] = used.get(c.ligand, 0.0) + amount
    return used


def _assemble(
    feed: Mapping[str, float],
    products: Sequence[Product],
    plan: _Plan,
    chemistry: _Chemistry,
    run: Operation,
    presaturant: str,
) -> DisplacementDesign:
    """Reagents, water and make-up of a train, and where everything ends."""
    columns, circulated = plan.train.columns, plan.circulated
    beds = sum(_beds(c, run) for c in columns)
    volume = sum(c.volume for c in columns)
    ligand = sum(circulated.values())
    presaturant_used = beds * run.resin_eq / CHARGES["Cu"] * run.presaturant_excess
    displacer = ligand / run.ligand_conc
    water = displacer + beds * (_presaturant_volume(run) + run.rinse_volume)
    pools = {
        name: Pool(name=name, moles=moles, flow=sum(moles.values()) / run.ligand_conc)
        for name, moles in plan.train.outlets.items()
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
        one_column=_one_column(products, columns[0].ligand, feed, chemistry, run),
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
        warnings=_warnings(feed, columns, chemistry, presaturant),
    )


def _one_column(
    products: Sequence[Product],
    ligand: str,
    feed: Mapping[str, float],
    chemistry: _Chemistry,
    run: Operation,
) -> dict[str, tuple[float, float]]:
    """Yield of every product from one pass of one column with ``ligand``, and what is demanded."""
    moles = feed_earths(feed)
    purity = {p.name: _mole_purity(p, moles) for p in products}
    found = {p.name: (0.0, p.recovery) for p in products}
    try:
        groups = _groups(moles, products, purity, ligand, chemistry, run)
        alphas = _alphas(groups, ligand, chemistry)
    except InfeasibleError:
        return found
    longest, mixing = _load(alphas, run) * run.length, run.mixing(run.velocity)
    total = sum(moles.values())
    sides = zip(groups, [None, *alphas], [*alphas, None], strict=True)
    for group, front, rear in sides:
        if group.name in found:
            band = longest * sum(moles[e] for e in group.elements) / total
            reached = pattern.pool_yield(band, group.purity, front, rear, mixing)
            found[group.name] = (reached, found[group.name][1])
    return found


def feed_earths(feed: Mapping[str, float]) -> dict[str, float]:
    """The rare earths of a feed."""
    return {e: n for e, n in feed.items() if e in RARE_EARTHS and n > 0}


def _warnings(
    feed: Mapping[str, float],
    columns: Sequence[DisplacementColumn],
    chemistry: _Chemistry,
    presaturant: str,
) -> tuple[Warned, ...]:
    """What the reader of a design must know."""
    found = []
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
