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
from sepmodel.chromatography.binding import PairLaw, half_loading_pH
from sepmodel.chromatography.stages import Cycle, Operation, load_and_elute
from sepmodel.products import Product

Array = NDArray[np.float64]

_SETTLED = 1e-3
_REFINEMENTS = 6
# Loads tried, as shares of the capacity, and eluted shares of the heavy group aimed at.
_LOADS = (1 / 4, 1 / 2, 3 / 4)
_HEAVY_YIELDS = tuple(1 - 10 ** (-k / 6) for k in range(1, 16 + 1))
_pH_TRIED = 4
_BED_VOLUMES_MOST = 8
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
    position: int


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Goal:
    """The two specifications on arrays in the order of the law's elements."""

    members: tuple[Array, Array]
    weights: tuple[Array, Array]
    purity: tuple[float, float]
    recovery: tuple[float, float]
    feed: Array

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
            worst = np.maximum(worst, (1 - mine / everything) / (1 - purity))
            worst = np.maximum(worst, (1 - mine / fed) / (1 - recovery))
        return np.asarray(worst)


def goal_of(names: Sequence[str], feed: Mapping[str, float], pair: Sequence[Product]) -> Goal:
    def weights(basis: str) -> Array:
        return np.array([products_.amounts({n: 1.0}, basis)[n] for n in names])

    return Goal(
        members=(
            np.array([float(n in pair[0].elements) for n in names]),
            np.array([float(n in pair[1].elements) for n in names]),
        ),
        weights=(weights(pair[0].purity_basis), weights(pair[1].purity_basis)),
        purity=(pair[0].purity, pair[1].purity),
        recovery=(pair[0].recovery, pair[1].recovery),
        feed=np.array([feed[n] for n in names]),
    )


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


def load_flow_of(
    flows: Array, chosen: Settings, law: PairLaw, run: Operation, arriving: float
) -> tuple[Array, Array]:
    """Liquor each column is loaded with and the water added to it [m3/s], both (n,).

    ``arriving`` [m3/s] is the fresh liquor; recycled pools dilute it, water does the rest.
    """
    rate = bed_rate(flows, chosen, law)
    liquor = np.zeros_like(rate)
    liquor[chosen.position] += arriving
    liquor[1:] += (rate * chosen.volume * run.volume_factor)[:-1]
    liquor[:-1] += (rate * run.strip_volume)[1:]
    loaded = np.maximum(liquor, flows.sum(axis=1) / run.conc_most)
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


def _candidates(
    shares: Array, law: PairLaw, run: Operation, pH: Array, conc: float
) -> tuple[Array, Array, Cycle]:
    """March every load and pH for one feed composition; load and pH per case, and the cycles."""
    loads, acidity = (a.ravel() for a in np.meshgrid(_LOADS, pH, indexing="ij"))
    cycle = load_and_elute(
        np.broadcast_to(shares, (loads.size, shares.size)).copy(),
        loads,
        acidity,
        law,
        run,
        _BED_VOLUMES_MOST,
        np.full(loads.shape, conc),
    )
    return loads, acidity, cycle


def one_column(
    moles: Array, law: PairLaw, run: Operation, goal: Goal, pH: Array, conc: float
) -> tuple[float, Settings]:
    """The most loaded single column that meets the goal, or the one that misses it least.

    Returns how far it misses (1 or less meets all) and its settings. Between the loads of the grid
    the margin is interpolated and the point found is marched again.
    """
    loads, acidity, cycle = _candidates(moles / moles.sum(), law, run, pH, conc)
    tried = [
        _cut(moles, goal, law, loads[k], acidity[k], _case(cycle, k)) for k in range(len(loads))
    ]
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
            points[column] = (load, _burden(settings, run, load))
    column = min(points, key=lambda c: points[c][1])
    row = int(np.flatnonzero(misses[:, column] <= 1).max())
    safe = tried[row * misses.shape[1] + column]
    load, acid = _between(points, column, pH)
    for _ in range(_HALVINGS):
        again = load_and_elute(
            moles / moles.sum(),
            np.array(load),
            np.array(acid),
            law,
            run,
            _BED_VOLUMES_MOST,
            np.array(conc),
        )
        refined = _cut(moles, goal, law, load, acid, again)
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


def _case(cycle: Cycle, k: int) -> Cycle:
    """One of the cycles that ran side by side."""
    return replace(cycle, effluent=cycle.effluent[k], bed=cycle.bed[k], eluate=cycle.eluate[k])


