"""A lanmodulin plant that is built, at other constants and liquors: many plants at once.

The columns in series stand, and each keeps the share of its capacity it is loaded with. The
elution pH follows the protein (the pH at which its heavy metals half load it), the elution ends
where the heavy products have arrived, and liquor, buffer, volumes and reagents follow. Where that
does not do, an operator elutes at a lower pH or loads less. All plants march side by side; none
feels another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography.affinity import (
    AffinityDesign,
    assemble,
    bed_of,
    bindable,
    check_iron,
    goal_at,
    infeasible,
    reference_pH,
)
from sepmodel.chromatography.binding import pair_law
from sepmodel.chromatography.proton_stages import Cycles, beds_of, liquor_at, march
from sepmodel.chromatography.results import check_feed, check_groups, rare_earth_total
from sepmodel.chromatography.series import (
    BED_VOLUMES_MOST,
    Bed,
    Goal,
    Settings,
    acid_of,
    column_feeds,
    end_pools_of,
    load_flow_of,
)
from sepmodel.chromatography.stages import operation
from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InfeasibleError
from sepmodel.products import Product

Array = NDArray[np.float64]

# What is tried in turn: the built load times a factor, the elution pH less a part of a unit.
_TRIALS = ((1.0, 0.0), (1.0, 1 / 10), (3 / 4, 0.0), (3 / 4, 1 / 10), (1 / 2, 0.0), (1 / 4, 0.0))
# Columns that march together: arrays that stay in the processor's cache.
_TOGETHER = 320
_ROUNDS = 6
# The light group need not stay as wholly as it was designed to, or the columns are in vain.
_LEAST_KEPT = 1 / 2
_SETTLED = 1e-3
_ROUNDING = 1e-9
_NOTHING = 1e-300


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class AskedColumns:
    """What a plant asks of its columns: see ``affinity.design``; ``book`` has its constants."""

    feed: Mapping[str, float]
    products: tuple[Product, Product]
    each: tuple[Product, ...]
    book: Book
    protein: str
    buffer: str
    feed_conc: float
    feed_pH: float


@dataclass(eq=False, slots=True)
class _Plant:
    """One plant under way: its bed and goal, and what is set of its columns."""

    asked: AskedColumns
    bed: Bed
    goal: Goal
    shift: float
    chosen: Settings
    residual: float = np.inf
    misses: float = np.inf
    settles: bool = True
    lost: bool = False


class BuiltColumns:
    """A designed plant whose columns stand."""

    def __init__(self, design: AffinityDesign) -> None:
        self.design = design
        columns = design.columns
        names = tuple(columns[0].feed)
        self._load = np.array([c.load_fraction for c in columns])
        self._pH = np.array([c.elution_pH for c in columns])
        self._volume = np.array([c.elution_volume for c in columns])
        self._fed = {e: np.array([max(c.feed[e], _NOTHING) for c in columns]) for e in names}
        self._eluted = {e: [c.eluate[e] for c in columns] / self._fed[e] for e in names}
        self._lost = {e: [c.effluent[e] for c in columns] / self._fed[e] for e in names}

    def solve(self, asked: Sequence[AskedColumns]) -> list[AffinityDesign | InfeasibleError]:
        """Every plant in operation, or why there is none."""
        out: list[AffinityDesign | InfeasibleError | None] = [None] * len(asked)
        plants: dict[int, _Plant] = {}
        for i, one in enumerate(asked):
            try:
                plants[i] = self._plant(one)
            except InfeasibleError as error:
                out[i] = error
        best = dict(plants)
        todo = list(plants)
        lost_at: dict[int, float] = {}
        for factor, lower in _TRIALS:
            # What a load loses does not hang on the elution after it.
            now = [i for i in todo if lost_at.get(i) != factor]
            for i in now:
                plants[i] = self._reset(plants[i], factor, lower)
            self._run([plants[i] for i in now])
            for i in now:
                if plants[i].lost:
                    lost_at[i] = factor
                if plants[i].misses < best[i].misses:
                    best[i] = replace(plants[i])
            todo = [i for i in todo if not best[i].misses <= 1 + _ROUNDING]
            if not todo:
                break
        for i, plant in best.items():
            out[i] = _answer(plant)
        return [one for one in out if one is not None]

    def _plant(self, asked: AskedColumns) -> _Plant:
        """The bed and the goal of a plant, as ``affinity.design`` sets them."""
        check_feed(asked.feed)
        check_groups([p.elements for p in asked.products], asked.feed)
        run = operation(asked.book, protons=True)
        check_iron(asked.feed, run)
        law = pair_law(bindable(asked.feed, asked.book, asked.protein), asked.book, asked.protein)
        conc = min(asked.feed_conc, run.conc_most)
        if not asked.buffer:
            conc = min(conc, self.design.load_conc)
        bed = bed_of(law, run, asked.book, asked.buffer, conc)
        shift = reference_pH(law, asked.products[0]) - self.design.reference_pH
        count = len(self._load)

        def of(shares: Mapping[str, Array], name: str) -> Array:
            return shares.get(name, np.zeros(count))

        chosen = Settings(
            load=self._load.copy(),
            pH=self._pH + shift,
            volume=self._volume.copy(),
            eluted=np.array([of(self._eluted, e) for e in law.names]).T,
            lost=np.array([of(self._lost, e) for e in law.names]).T,
            acid=np.zeros(count),
            position=self.design.feed_position,
        )
        goal = goal_at(asked.feed, asked.products, asked.each, bed)
        return _Plant(asked=asked, bed=bed, goal=goal, shift=shift, chosen=chosen)

    def _reset(self, plant: _Plant, factor: float, lower: float) -> _Plant:
        chosen = replace(plant.chosen, load=self._load * factor, pH=self._pH + plant.shift - lower)
        return replace(
            plant, chosen=chosen, residual=np.inf, misses=np.inf, settles=True, lost=False
        )

    def _run(self, plants: Sequence[_Plant]) -> None:
        """March the columns of all plants until the shares they split into stand still."""
        single = len(self._load) == 1
        going = list(plants)
        for _ in range(1 if single else _ROUNDS):
            # Plants of one length march together: shorter ones would carry empty cells along.
            going.sort(key=lambda p: p.bed.run.plates)
            size = max(1, _TOGETHER // len(self._load))
            for first in range(0, len(going), size):
                self._safely(going[first : first + size])
            going = [p for p in going if p.residual >= _SETTLED and p.settles and not p.lost]
            if not going:
                break
        for plant in plants:
            flows = column_feeds(plant.goal.loaded, plant.chosen)
            if plant.settles and not plant.lost:
                least = plant.goal.recovery[0], _LEAST_KEPT * plant.goal.recovery[1]
                asked = replace(plant.goal, margin=1.0, recovery=least)
                plant.misses = float(asked.misses(end_pools_of(flows, plant.chosen)))

    def _safely(self, plants: Sequence[_Plant]) -> None:
        """A round; where some cell does not settle, every plant alone, to know whose it is."""
        try:
            self._round(plants)
        except ConvergenceError:
            for plant in plants:
                if len(plants) > 1:
                    self._safely([plant])
                else:
                    plant.settles = False

    def _round(self, plants: Sequence[_Plant]) -> None:
        """One cycle of every column of some plants at the feeds their neighbours hand on."""
        count = len(self._load)
        cases = [(p, k) for p in plants for k in range(count)]
        beds = beds_of(
            [p.bed.law for p, _ in cases],
            [p.bed.run.liquid for p, _ in cases],
            [p.bed.run.plates for p, _ in cases],
            [p.bed.buffer for p, _ in cases],
        )
        shares, conc = [], []
        for p in plants:
            arriving = rare_earth_total(p.asked.feed) / p.asked.feed_conc
            flows = column_feeds(p.goal.loaded, p.chosen)
            load, _ = load_flow_of(flows, p.chosen, p.bed, arriving)
            conc.append(flows.sum(axis=1) / load)
            shares.append(flows / flows.sum(axis=1, keepdims=True))
        share, strength = np.concatenate(shares), np.concatenate(conc)
        loads = np.concatenate([p.chosen.load for p in plants])
        capacity = np.array([p.bed.law.capacity for p, _ in cases])
        fed = np.maximum(share * (loads * capacity)[:, None], _NOTHING)
        liquor = liquor_at(
            beds,
            share * strength[:, None],
            strength * np.array([p.bed.ratio for p, _ in cases]),
            np.array([p.bed.pH for p, _ in cases]),
        )
        aims = np.array([self._aims(p, k) for p, k in cases])
        cycles = march(
            beds,
            liquor,
            loads * capacity / strength,
            np.array([p.bed.run.wash_volume for p, _ in cases]),
            acid_of(np.array([p.bed.run.wash_pH for p, _ in cases])),
            acid_of(np.concatenate([p.chosen.pH for p in plants])),
            BED_VOLUMES_MOST,
            aims / fed[:, None, None, :],
        )
        for i, p in enumerate(plants):
            rows = slice(i * count, (i + 1) * count)
            found = [_cut(cycles, fed[j], aims[j], j) for j in range(rows.start, rows.stop)]
            cuts = [cut for cut in found if cut is not None]
            if len(cuts) < count:
                p.lost = True
                continue
            eluted = np.array([cut[0] for cut in cuts])
            p.residual = float(np.abs(eluted - p.chosen.eluted).max())
            p.chosen = replace(
                p.chosen,
                eluted=eluted,
                lost=cycles.lost[rows] / fed[rows],
                volume=np.array([cut[1] for cut in cuts]),
                acid=np.array([cut[2] for cut in cuts]),
            )

    def _aims(self, plant: _Plant, k: int) -> Array:
        """What has to be eluted of column ``k``, (2, P, C) on shares of what it is fed.

        A single column has the aims of the goal, with the margin it is designed with or, where the
        load has lost too much for that, without; one in a series elutes the share of the heavy
        group that it eluted when it was built.
        """
        rows = plant.goal.aims()
        if len(self._load) == 1:
            return np.array([rows, replace(plant.goal, margin=1.0).aims()])
        names = plant.bed.law.names
        heavy = np.array(
            [
                self._fed[e][k] if member and e in self._fed else 0.0
                for e, member in zip(names, plant.goal.members[0], strict=True)
            ]
        )
        there = np.array([self._eluted[e][k] if e in self._eluted else 0.0 for e in names])
        return np.tile(heavy / float(heavy @ there), (2, len(rows), 1))


def _cut(cycles: Cycles, fed: Array, aims: Array, k: int) -> tuple[Array, float, float] | None:
    """Eluted shares, bed volumes and acid where cycle ``k`` reaches its aims, or at its end.

    None where the load has lost more than the aims allow.
    """
    last = int(np.count_nonzero(~np.isnan(cycles.acid[k]))) - 1
    if last < 0:
        return None
    eluted = cycles.eluate[k, : last + 1] / fed
    volumes, acids = cycles.volumes[k], cycles.acid[k]
    kinds = [(eluted @ rows.T).min(axis=1) for rows in aims]
    reached = next((of for of in kinds if of[last] >= 1), None)
    if last == 0 or reached is None:
        return eluted[last], float(volumes[last]), float(acids[last])
    part = float((1 - reached[last - 1]) / (reached[last] - reached[last - 1]))

    def between(of: Array) -> Array:
        return np.asarray(of[last - 1] + part * (of[last] - of[last - 1]))

    return between(eluted), float(between(volumes)), float(between(acids))


def _answer(plant: _Plant) -> AffinityDesign | InfeasibleError:
    asked = plant.asked
    if not plant.misses <= 1 + _ROUNDING:
        return infeasible(plant.goal, plant.chosen, asked.products, len(plant.chosen.load))
    return assemble(
        asked.feed,
        asked.products,
        asked.each,
        plant.chosen,
        plant.residual if len(plant.chosen.load) > 1 else 0.0,
        plant.bed,
        asked.book,
        feed_conc=asked.feed_conc,
        feed_pH=asked.feed_pH,
        protein=asked.protein,
    )
