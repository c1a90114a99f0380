"""Ways to separate a feed by displacement: one ligand for all, or the best ligand for each pair.

Where another ligand tells neighbours apart better, they can leave together and are split on a
second train with that ligand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sepmodel.chromatography.displacement_columns import DisplacementColumn, sized
from sepmodel.chromatography.displacement_operation import Operation
from sepmodel.chromatography.ligands import (
    Chemistry,
    Group,
    best_ligand,
    groups_of,
    held_back,
    merged,
)
from sepmodel.chromatography.zones import Moles, Position, SplitTrain, add
from sepmodel.errors import InfeasibleError
from sepmodel.products import Product

AHEAD = "ahead"
"""Name of the outlet that takes what runs ahead of the presaturant and leaves with it."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Train:
    """Columns and outlets of one way to separate the feed, before its columns are sized."""

    positions: Sequence[Position]
    outlets: Mapping[str, Moles]

    def columns(self, run: Operation) -> tuple[DisplacementColumn, ...]:
        """The columns with their size and time."""
        return tuple(sized(position, run) for position in self.positions)


class Separation:
    """One train with ``ligand``; with ``apart``, neighbours another ligand splits better leave it
    together and get a train with that ligand.

    Raises
    ------
    InfeasibleError
        when the presaturant does not hold the products, their elements do not leave one after the
        other, or (``apart``) no pair is split better by another ligand.
    """

    def __init__(
        self,
        moles: Mapping[str, float],
        products: Sequence[Product],
        ligand: str,
        apart: bool,
        chemistry: Chemistry,
        run: Operation,
        zone_splitting: bool,
    ) -> None:
        self._moles, self._ahead = held_back(moles, products, ligand, chemistry, run.ahead_most)
        groups = groups_of(self._moles, products, ligand, chemistry)
        self._parts = merged(groups, ligand, chemistry) if apart else [[g] for g in groups]
        if apart and len(self._parts) == len(groups):
            raise InfeasibleError(
                f"no pair of neighbours is split better by another ligand than {ligand}",
                limit={"ligand": ligand},
            )
        self._together = [
            Group(
                name="+".join(g.name for g in part),
                elements=tuple(e for g in part for e in g.elements),
            )
            for part in self._parts
        ]
        self._ligand, self._chemistry = ligand, chemistry
        self._run, self._zone_splitting = run, zone_splitting
        self._first = SplitTrain(self._together, ligand, chemistry, run, zone_splitting)
        self._second: dict[tuple[str, ...], SplitTrain] = {}

    def at(self, purity: Mapping[str, float]) -> Train:
        """The train at mole purities of the outlets; those not named have a by-product's.

        Raises
        ------
        InfeasibleError
            when no velocity or ligand gives the columns.
        """
        asked = [
            max(purity.get(g.name, self._run.byproduct_purity) for g in part)
            for part in self._parts
        ]
        first = [
            p if len(part) == 1 else 1 - 0.5 * (1 - p)
            for p, part in zip(asked, self._parts, strict=True)
        ]
        positions, outlets = self._first.at(self._moles, first)
        for part, group in zip(self._parts, self._together, strict=True):
            if len(part) > 1:
                positions += self._apart(part, group, outlets, purity)
        if self._ahead:
            outlets[AHEAD] = self._ahead
        return Train(positions=positions, outlets=outlets)

    def _apart(
        self,
        part: Sequence[Group],
        group: Group,
        outlets: dict[str, Moles],
        purity: Mapping[str, float],
    ) -> list[Position]:
        """The train that splits what left together; its pools take the place of that outlet."""
        inside = outlets.pop(group.name)
        own = {e: n for e, n in inside.items() if e in group.elements}
        second = self._train_of(part, group, tuple(own))
        positions, pools = second.at(
            own, [purity.get(g.name, self._run.byproduct_purity) for g in second.groups]
        )
        outlets.update(pools)
        # What came along from neighbours ends in the pool next to where it came from.
        log_k = self._chemistry.constants[self._ligand]
        ahead, behind = second.groups[0], second.groups[-1]
        for e, n in inside.items():
            if e not in own:
                fast = log_k[e] > log_k[ahead.elements[0]]
                add(outlets[(ahead if fast else behind).name], {e: n})
        return positions

    def _train_of(self, part: Sequence[Group], group: Group, own: tuple[str, ...]) -> SplitTrain:
        """The second train for the elements ``own`` of groups that left together."""
        if own not in self._second:
            other = best_ligand(part, self._ligand, self._chemistry)
            names = {e: g.name for g in part for e in g.elements}
            again: list[Group] = []
            for e in sorted(own, key=lambda e: -self._chemistry.constants[other][e]):
                if not again or again[-1].name != names[e]:
                    again.append(Group(name=names[e], elements=(e,)))
                else:
                    again[-1] = Group(name=names[e], elements=(*again[-1].elements, e))
            if len(again) != len(part):
                raise InfeasibleError(
                    f"with {other} the elements of {group.name} leave in another order",
                    limit={"ligand": other},
                )
            self._second[own] = SplitTrain(
                again, other, self._chemistry, self._run, self._zone_splitting
            )
        return self._second[own]
