"""Lanmodulin plants on the transport engine: a design confirmed, and the best column it allows.

The design marches cells in series that carry protons and buffer (``affinity``). Here each of its
columns is loaded, washed, eluted, stripped and rinsed on the transport engine (``held``), again in
the bed that the first cycle leaves: the load releases the protein's protons, the eluent has to
bring them back. Pools are the effluent of the eluting and of the stripping step with the volumes of
the design's stages; what a column hands to its neighbours is solved for as in the design, with the
shares the engine finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product as product_

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import speciation
from sepmodel.chemistry.speciation import Tableau
from sepmodel.chromatography import held, speciated
from sepmodel.chromatography.affinity import AffinityColumn, AffinityDesign
from sepmodel.chromatography.binding import C_STANDARD, pair_law
from sepmodel.chromatography.column import Section
from sepmodel.chromatography.held import INSTANTS, HeldRun
from sepmodel.chromatography.results import check_feed, check_groups
from sepmodel.chromatography.series import elution_range, goal_of
from sepmodel.chromatography.speciated import Chemistry
from sepmodel.chromatography.stages import Operation, operation
from sepmodel.chromatography.transport import Limited
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.products import Product
from sepmodel.products import purity as product_purity
from sepmodel.products import recovery as product_recovery

Array = NDArray[np.float64]

CELLS = 60
"""Cells of a bed; its calibrated dispersion spreads a front over some ten of them."""
CONCENTRATIONS = (0.2, 0.5, 1.0, 2.0)
"""Feed strengths tried [mol/m3]: from the published columns to where the load acidifies itself."""
LOADS = (1 / 4, 1 / 2, 3 / 4)
"""Loads tried, over the capacity."""
CYCLES = 2
"""Cycles of a confirmation: the second begins with what strip and rinse of the first leave."""
_ELUTION_MOST = 12.0
_ROUNDS = 6
_SETTLED = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ColumnRun:
    """One column of a design on the engine.

    ``eluted``, ``stripped`` and ``lost`` are shares of what it is loaded with, by element, of the
    engine; ``designed`` the eluted shares of the design. ``run`` is the last cycle.
    """

    column: AffinityColumn
    eluted: Mapping[str, float]
    stripped: Mapping[str, float]
    lost: Mapping[str, float]
    designed: Mapping[str, float]
    least_pH: float
    run: HeldRun


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Confirmation:
    """A designed plant beside the same plant on the engine.

    ``purity`` and ``recovery`` by product name: (engine, design); ``brought`` recoveries of the
    products the groups have to bring, of what the columns are loaded with. ``closure`` is the worst
    open balance of a column; ``rounds`` how often the columns were run at each other's shares.
    """

    purity: Mapping[str, tuple[float, float]]
    recovery: Mapping[str, tuple[float, float]]
    brought: Mapping[str, tuple[float, float]]
    meets: bool
    columns: tuple[ColumnRun, ...]
    closure: float
    rounds: int

    @property
    def difference(self) -> float:
        """Largest difference between engine and design in a purity or a recovery."""
        pairs = (*self.purity.values(), *self.recovery.values(), *self.brought.values())
        return max(abs(mine - theirs) for mine, theirs in pairs)


def confirm(
    plan: AffinityDesign,
    feed: Mapping[str, float],
    book: Book,
    *,
    protein: str = "lanmodulin-mex",
    cells: int = CELLS,
) -> Confirmation:
    """The columns of ``plan``, which splits ``feed`` [mol/s], on the transport engine.

    Each is loaded with the plan's liquor, buffer and pH, and washed and rinsed without buffer.

    Raises
    ------
    ConvergenceError
        when a cell does not settle or the integration stalls.

    >>> from sepmodel.chromatography import affinity
    >>> from sepmodel.products import Product
    >>> heavy = Product(name="heavy", elements=("Dy",), purity=0.5, recovery=0.9)
    >>> light = Product(name="light", elements=("Nd",), purity=0.9, recovery=0.9)
    >>> split = affinity.design({"Nd": 0.8, "Dy": 0.2}, (heavy, light), Book())
    >>> found = confirm(split, {"Nd": 0.8, "Dy": 0.2}, Book(), cells=20)
    >>> found.closure < 1e-9
    True
    """
    run = replace(operation(book, protons=True), load_pH=plan.load_pH)
    names = tuple(e for e in plan.columns[0].feed)
    fed = np.array([[c.feed[e] for e in names] for c in plan.columns])
    fresh = np.zeros_like(fed)
    fresh[plan.feed_position] = [feed[e] * (1 - run.loss) for e in names]
    shares = fed / fed.sum(axis=1, keepdims=True)
    solved: list[tuple[Array, Array, Array, HeldRun]] = []
    rounds = 0
    while rounds < _ROUNDS:
        rounds += 1
        solved = [
            _cycle(column, names, part, run, protein, book, plan.buffer, cells)
            for column, part in zip(plan.columns, shares, strict=True)
        ]
        flows = _handed_on(fresh, [s[0] for s in solved], [s[1] for s in solved])
        after = flows / flows.sum(axis=1, keepdims=True)
        moved = float(np.abs(after - shares).max())
        shares = after
        if len(plan.columns) == 1 or moved < _SETTLED:
            break
    heavy, light = plan.products
    pools = {
        heavy.name: dict(zip(names, (solved[-1][0] * flows[-1]).tolist(), strict=True)),
        light.name: dict(zip(names, (solved[0][1] * flows[0]).tolist(), strict=True)),
    }
    purity, recovery = {}, {}
    for product in plan.products:
        pool = {e: n for e, n in pools[product.name].items() if n > 0}
        basis = product.purity_basis
        purity[product.name] = (
            product_purity(pool, product.elements, basis),
            plan.purity[product.name],
        )
        recovery[product.name] = (
            product_recovery(pool, feed, product.elements, basis),
            plan.recovery[product.name],
        )
    goal = goal_of(names, feed, plan.products, plan.each, run.loss)
    ends = solved[-1][0] * flows[-1], solved[0][1] * flows[0]
    brought = {
        d.name: (
            float((ends[0] if d.eluted else ends[0] + ends[1]) @ (d.weights / goal.loaded)),
            plan.brought[d.name],
        )
        for d in goal.demands
    }
    return Confirmation(
        purity=purity,
        recovery=recovery,
        brought=brought,
        meets=all(
            purity[p.name][0] >= p.purity and recovery[p.name][0] >= p.recovery
            for p in plan.products
        )
        and all(brought[p.name][0] >= p.recovery for p in plan.each),
        columns=tuple(
            ColumnRun(
                column=column,
                eluted=dict(zip(names, eluted.tolist(), strict=True)),
                stripped=dict(zip(names, stripped.tolist(), strict=True)),
                lost=dict(zip(names, lost.tolist(), strict=True)),
                designed={
                    e: column.eluate[e] / column.feed[e] if column.feed[e] > 0 else 0.0
                    for e in names
                },
                least_pH=float(-np.log10(one.free[:, -1].max() / C_STANDARD)),
                run=one,
            )
            for column, (eluted, stripped, lost, one) in zip(plan.columns, solved, strict=True)
        ),
        closure=max(float(s[3].closure.max()) for s in solved),
        rounds=rounds,
    )


def _cycle(
    column: AffinityColumn,
    names: tuple[str, ...],
    shares: Array,
    run: Operation,
    protein: str,
    book: Book,
    buffer: str,
    cells: int,
) -> tuple[Array, Array, Array, HeldRun]:
    """Shares of the load that a column elutes, strips and loses (C,), and its cycle."""
    law = pair_law(names, book, protein)
    with_it = {buffer: column.buffer} if buffer else {}
    of, known = speciated.chemistry(law, names, tuple(with_it), run.liquid, book)
    loaded = column.load_fraction * law.capacity
    total = sum(column.feed.values())
    conc = np.append(shares * total / column.load_flow, list(with_it.values()))
    height = book["proteins/lanmodulin-column:dispersion-height"]
    solved = _march(
        of,
        known,
        conc,
        (loaded / float(conc[: len(names)].sum()), column.elution_volume),
        (column.elution_pH, height),
        run,
        cells,
        CYCLES,
    )
    into = np.maximum(solved.fed[0, : len(names)], np.finfo(float).tiny)
    lost = solved.collected[:2, : len(names)].sum(axis=0) / into
    eluted = solved.collected[2, : len(names)] / into
    # What the strip and the rinse bring, and what the bed still holds, leaves with a later strip.
    return eluted, 1 - eluted - lost, lost, solved


def _march(
    of: Chemistry,
    known: Tableau,
    conc: Array,
    volumes: tuple[float, float],
    elution: tuple[float, float],
    run: Operation,
    cells: int,
    cycles: int = 1,
) -> HeldRun:
    """Load, wash, elute, strip and rinse a bed; wash and rinse are acid without ligand.

    ``volumes`` of load and elution [bed volumes], ``elution`` pH and dispersion height. The first
    of ``cycles`` begins with a bed at equilibrium with the wash, the last is returned.
    """
    pH, height = elution
    empty = np.zeros_like(conc)
    programme = [
        Section(
            duration=max(amount, _SETTLED) * run.bed_length / run.velocity,
            conc=np.append(fed, speciation.solve(known, fed, acidity).total("H")),
        )
        for amount, acidity, fed in (
            (volumes[0], run.load_pH, conc),
            (run.wash_volume, run.wash_pH, empty),
            (volumes[1], pH, empty),
            (run.strip_volume, run.strip_pH, empty),
            (run.rinse_volume, run.wash_pH, empty),
        )
    ]
    start, free = speciated.amounts_at(of, empty, C_STANDARD * 10.0**-run.wash_pH)
    scheme = Limited(cells=cells)
    contents = held.uniform(scheme, start, free)
    for _ in range(cycles):
        solved = held.follow(
            of,
            programme,
            contents,
            scheme=scheme,
            length=run.bed_length,
            velocities=[run.velocity] * len(programme),
            dispersions=[run.velocity / run.liquid * height / 2] * len(programme),
        )
        contents = solved.contents
    return solved


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class EngineColumn:
    """One column run as the engine says it can be, for a heavy and a light group.

    ``load`` over the capacity at ``conc`` [mol/m3], elution of ``volume`` bed volumes at ``pH``;
    ``purity`` and ``recovery`` by product name; ``productivity`` [mol fed per m3 of bed and s],
    ``acid`` [mol of H per mol fed, in eluent and strip], ``water`` [m3 per mol fed], ``eluate``
    and ``strip`` their concentrations [mol/m3], ``beads`` [m3 worn per mol fed].
    """

    load: float
    conc: float
    pH: float
    volume: float
    purity: Mapping[str, float]
    recovery: Mapping[str, float]
    productivity: float
    cycle_time: float
    acid: float
    water: float
    eluate: float
    strip: float
    beads: float
    run: HeldRun


def best_column(
    feed: Mapping[str, float],
    products: Sequence[Product],
    book: Book,
    *,
    protein: str = "lanmodulin-mex",
    concs: Sequence[float] = CONCENTRATIONS,
    loads: Sequence[float] = LOADS,
    cells: int = CELLS,
) -> EngineColumn:
    """The most productive single column that splits ``feed`` into two groups on the engine.

    Feed strength, load and elution pH are tried on a grid; every run gives the pools of all elution
    volumes, of which the least that meets both specifications is kept. A strong feed acidifies its
    own load, a full bed pushes the heavy group out of it: what is lost there counts.

    Parameters
    ----------
    feed: rare earths to be parted, any amount [mol/s]; shares are what counts.
    products: the heavy group (leaves in the eluate), then the light group (in the strip).
    concs: strengths of the liquor to try [mol/m3]; loads: over the capacity.

    Raises
    ------
    InfeasibleError
        with the nearest purities and recoveries when no point of the grid meets both.
    """
    check_feed(feed)
    check_groups([p.elements for p in products], feed)
    heavy, light = products
    names = tuple(e for e in feed if feed[e] > 0 and f"proteins/{protein}:K-ratio-{e}" in book)
    run = operation(book)
    run = replace(run, load_pH=run.wash_pH)
    law = pair_law(names, book, protein)
    of, known = speciated.chemistry(law, names, (), run.liquid, book)
    height = book["proteins/lanmodulin-column:dispersion-height"]
    moles = np.array([feed[e] for e in names])
    shares = moles / moles.sum()
    goal = goal_of(names, {e: float(m) for e, m in zip(names, moles, strict=True)}, products)
    found: list[EngineColumn] = []
    nearest, missed = np.inf, (np.zeros_like(moles), np.zeros_like(moles))
    for conc, load, pH in product_(concs, loads, elution_range(law, heavy, light).tolist()):
        passed = load * law.capacity / conc
        solved = _march(of, known, shares * conc, (passed, _ELUTION_MOST), (pH, height), run, cells)
        left = solved.left[:, :-1] / run.bed_length
        fed = solved.fed[0, :-1] / run.bed_length
        part = slice(2 * INSTANTS, 3 * INSTANTS)
        lost = left[2 * INSTANTS]
        eluted = (left[part] - lost) / fed
        volumes = np.linspace(0.0, _ELUTION_MOST, INSTANTS)
        pools = moles * eluted, moles * (1 - eluted - lost / fed)
        misses = goal.misses(pools)
        at = int(np.argmax(misses <= 1)) if misses.min() <= 1 else int(np.argmin(misses))
        if misses[at] > 1:
            if misses[at] < nearest:
                nearest, missed = float(misses[at]), (pools[0][at], pools[1][at])
            continue
        cycle = passed + run.wash_volume + float(volumes[at]) + run.strip_volume + run.rinse_volume
        loaded = load * law.capacity
        per = loaded / float(moles.sum())
        seconds = cycle * run.bed_length / run.velocity
        acid = volumes[at] * 10.0**-pH + run.strip_volume * 10.0**-run.strip_pH
        ends = [
            {e: float(n) for e, n in zip(names, pool[at], strict=True) if n > 0} for pool in pools
        ]
        found.append(
            EngineColumn(
                load=load,
                conc=conc,
                pH=pH,
                volume=float(volumes[at]),
                purity={
                    p.name: product_purity(pool, p.elements, p.purity_basis)
                    for p, pool in zip(products, ends, strict=True)
                },
                recovery={
                    p.name: product_recovery(pool, feed, p.elements, p.purity_basis)
                    for p, pool in zip(products, ends, strict=True)
                },
                productivity=loaded / seconds,
                cycle_time=seconds,
                acid=float(acid) * C_STANDARD / loaded,
                water=(cycle - passed) / loaded,
                eluate=sum(ends[0].values()) * per / max(float(volumes[at]), _SETTLED),
                strip=sum(ends[1].values()) * per / run.strip_volume,
                beads=1 / (loaded * run.cycles),
                run=solved,
            )
        )
    if not found:
        raise InfeasibleError(
            "no load, feed strength and elution pH of one lanmodulin column splits "
            f"{'+'.join(heavy.elements)} from {'+'.join(light.elements)} as specified",
            limit={
                f"{p.name} {what}": value
                for p in products
                for what, value in (("purity", p.purity), ("recovery", p.recovery))
            },
            nearest=_reached(products, feed, names, missed),
        )
    return max(found, key=lambda c: c.productivity)


def _reached(
    products: Sequence[Product],
    feed: Mapping[str, float],
    names: Sequence[str],
    pools: tuple[Array, Array],
) -> dict[str, float]:
    """Purities and recoveries of two pools by name."""
    out = {}
    for product, pool in zip(products, pools, strict=True):
        own = {e: float(n) for e, n in zip(names, pool, strict=True) if n > 0}
        if own:
            basis = product.purity_basis
            out[f"{product.name} purity"] = product_purity(own, product.elements, basis)
            out[f"{product.name} recovery"] = product_recovery(own, feed, product.elements, basis)
    return out


def _handed_on(fresh: Array, eluted: Sequence[Array], stripped: Sequence[Array]) -> Array:
    """Feeds of the columns [mol/s], (n, C): fresh, the eluate before it, the strip after it."""
    count, components = fresh.shape
    matrix = np.tile(np.eye(count), (components, 1, 1))
    for k in range(count - 1):
        matrix[:, k + 1, k] = -eluted[k]
        matrix[:, k, k + 1] = -stripped[k + 1]
    return np.asarray(np.linalg.solve(matrix, fresh.T[:, :, None])[:, :, 0].T)
