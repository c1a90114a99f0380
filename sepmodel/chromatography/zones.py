"""Trains of displacement columns: bands, cuts, mixed zones and the columns they go to.

A first column gives the broad bands; a mixed zone, with every band too short for a pool, goes to a
column of its own whose mixed zones return to its feed. Where another ligand tells neighbours apart
better, they can leave together and are split on a second train with that ligand.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.products import Product
from sepmodel.species import CHARGES

AHEAD = "ahead"
"""Name of the outlet that takes what runs ahead of the presaturant and leaves with it."""

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
    allowance_used: float
    ligand_recycle: float
    acid_per_ligand: float
    base_per_ligand: float
    presaturant_recycle: float
    loss: float
    preference: float
    ahead_most: float
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
        allowance_used=book[run + "allowance-used"],
        ligand_recycle=book[run + "ligand-recycle"],
        acid_per_ligand=book[run + "acid-per-ligand"],
        base_per_ligand=book[run + "base-per-ligand"],
        presaturant_recycle=book[run + "presaturant-recycle"],
        loss=book[run + "handling-loss"],
        preference=book[run + "resin-preference-presaturant"],
        ahead_most=book[run + "ahead-most"],
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


def selectivity(ligand: str, fast: str, slow: str, book: Book | None = None) -> float:
    """Separation factor of two metals: ratio of their 1:1 constants, the resin taken as neutral.

    >>> round(selectivity("dtpa", "Nd", "Pr"), 1)
    3.3
    """
    log_k = ligand_constants(ligand, [fast, slow], book or Book())
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

    ``bands`` [m], ``single_pass_yield``, mole ``purity`` and ``members`` by outlet, fastest first;
    what is mixed returns to the column's own feed (``recycled``) or goes to the columns named in
    ``hands_on``.
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
    purity: Mapping[str, float]
    members: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Elements that leave together, fastest first, at a mole purity ``purity``."""

    name: str
    elements: tuple[str, ...]
    purity: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """Columns and outlets of one way to separate the feed."""

    columns: tuple[DisplacementColumn, ...]
    outlets: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chemistry:
    """log10 constants by ligand and element, the presaturant's, and the resin's help to it."""

    constants: Mapping[str, Mapping[str, float]]
    ahead: Mapping[str, float]
    preference: float

    def leaking(self, ligand: str, elements: Sequence[str]) -> list[str]:
        """Elements the presaturant cannot stay ahead of, even with the resin's help."""
        limit = self.ahead[ligand] + self.preference
        return [e for e in elements if self.constants[ligand][e] >= limit]

    def alpha(self, ligand: str, fast: str, slow: str) -> float:
        """Ratio of two constants."""
        return float(10.0 ** (self.constants[ligand][fast] - self.constants[ligand][slow]))


def groups_of(
    moles: Mapping[str, float],
    products: Sequence[Product],
    purity: Mapping[str, float],
    ligand: str,
    chemistry: Chemistry,
    run: Operation,
) -> list[Group]:
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
        Group(name=n, elements=tuple(members), purity=purity.get(n, run.byproduct_purity))
        for n, (_, members) in zip(names, runs, strict=True)
    ]


