"""A design file as a task: elements in order, the cut, specifications of the outlets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sepmodel import products
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction import factors
from sepmodel.extraction.design_inputs import DesignCase, Product
from sepmodel.extraction.design_task import Outlet


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """What a two-outlet circuit is asked for, per mole of feed.

    ``names`` and ``extractability`` ascend; ``light`` leaves with the raffinate. ``raffinate`` and
    ``organic`` are what the outlets must be, ``products`` which product each makes, if any.
    """

    names: tuple[str, ...]
    extractability: Mapping[str, float]
    feed: Mapping[str, float]
    light: tuple[str, ...]
    raffinate: Outlet
    organic: Outlet
    products: Mapping[str, Product | None]
    basis: str
    drawn: tuple[str, ...] = ()

    @property
    def heavy(self) -> tuple[str, ...]:
        """What leaves with the organic."""
        return self.names[len(self.light) + len(self.drawn) :]

    @property
    def sides(self) -> dict[str, tuple[str, ...]]:
        """The elements of each outlet."""
        sides = {"raffinate": self.light, "organic": self.heavy}
        return {**sides, "draw": self.drawn} if self.drawn else sides

    @property
    def cut(self) -> str:
        """The neighbours that are parted, "Pr|Nd"."""
        return f"{self.light[-1]}|{self.heavy[0]}"

    @property
    def separation_factor(self) -> float:
        """D(heavier)/D(lighter) of the neighbours at the cut."""
        return self.extractability[self.heavy[0]] / self.extractability[self.light[-1]]


def ordered(case: DesignCase, book: Book) -> tuple[tuple[str, ...], dict[str, float]]:
    """Elements of the feed in ascending extractability, and their extractabilities."""
    fed = case.components
    if case.model.factors is not None:
        a = factors.chained(case.model.factors, fed)
    else:
        a = factors.extractabilities(book, str(case.model.separation_factors), fed)
    order = np.argsort(a, kind="stable")
    names = tuple(fed[i] for i in order)
    return names, dict(zip(names, (a[order] / a[order[0]]).tolist(), strict=True))


def shares(case: DesignCase) -> dict[str, float]:
    """Mole fractions of the feed."""
    total = sum(case.feed.composition.values())
    return {name: case.feed.composition[name] / total for name in case.components}


def in_order(case: DesignCase, names: Sequence[str]) -> list[Product]:
    """Products from the lightest to the heaviest; each takes neighbours.

    Raises
    ------
    InputError
        when elements of others lie between those of one product.
    """
    problems = []
    for product in case.product:
        places = sorted(names.index(e) for e in product.elements)
        inside = names[places[0] : places[-1] + 1]
        foreign = [e for e in inside if e not in product.elements]
        if foreign:
            problems.append(
                Problem(
                    message=f"{', '.join(foreign)} lies between the elements of {product.name}",
                    key="product",
                    value=list(product.elements),
                    expected=f"neighbours in the order of extractability, {', '.join(names)}",
                )
            )
    if problems:
        raise InputError(problems)
    return sorted(case.product, key=lambda p: names.index(p.elements[0]))


def two_outlets(case: DesignCase, book: Book) -> Spec:
    """The task of a case with one or two products.

    Elements that no product asks for leave with their neighbours; where two products have some
    between them, the cut is made where the products can bear it and the factor is largest.

    Raises
    ------
    InputError, InfeasibleError
        when a product would have to hold more of them than its purity allows.
    """
    names, a = ordered(case, book)
    feed = shares(case)
    found = in_order(case, names)
    ends = [max(names.index(e) for e in p.elements) for p in found]
    starts = [min(names.index(e) for e in p.elements) for p in found]
    if len(found) == 2:
        cuts = range(ends[0] + 1, starts[1] + 1)
        pair: tuple[Product | None, Product | None] = (found[0], found[1])
    elif starts[0] == 0:
        cuts, pair = range(ends[0] + 1, ends[0] + 2), (found[0], None)
    elif ends[0] == len(names) - 1:
        cuts, pair = range(starts[0], starts[0] + 1), (None, found[0])
    else:
        raise InputError(
            Problem(
                message=f"{found[0].name} has lighter and heavier elements beside it: two cuts",
                key="product",
                value=list(found[0].elements),
                expected="a third product for a draw, or a train of circuits",
            )
        )
    best: tuple[float, Spec] | None = None
    refused: InfeasibleError | None = None
    for cut in cuts:
        light, heavy = names[:cut], names[cut:]
        try:
            outlets = [
                _outlet(product, side, feed, case.purity_basis)
                for product, side in zip(pair, (light, heavy), strict=True)
            ]
        except InfeasibleError as error:
            refused = error
            continue
        spec = Spec(
            names=names,
            extractability=a,
            feed=feed,
            light=light,
            raffinate=outlets[0],
            organic=outlets[1],
            products={"raffinate": pair[0], "organic": pair[1]},
            basis=case.purity_basis,
        )
        if best is None or spec.separation_factor > best[0]:
            best = (spec.separation_factor, spec)
    if best is None:
        assert refused is not None
        raise refused
    return best[1]


def three_outlets(case: DesignCase, book: Book) -> Spec:
    """The task of a case with three products, the middle one drawn from the stages.

    Raises
    ------
    InputError
        when an element is left over: three outlets leave no fourth.
    """
    names, a = ordered(case, book)
    found = in_order(case, names)
    listed = [e for product in found for e in product.elements]
    left = [e for e in names if e not in listed]
    if left:
        raise InputError(
            Problem(
                message=f"three products leave no outlet for {', '.join(left)}",
                key="product",
                value=[product.name for product in found],
                expected="every element of the feed in one of the products",
            )
        )
    light = tuple(e for e in names if e in found[0].elements)
    drawn = tuple(e for e in names if e in found[1].elements)
    return Spec(
        names=names,
        extractability=a,
        feed=shares(case),
        light=light,
        raffinate=Outlet(basis=case.purity_basis),
        organic=Outlet(basis=case.purity_basis),
        products={"raffinate": found[0], "draw": found[1], "organic": found[2]},
        basis=case.purity_basis,
        drawn=drawn,
    )


def _outlet(
    product: Product | None, side: Sequence[str], feed: Mapping[str, float], basis: str
) -> Outlet:
    """What an outlet must be so that its product meets its specification.

    What is on the product's side without belonging to it takes a part of what the product may hold
    of others; the rest is left for what crosses the cut.
    """
    if product is None:
        return Outlet(basis=basis)
    weights = products.amounts({e: feed[e] for e in side}, basis)
    own = sum(weights[e] for e in product.elements)
    strange = {e: w for e, w in weights.items() if e not in product.elements}
    total = own + sum(strange.values())
    purity = product.purity
    if purity is not None and strange:
        purity = purity * total / own
        if purity >= 1:
            worst = max(strange, key=lambda e: strange[e])
            raise InfeasibleError(
                f"{product.name}: {worst} leaves at the same end and alone makes the product "
                f"impure; it takes a cut of its own",
                limit={f"purity of {product.name}": own / total},
                nearest={f"purity of {product.name}": own / total},
            )
    for element, share in product.limits.items():
        if strange.get(element, 0.0) > share * total:
            raise InfeasibleError(
                f"{product.name}: {element} leaves at the same end, {strange[element] / total:.3g} "
                f"of the product; it takes a cut of its own",
                limit={f"{element} in {product.name}": strange[element] / total},
                nearest={f"{element} in {product.name}": strange[element] / total},
            )
    return Outlet(
        purity=purity,
        recovery=product.recovery,
        basis=basis,
        limits={e: s for e, s in product.limits.items() if e not in strange},
    )
