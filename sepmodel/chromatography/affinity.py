"""Lanmodulin columns for a group split: load, wash, selective elution, strip, re-equilibrate.

Heavy rare earths leave first, in the selective eluate at a chosen pH; light ones stay and leave in
the strip. Where one column does not reach the specification, columns in series pass their eluate
forward and their strip back. The eluent spent on protonating the protein is charged beside the
volume the equilibrium stages ask for.

Published lanmodulins do not split Nd from Pr, and Tb from Dy poorly: this is a group split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel import products as products_
from sepmodel.chromatography.binding import C_STANDARD, PairLaw, half_loading_pH, pair_law
from sepmodel.chromatography.results import Pool, check_feed, check_groups, rare_earth_total
from sepmodel.chromatography.stages import Cycle, Operation, load_and_elute, operation
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.products import Product
from sepmodel.result import Warned
from sepmodel.species import RARE_EARTHS, molar_mass

Array = NDArray[np.float64]

_SETTLED = 1e-3
_REFINEMENTS = 6
# Loads tried, as shares of the capacity, and eluted shares of the heavy group aimed at.
_LOADS = (1 / 2, 3 / 4)
_HEAVY_YIELDS = tuple(1 - 10 ** (-k / 6) for k in range(1, 17))
_pH_TRIED = 4
_BED_VOLUMES_MOST = 8
_TIGHTENINGS = 2
_HOPELESS = 3
_NOTHING = 1e-300


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


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Settings:
    """Operating points chosen for the columns of one series, with the shares they split into."""

    load: Array
    pH: Array
    volume: Array
    eluted: Array
    lost: Array
    position: int


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
    """The smallest lanmodulin plant that splits ``feed`` into a heavy and a light group.

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
    goal = _goal(bindable, feed, (heavy, light))
    pH = _pH_range(law, heavy, light)
    nearest, best = np.inf, None
    menus = _Menus(moles / moles.sum(), law, run, pH, conc, goal.members[0])
    for count in range(1, columns_most + 1):
        for tighten in range(_TIGHTENINGS):
            settings = _best(moles, law, run, goal, menus, count, tighten)
            promised = goal.misses(_pools(_flows(moles, settings), settings))
            residual = 0.0
            # A single column was marched at its own feed already.
            if promised <= 1 and count > 1:
                settings, residual = _refine(moles, settings, law, run, arriving)
            reached = goal.misses(_pools(_flows(moles, settings), settings))
            if reached <= 1:
                acidity = run.load_pH if feed_pH is None else feed_pH
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
                    feed_pH=acidity,
                    protein=protein,
                )
            if reached < nearest:
                nearest, best = reached, settings
            if promised > 1 or reached > _HOPELESS:
                break
    raise _infeasible(moles, goal, best, (heavy, light), columns_most)


def _refine(
    moles: Array, chosen: _Settings, law: PairLaw, run: Operation, arriving: float
) -> tuple[_Settings, float]:
    """March the chosen columns at their own feeds until the shares they split into stand still."""
    if len(chosen.load) == 1:
        return chosen, 0.0
    residual = np.inf
    for _ in range(_REFINEMENTS):
        updated = _resplit(_flows(moles, chosen), chosen, law, run, arriving)
        residual = float(np.abs(updated.eluted - chosen.eluted).max())
        chosen = updated
        if residual < _SETTLED:
            break
    return chosen, residual