def _cut(
    moles: Array, goal: Goal, law: PairLaw, load: float, pH: float, cycle: Cycle
) -> tuple[float, Settings]:
    """The smallest elution volume that meets the goal, or the one that misses it least."""
    fed = np.maximum(moles / moles.sum() * load * law.capacity, _NOTHING)
    eluted, lost = cycle.eluate / fed, cycle.effluent / fed
    misses = goal.misses((moles * eluted, moles * (1 - eluted - lost)))
    at = int(np.argmax(misses <= 1)) if misses.min() <= 1 else int(np.argmin(misses))
    reached, share, volume = float(misses[at]), eluted[at], float(cycle.volumes[at])
    if reached <= 1 and at > 0:
        # Part of the last transfer is enough.
        part = float((misses[at - 1] - 1) / (misses[at - 1] - misses[at]))
        part += _SETTLED * (1 - part)
        between = eluted[at - 1] + part * (eluted[at] - eluted[at - 1])
        closer = float(goal.misses((moles * between, moles * (1 - between - lost))))
        if closer <= 1 - _MARGIN:
            volume = float(cycle.volumes[at - 1] * (1 - part) + cycle.volumes[at] * part)
            reached, share = closer, between
    settings = Settings(
        load=np.array([load]),
        pH=np.array([pH]),
        volume=np.array([volume]),
        eluted=share[None, :],
        lost=lost[None, :],
        position=0,
    )
    return reached, settings


def _burden(settings: Settings, run: Operation, load: float) -> float:
    """What one column costs a mole at ``load``: bed volumes times acid, each over the load."""
    eluent = float(settings.volume[0]) * run.volume_factor
    acid = eluent * 10.0 ** -float(settings.pH[0]) + run.strip_volume * 10.0**-run.strip_pH
    return float((eluent + fixed_volumes(run)) * acid / load**2)


def _menu(
    shares: Array, law: PairLaw, run: Operation, pH: Array, conc: float, members: Array
) -> list[dict[str, Array]]:
    """For each load and aimed-at heavy yield: the pH and volume that elute the least light."""
    loads, acidity, cycle = _candidates(shares, law, run, pH, conc)
    fed = shares * (loads * law.capacity)[:, None]
    fed = np.maximum(fed, _NOTHING)
    eluted = cycle.eluate / fed[:, None, :]
    lost = cycle.effluent / fed
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
                    "volume": cycle.volumes[at],
                    "eluted": eluted[row, at],
                    "lost": lost[row],
                }
            )
    return menu


class Menus:
    """Menus of the columns of a series by their distance from the fed one, made when asked for.

    A column further on is judged at the eluate of the one before it, one further back at the strip;
    the chosen series is marched again at its real feeds.
    """

    def __init__(
        self, shares: Array, law: PairLaw, run: Operation, pH: Array, conc: float, members: Array
    ) -> None:
        self._shares = {0: shares}
        self._made: dict[int, list[dict[str, Array]]] = {}
        self._fixed = (law, run, pH, conc, members)

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
    moles: Array,
    law: PairLaw,
    run: Operation,
    goal: Goal,
    menus: Menus,
    count: int,
    tighten: int,
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
                position=position,
            )
            flows = column_feeds(moles, settings)
            volumes = settings.volume * run.volume_factor + fixed_volumes(run)
            size = float((bed_rate(flows, settings, law) * volumes).sum())
            misses = float(goal.misses(end_pools_of(flows, settings))) / (9 / 10) ** tighten
            found.append((misses, size, settings))
    return min(found, key=lambda f: (max(f[0], 1.0), f[1]))[2]


def _resplit(
    flows: Array, chosen: Settings, law: PairLaw, run: Operation, arriving: float
) -> Settings:
    """The same operating points with the shares they split into at the columns' real feeds."""
    liquor = flows.sum(axis=1) / load_flow_of(flows, chosen, law, run, arriving)[0]
    shares = flows / flows.sum(axis=1, keepdims=True)
    cycle = load_and_elute(
        shares, chosen.load, chosen.pH, law, run, float(chosen.volume.max()), liquor
    )
    fed = shares * (chosen.load * law.capacity)[:, None]
    eluted = np.empty_like(fed)
    for k, volume in enumerate(chosen.volume):
        at = min(
            int(np.searchsorted(cycle.volumes, volume * (1 - _SETTLED))), len(cycle.volumes) - 1
        )
        eluted[k] = cycle.eluate[k, at]
    fed = np.maximum(fed, _NOTHING)
    return replace(chosen, eluted=eluted / fed, lost=cycle.effluent / fed)


def refine(
    moles: Array, chosen: Settings, law: PairLaw, run: Operation, goal: Goal, arriving: float
) -> tuple[float, Settings, float]:
    """March the chosen columns at their own feeds until the shares they split into stand still.

    Returns how far the goal is missed, the settings, and the last change of a share; gives up early
    on points that turn out far from the goal.
    """
    residual, misses = np.inf, np.inf
    for round_ in range(_REFINEMENTS):
        updated = _resplit(column_feeds(moles, chosen), chosen, law, run, arriving)
        residual = float(np.abs(updated.eluted - chosen.eluted).max())
        chosen = updated
        misses = float(goal.misses(end_pools_of(column_feeds(moles, chosen), chosen)))
        if residual < _SETTLED or (round_ > 0 and misses > _LOST_CAUSE):
            break
    return misses, chosen, residual
