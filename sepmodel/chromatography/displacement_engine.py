"""A displacement plant run on the transport engine: every column of a design, cut and handed on.

The design comes from closed forms (``displacement``). Here each of its columns is loaded, displaced
and cut on a moving grid (``displacement_run``); what lies between two pools is a mixed zone and is
what the next column is fed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sepmodel.chromatography.displacement import DisplacementDesign, design
from sepmodel.chromatography.displacement_operation import operation
from sepmodel.chromatography.displacement_run import CELLS, TOLERANCE, ColumnRun, run_column
from sepmodel.data import Book
from sepmodel.products import Product
from sepmodel.products import purity as product_purity
from sepmodel.products import recovery as product_recovery

_DESIGNS = 4
_SPARE = 9 / 10


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Confirmation:
    """A design and the same plant on the engine.

    ``purity`` and ``recovery`` of every product as (engine, design); ``difference`` the largest
    distance of the two; ``meets`` whether every product keeps its specification on the engine;
    ``rounds`` designs made until it did.
    """

    design: DisplacementDesign
    runs: tuple[ColumnRun, ...]
    outlets: Mapping[str, Mapping[str, float]]
    purity: Mapping[str, tuple[float, float]]
    recovery: Mapping[str, tuple[float, float]]
    difference: float
    meets: bool
    rounds: int = 1

    @property
    def error(self) -> float:
        """The largest error of the grid in any column's recoveries and purities."""
        return max(run.error for run in self.runs)


def design_on_engine(
    feed: Mapping[str, float],
    products: Sequence[Product],
    book: Book,
    *,
    cells: int = CELLS,
    tolerance: float = TOLERANCE,
    ligands: Sequence[str] = ("edta", "dtpa"),
    zone_splitting: bool = True,
    length: float | None = None,
    velocity: float | None = None,
    ligand_recycle: float | None = None,
    estimate: bool = False,
) -> Confirmation:
    """The design that keeps its specification on the engine: tightened by what the engine finds.

    Where a purity is short, the cuts of that product may use up less of its impurity allowance; a
    recovery that is short is asked for higher. After four rounds the last is returned, short or
    not. Parameters and errors as ``displacement.design`` and ``confirm``.
    """
    tighter: dict[str, float] = {}
    asked = list(products)
    for rounds in range(1, _DESIGNS + 1):
        plant = design(
            feed,
            asked,
            book,
            ligands=ligands,
            zone_splitting=zone_splitting,
            length=length,
            velocity=velocity,
            ligand_recycle=ligand_recycle,
            tighter=tighter,
        )
        found = confirm(
            plant,
            feed,
            book,
            products=products,
            cells=cells,
            tolerance=tolerance,
            estimate=estimate,
        )
        found = replace(found, rounds=rounds)
        if found.meets:
            break
        for k, p in enumerate(products):
            purity, recovery = found.purity[p.name][0], found.recovery[p.name][0]
            if purity < p.purity:
                share = (1 - p.purity) / (1 - purity)
                tighter[p.name] = tighter.get(p.name, 1.0) * share * _SPARE
            if recovery < p.recovery:
                lost = (1 - asked[k].recovery) * (1 - p.recovery) / (1 - recovery)
                asked[k] = replace(asked[k], recovery=1 - lost * _SPARE)
    return found


def confirm(
    design: DisplacementDesign,
    feed: Mapping[str, float],
    book: Book,
    *,
    products: Sequence[Product] | None = None,
    cells: int = CELLS,
    tolerance: float = TOLERANCE,
    estimate: bool = False,
) -> Confirmation:
    """Every column of a design on the engine, what one hands on being what the next is fed.

    Parameters
    ----------
    feed: molar flows the design was made for [mol/s].
    products: the specifications to be kept, instead of those of the design.
    cells: of the moving grid, for each boundary.
    estimate: whether the error of the grid is estimated on a coarser one.

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
        done = run_column(
            column, fresh, run, book, cells=cells, tolerance=tolerance, estimate=estimate
        )
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
            for p in products or design.products
        ),
    )