def _infeasible(
    moles: Array, goal: _Goal, best: _Settings | None, pair: tuple[Product, Product], most: int
) -> InfeasibleError:
    """What the best series of columns came to, as an error that names the nearest values."""
    nearest: dict[str, float] = {}
    if best is not None:
        pools = _pools(_flows(moles, best), best)
        for product, pool, member, weight in zip(
            pair, pools, goal.members, goal.weights, strict=True
        ):
            mine = float(pool @ (weight * member))
            nearest[f"{product.name} purity"] = mine / float(pool @ weight)
            nearest[f"{product.name} recovery"] = mine / float(goal.feed @ (weight * member))
    return InfeasibleError(
        f"up to {most} lanmodulin columns in series do not split "
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


def _pH_range(law: PairLaw, heavy: Product, light: Product) -> Array:
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


class _Menus:
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


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Goal:
    """The two specifications on arrays in the order of the law's elements."""

    members: tuple[Array, Array]
    weights: tuple[Array, Array]
    purity: tuple[float, float]
    recovery: tuple[float, float]
    feed: Array

    def misses(self, pools: tuple[Array, Array], tighten: int = 0) -> float:
        """Largest ratio of what is wrong to what is allowed to be wrong; 1 or less meets all."""
        allow = (9 / 10) ** tighten
        worst = 0.0
        for pool, member, weight, purity, recovery in zip(
            pools, self.members, self.weights, self.purity, self.recovery, strict=True
        ):
            mine = float(pool @ (weight * member))
            everything = float(pool @ weight)
            fed = float(self.feed @ (weight * member))
            impure = 1 - mine / everything if everything > 0 else 1.0
            worst = max(
                worst, impure / (1 - purity) / allow, (1 - mine / fed) / (1 - recovery) / allow
            )
        return worst


def _goal(names: Sequence[str], feed: Mapping[str, float], pair: Sequence[Product]) -> _Goal:
    def weights(basis: str) -> Array:
        return np.array([products_.amounts({n: 1.0}, basis)[n] for n in names])

    return _Goal(
        members=(
            np.array([float(n in pair[0].elements) for n in names]),
            np.array([float(n in pair[1].elements) for n in names]),
        ),
        weights=(weights(pair[0].purity_basis), weights(pair[1].purity_basis)),
        purity=(pair[0].purity, pair[1].purity),
        recovery=(pair[0].recovery, pair[1].recovery),
        feed=np.array([feed[n] for n in names]),
    )


def _flows(moles: Array, chosen: _Settings) -> Array:
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


def _pools(flows: Array, chosen: _Settings) -> tuple[Array, Array]:
    """Heavy eluate of the last column and light strip of the first [mol/s]."""
    strip = 1 - chosen.eluted[0] - chosen.lost[0]
    return chosen.eluted[-1] * flows[-1], strip * flows[0]


def _bed_rate(flows: Array, chosen: _Settings, law: PairLaw) -> Array:
    """Bed volume each column position turns over [m3/s], (n,)."""
    return np.asarray(flows.sum(axis=1) / (chosen.load * law.capacity))


def _load_flow(
    flows: Array, chosen: _Settings, law: PairLaw, run: Operation, arriving: float
) -> tuple[Array, Array]:
    """Liquor each column is loaded with and the water added to it [m3/s], both (n,).

    ``arriving`` [m3/s] is the fresh liquor; recycled pools dilute it, water does the rest.
    """
    rate = _bed_rate(flows, chosen, law)
    liquor = np.zeros_like(rate)
    liquor[chosen.position] += arriving
    liquor[1:] += (rate * chosen.volume * run.volume_factor)[:-1]
    liquor[:-1] += (rate * run.strip_volume)[1:]
    loaded = np.maximum(liquor, flows.sum(axis=1) / run.conc_most)
    return loaded, loaded - liquor


def _resplit(
    flows: Array, chosen: _Settings, law: PairLaw, run: Operation, arriving: float
) -> _Settings:
    """The same operating points with the shares they split into at the columns' real feeds."""
    liquor = flows.sum(axis=1) / _load_flow(flows, chosen, law, run, arriving)[0]
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


def _best(
    moles: Array,
    law: PairLaw,
    run: Operation,
    goal: _Goal,
    menus: _Menus,
    count: int,
    tighten: int,
) -> _Settings:
    """The smallest series of ``count`` columns that meets the goal, or what misses it least."""
    found: list[tuple[float, float, _Settings]] = []
    for position in range(count):
        choices = [
            {(float(m["load"]), float(m["aim"])): m for m in menus[k - position]}
            for k in range(count)
        ]
        for point in choices[0]:
            if not all(point in c for c in choices):
                continue
            picked = [c[point] for c in choices]
            settings = _Settings(
                load=np.array([m["load"] for m in picked]),
                pH=np.array([m["pH"] for m in picked]),
                volume=np.array([m["volume"] for m in picked]),
                eluted=np.array([m["eluted"] for m in picked]),
                lost=np.array([m["lost"] for m in picked]),
                position=position,
            )
            flows = _flows(moles, settings)
            volumes = settings.volume * run.volume_factor + _fixed_volumes(run)
            size = float((_bed_rate(flows, settings, law) * volumes).sum())
            misses = goal.misses(_pools(flows, settings), tighten)
            found.append((misses, size, settings))
    return min(found, key=lambda f: (max(f[0], 1.0), f[1]))[2]


def _fixed_volumes(run: Operation) -> float:
    """Bed volumes of a cycle beside loading and elution."""
    return run.wash_volume + run.strip_volume + run.rinse_volume


def _acid(pH: float | Array) -> Array:
    """Hydrogen ions [mol/m3] at a pH."""
    return np.asarray(C_STANDARD * 10.0 ** -np.asarray(pH))


def _assemble(
    feed: Mapping[str, float],
    moles: Array,
    pair: tuple[Product, Product],
    chosen: _Settings,
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
    flows = _flows(moles, chosen)
    fed, lost = flows.sum(axis=1), chosen.lost * flows
    rate = _bed_rate(flows, chosen, law)
    load, dilution = _load_flow(flows, chosen, law, run, arriving)
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
    chosen: _Settings,
    run: Operation,
) -> dict[str, dict[str, float]]:
    """Moles by outlet; the flow-through takes the rest of every element, so that all is there."""
    heavy, light = _pools(flows, chosen)
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
    chosen: _Settings,
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
