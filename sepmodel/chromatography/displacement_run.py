"""One column of a displacement plant on the moving grid: loaded, displaced, cut, fed again.

A column that hands its mixed zones on gives the largest pools at the purities the design asks of
it. A column whose mixed zones return to its own feed is run to its cyclic steady state: there every
pool is the purest fraction that takes what the column is fed of it, which keeps the load as it is,
and the purity is what comes out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.band_train import LEAST_CELLS, Train, best_cut
from sepmodel.chromatography.column import Bed
from sepmodel.chromatography.cyclic import fixed_point
from sepmodel.chromatography.displacement_columns import DisplacementColumn
from sepmodel.chromatography.displacement_operation import Operation
from sepmodel.chromatography.isotachic import displace
from sepmodel.chromatography.ligands import ligand_constants
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError

Array = NDArray[np.float64]

CELLS = 32
"""Cells for each boundary."""
TOLERANCE = 1e-3 / 3
_LEAST_ERROR = 1e-3
_LARGE = 1e-1
_SETTLED = 1e-2
_ROUNDS = 16
_REFINED = 3 / 2
_WHOLE = 1e-9
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
    cycles to the steady state of what returns; ``error`` of the grid in the recovery or purity of a
    pool, NaN when not asked for.
    """

    column: DisplacementColumn
    train: Train
    fresh: Mapping[str, float]
    load: Mapping[str, float]
    cuts: tuple[Cut, ...]
    zones: Mapping[tuple[str, str], Mapping[str, float]]
    rounds: int
    error: float = math.nan


