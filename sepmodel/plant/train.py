"""Trains of extraction circuits: one feed, several products, the cuts between them.

Every pair of neighbouring groups (a product, or the by-products between two products) is parted by
one circuit; the train is the sequence in which the cuts are made. Each circuit is designed by
``extraction.design`` on the mass-flow model: acid and base follow from the organic flow S, one pass
each, and not from a dose per kilogram.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sepmodel import balance, products, species
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction import factors, shortcut
from sepmodel.extraction.design import CircuitDesign, Outlet, Weights, design_circuit
from sepmodel.products import Product

Array = NDArray[np.float64]
FACTORS = "separation_factors/pc88a-hcl"
EXTRACTANT = "extractants/pc88a"
CIRCUIT = "extractants/circuit-defaults"
# Rounds in which allowances of a missed product are tightened.
_ROUNDS = 6
# ln of a separation factor that parts nothing.
_SAME = 1e-9
# By-products below this share of what their neighbours may hold as impurity need no cut.
_NEGLIGIBLE = 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainCircuit:
    """One circuit of a train: its design, its reagents [mol/s] and its flows [m3/s].

    ``raffinate_to`` and ``organic_to`` name the outlet or the next circuit. Acid and base are one
    pass of each: 3 mol per mol of rare earth the organic carries.
    """

    name: str
    design: CircuitDesign
    raffinate_to: str
    organic_to: str
    acid: float
    base: float
    stages_strip: int
    flow_org: float
    flow_feed: float
    flow_scrub: float
    flow_strip: float

    @property
    def stages(self) -> int:
        """Extraction, scrub and strip stages."""
        return self.design.stages + self.stages_strip

    @property
    def flow_aq(self) -> float:
        """Aqueous flow of the extraction section [m3/s]: feed and spent scrub liquor."""
        return self.flow_feed + self.flow_scrub


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """A train of circuits in the order they run, and what leaves it [mol/s by element]."""

    feed: Mapping[str, float]
    products: tuple[Product, ...]
    circuits: tuple[TrainCircuit, ...]
    outlets: Mapping[str, Mapping[str, float]]
    purity: Mapping[str, float]
    recovery: Mapping[str, float]
    missed: Mapping[str, Mapping[str, tuple[float, float]]]
    closure: Mapping[str, float]
    warnings: tuple[Mapping[str, str], ...] = field(default=())

    @property
    def sequence(self) -> tuple[str, ...]:
        """Names of the cuts in the order they are made."""
        return tuple(circuit.name for circuit in self.circuits)

    @property
    def stages(self) -> int:
        """Extraction, scrub and strip stages of all circuits."""
        return sum(circuit.stages for circuit in self.circuits)

    @property
    def solvent(self) -> float:
        """Sum of the organic rare-earth flows S [mol/s]."""
        return sum(circuit.design.solvent for circuit in self.circuits)

    @property
    def acid(self) -> float:
        """Hydrochloric acid of all circuits [mol/s]."""
        return sum(circuit.acid for circuit in self.circuits)

    @property
    def base(self) -> float:
        """Base of all circuits [mol/s]."""
        return sum(circuit.base for circuit in self.circuits)

    @property
    def phi(self) -> float:
        """Sum of S (n + m) [mol/s]: proportional to the organic inventory."""
        return sum(circuit.design.phi for circuit in self.circuits)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """Neighbours in extractability that leave together; ``product`` is None for by-products."""

    name: str
    elements: tuple[str, ...]
    product: Product | None


def design_train(
    feed: Mapping[str, float],
    slate: Sequence[Product],
    book: Book,
    *,
    factor_set: str = FACTORS,
    extractant: str = EXTRACTANT,
    circuit: str = CIRCUIT,
    weights: Weights | None = None,
    sequence: Sequence[str] | None = None,
    exact: bool = True,
) -> Train:
    """The train that makes the products ``slate`` from ``feed``, each to its purity and recovery.

    Parameters
    ----------
    feed
        molar flow [mol/s] of each rare earth; other elements are removed before (refused here).
    slate
        products; the elements of each are neighbours in extractability among those fed.
    book
        gives the constants of ``factor_set``, ``extractant`` and ``circuit``.
    weights
        objective of each circuit and of the sequence, see ``Weights``.
    sequence
        cuts such as ``("Nd|Gd", "Tb|Dy", ...)`` in the order they are made; None: the one of
        least estimated objective.
    exact
        False: circuits as marched, their outlets at the specification itself, in half the time
        (see ``design_circuit``).

    Raises
    ------
    InfeasibleError
        when no train meets the specifications, with the product and what it reaches.

    >>> dy = Product(name="Dy", elements=("Dy",), purity=0.99, recovery=0.95)
    >>> train = design_train({"Nd": 9.0, "Dy": 1.0}, [dy], Book())
    >>> train.sequence, train.missed
    (('Nd|Dy',), {'Dy': {}})
    """
    weights = weights or Weights()
    names, a = _ordered(feed, book, factor_set)
    moles = {name: float(feed[name]) for name in names}
    groups = _groups(names, slate, moles)
    extractability = dict(zip(names, a.tolist(), strict=True))
    for cut in range(1, len(groups)):
        if not _ln_beta(groups, names, a, cut) > _SAME:
            raise InfeasibleError(
                f"{_cut_name(groups, cut)}: both have the same extractability",
                limit={"separation_factor": 1.0},
            )
    least = _least_solvents(groups, names, a, moles)
    order = _sequence(groups, names, a, moles, weights, sequence, least)
    effort = [
        least[0, cut, len(groups)] / _ln_beta(groups, names, a, cut)
        for cut in range(1, len(groups))
    ]
    tight = dict.fromkeys((p.name for p in slate), 1.0)
    for _ in range(_ROUNDS):
        allowed = _allowances(groups, moles, effort, tight)
        designs, outlets = _run(groups, order, moles, extractability, allowed, weights, exact)
        missed = {p.name: products.shortfalls(p, outlets[p.name], moles) for p in slate}
        worst = {name for name, gaps in missed.items() if {"purity", "recovery"} & set(gaps)}
        if not worst:
            break
        tight.update({name: 0.5 * tight[name] for name in worst})
    else:
        name = sorted(worst)[0]
        raise InfeasibleError(
            f"no train of circuits brings {name} to its specification",
            limit={key: asked for key, (_, asked) in missed[name].items()},
            nearest={key: reached for key, (reached, _) in missed[name].items()},
        )
    circuits, warnings = _equip(designs, book, extractant, circuit)
    return Train(
        feed=moles,
        products=tuple(slate),
        circuits=circuits,
        outlets=outlets,
        purity={
            p.name: products.purity(outlets[p.name], p.elements, p.purity_basis) for p in slate
        },
        recovery={
            p.name: products.recovery(outlets[p.name], moles, p.elements, p.purity_basis)
            for p in slate
        },
        missed=missed,
        closure=balance.molar_closure([moles], list(outlets.values())),
        warnings=warnings,
    )


def _ordered(feed: Mapping[str, float], book: Book, factor_set: str) -> tuple[list[str], Array]:
    """Rare earths of the feed in ascending extractability, whatever their order in ``feed``."""
    wrong = [e for e in feed if e not in species.RARE_EARTHS]
    if wrong:
        raise InputError(
            Problem(
                message="an extraction train takes rare earths only; remove before",
                key="feed",
                value=wrong,
            )
        )
    present = [e for e in species.RARE_EARTHS if feed.get(e, 0.0) > 0]
    if not present or not all(math.isfinite(feed[e]) and feed[e] >= 0 for e in feed):
        raise InputError(
            Problem(message="a feed needs positive, finite flows", key="feed", value=dict(feed))
        )
    a = factors.extractabilities(book, factor_set, present)
    order = np.argsort(a, kind="stable")
    return [present[i] for i in order], a[order] / a[order[0]]


def _groups(
    names: Sequence[str], slate: Sequence[Product], moles: Mapping[str, float]
) -> list[_Group]:
    """Products and by-products along the order of extractability."""
    owner: dict[str, Product] = {}
    problems = []
    for product in slate:
        present = [e for e in names if e in product.elements]
        if not present:
            problems.append(
                Problem(
                    message=f"the feed holds none of the elements of {product.name}",
                    key=f"product.{product.name}",
                    value=list(product.elements),
                    expected=f"some of {', '.join(names)}",
                )
            )
            continue
        inside = names[names.index(present[0]) : names.index(present[-1]) + 1]
        if list(inside) != present:
            foreign = [e for e in inside if e not in present]
            problems.append(
                Problem(
                    message=f"{', '.join(foreign)} lies between the elements of {product.name}",
                    key=f"product.{product.name}",
                    value=list(product.elements),
                    expected="neighbours in extractability",
                )
            )
        for element in present:
            if element in owner:
                problems.append(
                    Problem(
                        message=f"two products ask for {element}", key=f"product.{product.name}"
                    )
                )
            owner[element] = product
    if problems or not slate:
        raise InputError(problems or Problem(message="a train needs a product", key="product"))
    groups: list[_Group] = []
    for name in names:
        own = owner.get(name)
        before = groups.pop().elements if groups and groups[-1].product is own else ()
        groups.append(_group((*before, name), own))
    return _without_negligible(groups, moles)


def _group(elements: tuple[str, ...], product: Product | None) -> _Group:
    return _Group(
        name=product.name if product else "-".join(elements), elements=elements, product=product
    )


def _mass(elements: Iterable[str], moles: Mapping[str, float]) -> float:
    """Oxide mass [kg/s] of the elements of a feed."""
    return sum(moles[e] * species.oxide_mass_per_mole(e) for e in elements)


def _impurity(product: Product, moles: Mapping[str, float]) -> float:
    """Oxide mass [kg/s] of other elements that a product may hold."""
    own = [e for e in product.elements if e in moles]
    return _mass(own, moles) * product.recovery * (1 - product.purity) / product.purity


def _without_negligible(groups: list[_Group], moles: Mapping[str, float]) -> list[_Group]:
    """By-products too scarce to disturb any neighbour join one of them: no cut for nothing."""
    kept: list[_Group] = []
    for i, group in enumerate(groups):
        around = [g.product for g in (*groups[max(i - 1, 0) : i], *groups[i + 1 : i + 2])]
        room = [_impurity(p, moles) for p in around if p is not None]
        scarce = group.product is None and room
        if scarce and _mass(group.elements, moles) <= _NEGLIGIBLE * min(room):
            if kept:
                kept[-1] = _Group(
                    name=kept[-1].name,
                    elements=(*kept[-1].elements, *group.elements),
                    product=kept[-1].product,
                )
            else:
                after = groups[i + 1]
                groups[i + 1] = _Group(
                    name=after.name,
                    elements=(*group.elements, *after.elements),
                    product=after.product,
                )
        else:
            kept.append(group)
    return kept


def _least_solvents(
    groups: Sequence[_Group], names: Sequence[str], a: Array, moles: Mapping[str, float]
) -> dict[tuple[int, int, int], float]:
    """Least solvent [mol/s] of a sharp cut for a feed of groups i to j, by (i, cut, j)."""
    f = np.array([moles[e] for e in names])
    ends = np.cumsum([0, *(len(g.elements) for g in groups)])
    least = {}
    for cut in range(1, len(groups)):
        intervals = [(i, j) for i in range(cut) for j in range(cut + 1, len(groups) + 1)]
        flows = np.zeros((len(intervals), len(names)))
        for row, (i, j) in enumerate(intervals):
            flows[row, ends[i] : ends[j]] = f[ends[i] : ends[j]]
        heavy = np.where(np.arange(len(names)) >= ends[cut], flows, 0.0)
        found = shortcut.minimum_solvent(a, flows, heavy, int(ends[cut]))
        least.update({(i, cut, j): s for (i, j), s in zip(intervals, found.tolist(), strict=True)})
    return least


def _ln_beta(groups: Sequence[_Group], names: Sequence[str], a: Array, cut: int) -> float:
    """ln of the separation factor across a cut."""
    heavy = names.index(groups[cut].elements[0])
    return float(np.log(a[heavy] / a[heavy - 1]))


def _sequence(
    groups: Sequence[_Group],
    names: Sequence[str],
    a: Array,
    moles: Mapping[str, float],
    weights: Weights,
    asked: Sequence[str] | None,
    least: Mapping[tuple[int, int, int], float],
) -> list[tuple[int, int, int]]:
    """Circuits (first group, cut, end group) in running order.

    Of all sequences the one of least estimated objective, by dynamic programming over intervals of
    groups. The estimate ranks only: half the least scrub more than the least solvent, twice the
    least stages for four nines of split.
    """
    count = len(groups)
    if asked is not None:
        return _given_sequence(groups, asked)
    cost: dict[tuple[int, int, int], float] = {}
    for (i, cut, j), s in least.items():
        stages = 2 * 2 * math.log(1e4) / _ln_beta(groups, names, a, cut)
        heavy = sum(moles[e] for g in groups[cut:j] for e in g.elements)
        cost[i, cut, j] = float(weights.of(s + 0.5 * (s - heavy), stages))
    best: dict[tuple[int, int], tuple[float, int]] = {(i, i + 1): (0.0, 0) for i in range(count)}
    for length in range(2, count + 1):
        for i in range(count - length + 1):
            j = i + length
            best[i, j] = min(
                (cost[i, cut, j] + best[i, cut][0] + best[cut, j][0], cut)
                for cut in range(i + 1, j)
            )
    order: list[tuple[int, int, int]] = []
    waiting = [(0, count)]
    while waiting:
        i, j = waiting.pop(0)
        if j - i > 1:
            cut = best[i, j][1]
            order.append((i, cut, j))
            waiting += [(i, cut), (cut, j)]
    return order


def _given_sequence(groups: Sequence[_Group], asked: Sequence[str]) -> list[tuple[int, int, int]]:
    """Circuits in the order of the cut names asked for."""
    cuts = {_cut_name(groups, cut): cut for cut in range(1, len(groups))}
    if sorted(asked) != sorted(cuts):
        raise InputError(
            Problem(
                message="a sequence names every cut once",
                key="sequence",
                value=list(asked),
                expected=", ".join(cuts),
            )
        )
    pieces = [(0, len(groups))]
    order = []
    for name in asked:
        cut = cuts[name]
        i, j = next((i, j) for i, j in pieces if i < cut < j)
        pieces.remove((i, j))
        pieces += [(i, cut), (cut, j)]
        order.append((i, cut, j))
    return order


def _cut_name(groups: Sequence[_Group], cut: int) -> str:
    """The two neighbours a cut parts, "Nd|Gd"."""
    return f"{groups[cut - 1].elements[-1]}|{groups[cut].elements[0]}"


def _allowances(
    groups: Sequence[_Group],
    moles: Mapping[str, float],
    effort: Sequence[float],
    tight: Mapping[str, float],
) -> dict[int, tuple[float, float]]:
    """At each cut, the flows [mol/s] of heavier elements that may go down and lighter ones up.

    What a product may hold of others, and lose, is divided between its two cuts in proportion to
    what purity costs there: the hard cut gets the larger share.
    """
    down, up = {}, {}
    for cut in range(1, len(groups)):
        light, heavy = groups[cut - 1], groups[cut]
        down[cut] = 0.5 * sum(moles[e] for e in heavy.elements)
        up[cut] = 0.5 * sum(moles[e] for e in light.elements)
    for i, group in enumerate(groups):
        if group.product is None:
            continue
        product = group.product
        cuts = [c for c in (i, i + 1) if 0 < c < len(groups)]
        total = sum(effort[c - 1] for c in cuts)
        mass = _mass([e for e in product.elements if e in moles], moles)
        own_foreign = _mass([e for e in group.elements if e not in product.elements], moles)
        impurity = tight[product.name] * max(_impurity(product, moles) - own_foreign, 0.0)
        loss = tight[product.name] * (1 - product.recovery) * mass
        for c in cuts:
            share = effort[c - 1] / total
            lower, upper = groups[c - 1].elements[-1], groups[c].elements[0]
            per = {e: species.oxide_mass_per_mole(e) for e in (lower, upper)}
            if product.purity_basis == "mole":
                impurity_moles = tight[product.name] * (1 - product.purity) * product.recovery
                impurity_moles *= sum(moles[e] for e in product.elements if e in moles)
                loss_moles = tight[product.name] * (1 - product.recovery)
                loss_moles *= sum(moles[e] for e in product.elements if e in moles)
                foreign = dict.fromkeys(per, share * impurity_moles)
                lost = dict.fromkeys(per, share * loss_moles)
            else:
                foreign = {e: share * impurity / m for e, m in per.items()}
                lost = {e: share * loss / m for e, m in per.items()}
            if c == i:
                up[c], down[c] = min(up[c], foreign[lower]), min(down[c], lost[upper])
            else:
                down[c], up[c] = min(down[c], foreign[upper]), min(up[c], lost[lower])
    return {cut: (down[cut], up[cut]) for cut in down}


def _run(
    groups: Sequence[_Group],
    order: Sequence[tuple[int, int, int]],
    moles: Mapping[str, float],
    extractability: Mapping[str, float],
    allowed: Mapping[int, tuple[float, float]],
    weights: Weights,
    exact: bool,
) -> tuple[list[tuple[str, CircuitDesign, str, str]], dict[str, dict[str, float]]]:
    """Every circuit designed in turn, and what leaves the train."""
    streams: dict[tuple[int, int], dict[str, float]] = {(0, len(groups)): dict(moles)}
    cut_of = {(i, j): cut for i, cut, j in order}
    designs = []
    for i, cut, j in order:
        entering = streams.pop((i, j))
        light = [e for g in groups[:cut] for e in g.elements]
        down, up = allowed[cut]
        found = _circuit(
            tuple(entering.items()),
            tuple(extractability.items()),
            tuple(light),
            down,
            up,
            weights,
            exact,
        )
        streams[i, cut], streams[cut, j] = dict(found.raffinate), dict(found.organic)
        to = [
            _cut_name(groups, cut_of[piece]) if piece in cut_of else groups[piece[0]].name
            for piece in ((i, cut), (cut, j))
        ]
        designs.append((_cut_name(groups, cut), found, to[0], to[1]))
    outlets = {group.name: streams[k, k + 1] for k, group in enumerate(groups)}
    return designs, outlets


@lru_cache(maxsize=1024)
def _circuit(
    entering: tuple[tuple[str, float], ...],
    extractability: tuple[tuple[str, float], ...],
    light: tuple[str, ...],
    down: float,
    up: float,
    weights: Weights,
    exact: bool,
) -> CircuitDesign:
    """``design_circuit``, kept: a train asks for the same circuit whenever only flows change."""
    return design_circuit(
        dict(entering),
        dict(extractability),
        light,
        raffinate=Outlet(foreign=down),
        organic=Outlet(foreign=up),
        weights=weights,
        exact=exact,
    )


def _equip(
    designs: Sequence[tuple[str, CircuitDesign, str, str]],
    book: Book,
    extractant: str,
    circuit: str,
) -> tuple[tuple[TrainCircuit, ...], tuple[Mapping[str, str], ...]]:
    """Reagents and volume flows of every circuit, with warnings where a limit is left."""
    base = book[f"{extractant}:base_per_metal"]
    acid = book[f"{extractant}:acid_per_metal"]
    soap = book[f"{extractant}:saponification"]
    concentration = book[f"{extractant}:concentration"]
    loading = concentration * soap / base
    strip = round(book[f"{circuit}:stages_strip"])
    low, high = book[f"{circuit}:phase_ratio_low"], book[f"{circuit}:phase_ratio_high"]
    strength = {p: book[f"{circuit}:{p}_concentration"] for p in ("feed", "scrub", "strip")}
    warnings: list[Mapping[str, str]] = []

    def warn(code: str, message: str, where: str) -> None:
        warnings.append({"code": code, "message": message, "where": where})

    limit = book[f"{extractant}:loading_limit"] * concentration
    if loading > limit:
        warn(
            "loading-above-limit",
            f"{loading:.0f} mol/m3 of rare earth asked of an organic that holds {limit:.0f}",
            extractant,
        )
    circuits = []
    for name, found, raffinate_to, organic_to in designs:
        flow_org = found.solvent / loading
        fed = sum(found.feed.values())
        flow_feed, flow_scrub = fed / strength["feed"], found.scrub / strength["scrub"]
        for section, aqueous in (("extraction", flow_feed + flow_scrub), ("scrub", flow_scrub)):
            ratio = flow_org / aqueous if aqueous > 0 else math.inf
            if not low <= ratio <= high:
                warn(
                    "phase-ratio",
                    f"organic to aqueous {ratio:.3g} in the {section} section, outside {low:g} to "
                    f"{high:g}: recycle one phase inside the stages",
                    name,
                )
        circuits.append(
            TrainCircuit(
                name=name,
                design=found,
                raffinate_to=raffinate_to,
                organic_to=organic_to,
                acid=acid * found.solvent,
                base=base * found.solvent,
                stages_strip=strip,
                flow_org=flow_org,
                flow_feed=flow_feed,
                flow_scrub=flow_scrub,
                flow_strip=sum(found.organic.values()) / strength["strip"],
            )
        )
    return tuple(circuits), tuple(warnings)