def separate(
    moles: Mapping[str, float],
    products: Sequence[Product],
    purity: Mapping[str, float],
    ligand: str,
    apart: bool,
    chemistry: Chemistry,
    run: Operation,
    zone_splitting: bool,
) -> Train:
    """One train with ``ligand``; with ``apart``, neighbours another ligand splits better leave it
    together and get a train with that ligand."""
    moles, ahead = _held_back(moles, products, ligand, chemistry, run)
    groups = groups_of(moles, products, purity, ligand, chemistry, run)
    merged = _merge(groups, ligand, chemistry) if apart else [[g] for g in groups]
    if apart and len(merged) == len(groups):
        raise InfeasibleError(
            f"no pair of neighbours is split better by another ligand than {ligand}",
            limit={"ligand": ligand},
        )
    together = [
        Group(
            name="+".join(g.name for g in part),
            elements=tuple(e for g in part for e in g.elements),
            purity=max(g.purity for g in part)
            if len(part) == 1
            else 1 - 0.5 * (1 - max(g.purity for g in part)),
        )
        for part in merged
    ]
    train = build_train(moles, together, ligand, chemistry, run, zone_splitting)
    columns, outlets = list(train.columns), dict(train.outlets)
    for part, group in zip(merged, together, strict=True):
        if len(part) == 1:
            continue
        inside = outlets.pop(group.name)
        own = {e: n for e, n in inside.items() if e in group.elements}
        other = _better(part, ligand, chemistry)
        names = {e: g for g in part for e in g.elements}
        order = sorted(own, key=lambda e: -chemistry.constants[other][e])
        again: list[Group] = []
        for e in order:
            if not again or again[-1].name != names[e].name:
                again.append(Group(name=names[e].name, elements=(e,), purity=names[e].purity))
            else:
                again[-1] = replace(again[-1], elements=(*again[-1].elements, e))
        if len(again) != len(part):
            raise InfeasibleError(
                f"with {other} the elements of {group.name} leave in another order",
                limit={"ligand": other},
            )
        second = build_train(own, again, other, chemistry, run, zone_splitting)
        columns += second.columns
        outlets.update(second.outlets)
        # What came along from neighbours ends in the pool next to where it came from.
        for e, n in inside.items():
            if e not in own:
                fast = chemistry.constants[ligand][e] > chemistry.constants[ligand][order[0]]
                target = (again[0] if fast else again[-1]).name
                outlets[target] = {**outlets[target], e: outlets[target].get(e, 0.0) + n}
    if ahead:
        outlets[AHEAD] = ahead
    return Train(columns=tuple(columns), outlets=outlets)


def _held_back(
    moles: Mapping[str, float],
    products: Sequence[Product],
    ligand: str,
    chemistry: Chemistry,
    run: Operation,
) -> tuple[dict[str, float], dict[str, float]]:
    """What the presaturant holds back, and what nobody ordered that runs ahead of it.

    Raises
    ------
    InfeasibleError
        when a product or too large a share would run ahead.
    """
    leak = chemistry.leaking(ligand, list(moles))
    ordered = [e for p in products for e in p.elements if e in leak]
    share = sum(moles[e] for e in leak) / sum(moles.values())
    if ordered or share > run.ahead_most:
        raise InfeasibleError(
            f"with {ligand} the presaturant does not stay ahead of {', '.join(ordered or leak)}",
            limit={"log10 K": chemistry.ahead[ligand] + chemistry.preference},
            nearest={"log10 K": max(chemistry.constants[ligand][e] for e in ordered or leak)},
        )
    return (
        {e: n for e, n in moles.items() if e not in leak},
        {e: moles[e] for e in leak},
    )


def _merge(groups: list[Group], ligand: str, chemistry: Chemistry) -> list[list[Group]]:
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


def _better(part: Sequence[Group], ligand: str, chemistry: Chemistry) -> str:
    """The ligand that tells the groups apart best, among those the presaturant holds back for."""
    elements = [e for g in part for e in g.elements]
    usable = [k for k in chemistry.constants if k == ligand or not chemistry.leaking(k, elements)]

    def worst(k: str) -> float:
        return min(_alpha_between(a, b, k, chemistry) for a, b in pairwise(part))

    return max(usable, key=worst)


def _alpha_between(fast: Group, slow: Group, ligand: str, chemistry: Chemistry) -> float:
    """Smallest ratio of constants between an element of one group and one of the next."""
    return min(chemistry.alpha(ligand, a, b) for a in fast.elements for b in slow.elements)


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
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


def _boundary(alpha: float, mixing: float, fast_depth: float, slow_depth: float) -> Boundary:
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
        return Boundary(
            fast_lost=fast_astray,
            fast_astray=fast_astray,
            slow_lost=slow_astray,
            slow_astray=slow_astray,
        )
    fast_lost, slow_astray = pattern.rear_cut(fast_depth, alpha, mixing)
    slow_lost, fast_astray = pattern.front_cut(slow_depth, alpha, mixing)
    return Boundary(
        fast_lost=fast_lost, fast_astray=fast_astray, slow_lost=slow_lost, slow_astray=slow_astray
    )


class _Bands:
    """The metal of each band [mol/s by element, fastest first], taken away from either end."""

    def __init__(self, groups: Sequence[Group], moles: Mapping[str, float]) -> None:
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


def boundary_alphas(groups: Sequence[Group], ligand: str, chemistry: Chemistry) -> list[float]:
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


def resolvable_load(alphas: Sequence[float], run: Operation) -> float:
    """Loaded share of a column: what its hardest boundary lets it resolve, with a margin."""
    longest = float(max(pattern.minimum_position(list(alphas)))) if alphas else 1.0
    return run.load_most / longest


