"""Every order in which a train can make its cuts, ranked.

A sequence of cuts is a binary tree over the groups: N groups have Catalan(N - 1) trees but only
N (N^2 - 1) / 6 different circuits (first group, cut, end), so each circuit is designed once, for
sharp cuts before it, and the trees are sums. Where a circuit's feed is the organic of the circuit
before it, it may be taken as loaded organic, unstripped: that saves the acid of the strip and the
base of the soap it replaces. The first of the ranking are then designed with the streams the
circuits really send each other; what they reach is what is reported.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction.design import Outlet, Weights, design_circuit
from sepmodel.plant import economics, equipment, train_groups
from sepmodel.plant.flowsheet import reagent_mass
from sepmodel.plant.train import (
    CIRCUIT,
    EXTRACTANT,
    FACTORS,
    Train,
    TrainCircuit,
    design_train,
    equip,
    practice,
)
from sepmodel.products import Product
from sepmodel.species import oxide_mass_per_mole

# Groups (products and by-products) whose sequences are enumerated: Catalan(9) = 4,862 trees.
MOST_GROUPS = 10
# What sequences can be ranked by, and the weights each circuit is designed with in turn: of its
# designs the one that needs least is taken. What a cell costs depends on its size, so no single
# weight of reagents against organic held gives the cheapest circuit everywhere.
OBJECTIVES = {
    "cost": tuple(Weights(inventory=1.0, solvent=10 ** (k / 2)) for k in range(2, 7)),
    "reagents": (Weights(inventory=1e-2, solvent=1.0),),
    "inventory": (Weights(),),
    "stages": (Weights(inventory=1e-2, stages=1.0),),
}
# Sequences this near the first are told as alike.
ALIKE = "process/specification:alike"
# Lines of the annual cost that differ between sequences; people are the same for all.
LINES = ("capital", "maintenance", "insurance", "HCl", "NaOH")

# A circuit: first group, cut, end group; its feed comes in a phase; its organic is stripped or not.
Node = tuple[int, int, int]
Variant = tuple[Node, str, bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """What a train needs: acid and base [mol/s], stages, S (n + m) [mol/s], cost [money/kg]."""

    acid: float = 0.0
    base: float = 0.0
    stages: int = 0
    inventory: float = 0.0
    cost: float = 0.0

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            acid=self.acid + other.acid,
            base=self.base + other.base,
            stages=self.stages + other.stages,
            inventory=self.inventory + other.inventory,
            cost=self.cost + other.cost,
        )

    def of(self, objective: str) -> float:
        """The figure a ranking goes by."""
        if objective == "reagents":
            return self.acid + self.base
        return float(getattr(self, objective))


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranked:
    """A sequence: its cuts in running order, which circuits take loaded organic as feed.

    ``figures`` with these links, ``unlinked`` without any; both for sharp cuts. ``weights`` by cut
    are those of the designs chosen. ``train`` is the design with real streams, where it was made,
    ``reached`` its figures.
    """

    cuts: tuple[str, ...]
    linked: tuple[str, ...]
    weights: Mapping[str, Weights]
    figures: Figures
    unlinked: Figures
    train: Train | None = None
    reached: Figures | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ranking:
    """All sequences of a train, the best first; ``feed`` [mol/s], oxide of the products [kg/s]."""

    objective: str
    groups: tuple[str, ...]
    feed: float
    product_rate: float
    sequences: tuple[Ranked, ...]
    circuits: int
    impossible: Mapping[str, str]
    near: float

    @property
    def alike(self) -> int:
        """How many sequences, the first included, need at most ``near`` more than the first."""
        values = [(s.reached or s.figures).of(self.objective) for s in self.sequences]
        return sum(1 for value in values if value <= values[0] * (1 + self.near))

    @property
    def best(self) -> Ranked:
        """The first of those designed with real streams."""
        return next(s for s in self.sequences if s.train is not None)

    def passes(self, figures: Figures, per_metal: float) -> float:
        """How often the train exchanges each mole of its feed: base over base per metal."""
        return figures.base / per_metal / self.feed


def rank(
    feed: Mapping[str, float],
    slate: Sequence[Product],
    book: Book,
    *,
    objective: str = "cost",
    links: bool = True,
    confirm: int = 3,
    factor_set: str = FACTORS,
    extractant: str = EXTRACTANT,
    circuit: str = CIRCUIT,
) -> Ranking:
    """Every sequence of cuts for the products, ranked by an objective, the first ones designed.

    Parameters
    ----------
    feed, slate, factor_set, extractant, circuit
        as ``train.design_train``; the feed [mol/s] gives the size of the cells.
    objective
        "cost" (cells, fills, acid and base per kg of product), "reagents" (mol of both),
        "inventory" (S (n + m)) or "stages".
    links
        whether circuits may take the loaded organic of the one before as their feed.
    confirm
        how many of the first sequences are designed with real streams.

    Raises
    ------
    InputError
        too many groups, an unknown objective.
    InfeasibleError
        when no sequence can be built.

    >>> dy = Product(name="Dy", elements=("Dy",), purity=0.99, recovery=0.95)
    >>> found = rank({"Nd": 8.0, "Gd": 1.0, "Dy": 1.0}, [dy], Book(), confirm=1)
    >>> len(found.sequences), found.best.cuts
    (1, ('Gd|Dy',))
    """
    trials = OBJECTIVES.get(objective)
    if trials is None:
        raise InputError(
            Problem(
                message="unknown objective",
                key="objective.minimise",
                value=objective,
                expected=f"one of {', '.join(OBJECTIVES)}",
            )
        )
    names, a = train_groups.ordered(feed, book, factor_set)
    moles = {name: float(feed[name]) for name in names}
    groups = train_groups.grouped(names, slate, moles)
    count = len(groups)
    if count > MOST_GROUPS:
        raise InputError(
            Problem(
                message="more products and by-products than sequences are enumerated for",
                key="product",
                value=count,
                expected=f"at most {MOST_GROUPS}",
            )
        )
    train_groups.require_different(groups, names, a)
    least = train_groups.least_solvents(groups, names, a, moles)
    effort = [
        least[0, cut, count] / train_groups.ln_beta(groups, names, a, cut)
        for cut in range(1, count)
    ]
    allowed = train_groups.allowances(
        groups, moles, effort, dict.fromkeys((p.name for p in slate), 1.0)
    )
    rules = practice(book, extractant, circuit)
    rate = math.fsum(
        moles[e] * oxide_mass_per_mole(e) for p in slate for e in p.elements if e in moles
    )
    extractability = dict(zip(names, a.tolist(), strict=True))
    table: dict[Variant, tuple[Figures, Weights]] = {}
    impossible: dict[str, str] = {}
    for node in sorted(least):
        i, cut, j = node
        light = [e for g in groups[:cut] for e in g.elements]
        down, up = allowed[cut]
        entering = {e: moles[e] for g in groups[i:j] for e in g.elements}
        for phase in ("aqueous", "organic") if links and i > 0 else ("aqueous",):
            try:
                designs = [
                    design_circuit(
                        entering,
                        extractability,
                        light,
                        raffinate=Outlet(foreign=down),
                        organic=Outlet(foreign=up),
                        weights=weights,
                        feed_phase=phase,
                        exact=False,
                    )
                    for weights in trials
                ]
            except InfeasibleError as error:
                where = " ".join([*(g.name for g in groups[i:j]), "at"])
                impossible[f"{where} {train_groups.cut_name(groups, cut)}, {phase}"] = str(error)
                continue
            for stripped in (True, False):
                tried = [
                    figures([equip("", found, rules, stripped=stripped)], rate, book)
                    for found in designs
                ]
                needs = [f.of(objective) for f in tried]
                least_need = needs.index(min(needs))
                table[node, phase, stripped] = tried[least_need], trials[least_need]
    ranked = []
    for tree in _trees(0, count):
        bare = _cheapest(tree, table, objective, links=False)
        best = _cheapest(tree, table, objective, links=links)
        if bare is None or best is None:
            continue
        ranked.append(
            Ranked(
                cuts=tuple(train_groups.cut_name(groups, cut) for _, cut, _ in tree),
                linked=tuple(train_groups.cut_name(groups, cut) for _, cut, _ in best[1]),
                weights={
                    train_groups.cut_name(groups, variant[0][1]): table[variant][1]
                    for variant in _variants(tree, best[1])
                },
                figures=best[0],
                unlinked=bare[0],
            )
        )
    if not ranked:
        name, why = next(iter(impossible.items()))
        raise InfeasibleError(f"no sequence can be built; {name}: {why}", limit={})
    ranked.sort(key=lambda r: (r.figures.of(objective), r.cuts))
    designed = [
        _designed(r, moles, slate, book, rate, factor_set, extractant, circuit)
        for r in ranked[:confirm]
    ]
    designed.sort(key=lambda r: math.inf if r.reached is None else r.reached.of(objective))
    if designed and designed[0].reached is None:
        raise InfeasibleError("none of the first sequences meets the specifications", limit={})
    return Ranking(
        objective=objective,
        groups=tuple(g.name for g in groups),
        feed=math.fsum(moles.values()),
        product_rate=rate,
        sequences=(*designed, *ranked[confirm:]),
        circuits=len({(node, phase) for node, phase, _ in table}),
        impossible=impossible,
        near=book[ALIKE],
    )


def figures(circuits: Sequence[TrainCircuit], product_rate: float, book: Book) -> Figures:
    """Sums over circuits; cost of cells, fills, acid and base per kg of product."""
    acid = math.fsum(c.acid for c in circuits)
    base = math.fsum(c.base for c in circuits)
    items: list[equipment.Item] = []
    organic = 0.0
    for c in circuits:
        flow_org = c.flow_org + c.flow_org_feed
        for stages, aqueous, solvent in (
            (c.design.stages_extraction, c.flow_aq, c.flow_org),
            (c.design.stages_scrub, c.flow_scrub, flow_org),
            (c.stages_strip, c.flow_strip, flow_org),
        ):
            if stages:
                cells = equipment.mixer_settlers(stages, aqueous, solvent, book)
                items += cells.items
                organic += cells.organic_volume
    items += equipment.solvent_fill(organic, book)
    duties = {"HCl": reagent_mass("HCl", acid), "NaOH": reagent_mass("NaOH", base)}
    lines = economics.annual_cost(duties, items, product_rate, book).lines
    return Figures(
        acid=acid,
        base=base,
        stages=sum(c.stages for c in circuits),
        inventory=math.fsum(c.design.phi for c in circuits),
        cost=math.fsum(lines[name] for name in LINES),
    )


def _trees(i: int, j: int) -> Iterator[tuple[Node, ...]]:
    """Every way to part groups i to j, circuits in running order."""
    if j - i < 2:
        yield ()
        return
    for cut in range(i + 1, j):
        for light in _trees(i, cut):
            for heavy in _trees(cut, j):
                yield ((i, cut, j), *heavy, *light)


def _variants(tree: Sequence[Node], linked: Sequence[Node]) -> list[Variant]:
    """Every circuit of a tree as it is fed and stripped with these links."""
    cut_of = {(i, j): (i, cut, j) for i, cut, j in tree}
    return [
        (node, "organic" if node in linked else "aqueous", cut_of.get(node[1:]) not in linked)
        for node in tree
    ]


def _cheapest(
    tree: Sequence[Node],
    table: Mapping[Variant, tuple[Figures, Weights]],
    objective: str,
    *,
    links: bool,
) -> tuple[Figures, tuple[Node, ...]] | None:
    """Figures of a tree with its best links, and the linked circuits; None where one is missing."""
    cut_of = {(i, j): (i, cut, j) for i, cut, j in tree}

    def best(node: Node, phase: str) -> tuple[Figures, tuple[Node, ...]] | None:
        i, cut, j = node
        light, heavy = cut_of.get((i, cut)), cut_of.get((cut, j))
        found = []
        for way in ("aqueous", "organic") if links and heavy is not None else ("aqueous",):
            own = table.get((node, phase, way == "aqueous"))
            parts = [best(light, "aqueous") if light else (Figures(), ())]
            parts.append(best(heavy, way) if heavy else (Figures(), ()))
            if own is None or parts[0] is None or parts[1] is None:
                continue
            linked = (heavy,) if heavy is not None and way == "organic" else ()
            found.append(
                (own[0] + parts[0][0] + parts[1][0], (*linked, *parts[0][1], *parts[1][1]))
            )
        return min(found, key=lambda f: f[0].of(objective), default=None)

    return best(tree[0], "aqueous") if tree else (Figures(), ())


def _designed(
    ranked: Ranked,
    moles: Mapping[str, float],
    slate: Sequence[Product],
    book: Book,
    rate: float,
    factor_set: str,
    extractant: str,
    circuit: str,
) -> Ranked:
    """The sequence designed with the streams its circuits really send each other."""
    try:
        train = design_train(
            moles,
            slate,
            book,
            factor_set=factor_set,
            extractant=extractant,
            circuit=circuit,
            weights=ranked.weights,
            sequence=ranked.cuts,
            linked=ranked.linked,
        )
    except InfeasibleError:
        return ranked
    return dataclasses.replace(ranked, train=train, reached=figures(train.circuits, rate, book))
