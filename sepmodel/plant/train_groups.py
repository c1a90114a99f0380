"""Products and by-products along the order of extractability, and the cuts between them.

Every pair of neighbouring groups is parted by one cut; a sequence of cuts is a binary tree over the
groups. What each product may hold of others, and lose, is divided between its two cuts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel import species
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction import factors, shortcut
from sepmodel.extraction.design import Weights
from sepmodel.products import Product

Array = NDArray[np.float64]
# By-products below this share of what their neighbours may hold as impurity need no cut.
_NEGLIGIBLE = 0.1
# ln of a separation factor that parts nothing.
_SAME = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Neighbours in extractability that leave together; ``product`` is None for by-products."""

    name: str
    elements: tuple[str, ...]
    product: Product | None


def ordered(feed: Mapping[str, float], book: Book, factor_set: str) -> tuple[list[str], Array]:
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


def grouped(
    names: Sequence[str], slate: Sequence[Product], moles: Mapping[str, float]
) -> list[Group]:
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
    groups: list[Group] = []
    for name in names:
        own = owner.get(name)
        before = groups.pop().elements if groups and groups[-1].product is own else ()
        groups.append(_group((*before, name), own))
    return _without_negligible(groups, moles)


def _group(elements: tuple[str, ...], product: Product | None) -> Group:
    return Group(
        name=product.name if product else "-".join(elements), elements=elements, product=product
    )


def _mass(elements: Iterable[str], moles: Mapping[str, float]) -> float:
    """Oxide mass [kg/s] of the elements of a feed."""
    return sum(moles[e] * species.oxide_mass_per_mole(e) for e in elements)


def _impurity(product: Product, moles: Mapping[str, float]) -> float:
    """Oxide mass [kg/s] of other elements that a product may hold."""
    own = [e for e in product.elements if e in moles]
    return _mass(own, moles) * product.recovery * (1 - product.purity) / product.purity


def _without_negligible(groups: list[Group], moles: Mapping[str, float]) -> list[Group]:
    """By-products too scarce to disturb any neighbour join one of them: no cut for nothing."""
    kept: list[Group] = []
    for i, group in enumerate(groups):
        around = [g.product for g in (*groups[max(i - 1, 0) : i], *groups[i + 1 : i + 2])]
        room = [_impurity(p, moles) for p in around if p is not None]
        scarce = group.product is None and room
        if scarce and _mass(group.elements, moles) <= _NEGLIGIBLE * min(room):
            if kept:
                kept[-1] = Group(
                    name=kept[-1].name,
                    elements=(*kept[-1].elements, *group.elements),
                    product=kept[-1].product,
                )
            else:
                after = groups[i + 1]
                groups[i + 1] = Group(
                    name=after.name,
                    elements=(*group.elements, *after.elements),
                    product=after.product,
                )
        else:
            kept.append(group)
    return kept


def least_solvents(
    groups: Sequence[Group], names: Sequence[str], a: Array, moles: Mapping[str, float]
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


def ln_beta(groups: Sequence[Group], names: Sequence[str], a: Array, cut: int) -> float:
    """ln of the separation factor across a cut."""
    heavy = names.index(groups[cut].elements[0])
    return float(np.log(a[heavy] / a[heavy - 1]))


def require_different(groups: Sequence[Group], names: Sequence[str], a: Array) -> None:
    """Refuse a cut between elements that extract alike."""
    for cut in range(1, len(groups)):
        if not ln_beta(groups, names, a, cut) > _SAME:
            raise InfeasibleError(
                f"{cut_name(groups, cut)}: both have the same extractability",
                limit={"separation_factor": 1.0},
            )


def least_sequence(
    groups: Sequence[Group],
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
        stages = 2 * 2 * math.log(1e4) / ln_beta(groups, names, a, cut)
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


def _given_sequence(groups: Sequence[Group], asked: Sequence[str]) -> list[tuple[int, int, int]]:
    """Circuits in the order of the cut names asked for."""
    cuts = {cut_name(groups, cut): cut for cut in range(1, len(groups))}
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


def cut_name(groups: Sequence[Group], cut: int) -> str:
    """The two neighbours a cut parts, "Nd|Gd"."""
    return f"{groups[cut - 1].elements[-1]}|{groups[cut].elements[0]}"


def allowances(
    groups: Sequence[Group],
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