def run_column(
    column: DisplacementColumn,
    fresh: Mapping[str, float],
    run: Operation,
    book: Book,
    *,
    presaturant: str = "Cu",
    cells: int = CELLS,
    tolerance: float = TOLERANCE,
    estimate: bool = False,
) -> ColumnRun:
    """One column of a design, to the steady state of what returns to its feed.

    With ``estimate`` the last cycle is run again on half of the cells with four times the tolerance
    in time: the distance of the two is the error of the coarser one, and so on the safe side.
    It is told no smaller than 0.001, because single figures may agree by chance.

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
    own = [
        [k for k, n in enumerate(names) if species[n][0] in column.members[outlet]]
        for outlet in column.outlets
    ]
    done: list[tuple[Train, list[tuple[int, int]], Array]] = []

    def passing(train: Train) -> Array:
        """What a column with recycle is fed from outside in a cycle."""
        return np.asarray(
            (1 - column.mixed_share) * train.loaded.sum() * supply / supply.sum(), dtype=float
        )

    def cut(train: Train, amounts: Array) -> list[tuple[int, int]]:
        if not column.recycled:
            return _cuts(column, own, amounts)
        fed = passing(train)
        return _measured(own, amounts, [float(fed[k].sum()) for k in own])

    def cycle(share: Array) -> Array:
        load = dict(zip(names, share, strict=True))
        train = _resolved(bed, selectivity, load, column, run, grid, tolerance)
        amounts = train.fine[1]
        cuts = cut(train, amounts)
        done[:] = [(train, cuts, amounts)]
        if not column.recycled:
            return share
        out = sum((amounts[j] - amounts[i] for i, j in cuts), np.zeros(len(names)))
        left = np.maximum(train.loaded - out + passing(train), 0.0)
        return np.asarray(left / train.loaded.sum())

    start = _first_load(column, own, supply)
    rounds = 1
    if column.recycled:
        least = np.maximum(start, _SETTLED)
        rounds = len(fixed_point(cycle, start, least, tolerance=_SETTLED, most=_ROUNDS).residuals)
    else:
        cycle(start)
    train, cuts, amounts = done[0]
    empty = [
        outlet
        for outlet, members, (i, j) in zip(column.outlets, own, cuts, strict=True)
        if members and j <= i
    ]
    if column.recycled and empty:
        raise InfeasibleError(
            f"{column.name}: no pool of {empty[0]} on the engine",
            limit={"purity": column.purity[empty[0]]},
        )
    # From moles per cross-section and cycle to moles per time of the plant. What a column with
    # recycle is fed leaves in its pools; how a metal parts among them is what the cycle tells.
    out = sum((amounts[j] - amounts[i] for i, j in cuts), np.zeros(len(names)))
    scale = supply / out if column.recycled else supply / train.loaded
    times = train.fine[0]
    found = []
    for outlet, members, (i, j) in zip(column.outlets, own, cuts, strict=True):
        moles = np.maximum(amounts[j] - amounts[i], 0.0)
        total = moles.sum()
        found.append(
            Cut(
                name=outlet,
                start=float(times[i]),
                end=float(times[j]),
                moles=_shared(moles * scale, names, species, fresh),
                purity=float(moles[members].sum() / total) if total > 0 else 0.0,
                recovery=float(moles[members].sum() / train.loaded[members].sum())
                if members
                else 0.0,
            )
        )
    zones = {}
    if not column.recycled:
        for (fast, slow), moles in _between(column.outlets, cuts, amounts, train.loaded).items():
            zones[fast, slow] = _shared(moles * scale, names, species, fresh)
    load = dict(zip(names, (train.loaded * scale).tolist(), strict=True))
    error = math.nan
    if estimate:
        coarse = _displaced(
            bed,
            selectivity,
            dict(zip(names, train.loaded, strict=True)),
            column,
            run,
            train.snapshots[-1].conc.shape[0] // 2,
            4 * tolerance,
        )
        rough = coarse.fine[1]
        one, other = (_worth(own, a, c) for a, c in ((amounts, cuts), (rough, cut(coarse, rough))))
        error = max(float(np.abs(one - other).max()), _LEAST_ERROR)
    return ColumnRun(
        column=column,
        train=train,
        fresh=dict(fresh),
        load=load,
        cuts=tuple(found),
        zones=zones,
        rounds=rounds,
        error=error,
    )


def _worth(own: Sequence[Sequence[int]], amounts: Array, cuts: Sequence[tuple[int, int]]) -> Array:
    """Recovery and mole purity of every pool, (P, 2); zeros for an empty one."""
    found = np.zeros((len(cuts), 2))
    for k, (members, (i, j)) in enumerate(zip(own, cuts, strict=True)):
        pool = amounts[j] - amounts[i]
        if members and pool.sum() > 0:
            mine = pool[members].sum()
            found[k] = mine / amounts[-1, members].sum(), mine / pool.sum()
    return found


def _species(column: DisplacementColumn, fresh: Mapping[str, float]) -> dict[str, tuple[str, ...]]:
    """Metals of the simulation, fastest first, each with the elements that travel as it.

    Kept are the elements at the edges of every outlet and those of a tenth of the load or more;
    the rest of an outlet travels as its nearest kept neighbour in the order of the train. Outlets
    without a pool that touch none travel as the next outlet on the way to one.
    """
    total = sum(fresh.values())
    count = len(column.outlets)
    there = [
        [e for e in column.members[outlet] if fresh.get(e, 0.0) > 0] for outlet in column.outlets
    ]
    pooled = [k for k, o in enumerate(column.outlets) if column.single_pass_yield[o] > 0]
    first, last = (max(pooled[0] - 2, 0), min(pooled[-1] + 2, count - 1)) if pooled else (0, 0)
    species: dict[str, tuple[str, ...]] = {}
    for number in range(first, last + 1) if pooled else range(count):
        members = there[number]
        if not members:
            continue
        edges = {members[0]} if number > 0 else set()
        edges |= {members[-1]} if number < count - 1 or not edges else set()
        kept = [e for e in members if e in edges or fresh[e] > _LARGE * total]
        parts: dict[str, list[str]] = {e: [e] for e in kept}
        for place, element in enumerate(members):
            if element not in parts:
                near = min(kept, key=lambda k: abs(members.index(k) - place))
                parts[near].append(element)
        species |= {e: tuple(parts[e]) for e in kept}
    if pooled and species:
        names = list(species)
        before = [e for members in there[:first] for e in members]
        after = [e for members in there[last + 1 :] for e in members]
        species[names[0]] += tuple(before)
        species[names[-1]] += tuple(after)
    return species


def _first_load(column: DisplacementColumn, own: Sequence[Sequence[int]], supply: Array) -> Array:
    """Shares of the load to begin with: of the feed, or those of the steady state of what returns.

    That is foreseen by the closed forms: every band b gives the pool b Y(b) its fresh metal makes,
    and what its cuts leave returns from its two ends. ``own`` are the metals of every outlet.
    """
    share = supply / supply.sum()
    if not column.recycled:
        return np.asarray(share)
    fresh = np.array([share[k].sum() for k in own])
    room = (1 - column.mixed_share) * column.load_fraction * column.length
    for k, (band, ahead, behind) in zip(own, _returning(column, fresh * room), strict=True):
        if share[k].sum() > 0:
            share[k] *= (band - ahead - behind) / share[k].sum()
            share[k[0]] += ahead
            share[k[-1]] += behind
    return np.asarray(share / share.sum())


def _returning(column: DisplacementColumn, pools: Array) -> list[tuple[float, float, float]]:
    """Bands [m] that give ``pools`` [m] at the column's purities, and what the cuts leave of each
    at its front and at its rear."""
    alphas = list(column.alpha.values())
    mixing = column.mixing_length
    found = []
    sides = zip(column.outlets, pools.tolist(), [None, *alphas], [*alphas, None], strict=True)
    for outlet, pool, front, rear in sides:
        dirt = (1 - column.purity[outlet]) / column.purity[outlet] * pool
        if (front is None and rear is None) or dirt <= 0:
            found.append((pool, 0.0, 0.0))
            continue
        depth = pattern.contamination_depth(dirt, front, rear, mixing)
        ahead, _, behind, _ = pattern.cuts(depth, front, rear, mixing)
        found.append((pool + ahead + behind, ahead, behind))
    return found


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
        train = _displaced(bed, selectivity, load, column, run, grid, tolerance)
        thin = train.thinnest
        if thin is None or thin.cells >= LEAST_CELLS:
            return train
        grid = int(_REFINED * grid * LEAST_CELLS / max(thin.cells, 1.0))
    train.check()
    return train


def _displaced(
    bed: Bed,
    selectivity: Mapping[str, float],
    load: Mapping[str, float],
    column: DisplacementColumn,
    run: Operation,
    grid: int,
    tolerance: float,
) -> Train:
    """The train of a column on a number of cells."""
    return displace(
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


def _cuts(
    column: DisplacementColumn, own: Sequence[Sequence[int]], amounts: Array
) -> list[tuple[int, int]]:
    """Where the largest pools at the column's purities begin and end."""
    total = amounts.sum(axis=1)
    cuts = []
    for outlet, members in zip(column.outlets, own, strict=True):
        if members and column.single_pass_yield[outlet] > 0:
            mine = amounts[:, members].sum(axis=1)
            cuts.append(best_cut(mine, total, column.purity[outlet]))
        else:
            cuts.append((0, 0))
    return _apart(cuts, own, amounts)


