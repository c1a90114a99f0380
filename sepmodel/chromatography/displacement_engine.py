"""A displacement plant run on the transport engine: every column of a design, cut and handed on.

The design comes from closed forms (``displacement``). Here each of its columns is loaded,
displaced and cut on a moving grid (``isotachic``): pools are the largest fractions at the purities
the design asks of the column, what lies between two of them is a mixed zone and is what the next
column is fed, and a column whose mixed zones return to its own feed is run to its cyclic steady
state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import isotachic
from sepmodel.chromatography.column import Bed
from sepmodel.chromatography.cyclic import fixed_point
from sepmodel.chromatography.displacement import DisplacementDesign
from sepmodel.chromatography.isotachic import LEAST_CELLS, Train
from sepmodel.chromatography.zones import (
    DisplacementColumn,
    Operation,
    ligand_constants,
    operation,
)
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.products import purity as product_purity
from sepmodel.products import recovery as product_recovery

Array = NDArray[np.float64]

CELLS = 32
"""Cells for each boundary."""
_TOLERANCE = 1e-3
_LARGE = 1e-1
_SETTLED = 1e-3
_ROUNDS = 16
_REFINED = 3 / 2
DISPLACER = "Na"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cut:
    """A pool of a column: from ``start`` to ``end`` [s], ``moles`` by element [mol/s of plant],
    mole ``purity`` of its own elements and their ``recovery`` of what the column was loaded with.
    """

    name: str
    start: float
    end: float
    moles: Mapping[str, float]
    purity: float
    recovery: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ColumnRun:
    """One column of a design on the engine.

    ``fresh`` what it is fed from outside and ``load`` with what returns [mol/s], ``cuts`` its
    pools, ``zones`` what lies between them, keyed by the outlets on its two sides; ``rounds``
    cycles to the steady state of what returns.
    """

    column: DisplacementColumn
    train: Train
    fresh: Mapping[str, float]
    load: Mapping[str, float]
    cuts: tuple[Cut, ...]
    zones: Mapping[tuple[str, str], Mapping[str, float]]
    rounds: int


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Confirmation:
    """A design and the same plant on the engine.

    ``purity`` and ``recovery`` of every product as (engine, design); ``difference`` the largest
    distance of the two; ``meets`` whether every product keeps its specification on the engine.
    """

    design: DisplacementDesign
    runs: tuple[ColumnRun, ...]
    outlets: Mapping[str, Mapping[str, float]]
    purity: Mapping[str, tuple[float, float]]
    recovery: Mapping[str, tuple[float, float]]
    difference: float
    meets: bool


def confirm(
    design: DisplacementDesign,
    feed: Mapping[str, float],
    book: Book,
    *,
    cells: int = CELLS,
    tolerance: float = _TOLERANCE,
) -> Confirmation:
    """Every column of a design on the engine, what one hands on being what the next is fed.

    Parameters
    ----------
    feed: molar flows the design was made for [mol/s].
    cells: of the moving grid, for each boundary.

    Raises
    ------
    InfeasibleError
        when a column gives no pool that the design counts on.
    """
    waiting: dict[tuple[str, ...], Mapping[str, float]] = {}
    outlets: dict[str, dict[str, float]] = {name: {} for name in design.pools}
    runs = []
    for column in design.columns:
        run = operation(book, length=column.length, velocity=column.velocity)
        fresh = waiting.get(tuple(column.outlets), column.fresh)
        done = run_column(column, fresh, run, book, cells=cells, tolerance=tolerance)
        runs.append(done)
        for cut in done.cuts:
            for element, amount in cut.moles.items():
                pool = outlets.setdefault(cut.name, {})
                pool[element] = pool.get(element, 0.0) + amount
        order = list(column.outlets)
        for (fast, slow), moles in done.zones.items():
            between = tuple(order[order.index(fast) : order.index(slow) + 1])
            waiting[between] = moles
    for name, untouched in design.pools.items():
        if not outlets[name]:
            outlets[name] = dict(untouched.moles)
    purity, recovery = {}, {}
    for p in design.products:
        basis = p.purity_basis
        found = outlets[p.name]
        purity[p.name] = (product_purity(found, p.elements, basis), design.purity[p.name])
        recovery[p.name] = (
            product_recovery(found, feed, p.elements, basis),
            design.recovery[p.name],
        )
    pairs = [*purity.values(), *recovery.values()]
    return Confirmation(
        design=design,
        runs=tuple(runs),
        outlets=outlets,
        purity=purity,
        recovery=recovery,
        difference=max(abs(a - b) for a, b in pairs),
        meets=all(
            purity[p.name][0] >= p.purity and recovery[p.name][0] >= p.recovery
            for p in design.products
        ),
    )


def run_column(
    column: DisplacementColumn,
    fresh: Mapping[str, float],
    run: Operation,
    book: Book,
    *,
    presaturant: str = "Cu",
    cells: int = CELLS,
    tolerance: float = _TOLERANCE,
) -> ColumnRun:
    """One column of a design, to the steady state of what returns to its feed.

    Raises
    ------
    InfeasibleError
        when an outlet of a column with recycle has no pool, or the presaturant does not stay ahead.
    """
    species = _species(column, fresh)
    names = list(species)
    log_k = ligand_constants(column.ligand, [*names, presaturant], book)
    ahead = log_k[presaturant] + np.log10(run.preference)
    selectivity = {presaturant: 1.0}
    selectivity |= {e: float(10.0 ** (ahead - log_k[e])) for e in names}
    last = selectivity[names[-1]]
    selectivity[DISPLACER] = last * book["resins/displacement-operation:displacer-selectivity"]
    bed = Bed(
        length=column.length,
        velocity=column.velocity,
        void=run.void,
        dispersion=run.dispersion * column.velocity / run.velocity_rated,
    )
    grid = cells * (len(selectivity) - 1)
    supply = np.array([sum(fresh[e] for e in species[name]) for name in names])
    done: list[tuple[Train, list[tuple[int, int]], Array]] = []

    def cycle(share: Array) -> Array:
        train = _resolved(
            bed, selectivity, dict(zip(names, share, strict=True)), column, run, grid, tolerance
        )
        amounts = train.fine[1]
        cuts = _cuts(column, names, species, amounts)
        done[:] = [(train, cuts, amounts)]
        if not column.recycled:
            return share
        missing = [g for g, (i, j) in zip(column.outlets, cuts, strict=True) if j <= i]
        if missing:
            raise InfeasibleError(
                f"{column.name}: no pool of {missing[0]} on the engine",
                limit={"purity": column.purity[missing[0]]},
            )
        whole = train.loaded.sum()
        mixed = amounts[-1] - sum(amounts[j] - amounts[i] for i, j in cuts)
        back = np.maximum(mixed + (train.loaded - amounts[-1]), 0.0)
        fed = (whole - back.sum()) * supply / supply.sum() + back
        return np.asarray(fed / whole)

    start = _first_load(column, names, species, supply)
    rounds = 1
    if column.recycled:
        rounds = len(fixed_point(cycle, start, tolerance=_SETTLED, most=_ROUNDS).residuals)
    else:
        cycle(start)
    train, cuts, amounts = done[0]
    # From moles per cross-section and cycle to moles per time of the plant.
    out = sum((amounts[j] - amounts[i] for i, j in cuts), np.zeros(len(names)))
    passed = out.sum() if column.recycled else train.loaded.sum()
    scale = supply.sum() / passed
    times = train.fine[0]
    found = []
    for outlet, (i, j) in zip(column.outlets, cuts, strict=True):
        moles = np.maximum(amounts[j] - amounts[i], 0.0)
        own = [k for k, n in enumerate(names) if species[n][0] in column.members[outlet]]
        total = moles.sum()
        found.append(
            Cut(
                name=outlet,
                start=float(times[i]),
                end=float(times[j]),
                moles=_shared(moles * scale, names, species, fresh),
                purity=float(moles[own].sum() / total) if total > 0 else 0.0,
                recovery=float(moles[own].sum() / train.loaded[own].sum()),
            )
        )
    zones = {}
    if not column.recycled:
        for (fast, slow), moles in _between(column.outlets, cuts, amounts, train.loaded).items():
            zones[fast, slow] = _shared(moles * scale, names, species, fresh)
    load = {n: float(m * scale) for n, m in zip(names, train.loaded, strict=True)}
    return ColumnRun(
        column=column,
        train=train,
        fresh=dict(fresh),
        load=load,
        cuts=tuple(found),
        zones=zones,
        rounds=rounds,
    )


def _species(column: DisplacementColumn, fresh: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """Metals of the simulation, fastest first, each with the elements that travel as it.

    Kept are the elements at the edges of every outlet and those of a tenth of the load or more;
    the rest of an outlet travels as its nearest kept neighbour in the order of the train.
    """
    total = sum(fresh.values())
    species: dict[str, tuple[str, ...]] = {}
    last = len(column.outlets) - 1
    for number, outlet in enumerate(column.outlets):
        members = [e for e in column.members[outlet] if fresh.get(e, 0.0) > 0]
        if not members:
            continue
        edges = {members[0]} if number > 0 else set()
        edges |= {members[-1]} if number < last or not edges else set()
        kept = [e for e in members if e in edges or fresh[e] > _LARGE * total]
        parts: dict[str, list[str]] = {e: [e] for e in kept}
        for place, element in enumerate(members):
            if element not in parts:
                near = min(kept, key=lambda k: abs(members.index(k) - place))
                parts[near].append(element)
        species |= {e: tuple(parts[e]) for e in kept}
    return species


def _first_load(
    column: DisplacementColumn,
    names: Sequence[str],
    species: Mapping[str, Sequence[str]],
    supply: Array,
) -> Array:
    """Shares of the load to begin with: those of the bands of the design, else of the feed."""
    share = supply / supply.sum()
    if column.recycled:
        for outlet in column.outlets:
            own = [k for k, n in enumerate(names) if species[n][0] in column.members[outlet]]
            if own and supply[own].sum() > 0:
                band = column.bands[outlet] / sum(column.bands.values())
                share[own] = supply[own] / supply[own].sum() * band
    return np.asarray(share / share.sum())


def _resolved(
    bed: Bed,
    selectivity: Mapping[str, float],
    load: Mapping[str, float],
    column: DisplacementColumn,
    run: Operation,
    grid: int,
    tolerance: float,
) -> Train:
    """The train on a grid that resolves its boundaries, refined once where it has to be."""
    for _ in range(2):
        train = isotachic.displace(
            bed,
            selectivity,
            load,
            capacity=run.resin / (1 - run.void),
            ligand_conc=run.ligand_conc,
            band=column.load_fraction,
            rate=run.rate,
            cells=grid,
            tolerance=tolerance,
        )
        thin = train.thinnest
        if thin is None or thin.cells >= LEAST_CELLS:
            return train
        grid = int(_REFINED * grid * LEAST_CELLS / max(thin.cells, 1.0))
    train.check()
    return train


def _cuts(
    column: DisplacementColumn,
    names: Sequence[str],
    species: Mapping[str, Sequence[str]],
    amounts: Array,
) -> list[tuple[int, int]]:
    """Where the pools of a column begin and end; pools that would overlap share the middle."""
    total = amounts.sum(axis=1)
    cuts = []
    for outlet in column.outlets:
        own = [k for k, n in enumerate(names) if species[n][0] in column.members[outlet]]
        useful = bool(own) and column.single_pass_yield[outlet] > 0
        if useful:
            cuts.append(
                isotachic.best_cut(amounts[:, own].sum(axis=1), total, column.purity[outlet])
            )
        else:
            cuts.append((0, 0))
    pooled = [k for k, (i, j) in enumerate(cuts) if j > i]
    for before, after in pairwise(pooled):
        (a, b), (c, d) = cuts[before], cuts[after]
        if b > c:
            middle = (b + c) // 2
            cuts[before], cuts[after] = (a, max(a, middle)), (min(d, middle), d)
    return cuts


def _between(
    outlets: Sequence[str], cuts: Sequence[tuple[int, int]], amounts: Array, loaded: Array
) -> dict[tuple[str, str], Array]:
    """Moles between two pools, keyed by the outlets on its sides (an end of the train counts)."""
    pooled = [k for k, (i, j) in enumerate(cuts) if j > i]
    if not pooled:
        return {(outlets[0], outlets[-1]): loaded}
    zones = {}
    first, last = pooled[0], pooled[-1]
    if first > 0:
        zones[outlets[0], outlets[first]] = amounts[cuts[first][0]]
    for before, after in pairwise(pooled):
        moles = amounts[cuts[after][0]] - amounts[cuts[before][1]]
        zones[outlets[before], outlets[after]] = np.maximum(moles, 0.0)
    if last < len(outlets) - 1:
        zones[outlets[last], outlets[-1]] = np.maximum(loaded - amounts[cuts[last][1]], 0.0)
    return zones


def _shared(
    moles: Array,
    names: Sequence[str],
    species: Mapping[str, Sequence[str]],
    fresh: Mapping[str, float],
) -> dict[str, float]:
    """Moles by element: those that travelled together are shared out as they were fed."""
    found: dict[str, float] = {}
    for name, amount in zip(names, moles.tolist(), strict=True):
        whole = sum(fresh[e] for e in species[name])
        found |= {e: amount * fresh[e] / whole for e in species[name]}
    return {e: n for e, n in found.items() if n > 0}