def build_train(
    moles: Mapping[str, float],
    groups: Sequence[Group],
    ligand: str,
    chemistry: Chemistry,
    run: Operation,
    zone_splitting: bool,
) -> Train:
    """A first column for the broad bands, and a column with recycle for each of its mixed zones."""
    alphas = boundary_alphas(groups, ligand, chemistry)
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
        pattern.pool_depth(b, g.purity, mixing, front, rear) if y > 0 else None
        for b, g, (front, rear), y in zip(bands, groups, sides, yields, strict=True)
    ]
    store = _Bands(groups, moles)
    outlets: dict[str, dict[str, float]] = {g.name: {} for g in groups}
    zones: list[list[tuple[Group, dict[str, float]]]] = [[]]
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
    return Train(columns=(first, *columns), outlets=outlets)


def _first_pass(
    moles: Mapping[str, float],
    groups: Sequence[Group],
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
    load = resolvable_load(alphas, run)
    yields = [0.0] * len(groups)
    open_ = [True] * len(groups)
    for _ in range(2):
        bands = [share * load * run.length for share in shares]
        yields = [
            pattern.pool_yield(b, g.purity, mixing, front, rear) if useful else 0.0
            for b, g, (front, rear), useful in zip(bands, groups, sides, open_, strict=True)
        ]
        open_ = [y > 0 for y in yields]
        needed = [a for k, a in enumerate(alphas) if open_[k] or open_[k + 1]]
        if not needed or len(needed) == len(alphas):
            break
        load = resolvable_load(needed, run)
    return bands, yields


def _edge(
    alpha: float,
    mixing: float,
    fast_depth: float | None,
    slow_depth: float | None,
    fast_band: float,
    slow_band: float,
) -> Boundary:
    """The boundary of two bands of which either may be too short for a pool (depth None)."""
    if fast_depth is not None and slow_depth is not None:
        return _boundary(alpha, mixing, fast_depth, slow_depth)
    lost, astray = 0.0, 0.0
    if fast_depth is not None:
        lost, astray = pattern.rear_cut(fast_depth, alpha, mixing)
        # No more than half of a band that has no pool of its own goes astray on one side.
        return Boundary(
            fast_lost=lost, fast_astray=0.0, slow_lost=0.0, slow_astray=min(astray, slow_band / 2)
        )
    if slow_depth is not None:
        lost, astray = pattern.front_cut(slow_depth, alpha, mixing)
    return Boundary(
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
    groups: Sequence[Group],
    moles: Mapping[str, float],
    ligand: str,
    chemistry: Chemistry,
    run: Operation,
) -> tuple[DisplacementColumn, dict[str, dict[str, float]]]:
    """A column whose mixed zones return to its own feed, so that all it is fed leaves in pools.

    With s the fresh metal and m the mixed zones [m] the load is B = s + m; the cuts follow from the
    contamination each pool of known size may take.
    """
    alphas = boundary_alphas(groups, ligand, chemistry)
    fresh = [sum(moles.get(e, 0.0) for e in g.elements) for g in groups]
    total, load = sum(fresh), resolvable_load(alphas, run)
    longest = load * run.length
    velocity = run.velocity
    edges: list[Boundary] = []
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
    groups: Sequence[Group],
    fresh: Sequence[float],
    per_mole: float,
    alphas: Sequence[float],
    mixing: float,
) -> list[Boundary]:
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
    groups: Sequence[Group],
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
    regenerating = (presaturant_volume(run) + run.rinse_volume) * run.length / velocity
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
        purity={g.name: g.purity for g in groups},
        members={g.name: g.elements for g in groups},
    )


def presaturant_volume(run: Operation) -> float:
    """Bed volumes of presaturant solution per regeneration."""
    return run.resin_eq / CHARGES["Cu"] * run.presaturant_excess / run.presaturant_conc


def bed_rate(column: DisplacementColumn, run: Operation) -> float:
    """Bed volume a column position turns over [m3/s]."""
    return column.throughput / (column.load_fraction * run.capacity)


def circulated_ligand(columns: Sequence[DisplacementColumn], run: Operation) -> dict[str, float]:
    """Ligand that passes the columns [mol/s] by ligand: (1 + load) bed capacities a cycle."""
    used: dict[str, float] = {}
    for c in columns:
        amount = bed_rate(c, run) * (1 + c.load_fraction) * run.capacity
        used[c.ligand] = used.get(c.ligand, 0.0) + amount
    return used
