"""Pareto fronts of a design: stages against reagents, purity against rare earth locked up.

A circuit is on a front when none of those computed is better in one and no worse in the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.extraction import design_curve, design_flows
from sepmodel.extraction.design import Weights
from sepmodel.extraction.design_inputs import DesignCase, Objective, Product
from sepmodel.extraction.design_spec import two_outlets

# What is foreign in the products, as multiples of what the specification allows.
FOREIGN = 2.0 ** np.arange(3, -7, -1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One circuit of a front: ``purity`` of the worst product, base [mol/s], lock-up [mol].

    ``loosened`` is what is foreign over what the specification allows: 1 at the specification.
    """

    loosened: float
    purity: float
    stages_extraction: int
    stages_scrub: int
    solvent: float
    base: float
    lock_up: float

    @property
    def stages(self) -> int:
        """n + m."""
        return self.stages_extraction + self.stages_scrub


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Fronts:
    """Both fronts, and the specifications no circuit was found for."""

    reagents: tuple[Member, ...]
    purity: tuple[Member, ...]
    beyond: tuple[float, ...]


def undominated(costs: ArrayLike) -> NDArray[np.bool_]:
    """Which rows of (N, K) costs no other row beats: none as good in all and better in one.

    >>> undominated([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0], [3.0, 1.0]]).tolist()
    [True, True, False, True]
    """
    table = np.asarray(costs, dtype=float)
    as_good = np.all(table[:, None] <= table[None], axis=-1)
    better = np.any(table[:, None] < table[None], axis=-1)
    beaten: NDArray[np.bool_] = ~np.any(as_good & better, axis=0)
    return beaten


def fronts(case: DesignCase, book: Book) -> Fronts:
    """Stages against base at the specification; purity against lock-up around it.

    The first from circuits along the whole range of solvent flows, the second from designs of
    least lock-up for products up to 8 times as foreign as asked and down to a 64th.

    Raises
    ------
    InputError, InfeasibleError
        as ``design_solve.solve``.
    """
    spec = two_outlets(case, book)
    plant = design_flows.plant(case, book)
    along = [
        _member(case, plant, point, 1.0)
        for point, _ in design_curve.curve(
            spec, case, plant, design_curve.circuit(spec, case, weights=_weights("inventory"))
        )
        if not point.broken
    ]
    purer: list[Member] = []
    beyond: list[float] = []
    for factor in FOREIGN.tolist():
        changed = _loosened(case, factor)
        if changed is None:
            continue
        try:
            task = two_outlets(changed, book)
            found = design_curve.circuit(task, changed, weights=_weights("lock-up"))
        except InfeasibleError:
            beyond.append(factor)
            continue
        point = design_curve.measure(changed, plant)(found)
        if not point.broken:
            purer.append(_member(changed, plant, point, factor))
    return Fronts(
        reagents=_front(along, [(m.base, float(m.stages)) for m in along]),
        purity=_front(purer, [(m.lock_up, 1 - m.purity) for m in purer]),
        beyond=tuple(beyond),
    )


def _weights(objective: str) -> Weights:
    return design_curve.STARTS[objective]


def _front(members: Sequence[Member], costs: Sequence[tuple[float, float]]) -> tuple[Member, ...]:
    """The members on the front, ascending in the first cost; equals once."""
    if not members:
        return ()
    keep = np.flatnonzero(undominated(costs)).tolist()
    once = {costs[k]: members[k] for k in keep}
    return tuple(once[cost] for cost in sorted(once))


def _member(
    case: DesignCase, plant: design_flows.Plant, point: design_curve.Point, factor: float
) -> Member:
    purities = [p.purity for p in case.product if p.purity is not None]
    return Member(
        loosened=factor,
        purity=min(purities, default=float("nan")),
        stages_extraction=point.stages_extraction,
        stages_scrub=point.stages_scrub,
        solvent=point.solvent,
        base=plant.flows(point.solvent, point.scrub, 0.0).base,
        lock_up=point.lock_up,
    )


def _loosened(case: DesignCase, factor: float) -> DesignCase | None:
    """The case with ``factor`` times as much foreign in its products; None where nothing is left.

    Recoveries and limits of single elements stay as they are; limits scale with the rest.
    """

    def product(given: Product) -> Product | None:
        changes: dict[str, object] = {}
        if given.purity is not None:
            changes["purity"] = 1 - factor * (1 - given.purity)
        if given.limits:
            changes["limits"] = {e: min(1.0, factor * x) for e, x in given.limits.items()}
        loose = given.purity is not None and not factor * (1 - given.purity) < 1
        return None if loose else given.model_copy(update=changes)

    changed = [product(p) for p in case.product]
    if any(p is None for p in changed):
        return None
    return case.model_copy(
        update={"product": tuple(changed), "objective": Objective(minimise="lock-up")}
    )