def _measured(
    own: Sequence[Sequence[int]], amounts: Array, wanted: Sequence[float]
) -> list[tuple[int, int]]:
    """Where the purest pools begin and end that take ``wanted`` of each outlet's metals, counted
    with what of them strays into other pools."""
    total = amounts.sum(axis=1)
    astray = [0.0] * len(own)
    cuts: list[tuple[int, int]] = []
    for _ in range(2):
        cuts = []
        for members, amount, lost in zip(own, wanted, astray, strict=True):
            mine = np.maximum.accumulate(amounts[:, members].sum(axis=1))
            amount = min(amount - lost, float(mine[-1]) * (1 - _WHOLE))
            if not members or amount <= 0:
                cuts.append((0, 0))
                continue
            ends = np.searchsorted(mine, mine + amount)
            starts = np.flatnonzero(ends < mine.size)
            taken = total[ends[starts]] - total[starts]
            best = int(np.argmin(taken))
            cuts.append((int(starts[best]), int(ends[starts[best]])))
        cuts = _apart(cuts, own, amounts)
        pools = [amounts[j] - amounts[i] for i, j in cuts]
        astray = [
            float(sum(pool[k].sum() for n, pool in enumerate(pools) if n != m))
            for m, k in enumerate(own)
        ]
    return cuts


def _apart(
    cuts: Sequence[tuple[int, int]], own: Sequence[Sequence[int]], amounts: Array
) -> list[tuple[int, int]]:
    """Pools that would overlap meet where as much is gone of the slow one as is to come of the
    fast one."""
    found = list(cuts)
    pooled = [k for k, (i, j) in enumerate(found) if j > i]
    for before, after in pairwise(pooled):
        (a, b), (c, d) = found[before], found[after]
        if b > c:
            fast, slow = (amounts[:, own[k]].sum(axis=1) for k in (before, after))
            meet = c + int(np.argmin(np.abs((fast[-1] - fast - slow)[c : b + 1])))
            found[before], found[after] = (a, max(a, meet)), (min(d, meet), d)
    return found


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
