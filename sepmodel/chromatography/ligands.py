"""Ligands of displacement: their constants, the order metals leave in, what a presaturant holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.products import Product

_SMALLEST_ALPHA = 1 + 1e-2


def ligand_constants(ligand: str, elements: Sequence[str], book: Book) -> dict[str, float]:
    """log10 of the 1:1 constants of a ligand (a set under ligands/) for some elements.

    >>> ligand_constants("edta", ["Dy", "Tb"], Book())
    {'Dy': 18.3, 'Tb': 17.87}
    """
    key = f"ligands/{ligand}:log-K-"
    missing = [e for e in elements if key + e not in book]
    if missing:
        raise InputError(Problem(message=f"{ligand} has no constant for", value=", ".join(missing)))
    return {e: book[key + e] for e in elements}


def selectivity(ligand: str, fast: str, slow: str, book: Book | None = None) -> float:
    """Separation factor of two metals: ratio of their 1:1 constants, the resin taken as neutral.

    >>> round(selectivity("dtpa", "Nd", "Pr"), 1)
    3.3
    """
    log_k = ligand_constants(ligand, [fast, slow], book or Book())
    return float(10.0 ** (log_k[fast] - log_k[slow]))


def retention(
    ligand: str, elements: Sequence[str], book: Book, presaturant: str = "Cu"
) -> dict[str, float]:
    """log10 by which the presaturant's complex is stronger than each element's; negative: it leaks.

    The retaining front holds only where the presaturant binds the ligand better than every metal of
    the feed.

    >>> {e: round(m, 2) for e, m in retention("edta", ["Dy", "Lu"], Book()).items()}
    {'Dy': 0.5, 'Lu': -0.94}
    """
    ahead = ligand_constants(ligand, [presaturant], book)[presaturant]
    return {e: ahead - k for e, k in ligand_constants(ligand, elements, book).items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class Chemistry:
    """log10 constants by ligand and element, the presaturant's, and the resin's help to it."""

    constants: Mapping[str, Mapping[str, float]]
    ahead: Mapping[str, float]
    preference: float

    def leaking(self, ligand: str, elements: Sequence[str]) -> list[str]:
        """Elements the presaturant cannot stay ahead of, even with the resin's help."""
        limit = self.ahead[ligand] + self.preference
        return [e for e in elements if self.constants[ligand][e] >= limit]

    def alpha(self, ligand: str, fast: Sequence[str], slow: Sequence[str]) -> float:
        """Smallest ratio of constants between one of ``fast`` and one of ``slow``."""
        log_k = self.constants[ligand]
        return float(10.0 ** (min(log_k[e] for e in fast) - max(log_k[e] for e in slow)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Elements that leave together, fastest first."""

    name: str
    elements: tuple[str, ...]


def groups_of(
    moles: Mapping[str, float], products: Sequence[Product], ligand: str, chemistry: Chemistry
) -> list[Group]:
    """The outlets in the order they leave: products, and the runs of elements nobody ordered."""
    log_k = chemistry.constants[ligand]
    order = sorted(moles, key=lambda e: -log_k[e])
    owner = {e: p.name for p in products for e in p.elements}
    runs: list[tuple[str, list[str]]] = []
    for element in order:
        name = owner.get(element, "")
        if runs and runs[-1][0] == name:
            runs[-1][1].append(element)
        else:
            runs.append((name, [element]))
    names = [name or "-".join(members) for name, members in runs]
    if len(set(names)) != len(names):
        torn = next(name for name in names if names.count(name) > 1)
        raise InfeasibleError(
            f"with {ligand} the elements of {torn} do not leave one after the other",
            limit={"order": ", ".join(order)},
        )
    return [
        Group(name=n, elements=tuple(members)) for n, (_, members) in zip(names, runs, strict=True)
    ]


def held_back(
    moles: Mapping[str, float],
    products: Sequence[Product],
    ligand: str,
    chemistry: Chemistry,
    ahead_most: float,
) -> tuple[dict[str, float], dict[str, float]]:
    """What the presaturant holds back, and what nobody ordered that runs ahead of it.

    Raises
    ------
    InfeasibleError
        when a product, or a larger share than ``ahead_most``, would run ahead.
    """
    leak = chemistry.leaking(ligand, list(moles))
    ordered = [e for p in products for e in p.elements if e in leak]
    share = sum(moles[e] for e in leak) / sum(moles.values())
    if ordered or share > ahead_most:
        raise InfeasibleError(
            f"with {ligand} the presaturant does not stay ahead of {', '.join(ordered or leak)}",
            limit={"log10 K": chemistry.ahead[ligand] + chemistry.preference},
            nearest={"log10 K": max(chemistry.constants[ligand][e] for e in ordered or leak)},
        )
    return (
        {e: n for e, n in moles.items() if e not in leak},
        {e: moles[e] for e in leak},
    )


def merged(groups: Sequence[Group], ligand: str, chemistry: Chemistry) -> list[list[Group]]:
    """Groups to leave together: neighbours with a better ligand that can be used for them alone."""
    found = [[groups[0]]]
    for group in groups[1:]:
        pair = [found[-1][-1], group]
        here, there = (
            chemistry.alpha(k, pair[0].elements, group.elements)
            for k in (ligand, best_ligand(pair, ligand, chemistry))
        )
        if there > here:
            found[-1].append(group)
        else:
            found.append([group])
    return found


def best_ligand(part: Sequence[Group], ligand: str, chemistry: Chemistry) -> str:
    """The ligand that tells the groups apart best, among those the presaturant holds back for."""
    elements = [e for g in part for e in g.elements]
    usable = [k for k in chemistry.constants if k == ligand or not chemistry.leaking(k, elements)]

    def worst(k: str) -> float:
        return min(chemistry.alpha(k, a.elements, b.elements) for a, b in pairwise(part))

    return max(usable, key=worst)


def boundary_alphas(groups: Sequence[Group], ligand: str, chemistry: Chemistry) -> list[float]:
    """Selectivity of every boundary; InfeasibleError where a ligand tells two groups not apart."""
    alphas = []
    for a, b in pairwise(groups):
        alpha = chemistry.alpha(ligand, a.elements, b.elements)
        if alpha < _SMALLEST_ALPHA:
            raise InfeasibleError(
                f"{ligand} does not tell {a.name} from {b.name} (alpha {alpha:.3f})",
                limit={"alpha": _SMALLEST_ALPHA},
                nearest={"alpha": alpha},
            )
        alphas.append(alpha)
    return alphas
