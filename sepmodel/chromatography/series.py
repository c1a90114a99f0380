"""Operating points of lanmodulin columns, one or several in series, that meet a group split.

Every load and elution pH of a small grid is marched for the feed at hand. One column: the highest
load at which some elution volume meets both groups' specifications. A series: columns pass their
eluate on and their strip back; points are picked from menus made at likely compositions, then the
columns are marched at their real feeds until the shares they split into stand still.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel import products as products_
from sepmodel.chromatography.binding import C_STANDARD, PairLaw, half_loading_pH
from sepmodel.chromatography.proton_stages import (
    Beds,
    Buffer,
    Cycles,
    beds_of,
    liquor_at,
    march,
)
from sepmodel.chromatography.stages import Operation
from sepmodel.products import Product

Array = NDArray[np.float64]

_SETTLED = 1e-3
_REFINEMENTS = 6
# Loads tried, as shares of the capacity, and eluted shares of the heavy group aimed at.
_LOADS = (1 / 4, 1 / 2, 3 / 4, 9 / 10)
_HEAVY_YIELDS = tuple(1 - 10 ** (-k / 6) for k in range(1, 16 + 1))
_pH_TRIED = 5
BED_VOLUMES_MOST = 12
_HALVINGS = 4
_MARGIN = 1e-9
_LOST_CAUSE = 2.0
_NOTHING = 1e-300


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Settings:
    """Operating points chosen for the columns of one series, with the shares they split into."""

    load: Array
    pH: Array
    volume: Array
    eluted: Array
    lost: Array
    acid: Array
    position: int


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Demand:
    """A product whose metals a group has to bring: ``weights`` (C,) of the shares of its elements,
    their sum one; ``eluted`` of them alone, or with what is stripped; the least ``recovery``."""

    name: str
    weights: Array
    eluted: bool
    recovery: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Goal:
    """The two specifications on arrays in the order of the law's elements.

    ``feed`` (C,) is what the groups' recoveries are counted from, ``loaded`` (C,) what of it is
    left for the columns; ``demands`` are recoveries of single products, counted from ``loaded``;
    ``margin`` is the share of what may be wrong that is to be used (``aim``).
    """

    members: tuple[Array, Array]
    weights: tuple[Array, Array]
    purity: tuple[float, float]
    recovery: tuple[float, float]
    feed: Array
    loaded: Array
    demands: tuple[Demand, ...] = ()
    margin: float = 1.0

    def misses(self, pools: tuple[Array, Array]) -> Array:
        """Largest ratio of what is wrong to what is allowed to be wrong; 1 or less meets all.

        ``pools`` are moles of the heavy and the light pool, shape (..., C); returns shape (...).
        """
        worst = np.zeros(pools[0].shape[:-1])
        for pool, member, weight, purity, recovery in zip(
            pools, self.members, self.weights, self.purity, self.recovery, strict=True
        ):
            mine = pool @ (weight * member)
            everything = np.maximum(pool @ weight, _NOTHING)
            fed = float(self.feed @ (weight * member))
            worst = np.maximum(worst, (1 - mine / everything) / (1 - self.aim(purity)))
            worst = np.maximum(worst, (1 - mine / fed) / (1 - self.aim(recovery)))
        for demand in self.demands:
            there = pools[0] if demand.eluted else pools[0] + pools[1]
            lost = 1 - there @ (demand.weights / self.loaded)
            worst = np.maximum(worst, lost / (1 - self.aim(demand.recovery)))
        return np.asarray(worst)

    def aims(self) -> Array:
        """What has to be eluted (P, C): rows whose product with eluted shares of what is loaded is
        one or more where a recovery that hangs on the elution is reached, the margin kept."""
        heavy = self.weights[0] * self.members[0] * self.loaded
        of_feed = float(self.feed @ (self.weights[0] * self.members[0]))
        rows = [heavy / of_feed / self.aim(self.recovery[0])]
        rows += [d.weights / self.aim(d.recovery) for d in self.demands if d.eluted]
        return np.array(rows)

    def aim(self, demanded: float) -> float:
        """What a purity or recovery is designed for: t + (1 - margin) t (1 - t). Near one it uses
        ``margin`` of what may be wrong; a share of a half is aimed at with a part to spare too."""
        return demanded + (1 - self.margin) * demanded * (1 - demanded)


def goal_of(
    names: Sequence[str],
    feed: Mapping[str, float],
    pair: Sequence[Product],
    each: Sequence[Product] = (),
    loss: float = 0.0,
    margin: float = 1.0,
) -> Goal:
    """The goal of a heavy and a light group ``pair``; ``each`` product has to be brought as well.

    ``loss`` is the share of the feed lost in handling.
    """

    def weights(basis: str) -> Array:
        return np.array([products_.amounts({n: 1.0}, basis)[n] for n in names])

    amounts = np.array([feed[n] for n in names])
    demands = []
    for product in each:
        own = weights(product.purity_basis) * amounts
        own *= np.array([float(n in product.elements) for n in names])
        demands.append(
            Demand(
                name=product.name,
                weights=own / own.sum(),
                eluted=bool(set(product.elements) & set(pair[0].elements)),
                recovery=product.recovery,
            )
        )
    return Goal(
        members=(
            np.array([float(n in pair[0].elements) for n in names]),
            np.array([float(n in pair[1].elements) for n in names]),
        ),
        weights=(weights(pair[0].purity_basis), weights(pair[1].purity_basis)),
        purity=(pair[0].purity, pair[1].purity),
        recovery=(pair[0].recovery, pair[1].recovery),
        feed=amounts,
        loaded=amounts * (1 - loss),
        demands=tuple(demands),
        margin=margin,
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Bed:
    """A column's law and operation, with the liquor it is loaded with.

    ``conc`` [mol/m3] of rare earth at most, ``pH`` of the load, ``buffer`` and how much of it per
    mole of rare earth.
    """

    law: PairLaw
    run: Operation
    conc: float
    pH: float
    buffer: Buffer | None = None
    ratio: float = 0.0

    def stack(self, count: int) -> Beds:
        """``count`` times this bed."""
        one = beds_of([self.law], [self.run.liquid], [self.run.plates], [self.buffer])
        return one.taken(np.zeros(count, dtype=np.int64))

    def cycles(
        self, shares: Array, loads: Array, pH: Array, conc: Array, most: float = BED_VOLUMES_MOST
    ) -> Cycles:
        """One cycle of columns side by side: feeds in mole shares (B, C), loads over capacity,
        elution pH and rare earth of the liquor [mol/m3] (B,)."""
        beds = self.stack(len(loads))
        liquor = liquor_at(
            beds, shares * conc[:, None], conc * self.ratio, np.full(len(loads), self.pH)
        )
        acid = np.full(len(loads), acid_of(self.run.wash_pH))
        return march(
            beds,
            liquor,
            loads * self.law.capacity / conc,
            np.full(len(loads), self.run.wash_volume),
            acid,
            acid_of(pH),
            most,
        )

    @property
    def protons(self) -> float:
        """Protons a rare earth takes the place of on the protein that was washed."""
        bound = acid_of(self.run.wash_pH)
        return 0.5 * self.law.exponent * float(bound / (bound + acid_of(self.law.pKa)))


def acid_of(pH: float | Array) -> Array:
    """Hydrogen ions [mol/m3] at a pH."""
    return np.asarray(C_STANDARD * 10.0 ** -np.asarray(pH))


def buffer_ratio(law: PairLaw, run: Operation, buffer: Buffer) -> float:
    """Buffer per rare earth that keeps a load from ``run.load_pH`` above ``run.least_pH``.

    The protons that are released, N/2 h/(h + Ka) at the pH of the wash, over the share of the
    buffer that takes them up between both pH.
    """
    anions = [1 / (1 + float(acid_of(pH)) / buffer.acidity) for pH in (run.load_pH, run.least_pH)]
    return Bed(law=law, run=run, conc=1.0, pH=run.load_pH).protons / (anions[0] - anions[1])


def column_feeds(moles: Array, chosen: Settings) -> Array:
    """Feed of every column [mol/s], (n, C): fresh feed, eluate of the one before, next one's strip.

    F_k = fresh_k + E_(k-1) F_(k-1) + S_(k+1) F_(k+1), one linear system per element.
    """
    count, components = chosen.eluted.shape
    strip = 1 - chosen.eluted - chosen.lost
    matrix = np.zeros((components, count, count))
    index = np.arange(count)
    matrix[:, index, index] = 1.0
    matrix[:, index[1:], index[:-1]] = -chosen.eluted[:-1].T
    matrix[:, index[:-1], index[1:]] = -strip[1:].T
    fresh = np.zeros((components, count, 1))
    fresh[:, chosen.position, 0] = moles
    return np.asarray(np.linalg.solve(matrix, fresh)[..., 0].T)


def end_pools_of(flows: Array, chosen: Settings) -> tuple[Array, Array]:
    """Heavy eluate of the last column and light strip of the first [mol/s]."""
    strip = 1 - chosen.eluted[0] - chosen.lost[0]
    return chosen.eluted[-1] * flows[-1], strip * flows[0]


def bed_rate(flows: Array, chosen: Settings, law: PairLaw) -> Array:
    """Bed volume each column position turns over [m3/s], (n,)."""
    return np.asarray(flows.sum(axis=1) / (chosen.load * law.capacity))


def load_flow_of(flows: Array, chosen: Settings, bed: Bed, arriving: float) -> tuple[Array, Array]:
    """Liquor each column is loaded with and the water added to it [m3/s], both (n,).

    ``arriving`` [m3/s] is the fresh liquor; recycled pools dilute it, water does the rest.
    """
    rate = bed_rate(flows, chosen, bed.law)
    liquor = np.zeros_like(rate)
    liquor[chosen.position] += arriving
    liquor[1:] += (rate * chosen.volume * bed.run.volume_factor)[:-1]
    liquor[:-1] += (rate * bed.run.strip_volume)[1:]
    loaded = np.maximum(liquor, flows.sum(axis=1) / bed.conc)
    return loaded, loaded - liquor


def fixed_volumes(run: Operation) -> float:
    """Bed volumes of a cycle beside loading and elution."""
    return run.wash_volume + run.strip_volume + run.rinse_volume


def elution_range(law: PairLaw, heavy: Product, light: Product) -> Array:
    """Elution pH values worth trying: from half loading of the strongest metal at a full column's
    concentration to half loading of the weakest one at a tenth of it."""
    members = [e for e in (*heavy.elements, *light.elements) if e in law.names]
    bottom = min(half_loading_pH(e, law.capacity, law) for e in members)
    top = max(half_loading_pH(e, law.capacity / 10, law) for e in members)
    return np.linspace(bottom, top, _pH_TRIED + 2)[1:-1]


def _candidates(shares: Array, bed: Bed, pH: Array) -> tuple[Array, Array, Cycles]:
    """March every load and pH for one feed composition; load and pH per case, and the cycles."""
    loads, acidity = (a.ravel() for a in np.meshgrid(_LOADS, pH, indexing="ij"))
    cycles = bed.cycles(
        np.broadcast_to(shares, (loads.size, shares.size)),
        loads,
        acidity,
        np.full(loads.shape, bed.conc),
    )
    return loads, acidity, cycles


def one_column(moles: Array, bed: Bed, goal: Goal, pH: Array) -> tuple[float, Settings]:
    """The most loaded single column that meets the goal, or the one that misses it least.

    Returns how far it misses (1 or less meets all) and its settings. Between the loads of the grid
    the margin is interpolated and the point found is marched again.
    """
    loads, acidity, cycles = _candidates(moles / moles.sum(), bed, pH)
    tried = [_cut(moles, goal, bed, loads[k], acidity[k], cycles, k) for k in range(len(loads))]
    misses = np.array([miss for miss, _ in tried]).reshape(len(_LOADS), -1)
    worst = int(np.argmin(misses))
    if not misses.min() <= 1:
        return tried[worst]
    points: dict[int, tuple[float, float]] = {}
    for column in range(misses.shape[1]):
        meets = np.flatnonzero(misses[:, column] <= 1)
        if meets.size:
            row = int(meets.max())
            load = _LOADS[row]
            if row + 1 < len(_LOADS):
                here, there = np.log(misses[row : row + 2, column])
                load += (_LOADS[row + 1] - load) * float(here / (here - there))
            settings = tried[row * misses.shape[1] + column][1]
            points[column] = (load, _burden(settings, bed, load))
    column = min(points, key=lambda c: points[c][1])
    row = int(np.flatnonzero(misses[:, column] <= 1).max())
    safe = tried[row * misses.shape[1] + column]
    load, acid = _between(points, column, pH)
    for _ in range(_HALVINGS):
        again = bed.cycles(
            (moles / moles.sum())[None], np.array([load]), np.array([acid]), np.array([bed.conc])
        )
        refined = _cut(moles, goal, bed, load, acid, again, 0)
        if refined[0] <= 1:
            return refined
        load, acid = 0.5 * (load + _LOADS[row]), 0.5 * (acid + float(pH[column]))
    return safe


def _between(
    points: Mapping[int, tuple[float, float]], best: int, pH: Array
) -> tuple[float, float]:
    """Load and pH where a parabola through the best pH of the grid and its neighbours is lowest."""
    load, lowest = points[best]
    if best - 1 not in points or best + 1 not in points:
        return load, float(pH[best])
    before, after = (float(np.log(points[best + side][1] / lowest)) for side in (-1, 1))
    shift = 0.5 * (before - after) / max(before + after, _MARGIN)
    near, part = (best + 1, shift) if shift > 0 else (best - 1, -shift)
    return (
        load + part * (points[near][0] - load),
        float(pH[best] + part * (pH[near] - pH[best])),
    )


def _cut(
    moles: Array, goal: Goal, bed: Bed, load: float, pH: float, cycles: Cycles, k: int
) -> tuple[float, Settings]:
    """The smallest elution volume of cycle ``k`` that meets the goal, or that misses it least."""
    fed = np.maximum(moles / moles.sum() * load * bed.law.capacity, _NOTHING)
    eluted, lost = cycles.eluate[k] / fed, cycles.lost[k] / fed
    volumes, acids = cycles.volumes[k], cycles.acid[k]
    misses = goal.misses((moles * eluted, moles * (1 - eluted - lost)))
    at = int(np.argmax(misses <= 1)) if misses.min() <= 1 else int(np.argmin(misses))
    reached, share, volume, acid = float(misses[at]), eluted[at], volumes[at], acids[at]
    if reached <= 1 and at > 0:
        # Part of the last transfer is enough.
        part = float((misses[at - 1] - 1) / (misses[at - 1] - misses[at]))
        part += _SETTLED * (1 - part)
        between = eluted[at - 1] + part * (eluted[at] - eluted[at - 1])
        closer = float(goal.misses((moles * between, moles * (1 - between - lost))))
        if closer <= 1 - _MARGIN:
            volume = volumes[at - 1] * (1 - part) + volumes[at] * part
            acid = acids[at - 1] * (1 - part) + acids[at] * part
            reached, share = closer, between
    settings = Settings(
        load=np.array([load]),
        pH=np.array([pH]),
        volume=np.array([volume]),
        eluted=share[None, :],
        lost=lost[None, :],
        acid=np.array([acid]),
        position=0,
    )
    return reached, settings


def _burden(settings: Settings, bed: Bed, load: float) -> float:
    """What one column costs a mole at ``load``: bed volumes (vessels, water, acid) times beads worn
    in a cycle, each over the load."""
    eluent = float(settings.volume[0]) * bed.run.volume_factor
    passed = load * bed.law.capacity / bed.conc
    return float((passed + eluent + fixed_volumes(bed.run)) / load**2)


def _menu(shares: Array, bed: Bed, pH: Array, members: Array) -> list[dict[str, Array]]:
    """For each load and aimed-at heavy yield: the pH and volume that elute the least light."""
    loads, acidity, cycles = _candidates(shares, bed, pH)
    fed = shares * (loads * bed.law.capacity)[:, None]
    fed = np.maximum(fed, _NOTHING)
    eluted = cycles.eluate / fed[:, None, :]
    lost = cycles.lost / fed
    heavy = shares * members
    heavy_yield = (eluted * heavy).sum(axis=-1) / heavy.sum()
    light_yield = (eluted * (shares - heavy)).sum(axis=-1)
    menu = []
    for aim in _HEAVY_YIELDS:
        reached = heavy_yield >= aim
        ok = reached.any(axis=1)
        first = np.argmax(reached, axis=1)
        burden = np.where(ok, light_yield[np.arange(len(loads)), first], np.inf)
        for load in _LOADS:
            rows = np.flatnonzero(loads == load)
            row = rows[np.argmin(burden[rows])]
            if not np.isfinite(burden[row]):
                continue
            at = first[row]
            menu.append(
                {
                    "aim": np.array(aim),
                    "load": np.array(load),
                    "pH": acidity[row],
                    "volume": cycles.volumes[row, at],
                    "eluted": eluted[row, at],
                    "lost": lost[row],
                    "acid": cycles.acid[row, at],
                }
            )
    return menu


class Menus:
    """Menus of the columns of a series by their distance from the fed one, made when asked for.

    A column further on is judged at the eluate of the one before it, one further back at the strip;
    the chosen series is marched again at its real feeds.
    """

    def __init__(self, shares: Array, bed: Bed, pH: Array, members: Array) -> None:
        self._shares = {0: shares}
        self._made: dict[int, list[dict[str, Array]]] = {}
        self._fixed = (bed, pH, members)

    def __getitem__(self, offset: int) -> list[dict[str, Array]]:
        if offset not in self._made:
            if offset != 0:
                toward = offset - 1 if offset > 0 else offset + 1
                middle = self[toward][len(self[toward]) // 2]
                part = middle["eluted"] if offset > 0 else 1 - middle["eluted"] - middle["lost"]
                amount = self._shares[toward] * np.maximum(part, 0.0)
                self._shares[offset] = amount / amount.sum()
            self._made[offset] = _menu(self._shares[offset], *self._fixed)
        return self._made[offset]


def best_series(
    moles: Array, bed: Bed, goal: Goal, menus: Menus, count: int, tighten: int
) -> Settings:
    """The smallest series of ``count`` columns that meets the goal, or what misses it least."""
    found: list[tuple[float, float, Settings]] = []
    for position in range(count):
        choices = [
            {(float(m["load"]), float(m["aim"])): m for m in menus[k - position]}
            for k in range(count)
        ]
        for point in choices[0]:
            if not all(point in c for c in choices):
                continue
            picked = [c[point] for c in choices]
            settings = Settings(
                load=np.array([m["load"] for m in picked]),
                pH=np.array([m["pH"] for m in picked]),
                volume=np.array([m["volume"] for m in picked]),
                eluted=np.array([m["eluted"] for m in picked]),
                lost=np.array([m["lost"] for m in picked]),
                acid=np.array([m["acid"] for m in picked]),
                position=position,
            )
            flows = column_feeds(moles, settings)
            volumes = settings.volume * bed.run.volume_factor + fixed_volumes(bed.run)
            size = float((bed_rate(flows, settings, bed.law) * volumes).sum())
            misses = float(goal.misses(end_pools_of(flows, settings))) / (9 / 10) ** tighten
            found.append((misses, size, settings))
    return min(found, key=lambda f: (max(f[0], 1.0), f[1]))[2]


def _resplit(flows: Array, chosen: Settings, bed: Bed, arriving: float) -> Settings:
    """The same operating points with the shares they split into at the columns' real feeds."""
    liquor = flows.sum(axis=1) / load_flow_of(flows, chosen, bed, arriving)[0]
    shares = flows / flows.sum(axis=1, keepdims=True)
    cycles = bed.cycles(shares, chosen.load, chosen.pH, liquor, float(chosen.volume.max()))
    fed = np.maximum(shares * (chosen.load * bed.law.capacity)[:, None], _NOTHING)
    eluted, acid = np.empty_like(fed), np.empty(len(fed))
    for k, volume in enumerate(chosen.volume):
        eluted[k] = [
            np.interp(volume, cycles.volumes[k], cycles.eluate[k, :, c])
            for c in range(fed.shape[1])
        ]
        acid[k] = np.interp(volume, cycles.volumes[k], cycles.acid[k])
    return replace(chosen, eluted=eluted / fed, lost=cycles.lost / fed, acid=acid)


def refine(
    moles: Array, chosen: Settings, bed: Bed, goal: Goal, arriving: float
) -> tuple[float, Settings, float]:
    """March the chosen columns at their own feeds until the shares they split into stand still.

    Returns how far the goal is missed, the settings, and the last change of a share; gives up early
    on points that turn out far from the goal.
    """
    residual, misses = np.inf, np.inf
    for round_ in range(_REFINEMENTS):
        updated = _resplit(column_feeds(moles, chosen), chosen, bed, arriving)
        residual = float(np.abs(updated.eluted - chosen.eluted).max())
        chosen = updated
        misses = float(goal.misses(end_pools_of(column_feeds(moles, chosen), chosen)))
        if residual < _SETTLED or (round_ > 0 and misses > _LOST_CAUSE):
            break
    return misses, chosen, residual
